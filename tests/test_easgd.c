/* The oracles are the paper's equations in double, one worker after the other. */
#include "runs.h"

#include "check.h"
#include "engine/seat.h"
#include "maps.h"

TestSuite(easgd, .timeout = 120);

/* Replicas of size about 3 are rounded to half of 2^-22 some times a step; contraction forgets
 * that over a few tens of steps, momentum 0.9 magnifies it by at most ten. */
static const double TOLERANCE = 2e-5;

/* ---- synchronous, equations 5 and 6: all with the old x, the old c -------------------------- */

static void pull_all(struct replica *a, double *c, const struct problem *o, double alpha) {
    for (int i = 0; i < o->n; i++) {
        double sum = 0, old = c[i];
        for (int r = 0; r < o->p; r++) {
            double d = alpha * (a[r].x[i] - old);
            sum += d;
            a[r].x[i] -= d;
        }
        c[i] = old + sum;
    }
}

/* after: with x as the last step of each period left it; before: at its first, after the gradient. */
static void replay_sync(
    struct replica *a, double *c, const struct problem *o, int after, int tau, double beta) {
    for (int r = 0; r < o->p; r++) replica_start(&a[r], o, r);
    for (int i = 0; i < o->n; i++) c[i] = o->start;
    for (int t = 0; t < o->steps; t++) {
        for (int r = 0; r < o->p; r++) replica_grad(&a[r], o);
        if (!after && t % tau == 0) pull_all(a, c, o, beta / o->p);
        for (int r = 0; r < o->p; r++) replica_step(&a[r], o, problem_rate(o, t));
        if (after && t % tau == tau - 1) pull_all(a, c, o, beta / o->p);
    }
}

/* ---- asynchronous, algorithms 1 and 2: one worker at a time --------------------------------- */

static void pull_one(struct replica *a, double *c, const struct problem *o, double alpha) {
    for (int i = 0; i < o->n; i++) {
        double d = alpha * (a->x[i] - c[i]);
        a->x[i] -= d;
        c[i] += d;
    }
}

static void one_round(struct replica *a, double *c, const struct problem *o, int after, int tau,
    double alpha, int t) {
    for (int end = t + tau; t < end; t++) {
        replica_grad(a, o); /* at the snapshot before the pull */
        if (!after && t % tau == 0) pull_one(a, c, o, alpha);
        replica_step(a, o, problem_rate(o, t));
    }
    if (after) pull_one(a, c, o, alpha);
}

/* Fixed order: in each round rank after rank. Who has come to the end may be a round behind. */
static void replay_async(struct replica *a, double *c, const struct problem *o, int after, int tau,
    double beta, const long *rounds) {
    for (int r = 0; r < o->p; r++) replica_start(&a[r], o, r);
    for (int i = 0; i < o->n; i++) c[i] = o->start;
    for (int k = 0, more = 1; more; k++) {
        more = 0;
        for (int r = 0; r < o->p; r++) {
            if (k >= rounds[r]) continue;
            one_round(&a[r], c, o, after, tau, beta / o->p, k * tau);
            more = 1;
        }
    }
}

/* ---- against the engine --------------------------------------------------------------------- */

static void compare_when(
    const struct problem *o, const char *mode, int after, int tau, double beta) {
    static struct replica a[TEAM_MOST];
    double c[BOWL_MOST];
    char words[1024];
    struct seen seen;
    problem_words(o, words, sizeof words);
    run_words(&seen, NULL, "%s run.strategy=easgd easgd.mode=%s easgd.tau=%d easgd.beta=%g %s %s",
        words, mode, tau, beta, strcmp(mode, "async") ? "" : "run.order=fixed",
        after ? "easgd.when=after" : "");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    if (!strcmp(mode, "sync")) {
        for (int r = 0; r < o->p; r++) cr_assert_eq(seen.steps[r], o->steps);
        replay_sync(a, c, o, after, tau, beta);
    } else {
        replay_async(a, c, o, after, tau, beta, seen.rounds);
    }
    for (int r = 0; r < o->p; r++) {
        cr_assert(seen.steps[r] == seen.rounds[r] * tau, "worker %d: %ld steps in %ld rounds", r,
            seen.steps[r], seen.rounds[r]);
        cr_assert(seen.steps[r] >= o->steps && seen.steps[r] <= o->steps + tau,
            "worker %d made %ld steps, not %d", r, seen.steps[r], o->steps);
        check_close(seen.x[r], a[r].x, (size_t)o->n, TOLERANCE, 0, "x of worker %d of %d, %s %s", r,
            o->p, mode, words);
        check_close(seen.answer[r], c, (size_t)o->n, TOLERANCE, 0, "the center, %d workers, %s %s",
            o->p, mode, words);
    }
    seen_close(&seen);
}

