/* layer_pool.c -- the largest or the mean of each window, or the mean of the whole image, channel by
 * channel; windows lie inside the input, what is left over at the right and below is not seen. */
#include "nn/layer.h"
#include "nn/words.h"

enum { WINDOW_MOST = 16 }; /* of maxpool: a place in the window is kept as one byte */

static enum status pool_parse(struct layer *l, int words, char *const word[]) {
    if (words != 2 && !(words == 4 && words_are_pair(words, word, 2, "stride"))) {
        return words_usage(l->ops->usage);
    }
    TRY(words_number(word[1], "SIZE", &l->size));
    l->stride = l->size;
    return words == 4 ? words_number(word[3], "stride", &l->stride) : STATUS_OK;
}

static enum status pool_infer(struct layer *l) {
    if (l->size > l->in.h || l->size > l->in.w) {
        return fail(STATUS_BAD_CONFIG,
            "a window of %d does not fit an input of %d x %d; use a smaller window", l->size,
            l->in.h, l->in.w);
    }
    l->out.h = (l->in.h - l->size) / l->stride + 1;
    l->out.w = (l->in.w - l->size) / l->stride + 1;
    l->out.c = l->in.c;
    return STATUS_OK;
}

static struct pool_shape pool_shape_of(const struct layer *l, const struct pass *p) {
    return (struct pool_shape){
        .batch = p->batch * p->replicas,
        .h = l->in.h,
        .w = l->in.w,
        .c = l->in.c,
        .size = l->size,
        .stride = l->stride,
        .out_h = l->out.h,
        .out_w = l->out.w,
    };
}

static enum status maxpool_parse(struct layer *l, int words, char *const word[]) {
    TRY(pool_parse(l, words, word));
    if (l->size <= WINDOW_MOST) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG, "SIZE = %d is not in 1 .. %d", l->size, WINDOW_MOST);
}

static size_t maxpool_kept_bytes(const struct layer *l) { return shape_size(l->out); }

static void maxpool_forward(const struct layer *l, const struct pass *p, const struct slot *s) {
    struct pool_shape shape = pool_shape_of(l, p);
    p->q->kernels->maxpool_forward(p->q, &shape, s->out, s->kept, s->in);
}

static void maxpool_backward(const struct layer *l, const struct pass *p, const struct slot *s) {
    struct pool_shape shape = pool_shape_of(l, p);
    if (s->din) p->q->kernels->maxpool_backward(p->q, &shape, s->din, s->dout, s->kept);
}

static void avgpool_forward(const struct layer *l, const struct pass *p, const struct slot *s) {
    struct pool_shape shape = pool_shape_of(l, p);
    p->q->kernels->avgpool_forward(p->q, &shape, s->out, s->in);
}

static void avgpool_backward(const struct layer *l, const struct pass *p, const struct slot *s) {
    struct pool_shape shape = pool_shape_of(l, p);
    if (s->din) p->q->kernels->avgpool_backward(p->q, &shape, s->din, s->dout);
}

static enum status global_parse(struct layer *l, int words, char *const word[]) {
    (void)word;
    return words == 1 ? STATUS_OK : words_usage(l->ops->usage);
}

static enum status global_infer(struct layer *l) {
    l->out = (struct shape){1, 1, l->in.c};
    return STATUS_OK;
}

static size_t pixels(const struct layer *l) { return (size_t)l->in.h * (size_t)l->in.w; }

static void global_forward(const struct layer *l, const struct pass *p, const struct slot *s) {
    p->q->kernels->globalavgpool_forward(
        p->q, s->out, s->in, p->batch * p->replicas, pixels(l), l->in.c);
}

static void global_backward(const struct layer *l, const struct pass *p, const struct slot *s) {
    if (!s->din) return;
    p->q->kernels->globalavgpool_backward(
        p->q, s->din, s->dout, p->batch * p->replicas, pixels(l), l->in.c);
}

const struct layer_ops layer_maxpool = {
    .name = "maxpool",
    .usage = "maxpool SIZE [stride N]",
    .parse = maxpool_parse,
    .infer = pool_infer,
    .kept_bytes = maxpool_kept_bytes,
    .forward = maxpool_forward,
    .backward = maxpool_backward,
};
const struct layer_ops layer_avgpool = {
    .name = "avgpool",
    .usage = "avgpool SIZE [stride N]",
    .parse = pool_parse,
    .infer = pool_infer,
    .forward = avgpool_forward,
    .backward = avgpool_backward,
};
const struct layer_ops layer_globalavgpool = {
    .name = "globalavgpool",
    .usage = "globalavgpool",
    .parse = global_parse,
    .infer = global_infer,
    .forward = global_forward,
    .backward = global_backward,
};
