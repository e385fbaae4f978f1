/* downpour.c -- DOWNPOUR, and its center averaged over time: ADOWNPOUR and MVADOWNPOUR.
 *
 * S. Zhang, A. Choromanska, Y. LeCun: Deep learning with elastic averaging SGD, NIPS 2015
 * (arXiv:1412.6651), the baselines of section 4 and their supplement. Worker i has a replica x_i and
 * v_i, what it moved by since it met the center c:
 *
 *     every tau steps:  c <- c + v_i;  x_i <- c;  v_i <- 0
 *     every step:       x_i <- x_i - eta g_i(x_i);  v_i <- v_i - eta g_i
 *
 * and, for the center of a center, after its t-th update, t = 1, 2, ..., z being c at first:
 *
 *     z <- (1 - a) z + a c        ADOWNPOUR: a = 1 / t, the plain mean;  MVADOWNPOUR: a = alpha
 *
 * Worker after worker has c for itself, so a worker pulls what it pushed. v_i is not added up but
 * taken as x_i - c as it was pulled, so any optimizer's steps may be what is pushed; the paper's are
 * plain SGD's. At a worker's first step there is nothing to push: it only pulls, and t stands.
 *
 * z takes in each c just once, but after c is free for others again: they may have pushed meanwhile,
 * so that what it takes in is superseded, and in free order theirs may come first. To a plain mean
 * that is the same; MVADOWNPOUR then weighs these few in another order than they were made.
 *
 * Not the paper's: scale=staleness counts a push as v_i / (1 + s), where others have pushed s times
 * since this worker pulled: the rule of the DynSGD server in dist-keras.
 */
#include "engine/strategy.h"

enum { SCALE_NONE, SCALE_STALENESS };

struct downpour {
    struct strategy base;
    int tau, scale;
    float alpha;            /* of mvadownpour; 0 elsewhere */
    struct shared *center;  /* c */
    struct shared *average; /* z; NULL for downpour */
};

struct local {
    struct vec pulled; /* c as this worker pulled it; at a push v_i */
    struct vec judged; /* scratch */
    double version;    /* of c when it was pulled */
};

/* What all have, behind what only mvadownpour has. */
static const struct option options[] = {
    {"alpha", OPTION_REAL, offsetof(struct downpour, alpha), 0.001, 1e-9, 1,
        "weight of the newest center in the average; the paper's experiments have 0.001", NULL},
    {"tau", OPTION_INT, offsetof(struct downpour, tau), 1, 1, 1e6, "steps from push to push", NULL},
    {"scale", OPTION_CHOICE, offsetof(struct downpour, scale), SCALE_NONE, 0, SCALE_STALENESS,
        "none|staleness: a push counts in full, or divided by 1 + pushes by others since the pull",
        NULL},
    {0},
};

static const struct field local_fields[] = {
    {"version", FIELD_DOUBLE, offsetof(struct local, version)},
    {0},
};

static enum status downpour_open(struct strategy *base, struct team *team, struct vec x0) {
    return shared_open(&((struct downpour *)base)->center, team, "center", HOME_HOST, x0);
}

static enum status adownpour_open(struct strategy *base, struct team *team, struct vec x0) {
    TRY(downpour_open(base, team, x0));
    return shared_open(&((struct downpour *)base)->average, team, "average", HOME_HOST, x0);
}

/* The p workers' moves of tau steps each are added up, from one point; so the bound, which lock step
 * has to about a third. One worker is plain descent, and two in lock step bear far more. Divided by
 * their staleness, about p - 1, moves are not added up. */
static struct forecast downpour_forecast(const struct strategy *base, double eta, int p, double h) {
    const struct downpour *s = (const struct downpour *)base;
    if (s->scale == SCALE_STALENESS) return (struct forecast){.step = eta * s->tau};
    return (struct forecast){
        .step = eta * p * s->tau,
        .name = p > 2 || s->tau == 1 ? "the rate" : NULL,
        .value = eta,
        .bound = 2 / (p * s->tau * h),
        .formula = "about 2 / (workers tau h)",
        .rough = s->tau > 1,
    };
}

static enum status downpour_join(struct strategy *base, struct worker *w) {
    (void)base;
    struct local *l = w->mine;
    TRY(worker_vec(w, "pulled", &l->pulled, w->x.n, STATE));
    return worker_vec(w, "judged", &l->judged, w->x.n, SCRATCH);
}

static void push_and_pull(const struct downpour *s, struct worker *w) {
    struct local *l = w->mine;
    vec_diff(w->q, l->pulled, 1, w->x, l->pulled);
    shared_lock(w, s->center);
    if (w->steps > 0) {
        double staleness = shared_version(s->center) - l->version; /* pushes by others */
        worker_staleness(w, staleness);
        float weight = s->scale == SCALE_STALENESS ? (float)(1 / (1 + staleness)) : 1;
        shared_mix(w, s->center, 1, weight, l->pulled);
    }
    shared_read(w, s->center, w->x);
    l->version = shared_version(s->center);
    shared_unlock(w, s->center);
    vec_copy(w->q, l->pulled, w->x);
}