static void compare(const struct problem *o, const char *mode, int tau, double beta) {
    compare_when(o, mode, 0, tau, beta);
}

/* Each worker has its own target, each coordinate its own curvature. */
static struct problem problem(int p) {
    return (struct problem){.p = p,
        .n = 33,
        .steps = 60,
        .samples = 10 * p,
        .rate = 0.1,
        .delta = 0.9,
        .h_min = 0.25,
        .h_max = 2,
        .spread = 1.5,
        .start = 1};
}

static const int SIZES[] = {1, 2, 4, 5}, TAUS[] = {1, 3, 10};

static void compare_all(const char *mode, const struct problem *like) {
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 3; j++) {
            struct problem o = *like;
            o.p = SIZES[i];
            o.samples = 10 * o.p; /* an epoch is ten steps of each */
            compare(&o, mode, TAUS[j], 0.9);
        }
    }
}

Test(easgd, sync_follows_the_paper) {
    struct problem o = problem(1);
    compare_all("sync", &o);
}

Test(easgd, async_in_fixed_order_follows_the_paper) {
    struct problem o = problem(1);
    compare_all("async", &o);
}

Test(easgd, eamsgd_takes_its_gradient_ahead_of_the_snapshot) {
    struct problem o = problem(1);
    o.kind = KIND_NESTEROV;
    compare_all("sync", &o);
    compare_all("async", &o);
}

Test(easgd, polyak_momentum_follows_its_equation) {
    struct problem o = problem(4);
    o.kind = KIND_MOMENTUM;
    compare(&o, "sync", 3, 0.9);
    compare(&o, "async", 3, 0.9);
}

/* A decay this large makes any other point for it show. */
Test(easgd, decay_is_in_the_gradient_where_that_is_taken) {
    for (int kind = KIND_SGD; kind <= KIND_NESTEROV; kind++) {
        struct problem o = problem(4);
        o.lambda = 0.3;
        o.kind = kind;
        compare(&o, "sync", 3, 0.9);
        compare(&o, "async", 3, 0.9);
    }
}

Test(easgd, when_is_after_pulls_at_the_end_of_each_period) {
    static const int sizes[] = {1, 2, 3, 8};
    for (int i = 0; i < 4 * 3 * 2; i++) {
        struct problem o = problem(sizes[i % 4]);
        o.kind = i / 12 ? KIND_NESTEROV : KIND_SGD;
        compare_when(&o, "sync", 1, TAUS[i / 4 % 3], 0.9);
        compare_when(&o, "async", 1, TAUS[i / 4 % 3], 0.9);
    }
}

static void look_for_alpha(void *with, const struct worker *w, struct vec answer) {
    const struct seat *s = w->seat;
    (void)answer;
    for (int i = 0; i < s->notes; i++) {
        if (!strcmp(s->note[i].name, "alpha")) ((double *)with)[w->rank] = s->note[i].value;
    }
}

Test(easgd, the_metrics_say_what_alpha_is) {
    for (int p = 1; p <= 3; p += 2) {
        struct seen seen;
        double alpha[TEAM_MOST] = {0};
        struct watch watch = {.judged = look_for_alpha, .with = alpha};
        run_words(&seen, &watch, "run.strategy=easgd run.workers=%d run.steps=10", p);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert(fabs(alpha[0] - 0.9 / p) <= 1e-6, "%.9g with %d workers", alpha[0], p);
        seen_close(&seen);
    }
}

Test(easgd, follows_the_schedules) {
    for (int which = 1; which <= 3; which++) {
        struct problem o = problem(4);
        o.samples = 40;
        if (which & 1) o.warm = 2.5, o.from = 0.125;
        if (which & 2) o.drop = 3, o.factor = 0.25; /* that is at step 30 of 60 */
        compare(&o, "sync", 10, 0.9);
        compare(&o, "async", 3, 0.9);
        o.kind = KIND_NESTEROV;
        compare(&o, "sync", 1, 0.9);
        compare(&o, "async", 10, 0.9);
    }
}

Test(easgd, beta_is_not_changed_by_anything_else) {
    const double betas[] = {0, 0.1, 0.45, 1.2};
    for (int i = 0; i < 4; i++) {
        struct problem o = problem(5);
        compare(&o, "sync", 3, betas[i]);
        compare(&o, "async", 3, betas[i]);
    }
}

/* ---- exact values --------------------------------------------------------------------------- */

/* Rounds of a synchronous run: of worker r and of the center, all of it. */
struct trail {
    int rounds, n, p;
    float *x[8], *c;
};

