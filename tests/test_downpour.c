/* DOWNPOUR, ADOWNPOUR and MVADOWNPOUR. The oracle adds up -eta g as the paper does, in double, one
 * worker after the other. */
#include "runs.h"

#include "check.h"
#include "engine/seat.h"

TestSuite(downpour, .timeout = 120);

/* Replicas of size about 3 are rounded to half of 2^-22 some times a step, and contraction forgets
 * that over a few tens of steps. */
static const double TOLERANCE = 2e-5;

/* ---- the paper's algorithm, in fixed order -------------------------------------------------- */

enum { PLAIN, MEAN, MOVING };

static const char *const names[] = {"downpour", "adownpour", "mvadownpour"};

struct variant {
    int kind, tau, scaled;
    double alpha; /* of MOVING */
};

struct master {
    struct replica a[TEAM_MOST];
    double v[TEAM_MOST][BOWL_MOST], c[BOWL_MOST], z[BOWL_MOST];
    long clock, pulled[TEAM_MOST]; /* updates of c: all, and when a worker pulled */
    double staleness[TEAM_MOST], most[TEAM_MOST];
};

static void push(struct master *m, const struct problem *o, const struct variant *how, int r) {
    long stale = m->clock - m->pulled[r];
    m->staleness[r] += (double)stale;
    if ((double)stale > m->most[r]) m->most[r] = (double)stale;
    m->clock++;
    double a = how->kind == MEAN ? 1.0 / (double)m->clock : how->alpha;
    for (int i = 0; i < o->n; i++) {
        m->c[i] += how->scaled ? m->v[r][i] / (1 + (double)stale) : m->v[r][i];
        m->z[i] = (1 - a) * m->z[i] + a * m->c[i];
    }
}

static void one_round(
    struct master *m, const struct problem *o, const struct variant *how, int r, int round) {
    struct replica *x = &m->a[r];
    if (round > 0) push(m, o, how, r);
    m->pulled[r] = m->clock;
    for (int i = 0; i < o->n; i++) {
        x->x[i] = m->c[i];
        m->v[r][i] = 0;
    }
    for (int t = round * how->tau; t < (round + 1) * how->tau; t++) {
        double before[BOWL_MOST];
        memcpy(before, x->x, sizeof before);
        replica_grad(x, o);
        replica_step(x, o, problem_rate(o, t));
        for (int i = 0; i < o->n; i++) m->v[r][i] += x->x[i] - before[i];
    }
}

static void replay(
    struct master *m, const struct problem *o, const struct variant *how, const long *rounds) {
    *m = (struct master){0};
    for (int r = 0; r < o->p; r++) replica_start(&m->a[r], o, r);
    for (int i = 0; i < o->n; i++) m->c[i] = m->z[i] = o->start;
    for (int k = 0, more = 1; more; k++) {
        more = 0;
        for (int r = 0; r < o->p; r++) {
            if (k >= rounds[r]) continue;
            one_round(m, o, how, r, k);
            more = 1;
        }
    }
}

/* ---- against the engine --------------------------------------------------------------------- */

struct notes {
    double staleness[TEAM_MOST], most[TEAM_MOST];
};

static void keep_notes(void *with, const struct worker *w, struct vec answer) {
    struct notes *n = with;
    const struct staleness *s = &w->seat->staleness;
    (void)answer;
    n->staleness[w->rank] = s->counted > 0 ? s->sum / s->counted : 0;
    n->most[w->rank] = s->most;
}

static void check_notes(const struct notes *n, const struct master *m, int p, const long *rounds) {
    for (int r = 0; r < p; r++) {
        double mean = rounds[r] > 1 ? m->staleness[r] / (double)(rounds[r] - 1) : 0;
        cr_assert(fabs(n->staleness[r] - mean) <= 1e-9, "worker %d: staleness %g, not %g", r,
            n->staleness[r], mean);
        cr_assert(n->most[r] == m->most[r], "worker %d: %g, not %g", r, n->most[r], m->most[r]);
    }
}

