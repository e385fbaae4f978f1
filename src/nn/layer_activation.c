/* layer_activation.c -- relu, tanh and sigmoid. Behind a conv or a dense they are done in its pass; here is
 * what happens elsewhere. */
#include "nn/layer.h"
#include "nn/words.h"

static enum status activation_parse(struct layer *l, int words, char *const word[]) {
    (void)word;
    return words == 1 ? STATUS_OK : words_usage(l->ops->usage);
}

static enum status activation_infer(struct layer *l) {
    l->out = l->in;
    return STATUS_OK;
}

static size_t floats(const struct layer *l, const struct pass *p) {
    return (size_t)p->replicas * (size_t)p->batch * shape_size(l->out);
}

static void activation_forward(const struct layer *l, const struct pass *p, const struct slot *s) {
    p->q->kernels->act(p->q, s->out, s->in, l->ops->absorbs_into, floats(l, p));
}

static void activation_backward(const struct layer *l, const struct pass *p, const struct slot *s) {
    if (s->din) {
        p->q->kernels->act_grad(p->q, s->din, s->dout, s->out, l->ops->absorbs_into, floats(l, p));
    }
}

const struct layer_ops layer_relu = {
    .name = "relu",
    .usage = "relu",
    .parse = activation_parse,
    .infer = activation_infer,
    .forward = activation_forward,
    .backward = activation_backward,
    .absorbs_into = ACTIVATION_RELU,
};
const struct layer_ops layer_tanh = {
    .name = "tanh",
    .usage = "tanh",
    .parse = activation_parse,
    .infer = activation_infer,
    .forward = activation_forward,
    .backward = activation_backward,
    .absorbs_into = ACTIVATION_TANH,
};
const struct layer_ops layer_sigmoid = {
    .name = "sigmoid",
    .usage = "sigmoid",
    .parse = activation_parse,
    .infer = activation_infer,
    .forward = activation_forward,
    .backward = activation_backward,
    .absorbs_into = ACTIVATION_SIGMOID,
};
