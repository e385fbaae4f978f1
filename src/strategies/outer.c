/* outer.c -- outer optimizers: H steps alone, then a step from the common start towards the mean.
 *
 * bmuf: K. Chen, Q. Huo: Scalable training of deep learning machines by incremental block training
 * with intra-block parallel optimization and blockwise model-update filtering, ICASSP 2016. slowmo:
 * J. Wang, V. Tantia, N. Ballas, M. Rabbat, ICLR 2020 (arXiv:1910.00643). diloco: A. Douillard and
 * others (arXiv:2311.08105), in fragments and with a delay: Streaming DiLoCo (arXiv:2501.18512).
 * lookahead: M. Zhang, J. Lucas, G. Hinton, J. Ba, NeurIPS 2019 (arXiv:1907.08610).
 *
 * All begin a period at a common point s, take H steps alone, and then
 *
 *     G = (1/p) sum_j x_j - s               the way that the replicas went, on average
 *     u <- a u + b G
 *     s <- s + c G + d u,   x_i <- s
 *
 *                             a      b         c      d
 *     bmuf, classical         mu     zeta      0      1
 *     bmuf, nesterov; diloco  mu     zeta      zeta   mu
 *     slowmo                  beta   1/gamma   0      alpha gamma
 *     lookahead               -      -         alpha  -
 *
 * diloco's zeta is its outer rate. slowmo's gamma is the rate of the period's first step; at rate 0
 * s becomes the mean, and u stays. lookahead is for one worker; more go towards their mean.
 *
 * bmuf's defaults of mu, zeta, nesterov and momentum=reset are those of CNTK, which implements it.
 * diloco's paper has AdamW inside; our adam has no decay of its own: optimizer.decay goes into its
 * gradient.
 *
 * bmuf's model is W <- W + u, and its next start W (classical) or W + mu u (nesterov: from start to
 * start that is the line above). W is judged, for nesterov s - mu u; the others judge s.
 *
 * diloco may cut x into fragments of equal length, which go through this one after the other,
 * spread evenly over the H steps. With a delay, replicas are averaged as they are so many steps
 * before the outer step, and then x_i <- (1 - mix) s + mix x_i. What the paper leaves open: the
 * last fragment's outer step is the period's last, so that no average is on its way between rounds.
 */
#include "engine/strategy.h"

/* A row of the table above. */
struct rule {
    float a, b, c, d;
};

struct outer {
    struct strategy base;
    int H, nesterov, momentum;
    float mu, zeta, alpha, beta;
    int fragments, delay;
    float mix;
    struct rule (*rule)(const struct outer *s, float rate);
};

struct local {
    struct vec s, u; /* the same bits on all */
    struct vec G;    /* first the replica, then the mean; w->x itself where that may be lost */
    struct vec W;    /* of bmuf nesterov, when judged */
};

#define ROW_H(name, init)                                                                          \
    { name, OPTION_INT, offsetof(struct outer, H), init, 1, 1e6, "steps from mean to mean", NULL }
#define ROW_MOMENTUM(init)                                                                         \
    {                                                                                              \
        "momentum", OPTION_CHOICE, offsetof(struct outer, momentum), init, 0, 2,                   \
            "keep|average|reset: what a mean does to the optimizer's velocity or moments", NULL    \
    }

/* ---- bmuf ----------------------------------------------------------------------------------- */

static const struct option bmuf_options[] = {
    ROW_H("H", 50),
    {"mu", OPTION_REAL, offsetof(struct outer, mu), -1, -1, 0.999999,
        "block momentum; less than 0: 1 - 1 / workers", NULL},
    {"zeta", OPTION_REAL, offsetof(struct outer, zeta), 1, 0, 1e3, "block learning rate", NULL},
    {"nesterov", OPTION_INT, offsetof(struct outer, nesterov), 1, 0, 1,
        "1: the next start is ahead of the model by mu times its last move; 0: it is the model",
        NULL},
    ROW_MOMENTUM(MOMENTUM_RESET),
    {0},
};

static struct rule nesterov_rule(const struct outer *s, float rate) {
    (void)rate;
    return (struct rule){s->mu, s->zeta, s->zeta, s->mu};
}