/* What settings a variant is, behind its strategy's name. */
static void variant_words(const struct variant *how, char *text, size_t size) {
    const char *name = names[how->kind];
    int n = snprintf(text, size, "run.strategy=%s %s.tau=%d %s.scale=%s", name, name, how->tau,
        name, how->scaled ? "staleness" : "none");
    if (how->kind != MOVING) return;
    snprintf(text + n, size - (size_t)n, " mvadownpour.alpha=%g", how->alpha);
}

static void compare(const struct problem *o, struct variant how) {
    static struct master m;
    char words[1024], more[256];
    struct seen seen;
    struct notes notes = {{0}, {0}};
    struct watch watch = {.judged = keep_notes, .with = &notes};
    problem_words(o, words, sizeof words);
    variant_words(&how, more, sizeof more);
    run_words(&seen, &watch, "%s %s run.order=fixed", words, more);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    replay(&m, o, &how, seen.rounds);
    for (int r = 0; r < o->p; r++) {
        cr_assert_eq(seen.steps[r], seen.rounds[r] * how.tau);
        cr_assert(seen.steps[r] >= o->steps && seen.steps[r] <= o->steps + how.tau);
        check_close(seen.x[r], m.a[r].x, (size_t)o->n, TOLERANCE, 0, "x of worker %d of %d, %s %s",
            r, o->p, more, words);
        check_close(seen.answer[r], how.kind == PLAIN ? m.c : m.z, (size_t)o->n, TOLERANCE, 0,
            "answer of worker %d of %d, %s %s", r, o->p, more, words);
    }
    check_notes(&notes, &m, o->p, seen.rounds);
    seen_close(&seen);
}

/* Each worker has its own target, each coordinate its own curvature; pushes are added, so a step
 * is as long as p tau of them bear. */
static struct problem problem(int p, int tau) {
    return (struct problem){.p = p,
        .n = 33,
        .steps = 60,
        .samples = 10 * p,
        .rate = 0.4 / (p * tau),
        .delta = 0.5,
        .h_min = 0.25,
        .h_max = 2,
        .spread = 1.5,
        .start = 1};
}

static const int SIZES[] = {1, 2, 3, 8}, TAUS[] = {1, 3, 10};

static void compare_all(struct variant how) {
    for (int i = 0; i < 4 * 3; i++) {
        how.tau = TAUS[i / 4];
        struct problem o = problem(SIZES[i % 4], how.tau);
        compare(&o, how);
    }
}

Test(downpour, in_fixed_order_follows_the_paper) { compare_all((struct variant){.kind = PLAIN}); }

Test(downpour, adownpour_is_the_mean_over_the_centers_clock) {
    compare_all((struct variant){.kind = MEAN});
}

Test(downpour, mvadownpour_is_a_moving_average) {
    compare_all((struct variant){.kind = MOVING, .alpha = 0.001});
    compare_all((struct variant){.kind = MOVING, .alpha = 0.125});
    compare_all((struct variant){.kind = MOVING, .alpha = 1});
}

Test(downpour, a_scaled_push_counts_by_its_staleness) {
    for (int kind = PLAIN; kind <= MOVING; kind++) {
        compare_all((struct variant){.kind = kind, .scaled = 1, .alpha = 0.125});
    }
}

Test(downpour, pushes_what_any_optimizer_moved) {
    for (int kind = KIND_MOMENTUM; kind <= KIND_NESTEROV; kind++) {
        struct problem o = problem(3, 3);
        o.kind = kind;
        o.lambda = 0.3;
        compare(&o, (struct variant){.kind = PLAIN, .tau = 3});
        compare(&o, (struct variant){.kind = MEAN, .tau = 3});
    }
}

Test(downpour, follows_the_schedules) {
    for (int which = 1; which <= 3; which++) {
        struct problem o = problem(3, 3);
        if (which & 1) o.warm = 2.5, o.from = 0.125;
        if (which & 2) o.drop = 3, o.factor = 0.25;
        compare(&o, (struct variant){.kind = PLAIN, .tau = 3});
        compare(&o, (struct variant){.kind = MOVING, .tau = 3, .alpha = 0.1});
    }
}

