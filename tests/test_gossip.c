/* The oracle is GoSGD as its paper lists it, in double: boxes are queues of messages, each with a
 * copy of the replica and its weight, and are emptied one message after the other. */
#include "turns.h"

#include "check.h"

/* Another copy than the one in the list, whose insides can be called. */
#define strategy_gossip gossip_in_the_test
#include "strategies/gossip.c"

TestSuite(gossip, .timeout = 120);

/* Replicas of size about 3 are rounded to half of 2^-22 some times a step; contraction forgets
 * that over a few tens of steps, momentum 0.9 magnifies it by at most ten. */
static const double TOLERANCE = 2e-5;

/* ---- the paper's boxes ---------------------------------------------------------------------- */

enum { QUEUE = 2048 };

struct message {
    double a, x[BOWL_MOST];
};

struct worker_of {
    struct replica own;
    double a;
    long draws, sent, moved; /* moved: vectors, as the help counts them */
    int phase, waiting;      /* messages in the box */
    struct message *box;
};

enum { TAKE, SEND, END };

struct world {
    const struct problem *o;
    struct worker_of at[TEAM_MOST];
    const char *peers;
    double p, bias;
    int groups, t;
};

static void world_open(struct world *s, const struct problem *o) {
    s->o = o;
    for (int r = 0; r < o->p; r++) {
        s->at[r] =
            (struct worker_of){.a = 1.0 / o->p, .box = calloc(QUEUE, sizeof(struct message))};
        replica_start(&s->at[r].own, o, r);
    }
}

static void world_close(struct world *s) {
    for (int r = 0; r < s->o->p; r++) free(s->at[r].box);
}

static void take_all(struct worker_of *w, int n) {
    for (int k = 0; k < w->waiting; k++) {
        const struct message *m = &w->box[k];
        double all = m->a + w->a;
        for (int i = 0; i < n; i++) w->own.x[i] = m->a / all * m->x[i] + w->a / all * w->own.x[i];
        w->a = all;
    }
    w->waiting = 0;
}

static void send_to(struct worker_of *from, struct worker_of *to, int n) {
    cr_assert(to->waiting < QUEUE, "the oracle's box is full");
    struct message *m = &to->box[to->waiting++];
    from->a /= 2;
    m->a = from->a;
    memcpy(m->x, from->own.x, (size_t)n * sizeof *m->x);
}

/* ---- who is sent to ------------------------------------------------------------------------- */

/* The i-th of those who are in rank's group, or of those who are not. */
static int pick(const struct world *s, int rank, int mates, int i, int *count) {
    int found = -1;
    *count = 0;
    for (int r = 0; r < s->o->p; r++) {
        int same = r * s->groups / s->o->p == rank * s->groups / s->o->p;
        if (r == rank || same != mates) continue;
        if ((*count)++ == i) found = r;
    }
    return found;
}

static int peer_of(struct world *s, int rank) {
    struct worker_of *w = &s->at[rank];
    int p = s->o->p, bits = 0, mates, strangers;
    while ((1 << bits) < p) bits++;
    if (!strcmp(s->peers, "uniform")) {
        int k = turns_draw(rank, &w->draws, p - 1);
        return k < rank ? k : k + 1;
    }
    if (!strcmp(s->peers, "ring")) return (rank + (w->sent % 2 ? p - 1 : 1)) % p;
    if (!strcmp(s->peers, "exponential")) return (rank + (1 << w->sent % bits)) % p;
    if (!strcmp(s->peers, "hypercube")) return rank ^ (1 << w->sent % bits);
    if (!strcmp(s->peers, "complete")) return (rank + 1 + (int)(w->sent % (p - 1))) % p;
    pick(s, rank, 1, 0, &mates);
    pick(s, rank, 0, 0, &strangers);
    int near = mates > 0;
    if (mates > 0 && strangers > 0) near = turns_chance(rank, &w->draws, s->bias);
    int k = turns_draw(rank, &w->draws, near ? mates : strangers);
    return pick(s, rank, near, k, &mates);
}

/* ---- a worker's events, in the paper's order ------------------------------------------------ */

static int event(void *with, int rank) {
    struct world *s = with;
    struct worker_of *w = &s->at[rank];
    const struct problem *o = s->o;
    switch (w->phase) {
    case TAKE:
        w->moved += w->waiting > 0;
        take_all(w, o->n);
        replica_grad(&w->own, o);
        replica_step(&w->own, o, problem_rate(o, s->t));
        w->phase = o->p > 1 && turns_chance(rank, &w->draws, s->p) ? SEND : END;
        return 0;
    case SEND: {
        struct worker_of *to = &s->at[peer_of(s, rank)];
        w->moved += to->waiting > 0 ? 2 : 1;
        w->sent++;
        send_to(w, to, o->n);
        w->phase = END;
        return 0;
    }
    default:
        w->phase = TAKE;
        return 1;
    }
}