static struct rule classical_rule(const struct outer *s, float rate) {
    (void)rate;
    return (struct rule){s->mu, s->zeta, 0, 1};
}

static enum status bmuf_open(struct strategy *base, struct team *team, struct vec x0) {
    struct outer *s = (struct outer *)base;
    (void)x0;
    if (s->mu < 0) s->mu = 1 - 1 / (float)team_size(team);
    s->rule = s->nesterov ? nesterov_rule : classical_rule;
    s->fragments = 1;
    return STATUS_OK;
}

static void bmuf_describe(
    const struct strategy *base, const struct team *team, char *text, size_t n) {
    (void)team;
    snprintf(text, n, "block momentum mu = %g", (double)((const struct outer *)base)->mu);
}

static struct vec bmuf_answer(struct strategy *base, struct worker *w) {
    const struct outer *s = (const struct outer *)base;
    const struct local *l = w->mine;
    if (!s->nesterov) return l->s;
    vec_copy(w->q, l->W, l->s);
    vec_mix(w->q, l->W, 1, -s->mu, l->u);
    return l->W;
}

/* ---- slowmo --------------------------------------------------------------------------------- */

static const struct option slowmo_options[] = {
    ROW_H("H", 48),
    {"alpha", OPTION_REAL, offsetof(struct outer, alpha), 1, 0, 1e3, "slow learning rate", NULL},
    {"beta", OPTION_REAL, offsetof(struct outer, beta), 0.5, 0, 0.999999, "slow momentum", NULL},
    ROW_MOMENTUM(MOMENTUM_KEEP),
    {0},
};

static struct rule slowmo_rule(const struct outer *s, float gamma) {
    if (gamma > 0) return (struct rule){s->beta, 1 / gamma, 0, s->alpha * gamma};
    return (struct rule){1, 0, 1, 0};
}

static enum status slowmo_open(struct strategy *base, struct team *team, struct vec x0) {
    struct outer *s = (struct outer *)base;
    (void)team;
    (void)x0;
    s->rule = slowmo_rule;
    s->fragments = 1;
    return STATUS_OK;
}

/* ---- diloco --------------------------------------------------------------------------------- */

static const struct option diloco_options[] = {
    ROW_H("H", 500),
    {"rate", OPTION_REAL, offsetof(struct outer, zeta), 0.7, 0, 1e3, "outer learning rate", NULL},
    {"mu", OPTION_REAL, offsetof(struct outer, mu), 0.9, 0, 0.999999, "outer Nesterov momentum",
        NULL},
    {"fragments", OPTION_INT, offsetof(struct outer, fragments), 1, 1, 1e6,
        "parts of the parameters that take their means one after the other", NULL},
    {"delay", OPTION_INT, offsetof(struct outer, delay), 0, 0, 1e6,
        "steps from the mean to the outer step that it enters; less than H / fragments", NULL},
    {"mix", OPTION_REAL, offsetof(struct outer, mix), 0, 0, 1,
        "share of its own that a replica keeps at an outer step", NULL},
    ROW_MOMENTUM(MOMENTUM_KEEP),
    {0},
};

static enum status diloco_open(struct strategy *base, struct team *team, struct vec x0) {
    struct outer *s = (struct outer *)base;
    (void)team;
    s->rule = nesterov_rule;
    if (s->fragments > s->H || (size_t)s->fragments > x0.n) {
        return fail(STATUS_BAD_CONFIG,
            "diloco.fragments = %d: no more than there are steps in a period, %d, and parameters, "
            "%zu",
            s->fragments, s->H, x0.n);
    }
    if (s->delay < s->H / s->fragments) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG,
        "diloco.delay = %d: a fragment has its outer step every H / fragments = %d steps, so a "
        "delay is less",
        s->delay, s->H / s->fragments);
}

/* ---- lookahead ------------------------------------------------------------------------------ */

static const struct option lookahead_options[] = {
    ROW_H("k", 5),
    {"alpha", OPTION_REAL, offsetof(struct outer, alpha), 0.5, 0, 1e3,
        "how far back from the start towards where k steps led", NULL},
    ROW_MOMENTUM(MOMENTUM_KEEP),
    {0},
};

