/* The oracle: AD-PSGD in double, an even rank's parameters apart from the copy that it steps. */
#include "turns.h"

#include "check.h"

TestSuite(adpsgd, .timeout = 120);

/* As in test_easgd.c: roundings of 2^-23 in replicas of about 3, forgotten over tens of steps. */
static const double TOLERANCE = 2e-5;

struct world {
    const struct problem *o;
    struct replica own[TEAM_MOST];
    double x[TEAM_MOST][BOWL_MOST]; /* of even ranks: what others see */
    long draws[TEAM_MOST];
    int phase[TEAM_MOST], is_ring, t;
};

static int event_of_even(struct world *s, int r) {
    struct replica *a = &s->own[r];
    int n = s->o->n;
    switch (s->phase[r]++) {
    case 0: /* reads, and takes its gradient there */
        memcpy(a->x, s->x[r], sizeof a->x);
        return 0;
    case 1: /* adds the step to what the parameters are by now */
        replica_grad(a, s->o);
        for (int i = 0; i < n; i++) s->x[r][i] -= a->x[i];
        replica_step(a, s->o, problem_rate(s->o, s->t));
        for (int i = 0; i < n; i++) s->x[r][i] += a->x[i];
        return 0;
    default:
        s->phase[r] = 0;
        return 1;
    }
}

static int event_of_odd(struct world *s, int r) {
    struct replica *a = &s->own[r];
    int p = s->o->p, j;
    if (s->phase[r]++ > 0) {
        s->phase[r] = 0;
        return 1;
    }
    replica_grad(a, s->o);
    j = turns_draw(r, &s->draws[r], s->is_ring ? 2 : (p + 1) / 2);
    j = s->is_ring ? (j == 0 ? r - 1 : (r + 1) % p) : 2 * j;
    for (int i = 0; i < s->o->n; i++) a->x[i] = s->x[j][i] = (a->x[i] + s->x[j][i]) / 2;
    replica_step(a, s->o, problem_rate(s->o, s->t));
    return 0;
}

static int event(void *with, int r) {
    return r % 2 ? event_of_odd(with, r) : event_of_even(with, r);
}

static void replay(struct world *s, const struct problem *o) {
    s->o = o;
    for (int r = 0; r < o->p; r++) {
        replica_start(&s->own[r], o, r);
        memcpy(s->x[r], s->own[r].x, sizeof s->x[r]);
    }
    for (int turn = s->t = 0; s->t < o->steps; s->t++) turn = turns_round(o->p, turn, event, s);
}

static void compare(const struct problem *o, const char *peers) {
    static struct world s;
    char words[1024];
    double mean[BOWL_MOST] = {0};
    struct seen seen;
    problem_words(o, words, sizeof words);
    run_words(&seen, NULL, "%s run.order=fixed run.strategy=adpsgd adpsgd.peers=%s", words, peers);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    s = (struct world){.is_ring = !strcmp(peers, "ring")};
    replay(&s, o);
    for (int r = 0; r < o->p; r++) {
        const double *x = r % 2 ? s.own[r].x : s.x[r];
        for (int i = 0; i < o->n; i++) mean[i] += x[i] / o->p;
        cr_assert_eq(seen.steps[r], o->steps);
        /* What is judged is what others see, and an even rank's copy is brought up to that. */
        check_close(seen.x[r], x, (size_t)o->n, TOLERANCE, 0, "x of worker %d of %d, %s %s", r,
            o->p, peers, words);
    }
    for (int r = 0; r < o->p; r++) {
        check_close(
            seen.answer[r], mean, (size_t)o->n, TOLERANCE, 0, "the mean, %s %s", peers, words);
    }
    int vectors = 3 * ((o->p + 1) / 2) + 2 * (o->p / 2);
    double bytes = (double)vectors * o->steps * o->n * (double)sizeof(float);
    cr_assert(fabs(seen.result.bytes - bytes) <= 1e-9 * bytes, "%g bytes, not %g",
        seen.result.bytes, bytes);
    seen_close(&seen);
}

Test(adpsgd, in_fixed_order_is_its_papers) {
    static const int sizes[] = {1, 2, 3, 4, 8};
    for (int i = 0; i < 5 * 3 * 2; i++) {
        struct problem o = {.p = sizes[i % 5],
            .n = 33,
            .steps = 60,
            .samples = 10 * sizes[i % 5],
            .rate = 0.1,
            .delta = 0.9,
            .h_min = 0.25,
            .h_max = 2,
            .spread = 1.5,
            .start = 1,
            .kind = i / 5 % 3,
            .drop = 3,
            .factor = 0.5};
        compare(&o, i < 15 ? "uniform" : "ring");
    }
}

/* ---- what is conserved ---------------------------------------------------------------------- */

enum { KEPT = 300001, LOOKS = 4 };

/* p times what is judged, the mean, at each evaluation; and worker 1's own. */
struct sums {
    float *mean[LOOKS], *own[LOOKS];
    int looks;
};

static void keep_mean(void *with, const struct worker *w, struct vec answer) {
    struct sums *s = with;
    if (w->rank != 1 || s->looks >= LOOKS) return;
    s->mean[s->looks] = runs_copy(w->q, NULL, answer);
    s->own[s->looks++] = runs_copy(w->q, NULL, w->x);
}

/* Workers come to about their targets, deviation 10, in ten steps; from the first evaluation on the
 * rate is 0 and all that happens is averages of two, chunk by chunk. The mean of four floats of
 * size 10 to 40 errs by some of their last bits an exchange. */
static void check_kept(const char *how, int p) {
    struct sums s = {0};
    struct seen seen;
    struct watch watch = {.judged = keep_mean, .with = &s};
    run_words(&seen, &watch,
        "run.strategy=adpsgd run.workers=%d quadratic.n=%d quadratic.samples=%d "
        "quadratic.spread=10 "
        "schedule.rate=0.9 schedule.use=step step.at=10 step.factor=0 run.eval_every=10 "
        "run.epochs=%d %s",
        p, KEPT, p, 10 * LOOKS, how);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(s.looks == LOOKS, "%d evaluations", s.looks);
    double moved = 0;
    for (int k = 0; k < LOOKS; k++) {
        for (int i = 0; i < KEPT; i++) {
            double before = (double)s.mean[0][i], after = (double)s.mean[k][i];
            cr_assert(fabs(after - before) <= 5e-5, "element %d: %.9g became %.9g, %s", i, before,
                after, how);
            moved += fabs((double)s.own[k][i] - (double)s.own[0][i]) / KEPT;
        }
    }
    for (int k = 0; k < LOOKS; k++) {
        free(s.mean[k]);
        free(s.own[k]);
    }
    cr_assert(moved >= 0.1, "only %g moved", moved);
    seen_close(&seen);
}

Test(adpsgd, averages_in_free_order_lose_nothing) {
    check_kept("run.max_lag=0", 4);
    check_kept("adpsgd.peers=ring", 4);
}

Test(adpsgd, averages_in_fixed_order_lose_nothing) { check_kept("run.order=fixed", 3); }
