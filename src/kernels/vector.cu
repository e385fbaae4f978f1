/* vector.cu -- CUDA: launcher `cuda_name` beside kernel `name_kernel`, in the order of vector.c. */
#include "kernels/cuda.h"
#include "kernels/cuda_reduce.cuh"

static __global__ void fill_kernel(float *y, float a, size_t n) {
    FOR_EACH (i, n) y[i] = a;
}

void cuda_fill(struct stream *q, float *y, float a, size_t n) {
    LAUNCH(fill_kernel, q, blocks_for(n), THREADS, 0, y, a, n);
}

/* A factor of 0 is not a product: 0 times NaN would be NaN. */
static __global__ void mix_kernel(float *y, float a, float b, const float *x, size_t n) {
    FOR_EACH (i, n) {
        float kept = a != 0 ? a * y[i] : 0, added = b != 0 ? b * x[i] : 0;
        y[i] = kept + added;
    }
}

void cuda_mix(struct stream *q, float *y, float a, float b, const float *x, size_t n) {
    LAUNCH(mix_kernel, q, blocks_for(n), THREADS, 0, y, a, b, x, n);
}

static __global__ void diff_kernel(float *d, float a, const float *x, const float *y, size_t n) {
    FOR_EACH (i, n) d[i] = a * (x[i] - y[i]);
}

void cuda_diff(struct stream *q, float *d, float a, const float *x, const float *y, size_t n) {
    LAUNCH(diff_kernel, q, blocks_for(n), THREADS, 0, d, a, x, y, n);
}

static __global__ void elastic_kernel(float *x, float *c, float alpha, size_t n) {
    FOR_EACH (i, n) {
        float d = alpha * (x[i] - c[i]);
        x[i] = x[i] - d;
        c[i] = c[i] + d;
    }
}

void cuda_elastic(struct stream *q, float *x, float *c, float alpha, size_t n) {
    LAUNCH(elastic_kernel, q, blocks_for(n), THREADS, 0, x, c, alpha, n);
}

/* As many as there can be workers; they travel with the launch, 512 bytes. */
enum { VECTORS_MOST = 64 };

struct vectors {
    float *at[VECTORS_MOST];
};

static __global__ void sum_kernel(struct vectors v, int count, float scale, size_t n) {
    FOR_EACH (i, n) {
        float s = v.at[0][i];
        for (int k = 1; k < count; k++) s += v.at[k][i];
        s *= scale;
        for (int k = 0; k < count; k++) v.at[k][i] = s;
    }
}

void cuda_sum(struct stream *q, float *const *v, int count, float scale, size_t n) {
    struct vectors all = {};
    ASSERT(count <= VECTORS_MOST);
    if (q->failed != STATUS_OK || count == 0) return;
    for (int k = 0; k < count; k++) all.at[k] = v[k];
    LAUNCH(sum_kernel, q, blocks_for(n), THREADS, 0, all, count, scale, n);
}

static __global__ void distance_kernel(
    float *out, double *part, const float *x, const float *y, size_t n) {
    double sum = 0;
    FOR_EACH (i, n) {
        double d = (double)(y ? x[i] - y[i] : x[i]);
        sum += d * d;
    }
    part_leave(out, part, 1, sum);
}

void cuda_distance(struct stream *q, float *out, const float *x, const float *y, size_t n) {
    LAUNCH(distance_kernel, q, parts_for(n), THREADS, 0, out, parts_of(q), x, y, n);
    cuda_parts_sum(q, out, parts_for(n));
}
