/* local_sgd.c -- local SGD: H steps alone, then everyone takes the mean of the replicas.
 *
 * S. Stich: Local SGD converges fast and communicates little, ICLR 2019 (arXiv:1805.09767); post-local
 * and hierarchical: T. Lin, S. Stich, K. Patel, M. Jaggi: Don't use large mini-batches, use local
 * SGD, ICLR 2020 (arXiv:1808.07217); qsr: X. Gu, K. Lyu, S. Arora, J. Zhang, L. Huang: A quadratic
 * synchronization rule for distributed deep learning, ICLR 2024 (arXiv:2310.14423); adacomm: J. Wang,
 * G. Joshi: Adaptive communication strategies to achieve the best error-runtime trade-off in
 * local-update SGD, MLSys 2019 (arXiv:1810.08313).
 *
 *     x_i <- optimizer(x_i, g_i(x_i))       H times
 *     x_i <- (1/p) sum_j x_j                after steps H, 2 H, ...
 *
 * Hierarchical: that mean is a group's, and at each `blocks`-th time everyone's instead.
 *
 * How long a period is, is decided when it begins, by numbers that all workers share:
 *     post-local    H = 1 until the rate first drops, or until a given epoch or step
 *     warm-up       in epoch i = 1 .. P:  1;  max(1, floor(i H / P));  or 2^floor(i log2(H) / P)
 *     qsr           max(H, floor((qsr / eta)^2)), with the rate eta of the period's first step;
 *                   at most H_most, which is ours: rates that end at 0 would never let a period end
 *     adacomm       from one interval of so many epochs to the next, with the training loss F_k:
 *                   ceil(sqrt(F_k / F_0) H) or, where that is no shorter than it was,
 *                   max(1, floor(gamma times what it was)) steps
 *
 * What the papers leave open: until the switch of post-local SGD parameters are averaged, as they
 * are after it, and everyone's even where there are groups. A rate that has dropped is one below
 * any before it. Warm-up counts the epochs of the run. adacomm's paper has intervals of seconds, which
 * no run has twice, and losses at a point: here F_k is the mean over the interval that ends, F_0 over
 * the run's first period, both over all workers.
 */
#include <math.h>

#include "engine/strategy.h"

enum { POST_NONE, POST_DROP, POST_EPOCH, POST_STEP };
enum { WARMUP_NONE, WARMUP_CONSTANT, WARMUP_LINEAR, WARMUP_EXPONENTIAL };

struct local_sgd {
    struct strategy base;
    int H, H_most;
    int post;
    float post_at;
    int warmup, warmup_epochs;
    float qsr, adacomm, gamma;
    int groups, blocks;
    int momentum; /* enum momentum */
};

struct local {
    float rate;  /* the highest at the start of a period so far */
    int dropped; /* it once was lower */

    /* adacomm: H, 0 before the first period has ended; F_0; all losses, and how many, when the
     * interval began; the epoch in which it ends */
    int H;
    double first, sum, count, end;
};

static const struct option options[] = {
    {"H", OPTION_INT, offsetof(struct local_sgd, H), 8, 1, 1e6, "steps from mean to mean", NULL},
    {"post", OPTION_CHOICE, offsetof(struct local_sgd, post), POST_NONE, 0, 3,
        "none|drop|epoch|step: H = 1 until the rate drops first, or until post_at", NULL},
    {"post_at", OPTION_REAL, offsetof(struct local_sgd, post_at), 0, 0, 1e9,
        "the epoch, or the step of each worker, for post=epoch and post=step", NULL},
    {"warmup", OPTION_CHOICE, offsetof(struct local_sgd, warmup), WARMUP_NONE, 0, 3,
        "none|constant|linear|exponential: steps from mean to mean in the first epochs; see above",
        NULL},
    {"warmup_epochs", OPTION_INT, offsetof(struct local_sgd, warmup_epochs), 5, 1, 1e6,
        "epochs of the run after which they are H", NULL},
    {"qsr", OPTION_REAL, offsetof(struct local_sgd, qsr), 0, 0, 1e6,
        "steps from mean to mean grow as (qsr / rate)^2 where that is more than H; 0: they do not. "
        "In units of the rate",
        NULL},
    {"adacomm", OPTION_REAL, offsetof(struct local_sgd, adacomm), 0, 0, 1e9,
        "epochs of the run after which steps from mean to mean shrink as the root of the training "
        "loss does; 0: they do not",
        NULL},
    {"gamma", OPTION_REAL, offsetof(struct local_sgd, gamma), 0.5, 0, 1,
        "adacomm: by this factor instead, where they would not shrink", NULL},
    {"H_most", OPTION_INT, offsetof(struct local_sgd, H_most), 1000, 1, 1e6,
        "but to no more than this: a run ends, and is judged, between periods", NULL},
    {"groups", OPTION_INT, offsetof(struct local_sgd, groups), 1, 0, 1e6,
        "so many groups of neighbors average more often than all do; 0: those who sit together",
        NULL},
    {"blocks", OPTION_INT, offsetof(struct local_sgd, blocks), 1, 1, 1e6,
        "means of a group from mean of all to mean of all, that one included", NULL},
    {"momentum", OPTION_CHOICE, offsetof(struct local_sgd, momentum), MOMENTUM_KEEP, 0, 2,
        "keep|average|reset: what a mean does to the optimizer's velocity or moments", NULL},
    {0},
};

