/* easgd.c -- elastic averaging SGD.
 *
 * S. Zhang, A. Choromanska, Y. LeCun: Deep learning with elastic averaging SGD, NIPS 2015
 * (arXiv:1412.6651): their algorithms 1 (EASGD) and 2 (EAMSGD), and equations 5 and 6.
 *
 * Worker i trains its own x_i. A spring of strength alpha ties x_i to a center c, and c to every
 * x_i. At one step in tau, with g_i taken at x_i before the spring pulls:
 *
 *     x_i <- x_i - alpha (x_i - c) - eta g_i
 *     c   <- c + alpha (x_i - c)            async: worker after worker
 *     c   <- c + alpha sum_i (x_i - c)      sync: all at once, all with the c from before
 *
 * and alpha = beta / p for p workers. EAMSGD is the same with optimizer.kind=nesterov: g_i is taken
 * at x_i + delta v_i, and v_i stays the worker's own.
 *
 * Not the paper's: when=after pulls when the last of tau steps is done, at the x_i that it led to.
 * That is another map, stable for somewhat larger alpha.
 *
 * How large alpha may be for a loss of curvature h, with q = (1 - eta h)^tau, and k = q / (1 - eta h)
 * for when=before, q for when=after: async up to 2 (1 + q) / (1 + q + 2 k), which for tau = 1 and
 * when=before is (4 - 2 eta h) / (4 - eta h); sync while (1 + q) (2 - beta) >= 2 k alpha; for
 * eta h > 1 there may be less. largest_alpha has all of it. The paper proves (4 - 2 eta h) /
 * (4 - eta h) to be enough for any number of workers in turn. The rest is our derivation: sync's is
 * of the workers' mean and exact; async's is of one worker and the center. Where k > 0, so for any
 * eta h < 1, that is enough for more in turn too, by the paper's proof: with x over sqrt(k) each
 * one's map is symmetric. Where k < 0, more workers may bear less. For free order there is no proof.
 */
#include <math.h>
#include <stdio.h>

#include "engine/strategy.h"

enum { SYNC, ASYNC };
enum { BEFORE, AFTER };

struct easgd {
    struct strategy base;
    int tau;
    float beta;
    int mode, when;
    float alpha;
    struct shared *center; /* async: c */
};

struct local {
    struct vec c;    /* sync: c, the same bits on all; async: c as it was when last judged */
    struct vec pull; /* sync: alpha (x_i - c) */
    double version;  /* async: of c when this worker had pulled last */
};

static const struct option options[] = {
    {"tau", OPTION_INT, offsetof(struct easgd, tau), 10, 1, 1e6, "steps from pull to pull", NULL},
    {"beta", OPTION_REAL, offsetof(struct easgd, beta), 0.9, 0, 1e3,
        "alpha times workers; the paper's experiments have 0.9", NULL},
    {"mode", OPTION_CHOICE, offsetof(struct easgd, mode), ASYNC, SYNC, ASYNC,
        "sync|async: pull all at once, or each worker when it is there", NULL},
    {"when", OPTION_CHOICE, offsetof(struct easgd, when), BEFORE, BEFORE, AFTER,
        "before|after: pull before the step that the gradient is for, as the paper does, or after",
        NULL},
    {0},
};

static const struct field local_fields[] = {
    {"version", FIELD_DOUBLE, offsetof(struct local, version)},
    {0},
};

static enum status easgd_open(struct strategy *base, struct team *team, struct vec x0) {
    struct easgd *s = (struct easgd *)base;
    s->alpha = s->beta / (float)team_size(team);
    if (s->mode == SYNC) return STATUS_OK;
    return shared_open(&s->center, team, "center", HOME_HOST, x0);
}

static void easgd_describe(
    const struct strategy *base, const struct team *team, char *text, size_t n) {
    const struct easgd *s = (const struct easgd *)base;
    snprintf(text, n, "alpha %g, that is beta %g over %d worker%s", (double)s->alpha,
        (double)s->beta, team_size(team), team_size(team) == 1 ? "" : "s");
}

/* Where h x^2 / 2 is descended, a period is linear in a worker's x (sync: the workers' mean) and c.
 * With q = (1 - eta h)^tau, and k = q / (1 - eta h), or q for when=after, its matrix has
 *
 *     trace q - k alpha + 1 - r alpha     determinant q (1 - r alpha) - k alpha
 *
 * where r = 1 for async, workers for sync, and shrinks both while |determinant| < 1 and
 * |trace| < 1 + determinant; sync has x_i less the mean besides, which shrinks by q - k alpha. Each
 * of these is `side[0] alpha < side[1]` or always true. With tau = 1 and when=before it is section
 * 3.1's bound for async, alpha <= (4 - 2 eta h) / (4 - eta h), and for sync
 * (2 - eta h) (2 - beta) > 2 beta / p. */
