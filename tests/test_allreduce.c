/* The oracle is one replica in double, stepped by the mean of the workers' gradients. */
#include "runs.h"

#include "check.h"

TestSuite(allreduce, .timeout = 120);

/* As in test_easgd.c: roundings of 2^-23 in replicas of about 3, forgotten over tens of steps. */
static const double TOLERANCE = 2e-5;

/* The mean gradient is that at the mean of the targets: all share x and the curvatures. */
static void replay(struct replica *a, const struct problem *o) {
    double mean[BOWL_MOST] = {0};
    for (int r = 0; r < o->p; r++) {
        replica_start(a, o, r);
        for (int i = 0; i < o->n; i++) mean[i] += a->target[i] / o->p;
    }
    memcpy(a->target, mean, sizeof mean);
    for (int t = 0; t < o->steps; t++) {
        replica_grad(a, o);
        replica_step(a, o, problem_rate(o, t));
    }
}

static void compare(const struct problem *o, const char *order) {
    struct replica a;
    char words[1024];
    struct seen seen;
    problem_words(o, words, sizeof words);
    run_words(&seen, NULL, "%s run.strategy=allreduce run.order=%s", words, order);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    replay(&a, o);
    for (int r = 0; r < o->p; r++) {
        cr_assert_eq(seen.steps[r], o->steps);
        cr_assert_eq(seen.rounds[r], o->steps);
        check_close(
            seen.x[r], a.x, (size_t)o->n, TOLERANCE, 0, "x of worker %d of %d, %s", r, o->p, words);
        check_close(seen.answer[r], a.x, (size_t)o->n, TOLERANCE, 0, "the answer, %s", words);
        cr_assert(memcmp(seen.x[r], seen.x[0], (size_t)o->n * sizeof(float)) == 0,
            "workers 0 and %d differ, %s", r, words);
    }
    seen_close(&seen);
}

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

static void compare_kinds(struct problem o) {
    for (o.kind = KIND_SGD; o.kind <= KIND_NESTEROV; o.kind++) {
        compare(&o, "free");
        compare(&o, "fixed");
    }
}

Test(allreduce, is_one_worker_with_the_mean_gradient) {
    static const int sizes[] = {1, 2, 3, 4, 5, 8};
    for (int i = 0; i < 6; i++) compare_kinds(problem(sizes[i]));
}

Test(allreduce, decay_counts_once) {
    struct problem o = problem(4);
    o.lambda = 0.3;
    compare_kinds(o);
}

Test(allreduce, follows_the_schedules) {
    for (int which = 1; which <= 3; which++) {
        struct problem o = problem(4);
        if (which & 1) o.warm = 2.5, o.from = 0.125;
        if (which & 2) o.drop = 3, o.factor = 0.25; /* that is at step 30 of 60 */
        compare_kinds(o);
    }
}

/* Nothing is far from the mean gradient's bound, 2 / h; the sum's would be a quarter of it. */
Test(allreduce, is_stable_up_to_the_bound_of_one_worker) {
    const double rates[] = {1.97, 2.03};
    for (int i = 0; i < 2; i++) {
        struct seen seen;
        run_words(&seen, NULL,
            "run.strategy=allreduce run.workers=4 quadratic.n=1 schedule.rate=%g run.steps=200",
            rates[i]);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        double loss = seen.result.score.loss / seen.result.score.samples / 0.5;
        cr_assert(i ? loss >= 1e3 : loss <= 1e-3, "rate %g: grew by %g", rates[i], loss);
        seen_close(&seen);
    }
}

/* ---- the same bits -------------------------------------------------------------------------- */

/* Every worker's x after 20 steps. */
struct moment {
    float *x[TEAM_MOST];
};

static void keep_moment(void *with, const struct worker *w, struct vec answer) {
    struct moment *m = with;
    (void)answer;
    if (w->steps == 20) m->x[w->rank] = runs_copy(w->q, m->x[w->rank], w->x);
}

/* NCCL adds in an order of its own when it is free to; through the host it is always rank order. */
static void run_moment(struct moment *m, int p, int n, const char *how) {
    struct seen seen;
    *m = (struct moment){0};
    struct watch watch = {.rounded = keep_moment, .with = m};
    run_words(&seen, &watch,
        "run.strategy=allreduce run.workers=%d quadratic.n=%d run.steps=20 quadratic.spread=2 "
        "quadratic.sigma=1 optimizer.kind=momentum quadratic.samples=100 run.eval_every=3 "
        "run.comm=host %s",
        p, n, how);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int r = 0; r < p; r++) {
        cr_assert(m->x[r] != NULL, "worker %d made %ld steps", r, seen.steps[r]);
        cr_assert(memcmp(m->x[r], m->x[0], (size_t)n * sizeof(float)) == 0,
            "workers 0 and %d of %d differ, %d floats, %s", r, p, n, how);
    }
    seen_close(&seen);
}

static void check_same(int p, int n, const char *how, const char *other) {
    struct moment a, b;
    run_moment(&a, p, n, how);
    run_moment(&b, p, n, other);
    for (int r = 0; r < p; r++) {
        cr_assert(memcmp(a.x[r], b.x[r], (size_t)n * sizeof(float)) == 0,
            "worker %d of %d, %d floats: %s and %s differ", r, p, n, how, other);
        free(a.x[r]);
        free(b.x[r]);
    }
}

Test(allreduce, gives_the_same_bits_again_in_any_order) {
    static const int sizes[] = {1, 2, 3, 4, 8, CROWD}, floats[] = {1, 31, 255, 1001};
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < 4; j++) {
            check_same(sizes[i], floats[j], "run.order=fixed", "run.order=free");
        }
        check_same(sizes[i], 255, "run.order=fixed", "run.order=fixed run.max_lag=1");
        check_same(sizes[i], 255, "run.order=free", "run.order=free run.max_lag=1");
    }
    check_same(3, 65537, "run.order=free", "run.order=fixed");
}

Test(allreduce, a_run_that_diverges_says_so) {
    struct seen seen;
    run_words(&seen, NULL,
        "run.strategy=allreduce run.workers=4 quadratic.n=33 schedule.rate=100 run.steps=1000");
    cr_assert(seen.end == STATUS_DIVERGED, "%d: %s", (int)seen.end, seen.why);
    cr_assert(strstr(seen.why, "schedule.rate") != NULL, "%s", seen.why);
    seen_close(&seen);
}

/* A sum goes around in 2 (p - 1) / p of a vector, to and from each worker at each step. */
Test(allreduce, moves_the_bytes_that_its_help_says) {
    struct seen seen;
    run_words(&seen, NULL, "run.strategy=allreduce run.workers=3 run.steps=20 quadratic.n=100");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    double want = 20 * 3 * 2 * (2 / 3.0) * 100 * 4;
    cr_assert(fabs(seen.result.bytes - want) <= 1e-9 * want, "%g", seen.result.bytes);
    seen_close(&seen);
}
