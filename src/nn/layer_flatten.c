/* layer_flatten.c -- (h, w, c) as (1, 1, h w c). Nothing moves: the layer is always absorbed. */
#include "nn/layer.h"
#include "nn/words.h"

static enum status flatten_parse(struct layer *l, int words, char *const word[]) {
    (void)word;
    l->absorbed = 1;
    return words == 1 ? STATUS_OK : words_usage(l->ops->usage);
}

static enum status flatten_infer(struct layer *l) {
    l->out = (struct shape){1, 1, (int)shape_size(l->in)};
    return STATUS_OK;
}

const struct layer_ops layer_flatten = {
    .name = "flatten",
    .usage = "flatten",
    .parse = flatten_parse,
    .infer = flatten_infer,
};
