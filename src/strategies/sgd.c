/* sgd.c -- one worker alone: SGD, MSGD, ASGD, MVASGD.
 *
 * The sequential baselines of S. Zhang, A. Choromanska, Y. LeCun: Deep learning with elastic
 * averaging SGD, NIPS 2015 (arXiv:1412.6651), section 4: what parallel methods are to beat.
 *
 *     SGD      x <- x - eta g(x)
 *     MSGD     v <- delta v - eta g(x + delta v);  x <- x + v        (Nesterov's)
 *     ASGD     SGD, and after the t-th step z <- (1 - 1/t) z + x / t: the mean of all x
 *     MVASGD   SGD, and after each step z <- (1 - alpha) z + alpha x, where z starts as x does
 *
 * x is judged, or z where there is one. The step is the optimizer's: MSGD is SGD with
 * optimizer.kind=nesterov, and delta is optimizer.momentum.
 */
#include "engine/strategy.h"

struct sgd {
    struct strategy base;
    float alpha; /* of mvasgd */
};

struct local {
    struct vec z;
};

static const struct option mvasgd_options[] = {
    {"alpha", OPTION_REAL, offsetof(struct sgd, alpha), 0.001, 0, 1,
        "weight of the newest x in the average", NULL},
    {0},
};

static enum status asgd_join(struct strategy *s, struct worker *w) {
    (void)s;
    struct local *l = w->mine;
    TRY(worker_vec(w, "average", &l->z, w->x.n, STATE));
    vec_copy(w->q, l->z, w->x);
    return STATUS_OK;
}

static enum status sgd_round(struct strategy *s, struct worker *w) {
    (void)s;
    worker_grad(w);
    worker_step(w);
    return STATUS_OK;
}

static void average(struct worker *w, float a) {
    struct local *l = w->mine;
    vec_mix(w->q, l->z, 1 - a, a, w->x);
}

static enum status asgd_round(struct strategy *s, struct worker *w) {
    TRY(sgd_round(s, w));
    average(w, 1 / (float)w->steps);
    return STATUS_OK;
}

static enum status mvasgd_round(struct strategy *s, struct worker *w) {
    TRY(sgd_round(s, w));
    average(w, ((struct sgd *)s)->alpha);
    return STATUS_OK;
}

static struct vec asgd_answer(struct strategy *s, struct worker *w) {
    (void)s;
    return ((struct local *)w->mine)->z;
}

#define SOURCE "Zhang, Choromanska, LeCun, NIPS 2015, arXiv:1412.6651, section 4"

extern const struct strategy_ops strategy_sgd, strategy_msgd, strategy_asgd, strategy_mvasgd;

const struct strategy_ops strategy_sgd = {
    .name = "sgd",
    .summary = "one worker alone",
    .source = SOURCE,
    .help =
        "The baseline of a single worker, run.workers=1: whatever optimizer.kind says, plain\n"
        "descent by default. The schedule.rate that is best here is what other strategies' help\n"
        "calls that of a single worker. With momentum it is about (1 - momentum) times that\n"
        "without. Moves nothing.",
    .size = sizeof(struct sgd),
    .workers_most = 1,
    .round = sgd_round,
};

const struct strategy_ops strategy_msgd = {
    .name = "msgd",
    .summary = "one worker alone, with Nesterov's momentum",
    .source = SOURCE,
    .help =
        "sgd with optimizer.kind=nesterov unless that is set; optimizer.momentum is delta, 0.99\n"
        "in the paper's experiments. schedule.rate is about (1 - momentum) times that of plain\n"
        "SGD. run.workers=1. Moves nothing.",
    .size = sizeof(struct sgd),
    .workers_most = 1,
    .optimizer = OPTIMIZER_NESTEROV,
    .round = sgd_round,
};

const struct strategy_ops strategy_asgd = {
    .name = "asgd",
    .summary = "one worker alone, judged by the mean of all its steps",
    .source = SOURCE "; Polyak, Juditsky, SIAM J. Control Optim. 30, 1992",
    .help = "Trains as sgd does, with its schedule.rate; the mean of x over all steps so far is\n"
            "judged and saved, and trails behind while the loss still falls. run.workers=1. Moves\n"
            "nothing.",
    .size = sizeof(struct sgd),
    .workers_most = 1,
    .local_size = sizeof(struct local),
    .round = asgd_round,
    .join = asgd_join,
    .answer = asgd_answer,
};

const struct strategy_ops strategy_mvasgd = {
    .name = "mvasgd",
    .summary = "one worker alone, judged by a moving average of its steps",
    .source = SOURCE,
    .help = "Trains as sgd does, with its schedule.rate; an average that goes the share alpha of\n"
            "the way to x at each step is judged and saved. It remembers about 1 / alpha steps: a\n"
            "run of much fewer is judged by where it began, and wants a larger alpha.\n"
            "run.workers=1. Moves nothing.",
    .size = sizeof(struct sgd),
    .workers_most = 1,
    .local_size = sizeof(struct local),
    .options = mvasgd_options,
    .round = mvasgd_round,
    .join = asgd_join,
    .answer = asgd_answer,
};
