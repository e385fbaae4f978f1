/* mdownpour.c -- MDOWNPOUR: asynchronous SGD with Nesterov's momentum at the center.
 *
 * S. Zhang, A. Choromanska, Y. LeCun: Deep learning with elastic averaging SGD, NIPS 2015
 * (arXiv:1412.6651), a baseline of section 4 and its supplement. There is one center c and one
 * velocity v for all, and workers have no state but what they took from c:
 *
 *     worker:           x_i <- c;  g_i at x_i
 *     for each g_i:     v <- delta v - eta g_i
 *                       c <- c + delta v - eta g_i
 *
 * c is the point ahead at which Nesterov takes his gradient: with one worker and y - eta g(y) for
 * the x of its step, c goes through the y of Nesterov's own sequence. (Were c moved by delta v
 * alone, delta = 0 would freeze it.) c is what the paper judges, and so do we. As in the paper,
 * every gradient is handed in at once: there is no tau.
 *
 * A worker hands in its last gradient's step and takes the next c in one go, so with delta = 0 this
 * is DOWNPOUR with tau = 1. First comes v, then c, each for itself: v goes through the gradients one
 * by one, and c is a sum, so nothing depends on who comes to c first. -eta g_i is what the
 * optimizer made of x_i less c; with optimizer.kind=sgd, the default, it is that.
 */
#include <stdlib.h>

#include "engine/strategy.h"

struct mdownpour {
    struct strategy base;
    float momentum;                   /* delta */
    struct shared *center, *velocity; /* c, v */
};

struct local {
    struct vec pulled; /* c as this worker took it; then the move */
    struct vec ahead;  /* scratch: v as this worker left it; the center that is judged */
    double version;    /* of c when it was taken */
};

static const struct option options[] = {
    {"momentum", OPTION_REAL, offsetof(struct mdownpour, momentum), 0.9, 0, 1,
        "delta, of the center; the paper's experiments have 0.99", NULL},
    {0},
};

static const struct field local_fields[] = {
    {"version", FIELD_DOUBLE, offsetof(struct local, version)},
    {0},
};

static enum status mdownpour_open(struct strategy *base, struct team *team, struct vec x0) {
    struct mdownpour *s = (struct mdownpour *)base;
    TRY(shared_open(&s->center, team, "center", HOME_HOST, x0));
    struct vec zeros = {calloc(x0.n, sizeof *x0.at), x0.n};
    if (!zeros.at) return fail(STATUS_FAILED, "no memory for a velocity of %zu", x0.n);
    enum status end = shared_open(&s->velocity, team, "velocity", HOME_HOST, zeros);
    free(zeros.at);
    return end;
}

/* Gradients of p workers are added up, and momentum adds them up again. Without it this is DOWNPOUR,
 * whose bound is known. */
static struct forecast mdownpour_forecast(
    const struct strategy *base, double eta, int p, double h) {
    const struct mdownpour *s = (const struct mdownpour *)base;
    return (struct forecast){
        .step = eta * p / (1 - (double)s->momentum),
        .name = p > 1 && s->momentum == 0 ? "the rate" : NULL,
        .value = eta,
        .bound = 2 / (p * h),
        .formula = "2 / (workers h)",
    };
}

static enum status mdownpour_join(struct strategy *base, struct worker *w) {
    (void)base;
    struct local *l = w->mine;
    TRY(worker_vec(w, "pulled", &l->pulled, w->x.n, STATE));
    return worker_vec(w, "ahead", &l->ahead, w->x.n, SCRATCH);
}

/* v <- delta v - eta g; this worker's `pulled` <- delta v - eta g, with the new v. */
static void push_velocity(const struct mdownpour *s, struct worker *w) {
    struct local *l = w->mine;
    vec_diff(w->q, l->pulled, 1, w->x, l->pulled);
    shared_lock(w, s->velocity);
    shared_mix(w, s->velocity, s->momentum, 1, l->pulled);
    shared_read(w, s->velocity, l->ahead);
    shared_unlock(w, s->velocity);
    vec_mix(w->q, l->pulled, 1, s->momentum, l->ahead);
}

static enum status mdownpour_round(struct strategy *base, struct worker *w) {
    const struct mdownpour *s = (const struct mdownpour *)base;
    struct local *l = w->mine;
    int pushes = w->steps > 0; /* else there was no gradient yet */
    if (pushes) push_velocity(s, w);
    shared_lock(w, s->center);
    if (pushes) worker_staleness(w, shared_version(s->center) - l->version);
    if (pushes) shared_mix(w, s->center, 1, 1, l->pulled);
    shared_read(w, s->center, w->x);
    l->version = shared_version(s->center);
    shared_unlock(w, s->center);
    vec_copy(w->q, l->pulled, w->x);
    worker_grad(w);
    worker_step(w);
    return STATUS_OK;
}

static struct vec mdownpour_answer(struct strategy *base, struct worker *w) {
    const struct mdownpour *s = (const struct mdownpour *)base;
    struct local *l = w->mine;
    shared_lock(w, s->center);
    shared_read(w, s->center, l->ahead);
    shared_unlock(w, s->center);
    return l->ahead;
}

static void mdownpour_close(struct strategy *base) {
    shared_close(((struct mdownpour *)base)->center);
    shared_close(((struct mdownpour *)base)->velocity);
}

extern const struct strategy_ops strategy_mdownpour;

const struct strategy_ops strategy_mdownpour = {
    .name = "mdownpour",
    .summary = "asynchronous SGD with one Nesterov momentum, at the center",
    .source = "Zhang, Choromanska, LeCun, NIPS 2015, arXiv:1412.6651, section 4 and supplement",
    .help =
        "Every gradient goes to the center at once, which keeps the only momentum; a worker\n"
        "takes its next gradient at the center as it then is. The center is judged and saved.\n"
        "Steps are added, and momentum adds them up again: schedule.rate has to fall to about\n"
        "(1 - momentum) / workers times that of plain SGD with one worker. optimizer.kind stays\n"
        "sgd.\n"
        "Columns staleness, staleness_most and staleness_histogram: gradients by others from\n"
        "taking the center to handing the gradient in.\n"
        "Moves six times the parameters a step and worker: center and velocity are read and\n"
        "written, and read.",
    .size = sizeof(struct mdownpour),
    .local_size = sizeof(struct local),
    .options = options,
    .local_fields = local_fields,
    .round = mdownpour_round,
    .open = mdownpour_open,
    .forecast = mdownpour_forecast,
    .join = mdownpour_join,
    .answer = mdownpour_answer,
    .close = mdownpour_close,
};
