/* quadratic.cu -- CUDA: quadratic. */
#include "kernels/cuda.h"
#include "kernels/cuda_reduce.cuh"

static __global__ void quadratic_kernel(float *g, float *loss, double *part, const float *x,
    const float *h, const float *target, const float *noise, size_t n) {
    double sum = 0;
    FOR_EACH (i, n) {
        float d = x[i] - target[i];
        g[i] = h[i] * d + noise[i];
        sum += (double)h[i] * (double)d * (double)d;
    }
    part_leave(loss, part, 0.5, sum);
}

void cuda_quadratic(struct stream *q, float *g, float *loss, const float *x, const float *h,
    const float *target, const float *noise, size_t n) {
    LAUNCH(quadratic_kernel, q, parts_for(n), threads_for(n), 0, g, loss, parts_of(q), x, h, target,
        noise, n);
    cuda_parts_sum(q, loss, parts_for(n));
}
