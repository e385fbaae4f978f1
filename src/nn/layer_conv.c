/* layer_conv.c -- y = act(x * W + b), images NHWC. W is (size, size, c, channels), b (channels).
 *
 * 'same' pads with zeros as TensorFlow does: the output has ceil(side / stride) pixels a side, and
 * of an odd number of padding rows the greater half is below. 'nobias' leaves b out, for where a
 * batch norm behind it would take it away again. */
#include <limits.h>
#include <string.h>

#include "nn/layer.h"
#include "nn/words.h"

static enum status conv_parse(struct layer *l, int words, char *const word[]) {
    int i = 3;
    l->stride = 1;
    if (words < 3) return words_usage(l->ops->usage);
    TRY(words_number(word[1], "CHANNELS", &l->units));
    TRY(words_number(word[2], "SIZE", &l->size));
    if (words_are_pair(words, word, i, "stride")) {
        TRY(words_number(word[i + 1], "stride", &l->stride));
        i += 2;
    }
    if (i < words) {
        l->same = !strcmp(word[i], "same");
        if (l->same || !strcmp(word[i], "valid")) i++;
    }
    l->nobias = i < words && !strcmp(word[i], "nobias");
    i += l->nobias;
    return i == words ? STATUS_OK : words_usage(l->ops->usage);
}

static int ceil_div(int a, int b) { return a / b + (a % b != 0); }

static enum status conv_infer(struct layer *l) {
    int h = l->in.h, w = l->in.w, stride = l->stride;
    if (!l->same && (l->size > h || l->size > w)) {
        return fail(STATUS_BAD_CONFIG,
            "a window of %d does not fit an input of %d x %d; use 'same' or a smaller window",
            l->size, h, w);
    }
    /* Else padding would be most of what a window sees; and sizes stay small enough to add. */
    if (l->same && (l->size > 2 * h + 1 || l->size > 2 * w + 1)) {
        return fail(STATUS_BAD_CONFIG,
            "a window of %d is more than twice as large as its input of %d x %d", l->size, h, w);
    }
    if ((size_t)l->size * (size_t)l->size * (size_t)l->in.c > INT_MAX) {
        return fail(STATUS_BAD_CONFIG, "a window of %d x %d x %d has too many values", l->size,
            l->size, l->in.c);
    }
    l->out.h = l->same ? ceil_div(h, stride) : (h - l->size) / stride + 1;
    l->out.w = l->same ? ceil_div(w, stride) : (w - l->size) / stride + 1;
    l->out.c = l->units;
    return STATUS_OK;
}

static int conv_part(
    const struct layer *l, int p, const char **name, int *dims, int dim[4], int *fan_in) {
    if (p >= 2 - l->nobias) return 0;
    const int weight[4] = {l->size, l->size, l->in.c, l->units};
    *name = p == 0 ? "weight" : "bias";
    *dims = p == 0 ? 4 : 1;
    memcpy(dim, weight, sizeof weight);
    if (p == 1) dim[0] = l->units;
    *fan_in = p == 0 ? l->size * l->size * l->in.c : 0;
    return 1;
}

/* Zero rows before the first; the rest is below. None for 'valid', whose windows lie inside. */
static int padding_before(const struct layer *l, int in, int out) {
    int total = (out - 1) * l->stride + l->size - in;
    return total > 0 ? total / 2 : 0;
}

static struct conv_shape conv_shape_of(const struct layer *l, int batch) {
    return (struct conv_shape){
        .batch = batch,
        .h = l->in.h,
        .w = l->in.w,
        .c = l->in.c,
        .size = l->size,
        .stride = l->stride,
        .top = padding_before(l, l->in.h, l->out.h),
        .left = padding_before(l, l->in.w, l->out.w),
        .out_h = l->out.h,
        .out_w = l->out.w,
        .out_c = l->out.c,
    };
}

static size_t conv_workspace(const struct layer *l, const struct stream *q, int batch) {
    struct conv_shape shape = conv_shape_of(l, batch);
    return q->kernels->conv_workspace(q, &shape);
}

static void conv_forward(const struct layer *l, const struct pass *p, const struct slot *s) {
    struct conv_shape shape = conv_shape_of(l, p->batch);
    size_t in = (size_t)p->batch * shape_size(l->in), out = (size_t)p->batch * shape_size(l->out);
    for (size_t r = 0; r < (size_t)p->replicas; r++) {
        const float *x = p->x + r * p->stride;
        p->q->kernels->conv_forward(p->q, &shape, s->out + r * out, s->in + r * in,
            x + l->weight.offset, l->nobias ? NULL : x + l->bias.offset, l->act, p->workspace);
    }
}

static void conv_backward(const struct layer *l, const struct pass *p, const struct slot *s) {
    const struct kernels *k = p->q->kernels;
    struct conv_shape shape = conv_shape_of(l, p->batch);
    size_t in = (size_t)p->batch * shape_size(l->in), out = (size_t)p->batch * shape_size(l->out);
    const float *dz = s->dout;
    if (l->act != ACTIVATION_NONE) {
        k->act_grad(p->q, s->dscratch, s->dout, s->out, l->act, (size_t)p->replicas * out);
        dz = s->dscratch;
    }
    for (size_t r = 0; r < (size_t)p->replicas; r++, dz += out) {
        const float *x = p->x + r * p->stride;
        float *g = p->g + r * p->stride;
        if (s->din) { /* first: g may be x */
            k->conv_grad_input(
                p->q, &shape, s->din + r * in, dz, x + l->weight.offset, p->workspace);
        }
        k->conv_grad_weight(
            p->q, &shape, g + l->weight.offset, p->beta, dz, s->in + r * in, p->workspace);
        if (l->nobias) continue;
        k->bias_grad(p->q, g + l->bias.offset, dz, p->beta,
            (size_t)p->batch * (size_t)l->out.h * (size_t)l->out.w, l->out.c);
    }
}

const struct layer_ops layer_conv = {
    .name = "conv",
    .usage = "conv CHANNELS SIZE [stride N] [same|valid] [nobias]",
    .parse = conv_parse,
    .infer = conv_infer,
    .part = conv_part,
    .workspace = conv_workspace,
    .forward = conv_forward,
    .backward = conv_backward,
    .absorbs = 1,
};
