/* cuda_activation.cuh -- an activation of one value. A NaN is passed on, as in activation.c. */
#ifndef CUDA_ACTIVATION_CUH
#define CUDA_ACTIVATION_CUH

#include <cuda_runtime.h>
#include <math.h>

#include "kernels/kernels.h"

static inline __device__ float activated(float z, enum activation act) {
    switch (act) {
    case ACTIVATION_NONE:
        return z;
    case ACTIVATION_RELU:
        return z < 0 ? 0 : z;
    case ACTIVATION_TANH:
        return tanhf(z);
    case ACTIVATION_SIGMOID:
        return 1 / (1 + expf(-z));
    }
    return z;
}

#endif
