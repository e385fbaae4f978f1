/* The oracle: replicas in double, each stepped by its own gradients, and the means of the papers. */
#include "runs.h"

#include "check.h"
#include "tasks/task.h"

TestSuite(local_sgd, .timeout = 120);

/* As in test_easgd.c: roundings of 2^-23 in replicas of about 3, forgotten over tens of steps. */
static const double TOLERANCE = 2e-5;

/* How it is run. H(t) for a period that begins with step t, where it is not H all the time. */
struct how {
    int H, groups, blocks;
    const char *momentum, *more;
    int (*period)(const struct problem *o, int t);
    int (*blocks_at)(const struct problem *o, int t);
};

/* ---- the oracle ----------------------------------------------------------------------------- */

static int group_of(const struct problem *o, int groups, int r) { return r * groups / o->p; }

/* All of one group, or, for groups = 1, of the team. */
static void average(struct replica *a, const struct problem *o, int groups, const char *momentum) {
    for (int g = 0; g < groups; g++) {
        for (int i = 0; i < o->n; i++) {
            double x = 0, v = 0;
            int members = 0;
            for (int r = 0; r < o->p; r++) {
                if (group_of(o, groups, r) != g) continue;
                x += a[r].x[i];
                v += a[r].v[i];
                members++;
            }
            for (int r = 0; r < o->p; r++) {
                if (group_of(o, groups, r) != g) continue;
                a[r].x[i] = x / members;
                if (!strcmp(momentum, "average")) a[r].v[i] = v / members;
                if (!strcmp(momentum, "reset")) a[r].v[i] = 0;
            }
        }
    }
}

/* Means taken: of all, and by groups. */
struct means {
    int all, grouped;
};

/* Returns the steps made by each: whole rounds. */
static int replay(
    struct replica *a, const struct problem *o, const struct how *how, struct means *n) {
    int t = 0;
    for (int r = 0; r < o->p; r++) replica_start(&a[r], o, r);
    for (*n = (struct means){0}; t < o->steps; n->all++) {
        int H = how->period ? how->period(o, t) : how->H;
        int blocks = how->blocks_at ? how->blocks_at(o, t) : how->blocks;
        for (int block = 1; block <= blocks; block++) {
            for (int end = t + H; t < end; t++) {
                for (int r = 0; r < o->p; r++) replica_grad(&a[r], o);
                for (int r = 0; r < o->p; r++) replica_step(&a[r], o, problem_rate(o, t));
            }
            average(a, o, block < blocks ? how->groups : 1, how->momentum);
            n->grouped += block < blocks;
        }
    }
    return t;
}

/* ---- against the engine --------------------------------------------------------------------- */

/* What the help says a mean moves, for all workers of it. */
static double bytes_of(const struct problem *o, const struct how *how, const struct means *n) {
    double vectors = 1 + (!strcmp(how->momentum, "average") && o->kind != KIND_SGD);
    double all = 2.0 * (o->p - 1) * n->all, grouped = 2.0 * (o->p - how->groups) * n->grouped;
    return (all + grouped) * vectors * o->n * (double)sizeof(float);
}

static void compare_in(const struct problem *o, const struct how *how, const char *order) {
    static struct replica a[TEAM_MOST];
    char words[1024];
    struct seen seen;
    struct means means;
    problem_words(o, words, sizeof words);
    run_words(&seen, NULL,
        "%s run.strategy=local_sgd local_sgd.H=%d local_sgd.groups=%d local_sgd.blocks=%d "
        "local_sgd.momentum=%s run.order=%s %s",
        words, how->H, how->groups, how->blocks, how->momentum, order, how->more);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    int steps = replay(a, o, how, &means);
    double bytes = bytes_of(o, how, &means);
    for (int r = 0; r < o->p; r++) {
        cr_assert(seen.steps[r] == steps && seen.rounds[r] == means.all,
            "worker %d made %ld steps in %ld rounds, not %d in %d, H=%d %s %s", r, seen.steps[r],
            seen.rounds[r], steps, means.all, how->H, how->more, words);
        check_close(seen.x[r], a[r].x, (size_t)o->n, TOLERANCE, 0,
            "x of worker %d of %d, H=%d groups=%d blocks=%d %s %s %s", r, o->p, how->H, how->groups,
            how->blocks, how->momentum, how->more, words);
        check_close(seen.answer[r], a[r].x, (size_t)o->n, TOLERANCE, 0, "the answer, %s", words);
    }
    cr_assert(fabs(seen.result.bytes - bytes) <= 1e-9 * bytes, "%g bytes, not %g, H=%d %s",
        seen.result.bytes, bytes, how->H, words);
    seen_close(&seen);
}

