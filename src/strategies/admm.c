/* admm.c -- the alternating direction method of multipliers, round robin.
 *
 * As S. Zhang, A. Choromanska, Y. LeCun: Deep learning with elastic averaging SGD, NIPS 2015
 * (arXiv:1412.6651), section 3, compare it with EASGD: the loss is linearized at x_i, with the
 * proximal weight 1 / (2 eta), and the multipliers are rescaled by 1 / rho. Worker after worker,
 * with the newest c and g_i taken at x_i:
 *
 *     lambda_i <- lambda_i - (x_i - c)
 *     x_i      <- (x_i - eta g_i + eta rho (lambda_i + c)) / (1 + eta rho)
 *     c        <- mean over j of (x_j - lambda_j)
 *
 * All lambda start at 0 and all x at c, so c is that mean from the start, and the last line adds
 * what worker i changed of its term over p.
 */
#include "engine/strategy.h"

struct admm {
    struct strategy base;
    float rho;
    struct shared *center; /* c */
};

struct local {
    struct vec lambda;
    struct vec c;    /* as it is when this worker's turn comes; the center that is judged */
    struct vec was;  /* scratch: x before the step */
    struct vec move; /* scratch: x - lambda, less what it was */
};

static const struct option options[] = {
    {"rho", OPTION_REAL, offsetof(struct admm, rho), 1, 0, 1e6,
        "penalty: how strongly x and the center are held together", NULL},
    {0},
};

static enum status admm_open(struct strategy *base, struct team *team, struct vec x0) {
    return shared_open(&((struct admm *)base)->center, team, "center", HOME_HOST, x0);
}

/* The proximal term shortens each step. How it may diverge for all that, `huddle stability` shows. */
static struct forecast admm_forecast(const struct strategy *base, double eta, int p, double h) {
    double rho = (double)((const struct admm *)base)->rho;
    (void)p;
    (void)h;
    return (struct forecast){.step = eta / (1 + eta * rho)};
}

static enum status admm_join(struct strategy *base, struct worker *w) {
    (void)base;
    struct local *l = w->mine;
    TRY(worker_vec(w, "lambda", &l->lambda, w->x.n, STATE));
    TRY(worker_vec(w, "center", &l->c, w->x.n, SCRATCH));
    TRY(worker_vec(w, "was", &l->was, w->x.n, SCRATCH));
    return worker_vec(w, "move", &l->move, w->x.n, SCRATCH);
}

/* The three lines of the head; x has taken its step of eta g already. Holds c. */
static void take_turn(const struct admm *s, struct worker *w, float eta) {
    struct local *l = w->mine;
    float er = eta * s->rho, share = er / (1 + er);
    shared_read(w, s->center, l->c);
    vec_diff(w->q, l->move, 1, l->lambda, l->was);
    vec_mix(w->q, l->lambda, 1, -1, l->was);
    vec_mix(w->q, l->lambda, 1, 1, l->c);
    vec_mix(w->q, w->x, 1 / (1 + er), share, l->lambda);
    vec_mix(w->q, w->x, 1, share, l->c);
    vec_mix(w->q, l->move, 1, 1, w->x);
    vec_mix(w->q, l->move, 1, -1, l->lambda);
    shared_mix(w, s->center, 1, 1 / (float)w->size, l->move);
}

static enum status admm_round(struct strategy *base, struct worker *w) {
    const struct admm *s = (const struct admm *)base;
    float eta = worker_rate(w);
    worker_grad(w);
    vec_copy(w->q, ((struct local *)w->mine)->was, w->x);
    worker_step(w);
    shared_lock(w, s->center);
    take_turn(s, w, eta);
    shared_unlock(w, s->center);
    return STATUS_OK;
}

static struct vec admm_answer(struct strategy *base, struct worker *w) {
    const struct admm *s = (const struct admm *)base;
    struct local *l = w->mine;
    shared_lock(w, s->center);
    shared_read(w, s->center, l->c);
    shared_unlock(w, s->center);
    return l->c;
}

static void admm_close(struct strategy *base) { shared_close(((struct admm *)base)->center); }

extern const struct strategy_ops strategy_admm;

const struct strategy_ops strategy_admm = {
    .name = "admm",
    .summary = "alternating directions, round robin: multipliers hold replicas and center together",
    .source = "Zhang, Choromanska, LeCun, NIPS 2015, arXiv:1412.6651, section 3",
    .help =
        "For comparison with easgd: each worker in turn corrects its multipliers, takes a step\n"
        "that rho draws towards the center, and the center becomes the mean of all replicas\n"
        "less their multipliers. run.order=fixed takes turns as the paper does; in free order\n"
        "workers come as they come. It may diverge however small schedule.rate is, and late,\n"
        "after it seemed to learn: `huddle stability p=WORKERS` shows for which rate and rho,\n"
        "in units of a curvature of 1. Begin with the schedule.rate of a single worker and rho\n"
        "of about 1: it is small rates that diverge. optimizer.kind stays sgd.\n"
        "Moves three times the parameters a step and worker: the center is read, and read and\n"
        "written.",
    .size = sizeof(struct admm),
    .local_size = sizeof(struct local),
    .options = options,
    .open = admm_open,
    .forecast = admm_forecast,
    .join = admm_join,
    .round = admm_round,
    .answer = admm_answer,
    .close = admm_close,
};