static void keep_round(void *with, const struct worker *w, struct vec answer) {
    struct trail *t = with;
    if (w->round >= t->rounds) return;
    size_t n = w->x.n, at = (size_t)w->round * n;
    runs_fetch(w->q, t->x[w->rank] + at, w->x);
    if (w->rank == 0 && answer.at) runs_fetch(w->q, t->c + at, answer);
}

static void trail_open(struct trail *t, int p, int rounds, int n) {
    *t = (struct trail){.rounds = rounds, .n = n, .p = p};
    size_t all = (size_t)rounds * (size_t)n;
    for (int r = 0; r < p; r++) t->x[r] = calloc(all, sizeof(float));
    t->c = calloc(all, sizeof(float));
}

static void trail_close(struct trail *t) {
    for (int r = 0; r < t->p; r++) free(t->x[r]);
    free(t->c);
}

static double trail_mean(const struct trail *t, int round, int i) {
    double sum = 0;
    for (int r = 0; r < t->p; r++) sum += (double)t->x[r][round * t->n + i];
    return sum / t->p;
}

/* Changes from round to round: they forget where the fixed point is. */
static double change_of_center(const struct trail *t, int round, int i) {
    return (double)t->c[(round + 1) * t->n + i] - (double)t->c[round * t->n + i];
}

static double change_of_mean(const struct trail *t, int round, int i) {
    return trail_mean(t, round + 1, i) - trail_mean(t, round, i);
}

static double change_apart(const struct trail *t, int round, int i, int r) {
    const float *x = t->x[r] + round * t->n + i, *y = t->x[0] + round * t->n + i;
    return ((double)x[t->n] - (double)y[t->n]) - ((double)x[0] - (double)y[0]);
}

/* The trace and determinant of (mean, center)'s map, by least squares of the recurrence
 * u(t+2) = trace u(t+1) - det u(t), which both follow. */
static void fit_map(const struct trail *t, double *trace, double *det) {
    double aa = 0, ab = 0, bb = 0, ay = 0, by = 0;
    for (int k = 0; k + 3 < t->rounds; k++) {
        for (int i = 0; i < 2 * t->n; i++) {
            double (*u)(const struct trail *, int, int) =
                i < t->n ? change_of_center : change_of_mean;
            double a = u(t, k + 1, i % t->n), b = u(t, k, i % t->n), y = u(t, k + 2, i % t->n);
            aa += a * a;
            ab += a * b;
            bb += b * b;
            ay += a * y;
            by += b * y;
        }
    }
    double below = aa * bb - ab * ab;
    *trace = (ay * bb - by * ab) / below;
    *det = -(by * aa - ay * ab) / below;
}

Test(easgd, the_synchronous_map_has_its_eigenvalues) {
    struct trail t;
    struct seen seen;
    trail_open(&t, 4, 12, 1000);
    struct watch watch = {.rounded = keep_round, .answers = 1, .with = &t};
    run_words(&seen, &watch,
        "run.strategy=easgd easgd.mode=sync easgd.tau=1 easgd.beta=0.9 run.workers=4 "
        "schedule.rate=0.1 quadratic.n=1000 quadratic.spread=3 run.steps=12");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    double trace, det, above = 0, below = 0;
    fit_map(&t, &trace, &det);
    double root = sqrt(trace * trace - 4 * det);
    cr_assert(fabs((trace + root) / 2 - 0.92150023) <= 2e-6, "%.9g", (trace + root) / 2);
    cr_assert(fabs((trace - root) / 2 + 0.14650023) <= 2e-6, "%.9g", (trace - root) / 2);
    for (int r = 1; r < 4; r++) {
        for (int k = 0; k + 2 < t.rounds; k++) {
            for (int i = 0; i < t.n; i++) {
                above += change_apart(&t, k + 1, i, r) * change_apart(&t, k, i, r);
                below += change_apart(&t, k, i, r) * change_apart(&t, k, i, r);
            }
        }
    }
    cr_assert(fabs(above / below - 0.675) <= 1e-6, "%.9g", above / below);
    seen_close(&seen);
    trail_close(&t);
}

/* All x, and c, which all have and with which a worker's own state begins. */
static void begin_map(void *with, const struct worker *w) {
    (void)with;
    if (w->round > 0) return;
    map_begin_unit(w, w->x, w->rank);
    map_begin_unit(w, *(struct vec *)w->mine, w->size);
}

/* P of P = A P A' + Q by going through it, where Q is what a step's gradient noise, of variance 1,
 * adds to each x; the variance of c, which is the state's last. A is forgotten in a few hundred. */
