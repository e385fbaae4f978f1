/* The oracles are the papers' equations in double: replicas, their mean, the outer step. */
#include "runs.h"

#include "check.h"

TestSuite(outer, .timeout = 120);

/* As in test_easgd.c: roundings of 2^-23 in replicas of about 3, forgotten over tens of steps; an
 * outer momentum of 0.9 magnifies them by up to ten. */
static const double TOLERANCE = 4e-5;

/* What is common to all workers, and how it moves. */
struct outer {
    double W[BOWL_MOST], start[BOWL_MOST], D[BOWL_MOST], late[TEAM_MOST][BOWL_MOST];
};

struct how {
    const char *words, *momentum;
    int H, fragments, delay;
    double mix;

    /* Moves element i, the replicas' mean being `mean`. */
    void (*step)(const struct how *how, struct outer *s, int i, double mean, double gamma);
    double mu, rate, alpha;
};

/* ---- the papers' steps ---------------------------------------------------------------------- */

static void bmuf_classical(
    const struct how *how, struct outer *s, int i, double mean, double gamma) {
    (void)gamma;
    double G = mean - s->start[i];
    s->D[i] = how->mu * s->D[i] + how->rate * G;
    s->W[i] += s->D[i];
    s->start[i] = s->W[i];
}

static void bmuf_nesterov(
    const struct how *how, struct outer *s, int i, double mean, double gamma) {
    bmuf_classical(how, s, i, mean, gamma);
    s->start[i] = s->W[i] + how->mu * s->D[i];
}

static void slowmo(const struct how *how, struct outer *s, int i, double mean, double gamma) {
    s->D[i] = how->mu * s->D[i] + (s->start[i] - mean) / gamma;
    s->start[i] -= how->alpha * gamma * s->D[i];
    s->W[i] = s->start[i];
}

static void diloco(const struct how *how, struct outer *s, int i, double mean, double gamma) {
    (void)gamma;
    double d = s->start[i] - mean;
    s->D[i] = how->mu * s->D[i] + d;
    s->start[i] -= how->rate * (d + how->mu * s->D[i]);
    s->W[i] = s->start[i];
}

static void lookahead(const struct how *how, struct outer *s, int i, double mean, double gamma) {
    (void)gamma;
    s->start[i] += how->alpha * (mean - s->start[i]);
    s->W[i] = s->start[i];
}

/* ---- the loop around them ------------------------------------------------------------------- */

/* Fragment k has its outer step with the period's step `due`; the rest of x is none of its. */
static void fragment_step(struct replica *a, struct outer *s, const struct problem *o,
    const struct how *how, int k, int t, double gamma) {
    int due = how->H * (k + 1) / how->fragments;
    int from = o->n * k / how->fragments, to = o->n * (k + 1) / how->fragments;
    for (int i = from; i < to; i++) {
        if (t == due - how->delay) {
            for (int r = 0; r < o->p; r++) s->late[r][i] = a[r].x[i];
        }
        if (t != due) continue;
        double mean = 0;
        for (int r = 0; r < o->p; r++) mean += s->late[r][i] / o->p;
        how->step(how, s, i, mean, gamma);
        for (int r = 0; r < o->p; r++) {
            a[r].x[i] = how->mix * a[r].x[i] + (1 - how->mix) * s->start[i];
        }
    }
}

static void settle_momentum(struct replica *a, const struct problem *o, const char *momentum) {
    for (int i = 0; i < o->n; i++) {
        double mean = 0;
        for (int r = 0; r < o->p; r++) mean += a[r].v[i] / o->p;
        for (int r = 0; r < o->p; r++) {
            if (!strcmp(momentum, "average")) a[r].v[i] = mean;
            if (!strcmp(momentum, "reset")) a[r].v[i] = 0;
        }
    }
}

static int replay(
    struct replica *a, struct outer *s, const struct problem *o, const struct how *how) {
    int at = 0;
    *s = (struct outer){0};
    for (int r = 0; r < o->p; r++) replica_start(&a[r], o, r);
    for (int i = 0; i < o->n; i++) s->W[i] = s->start[i] = o->start;
    while (at < o->steps) {
        double gamma = problem_rate(o, at);
        for (int t = 1; t <= how->H; t++, at++) {
            for (int r = 0; r < o->p; r++) {
                replica_grad(&a[r], o);
                replica_step(&a[r], o, problem_rate(o, at));
            }
            for (int k = 0; k < how->fragments; k++) fragment_step(a, s, o, how, k, t, gamma);
        }
        settle_momentum(a, o, how->momentum);
    }
    return at;
}

/* ---- against the engine --------------------------------------------------------------------- */

