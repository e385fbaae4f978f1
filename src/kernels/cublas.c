/* cublas.c -- cuBLAS's functions under their own names, from the library that is loaded when one is
 * first called. Linked as usual, it would make every start of huddle wait until half a gigabyte is
 * mapped, also on a machine without a GPU. */
#include <cublas_v2.h>
#include <dlfcn.h>
#include <string.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcublas.so." TEXT(CUBLAS_VER_MAJOR)

/* The function of this name, NULL where there is none. Threads that look at once find the same. */
static void *find(void **known, const char *name) {
    void *at = __atomic_load_n(known, __ATOMIC_ACQUIRE);
    if (at) return at;
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library) at = dlsym(library, name);
    __atomic_store_n(known, at, __ATOMIC_RELEASE);
    return at;
}

/* ISO C has no cast between the two kinds of pointer, hence memcpy. */
#define FORWARD(name, parameters, arguments)                                                       \
    cublasStatus_t name parameters {                                                               \
        static void *known;                                                                        \
        __typeof__(name) *real;                                                                    \
        void *at = find(&known, TEXT(name));                                                       \
        if (!at) return CUBLAS_STATUS_NOT_INITIALIZED;                                             \
        memcpy(&real, &at, sizeof real);                                                           \
        return real arguments;                                                                     \
    }

FORWARD(cublasCreate, (cublasHandle_t * handle), (handle))
FORWARD(cublasDestroy, (cublasHandle_t handle), (handle))
FORWARD(cublasSetStream, (cublasHandle_t handle, cudaStream_t stream), (handle, stream))
FORWARD(cublasSetWorkspace, (cublasHandle_t handle, void *workspace, size_t bytes),
    (handle, workspace, bytes))
FORWARD(cublasSetMathMode, (cublasHandle_t handle, cublasMath_t mode), (handle, mode))
FORWARD(cublasSgemm,
    (cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
        const float *alpha, const float *A, int lda, const float *B, int ldb, const float *beta,
        float *C, int ldc),
    (handle, ta, tb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc))
FORWARD(cublasSgemmStridedBatched,
    (cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
        const float *alpha, const float *A, int lda, long long strideA, const float *B, int ldb,
        long long strideB, const float *beta, float *C, int ldc, long long strideC, int batchCount),
    (handle, transa, transb, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C, ldc,
        strideC, batchCount))

const char *cublasGetStatusString(cublasStatus_t status) {
    static const char missing[] = LIBRARY " cannot be loaded: LD_LIBRARY_PATH can name its folder";
    static void *known;
    __typeof__(cublasGetStatusString) *real;
    void *at = find(&known, "cublasGetStatusString");
    if (!at) return missing;
    memcpy(&real, &at, sizeof real);
    return real(status);
}
