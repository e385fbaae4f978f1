/* layer_batchnorm.c -- y = act(weight (x - mean) / sqrt(var + eps) + bias), channel by channel.
 *
 * Ioffe, Szegedy: Batch normalization, ICML 2015. In training, mean and variance are the batch's,
 * over samples and pixels, and the gradient goes through them; the running statistics, two buffers
 * of the model, move towards them by the pass's momentum:
 *
 *     mean <- (1 - m) mean + m mean_B,   var <- (1 - m) var + m n/(n-1) var_B    of n values
 *
 * and are what an evaluation normalizes with. */
#include "nn/layer.h"
#include "nn/words.h"

static const float EPSILON = 1e-5f;

static enum status batchnorm_parse(struct layer *l, int words, char *const word[]) {
    (void)word;
    return words == 1 ? STATUS_OK : words_usage(l->ops->usage);
}

static enum status batchnorm_infer(struct layer *l) {
    l->out = l->in;
    return STATUS_OK;
}

static int batchnorm_part(
    const struct layer *l, int p, const char **name, int *dims, int dim[4], int *fan_in) {
    if (p >= 2) return 0;
    *name = p == 0 ? "weight" : "bias";
    *dims = 1;
    dim[0] = l->in.c;
    *fan_in = p == 0 ? PART_ONES : 0;
    return 1;
}

static int batchnorm_buffer(const struct layer *l, int p, const char **name, int *n, float *start) {
    if (p >= 2) return 0;
    *name = p == 0 ? "mean" : "var";
    *n = l->in.c;
    *start = (float)p;
    return 1;
}

/* The statistics that the pass normalizes with, then room for two sums. */
static size_t batchnorm_kept_floats(const struct layer *l) { return 4 * (size_t)l->in.c; }

static size_t rows_of(const struct layer *l, const struct pass *p) {
    return (size_t)p->batch * (size_t)l->in.h * (size_t)l->in.w;
}

/* The running statistics of the batch's. Of one value there is no variance to be had. */
static void statistics_follow(
    const struct layer *l, const struct pass *p, const float *mean, const float *var) {
    const struct kernels *k = p->q->kernels;
    float m = p->momentum, n = (float)rows_of(l, p);
    float unbiased = n > 1 ? n / (n - 1) : 1;
    k->mix(p->q, p->b + l->mean.offset, 1 - m, m, mean, l->mean.n);
    k->mix(p->q, p->b + l->var.offset, 1 - m, m * unbiased, var, l->var.n);
}

static void batchnorm_forward(const struct layer *l, const struct pass *p, const struct slot *s) {
    const struct kernels *k = p->q->kernels;
    size_t c = (size_t)l->in.c, rows = rows_of(l, p);
    float *mean = s->kept_floats, *var = mean + c;
    ASSERT(p->replicas == 1);
    if (rows == 0) return;
    if (p->momentum > 0) {
        k->batchnorm_statistics(p->q, mean, var, s->in, rows, l->in.c);
        statistics_follow(l, p, mean, var);
    } else {
        k->mix(p->q, mean, 0, 1, p->b + l->mean.offset, c);
        k->mix(p->q, var, 0, 1, p->b + l->var.offset, c);
    }
    k->batchnorm_forward(p->q, s->out, s->in, mean, var, EPSILON, p->x + l->weight.offset,
        p->x + l->bias.offset, l->act, rows, l->in.c);
}

static void batchnorm_backward(const struct layer *l, const struct pass *p, const struct slot *s) {
    const struct kernels *k = p->q->kernels;
    size_t c = (size_t)l->in.c, rows = rows_of(l, p);
    float *mean = s->kept_floats, *var = mean + c, *dweight = var + c, *dbias = dweight + c;
    const float *dz = s->dout;
    int through = p->momentum > 0; /* the statistics depend on x */
    if (l->act != ACTIVATION_NONE) {
        k->act_grad(p->q, s->dscratch, s->dout, s->out, l->act, rows * c);
        dz = s->dscratch;
    }
    k->batchnorm_grad_sums(p->q, dweight, dbias, dz, s->in, mean, var, EPSILON, rows, l->in.c);
    if (s->din) { /* first: g may be x */
        k->batchnorm_grad_input(p->q, s->din, dz, s->in, mean, var, EPSILON,
            p->x + l->weight.offset, through ? dweight : NULL, through ? dbias : NULL, rows,
            l->in.c);
    }
    k->mix(p->q, p->g + l->weight.offset, p->beta, 1, dweight, c);
    k->mix(p->q, p->g + l->bias.offset, p->beta, 1, dbias, c);
}

const struct layer_ops layer_batchnorm = {
    .name = "batchnorm",
    .usage = "batchnorm",
    .parse = batchnorm_parse,
    .infer = batchnorm_infer,
    .part = batchnorm_part,
    .buffer = batchnorm_buffer,
    .kept_floats = batchnorm_kept_floats,
    .forward = batchnorm_forward,
    .backward = batchnorm_backward,
    .absorbs = 1,
};
