/* optimizer.cu -- CUDA: launcher `cuda_name` beside kernel `name_kernel`, as in optimizer.c. */
#include "kernels/cuda.h"
#include "kernels/cuda_stream.cuh"

static __global__ void sgd_kernel(float *x, const float *g, const struct step *step, size_t n) {
    float eta = step->rate;
    FOR_EACH (i, n) x[i] = x[i] - eta * g[i];
}

void cuda_sgd(struct stream *q, float *x, const float *g, const struct step *step, size_t n) {
    LAUNCH(sgd_kernel, q, blocks_for(n), THREADS, 0, x, g, step, n);
}

static __global__ void momentum_kernel(
    float *x, float *v, const float *g, float delta, const struct step *step, size_t n) {
    float eta = step->rate;
    FOR_EACH (i, n) {
        v[i] = delta * v[i] - eta * g[i];
        x[i] = x[i] + v[i];
    }
}

void cuda_momentum(struct stream *q, float *x, float *v, const float *g, float delta,
    const struct step *step, size_t n) {
    LAUNCH(momentum_kernel, q, blocks_for(n), THREADS, 0, x, v, g, delta, step, n);
}

static __global__ void look_ahead_kernel(
    float *y, const float *x, float delta, const float *v, size_t n) {
    FOR_EACH (i, n) y[i] = x[i] + delta * v[i];
}

void cuda_look_ahead(
    struct stream *q, float *y, const float *x, float delta, const float *v, size_t n) {
    LAUNCH(look_ahead_kernel, q, blocks_for(n), THREADS, 0, y, x, delta, v, n);
}