static double variance_of_center(const struct map *a, double rate) {
    static double P[MAP_MOST][MAP_MOST], AP[MAP_MOST][MAP_MOST];
    int n = a->n;
    memset(P, 0, sizeof P);
    for (int t = 0; t < 1000; t++) {
        for (int i = 0; i < n * n; i++) {
            double *sum = &AP[i / n][i % n];
            *sum = 0;
            for (int k = 0; k < n; k++) *sum += a->at[i / n][k] * P[k][i % n];
        }
        for (int i = 0; i < n * n; i++) {
            double *sum = &P[i / n][i % n];
            *sum = i / n == i % n && i / n < n - 1 ? rate * rate : 0;
            for (int k = 0; k < n; k++) *sum += AP[i / n][k] * a->at[i % n][k];
        }
    }
    return P[n - 1][n - 1];
}

/* With gamma and phi, the eigenvalues of (mean, center)'s map. */
static double variance_in_theory(int p, double eta, double beta) {
    double alpha = beta / p, a = eta + (p + 1) * alpha, c2 = eta * p * alpha;
    double root = sqrt(a * a - 4 * c2), gamma = 1 - (a - root) / 2, phi = 1 - (a + root) / 2;
    double share = gamma * gamma / (1 - gamma * gamma) + phi * phi / (1 - phi * phi) -
                   2 * gamma * phi / (1 - gamma * phi);
    return pow(p * alpha * eta / (gamma - phi), 2) * share / p;
}

static void map_of_sync(struct map *m, int p) {
    struct seen seen;
    struct watch watch = {.begins = begin_map, .with = m};
    *m = (struct map){.n = p + 1};
    run_words(&seen, &watch,
        MAP_WORDS "run.strategy=easgd easgd.mode=sync easgd.tau=1 easgd.beta=0.9 run.workers=%d "
                  "quadratic.n=%d schedule.rate=0.1",
        p, p + 1);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int r = 0; r < p; r++) map_end(m, r, seen.x[r]);
    map_end(m, p, seen.answer[0]);
    seen_close(&seen);
}

/* By Lyapunov's equation: of the exact map to 1e-10; of the run's, whose entries are floats and are
 * magnified by 1 / (1 - 0.9215^2) = 7 at most, to a millionth. */
Test(easgd, the_centers_variance_follows_from_the_synchronous_map) {
    static const struct {
        int p;
        double variance, tolerance;
    } known[] = {{4, 0.0104558397, 1e-10}, {16, 0.04869 / 16, 0.000005 / 16}};
    static struct map run, exact;
    for (int i = 0; i < 2; i++) {
        int p = known[i].p;
        double want = variance_in_theory(p, 0.1, 0.9), alpha = 0.9 / p;
        cr_assert(fabs(want - known[i].variance) <= known[i].tolerance, "%d: %.12g", p, want);
        map_of_sync(&run, p);
        exact = (struct map){.n = p + 1};
        for (int r = 0; r < p; r++) {
            exact.at[r][r] = 1 - 0.1 - alpha;
            exact.at[r][p] = exact.at[p][r] = alpha;
        }
        exact.at[p][p] = 1 - 0.9;
        double got = variance_of_center(&exact, 0.1), engine = variance_of_center(&run, 0.1);
        cr_assert(fabs(got - want) <= 1e-10, "%d: %.12g, not %.12g", p, got, want);
        cr_assert(fabs(engine - want) <= 1e-6 * want, "%d: %.12g, not %.12g", p, engine, want);
    }
}

struct variance {
    float *center;
    double sum;
    long n;
};

static void keep_variance(void *with, const struct worker *w, struct vec answer) {
    struct variance *v = with;
    if (w->rank != 0 || w->round < 120) return;
    v->center = runs_copy(w->q, v->center, answer);
    for (size_t i = 0; i < answer.n; i++) v->sum += (double)v->center[i] * (double)v->center[i];
    v->n += (long)answer.n;
}

/* The center forgets by 0.9215 a round: 120 rounds leave 6e-5 of where it began, and a square's
 * correlation time is (1 + 0.85) / (1 - 0.85) = 12 rounds. So 20000 dimensions and 240 rounds are
 * worth 400000 independent squares: deviation sqrt(2 / 400000) = 0.22 %, and 1 % is 4.5 of those. */
Test(easgd, the_centers_variance_is_the_theorys) {
    if (UNDER_TSAN) cr_skip_test("a million samples, and no thread that others do not have");
    struct variance v = {0};
    struct seen seen;
    struct watch watch = {.rounded = keep_variance, .answers = 1, .with = &v};
    run_words(&seen, &watch,
        "run.strategy=easgd easgd.mode=sync easgd.tau=1 easgd.beta=0.9 run.workers=4 "
        "schedule.rate=0.1 quadratic.n=20000 quadratic.start=0 quadratic.sigma=1 run.steps=360");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(v.n == 240 * 20000L, "%ld squares", v.n);
    double got = v.sum / (double)v.n, want = 0.0104558397;
    cr_assert(fabs(got - want) <= 0.01 * want, "%.7f, not %.7f", got, want);
    free(v.center);
    seen_close(&seen);
}