/* ---- one worker ----------------------------------------------------------------------------- */

/* The oracle here is descent by itself: what one pushes, and takes back, is what one had. */
Test(downpour, one_worker_at_any_tau_is_sgd) {
    static struct replica a, pushed;
    for (int tau = 1; tau <= 16; tau *= 2) {
        struct problem o = problem(1, 1);
        char words[1024];
        struct seen seen;
        o.steps = 48;
        o.rate = 0.1;
        problem_words(&o, words, sizeof words);
        run_words(&seen, NULL, "%s run.strategy=downpour downpour.tau=%d", words, tau);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert_eq(seen.steps[0], 48);
        replica_start(&a, &o, 0);
        for (int t = 0; t < 48; t++) {
            if (t == 48 - tau) pushed = a;
            replica_grad(&a, &o);
            replica_step(&a, &o, o.rate);
        }
        check_close(seen.x[0], a.x, 33, TOLERANCE, 0, "x, tau %d", tau);
        check_close(seen.answer[0], pushed.x, 33, TOLERANCE, 0, "c, tau %d", tau);
        seen_close(&seen);
    }
}

/* ---- where it is stable --------------------------------------------------------------------- */

/* The judged loss in the end over that of the start, 0.5; infinite when the run said so. */
static double growth(const char *how, int p, double rate, int tau, int rounds) {
    struct seen seen;
    run_words(&seen, NULL,
        "run.strategy=downpour run.order=fixed quadratic.n=1 run.workers=%d schedule.rate=%.9g "
        "downpour.tau=%d run.steps=%d %s",
        p, rate, tau, tau * rounds, how);
    double loss = seen.result.score.loss / seen.result.score.samples / 0.5;
    if (seen.end == STATUS_DIVERGED) {
        loss = (double)INFINITY;
    } else {
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert(isfinite(loss), "a loss of %g is no success", loss);
    }
    seen_close(&seen);
    return loss;
}

static void check_bound(int p, int tau, double below, double above) {
    double small = growth("", p, below, tau, 400), large = growth("", p, above, tau, 400);
    cr_assert(small <= 1e-3, "rate %g, %d workers, tau %d: grew by %g", below, p, tau, small);
    cr_assert(large >= 1e3, "rate %g, %d workers, tau %d: grew by %g", above, p, tau, large);
}

/* In lock step, worker after worker: about 2 / (p tau). */
Test(downpour, is_stable_up_to_its_bound) {
    check_bound(4, 1, 0.432, 0.458);
    check_bound(4, 4, 0.133, 0.141);
    check_bound(4, 16, 0.0352, 0.0374);
    check_bound(8, 1, 0.203, 0.215);
    check_bound(8, 4, 0.0553, 0.0587);
    check_bound(8, 16, 0.014, 0.0155);
}

/* With 7 others, most pushes count an eighth: the same rates, and larger, are stable. */
Test(downpour, scaled_pushes_bear_more) {
    double loss = growth("downpour.scale=staleness", 8, 0.1, 16, 50);
    cr_assert(loss <= 1e-6, "%g", loss);
}

/* ---- nothing is lost ------------------------------------------------------------------------ */

enum { LOST_N = 20001 };

/* Where there is no curvature, gradients are noise, keyed by worker and step, so what each push
 * brings is known whoever comes when: c is where it began and all that was pushed. 4 workers of
 * some 40 pushes each add numbers below 1: their roundings stay below 160 of 2^-24, 1e-5. */
