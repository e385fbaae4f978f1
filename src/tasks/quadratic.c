/* quadratic.c -- a bowl for each shard: the test bed of the theory.
 *
 *     f_k(x) = sum_i h_i (x_i - target_ki)^2 / 2,   gradient h (x - target_k) + sigma noise
 *
 * Worker r learns shard r mod shards. Curvatures h rise geometrically from h_min to h_max; the
 * targets are normal with deviation `spread`, the noise with deviation sigma. What is judged is
 * the mean of f_k over the shards, without noise; its minimum is not 0 unless spread is.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/rng.h"
#include "tasks/losses.h"

struct quadratic {
    struct task base;
    int n, shards, samples;
    float h_min, h_max, sigma, spread, start;
    uint32_t seed;
    struct arena arena;
    float *h;      /* (n) */
    float *target; /* (shards, n) */
};

enum { NOISES = 8 }; /* on their way to a device at once */

struct bowl { /* a learner */
    struct learner base;
    float *h, *target, *noise, *g; /* (n), device memory */
    float *drawn;                  /* (NOISES, n), pinned: noise on its way; x, when it is judged */
    struct losses losses;
};

static const struct option options[] = {
    {"n", OPTION_INT, offsetof(struct quadratic, n), 64, 1, 1e8, "dimensions", NULL},
    {"shards", OPTION_INT, offsetof(struct quadratic, shards), 0, 0, 1e6,
        "different targets; 0: one a worker", NULL},
    {"samples", OPTION_INT, offsetof(struct quadratic, samples), 1000, 1, 2e9,
        "gradients that make an epoch", NULL},
    {"h_min", OPTION_REAL, offsetof(struct quadratic, h_min), 1, 0, 1e6, "smallest curvature",
        NULL},
    {"h_max", OPTION_REAL, offsetof(struct quadratic, h_max), 1, 0, 1e6, "largest curvature", NULL},
    {"sigma", OPTION_REAL, offsetof(struct quadratic, sigma), 0, 0, 1e6,
        "deviation of the gradient noise", NULL},
    {"spread", OPTION_REAL, offsetof(struct quadratic, spread), 0, 0, 1e6,
        "deviation of the targets", NULL},
    {"start", OPTION_REAL, offsetof(struct quadratic, start), 1, -1e6, 1e6,
        "where every x_i starts", NULL},
    {0},
};

static struct rng_key target_key(const struct quadratic *t, int shard) {
    return (struct rng_key){t->seed, RNG_TARGET, (uint32_t)shard};
}

static enum status quadratic_open(struct task *base, const struct task_setup *setup) {
    struct quadratic *t = (struct quadratic *)base;
    size_t n = (size_t)t->n;
    t->seed = setup->seed;
    if (t->shards == 0) t->shards = setup->workers;
    if (t->h_min > t->h_max) {
        return fail(STATUS_BAD_CONFIG, "quadratic.h_min = %g is above quadratic.h_max = %g",
            (double)t->h_min, (double)t->h_max);
    }
    if (t->shards > t->samples) {
        return fail(STATUS_BAD_CONFIG, "quadratic.shards = %d, but there are only %d samples",
            t->shards, t->samples);
    }
    t->h = arena_take(&t->arena, n * sizeof *t->h);
    t->target = arena_take(&t->arena, n * (size_t)t->shards * sizeof *t->target);
    if (!t->h || !t->target) return fail(STATUS_FAILED, "no memory for %d dimensions", t->n);
    for (size_t i = 0; i < n; i++) {
        double share = n > 1 ? (double)i / (double)(n - 1) : 0;
        double h = t->h_min > 0 ? pow((double)(t->h_max / t->h_min), share) : share;
        t->h[i] = (float)(h * (double)(t->h_min > 0 ? t->h_min : t->h_max));
    }
    for (int k = 0; k < t->shards; k++) {
        float *target = t->target + n * (size_t)k;
        rng_normals(target_key(t, k), 0, target, n);
        for (size_t i = 0; i < n; i++) target[i] *= t->spread;
    }
    base->floats = base->parameters = n;
    base->epoch = t->samples;
    base->batch = 1;
    base->curvature = (double)t->h[n - 1];
    return STATUS_OK;
}

static void quadratic_close(struct task *base) { arena_close(&((struct quadratic *)base)->arena); }

static void quadratic_init(const struct task *base, float *x) {
    const struct quadratic *t = (const struct quadratic *)base;
    for (int i = 0; i < t->n; i++) x[i] = t->start;
}

static int quadratic_tensor(const struct task *base, int i, struct tensor *out) {
    int n = ((const struct quadratic *)base)->n;
    *out = (struct tensor){"x", {0, (size_t)n}, 1, {n}};
    return i == 0;
}

static void quadratic_write_options(const struct task *t, FILE *f) {
    options_write(f, "quadratic", options, t);
}