static void compare(const struct problem *o, const struct how *how) {
    compare_in(o, how, "free");
    compare_in(o, how, "fixed");
}

static struct problem problem(int p) {
    return (struct problem){.p = p,
        .n = 33,
        .steps = 60,
        .samples = 10 * p, /* an epoch is ten steps of each */
        .rate = 0.1,
        .delta = 0.9,
        .h_min = 0.25,
        .h_max = 2,
        .spread = 1.5,
        .start = 1};
}

static const struct how plain = {.H = 1, .groups = 1, .blocks = 1, .momentum = "keep", .more = ""};

static const int SIZES[] = {1, 2, 3, 8};

Test(local_sgd, takes_the_mean_after_each_period) {
    static const int periods[] = {1, 3, 7, 60};
    for (int i = 0; i < 4 * 4 * 3; i++) {
        struct problem o = problem(SIZES[i % 4]);
        struct how how = plain;
        how.H = periods[i / 4 % 4];
        o.kind = i / 16;
        compare(&o, &how);
    }
}

Test(local_sgd, groups_take_means_of_their_own_between) {
    static const int layouts[][3] = {
        {2, 2, 3}, {3, 2, 2}, {3, 3, 2}, {8, 2, 4}, {8, 3, 2}, {8, 1, 2}};
    for (int i = 0; i < 6; i++) {
        struct problem o = problem(layouts[i][0]);
        struct how how = plain;
        how.groups = layouts[i][1];
        how.blocks = layouts[i][2];
        how.H = 1 + i % 3;
        o.kind = i % 3;
        compare(&o, &how);
    }
}

Test(local_sgd, momentum_is_kept_averaged_or_reset) {
    static const char *const momenta[] = {"keep", "average", "reset"};
    for (int i = 0; i < 3 * 3 * 2; i++) {
        struct problem o = problem(i < 9 ? 3 : 8);
        struct how how = plain;
        o.kind = i % 3;
        o.lambda = 0.1;
        how.momentum = momenta[i / 3 % 3];
        how.H = 4;
        how.groups = i < 9 ? 1 : 2;
        how.blocks = i < 9 ? 1 : 3;
        compare(&o, &how);
    }
}

/* ---- periods that change -------------------------------------------------------------------- */

/* Ten steps are an epoch; the rate drops at epoch 3. */
static int until_step_30(const struct problem *o, int t) {
    (void)o;
    return t < 30 ? 1 : 5;
}

static int two_blocks_from_step_30(const struct problem *o, int t) {
    (void)o;
    return t < 30 ? 1 : 2;
}

Test(local_sgd, post_local_begins_at_the_drop_the_epoch_or_the_step) {
    static const char *const ways[] = {"local_sgd.post=drop",
        "local_sgd.post=epoch local_sgd.post_at=3", "local_sgd.post=step local_sgd.post_at=30"};
    for (int i = 0; i < 3 * 4; i++) {
        struct problem o = problem(SIZES[i / 3]);
        struct how how = plain;
        o.drop = 3, o.factor = 0.25;
        o.warm = i % 2 ? 1.5 : 0, o.from = 0.125; /* a rate that rises has not dropped */
        o.kind = KIND_NESTEROV;
        how.H = 5;
        how.more = ways[i % 3];
        how.period = until_step_30;
        how.blocks_at = two_blocks_from_step_30;
        how.groups = o.p > 1 ? 2 : 1;
        how.blocks = 2;
        compare(&o, &how);
    }
}

static int warm_constant(const struct problem *o, int t) {
    (void)o;
    return t < 40 ? 1 : 12;
}

/* In epoch i: i 12 / 4. */
static int warm_linear(const struct problem *o, int t) {
    (void)o;
    int i = 1 + t / 10;
    return i <= 4 ? 3 * i : 12;
}

/* In epoch i: 2^floor(i log2(12) / 4), exponents 0.896, 1.79, 2.69, 3.58. */
static int warm_exponential(const struct problem *o, int t) {
    static const int H[] = {1, 2, 4, 8};
    (void)o;
    return t < 40 ? H[t / 10] : 12;
}