/* All numbers here are few bits wide, so that floats are exact: no tolerance. */
static void check_exact(double beta, double rate, int steps) {
    double x = 4096, c = 4096;
    struct trail t;
    for (int mode = 0; mode < 2; mode++, x = c = 4096) {
        struct seen seen;
        trail_open(&t, 1, steps, 3);
        struct watch watch = {.rounded = keep_round, .answers = 1, .with = &t};
        run_words(&seen, &watch,
            "run.strategy=easgd easgd.mode=%s easgd.tau=1 easgd.beta=%g run.workers=1 "
            "schedule.rate=%g quadratic.n=3 quadratic.start=4096 run.steps=%d",
            mode ? "sync" : "async", beta, rate, steps);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        for (int k = 0; k < steps; k++) {
            double g = x, d = beta * (x - c);
            x = x - d - rate * g;
            c += d;
            for (int i = 0; i < 3; i++) {
                double gx = (double)t.x[0][k * 3 + i], gc = (double)t.c[k * 3 + i];
                cr_assert(gx == x && gc == c, "step %d: x %.9g, not %.9g; c %.9g, not %.9g", k, gx,
                    x, gc, c);
            }
        }
        seen_close(&seen);
        trail_close(&t);
    }
}

Test(easgd, one_worker_with_beta_1_swaps) { check_exact(1, 0.5, 16); }
Test(easgd, one_worker_with_beta_half_meets_at_the_midpoint) { check_exact(0.5, 0.5, 10); }

/* Every worker's x after so many steps, whoever went further. */
struct moment {
    long steps;
    float x[8][33];
};

static void keep_moment(void *with, const struct worker *w, struct vec answer) {
    struct moment *m = with;
    (void)answer;
    if (w->steps == m->steps) runs_fetch(w->q, m->x[w->rank], w->x);
}

static void run_moment(struct moment *m, int p, const char *kind, const char *more, float center) {
    struct seen seen;
    *m = (struct moment){.steps = 60};
    struct watch watch = {.rounded = keep_moment, .with = m};
    run_words(&seen, &watch,
        "run.workers=%d run.steps=100 run.max_lag=1 quadratic.n=33 quadratic.h_max=2 "
        "quadratic.spread=2 schedule.rate=0.1 optimizer.kind=%s %s",
        p, kind, more);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int i = 0; center > 0 && i < 33; i++) {
        cr_assert(
            seen.answer[0][i] == center, "the center moved to %.9g", (double)seen.answer[0][i]);
    }
    for (int r = 0; r < p; r++) cr_assert(m->x[r][0] != 0, "worker %d was not seen", r);
    seen_close(&seen);
}

Test(easgd, without_a_spring_workers_are_alone_and_the_center_is_frozen) {
    static const char *const kinds[] = {"sgd", "momentum", "nesterov"};
    static const char *const modes[] = {"sync", "async"};
    static struct moment alone, free_of_spring;
    for (int p = 1; p <= 4; p += 3) {
        for (int i = 0; i < 6; i++) {
            char more[128];
            snprintf(more, sizeof more,
                "run.strategy=easgd easgd.beta=0 easgd.tau=10 easgd.mode=%s", modes[i % 2]);
            run_moment(&alone, p, kinds[i / 2], "run.strategy=alone", 0);
            run_moment(&free_of_spring, p, kinds[i / 2], more, 1);
            cr_assert(memcmp(alone.x, free_of_spring.x, sizeof alone.x) == 0, "%s, %s, %d workers",
                kinds[i / 2], modes[i % 2], p);
        }
    }
}

Test(easgd, eamsgd_with_momentum_0_is_easgd_to_the_bit) {
    for (int mode = 0; mode < 2; mode++) {
        struct seen a, b;
        const char *like = "run.strategy=easgd easgd.tau=3 run.order=fixed run.workers=4 "
                           "run.steps=60 quadratic.n=33 quadratic.spread=2 quadratic.sigma=0.5";
        run_words(&a, NULL, "%s easgd.mode=%s optimizer.kind=sgd", like, mode ? "sync" : "async");
        run_words(&b, NULL, "%s easgd.mode=%s optimizer.kind=nesterov optimizer.momentum=0", like,
            mode ? "sync" : "async");
        cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
        cr_assert_eq(seen_differ(&a, &b), -1);
        seen_close(&a);
        seen_close(&b);
    }
}

