/* cuda.c -- the table of the CUDA kernels, in the order of kernels.h. */
#include "cuda.h"

const struct kernels kernels_cuda = {
    .fill = cuda_fill,
    .mix = cuda_mix,
    .diff = cuda_diff,
    .elastic = cuda_elastic,
    .sgd = cuda_sgd,
    .momentum = cuda_momentum,
    .look_ahead = cuda_look_ahead,
    .rmsprop = cuda_rmsprop,
    .adam = cuda_adam,
};
