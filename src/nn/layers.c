/* layers.c -- the list of layers. A new one is a file layer_<name>.c and two lines here. */
#include "nn/layer.h"

extern const struct layer_ops layer_conv, layer_maxpool, layer_avgpool, layer_globalavgpool,
    layer_relu, layer_tanh, layer_sigmoid, layer_dropout, layer_flatten, layer_dense,
    layer_residual;

const struct layer_ops *const layer_kinds[] = {
    &layer_conv,
    &layer_maxpool,
    &layer_avgpool,
    &layer_globalavgpool,
    &layer_batchnorm,
    &layer_relu,
    &layer_tanh,
    &layer_sigmoid,
    &layer_dropout,
    &layer_flatten,
    &layer_dense,
    &layer_residual,
    NULL,
};
