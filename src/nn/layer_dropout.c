/* layer_dropout.c -- in training each value is dropped with probability `rate`, and what is kept
 * is scaled by 1 / (1 - rate), so that nothing needs scaling elsewhere. */
#include <stdlib.h>

#include "nn/layer.h"
#include "nn/words.h"

static enum status dropout_parse(struct layer *l, int words, char *const word[]) {
    if (words != 2) return words_usage(l->ops->usage);
    char *end;
    l->rate = strtof(word[1], &end);
    if (end == word[1] || *end) {
        return fail(STATUS_BAD_CONFIG, "RATE is to be a number, not \"%s\"", word[1]);
    }
    if (!(l->rate >= 0 && l->rate < 1)) {
        return fail(STATUS_BAD_CONFIG, "RATE = %s is not in 0 .. 1, 1 excluded", word[1]);
    }
    return STATUS_OK;
}

static enum status dropout_infer(struct layer *l) {
    l->out = l->in;
    return STATUS_OK;
}

static size_t dropout_kept_bytes(const struct layer *l) { return shape_size(l->out); }

static size_t floats(const struct layer *l, const struct pass *p) {
    return (size_t)p->replicas * (size_t)p->batch * shape_size(l->out);
}

static void dropout_forward(const struct layer *l, const struct pass *p, const struct slot *s) {
    const struct kernels *k = p->q->kernels;
    size_t n = floats(l, p);
    if (!p->train) {
        k->act(p->q, s->out, s->in, ACTIVATION_NONE, n);
        return;
    }
    struct rng_key key = p->key;
    key.id += (uint32_t)l->position;
    k->dropout_mask(p->q, s->kept, key, 1 - l->rate, p->step, n);
    k->dropout(p->q, s->out, s->in, s->kept, 1 - l->rate, n);
}

static void dropout_backward(const struct layer *l, const struct pass *p, const struct slot *s) {
    const struct kernels *k = p->q->kernels;
    size_t n = floats(l, p);
    if (!s->din) return;
    if (p->train) {
        k->dropout(p->q, s->din, s->dout, s->kept, 1 - l->rate, n);
    } else {
        k->act(p->q, s->din, s->dout, ACTIVATION_NONE, n);
    }
}

const struct layer_ops layer_dropout = {
    .name = "dropout",
    .usage = "dropout RATE",
    .parse = dropout_parse,
    .infer = dropout_infer,
    .kept_bytes = dropout_kept_bytes,
    .forward = dropout_forward,
    .backward = dropout_backward,
};
