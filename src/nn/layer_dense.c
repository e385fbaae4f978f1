/* layer_dense.c -- y = act(W x + b). W is (units, inputs), b (units); an input of any shape is
 * taken as one flat vector. */
#include "nn/layer.h"
#include "nn/words.h"

static enum status dense_parse(struct layer *l, int words, char *const word[]) {
    if (words != 2) return words_usage(l->ops->usage);
    return words_number(word[1], "UNITS", &l->units);
}

static enum status dense_infer(struct layer *l) {
    l->out = (struct shape){1, 1, l->units};
    return STATUS_OK;
}

static int dense_part(
    const struct layer *l, int p, const char **name, int *dims, int dim[4], int *fan_in) {
    if (p >= 2) return 0;
    int inputs = (int)shape_size(l->in);
    *name = p == 0 ? "weight" : "bias";
    *dims = p == 0 ? 2 : 1;
    dim[0] = l->units;
    if (p == 0) dim[1] = inputs;
    *fan_in = p == 0 ? inputs : 0;
    return 1;
}

static void dense_forward(const struct layer *l, const struct pass *p, const struct slot *s) {
    const struct kernels *k = p->q->kernels;
    int inputs = (int)shape_size(l->in), units = l->units, B = p->batch;
    size_t in = (size_t)B * (size_t)inputs, out = (size_t)B * (size_t)units;
    k->gemm(p->q, p->replicas, 0, 1, B, units, inputs, 1, s->in, inputs, in,
        p->x + l->weight.offset, inputs, p->stride, 0, s->out, units, out);
    for (size_t r = 0; r < (size_t)p->replicas; r++) {
        k->bias_act(p->q, s->out + r * out, p->x + r * p->stride + l->bias.offset, l->act,
            (size_t)B, units);
    }
}

static void dense_backward(const struct layer *l, const struct pass *p, const struct slot *s) {
    const struct kernels *k = p->q->kernels;
    int inputs = (int)shape_size(l->in), units = l->units, B = p->batch;
    size_t in = (size_t)B * (size_t)inputs, out = (size_t)B * (size_t)units;
    const float *dz = s->dout;
    if (l->act != ACTIVATION_NONE) {
        k->act_grad(p->q, s->dscratch, s->dout, s->out, l->act, (size_t)p->replicas * out);
        dz = s->dscratch;
    }
    if (s->din) { /* first: g may be x */
        k->gemm(p->q, p->replicas, 0, 0, B, inputs, units, 1, dz, units, out,
            p->x + l->weight.offset, inputs, p->stride, 0, s->din, inputs, in);
    }
    k->gemm(p->q, p->replicas, 1, 0, units, inputs, B, 1, dz, units, out, s->in, inputs, in,
        p->beta, p->g + l->weight.offset, inputs, p->stride);
    for (size_t r = 0; r < (size_t)p->replicas; r++) {
        k->bias_grad(
            p->q, p->g + r * p->stride + l->bias.offset, dz + r * out, p->beta, (size_t)B, units);
    }
}

const struct layer_ops layer_dense = {
    .name = "dense",
    .usage = "dense UNITS",
    .parse = dense_parse,
    .infer = dense_infer,
    .part = dense_part,
    .forward = dense_forward,
    .backward = dense_backward,
    .absorbs = 1,
};
