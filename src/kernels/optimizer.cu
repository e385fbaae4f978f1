/* optimizer.cu -- CUDA: launcher `cuda_name` beside kernel `name_kernel`, as in optimizer.c. */
#include <math.h>

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

static __global__ void rmsprop_kernel(float *x, float *s, const float *g, float rho, float inside,
    float outside, const struct step *step, size_t n) {
    float eta = step->rate;
    FOR_EACH (i, n) {
        s[i] = rho * s[i] + (1 - rho) * (g[i] * g[i]);
        x[i] = x[i] - eta * (g[i] / (sqrtf(s[i] + inside) + outside));
    }
}

void cuda_rmsprop(struct stream *q, float *x, float *s, const float *g, float rho, float inside,
    float outside, const struct step *step, size_t n) {
    LAUNCH(rmsprop_kernel, q, blocks_for(n), THREADS, 0, x, s, g, rho, inside, outside, step, n);
}

static __device__ float adam_part(float log_beta, uint32_t number) {
    return -expm1f(((float)number + 1) * log_beta);
}

static __global__ void adam_kernel(float *x, float *m, float *s, const float *g, float beta1,
    float beta2, float inside, float outside, float log1, float log2, const struct step *step,
    size_t n) {
    float up = step->rate / adam_part(log1, step->number);
    float down = 1 / adam_part(log2, step->number);
    FOR_EACH (i, n) {
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        s[i] = beta2 * s[i] + (1 - beta2) * (g[i] * g[i]);
        x[i] = x[i] - up * (m[i] / (sqrtf(down * s[i] + inside) + outside));
    }
}

void cuda_adam(struct stream *q, float *x, float *m, float *s, const float *g, float beta1,
    float beta2, float inside, float outside, const struct step *step, size_t n) {
    LAUNCH(adam_kernel, q, blocks_for(n), THREADS, 0, x, m, s, g, beta1, beta2, inside, outside,
        (float)log((double)beta1), (float)log((double)beta2), step, n);
}