static struct rule lookahead_rule(const struct outer *s, float rate) {
    (void)rate;
    return (struct rule){0, 0, s->alpha, 0};
}

static enum status lookahead_open(struct strategy *base, struct team *team, struct vec x0) {
    struct outer *s = (struct outer *)base;
    (void)team;
    (void)x0;
    s->rule = lookahead_rule;
    s->fragments = 1;
    return STATUS_OK;
}

/* ---- what they share ------------------------------------------------------------------------ */

/* In the long run u is b / (1 - a) ways of a period, so s goes c + d b / (1 - a) of each. No bound
 * is known beside that of the steps inside. */
static struct forecast outer_forecast(const struct strategy *base, double eta, int p, double h) {
    const struct outer *s = (const struct outer *)base;
    struct rule rule = s->rule(s, (float)eta);
    (void)p;
    (void)h;
    double share = (double)rule.c + (double)rule.d * (double)rule.b / (1 - (double)rule.a);
    return (struct forecast){.step = eta > 0 ? share * eta : 0};
}

static enum status outer_join(struct strategy *base, struct worker *w) {
    const struct outer *s = (const struct outer *)base;
    struct local *l = w->mine;
    TRY(worker_vec(w, "start", &l->s, w->x.n, STATE));
    vec_copy(w->q, l->s, w->x);
    l->G = w->x;
    if (s->delay > 0 || s->mix > 0) TRY(worker_vec(w, "mean", &l->G, w->x.n, SCRATCH));
    if (s->rule == lookahead_rule) return STATUS_OK;
    TRY(worker_vec(w, "outer_velocity", &l->u, w->x.n, STATE));
    return s->nesterov ? worker_vec(w, "model", &l->W, w->x.n, SCRATCH) : STATUS_OK;
}

static struct range fragment(const struct outer *s, size_t n, int k) {
    size_t count = (size_t)s->fragments, at = (size_t)k;
    return (struct range){n * at / count, n * (at + 1) / count - n * at / count};
}

static void average(struct worker *w, struct range part) {
    struct local *l = w->mine;
    struct vec x = vec_part(w->x, part), G = vec_part(l->G, part);
    if (G.at != x.at) vec_copy(w->q, G, x);
    team_mean(w, G);
}

static void outer_step(
    const struct outer *s, struct worker *w, struct range part, const struct rule *r) {
    struct local *l = w->mine;
    struct vec x = vec_part(w->x, part), start = vec_part(l->s, part), G = vec_part(l->G, part);
    vec_diff(w->q, G, 1, G, start);
    if (r->c != 0) vec_mix(w->q, start, 1, r->c, G);
    if (l->u.n > 0) {
        struct vec u = vec_part(l->u, part);
        vec_mix(w->q, u, r->a, r->b, G);
        vec_mix(w->q, start, 1, r->d, u);
    }
    vec_mix(w->q, x, s->mix, 1 - s->mix, start);
}

static enum status outer_round(struct strategy *base, struct worker *w) {
    const struct outer *s = (const struct outer *)base;
    struct rule rule = s->rule(s, worker_rate(w));
    for (int t = 1; t <= s->H; t++) {
        worker_grad(w);
        worker_step(w);
        for (int k = 0; k < s->fragments; k++) {
            int due = (int)((long)s->H * (k + 1) / s->fragments);
            if (t == due - s->delay) average(w, fragment(s, w->x.n, k));
            if (t == due) outer_step(s, w, fragment(s, w->x.n, k), &rule);
        }
    }
    team_momentum(w, (enum momentum)s->momentum, 0, w->size);
    return STATUS_OK;
}

static struct vec outer_answer(struct strategy *base, struct worker *w) {
    (void)base;
    return ((const struct local *)w->mine)->s;
}

extern const struct strategy_ops strategy_bmuf, strategy_slowmo, strategy_diloco,
    strategy_lookahead;