static void quadratic_learner_close(struct learner *base) { free(base); }

static enum status fill_bowl(struct bowl *l, const struct quadratic *t) {
    struct device *d = l->base.q->device;
    size_t n = (size_t)t->n, bytes = n * sizeof(float);
    float **vectors[] = {&l->h, &l->target, &l->noise, &l->g};
    for (int i = 0; i < 4; i++) TRY(device_alloc(d, (void **)vectors[i], bytes));
    TRY(device_pinned(d, (void **)&l->drawn, NOISES * bytes));
    TRY(losses_open(&l->losses, &l->base));
    const float *target = t->target + n * (size_t)(l->base.rank % t->shards);
    stream_copy(l->base.q, l->h, t->h, bytes);
    stream_copy(l->base.q, l->target, target, bytes);
    return stream_sync(l->base.q);
}

static enum status quadratic_learner_open(
    struct task *base, struct learner **out, int rank, struct stream *q, uint64_t drawn) {
    (void)drawn; /* the noise is keyed by the number of the step */
    struct bowl *l = calloc(1, sizeof *l);
    *out = (struct learner *)l;
    if (!l) return fail(STATUS_FAILED, "no memory for a learner");
    l->base = (struct learner){.task = base, .rank = rank, .q = q};
    return fill_bowl(l, (struct quadratic *)base);
}

static uint64_t quadratic_drawn(const struct learner *l) {
    (void)l;
    return 0;
}

static void draw_noise(struct bowl *l, const struct quadratic *t) {
    size_t n = (size_t)t->n;
    struct rng_key key = {t->seed, RNG_NOISE, (uint32_t)l->base.rank};
    learner_ring(&l->base, NOISES);
    float *drawn = l->drawn + n * (size_t)(l->base.taken % NOISES);
    rng_normals(key, (uint64_t)l->base.now.number * (n + n % 2), drawn, n);
    for (size_t i = 0; i < n; i++) drawn[i] *= t->sigma;
    stream_copy(l->base.q, l->noise, drawn, n * sizeof *l->noise);
}

static int quadratic_feed(struct learner *base) {
    struct bowl *l = (struct bowl *)base;
    const struct quadratic *t = (const struct quadratic *)base->task;
    losses_next(&l->losses);
    if (t->sigma > 0) draw_noise(l, t);
    return 0;
}

static struct range quadratic_grad(
    struct learner *base, struct vec x, struct vec g, const struct step *step) {
    struct bowl *l = (struct bowl *)base;
    const struct quadratic *t = (const struct quadratic *)base->task;
    (void)step;
    base->q->kernels->quadratic(
        base->q, g.at, l->losses.now, x.at, l->h, l->target, l->noise, (size_t)t->n);
    return (struct range){0, (size_t)t->n};
}

static enum status quadratic_loss(struct learner *base, double *mean) {
    return losses_mean(&((struct bowl *)base)->losses, mean);
}

/* Shards are dealt out to the parts; each counts as one sample. */
static enum status quadratic_evaluate(
    struct learner *base, struct vec x, int part, int parts, struct score *score) {
    struct bowl *l = (struct bowl *)base;
    const struct quadratic *t = (const struct quadratic *)base->task;
    size_t n = (size_t)t->n;
    stream_copy(base->q, l->drawn, x.at, n * sizeof *l->drawn);
    TRY(stream_sync(base->q));
    for (int k = part; k < t->shards; k += parts) {
        const float *target = t->target + n * (size_t)k;
        for (size_t i = 0; i < n; i++) {
            double d = (double)l->drawn[i] - (double)target[i];
            score->loss += (double)t->h[i] * d * d / 2;
        }
        score->samples += 1;
    }
    return STATUS_OK;
}

static void quadratic_describe(const struct task *base, char *text, size_t n) {
    const struct quadratic *t = (const struct quadratic *)base;
    snprintf(text, n, "quadratic: %d dimensions, curvature %g to %g, %d targets", t->n,
        (double)t->h_min, (double)t->h_max, t->shards);
}

extern const struct task_ops task_quadratic;

const struct task_ops task_quadratic = {
    .name = "quadratic",
    .summary = "bowls of known curvature, one a shard: the test bed of the theory",
    .size = sizeof(struct quadratic),
    .options = options,
    .open = quadratic_open,
    .close = quadratic_close,
    .init = quadratic_init,
    .tensor = quadratic_tensor,
    .write_options = quadratic_write_options,
    .learner_open = quadratic_learner_open,
    .drawn = quadratic_drawn,
    .learner_close = quadratic_learner_close,
    .feed = quadratic_feed,
    .grad = quadratic_grad,
    .loss = quadratic_loss,
    .evaluate = quadratic_evaluate,
    .describe = quadratic_describe,
};
