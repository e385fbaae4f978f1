/* MDOWNPOUR: the oracle is the master of the paper's algorithms 4 and 5, one gradient after the
 * other, in double. */
#include "runs.h"

#include "check.h"
#include "engine/seat.h"

TestSuite(mdownpour, .timeout = 120);

/* Replicas of size about 3 are rounded to half of 2^-22 some times a step; momentum 0.9 magnifies
 * that by ten at most. */
static const double TOLERANCE = 2e-5;

struct master {
    struct replica a[TEAM_MOST];
    double c[BOWL_MOST], v[BOWL_MOST];
};

static void replay(struct master *m, const struct problem *o, double delta, const long *rounds) {
    *m = (struct master){0};
    for (int r = 0; r < o->p; r++) replica_start(&m->a[r], o, r);
    for (int i = 0; i < o->n; i++) m->c[i] = o->start;
    for (int k = 0, more = 1; more; k++) {
        more = 0;
        for (int r = 0; r < o->p; r++) {
            if (k >= rounds[r]) continue;
            for (int i = 0; k > 0 && i < o->n; i++) {
                double moved = -problem_rate(o, k - 1) * m->a[r].g[i];
                m->v[i] = delta * m->v[i] + moved;
                m->c[i] += delta * m->v[i] + moved;
            }
            memcpy(m->a[r].x, m->c, sizeof m->c);
            replica_grad(&m->a[r], o);
            more = 1;
        }
    }
}

/* What a worker is left with: its last x has taken its step, for the others to have it next. */
static void compare(const struct problem *o, double delta) {
    static struct master m;
    char words[1024];
    struct seen seen;
    problem_words(o, words, sizeof words);
    run_words(&seen, NULL, "%s run.strategy=mdownpour mdownpour.momentum=%g run.order=fixed", words,
        delta);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    replay(&m, o, delta, seen.rounds);
    for (int r = 0; r < o->p; r++) {
        double x[BOWL_MOST];
        cr_assert_eq(seen.steps[r], seen.rounds[r]);
        cr_assert(seen.steps[r] >= o->steps && seen.steps[r] <= o->steps + 1);
        for (int i = 0; i < o->n; i++) {
            x[i] = m.a[r].x[i] - problem_rate(o, (int)seen.steps[r] - 1) * m.a[r].g[i];
        }
        check_close(
            seen.x[r], x, (size_t)o->n, TOLERANCE, 0, "x of worker %d of %d, %g", r, o->p, delta);
        check_close(seen.answer[r], m.c, (size_t)o->n, TOLERANCE, 0, "c at worker %d of %d, %g", r,
            o->p, delta);
    }
    seen_close(&seen);
}

static struct problem problem(int p, double rate) {
    return (struct problem){.p = p,
        .n = 33,
        .steps = 60,
        .samples = 10 * p,
        .rate = rate,
        .h_min = 0.25,
        .h_max = 2,
        .spread = 1.5,
        .start = 1};
}

static const int SIZES[] = {1, 2, 3, 8};
static const double DELTAS[] = {0, 0.5, 0.9};

Test(mdownpour, in_fixed_order_follows_the_paper) {
    for (int i = 0; i < 4 * 3; i++) {
        double delta = DELTAS[i / 4];
        struct problem o = problem(SIZES[i % 4], 0.4 * (1 - delta) / SIZES[i % 4]);
        compare(&o, delta);
        o.lambda = 0.3;
        o.warm = 2.5, o.from = 0.125;
        o.drop = 3, o.factor = 0.25;
        compare(&o, delta);
    }
}

/* Nesterov's x and v, apart from any center: c goes through his points ahead, and the worker's x,
 * when it has made its step, through his x. */
Test(mdownpour, one_worker_goes_through_nesterovs_sequence) {
    for (int i = 0; i < 3; i++) {
        static struct replica a;
        struct problem o = problem(1, 0.1);
        double ahead[BOWL_MOST];
        char words[1024];
        struct seen seen;
        problem_words(&o, words, sizeof words);
        run_words(&seen, NULL, "%s run.strategy=mdownpour mdownpour.momentum=%g", words, DELTAS[i]);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        o.kind = KIND_NESTEROV;
        o.delta = DELTAS[i];
        replica_start(&a, &o, 0);
        for (int t = 0; t < o.steps; t++) {
            for (int k = 0; k < o.n; k++) ahead[k] = a.x[k] + o.delta * a.v[k];
            replica_grad(&a, &o);
            replica_step(&a, &o, o.rate);
        }
        check_close(seen.x[0], a.x, (size_t)o.n, TOLERANCE, 0, "x, momentum %g", o.delta);
        check_close(seen.answer[0], ahead, (size_t)o.n, TOLERANCE, 0, "c, momentum %g", o.delta);
        seen_close(&seen);
    }
}

Test(mdownpour, without_momentum_it_is_downpour_with_tau_1_to_the_bit) {
    for (int i = 0; i < 4; i++) {
        struct seen a, b;
        char words[256];
        snprintf(words, sizeof words,
            "run.order=fixed run.workers=%d run.steps=40 quadratic.n=33 quadratic.spread=2 "
            "quadratic.sigma=0.5 schedule.rate=0.02",
            SIZES[i]);
        run_words(&a, NULL, "run.strategy=downpour downpour.tau=1 %s", words);
        run_words(&b, NULL, "run.strategy=mdownpour mdownpour.momentum=0 %s", words);
        cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
        cr_assert_eq(seen_differ(&a, &b), -1, "%d workers", SIZES[i]);
        seen_close(&a);
        seen_close(&b);
    }
}