static const struct field local_fields[] = {
    {"rate", FIELD_FLOAT, offsetof(struct local, rate)},
    {"dropped", FIELD_INT, offsetof(struct local, dropped)},
    {"H", FIELD_INT, offsetof(struct local, H)},
    {"first", FIELD_DOUBLE, offsetof(struct local, first)},
    {"sum", FIELD_DOUBLE, offsetof(struct local, sum)},
    {"count", FIELD_DOUBLE, offsetof(struct local, count)},
    {"end", FIELD_DOUBLE, offsetof(struct local, end)},
    {0},
};

static enum status local_sgd_open(struct strategy *base, struct team *team, struct vec x0) {
    const struct local_sgd *s = (const struct local_sgd *)base;
    (void)x0;
    if (s->qsr > 0 && s->adacomm > 0) {
        return fail(STATUS_BAD_CONFIG,
            "local_sgd.qsr and local_sgd.adacomm are two rules for one period: set one to 0");
    }
    if (s->qsr > 0 && s->H_most < s->H) {
        return fail(STATUS_BAD_CONFIG,
            "local_sgd.H_most = %d is less than local_sgd.H = %d: qsr only makes H longer, so "
            "H_most must be more",
            s->H_most, s->H);
    }
    if ((s->post == POST_EPOCH || s->post == POST_STEP) && !(s->post_at > 0)) {
        return fail(STATUS_BAD_CONFIG,
            "local_sgd.post=%s with post_at = 0 changes nothing: say when, as local_sgd.post_at=%s",
            s->post == POST_EPOCH ? "epoch" : "step", s->post == POST_EPOCH ? "20" : "1000");
    }
    if (s->groups != 1 && s->blocks == 1) {
        return fail(STATUS_BAD_CONFIG,
            "local_sgd.groups = %d changes nothing with local_sgd.blocks = 1, where each mean is "
            "one of all: set blocks to 2 or more",
            s->groups);
    }
    if (s->groups <= team_size(team)) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG,
        "local_sgd.groups = %d: there are only %d workers to put into groups", s->groups,
        team_size(team));
}

/* Post-local SGD: has the time come for periods longer than a step? */
static int is_local(const struct local_sgd *s, const struct worker *w) {
    struct local *l = w->mine;
    float rate = worker_rate(w);
    if (rate < l->rate) l->dropped = 1;
    if (rate > l->rate) l->rate = rate;
    if (s->post == POST_DROP) return l->dropped;
    if (s->post == POST_EPOCH) return team_epochs(w) >= (double)s->post_at;
    if (s->post == POST_STEP) return (double)w->steps >= (double)s->post_at;
    return 1;
}

static int warm(const struct local_sgd *s, int epoch, int H) {
    double share = (double)epoch / s->warmup_epochs;
    if (s->warmup == WARMUP_NONE || epoch > s->warmup_epochs) return H;
    if (s->warmup == WARMUP_CONSTANT) return 1;
    if (s->warmup == WARMUP_LINEAR) return (int)fmax(1, floor(H * share));
    return (int)exp2(floor(log2(H) * share));
}

static int period(const struct local_sgd *s, const struct worker *w) {
    double long_enough = floor(pow((double)s->qsr / (double)worker_rate(w), 2));
    const struct local *l = w->mine;
    int H = l->H > 0 ? l->H : s->H, epoch = 1 + (int)fmin(team_epochs(w), s->warmup_epochs);
    if (s->qsr > 0 && long_enough > H) H = (int)fmin(long_enough, fmax(s->H_most, H));
    return warm(s, epoch, H);
}