/* ---- what an exchange keeps ----------------------------------------------------------------- */

/* Two chunks of a shared vector at least. */
enum { KEPT = SLOW ? 270001 : 700001, LOOKS = 4 };

/* center + sum of replicas, at each evaluation. */
struct sums {
    float *at[LOOKS];
    double *part[TEAM_MOST];
    int looks[TEAM_MOST];
};

static void keep_sum(void *with, const struct worker *w, struct vec answer) {
    struct sums *s = with;
    int k = s->looks[w->rank]++;
    if (k >= LOOKS) return;
    float *x = runs_copy(w->q, NULL, w->x), *c = runs_copy(w->q, NULL, answer);
    s->part[w->rank] = realloc(s->part[w->rank], LOOKS * KEPT * sizeof(double));
    for (size_t i = 0; i < KEPT; i++) {
        s->part[w->rank][(size_t)k * KEPT + i] = (double)x[i] + (w->rank == 0 ? (double)c[i] : 0);
    }
    free(x);
    free(c);
}

static double kept_sum(const struct sums *s, int p, int look, size_t i) {
    double sum = 0;
    for (int r = 0; r < p; r++) sum += s->part[r][(size_t)look * KEPT + i];
    return sum;
}

/* Workers come to about their targets, deviation 10, in ten epochs of large steps without much of
 * a spring's help; from the first evaluation on the rate is 0 and all that happens is exchanges,
 * from all threads, chunk by chunk. The sum of five floats of size 10 to 40 may err by some of
 * their last bits an exchange: 20 exchanges of 5 roundings of 2^-20 make 1e-4 at most, and in
 * fact a tenth. */
static void check_kept(const char *how, int p) {
    static struct sums s;
    s = (struct sums){0};
    struct seen seen;
    struct watch watch = {.judged = keep_sum, .with = &s};
    run_words(&seen, &watch,
        "run.strategy=easgd easgd.tau=1 easgd.beta=0.4 run.workers=%d quadratic.n=%d "
        "quadratic.samples=%d quadratic.spread=10 schedule.rate=0.9 schedule.use=step "
        "step.at=10 step.factor=0 run.eval_every=10 run.epochs=%d %s",
        p, KEPT, p, 10 * LOOKS, how);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(s.looks[0] == LOOKS, "%d evaluations", s.looks[0]);
    for (int k = 1; k < LOOKS; k++) {
        double moved = 0;
        for (size_t i = 0; i < KEPT; i++) {
            double before = kept_sum(&s, p, k - 1, i), after = kept_sum(&s, p, k, i);
            cr_assert(fabs(after - before) <= 1e-4, "element %zu: %.9g became %.9g, %s", i, before,
                after, how);
            moved += fabs(s.part[0][(size_t)k * KEPT + i] - s.part[0][(size_t)(k - 1) * KEPT + i]);
        }
        cr_assert(k > 1 || moved / KEPT >= 0.5, "only %g moved", moved / KEPT);
    }
    for (int r = 0; r < p; r++) free(s.part[r]);
    seen_close(&seen);
}

Test(easgd, exchanges_in_free_order_lose_nothing) { check_kept("run.max_lag=0", 4); }
Test(easgd, exchanges_in_fixed_order_lose_nothing) { check_kept("run.order=fixed", 3); }
Test(easgd, exchanges_together_lose_nothing) { check_kept("easgd.mode=sync", 3); }

/* ---- where it is stable --------------------------------------------------------------------- */

/* The judged loss in the end over that of the start, 0.5; infinite when the run said so. */
static double growth(const char *how, double rate, int tau, int rounds) {
    struct seen seen;
    run_words(&seen, NULL,
        "run.strategy=easgd quadratic.n=1 schedule.rate=%.9g easgd.tau=%d run.steps=%d %s", rate,
        tau, tau * rounds, how);
    double loss = seen.result.score.loss / seen.result.score.samples / 0.5;
    if (seen.end == STATUS_DIVERGED) {
        cr_assert(strstr(seen.why, "schedule.rate") != NULL, "%s", seen.why);
        loss = (double)INFINITY;
    } else {
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert(isfinite(loss), "a loss of %g is no success", loss);
    }
    seen_close(&seen);
    return loss;
}

static void check_bound(const char *how, int tau, double below, double above, int rounds) {
    double small = growth(how, below, tau, rounds), large = growth(how, above, tau, rounds);
    cr_assert(small <= 1e-3, "rate %g, tau %d, %s: grew by %g", below, tau, how, small);
    cr_assert(large >= 1e3, "rate %g, tau %d, %s: grew by %g", above, tau, how, large);
}