static void check_lost(int tau, const char *how) {
    static double want[LOST_N];
    static float noise[LOST_N + 1];
    struct seen seen;
    run_words(&seen, NULL,
        "run.strategy=downpour downpour.tau=%d run.workers=4 quadratic.n=%d quadratic.h_min=0 "
        "quadratic.h_max=0 quadratic.sigma=1 schedule.rate=0.0078125 run.steps=40 %s",
        tau, LOST_N, how);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int i = 0; i < LOST_N; i++) want[i] = 1;
    for (int r = 0; r < 4; r++) {
        cr_assert(seen.rounds[r] > 2, "worker %d made %ld rounds", r, seen.rounds[r]);
        for (long t = 0; t < (seen.rounds[r] - 1) * tau; t++) {
            struct rng_key key = {1, RNG_NOISE, (uint32_t)r};
            rng_normals(key, (uint64_t)t * (LOST_N + 1), noise, LOST_N);
            for (int i = 0; i < LOST_N; i++) want[i] -= (double)noise[i] / 128;
        }
    }
    check_close(seen.answer[0], want, LOST_N, 1e-5, 0, "the center, tau %d, %s", tau, how);
    seen_close(&seen);
}

Test(downpour, no_push_is_lost_in_free_order) {
    check_lost(1, "run.max_lag=0");
    check_lost(4, "run.max_lag=2");
}

Test(downpour, no_push_is_lost_in_fixed_order) { check_lost(3, "run.order=fixed"); }

/* ---- what it costs -------------------------------------------------------------------------- */

/* The first exchange of each worker only reads; a mean's first update only writes. */
Test(downpour, moves_what_its_help_says) {
    for (int i = 0; i < 6; i++) {
        struct variant how = {.kind = i / 2, .tau = 1 + i % 2 * 4, .alpha = 0.1};
        char more[256];
        struct seen seen;
        variant_words(&how, more, sizeof more);
        run_words(&seen, NULL, "%s run.workers=3 quadratic.n=100 run.steps=20", more);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        double vectors = how.kind == MEAN ? -1 : 0;
        for (int r = 0; r < 3; r++) {
            vectors += 1 + (double)(seen.rounds[r] - 1) * (how.kind == PLAIN ? 3 : 5);
        }
        cr_assert(seen.result.bytes == vectors * 100 * sizeof(float), "%s: %g bytes, not %g", more,
            seen.result.bytes, vectors * 100 * sizeof(float));
        seen_close(&seen);
    }
}

Test(downpour, one_worker_is_never_stale) {
    struct seen seen;
    struct notes notes = {.staleness = {-1}, .most = {-1}};
    struct watch watch = {.judged = keep_notes, .with = &notes};
    run_words(&seen, &watch, "run.strategy=downpour run.workers=1 run.steps=20");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(notes.staleness[0] == 0 && notes.most[0] == 0, "%g", notes.staleness[0]);
    seen_close(&seen);
}

/* ---- the same bits, and an end --------------------------------------------------------------- */

static const int MANY[] = {1, 2, 3, 8, CROWD};

Test(downpour, fixed_order_gives_the_same_bits_again) {
    for (int i = 0; i < 3 * 5; i++) {
        struct seen a, b;
        char words[512];
        snprintf(words, sizeof words,
            "run.strategy=%s run.workers=%d run.order=fixed quadratic.n=1001 quadratic.sigma=1 "
            "quadratic.spread=2 schedule.rate=0.01 run.steps=12 quadratic.samples=100 "
            "run.eval_every=0.7 %s.scale=staleness",
            names[i / 5], MANY[i % 5], names[i / 5]);
        run_words(&a, NULL, "%s", words);
        run_words(&b, NULL, "%s", words);
        cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
        cr_assert_eq(seen_differ(&a, &b), -1, "%s", words);
        seen_close(&a);
        seen_close(&b);
    }
}

Test(downpour, free_order_ends_for_any_number_of_workers) {
    for (int i = 0; i < 3 * 5 * 3; i++) {
        int p = MANY[i % 5];
        struct seen seen;
        run_words(&seen, NULL,
            "run.strategy=%s run.workers=%d quadratic.n=255 quadratic.sigma=1 "
            "schedule.rate=0.001 run.steps=20 quadratic.samples=70 run.eval_every=1 run.max_lag=%d",
            names[i / 15], p, i / 5 % 3);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert(seen.result.steps >= 20L * p, "%ld steps", seen.result.steps);
        seen_close(&seen);
    }
}