static void compare_in(const struct problem *o, const struct how *how, const char *order) {
    static struct replica a[TEAM_MOST];
    static struct outer s;
    char words[1024];
    struct seen seen;
    problem_words(o, words, sizeof words);
    run_words(&seen, NULL, "%s run.order=%s run.strategy=%s", words, order, how->words);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    int steps = replay(a, &s, o, how);
    for (int r = 0; r < o->p; r++) {
        cr_assert(seen.steps[r] == steps && seen.rounds[r] == steps / how->H, "%ld steps of %d",
            seen.steps[r], steps);
        check_close(seen.x[r], a[r].x, (size_t)o->n, TOLERANCE, 0, "x of worker %d of %d, %s %s", r,
            o->p, how->words, words);
        check_close(seen.answer[r], s.W, (size_t)o->n, TOLERANCE, 0,
            "the answer, %d workers, %s %s", o->p, how->words, words);
    }
    double vectors = 1 + (!strcmp(how->momentum, "average") && o->kind != KIND_SGD);
    double bytes = 2.0 * (o->p - 1) * o->n * (double)sizeof(float) * vectors * (steps / how->H);
    cr_assert(fabs(seen.result.bytes - bytes) <= 1e-9 * bytes, "%g bytes, not %g, %s",
        seen.result.bytes, bytes, how->words);
    seen_close(&seen);
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

static const int SIZES[] = {1, 2, 3, 8};

/* All sizes and inner optimizers; the rate drops between two periods, and rises in the first. */
static void compare(const struct how *how) {
    for (int i = 0; i < 4 * 3; i++) {
        struct problem o = problem(SIZES[i % 4]);
        o.kind = i / 4;
        o.drop = 3, o.factor = 0.25;
        o.warm = 0.5, o.from = 0.125;
        compare_in(&o, how, "free");
        compare_in(&o, how, "fixed");
    }
}

Test(outer, bmuf_is_its_papers) {
    struct how how = {.words = "bmuf bmuf.H=5 bmuf.mu=0.6 bmuf.zeta=0.8 bmuf.nesterov=0",
        .momentum = "reset",
        .H = 5,
        .fragments = 1,
        .step = bmuf_classical,
        .mu = 0.6,
        .rate = 0.8};
    compare(&how);
    how.words = "bmuf bmuf.H=5 bmuf.mu=0.6 bmuf.zeta=0.8 bmuf.momentum=average";
    how.momentum = "average";
    how.step = bmuf_nesterov;
    compare(&how);
}

Test(outer, bmufs_momentum_is_by_the_workers_if_nothing_is_said) {
    for (int i = 0; i < 4; i++) {
        struct problem o = problem(SIZES[i]);
        struct how how = {.words = "bmuf bmuf.H=6",
            .momentum = "reset",
            .H = 6,
            .fragments = 1,
            .step = bmuf_nesterov,
            .mu = 1 - 1.0 / o.p,
            .rate = 1};
        compare_in(&o, &how, "free");
    }
}

Test(outer, slowmo_is_its_papers) {
    struct how how = {.words = "slowmo slowmo.H=5 slowmo.alpha=0.9 slowmo.beta=0.6",
        .momentum = "keep",
        .H = 5,
        .fragments = 1,
        .step = slowmo,
        .mu = 0.6,
        .alpha = 0.9};
    compare(&how);
}

Test(outer, diloco_is_its_papers) {
    struct how how = {.words = "diloco diloco.H=5 diloco.rate=0.7 diloco.mu=0.8",
        .momentum = "keep",
        .H = 5,
        .fragments = 1,
        .step = diloco,
        .mu = 0.8,
        .rate = 0.7};
    compare(&how);
}

Test(outer, diloco_in_fragments_late_and_mixed) {
    static const struct {
        int H, fragments, delay;
        double mix;
    } ways[] = {{5, 5, 0, 0}, {6, 4, 0, 0.5}, {10, 3, 2, 0}, {10, 1, 9, 0.25}, {7, 2, 2, 1}};
    for (int i = 0; i < 5; i++) {
        char words[256];
        snprintf(words, sizeof words,
            "diloco diloco.H=%d diloco.mu=0.8 diloco.fragments=%d diloco.delay=%d diloco.mix=%g",
            ways[i].H, ways[i].fragments, ways[i].delay, ways[i].mix);
        struct how how = {.words = words,
            .momentum = "keep",
            .H = ways[i].H,
            .fragments = ways[i].fragments,
            .delay = ways[i].delay,
            .mix = ways[i].mix,
            .step = diloco,
            .mu = 0.8,
            .rate = 0.7};
        for (int k = 0; k < 4; k++) {
            struct problem o = problem(SIZES[k]);
            o.kind = k % 3;
            compare_in(&o, &how, i % 2 ? "free" : "fixed");
        }
    }
}

Test(outer, lookahead_is_its_papers) {
    struct how how = {.words = "lookahead lookahead.k=4 lookahead.alpha=0.6",
        .momentum = "keep",
        .H = 4,
        .fragments = 1,
        .step = lookahead,
        .alpha = 0.6};
    compare(&how);
}

/* ---- what must be equal --------------------------------------------------------------------- */

/* The replicas, and where `answers` says so what is judged. */
static void check_alike(const char *one, const char *other, int answers) {
    for (int i = 0; i < 4; i++) {
        struct seen a, b;
        struct problem o = problem(SIZES[i]);
        char words[1024];
        double want[BOWL_MOST];
        o.kind = KIND_NESTEROV;
        problem_words(&o, words, sizeof words);
        run_words(&a, NULL, "%s quadratic.sigma=0.5 run.strategy=%s", words, one);
        run_words(&b, NULL, "%s quadratic.sigma=0.5 run.strategy=%s", words, other);
        cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
        for (int r = 0; r < o.p; r++) {
            for (int k = 0; k < o.n; k++) want[k] = (double)b.x[r][k];
            check_close(
                a.x[r], want, (size_t)o.n, TOLERANCE, 0, "%d workers: %s, %s", o.p, one, other);
            for (int k = 0; k < o.n; k++) want[k] = (double)b.answer[r][k];
            if (!answers) continue;
            check_close(a.answer[r], want, (size_t)o.n, TOLERANCE, 0, "%d workers: %s, %s", o.p,
                one, other);
        }
        seen_close(&a);
        seen_close(&b);
    }
}

Test(outer, diloco_is_nesterov_bmuf_from_start_to_start) {
    check_alike("diloco diloco.H=5 diloco.rate=0.7 diloco.mu=0.9",
        "bmuf bmuf.H=5 bmuf.zeta=0.7 bmuf.mu=0.9 bmuf.momentum=keep", 0);
}

Test(outer, slowmo_at_a_constant_rate_is_classical_bmuf) {
    check_alike("slowmo slowmo.H=5 slowmo.alpha=1 slowmo.beta=0.6",
        "bmuf bmuf.H=5 bmuf.zeta=1 bmuf.mu=0.6 bmuf.nesterov=0 bmuf.momentum=keep", 1);
}

Test(outer, without_outer_momentum_all_are_local_sgd) {
    static const char *const ways[] = {"bmuf bmuf.H=5 bmuf.mu=0 bmuf.momentum=keep",
        "bmuf bmuf.H=5 bmuf.mu=0 bmuf.nesterov=0 bmuf.momentum=keep",
        "slowmo slowmo.H=5 slowmo.beta=0", "diloco diloco.H=5 diloco.mu=0 diloco.rate=1",
        "lookahead lookahead.k=5 lookahead.alpha=1"};
    for (int i = 0; i < 5; i++) check_alike(ways[i], "local_sgd local_sgd.H=5", 1);
}

/* The first period begins with rate 0, and so do those from epoch 3 on. */
Test(outer, slowmo_survives_a_rate_of_0) {
    struct seen seen;
    run_words(&seen, NULL,
        "run.strategy=slowmo slowmo.H=5 run.workers=2 run.steps=60 quadratic.n=33 "
        "schedule.rate=0.1 "
        "quadratic.samples=20 quadratic.spread=1 schedule.use=warmup,step warmup.epochs=1 "
        "step.at=3 step.factor=0");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int i = 0; i < 33; i++) cr_assert(fabs((double)seen.x[0][i]) <= 10, "%d", i);
    seen_close(&seen);
}

Test(outer, what_cannot_be_cut_or_delayed_is_refused) {
    static const char *const ways[][2] = {
        {"diloco.H=10 diloco.fragments=11", "diloco.fragments = 11"},
        {"diloco.H=10 diloco.fragments=4", "parameters, 3"},
        {"diloco.H=10 diloco.fragments=3 diloco.delay=3", "diloco.delay = 3"},
        {"diloco.H=10 diloco.delay=10", "10 steps"}};
    for (int i = 0; i < 4; i++) {
        struct seen seen;
        run_words(&seen, NULL, "run.strategy=diloco run.workers=2 quadratic.n=3 run.steps=10 %s",
            ways[i][0]);
        cr_assert_eq(seen.end, STATUS_BAD_CONFIG, "%s", ways[i][0]);
        cr_assert(strstr(seen.why, ways[i][1]) != NULL, "%s", seen.why);
        seen_close(&seen);
    }
}
