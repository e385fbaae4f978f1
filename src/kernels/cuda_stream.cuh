/* cuda_stream.cuh -- what every .cu needs: CUDA's stream behind ours, the launch, the loop. */
#ifndef CUDA_STREAM_CUH
#define CUDA_STREAM_CUH

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "kernels/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CUDA_SCRATCH = 1 << 20 }; /* bytes */

/* A stream of a CUDA device. A kernel is launched on it by a thread whose current device is the
 * stream's; opening the device made it so for the thread that did. */
struct cuda_stream {
    struct stream base;
    cudaStream_t cuda;
    cublasHandle_t blas; /* on this stream, with a workspace of its own; NULL: for copies only */
    float *scratch;      /* CUDA_SCRATCH bytes for what one kernel leaves for the next */
    struct dnn *dnn;     /* what cuDNN does on it, cuda_dnn.h */
};

/* Latches the failure of a call of the CUDA runtime in q, in words that help; call is its name. */
void cuda_latch(struct stream *q, const char *call, cudaError_t error);

/* What an error means to the user and what can be done about it. */
const char *cuda_meaning(cudaError_t error);

#ifdef __cplusplus
}
#endif

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

/* The simulated CUDA of the tests is plain C++ and knows no <<<>>>. */
#ifdef CUDASIM
#define LAUNCH_ON CUDASIM_LAUNCH
#else
#define LAUNCH_ON(kernel, grid, block, shared, cuda, ...)                                          \
    kernel<<<(grid), (block), (shared), (cuda)>>>(__VA_ARGS__)
#endif

/* Enqueues a kernel; a failure to launch latches in the stream. No <<<>>> anywhere else. */
#define LAUNCH(kernel, q, grid, block, shared, ...)                                                \
    do {                                                                                           \
        struct cuda_stream *launch_q_ = (struct cuda_stream *)(q);                                 \
        if (launch_q_->base.failed == STATUS_OK) {                                                 \
            LAUNCH_ON(kernel, grid, block, shared, launch_q_->cuda, __VA_ARGS__);                  \
            cudaError_t launch_ = cudaGetLastError();                                              \
            if (launch_ != cudaSuccess) cuda_latch(q, "launch of " #kernel, launch_);              \
        }                                                                                          \
    } while (0)

#endif
