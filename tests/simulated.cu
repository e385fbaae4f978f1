#include "simulated.h"

static __global__ void fill(float *y, size_t n, float a) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a;
}

void launch_fill(float *y, size_t n, float a, unsigned threads, cudaStream_t q) {
    CUDASIM_LAUNCH(fill, (unsigned)((n + threads - 1) / threads), threads, 0, q, y, n, a);
}

static __global__ void add(float *y, const float *x, size_t n) {
    size_t threads = (size_t)blockDim.x * blockDim.y * blockDim.z;
    size_t thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    size_t block = blockIdx.x + gridDim.x * blockIdx.y;
    for (size_t i = block * threads + thread; i < n; i += threads * gridDim.x * gridDim.y)
        y[i] += x[i];
}

void launch_add(float *y, const float *x, size_t n, cudaStream_t q) {
    CUDASIM_LAUNCH(add, dim3(2, 2), dim3(8, 4, 2), 0, q, y, x, n);
}

static __global__ void sum(float *out, const float *in, unsigned n) {
    extern __shared__ float smem[];
    unsigned t = threadIdx.x;
    smem[t] = 0;
    for (unsigned i = t; i < n; i += blockDim.x) smem[t] += in[i];
    __syncthreads();
    for (unsigned left = blockDim.x; left > 1;) {
        unsigned half = (left + 1) / 2;
        if (t + half < left) smem[t] += smem[t + half];
        __syncthreads();
        left = half;
    }
    if (t == 0) out[0] = smem[0];
}

void launch_sum(float *out, const float *in, unsigned n, cudaStream_t q) {
    CUDASIM_LAUNCH(sum, 1, 100, 100 * sizeof(float), q, out, in, n);
}

static __global__ void warp(int *out) {
    int lane = threadIdx.x;
    if (lane >= 24) return;
    out[lane] = __shfl_sync(0xffffffu, lane, (lane + 1) % 24);
    out[32 + lane] = (int)__ballot_sync(0xffffffu, lane % 3 == 0);
    out[64 + lane] = __shfl_down_sync(0xffffffu, lane, 2, 8);
    out[96 + lane] = __shfl_xor_sync(0xffffffu, lane, 1);
}

void launch_warp(int *out, cudaStream_t q) { CUDASIM_LAUNCH(warp, 1, 32, 0, q, out); }

static __global__ void reverse(float *y, const float *x, unsigned n, int barrier) {
    __shared__ float row[1024];
    row[threadIdx.x] = x[threadIdx.x];
    if (barrier) __syncthreads();
    y[threadIdx.x] = row[n - 1 - threadIdx.x];
}

void launch_reverse(float *y, const float *x, unsigned n, int barrier, cudaStream_t q) {
    CUDASIM_LAUNCH(reverse, 1, n, 0, q, y, x, n, barrier);
}

static __global__ void diverged(float *y, unsigned n) {
    if (threadIdx.x >= n) return;
    y[threadIdx.x] = 1;
    __syncthreads();
}

void launch_diverged(float *y, unsigned n, cudaStream_t q) {
    CUDASIM_LAUNCH(diverged, 1, 64, 0, q, y, n);
}

static __global__ void write(float *y, size_t at) { y[at] = 1; }

void launch_write(float *y, size_t at, cudaStream_t q) { CUDASIM_LAUNCH(write, 1, 1, 0, q, y, at); }

static __global__ void write_shared(float *y) {
    extern __shared__ float smem[];
    smem[16 + threadIdx.x] = y[0];
}

void launch_write_shared(float *y, cudaStream_t q) { CUDASIM_LAUNCH(write_shared, 1, 8, 64, q, y); }

static __global__ void follow(float *const *table) { table[0][0] = 1; }

void launch_follow(float *const *table, cudaStream_t q) {
    CUDASIM_LAUNCH(follow, 1, 1, 0, q, table);
}
