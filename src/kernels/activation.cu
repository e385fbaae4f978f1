/* activation.cu -- CUDA: bias_act, act_grad, act, add_act, bias_grad. */
#include "kernels/cuda.h"
#include "kernels/cuda_activation.cuh"
#include "kernels/cuda_columns.cuh"

static __global__ void bias_act_kernel(
    struct columns s, float *y, const float *bias, enum activation act) {
    struct column_share t = column_share_of(s);
    float b = bias[t.j];
    FOR_COLUMN (i, t) y[i] = activated(y[i] + b, act);
}

void cuda_bias_act(
    struct stream *q, float *y, const float *bias, enum activation act, size_t rows, int c) {
    if (c == 0) return;
    struct columns s = columns_of(rows, c, 4, BLOCKS_MOST);
    LAUNCH(bias_act_kernel, q, columns_grid(&s), THREADS, 0, s, y, bias, act);
}

static __global__ void act_grad_kernel(
    float *dz, const float *dy, const float *y, enum activation act, size_t n) {
    FOR_EACH (i, n) {
        float d = dy[i];
        switch (act) {
        case ACTIVATION_NONE:
            break;
        case ACTIVATION_RELU:
            d = y[i] > 0 ? d : 0;
            break;
        case ACTIVATION_TANH:
            d = d * (1 - y[i] * y[i]);
            break;
        case ACTIVATION_SIGMOID:
            d = d * (y[i] * (1 - y[i]));
            break;
        }
        dz[i] = d;
    }
}

void cuda_act_grad(
    struct stream *q, float *dz, const float *dy, const float *y, enum activation act, size_t n) {
    LAUNCH(act_grad_kernel, q, blocks_for(n), THREADS, 0, dz, dy, y, act, n);
}

static __global__ void act_kernel(float *y, const float *x, enum activation act, size_t n) {
    FOR_EACH (i, n) y[i] = activated(x[i], act);
}

void cuda_act(struct stream *q, float *y, const float *x, enum activation act, size_t n) {
    LAUNCH(act_kernel, q, blocks_for(n), THREADS, 0, y, x, act, n);
}

static __global__ void add_act_kernel(
    float *y, const float *a, const float *b, enum activation act, size_t n) {
    FOR_EACH (i, n) y[i] = activated(a[i] + b[i], act);
}

void cuda_add_act(
    struct stream *q, float *y, const float *a, const float *b, enum activation act, size_t n) {
    LAUNCH(add_act_kernel, q, blocks_for(n), THREADS, 0, y, a, b, act, n);
}

struct bias_term {
    const float *dz;
    __device__ float2 operator()(size_t i, unsigned j) const {
        (void)j;
        return make_float2(dz[i], 0);
    }
};

struct bias_finish {
    float *db;
    double beta; /* a float */
    __device__ void operator()(unsigned j, float2 sum) const {
        db[j] = beta == 0 ? sum.x : (float)beta * db[j] + sum.x;
    }
};

void cuda_bias_grad(struct stream *q, float *db, const float *dz, float beta, size_t rows, int c) {
    columns_sum(q, rows, c, bias_term{dz}, bias_finish{db, beta});
}