/* Lock-step, rank after rank: 1.747 for tau 1, 1.942 for 4, 1.986 for 16, 1.997 for 64. */
Test(easgd, async_is_stable_up_to_its_bound) {
    check_bound("run.order=fixed", 1, 1.72, 1.775, 1000);
    check_bound("run.order=fixed", 4, 1.92, 1.965, 400);
    check_bound("run.order=fixed", 16, 1.97, 2.003, 400);
    check_bound("run.order=fixed", 16, 1.9, 2.1, 100);
    check_bound("run.order=fixed", 64, 1.98, 2.01, 100);
}

/* (2 - rate) (2 - beta) = 2 beta / p at 1.5909. */
Test(easgd, sync_is_stable_up_to_its_bound) {
    check_bound("easgd.mode=sync", 1, 1.57, 1.611, 1000);
}

/* One worker, curvature 1, rate e, alpha a: the map of (x, c). Before the step it is
 * (1 - e - a, a; a, 1 - a), stable up to a = (4 - 2e) / (4 - e). After it is
 * ((1 - a) (1 - e), a; a (1 - e), 1 - a), stable up to (4 - 2e) / (4 - 3e) while e <= 1, and up to
 * e / (2 (e - 1)) beyond. */
Test(easgd, a_pull_after_the_step_has_its_own_bound) {
    static const double bounds[][3] = {
        {0.1, 3.8 / 3.9, 3.8 / 3.7}, {0.5, 3 / 3.5, 3 / 2.5}, {1, 2.0 / 3, 2}, {1.5, 0.4, 1.5}};
    for (int i = 0; i < 8; i++) {
        const double *b = bounds[i / 2], bound = b[1 + i % 2];
        char how[2][160];
        for (int above = 0; above < 2; above++) {
            snprintf(how[above], sizeof how[above], "run.workers=1 easgd.when=%s easgd.beta=%.9g",
                i % 2 ? "after" : "before", bound * (above ? 1.03 : 0.97));
        }
        double small = growth(how[0], b[0], 1, 600), large = growth(how[1], b[0], 1, 600);
        cr_assert(small <= 1e-3, "rate %g, %s: grew by %g", b[0], how[0], small);
        cr_assert(large >= 1e3, "rate %g, %s: grew by %g", b[0], how[1], large);
    }
}

/* Long before the run's end, in which no evaluation would have noticed. */
Test(easgd, a_run_that_diverges_says_so) {
    for (int mode = 0; mode < 2; mode++) {
        struct seen seen;
        run_words(&seen, NULL,
            "run.strategy=easgd easgd.mode=%s run.workers=4 schedule.rate=30 run.steps=3000",
            mode ? "sync" : "async");
        cr_assert(seen.end == STATUS_DIVERGED, "%d: %s", (int)seen.end, seen.why);
        cr_assert(strstr(seen.why, "diverges, its training loss") != NULL, "%s", seen.why);
        cr_assert(strstr(seen.why, "schedule.rate") != NULL, "%s", seen.why);
        seen_close(&seen);
    }
}

/* Without curvature the loss is 0 wherever a replica is, until it is nowhere; a spring this hard
 * drives the two ends apart. Evaluated every round, the center's end is judged before another step
 * notices; else that step does. */
Test(easgd, what_is_no_number_is_no_success) {
    static const char *const every[] = {"1", "1e9"};
    static const char *const words[] = {"diverges, the loss is", "diverges, its training loss is"};
    for (int i = 0; i < 2; i++) {
        struct seen seen;
        run_words(&seen, NULL,
            "run.strategy=easgd easgd.tau=1 easgd.beta=1000 run.workers=1 quadratic.h_min=0 "
            "quadratic.h_max=0 quadratic.sigma=1 quadratic.samples=1 run.steps=100 "
            "run.eval_every=%s",
            every[i]);
        cr_assert(seen.end == STATUS_DIVERGED, "%d: %s", (int)seen.end, seen.why);
        cr_assert(strstr(seen.why, words[i]) != NULL, "%s", seen.why);
        seen_close(&seen);
    }
}

/* ---- the same bits -------------------------------------------------------------------------- */

static void check_bits(const char *how, int p, int n, int steps) {
    struct seen a, b;
    const char *like = "run.strategy=easgd easgd.tau=4 quadratic.spread=2 quadratic.sigma=1 "
                       "schedule.rate=0.05 optimizer.kind=nesterov";
    run_words(&a, NULL, "%s run.workers=%d quadratic.n=%d run.steps=%d %s", like, p, n, steps, how);
    run_words(&b, NULL, "%s run.workers=%d quadratic.n=%d run.steps=%d %s", like, p, n, steps, how);
    cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
    int differ = seen_differ(&a, &b);
    cr_assert(differ == -1, "worker %d of %d, %d floats, %s", differ, p, n, how);
    seen_close(&a);
    seen_close(&b);
}