static double largest_alpha(const struct easgd *s, double eh, int p) {
    double q = pow(1 - eh, s->tau), k = s->when == BEFORE ? pow(1 - eh, s->tau - 1) : q;
    double r = s->mode == SYNC ? p : 1, least = (double)INFINITY;
    const double side[][2] = {
        {r * (1 + q) + 2 * k, 2 * (1 + q)},
        {r * q + k, 1 + q},
        {-r * q - k, 1 - q},
        {k, 1 + q},
        {-k, 1 - q},
    };
    int sides = s->mode == SYNC && p > 1 ? 5 : 3;
    for (int i = 0; i < sides; i++) {
        if (side[i][0] > 0) least = fmin(least, side[i][1] / side[i][0]);
    }
    return least;
}

/* A spring adds nothing to a step: x_i goes as far as it would alone. */
static struct forecast easgd_forecast(const struct strategy *base, double eta, int p, double h) {
    const struct easgd *s = (const struct easgd *)base;
    int is_papers = s->tau == 1 && s->mode == ASYNC && s->when == BEFORE;
    const char *ours = s->mode == SYNC ? "what mode, when and tau bear"
                                       : "what one worker bears with this when and tau";
    return (struct forecast){
        .step = eta,
        .name = eta * h < 2 ? "alpha" : NULL, /* else no spring helps */
        .value = (double)s->beta / p,
        .bound = largest_alpha(s, eta * h, p),
        .formula = is_papers ? "(4 - 2 eta h) / (4 - eta h)" : ours,
        .rough = s->mode == ASYNC && p > 1,
    };
}

static enum status easgd_join(struct strategy *base, struct worker *w) {
    struct easgd *s = (struct easgd *)base;
    struct local *l = w->mine;
    TRY(worker_vec(w, "center", &l->c, w->x.n, s->mode == SYNC ? STATE : SCRATCH));
    vec_copy(w->q, l->c, w->x);
    worker_note(w, "alpha", (double)s->alpha, OVER_MEAN);
    return s->mode == SYNC ? worker_vec(w, "pull", &l->pull, w->x.n, SCRATCH) : STATUS_OK;
}

static void pull(const struct easgd *s, struct worker *w) {
    struct local *l = w->mine;
    if (s->mode == ASYNC) {
        double met = shared_elastic(w, s->center, s->alpha, w->x);
        worker_staleness(w, met - l->version); /* pulls by others */
        l->version = met + 1;
    } else {
        vec_diff(w->q, l->pull, s->alpha, w->x, l->c);
        vec_mix(w->q, w->x, 1, -1, l->pull);
        team_sum(w, l->pull);
        vec_mix(w->q, l->c, 1, 1, l->pull);
    }
}

static enum status easgd_round(struct strategy *base, struct worker *w) {
    const struct easgd *s = (const struct easgd *)base;
    worker_grad(w);
    if (s->when == BEFORE) pull(s, w);
    worker_step(w);
    for (int t = 1; t < s->tau; t++) worker_descend(w);
    if (s->when == AFTER) pull(s, w);
    return STATUS_OK;
}

static struct vec easgd_answer(struct strategy *base, struct worker *w) {
    struct easgd *s = (struct easgd *)base;
    struct local *l = w->mine;
    if (s->mode == ASYNC) {
        shared_lock(w, s->center);
        shared_read(w, s->center, l->c);
        shared_unlock(w, s->center);
    }
    return l->c;
}

static void easgd_close(struct strategy *base) { shared_close(((struct easgd *)base)->center); }

extern const struct strategy_ops strategy_easgd;

const struct strategy_ops strategy_easgd = {
    .name = "easgd",
    .summary = "elastic averaging: a spring ties each replica to a common center",
    .source = "Zhang, Choromanska, LeCun, NIPS 2015, arXiv:1412.6651, algorithms 1 and 2",
    .help =
        "Workers train alone; one step in tau, a spring of strength alpha = beta / workers\n"
        "pulls a worker and the center towards each other. The center is judged and saved. With\n"
        "optimizer.kind=nesterov it is the paper's EAMSGD. schedule.rate is that of a single\n"
        "worker: it does not grow with the workers; with momentum it is about (1 - momentum)\n"
        "times that without. A worker's steps must be many times tau, or the center is still\n"
        "where it began: for a short run, a smaller tau. beta = 0 cuts the spring. The log and\n"
        "the metrics say what alpha is; with mode=async the columns staleness, staleness_most\n"
        "and staleness_histogram how often others pulled between two pulls of a worker.\n"
        "The log warns when alpha is more than the run can bear with its rate, tau, mode and\n"
        "when, on a loss of the curvature run.curvature; with mode=async, unless tau = 1 and\n"
        "when=before, that is known of one worker and the center only.\n"
        "Moves twice the parameters a pull and worker: the center is read and written; with\n"
        "mode=sync, over p workers, 2 (p-1)/p times.",
    .size = sizeof(struct easgd),
    .local_size = sizeof(struct local),
    .options = options,
    .local_fields = local_fields,
    .open = easgd_open,
    .describe = easgd_describe,
    .forecast = easgd_forecast,
    .join = easgd_join,
    .round = easgd_round,
    .answer = easgd_answer,
    .close = easgd_close,
};
