/* batchnorm.cu -- CUDA: batchnorm_statistics, _forward, _grad_sums, _grad_input.
 *
 * As on the host the variance takes a second pass over x, around the mean of the first, which it
 * also mends.
 */
#include <math.h>

#include "kernels/cuda.h"
#include "kernels/cuda_activation.cuh"
#include "kernels/cuda_columns.cuh"

struct mean_term {
    const float *x;
    __device__ float2 operator()(size_t i, unsigned j) const {
        (void)j;
        return make_float2(x[i], 0);
    }
};

struct mean_finish {
    float *mean;
    size_t rows;
    __device__ void operator()(unsigned j, float2 sum) const { mean[j] = sum.x / (float)rows; }
};

struct var_term {
    const float *x, *center;
    __device__ float2 operator()(size_t i, unsigned j) const {
        float d = x[i] - center[j];
        return make_float2(d, d * d);
    }
};

struct var_finish {
    float *mean, *var;
    size_t rows;
    __device__ void operator()(unsigned j, float2 sum) const {
        float rest = sum.x / (float)rows;
        mean[j] = mean[j] + rest;
        var[j] = sum.y / (float)rows - rest * rest;
    }
};

void cuda_batchnorm_statistics(
    struct stream *q, float *mean, float *var, const float *x, size_t rows, int c) {
    if (rows == 0) return;
    columns_sum(q, rows, c, mean_term{x}, mean_finish{mean, rows});
    columns_sum(q, rows, c, var_term{x, mean}, var_finish{mean, var, rows});
}

static __global__ void forward_kernel(struct columns s, float *__restrict__ y,
    const float *__restrict__ x, const float *mean, const float *var, float eps,
    const float *weight, const float *bias, enum activation act) {
    struct column_share t = column_share_of(s);
    float factor = weight[t.j] / sqrtf(var[t.j] + eps), center = mean[t.j], rest = bias[t.j];
    FOR_COLUMN (i, t) {
        y[i] = activated((x[i] - center) * factor + rest, act);
    }
}

void cuda_batchnorm_forward(struct stream *q, float *y, const float *x, const float *mean,
    const float *var, float eps, const float *weight, const float *bias, enum activation act,
    size_t rows, int c) {
    if (c == 0) return;
    struct columns s = columns_of(rows, c, 8, BLOCKS_MOST);
    LAUNCH(forward_kernel, q, columns_grid(&s), THREADS, 0, s, y, x, mean, var, eps, weight, bias,
        act);
}

struct grad_term {
    const float *dz, *x, *mean;
    __device__ float2 operator()(size_t i, unsigned j) const {
        return make_float2(dz[i], dz[i] * (x[i] - mean[j]));
    }
};

struct grad_finish {
    float *dweight, *dbias;
    const float *var;
    double eps; /* a float */
    __device__ void operator()(unsigned j, float2 sum) const {
        dbias[j] = sum.x;
        dweight[j] = sum.y / sqrtf(var[j] + (float)eps);
    }
};

void cuda_batchnorm_grad_sums(struct stream *q, float *dweight, float *dbias, const float *dz,
    const float *x, const float *mean, const float *var, float eps, size_t rows, int c) {
    columns_sum(q, rows, c, grad_term{dz, x, mean}, grad_finish{dweight, dbias, var, eps});
}

/* dx is factor (dz - a - b (x - mean)), all but dz and x a channel's. */
static __global__ void grad_input_kernel(struct columns s, float *__restrict__ dx,
    const float *__restrict__ dz, const float *__restrict__ x, const float *mean, const float *var,
    float eps, const float *weight, const float *dweight, const float *dbias) {
    struct column_share t = column_share_of(s);
    float scale = 1 / sqrtf(var[t.j] + eps), factor = weight[t.j] * scale, center = mean[t.j];
    float a = dbias ? dbias[t.j] / (float)s.rows : 0;
    float b = dweight ? dweight[t.j] / (float)s.rows * scale : 0;
    FOR_COLUMN (i, t) {
        dx[i] = factor * (dz[i] - a - b * (x[i] - center));
    }
}

void cuda_batchnorm_grad_input(struct stream *q, float *dx, const float *dz, const float *x,
    const float *mean, const float *var, float eps, const float *weight, const float *dweight,
    const float *dbias, size_t rows, int c) {
    if (c == 0) return;
    struct columns s = columns_of(rows, c, 8, BLOCKS_MOST);
    LAUNCH(grad_input_kernel, q, columns_grid(&s), THREADS, 0, s, dx, dz, x, mean, var, eps, weight,
        dweight, dbias);
}
