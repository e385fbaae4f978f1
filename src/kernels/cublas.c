/* cublas.c -- cuBLAS's functions, loaded when one is first called. */
#include <cublas_v2.h>

#include "kernels/cuda_library.h"

#define LIBRARY "libcublas.so." TEXT(CUBLAS_VER_MAJOR)
#define CUBLAS(name, parameters, arguments)                                                        \
    FORWARD(LIBRARY, cublasStatus_t, CUBLAS_STATUS_NOT_INITIALIZED, name, parameters, arguments)

CUBLAS(cublasCreate, (cublasHandle_t * handle), (handle))
CUBLAS(cublasDestroy, (cublasHandle_t handle), (handle))
CUBLAS(cublasSetStream, (cublasHandle_t handle, cudaStream_t stream), (handle, stream))
CUBLAS(cublasSetWorkspace, (cublasHandle_t handle, void *workspace, size_t bytes),
    (handle, workspace, bytes))
CUBLAS(cublasSetMathMode, (cublasHandle_t handle, cublasMath_t mode), (handle, mode))
CUBLAS(cublasSgemm,
    (cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
        const float *alpha, const float *A, int lda, const float *B, int ldb, const float *beta,
        float *C, int ldc),
    (handle, ta, tb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc))
CUBLAS(cublasSgemmStridedBatched,
    (cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
        const float *alpha, const float *A, int lda, long long strideA, const float *B, int ldb,
        long long strideB, const float *beta, float *C, int ldc, long long strideC, int batchCount),
    (handle, transa, transb, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C, ldc,
        strideC, batchCount))
FORWARD(LIBRARY, const char *, LIBRARY_MISSING(LIBRARY), cublasGetStatusString,
    (cublasStatus_t status), (status))
