/* layer_maxpool.c -- the largest of each window, channel by channel; windows lie inside the input,
 * what is left over at the right and below is not seen. */
#include "nn/layer.h"
#include "nn/words.h"

enum { WINDOW_MOST = 16 }; /* a place in the window is kept as one byte */

static enum status maxpool_parse(struct layer *l, int words, char *const word[]) {
    if (words != 2 && !(words == 4 && words_are_pair(words, word, 2, "stride"))) {
        return words_usage(l->ops->usage);
    }
    TRY(words_number(word[1], "SIZE", &l->size));
    if (l->size > WINDOW_MOST) {
        return fail(STATUS_BAD_CONFIG, "SIZE = %d is not in 1 .. %d", l->size, WINDOW_MOST);
    }
    l->stride = l->size;
    return words == 4 ? words_number(word[3], "stride", &l->stride) : STATUS_OK;
}

static enum status maxpool_infer(struct layer *l) {
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

static size_t maxpool_kept_bytes(const struct layer *l) { return shape_size(l->out); }

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

static void maxpool_forward(const struct layer *l, const struct pass *p, const struct slot *s) {
    struct pool_shape shape = pool_shape_of(l, p);
    p->q->kernels->maxpool_forward(p->q, &shape, s->out, s->kept, s->in);
}

static void maxpool_backward(const struct layer *l, const struct pass *p, const struct slot *s) {
    struct pool_shape shape = pool_shape_of(l, p);
    if (s->din) p->q->kernels->maxpool_backward(p->q, &shape, s->din, s->dout, s->kept);
}

const struct layer_ops layer_maxpool = {
    .name = "maxpool",
    .usage = "maxpool SIZE [stride N]",
    .parse = maxpool_parse,
    .infer = maxpool_infer,
    .kept_bytes = maxpool_kept_bytes,
    .forward = maxpool_forward,
    .backward = maxpool_backward,
};