static void replay(struct world *s) {
    for (int turn = s->t = 0; s->t < s->o->steps; s->t++)
        turn = turns_round(s->o->p, turn, event, s);
}

/* ---- against the engine --------------------------------------------------------------------- */

static void compare(const struct problem *o, const char *peers, double p) {
    static struct world s;
    char words[1024];
    double mean[BOWL_MOST] = {0}, moved = 0;
    struct seen seen;
    s = (struct world){.peers = peers, .p = p, .bias = 0.7, .groups = o->p == 5 ? 1 : 3};
    problem_words(o, words, sizeof words);
    run_words(&seen, NULL,
        "%s run.order=fixed run.strategy=gossip gossip.p=%.9g gossip.peers=%s gossip.bias=%.9g "
        "gossip.groups=%d",
        words, p, peers, s.bias, strcmp(peers, "near") ? 0 : s.groups);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    world_open(&s, o);
    replay(&s);
    for (int r = 0; r < o->p; r++) {
        cr_assert_eq(seen.steps[r], o->steps);
        check_close(seen.x[r], s.at[r].own.x, (size_t)o->n, TOLERANCE, 0,
            "x of worker %d of %d, %s, p=%g, %s", r, o->p, peers, p, words);
        moved += (double)s.at[r].moved;
    }
    for (int r = 0; r < o->p; r++) {
        take_all(&s.at[r], o->n);
        for (int i = 0; i < o->n; i++) mean[i] += s.at[r].own.x[i] / o->p;
    }
    for (int r = 0; r < o->p; r++) {
        check_close(seen.answer[r], mean, (size_t)o->n, TOLERANCE, 0, "the mean, %s, p=%g, %s",
            peers, p, words);
    }
    double bytes = moved * o->n * (double)sizeof(float);
    cr_assert(fabs(seen.result.bytes - bytes) <= 1e-9 * bytes, "%g bytes, not %g",
        seen.result.bytes, bytes);
    world_close(&s);
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

static const int SIZES[] = {1, 2, 3, 8};

Test(gossip, in_fixed_order_is_its_papers) {
    static const double ps[] = {0, 0.03, 0.4, 1};
    for (int i = 0; i < 4 * 4 * 3; i++) {
        struct problem o = problem(SIZES[i % 4]);
        o.kind = i / 16;
        o.drop = 3, o.factor = 0.5;
        compare(&o, "uniform", ps[i / 4 % 4]);
    }
}

Test(gossip, sends_to_the_peers_that_are_asked_for) {
    static const char *const ways[] = {"near", "ring", "exponential", "hypercube", "complete"};
    static const int sizes[] = {2, 3, 5, 8};
    for (int i = 0; i < 4 * 5; i++) {
        struct problem o = problem(sizes[i / 5]);
        int power = (o.p & (o.p - 1)) == 0;
        if (power || strcmp(ways[i % 5], "hypercube") != 0) compare(&o, ways[i % 5], 0.6);
    }
}

/* ---- the law of contraction ----------------------------------------------------------------- */

/* In exact numbers, one message from any to any other, taken in at once, shrinks the sum of
 * (a_i (x_i - S))^2, S = sum a x, by 1 - 1 / (2 p) - 1 / (p (p - 1)) on average. */
static const struct law {
    int p;
    double factor;
} laws[] = {{2, 0.25}, {4, 0.7916667}, {8, 0.91964286}, {16, 0.9645833}};

enum { LAW_N = 5 };

static double law_before, law_after; /* over all pairs; rank 0's */

/* Where each begins, before each message. */
static double law_start(int p, int rank, float x[LAW_N]) {
    double target[BOWL_MOST], sum = 0;
    struct problem o = {.n = LAW_N, .spread = 1.5};
    bowl_target(&o, rank, target);
    for (int i = 0; i < LAW_N; i++) x[i] = (float)target[i];
    for (int r = 0; r < p; r++) sum += 1 + r % 3;
    return (1 + rank % 3) / sum;
}

static double law_spread(struct worker *w) {
    float x[LAW_N];
    double S[LAW_N] = {0}, sum = 0, weight = ((const struct local *)w->mine)->weight;
    for (int r = 0; r < w->size; r++) {
        double a = law_start(w->size, r, x);
        for (int i = 0; i < LAW_N; i++) S[i] += a * (double)x[i];
    }
    runs_fetch(w->q, x, w->x);
    for (int i = 0; i < LAW_N; i++) sum += pow(weight * ((double)x[i] - S[i]), 2);
    return team_sum1(w, sum);
}

/* Gossip's own message and taking in, on real replicas and boxes, from one start for each pair. */
static void law_message(const struct gossip *s, struct worker *w, int from, int turn) {
    struct local *l = w->mine;
    float x[LAW_N];
    l->weight = law_start(w->size, w->rank, x);
    l->sent = turn;
    stream_copy(w->q, w->x.at, x, sizeof x);
    double before = law_spread(w);
    if (w->rank == from) push(s, w);
    (void)team_sum1(w, 0); /* everyone waits */
    if (w->rank == peers_to(GRAPH_COMPLETE, w->size, from, turn)) take_in(s, w);
    double after = law_spread(w), weights = team_sum1(w, l->weight);
    if (w->rank != 0) return;
    cr_assert(fabs(weights - 1) <= 1e-12, "the weights are %.15g", weights);
    law_before += before;
    law_after += after;
}

static enum status law_round(struct strategy *base, struct worker *w) {
    for (int from = 0; from < w->size; from++) {
        for (int turn = 0; turn < w->size - 1; turn++) {
            law_message((const struct gossip *)base, w, from, turn);
        }
    }
    worker_grad(w);
    worker_step(w);
    return STATUS_OK;
}

static enum status law_open(struct strategy *base, struct team *team, struct vec x0) {
    ((struct gossip *)base)->peers = PEERS_GRAPH + GRAPH_COMPLETE;
    return gossip_open(base, team, x0);
}

/* Squares of floats: to some of their last bits. */
Test(gossip, a_message_contracts_as_the_theory_says) {
    struct strategy_ops law = gossip_in_the_test;
    struct watch watch = {.strategy = &law};
    law.name = "law";
    law.open = law_open;
    law.round = law_round;
    law.answer = NULL;
    for (size_t k = 0; k < sizeof laws / sizeof *laws; k++) {
        struct seen seen;
        law_before = law_after = 0;
        run_words(&seen, &watch, "run.strategy=law run.workers=%d run.steps=1 quadratic.n=%d",
            laws[k].p, LAW_N);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        double got = law_after / law_before;
        cr_assert(fabs(got - laws[k].factor) <= 1e-6, "%d workers: %.9g, not %.9g", laws[k].p, got,
            laws[k].factor);
        seen_close(&seen);
    }
}

/* ---- what is conserved, whoever comes when -------------------------------------------------- */

enum { KEPT = 1001, LOOKS = 5 };

struct sums {
    double x[TEAM_MOST][LOOKS][KEPT], weight[TEAM_MOST][LOOKS], in_flight[LOOKS];
    int looks[TEAM_MOST];
};

static double weight_of(const struct worker *w) {
    for (int i = 0; strategies[i]; i++) {
        const struct field *f = strategies[i]->local_fields;
        if (strcmp(strategies[i]->name, "gossip") != 0) continue;
        while (strcmp(f->name, "weight") != 0) f++;
        return *(const double *)((const char *)w->mine + f->at);
    }
    return (double)NAN;
}

/* All have gathered: boxes stand still. Shared vectors are listed as they were opened, by rank. */
static void keep_sum(void *with, const struct worker *w, struct vec answer) {
    struct sums *s = with;
    int k = s->looks[w->rank]++;
    struct shared *box = team_shared(w->team);
    (void)answer;
    if (k >= LOOKS) return;
    for (int r = 0; r < w->rank; r++) box = shared_next(box);
    double a = weight_of(w), mass = *shared_mass(box);
    float *x = runs_copy(w->q, NULL, w->x), *sent = runs_copy(w->q, NULL, shared_vec(box));
    for (int i = 0; i < KEPT; i++) {
        s->x[w->rank][k][i] = a * (double)x[i] + (mass > 0 ? mass * (double)sent[i] : 0);
    }
    free(x);
    free(sent);
    s->weight[w->rank][k] = a + mass;
    cr_assert(a > 0, "worker %d has no weight", w->rank);
}

/* Workers come to about their targets, deviation 10, in ten steps; from the first evaluation on the
 * rate is 0 and all that happens is messages, some hundred. Each rounds numbers of size 10 to 40,
 * by 2^-20 at most, with a weight of about 1 / p. */
static void check_kept(const char *how, int p) {
    static struct sums s;
    struct seen seen;
    struct watch watch = {.judged = keep_sum, .with = &s};
    s = (struct sums){0};
    run_words(&seen, &watch,
        "run.strategy=gossip run.workers=%d quadratic.n=%d quadratic.samples=%d "
        "quadratic.spread=10 "
        "schedule.rate=0.9 schedule.use=step step.at=10 step.factor=0 run.eval_every=10 "
        "run.epochs=%d %s",
        p, KEPT, p, 10 * LOOKS, how);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(s.looks[0] == LOOKS, "%d evaluations", s.looks[0]);
    double moved = 0;
    for (int k = 0; k < LOOKS; k++) {
        double all = 0;
        for (int r = 0; r < p; r++) all += s.weight[r][k];
        cr_assert(fabs(all - 1) <= 1e-12, "the weights are %.15g, %s", all, how);
        for (int i = 0; i < KEPT; i++) {
            double first = 0, now = 0;
            for (int r = 0; r < p; r++) first += s.x[r][0][i];
            for (int r = 0; r < p; r++) now += s.x[r][k][i];
            cr_assert(
                fabs(now - first) <= 5e-5, "element %d: %.9g became %.9g, %s", i, first, now, how);
            moved += fabs(s.x[0][k][i] - s.x[0][0][i]) / KEPT;
        }
    }
    cr_assert(moved >= 0.1, "only %g moved", moved);
    seen_close(&seen);
}

Test(gossip, messages_in_free_order_lose_nothing) {
    check_kept("gossip.p=1 run.max_lag=0", 4);
    check_kept("gossip.p=0.5", 8);
    check_kept("gossip.p=1 gossip.peers=exponential run.max_lag=1", 3);
}

Test(gossip, messages_in_fixed_order_lose_nothing) {
    check_kept("gossip.p=1 run.order=fixed", 3);
    check_kept("gossip.p=0.3 gossip.peers=near gossip.groups=2 run.order=fixed", 8);
}

/* The third stands still while the others make hundreds of steps, or thousands: what weight they keep is
 * below all floats, or all doubles. The optimum is at 0, and all have come there but for the noise. */
Test(gossip, a_peer_that_stands_still_takes_weight_and_leaves_numbers) {
    static const char *const still[] = {"1s", "5s"};
    for (int i = 0; i < 2; i++) {
        struct seen seen;
        run_words(&seen, NULL,
            "run.strategy=gossip gossip.p=1 run.workers=3 run.max_lag=0 run.epochs=20 "
            "quadratic.n=10 quadratic.samples=1000 quadratic.sigma=0.1 schedule.rate=0.1 "
            "emulate.time=virtual emulate.compute=1ms emulate.freeze=2@3+%s",
            still[i]);
        cr_assert_eq(seen.end, STATUS_OK, "%s: %s", still[i], seen.why);
        for (int k = 0; k < 10; k++) {
            double x = (double)seen.answer[0][k];
            cr_assert(fabs(x) < 0.3, "%s: element %d is %g", still[i], k, x);
        }
        seen_close(&seen);
    }
}

/* ---- special cases -------------------------------------------------------------------------- */

static void check_same(const char *one, const char *other) {
    struct seen a, b;
    const char *like = "run.order=fixed run.steps=60 quadratic.n=33 quadratic.spread=2 "
                       "quadratic.sigma=0.5 optimizer.kind=nesterov";
    run_words(&a, NULL, "%s %s", like, one);
    run_words(&b, NULL, "%s %s", like, other);
    cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
    for (int r = 0; r < a.size; r++) {
        cr_assert(memcmp(a.x[r], b.x[r], 33 * sizeof(float)) == 0, "%s is not %s", one, other);
    }
    seen_close(&a);
    seen_close(&b);
}

Test(gossip, without_messages_everyone_is_alone) {
    check_same("run.workers=3 run.strategy=gossip gossip.p=0", "run.workers=3 run.strategy=alone");
    check_same("run.workers=1 run.strategy=gossip gossip.p=1", "run.workers=1 run.strategy=alone");
    check_same("run.workers=1 run.strategy=gossip gossip.p=1 gossip.peers=near",
        "run.workers=1 run.strategy=alone");
}

Test(gossip, a_hypercube_of_six_is_refused) {
    struct seen seen;
    run_words(&seen, NULL, "run.strategy=gossip gossip.peers=hypercube run.workers=6 run.steps=1");
    cr_assert_eq(seen.end, STATUS_BAD_CONFIG);
    cr_assert(strstr(seen.why, "gossip.peers") && strstr(seen.why, "not 6"), "%s", seen.why);
}

Test(gossip, groups_are_refused_where_no_peer_is_chosen_by_them) {
    static const char *const peers[] = {"uniform", "ring", "complete"};
    for (int i = 0; i < 3; i++) {
        struct seen seen;
        run_words(&seen, NULL,
            "run.strategy=gossip gossip.groups=2 gossip.peers=%s run.workers=4 run.steps=1",
            peers[i]);
        cr_assert_eq(seen.end, STATUS_BAD_CONFIG, "%s", peers[i]);
        cr_assert(strstr(seen.why, "gossip.groups") && strstr(seen.why, "gossip.peers=near"), "%s",
            seen.why);
    }
}
