// Simulated cuBLAS: column-major fp32, each call one operation on the handle's stream.
#include "cublas_v2.h"

#include <algorithm>
#include <cmath>

#include "sim.h"

struct cublasContext {
    int device;
    cudaStream_t stream;
    cublasPointerMode_t mode;
};

static CUstream_st *blas_stream(const char *call, cublasHandle_t h) {
    sim_enter(call);
    if (!h) sim_fatal("%s: null handle", call);
    CUstream_st *stream = stream_get(call, h->stream);
    if (h->device != sim_device() || stream->device != h->device)
        sim_fatal("%s: handle of device %d, stream of device %d, current device %d", call,
            h->device, stream->device, sim_device());
    return stream;
}

// A scalar argument: read now in host mode, when the operation runs in device mode.
struct Scalar {
    const float *device;
    float value;
    Scalar(cublasHandle_t h, const float *p)
        : device(h->mode == CUBLAS_POINTER_MODE_DEVICE ? p : nullptr), value(device ? 0 : *p) {}
    float get() const { return device ? *device : value; }
};

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
    if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
    range_check(call, "A", a, rows_a, cols_a, lda, h->device, (size_t)(batch - 1) * sa);
    range_check(call, "B", b, rows_b, cols_b, ldb, h->device, (size_t)(batch - 1) * sb);
    range_check(call, "C", c, m, n, ldc, h->device, (size_t)(batch - 1) * sc);
    Scalar x(h, alpha), y(h, beta);
    stream_push(stream, call, [=] {
        for (int i = 0; i < batch; i++)
            gemm(ta, tb, m, n, k, x.get(), a + i * sa, lda, b + i * sb, ldb, y.get(), c + i * sc,
                ldc);
    });
    return CUBLAS_STATUS_SUCCESS;
}

// Pushes a reduction to one float; in host mode the call returns only when the result is there.
static cublasStatus_t result_push(
    const char *call, cublasHandle_t h, float *result, std::function<float()> compute) {
    CUstream_st *stream = blas_stream(call, h);
    if (h->mode == CUBLAS_POINTER_MODE_DEVICE)
        memory_check_device(call, "result", result, sizeof(float), h->device);
    stream_push(stream, call, [=] { *result = compute(); });
    if (h->mode == CUBLAS_POINTER_MODE_HOST) stream_wait_all(stream);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" {

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    sim_enter("cublasCreate");
    *handle = new cublasContext{sim_device(), nullptr, CUBLAS_POINTER_MODE_HOST};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t h, cudaStream_t stream) {
    h->stream = stream;
    blas_stream("cublasSetStream", h);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasSetPointerMode(cublasHandle_t h, cublasPointerMode_t mode) {
    h->mode = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t h, void *workspace, size_t size) {
    if (size) memory_check_device("cublasSetWorkspace", "workspace", workspace, size, h->device);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t, int *version) {
    *version = 130000;
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

cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
    int n, int k, const void *alpha, const void *a, cudaDataType type_a, int lda, const void *b,
    cudaDataType type_b, int ldb, const void *beta, void *c, cudaDataType type_c, int ldc,
    cublasComputeType_t, cublasGemmAlgo_t) {
    if (type_a != CUDA_R_32F || type_b != CUDA_R_32F || type_c != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return gemm_push("cublasGemmEx", h, ta, tb, m, n, k, (const float *)alpha, (const float *)a,
        lda, 0, (const float *)b, ldb, 0, (const float *)beta, (float *)c, ldc, 0, 1);
}

cublasStatus_t cublasSgemv(cublasHandle_t h, cublasOperation_t ta, int m, int n, const float *alpha,
    const float *a, int lda, const float *x, int incx, const float *beta, float *y, int incy) {
    CUstream_st *stream = blas_stream("cublasSgemv", h);
    int rows = ta ? n : m, cols = ta ? m : n;
    if (m < 0 || n < 0 || lda < std::max(1, m) || incx < 1 || incy < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    range_check("cublasSgemv", "A", a, m, n, lda, h->device);
    range_check("cublasSgemv", "x", x, 1, cols, incx, h->device);
    range_check("cublasSgemv", "y", y, 1, rows, incy, h->device);
    Scalar p(h, alpha), q(h, beta);
    stream_push(stream, "cublasSgemv", [=] {
        for (int i = 0; i < rows; i++) {
            float sum = 0.0f, *out = y + (size_t)i * incy;
            for (int j = 0; j < cols; j++)
                sum += x[(size_t)j * incx] * (ta ? a[j + (size_t)i * lda] : a[i + (size_t)j * lda]);
            *out = p.get() * sum + (q.get() == 0.0f ? 0.0f : q.get() * *out);
        }
    });
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSaxpy(
    cublasHandle_t h, int n, const float *alpha, const float *x, int incx, float *y, int incy) {
    CUstream_st *stream = blas_stream("cublasSaxpy", h);
    range_check("cublasSaxpy", "x", x, 1, n, incx, h->device);
    range_check("cublasSaxpy", "y", y, 1, n, incy, h->device);
    Scalar p(h, alpha);
    stream_push(stream, "cublasSaxpy", [=] {
        for (int i = 0; i < n; i++) y[(size_t)i * incy] += p.get() * x[(size_t)i * incx];
    });
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSscal(cublasHandle_t h, int n, const float *alpha, float *x, int incx) {
    CUstream_st *stream = blas_stream("cublasSscal", h);
    range_check("cublasSscal", "x", x, 1, n, incx, h->device);
    Scalar p(h, alpha);
    stream_push(stream, "cublasSscal", [=] {
        for (int i = 0; i < n; i++) x[(size_t)i * incx] *= p.get();
    });
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSdot(
    cublasHandle_t h, int n, const float *x, int incx, const float *y, int incy, float *result) {
    range_check("cublasSdot", "x", x, 1, n, incx, h->device);
    range_check("cublasSdot", "y", y, 1, n, incy, h->device);
    return result_push("cublasSdot", h, result, [=] {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += (double)x[(size_t)i * incx] * y[(size_t)i * incy];
        return (float)sum;
    });
}

cublasStatus_t cublasSnrm2(cublasHandle_t h, int n, const float *x, int incx, float *result) {
    range_check("cublasSnrm2", "x", x, 1, n, incx, h->device);
    return result_push("cublasSnrm2", h, result, [=] {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += (double)x[(size_t)i * incx] * x[(size_t)i * incx];
        return (float)std::sqrt(sum);
    });
}

} // extern "C"
