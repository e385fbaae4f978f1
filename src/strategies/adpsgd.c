/* adpsgd.c -- asynchronous decentralized SGD: each step averages with one neighbor.
 *
 * X. Lian, W. Zhang, C. Zhang, J. Liu: Asynchronous decentralized parallel stochastic gradient
 * descent, ICML 2018 (arXiv:1710.06952). Worker i, at its own pace:
 *
 *     g_i at x_i as it is read
 *     for a neighbor j, at once:  x_i, x_j <- (x_i + x_j) / 2
 *     x_i <- x_i - eta g_i
 *
 * So that two who average never wait for each other, the graph is bipartite, as in the paper: odd
 * ranks choose neighbors among the even ones, who are chosen and choose nobody. An even rank's
 * parameters stand where others reach them, in a shared vector: it reads them, takes its gradient
 * and adds its step, whatever has happened to them since. Momentum stays a worker's own.
 *
 * A ring of an odd number is not bipartite: ranks 0 and p - 1 are both even, so with peers=ring they
 * do not average, and the ring is open there.
 */
#include "engine/strategy.h"

enum { PEERS_UNIFORM, PEERS_RING };

struct adpsgd {
    struct strategy base;
    int peers;
    struct shared *x[TEAM_MOST]; /* of even ranks */
    char name[TEAM_MOST][16];
};

struct local {
    struct vec step; /* even ranks: x before, then how far it went; all: the mean, when judged */
};

static const struct option options[] = {
    {"peers", OPTION_CHOICE, offsetof(struct adpsgd, peers), PEERS_UNIFORM, 0, 1,
        "uniform|ring: an odd rank averages with any even one, or with the two beside it", NULL},
    {0},
};

static int is_chosen(const struct worker *w) { return w->rank % 2 == 0; }

static enum status adpsgd_open(struct strategy *base, struct team *team, struct vec x0) {
    struct adpsgd *s = (struct adpsgd *)base;
    for (int r = 0; r < team_size(team); r += 2) {
        snprintf(s->name[r], sizeof s->name[r], "x%d", r);
        TRY(shared_open(&s->x[r], team, s->name[r], r, x0));
    }
    return STATUS_OK;
}

static enum status adpsgd_join(struct strategy *base, struct worker *w) {
    struct local *l = w->mine;
    (void)base;
    return worker_vec(w, "step", &l->step, w->x.n, SCRATCH);
}

/* Returns the version of what is read. */
static double read_own(const struct adpsgd *s, struct worker *w) {
    shared_lock(w, s->x[w->rank]);
    shared_read(w, s->x[w->rank], w->x);
    double version = shared_version(s->x[w->rank]);
    shared_unlock(w, s->x[w->rank]);
    return version;
}

static int draw_neighbor(const struct adpsgd *s, struct worker *w) {
    if (s->peers == PEERS_UNIFORM) return 2 * (int)worker_draw(w, (uint32_t)(w->size + 1) / 2);
    return worker_draw(w, 2) ? (w->rank + 1) % w->size : w->rank - 1;
}

static void choosing_round(const struct adpsgd *s, struct worker *w) {
    worker_grad(w);
    shared_elastic(w, s->x[draw_neighbor(s, w)], 0.5f, w->x);
    worker_step(w);
}

static void chosen_round(const struct adpsgd *s, struct worker *w) {
    struct local *l = w->mine;
    double version = read_own(s, w);
    vec_copy(w->q, l->step, w->x);
    worker_grad(w);
    worker_step(w);
    vec_diff(w->q, l->step, 1, w->x, l->step);
    shared_lock(w, s->x[w->rank]);
    worker_staleness(w, shared_version(s->x[w->rank]) - version);
    shared_mix(w, s->x[w->rank], 1, 1, l->step);
    shared_unlock(w, s->x[w->rank]);
}

static enum status adpsgd_round(struct strategy *base, struct worker *w) {
    const struct adpsgd *s = (const struct adpsgd *)base;
    if (is_chosen(w)) {
        chosen_round(s, w);
    } else {
        choosing_round(s, w);
    }
    return STATUS_OK;
}

/* An even rank's own copy is what it read last, which its next round would read anew anyway. */
static struct vec adpsgd_answer(struct strategy *base, struct worker *w) {
    struct local *l = w->mine;
    if (is_chosen(w)) (void)read_own((const struct adpsgd *)base, w);
    vec_copy(w->q, l->step, w->x);
    team_mean(w, l->step);
    return l->step;
}

static void adpsgd_close(struct strategy *base) {
    struct adpsgd *s = (struct adpsgd *)base;
    for (int r = 0; r < TEAM_MOST; r++) shared_close(s->x[r]);
}

extern const struct strategy_ops strategy_adpsgd;

const struct strategy_ops strategy_adpsgd = {
    .name = "adpsgd",
    .summary = "asynchronous decentralized SGD: each step averages with one neighbor",
    .source = "Lian, Zhang, Zhang, Liu, ICML 2018, arXiv:1710.06952",
    .help =
        "At each step of an odd rank, counted from 0, it and an even one both become the mean\n"
        "of the two, and nobody waits but for the lock. schedule.rate is that of a single\n"
        "worker or, since mixing averages the workers' steps, more: up to workers times as\n"
        "much, as for allreduce, where replicas stay close. The mean of the replicas is judged.\n"
        "With peers=ring and an odd number of workers the first and the last are both even, and\n"
        "the ring is open between them.\n"
        "Columns staleness, staleness_most and staleness_histogram: how often others averaged\n"
        "with an even rank from its gradient's point to its step.\n"
        "Moves twice the parameters a step of an odd rank, and three times a step of an even\n"
        "one, whose own parameters stand where all reach them: one read, and one sum.",
    .size = sizeof(struct adpsgd),
    .local_size = sizeof(struct local),
    .options = options,
    .open = adpsgd_open,
    .join = adpsgd_join,
    .round = adpsgd_round,
    .answer = adpsgd_answer,
    .close = adpsgd_close,
};
