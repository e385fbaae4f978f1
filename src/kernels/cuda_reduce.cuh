/* cuda_reduce.cuh -- indices and sums of the CUDA kernels. All sums are taken in an order that the
 * shape alone decides: no atomics, and no thought of how many processors there are. */
#ifndef CUDA_REDUCE_CUH
#define CUDA_REDUCE_CUH

#include "kernels/cuda_stream.cuh"

/* Takes the innermost coordinate off an index: returns i % d, and i becomes i / d. Division of 32
 * bits is several times as fast as of 64, and few tensors need these. */
static inline __device__ unsigned coordinate_off(size_t *i, unsigned d) {
    if (*i >> 32) {
        size_t rest = *i % d;
        *i /= d;
        return (unsigned)rest;
    }
    unsigned low = (unsigned)*i, quotient = low / d;
    *i = quotient;
    return low - quotient * d;
}

static inline __device__ float plus(float a, float b) { return a + b; }
static inline __device__ double plus(double a, double b) { return a + b; }

/* A NaN of b is passed over; a must be none, or lanes would not agree. */
static inline __device__ float larger(float a, float b) { return b > a ? b : a; }

/* join(join(v of thread 0, v of thread 16), ...) over the whole block, for all its threads. Whole
 * warps only, at most 32 of them; all threads must call it. */
template <class T, T (*join)(T, T)> static inline __device__ T block_join(T v) {
    static __shared__ T of_warp[32];
    for (int apart = 16; apart > 0; apart /= 2) v = join(v, __shfl_xor_sync(0xffffffffu, v, apart));
    if (blockDim.x == 32) return v;
    __syncthreads(); /* nobody may still be reading what an earlier call left */
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = v;
    __syncthreads();
    v = of_warp[0];
    for (unsigned w = 1; w < blockDim.x / 32; w++) v = join(v, of_warp[w]);
    return v;
}

static inline __device__ float block_sum(float v) { return block_join<float, plus>(v); }
static inline __device__ double block_sum(double v) { return block_join<double, plus>(v); }
static inline __device__ float block_max(float v) { return block_join<float, larger>(v); }

/* ---- the sum of n values: of each block's, then of the blocks' ---- */

enum { PARTS_MOST = 1024 };

static inline double *parts_of(struct stream *q) {
    return (double *)((struct cuda_stream *)q)->scratch;
}

/* Blocks that share a sum of n values: a number that depends on n only. */
static inline unsigned parts_for(size_t n) {
    size_t parts = (n + 8 * THREADS - 1) / (8 * THREADS);
    return parts < 1 ? 1u : parts < PARTS_MOST ? (unsigned)parts : (unsigned)PARTS_MOST;
}

/* Threads of each of those blocks: whole warps, and no more of them than have work. */
static inline unsigned threads_for(size_t n) {
    size_t warps = n < THREADS ? (n + 31) / 32 : THREADS / 32;
    return warps ? (unsigned)warps * 32 : 32;
}

/* Leaves scale times the block's sum of v for parts_sum; a block that is alone leaves it in out. */
static inline __device__ void part_leave(float *out, double *part, double scale, double v) {
    double sum = scale * block_sum(v);
    if (threadIdx.x != 0) return;
    if (gridDim.x == 1) {
        out[0] = (float)sum;
    } else {
        part[blockIdx.x] = sum;
    }
}

/* out[0] <- the sum of what `parts` blocks left; nothing to do for one. */
void cuda_parts_sum(struct stream *q, float *out, unsigned parts);

#endif