Test(local_sgd, warm_up_lets_the_period_grow) {
    static int (*const periods[])(const struct problem *, int) = {
        warm_constant, warm_linear, warm_exponential};
    static const char *const ways[] = {"local_sgd.warmup=constant local_sgd.warmup_epochs=4",
        "local_sgd.warmup=linear local_sgd.warmup_epochs=4",
        "local_sgd.warmup=exponential local_sgd.warmup_epochs=4"};
    for (int i = 0; i < 3 * 2; i++) {
        struct problem o = problem(i < 3 ? 2 : 3);
        struct how how = plain;
        o.steps = 80;
        how.H = 12;
        how.period = periods[i % 3];
        how.more = ways[i % 3];
        compare(&o, &how);
    }
}

/* Linear warm-up to fewer steps than epochs: i 2 / 6 is less than 1, and then no more, until i = 6. */
static int warm_slowly(const struct problem *o, int t) {
    (void)o;
    return t < 50 ? 1 : 2;
}

Test(local_sgd, a_period_is_at_least_a_step) {
    struct problem o = problem(2);
    struct how how = plain;
    how.H = 2;
    how.period = warm_slowly;
    how.more = "local_sgd.warmup=linear local_sgd.warmup_epochs=6";
    compare(&o, &how);
}

/* (0.2 / 0.1)^2 = 4 is not more than H = 5; (0.2 / 0.04)^2 = 25; at most 11 where that is said. */
static int qsr_grows(const struct problem *o, int t) {
    (void)o;
    return t < 30 ? 5 : 25;
}

static int qsr_is_capped(const struct problem *o, int t) {
    (void)o;
    return t < 30 ? 5 : 11;
}

Test(local_sgd, the_quadratic_rule_lengthens_the_period_as_the_rate_falls) {
    for (int i = 0; i < 4; i++) {
        struct problem o = problem(i < 2 ? 2 : 3);
        struct how how = plain;
        o.drop = 3, o.factor = 0.4;
        how.H = 5;
        how.period = i % 2 ? qsr_is_capped : qsr_grows;
        how.more = i % 2 ? "local_sgd.qsr=0.2001 local_sgd.H_most=11" : "local_sgd.qsr=0.2001";
        compare(&o, &how);
    }
}

/* Equal bowls of curvature 1, and a rate for which x is 0.45 times itself after 12 steps, which are an
 * epoch: losses fall by r = 0.45^(1/6) a step, and steps a .. b-1 have the mean loss
 * (r^a - r^b) / ((1 - r) (b - a)) / 2. F_0 is that of steps 0 to 11. Two epochs: F_1 / F_0 is 0.601,
 * the root 0.775, of 12 that is 9.3: 10 steps. The next interval ends with the first period that
 * ends in epoch 4 or later, at step 54: the root of F_2 / F_0 is 0.142, of 12 that is 1.7: 2 steps.
 * At step 72, epoch 6, it is less than a twelfth, and stays so. */
static int adacomm_shrinks(const struct problem *o, int t) {
    (void)o;
    return t < 24 ? 12 : t < 54 ? 10 : t < 72 ? 2 : 1;
}

/* The same where x is 0.8 times itself after an epoch. Roots: 0.906, of 12 that is 10.9: 11 steps; at
 * step 57 0.541, 6.5: 7 steps, and not the 6 that it is of 11; at step 78 0.321, 3.9: 4 steps. */
static int adacomm_shrinks_slowly(const struct problem *o, int t) {
    (void)o;
    return t < 24 ? 12 : t < 57 ? 11 : t < 78 ? 7 : 4;
}

/* Nobody moves, so F_k is F_0, which is no shorter: half of it, and half of that. */
static int adacomm_halves(const struct problem *o, int t) {
    (void)o;
    return t < 12 ? 12 : t < 24 ? 6 : t < 36 ? 3 : 1;
}

static int adacomm_takes_three_quarters(const struct problem *o, int t) {
    (void)o;
    return t < 12 ? 12 : t < 30 ? 9 : t < 36 ? 6 : t < 48 ? 4 : t < 60 ? 3 : t < 72 ? 2 : 1;
}

Test(local_sgd, adacomm_shortens_the_period_as_the_loss_falls) {
    static const struct {
        int (*period)(const struct problem *o, int t);
        double left; /* of x after an epoch */
        const char *more;
    } all[] = {{adacomm_shrinks, 0.45, "local_sgd.adacomm=2"},
        {adacomm_shrinks_slowly, 0.8, "local_sgd.adacomm=2"},
        {adacomm_halves, 1, "local_sgd.adacomm=1"},
        {adacomm_takes_three_quarters, 1, "local_sgd.adacomm=1 local_sgd.gamma=0.75"}};
    for (int i = 0; i < 3 * 4; i++) {
        struct problem o = problem(SIZES[i / 4]);
        struct how how = plain;
        o.n = 1;
        o.h_min = o.h_max = 1;
        o.spread = 0;
        o.steps = 84;
        o.samples = 12 * o.p;
        o.rate = 1 - pow(all[i % 4].left, 1 / 12.0);
        how.H = 12;
        how.period = all[i % 4].period;
        how.more = all[i % 4].more;
        compare(&o, &how);
    }
}

