/* gemm.cu -- CUDA: products of matrices by cuBLAS, with the stream's handle.
 *
 * cuBLAS stores by columns. What is stored by rows is its transpose to it, and the transpose of
 * op(A) op(B) is op(B)^T op(A)^T: so the matrices change places, and nothing is moved.
 */
#include "kernels/cuda.h"
#include "kernels/cuda_stream.cuh"

/* C_i <- beta C_i; beta = 0 does not read C. */
static __global__ void scale_kernel(
    float *C, int ldc, size_t stride_c, float beta, size_t m, int n, size_t all) {
    FOR_EACH (at, all) {
        size_t j = at % n, row = at / n;
        float *c = C + row / m * stride_c + row % m * ldc + j;
        *c = beta == 0 ? 0 : beta * *c;
    }
}

void cuda_gemm(struct stream *q, int count, int ta, int tb, int m, int n, int k, float alpha,
    const float *A, int lda, size_t stride_a, const float *B, int ldb, size_t stride_b, float beta,
    float *C, int ldc, size_t stride_c) {
    cublasHandle_t blas = ((struct cuda_stream *)q)->blas;
    cublasOperation_t op_a = ta ? CUBLAS_OP_T : CUBLAS_OP_N, op_b = tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    ASSERT(m >= 0 && n >= 0 && k >= 0);
    if (q->failed != STATUS_OK || count == 0 || m == 0 || n == 0) return;
    if (k == 0) {
        size_t all = (size_t)count * (size_t)m * (size_t)n;
        LAUNCH(scale_kernel, q, blocks_for(all), THREADS, 0, C, ldc, stride_c, beta, (size_t)m, n,
            all);
        return;
    }
    ASSERT(lda >= (ta ? m : k) && ldb >= (tb ? k : n) && ldc >= n);
    cublasStatus_t said;
    if (count == 1) {
        said = cublasSgemm(blas, op_b, op_a, n, m, k, &alpha, B, ldb, A, lda, &beta, C, ldc);
    } else {
        said = cublasSgemmStridedBatched(blas, op_b, op_a, n, m, k, &alpha, B, ldb,
            (long long)stride_b, A, lda, (long long)stride_a, &beta, C, ldc, (long long)stride_c,
            count);
    }
    if (said != CUBLAS_STATUS_SUCCESS) {
        stream_fail(q, "gemm of %d x %d x %d: cuBLAS: %s", m, n, k, cublasGetStatusString(said));
    }
}