/* ---- nothing is lost ------------------------------------------------------------------------ */

enum { LOST_N = 20001 };

static float lost_velocity[LOST_N];

static void keep_velocity(void *with, const struct worker *w, struct vec answer) {
    (void)with;
    (void)answer;
    if (w->rank != 0) return;
    for (struct shared *s = team_shared(w->team); s; s = shared_next(s)) {
        if (!strcmp(shared_name(s), "velocity")) {
            runs_fetch(w->q, lost_velocity, shared_vec(s));
        }
    }
}

/* Summed up, v <- delta v + d and c <- c + delta v + d say that c + delta^2 v / (1 - delta) is where
 * c began and the sum of all d / (1 - delta), in whatever order they came. Without curvature each d
 * is noise, keyed by worker and step. Roundings as in test_downpour.c, twice as many. */
static void check_lost(const char *how) {
    static double want[LOST_N];
    static float noise[LOST_N + 1];
    const double delta = 0.5;
    struct seen seen;
    struct watch watch = {.judged = keep_velocity};
    run_words(&seen, &watch,
        "run.strategy=mdownpour mdownpour.momentum=0.5 run.workers=4 quadratic.n=%d "
        "quadratic.h_min=0 quadratic.h_max=0 quadratic.sigma=1 schedule.rate=0.0078125 "
        "run.steps=30 %s",
        LOST_N, how);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int i = 0; i < LOST_N; i++) {
        want[i] = 1 - delta * delta / (1 - delta) * (double)lost_velocity[i];
    }
    for (int r = 0; r < 4; r++) {
        for (long t = 0; t + 1 < seen.rounds[r]; t++) {
            struct rng_key key = {1, RNG_NOISE, (uint32_t)r};
            rng_normals(key, (uint64_t)t * (LOST_N + 1), noise, LOST_N);
            for (int i = 0; i < LOST_N; i++) want[i] -= (double)noise[i] / 128 / (1 - delta);
        }
    }
    check_close(seen.answer[0], want, LOST_N, 2e-5, 0, "the center, %s", how);
    seen_close(&seen);
}

Test(mdownpour, no_gradient_is_lost_in_free_order) { check_lost("run.max_lag=0"); }
Test(mdownpour, no_gradient_is_lost_in_fixed_order) { check_lost("run.order=fixed"); }

/* ---- what it costs, the same bits, and an end ------------------------------------------------ */

Test(mdownpour, moves_what_its_help_says) {
    struct seen seen;
    double vectors = 0;
    run_words(&seen, NULL, "run.strategy=mdownpour run.workers=3 quadratic.n=100 run.steps=20");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int r = 0; r < 3; r++) vectors += 1 + 6 * (double)(seen.rounds[r] - 1);
    cr_assert(seen.result.bytes == vectors * 100 * sizeof(float), "%g bytes", seen.result.bytes);
    seen_close(&seen);
}

static void keep_staleness(void *with, const struct worker *w, struct vec answer) {
    const struct staleness *s = &w->seat->staleness;
    (void)answer;
    ((double *)with)[w->rank] = s->sum / s->counted;
}

/* In lock step each of three takes c, and two others move it before it is there again; at first only
 * those of lower rank. */
Test(mdownpour, counts_how_stale_gradients_are) {
    struct seen seen;
    double staleness[TEAM_MOST];
    struct watch watch = {.judged = keep_staleness, .with = staleness};
    run_words(&seen, &watch, "run.strategy=mdownpour run.workers=3 run.steps=11 run.order=fixed");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int r = 0; r < 3; r++) {
        double mean = (r + 2 * (double)(seen.rounds[r] - 2)) / (double)(seen.rounds[r] - 1);
        cr_assert(
            fabs(staleness[r] - mean) <= 1e-12, "worker %d: %g, not %g", r, staleness[r], mean);
    }
    seen_close(&seen);
}

static const int MANY[] = {1, 2, 3, 8, CROWD};

Test(mdownpour, fixed_order_gives_the_same_bits_again) {
    for (int i = 0; i < 5; i++) {
        struct seen a, b;
        char words[512];
        snprintf(words, sizeof words,
            "run.strategy=mdownpour run.workers=%d run.order=fixed quadratic.n=1001 "
            "quadratic.sigma=1 schedule.rate=0.001 run.steps=12 quadratic.samples=100 "
            "run.eval_every=0.7",
            MANY[i]);
        run_words(&a, NULL, "%s", words);
        run_words(&b, NULL, "%s", words);
        cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
        cr_assert_eq(seen_differ(&a, &b), -1, "%s", words);
        seen_close(&a);
        seen_close(&b);
    }
}

Test(mdownpour, free_order_ends_for_any_number_of_workers) {
    for (int i = 0; i < 5 * 3; i++) {
        int p = MANY[i % 5];
        struct seen seen;
        run_words(&seen, NULL,
            "run.strategy=mdownpour run.workers=%d quadratic.n=255 quadratic.sigma=1 "
            "schedule.rate=0.0001 run.steps=20 quadratic.samples=70 run.eval_every=1 "
            "run.max_lag=%d",
            p, i / 5);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert(seen.result.steps >= 20L * p, "%ld steps", seen.result.steps);
        seen_close(&seen);
    }
}
