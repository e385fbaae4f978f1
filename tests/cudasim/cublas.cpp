// Simulated cuBLAS: column-major fp32, each call one operation on the handle's stream.
#include "cublas_v2.h"

#include <algorithm>

#include "sim.h"

struct cublasContext {
    int device;
    cudaStream_t stream;
    void *workspace;
    cublasMath_t math;
};

static std::atomic<long> tf32_products;

static CUstream_st *blas_stream(const char *call, cublasHandle_t h) {
    sim_enter(call);
    if (!h) sim_fatal("%s: null handle", call);
    CUstream_st *stream = stream_get(call, h->stream);
    if (h->device != sim_device() || stream->device != h->device)
        sim_fatal("%s: handle of device %d, stream of device %d, current device %d", call,
            h->device, stream->device, sim_device());
    return stream;
}

static void range_check(const char *call, const char *what, const void *p, long rows, long cols,
    long ld, int device, size_t extra = 0) {
    if (rows > 0 && cols > 0)
        memory_check_device(
            call, what, p, ((size_t)(cols - 1) * ld + rows + extra) * sizeof(float), device);
}

// C = alpha * op(A) * op(B) + beta * C, in panels of op(A) packed without transposition.
static void gemm(bool ta, bool tb, int m, int n, int k, float alpha, const float *a, int lda,
    const float *b, int ldb, float beta, float *c, int ldc) {
    constexpr int MB = 256, KB = 128;
    static thread_local float pack[MB * KB];
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++)
            c[i + (size_t)j * ldc] = beta == 0.0f ? 0.0f : beta * c[i + (size_t)j * ldc];
    for (int k0 = 0; k0 < k; k0 += KB)
        for (int i0 = 0; i0 < m; i0 += MB) {
            int kn = std::min(KB, k - k0), mn = std::min(MB, m - i0);
            for (int p = 0; p < kn; p++)
                for (int i = 0; i < mn; i++)
                    pack[p * MB + i] = ta ? a[(k0 + p) + (size_t)(i0 + i) * lda]
                                          : a[(i0 + i) + (size_t)(k0 + p) * lda];
            for (int j = 0; j < n; j++) {
                float *out = c + i0 + (size_t)j * ldc;
                for (int p = 0; p < kn; p++) {
                    float f = alpha *
                              (tb ? b[j + (size_t)(k0 + p) * ldb] : b[(k0 + p) + (size_t)j * ldb]);
                    const float *column = pack + p * MB;
                    for (int i = 0; i < mn; i++) out[i] += f * column[i];
                }
            }
        }
}

static cublasStatus_t gemm_push(const char *call, cublasHandle_t h, cublasOperation_t ta,
    cublasOperation_t tb, int m, int n, int k, const float *alpha, const float *a, int lda,
    long long sa, const float *b, int ldb, long long sb, const float *beta, float *c, int ldc,
    long long sc, int batch) {
    CUstream_st *stream = blas_stream(call, h);
    int rows_a = ta ? k : m, cols_a = ta ? m : k, rows_b = tb ? n : k, cols_b = tb ? k : n;
    if (m < 0 || n < 0 || k < 0 || batch < 0 || lda < std::max(1, rows_a) ||
        ldb < std::max(1, rows_b) || ldc < std::max(1, m))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (sim_faulted(h->device)) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
    range_check(call, "A", a, rows_a, cols_a, lda, h->device, (size_t)(batch - 1) * sa);
    range_check(call, "B", b, rows_b, cols_b, ldb, h->device, (size_t)(batch - 1) * sb);
    range_check(call, "C", c, m, n, ldc, h->device, (size_t)(batch - 1) * sc);
    if (!h->workspace)
        sim_fatal("%s: no workspace was set after the stream: cuBLAS would share its own", call);
    float x = *alpha, y = *beta;
    tf32_products += h->math == CUBLAS_TF32_TENSOR_OP_MATH;
    stream_push(stream, call, [=] {
        for (int i = 0; i < batch; i++)
            gemm(ta, tb, m, n, k, x, a + i * sa, lda, b + i * sb, ldb, y, c + i * sc, ldc);
    });
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" {

long cudasim_tf32_products(void) { return tf32_products; }

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    sim_enter("cublasCreate");
    if (sim_faulted(sim_device())) return CUBLAS_STATUS_EXECUTION_FAILED;
    sim_handles++;
    *handle = new cublasContext{sim_device(), nullptr, nullptr, CUBLAS_DEFAULT_MATH};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    sim_handles -= handle != nullptr;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t h, cudaStream_t stream) {
    h->stream = stream;
    h->workspace = nullptr; // as cuBLAS does
    blas_stream("cublasSetStream", h);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t h, cublasMath_t mode) {
    if (mode != CUBLAS_DEFAULT_MATH && mode != CUBLAS_TF32_TENSOR_OP_MATH)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    h->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t h, void *workspace, size_t size) {
    if (size) memory_check_device("cublasSetWorkspace", "workspace", workspace, size, h->device);
    h->workspace = workspace;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS         ? "success"
           : status == CUBLAS_STATUS_INVALID_VALUE ? "invalid value"
           : status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported"
                                                   : "failure";
}

cublasStatus_t cublasSgemm(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
    int n, int k, const float *alpha, const float *a, int lda, const float *b, int ldb,
    const float *beta, float *c, int ldc) {
    return gemm_push(
        "cublasSgemm", h, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t h, cublasOperation_t ta,
    cublasOperation_t tb, int m, int n, int k, const float *alpha, const float *a, int lda,
    long long stride_a, const float *b, int ldb, long long stride_b, const float *beta, float *c,
    int ldc, long long stride_c, int batch) {
    return gemm_push("cublasSgemmStridedBatched", h, ta, tb, m, n, k, alpha, a, lda, stride_a, b,
        ldb, stride_b, beta, c, ldc, stride_c, batch);
}

} // extern "C"