/* At the end of a period, alike on all: F_0, or the H of the next interval where this one ends. */
static void adapt(const struct local_sgd *s, struct worker *w) {
    struct local *l = w->mine;
    double epochs = team_epochs(w), count;
    if (l->H > 0 && epochs < l->end) return;
    double sum = team_losses(w, &count), loss = (sum - l->sum) / (count - l->count);
    if (l->H == 0) {
        l->H = s->H;
        l->first = loss;
        l->end = (double)s->adacomm;
        if (epochs < l->end) return;
    }
    double H = ceil(sqrt(loss / l->first) * s->H);
    if (!(H < l->H)) H = floor((double)s->gamma * l->H);
    l->H = (int)fmax(1, H);
    l->sum = sum;
    l->count = count;
    l->end = (double)s->adacomm * (floor(epochs / (double)s->adacomm) + 1);
}

static int group_of(const struct local_sgd *s, const struct worker *w, int rank) {
    return s->groups > 0 ? rank * s->groups / w->size : team_group(w->team, rank);
}

static enum status local_sgd_round(struct strategy *base, struct worker *w) {
    const struct local_sgd *s = (const struct local_sgd *)base;
    int local = is_local(s, w), H = local ? period(s, w) : 1, blocks = local ? s->blocks : 1;
    int first = w->rank, end = w->rank + 1;
    while (first > 0 && group_of(s, w, first - 1) == group_of(s, w, w->rank)) first--;
    while (end < w->size && group_of(s, w, end) == group_of(s, w, w->rank)) end++;
    for (int block = 1; block <= blocks; block++) {
        for (int t = 0; t < H; t++) {
            worker_grad(w);
            worker_step(w);
        }
        if (block == blocks) first = 0, end = w->size;
        team_mean_of(w, w->x, first, end - first);
        team_momentum(w, (enum momentum)s->momentum, first, end - first);
    }
    if (s->adacomm > 0) adapt(s, w);
    worker_note(w, "period", H, OVER_MEAN);
    return STATUS_OK;
}

extern const struct strategy_ops strategy_local_sgd;

const struct strategy_ops strategy_local_sgd = {
    .name = "local_sgd",
    .summary =
        "local SGD: H steps alone, then the mean; post-local, hierarchical, adaptive periods",
    .source = "Stich, ICLR 2019, arXiv:1805.09767; Lin, Stich, Patel, Jaggi, ICLR 2020,\n"
              "arXiv:1808.07217; qsr: Gu and others, ICLR 2024, arXiv:2310.14423; adacomm: Wang,\n"
              "Joshi, MLSys 2019, arXiv:1810.08313",
    .help =
        "Workers take H steps alone and then all go on from the mean of their replicas. With\n"
        "H = 1 and optimizer.kind sgd, momentum or nesterov it is synchronous SGD, so\n"
        "schedule.rate grows with the workers as for allreduce, with a warm-up; it does not\n"
        "change with H. A run ends between rounds: its steps should be many times H.\n"
        "post=drop is post-local SGD: H = 1 until schedule.use=step first lowers the rate.\n"
        "warmup starts with a part of H: in epoch i of P = warmup_epochs, linear has\n"
        "i / P of H, rounded down but at least 1, so it does not begin at 1; exponential 2^(i\n"
        "log2(H) / P), its exponent rounded down; constant 1; then all have H.\n"
        "qsr is in units of the rate: H grows where the rate is below qsr / sqrt(H), as late in\n"
        "a cosine schedule.\n"
        "adacomm=5: begin with a large H; every 5 epochs it shrinks as the root of the training\n"
        "loss has, or by gamma where that is no less. These are epochs of the run, drawn by all\n"
        "workers together, as for run.epochs. The column period says what H is.\n"
        "groups=2 blocks=4: each half averages every H steps, all every 4 H. Momentum stays\n"
        "each worker's own unless momentum says otherwise; reset also forgets adam's moments,\n"
        "and its steps are longer until they are back.\n"
        "Moves 2 (p-1)/p times the parameters a mean of p workers and worker, and with\n"
        "momentum=average as much again for each vector of the optimizer.",
    .size = sizeof(struct local_sgd),
    .local_size = sizeof(struct local),
    .options = options,
    .local_fields = local_fields,
    .open = local_sgd_open,
    .round = local_sgd_round,
};
