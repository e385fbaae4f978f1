/* loss.cu -- CUDA: softmax_cross_entropy, right, total. */
#include <math.h>

#include "kernels/cuda.h"
#include "kernels/cuda_reduce.cuh"

/* Threads of the block that has a row: a warp, unless each of its lanes had more than 32 logits. */
static unsigned threads_for_row(int C) { return C <= 1024 ? 32 : THREADS; }

/* A row to a block. A NaN among the logits is in the sum, and so in the loss. A kernel cannot stop
 * the program as the host does at a label that is no class: it makes that row NaN. */
static __global__ void softmax_cross_entropy_kernel(float *loss, float *dlogits,
    const float *logits, const int *labels, float scale, float smoothing, int C) {
    const float *z = logits + (size_t)blockIdx.x * (size_t)C;
    float *dz = dlogits ? dlogits + (size_t)blockIdx.x * (size_t)C : NULL;
    float most = -INFINITY, sum = 0, others = 0, all = smoothing / (float)C;
    int label = labels[blockIdx.x];
    for (int j = threadIdx.x; j < C; j += blockDim.x) most = larger(most, z[j]);
    most = block_max(most);
    for (int j = threadIdx.x; j < C; j += blockDim.x) {
        float d = z[j] - most, e = expf(d);
        sum += e;
        others += d;
        if (dz) dz[j] = e;
    }
    sum = block_sum(sum);
    /* Without smoothing the other logits do not count: one may be minus infinity. */
    others = smoothing == 0 ? 0 : all * block_sum(others);
    if (label < 0 || label >= C) sum = NAN;
    if (threadIdx.x == 0) {
        float own = label < 0 || label >= C ? most : z[label];
        loss[blockIdx.x] = logf(sum) - ((1 - smoothing) * (own - most) + others);
    }
    if (!dz) return;
    for (int j = threadIdx.x; j < C; j += blockDim.x) {
        float target = j == label ? 1 - smoothing + all : all;
        dz[j] = scale * (dz[j] / sum - target);
    }
}

void cuda_softmax_cross_entropy(struct stream *q, float *loss, float *dlogits, const float *logits,
    const int *label, float scale, float smoothing, int B, int C) {
    if (B == 0) return;
    LAUNCH(softmax_cross_entropy_kernel, q, (unsigned)B, threads_for_row(C), 0, loss, dlogits,
        logits, label, scale, smoothing, C);
}

/* A row to a warp. A lane without a logit offers minus infinity, at a place behind all. */
static __global__ void right_kernel(
    float *right, const float *logits, const int *labels, int B, int C) {
    unsigned lane = threadIdx.x % 32, row = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= (unsigned)B) return; /* a whole warp */
    const float *z = logits + (size_t)row * (size_t)C;
    int first = (int)lane, nan = 0;
    float most = first < C ? z[first] : -INFINITY;
    for (int j = first; j < C; j += 32) {
        nan |= z[j] != z[j];
        if (z[j] > most) most = z[j], first = j;
    }
    for (int apart = 16; apart > 0; apart /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, most, apart);
        int place = __shfl_xor_sync(0xffffffffu, first, apart);
        if (other > most || (other == most && place < first)) most = other, first = place;
    }
    nan = __any_sync(0xffffffffu, nan);
    if (lane == 0) right[row] = !nan && first == labels[row] ? 1.0f : 0.0f;
}

void cuda_right(
    struct stream *q, float *right, const float *logits, const int *label, int B, int C) {
    if (B == 0) return;
    LAUNCH(right_kernel, q, ((unsigned)B + 7) / 8, THREADS, 0, right, logits, label, B, C);
}

static __global__ void total_kernel(float *out, double *part, const float *v, size_t n) {
    double sum = 0;
    FOR_EACH (i, n) sum += (double)v[i];
    part_leave(out, part, 1, sum);
}

void cuda_total(struct stream *q, float *out, const float *v, size_t n) {
    LAUNCH(total_kernel, q, parts_for(n), threads_for(n), 0, out, parts_of(q), v, n);
    cuda_parts_sum(q, out, parts_for(n));
}