static const int MANY[] = {1, 2, 3, 4, 8, CROWD};

Test(easgd, fixed_order_gives_the_same_bits_again) {
    for (int i = 0; i < 6; i++) {
        check_bits("run.order=fixed easgd.mode=sync", MANY[i], 1001, 24);
        check_bits("run.order=fixed easgd.mode=async", MANY[i], 1001, 24);
    }
    check_bits("run.order=fixed easgd.mode=async", 3, KEPT, 8);
    check_bits("run.order=fixed easgd.mode=sync", 3, KEPT, 8);
}

/* Evaluations make everybody gather; the order after that is to be the same too, and so is what
 * each takes the others to have done, which is what the rate follows. */
Test(easgd, fixed_order_gives_the_same_bits_with_evaluations) {
    for (int i = 1; i < 5; i++) {
        const char *like = "run.order=fixed easgd.mode=async quadratic.samples=50 "
                           "run.eval_every=0.7 schedule.use=warmup warmup.epochs=100 "
                           "run.max_lag=";
        char how[160];
        for (int lag = 0; lag < 3; lag++) {
            snprintf(how, sizeof how, "%s%d", like, lag);
            check_bits(how, MANY[i], 100, 60);
        }
    }
}

/* Nothing orders these workers but the ends of their rounds: one may end its next round while
 * another still comes from the evaluation. */
Test(easgd, fixed_order_gives_the_same_rates_after_evaluations) {
    const char *words = "run.strategy=alone run.order=fixed run.workers=8 quadratic.n=10 "
                        "quadratic.spread=1 quadratic.samples=16 run.eval_every=1 run.steps=60 "
                        "schedule.use=warmup warmup.epochs=1000";
    for (int i = 0; i < 4; i++) {
        struct seen a, b;
        run_words(&a, NULL, "%s", words);
        run_words(&b, NULL, "%s", words);
        cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
        cr_assert_eq(seen_differ(&a, &b), -1);
        seen_close(&a);
        seen_close(&b);
    }
}

/* Synchronous rounds add in rank order, whoever comes first; but NCCL, in free order, as it likes. */
Test(easgd, sync_gives_the_same_bits_in_any_order) {
    static struct moment fixed, any;
    const char *like =
        "run.strategy=easgd easgd.mode=sync easgd.tau=4 quadratic.sigma=1 run.comm=host";
    char in_order[128];
    snprintf(in_order, sizeof in_order, "%s run.order=fixed", like);
    for (int i = 1; i < 5; i++) {
        run_moment(&fixed, MANY[i], "momentum", in_order, 0);
        run_moment(&any, MANY[i], "momentum", like, 0);
        cr_assert(memcmp(fixed.x, any.x, sizeof any.x) == 0, "%d workers", MANY[i]);
    }
}

Test(easgd, free_order_ends_for_any_number_of_workers) {
    for (int i = 0; i < 6; i++) {
        for (int lag = 0; lag < 3; lag++) {
            struct seen seen;
            run_words(&seen, NULL,
                "run.strategy=easgd easgd.tau=3 run.workers=%d quadratic.n=255 quadratic.sigma=1 "
                "run.steps=30 quadratic.samples=70 run.eval_every=1 run.max_lag=%d",
                MANY[i], lag);
            cr_assert(seen.end == STATUS_OK, "%s", seen.why);
            cr_assert(seen.result.steps >= 30L * MANY[i], "%ld steps", seen.result.steps);
            seen_close(&seen);
        }
    }
}

/* Twenty steps with tau = 5 are four pulls of each worker. Sums go around in 2 (p - 1) / p of a vector. */
Test(easgd, moves_the_bytes_that_its_help_says) {
    static const struct {
        const char *mode;
        double bytes;
    } rows[] = {{"async", 4 * 3 * 2.0 * 100 * 4}, {"sync", 4 * 3 * 2 * (2 / 3.0) * 100 * 4}};
    for (int i = 0; i < 2; i++) {
        struct seen seen;
        run_words(&seen, NULL,
            "run.strategy=easgd easgd.tau=5 easgd.mode=%s run.workers=3 run.steps=20 "
            "run.order=fixed quadratic.n=100",
            rows[i].mode);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert(fabs(seen.result.bytes - rows[i].bytes) <= 1e-9 * rows[i].bytes, "%s: %g",
            rows[i].mode, seen.result.bytes);
        seen_close(&seen);
    }
}