Test(local_sgd, two_rules_for_one_period_are_refused) {
    struct seen seen;
    run_words(&seen, NULL,
        "run.strategy=local_sgd local_sgd.qsr=0.1 local_sgd.adacomm=1 run.steps=1 quadratic.n=3");
    cr_assert_eq(seen.end, STATUS_BAD_CONFIG);
    cr_assert(strstr(seen.why, "local_sgd.adacomm"), "%s", seen.why);
}

/* ---- what must be equal --------------------------------------------------------------------- */

#define LIKE                                                                                       \
    "run.workers=%d run.steps=60 quadratic.n=33 quadratic.spread=2 quadratic.sigma=0.5 "           \
    "quadratic.h_max=2 schedule.rate=0.1 optimizer.kind=%s optimizer.decay=0.05 "                  \
    "schedule.use=step "                                                                           \
    "step.at=3 step.factor=0.25 quadratic.samples=40 "

/* Averaging parameters each step, each with its own velocity, is averaging gradients: updates are
 * linear in both. */
Test(local_sgd, with_period_1_is_synchronous_sgd) {
    static const char *const kinds[] = {"sgd", "momentum", "nesterov"};
    for (int i = 0; i < 3 * 4; i++) {
        struct seen a, b;
        int p = SIZES[i / 3];
        double want[33];
        run_words(&a, NULL, LIKE "run.strategy=local_sgd local_sgd.H=1", p, kinds[i % 3]);
        run_words(&b, NULL, LIKE "run.strategy=allreduce", p, kinds[i % 3]);
        cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
        for (int k = 0; k < 33; k++) want[k] = (double)b.x[0][k];
        for (int r = 0; r < p; r++) {
            check_close(a.x[r], want, 33, TOLERANCE, 0, "%d workers, %s", p, kinds[i % 3]);
        }
        seen_close(&a);
        seen_close(&b);
    }
}

/* NCCL adds in an order of its own where the run's order is free. */
#define LIKE_ORDERED LIKE "run.strategy=local_sgd run.comm=host "
static void check_same(int p, const char *one, const char *other) {
    struct seen a, b;
    run_words(&a, NULL, LIKE_ORDERED "%s", p, "nesterov", one);
    run_words(&b, NULL, LIKE_ORDERED "%s", p, "nesterov", other);
    cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
    cr_assert(seen_differ(&a, &b) == -1, "%d workers: %s is not %s", p, one, other);
    seen_close(&a);
    seen_close(&b);
}

Test(local_sgd, special_cases_are_the_same_bits) {
    for (int i = 0; i < 4; i++) {
        check_same(
            SIZES[i], "local_sgd.H=1", "local_sgd.H=8 local_sgd.post=step local_sgd.post_at=60");
        check_same(
            SIZES[i], "local_sgd.H=5", "local_sgd.H=5 local_sgd.blocks=1 local_sgd.groups=1");
        check_same(SIZES[i], "local_sgd.H=5 run.order=fixed", "local_sgd.H=5 run.order=free");
    }
}

/* Bowls of the same curvatures: the mean of the replicas does not know how often it was taken. */
Test(local_sgd, the_mean_does_not_depend_on_the_period) {
    static const int periods[] = {5, 20, 60};
    for (int i = 0; i < 2 * 3; i++) {
        struct seen a, b;
        double want[33];
        const char *kind = i < 3 ? "sgd" : "momentum";
        run_words(&a, NULL, LIKE "run.strategy=allreduce", 8, kind);
        run_words(&b, NULL, LIKE "run.strategy=local_sgd local_sgd.H=%d", 8, kind, periods[i % 3]);
        cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
        for (int k = 0; k < 33; k++) want[k] = (double)a.x[0][k];
        check_close(b.x[0], want, 33, TOLERANCE, 0, "H=%d, %s", periods[i % 3], kind);
        seen_close(&a);
        seen_close(&b);
    }
}

/* ---- how far replicas drift apart ----------------------------------------------------------- */

