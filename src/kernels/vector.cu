/* vector.cu -- CUDA: launcher `cuda_name` beside kernel `name_kernel`, in the order of vector.c.
 *
 * Memory is busiest when each access is of sixteen bytes, so kernels take four floats at a time, as
 * one T, where the addresses allow that; each float's arithmetic is the same either way.
 */
#include "kernels/cuda.h"
#include "kernels/cuda_reduce.cuh"

static __device__ inline float4 operator+(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

static __device__ inline float4 operator-(float4 a, float4 b) {
    return make_float4(a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w);
}

static __device__ inline float4 operator*(float a, float4 b) {
    return make_float4(a * b.x, a * b.y, a * b.z, a * b.w);
}

/* How many of n floats are taken four at a time, of vectors that begin where the bits of `at` say. */
static size_t in_fours(uintptr_t at, size_t n) { return at % sizeof(float4) ? 0 : n / 4 * 4; }

static uintptr_t bits(const void *at) { return (uintptr_t)at; }

template <typename T> static __global__ void fill_kernel(T *y, T a, size_t n) {
    FOR_EACH (i, n) y[i] = a;
}

void cuda_fill(struct stream *q, float *y, float a, size_t n) {
    size_t m = in_fours(bits(y), n), rest = n - m;
    const float4 four = {a, a, a, a};
    if (m) LAUNCH(fill_kernel<float4>, q, blocks_for(m / 4), THREADS, 0, (float4 *)y, four, m / 4);
    if (rest) LAUNCH(fill_kernel<float>, q, blocks_for(rest), THREADS, 0, y + m, a, rest);
}

/* A factor of 0 is not a product: 0 times NaN would be NaN. */
template <typename T>
static __global__ void mix_kernel(T *y, float a, float b, const T *x, size_t n) {
    FOR_EACH (i, n) {
        T kept = {}, added = {};
        if (a != 0) kept = a * y[i];
        if (b != 0) added = b * x[i];
        y[i] = kept + added;
    }
}

void cuda_mix(struct stream *q, float *y, float a, float b, const float *x, size_t n) {
    size_t m = in_fours(bits(y) | bits(x), n), rest = n - m;
    if (m) {
        LAUNCH(mix_kernel<float4>, q, blocks_for(m / 4), THREADS, 0, (float4 *)y, a, b,
            (const float4 *)x, m / 4);
    }
    if (rest) LAUNCH(mix_kernel<float>, q, blocks_for(rest), THREADS, 0, y + m, a, b, x + m, rest);
}

template <typename T>
static __global__ void diff_kernel(T *d, float a, const T *x, const T *y, size_t n) {
    FOR_EACH (i, n) d[i] = a * (x[i] - y[i]);
}

void cuda_diff(struct stream *q, float *d, float a, const float *x, const float *y, size_t n) {
    size_t m = in_fours(bits(d) | bits(x) | bits(y), n), rest = n - m;
    if (m) {
        LAUNCH(diff_kernel<float4>, q, blocks_for(m / 4), THREADS, 0, (float4 *)d, a,
            (const float4 *)x, (const float4 *)y, m / 4);
    }
    if (rest) {
        LAUNCH(diff_kernel<float>, q, blocks_for(rest), THREADS, 0, d + m, a, x + m, y + m, rest);
    }
}

/* Where c is the host's, behind PCIe, a read takes a microsecond or two: bytes that are on their way
 * must fill that time. Each thread asks for DEEP pieces of both vectors before it uses the first. A
 * grid that small keeps PCIe busy, and leaves room beside it for other workers' kernels. */
enum { DEEP = 4, TILE = DEEP * THREADS, TILE_FLOATS = 4 * TILE, ELASTIC_BLOCKS = 128 };

template <typename T> static __device__ inline void pull(T *x, T *c, float alpha) {
    T d = alpha * (*x - *c);
    *x = *x - d;
    *c = *c + d;
}

/* One tile of float4, by one block. */
static __device__ inline void elastic_tile(float4 *x, float4 *c, float alpha) {
    float4 mine[DEEP], center[DEEP];
#pragma unroll
    for (int k = 0; k < DEEP; k++) center[k] = c[k * THREADS + threadIdx.x];
#pragma unroll
    for (int k = 0; k < DEEP; k++) mine[k] = x[k * THREADS + threadIdx.x];
#pragma unroll
    for (int k = 0; k < DEEP; k++) {
        pull(&mine[k], &center[k], alpha);
        c[k * THREADS + threadIdx.x] = center[k];
        x[k * THREADS + threadIdx.x] = mine[k];
    }
}

/* The first tiles by tile, what is left float by float. */
static __global__ void elastic_kernel(float *x, float *c, float alpha, size_t tiles, size_t n) {
    for (size_t t = blockIdx.x; t < tiles; t += gridDim.x) {
        elastic_tile((float4 *)x + t * TILE, (float4 *)c + t * TILE, alpha);
    }
    size_t done = tiles * TILE_FLOATS;
    FOR_EACH (i, n - done) pull(&x[done + i], &c[done + i], alpha);
}

void cuda_elastic_by(struct stream *q, float *x, float *c, float alpha, size_t n, unsigned blocks) {
    size_t tiles = in_fours(bits(x) | bits(c), n) / TILE_FLOATS;
    size_t most = tiles + blocks_for(n - tiles * TILE_FLOATS);
    if (blocks > most) blocks = (unsigned)most;
    LAUNCH(elastic_kernel, q, blocks, THREADS, 0, x, c, alpha, tiles, n);
}

void cuda_elastic(struct stream *q, float *x, float *c, float alpha, size_t n) {
    cuda_elastic_by(q, x, c, alpha, n, ELASTIC_BLOCKS);
}

/* As many as there can be workers; they travel with the launch, 512 bytes. */
enum { VECTORS_MOST = 64 };

struct vectors {
    float *at[VECTORS_MOST];
};

/* n pieces, from the floats `from` on. */
template <typename T>
static __global__ void sum_kernel(struct vectors v, int count, float scale, size_t from, size_t n) {
    FOR_EACH (i, n) {
        T s = ((const T *)(v.at[0] + from))[i];
        for (int k = 1; k < count; k++) s = s + ((const T *)(v.at[k] + from))[i];
        s = scale * s;
        for (int k = 0; k < count; k++) ((T *)(v.at[k] + from))[i] = s;
    }
}

void cuda_sum(struct stream *q, float *const *v, int count, float scale, size_t n) {
    struct vectors all = {};
    uintptr_t at = 0;
    ASSERT(count <= VECTORS_MOST);
    if (q->failed != STATUS_OK || count == 0) return;
    for (int k = 0; k < count; k++) {
        all.at[k] = v[k];
        at |= bits(v[k]);
    }
    size_t m = in_fours(at, n), rest = n - m;
    if (m) {
        LAUNCH(sum_kernel<float4>, q, blocks_for(m / 4), THREADS, 0, all, count, scale, (size_t)0,
            m / 4);
    }
    if (rest) {
        LAUNCH(sum_kernel<float>, q, blocks_for(rest), THREADS, 0, all, count, scale, m, rest);
    }
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
