/* layer_residual.c -- y = act(body(x) + shortcut(x)), as He, Zhang, Ren, Sun: Deep residual learning
 * for image recognition, CVPR 2016.
 *
 * In the model "residual ( ... )" is an opening layer, at which nothing is computed, the body, the
 * shortcut's own layers where it has any, and a join, which adds. The net takes the gradient past
 * the join both ways, and adds where the ways part. */
#include "nn/layer.h"
#include "nn/words.h"

static enum status residual_parse(struct layer *l, int words, char *const word[]) {
    (void)word;
    l->absorbed = 1;
    return words == 1 ? STATUS_OK : words_usage(l->ops->usage);
}

static enum status residual_infer(struct layer *l) {
    l->out = l->in;
    return STATUS_OK;
}

static size_t floats(const struct layer *l, const struct pass *p) {
    return (size_t)p->replicas * (size_t)p->batch * shape_size(l->out);
}

static void join_forward(const struct layer *l, const struct pass *p, const struct slot *s) {
    p->q->kernels->add_act(p->q, s->out, s->in, s->other, l->act, floats(l, p));
}

/* din is that of the sum: it goes to both ways. */
static void join_backward(const struct layer *l, const struct pass *p, const struct slot *s) {
    p->q->kernels->act_grad(p->q, s->din, s->dout, s->out, l->act, floats(l, p));
}

const struct layer_ops layer_residual = {
    .name = "residual",
    .usage = "residual ( LAYER, ... )",
    .parse = residual_parse,
    .infer = residual_infer,
    .opens = 1,
};
const struct layer_ops layer_join = {
    .name = "join",
    .usage = ")",
    .infer = residual_infer,
    .forward = join_forward,
    .backward = join_backward,
    .absorbs = 1,
};
