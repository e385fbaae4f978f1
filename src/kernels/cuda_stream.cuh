/* cuda_stream.cuh -- what every .cu needs: CUDA's stream behind ours, the launch, the loop. */
#ifndef CUDA_STREAM_CUH
#define CUDA_STREAM_CUH

#include <cuda_runtime.h>

#include "kernels/stream.h"

/* A stream of a CUDA device. */
struct cuda_stream {
    struct stream base;
    cudaStream_t cuda;
};

enum { THREADS = 256, BLOCKS_MOST = 4096 };

static inline unsigned blocks_for(size_t n) {
    size_t blocks = (n + THREADS - 1) / THREADS;
    if (blocks == 0) return 1;
    return blocks < BLOCKS_MOST ? (unsigned)blocks : (unsigned)BLOCKS_MOST;
}

/* Each thread of the grid takes every so-manieth element. */
#define FOR_EACH(i, n)                                                                             \
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < (n);                        \
         i += (size_t)blockDim.x * gridDim.x)

/* Enqueues a kernel; a failure to launch latches in the stream. No <<<>>> anywhere else. */
#define LAUNCH(kernel, q, grid, block, shared, ...)                                                \
    do {                                                                                           \
        struct cuda_stream *launch_q_ = (struct cuda_stream *)(q);                                 \
        if (launch_q_->base.failed == STATUS_OK) {                                                 \
            kernel<<<(grid), (block), (shared), launch_q_->cuda>>>(__VA_ARGS__);                   \
            cudaError_t launch_ = cudaGetLastError();                                              \
            if (launch_ != cudaSuccess) {                                                          \
                stream_fail(q, "launch of %s: %s", #kernel, cudaGetErrorString(launch_));          \
            }                                                                                      \
        }                                                                                          \
    } while (0)

#endif
