/* SGD, MSGD, ASGD and MVASGD: one replica in double. */
#include "runs.h"

#include "check.h"

TestSuite(sgd, .timeout = 60);

/* As in test_easgd.c. */
static const double TOLERANCE = 2e-5;

static struct problem problem(void) {
    return (struct problem){.p = 1,
        .n = 33,
        .steps = 60,
        .samples = 10,
        .rate = 0.1,
        .delta = 0.9,
        .h_min = 0.25,
        .h_max = 2,
        .spread = 1.5,
        .start = 1,
        .warm = 2.5,
        .from = 0.125};
}

enum { X, MEAN, MOVING };

/* x after the steps, and what is judged: x itself, the mean of all x so far, or a moving average. */
static void compare(const struct problem *o, const char *strategy, int judged, double alpha) {
    static struct replica a;
    double z[BOWL_MOST] = {0};
    char words[1024], more[64] = "";
    struct seen seen;
    problem_words(o, words, sizeof words);
    if (judged == MOVING) snprintf(more, sizeof more, "mvasgd.alpha=%g", alpha);
    run_words(&seen, NULL, "%s run.strategy=%s %s", words, strategy, more);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert_eq(seen.steps[0], o->steps);
    replica_start(&a, o, 0);
    for (int i = 0; i < o->n; i++) z[i] = judged == MOVING ? o->start : 0;
    for (int t = 0; t < o->steps; t++) {
        replica_grad(&a, o);
        replica_step(&a, o, problem_rate(o, t));
        for (int i = 0; i < o->n; i++) {
            if (judged == X) z[i] = a.x[i];
            if (judged == MEAN) z[i] += a.x[i] / o->steps;
            if (judged == MOVING) z[i] = (1 - alpha) * z[i] + alpha * a.x[i];
        }
    }
    check_close(seen.x[0], a.x, (size_t)o->n, TOLERANCE, 0, "x, %s %s", strategy, words);
    check_close(seen.answer[0], z, (size_t)o->n, TOLERANCE, 0, "answer, %s %s", strategy, words);
    seen_close(&seen);
}

Test(sgd, follows_its_equation) {
    struct problem o = problem();
    compare(&o, "sgd", X, 0);
    o.lambda = 0.3;
    compare(&o, "sgd", X, 0);
}

Test(sgd, asgd_is_judged_by_the_mean) {
    struct problem o = problem();
    for (o.steps = 1; o.steps <= 60; o.steps += 59) compare(&o, "asgd", MEAN, 0);
}

Test(sgd, mvasgd_is_judged_by_a_moving_average) {
    struct problem o = problem();
    compare(&o, "mvasgd", MOVING, 0.001);
    compare(&o, "mvasgd", MOVING, 0.125);
    compare(&o, "mvasgd", MOVING, 0);
    compare(&o, "mvasgd", MOVING, 1);
}

static void check_same(const char *one, const char *other) {
    struct seen a, b;
    const char *like = "run.workers=1 run.steps=60 quadratic.n=33 quadratic.spread=2 "
                       "quadratic.sigma=0.5 quadratic.samples=25 run.eval_every=1";
    run_words(&a, NULL, "%s %s", like, one);
    run_words(&b, NULL, "%s %s", like, other);
    cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
    cr_assert_eq(seen_differ(&a, &b), -1, "%s is not %s", one, other);
    seen_close(&a);
    seen_close(&b);
}

Test(sgd, msgd_is_nesterovs_unless_the_user_says_otherwise) {
    static struct replica a;
    struct problem o = problem();
    char words[1024];
    struct seen seen;
    check_same("run.strategy=msgd", "run.strategy=sgd optimizer.kind=nesterov");
    check_same(
        "run.strategy=msgd optimizer.kind=momentum", "run.strategy=sgd optimizer.kind=momentum");
    check_same("run.strategy=msgd optimizer.kind=sgd", "run.strategy=sgd");
    o.kind = KIND_NESTEROV;
    problem_words(&o, words, sizeof words);
    *strstr(words, "optimizer.kind=nesterov ") = '\0';
    run_words(&seen, NULL,
        "%s run.strategy=msgd optimizer.momentum=0.9 schedule.use=warmup warmup.epochs=2.5 "
        "warmup.from=0.125",
        words);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    replica_start(&a, &o, 0);
    for (int t = 0; t < o.steps; t++) {
        replica_grad(&a, &o);
        replica_step(&a, &o, problem_rate(&o, t));
    }
    check_close(seen.x[0], a.x, (size_t)o.n, TOLERANCE, 0, "msgd");
    seen_close(&seen);
}

/* The replicas, to the bit; what easgd judges is a center that nothing pulls. */
Test(sgd, eamsgd_of_one_worker_without_a_spring_is_msgd) {
    struct seen a, b;
    const char *like = "run.workers=1 run.steps=60 quadratic.n=33 quadratic.spread=2 "
                       "quadratic.sigma=0.5";
    run_words(&a, NULL, "%s run.strategy=msgd", like);
    run_words(
        &b, NULL, "%s run.strategy=easgd optimizer.kind=nesterov easgd.beta=0 easgd.tau=10", like);
    cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
    cr_assert(a.steps[0] == 60 && b.steps[0] == 60);
    cr_assert(memcmp(a.x[0], b.x[0], 33 * sizeof(float)) == 0);
    seen_close(&a);
    seen_close(&b);
}

Test(sgd, more_than_one_worker_is_refused_in_words) {
    static const char *const names[] = {"sgd", "msgd", "asgd", "mvasgd"};
    for (int i = 0; i < 4; i++) {
        struct seen seen;
        run_words(&seen, NULL, "run.strategy=%s run.workers=%d run.steps=9", names[i], 2 + i);
        cr_assert(seen.end == STATUS_BAD_CONFIG, "%d", (int)seen.end);
        cr_assert(strstr(seen.why, names[i]) && strstr(seen.why, "run.workers=1"), "%s", seen.why);
        seen_close(&seen);
    }
}

Test(sgd, moves_nothing) {
    static const char *const names[] = {"sgd", "msgd", "asgd", "mvasgd"};
    for (int i = 0; i < 4; i++) {
        struct seen seen;
        run_words(&seen, NULL, "run.strategy=%s run.workers=1 run.steps=9", names[i]);
        cr_assert(seen.end == STATUS_OK && seen.result.bytes == 0, "%g", seen.result.bytes);
        seen_close(&seen);
    }
}