/* z follows c as this worker just left it. Whoever pushed next may come first: the plain mean is of
 * the same centers, in whatever order. */
static void follow_center(const struct downpour *s, struct worker *w) {
    const struct local *l = w->mine;
    shared_lock(w, s->average);
    float a = s->alpha > 0 ? s->alpha : (float)(1 / (1 + shared_version(s->average)));
    shared_mix(w, s->average, 1 - a, a, l->pulled);
    shared_unlock(w, s->average);
}

static enum status downpour_round(struct strategy *base, struct worker *w) {
    const struct downpour *s = (const struct downpour *)base;
    push_and_pull(s, w);
    if (s->average && w->steps > 0) follow_center(s, w);
    for (int t = 0; t < s->tau; t++) {
        worker_grad(w);
        worker_step(w);
    }
    return STATUS_OK;
}

static struct vec downpour_answer(struct strategy *base, struct worker *w) {
    const struct downpour *s = (const struct downpour *)base;
    struct local *l = w->mine;
    struct shared *answer = s->average ? s->average : s->center;
    shared_lock(w, answer);
    shared_read(w, answer, l->judged);
    shared_unlock(w, answer);
    return l->judged;
}

static void downpour_close(struct strategy *base) {
    shared_close(((struct downpour *)base)->center);
    shared_close(((struct downpour *)base)->average);
}

#define SOURCE "Zhang, Choromanska, LeCun, NIPS 2015, arXiv:1412.6651, section 4 and supplement"

extern const struct strategy_ops strategy_downpour, strategy_adownpour, strategy_mvadownpour;

const struct strategy_ops strategy_downpour = {
    .name = "downpour",
    .summary = "asynchronous SGD: each adds its steps to a center and starts from there again",
    .source = SOURCE "; DistBelief's Downpour, Dean et al., NIPS 2012",
    .help =
        "Every tau steps a worker adds to the center what it moved by since the last time, and\n"
        "goes on from there. The center is judged and saved. Steps are added, not averaged:\n"
        "schedule.rate has to fall with workers x tau, to about that of one worker over it: the\n"
        "log warns above 2 / (workers tau h), h being run.curvature, and metrics have\n"
        "effective_step, rate x workers x tau. scale=staleness divides what is old already when\n"
        "it comes, so that steps add up to about one worker's: schedule.rate may be larger\n"
        "then, towards that of one worker over tau. Columns staleness, staleness_most and\n"
        "staleness_histogram: pushes by others between a worker's pull and its push.\n"
        "Moves three times the parameters a push and worker: the center is read and written,\n"
        "and read.",
    .size = sizeof(struct downpour),
    .local_size = sizeof(struct local),
    .options = options + 1,
    .local_fields = local_fields,
    .round = downpour_round,
    .open = downpour_open,
    .forecast = downpour_forecast,
    .join = downpour_join,
    .answer = downpour_answer,
    .close = downpour_close,
};

const struct strategy_ops strategy_adownpour = {
    .name = "adownpour",
    .summary = "downpour, judged by the mean of all centers there were",
    .source = SOURCE,
    .help =
        "Trains as downpour does, with its rate: see there. After each push the mean of all\n"
        "centers so far takes in the newest; that mean is judged and saved, and nobody learns\n"
        "from it. The first centers weigh in it as much as the last, so it trails behind while\n"
        "the loss still falls.\n"
        "Moves five times the parameters a push and worker: the mean is read and written too.",
    .size = sizeof(struct downpour),
    .local_size = sizeof(struct local),
    .options = options + 1,
    .local_fields = local_fields,
    .round = downpour_round,
    .open = adownpour_open,
    .forecast = downpour_forecast,
    .join = downpour_join,
    .answer = downpour_answer,
    .close = downpour_close,
};

const struct strategy_ops strategy_mvadownpour = {
    .name = "mvadownpour",
    .summary = "downpour, judged by a moving average of its center",
    .source = SOURCE,
    .help =
        "Trains as downpour does, with its rate: see there. After each push a moving average\n"
        "goes the share alpha of the way to the newest center; that average is judged and\n"
        "saved, and nobody learns from it. It remembers about 1 / alpha pushes by all workers:\n"
        "a run of much fewer is judged by where it began, and wants a larger alpha. In free\n"
        "order it may take in centers of different workers in another order than they came.\n"
        "Moves five times the parameters a push and worker: it is read and written too.",
    .size = sizeof(struct downpour),
    .local_size = sizeof(struct local),
    .options = options,
    .local_fields = local_fields,
    .round = downpour_round,
    .open = adownpour_open,
    .forecast = downpour_forecast,
    .join = downpour_join,
    .answer = downpour_answer,
    .close = downpour_close,
};