enum { DRIFT_N = 20000, DRIFT_P = 8, DRIFT_H = 11, DRIFT_ROUNDS = 10 };

/* The points of the workers' last gradients in each period: ten steps after the mean. Whoever wants
 * to see each gradient cannot have it recorded: run.graph=0. */
static float *drifted[DRIFT_P][DRIFT_ROUNDS];
static int gradients[DRIFT_P];
static struct task_ops spied_task;

static struct range spied_grad(
    struct learner *l, struct vec x, struct vec g, const struct step *step) {
    int t = gradients[l->rank]++;
    if (t % DRIFT_H == DRIFT_H - 1) {
        drifted[l->rank][t / DRIFT_H] = runs_copy(l->q, drifted[l->rank][t / DRIFT_H], x);
    }
    return task_find(tasks, "quadratic")->grad(l, x, g, step);
}

static double drift(int round) {
    double sum = 0;
    for (int i = 0; i < DRIFT_N; i++) {
        double mean = 0;
        for (int r = 0; r < DRIFT_P; r++) mean += (double)drifted[r][round][i] / DRIFT_P;
        for (int r = 0; r < DRIFT_P; r++) {
            double d = (double)drifted[r][round][i] - mean;
            sum += d * d;
        }
    }
    return sum / DRIFT_N / DRIFT_P;
}

/* (1 - 1/K) eta^2 sigma^2 sum over j < 10 of (1 - eta lambda)^2j, for K = 8, eta = 0.05,
 * lambda = 0.5, sigma = 1. A round has 7 * 20000 independent squares, ten rounds 1.4 million:
 * deviation sqrt(2 / 1.4e6) = 0.12 %, and 0.6 % is five of those. */
Test(local_sgd, replicas_drift_apart_by_what_the_theory_says) {
    static const struct task_ops *list[2] = {&spied_task};
    struct seen seen;
    struct watch watch = {.tasks = list};
    spied_task = *task_find(tasks, "quadratic");
    spied_task.grad = spied_grad;
    run_words(&seen, &watch,
        "run.strategy=local_sgd local_sgd.H=%d run.workers=%d schedule.rate=0.05 quadratic.n=%d "
        "quadratic.h_min=0.5 quadratic.h_max=0.5 quadratic.sigma=1 run.steps=%d run.graph=0",
        DRIFT_H, DRIFT_P, DRIFT_N, DRIFT_H * DRIFT_ROUNDS);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    double got = 0, want = 0.0176024;
    for (int k = 0; k < DRIFT_ROUNDS; k++) got += drift(k) / DRIFT_ROUNDS;
    cr_assert(fabs(got - want) <= 0.006 * want, "%.7f, not %.7f", got, want);
    for (int r = 0; r < DRIFT_P; r++) {
        cr_assert(memcmp(seen.x[r], seen.x[0], DRIFT_N * sizeof(float)) == 0, "no mean in the end");
        for (int k = 0; k < DRIFT_ROUNDS; k++) free(drifted[r][k]);
    }
    seen_close(&seen);
}

Test(local_sgd, settings_that_would_change_nothing_are_refused) {
    static const char *const all[][2] = {
        {"local_sgd.qsr=0.1 local_sgd.H=8 local_sgd.H_most=7", "local_sgd.H_most = 7"},
        {"local_sgd.post=epoch", "local_sgd.post=epoch"},
        {"local_sgd.post=step", "local_sgd.post_at=1000"},
        {"local_sgd.groups=2", "local_sgd.blocks"},
        {"local_sgd.groups=0", "local_sgd.blocks"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct seen seen;
        run_words(&seen, NULL, "run.strategy=local_sgd run.workers=3 run.steps=1 quadratic.n=3 %s",
            all[i][0]);
        cr_assert_eq(seen.end, STATUS_BAD_CONFIG, "%s", all[i][0]);
        cr_assert(strstr(seen.why, all[i][1]), "%s: %s", all[i][0], seen.why);
    }
}

Test(local_sgd, more_groups_than_workers_are_refused) {
    struct seen seen;
    run_words(&seen, NULL,
        "run.strategy=local_sgd run.workers=3 local_sgd.groups=4 local_sgd.blocks=2 "
        "run.steps=1 quadratic.n=3");
    cr_assert_eq(seen.end, STATUS_BAD_CONFIG);
    cr_assert(
        strstr(seen.why, "local_sgd.groups") && strstr(seen.why, "3 workers"), "%s", seen.why);
}