const struct strategy_ops strategy_bmuf = {
    .name = "bmuf",
    .summary = "local SGD whose mean is the gradient of an outer momentum, over blocks of H steps",
    .source = "Chen, Huo, ICASSP 2016",
    .help =
        "Workers take H steps alone; the way from where they began to their mean drives a block\n"
        "momentum of mu that moves the model by zeta of it. mu = 0 and zeta = 1 is local_sgd.\n"
        "schedule.rate inside: begin with that of local_sgd; the block momentum adds up ways of\n"
        "periods, in the long run zeta / (1 - mu) of them, so where that is much more than 1\n"
        "try less. A run's steps should be many times H. By default the workers' own momentum\n"
        "is reset at each mean, as by CNTK.\n"
        "Moves 2 (p-1)/p times the parameters a mean of p workers and worker, and with\n"
        "momentum=average as much again for each vector of the optimizer.",
    .size = sizeof(struct outer),
    .local_size = sizeof(struct local),
    .options = bmuf_options,
    .open = bmuf_open,
    .describe = bmuf_describe,
    .forecast = outer_forecast,
    .join = outer_join,
    .round = outer_round,
    .answer = bmuf_answer,
};

const struct strategy_ops strategy_slowmo = {
    .name = "slowmo",
    .summary = "local SGD with a slow momentum, in units of the gradient",
    .source = "Wang, Tantia, Ballas, Rabbat, ICLR 2020, arXiv:1910.00643",
    .help =
        "As bmuf, but the momentum gathers gradients, the way divided by the rate, and so\n"
        "survives a drop of the rate. beta = 0 and alpha = 1 is local_sgd. schedule.rate\n"
        "inside: begin with that of local_sgd; in the long run the slow momentum takes\n"
        "alpha / (1 - beta) times the way, so with a large beta try less. A run's steps should\n"
        "be many times H.\n"
        "Moves 2 (p-1)/p times the parameters a mean of p workers and worker, and with\n"
        "momentum=average as much again for each vector of the optimizer.",
    .size = sizeof(struct outer),
    .local_size = sizeof(struct local),
    .options = slowmo_options,
    .open = slowmo_open,
    .forecast = outer_forecast,
    .join = outer_join,
    .round = outer_round,
    .answer = outer_answer,
};

const struct strategy_ops strategy_diloco = {
    .name = "diloco",
    .summary = "long periods of any optimizer alone, then an outer Nesterov step to the mean",
    .source = "Douillard and others, arXiv:2311.08105; fragments and delay: Streaming DiLoCo,\n"
              "arXiv:2501.18512",
    .help =
        "Meant for optimizer.kind=adam inside, schedule.rate of about 0.001, and H in the\n"
        "hundreds; a run ends, and is judged, between periods, so H = 500 is for runs of many\n"
        "thousand steps. The paper's inner optimizer is AdamW; here optimizer.decay goes into\n"
        "adam's gradient. With SGD inside it is bmuf with nesterov=1 and zeta = rate, judged at\n"
        "the workers' starts, and begins with local_sgd's rate. A mean is taken at once also\n"
        "with a delay, so a delay shows what late means do to learning; it hides no time here.\n"
        "Moves 2 (p-1)/p times the parameters a period of p workers and worker, and with\n"
        "momentum=average as much again for each vector of the optimizer.",
    .size = sizeof(struct outer),
    .local_size = sizeof(struct local),
    .options = diloco_options,
    .open = diloco_open,
    .forecast = outer_forecast,
    .join = outer_join,
    .round = outer_round,
    .answer = outer_answer,
};

const struct strategy_ops strategy_lookahead = {
    .name = "lookahead",
    .summary = "k steps forward, then back to alpha of the way",
    .source = "Zhang, Lucas, Hinton, Ba, NeurIPS 2019, arXiv:1907.08610",
    .help = "The paper's is run.workers=1; more workers go alpha of the way to their mean.\n"
            "alpha = 1 is local_sgd. schedule.rate inside: begin with that of sgd, or with more\n"
            "workers that of local_sgd.\n"
            "Moves 2 (p-1)/p times the parameters a mean of p workers and worker, and with\n"
            "momentum=average as much again for each vector of the optimizer.",
    .size = sizeof(struct outer),
    .local_size = sizeof(struct local),
    .options = lookahead_options,
    .open = lookahead_open,
    .forecast = outer_forecast,
    .join = outer_join,
    .round = outer_round,
    .answer = outer_answer,
};
