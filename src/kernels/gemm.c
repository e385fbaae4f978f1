/* gemm.c -- products of matrices: by oneDNN, else by a CBLAS, else by our own loops. */
#include "host.h"

#if defined HAVE_DNNL
#include <dnnl.h>
#elif defined HAVE_CBLAS
#include <cblas.h>
#else
#include <string.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined HAVE_DNNL || defined HAVE_CBLAS
/* Both libraries take the team size of the calling thread. */
static void team_set(int threads) {
#ifdef _OPENMP
    if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
#else
    (void)threads;
#endif
}
#endif

#if defined HAVE_DNNL

static int product(int threads, int ta, int tb, int m, int n, int k, float alpha, const float *A,
    int lda, const float *B, int ldb, float beta, float *C, int ldc) {
    team_set(threads);
    return (int)dnnl_sgemm(
        ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
}

#elif defined HAVE_CBLAS

static int product(int threads, int ta, int tb, int m, int n, int k, float alpha, const float *A,
    int lda, const float *B, int ldb, float beta, float *C, int ldc) {
    team_set(threads);
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n,
        k, alpha, A, lda, B, ldb, beta, C, ldc);
    return 0;
}

#else

enum { TILE_K = 64, TILE_N = 128 }; /* 32 KiB of op(B), which all rows of op(A) then meet */

struct matrices {
    const float *A, *B;
    float *C;
    size_t lda, ldb, ldc;
    int ta, tb;
    float alpha;
};

static void tile_load(
    float tile[][TILE_N], const struct matrices *x, size_t p0, size_t pn, size_t j0, size_t jn) {
    for (size_t p = 0; p < pn; p++) {
        if (!x->tb) {
            memcpy(tile[p], x->B + (p0 + p) * x->ldb + j0, jn * sizeof **tile);
            continue;
        }
        for (size_t j = 0; j < jn; j++) tile[p][j] = x->B[(j0 + j) * x->ldb + p0 + p];
    }
}

/* C's rows [0, m), columns j0 .. j0+jn-1 += the share that a tile of op(B) has in them. */
static void tile_add(float tile[][TILE_N], const struct matrices *x, size_t m, size_t p0, size_t pn,
    size_t j0, size_t jn) {
    for (size_t i = 0; i < m; i++) {
        float *c = x->C + i * x->ldc + j0;
        for (size_t p = 0; p < pn; p++) {
            size_t at = x->ta ? (p0 + p) * x->lda + i : i * x->lda + p0 + p;
            float a = x->alpha * x->A[at];
            const float *b = tile[p];
#pragma omp simd
            for (size_t j = 0; j < jn; j++) c[j] += a * b[j];
        }
    }
}

/* Columns [from, to) of C. */
static void product_share(size_t from, size_t to, const struct matrices *x, size_t m, size_t k) {
    float tile[TILE_K][TILE_N];
    for (size_t j0 = from; j0 < to; j0 += TILE_N) {
        size_t jn = to - j0 < TILE_N ? to - j0 : TILE_N;
        for (size_t p0 = 0; p0 < k; p0 += TILE_K) {
            size_t pn = k - p0 < TILE_K ? k - p0 : TILE_K;
            tile_load(tile, x, p0, pn, j0, jn);
            tile_add(tile, x, m, p0, pn, j0, jn);
        }
    }
}

static void rows_scale(int m, int n, float beta, float *C, int ldc);

static int product(int threads, int ta, int tb, int m, int n, int k, float alpha, const float *A,
    int lda, const float *B, int ldb, float beta, float *C, int ldc) {
    struct matrices x = {A, B, C, (size_t)lda, (size_t)ldb, (size_t)ldc, ta, tb, alpha};
    const struct stream team = {.threads = threads};
    rows_scale(m, n, beta, C, ldc);
    SHARE(&team, (size_t)n, LINE, (size_t)m * (size_t)n * (size_t)k, product_share, &x, (size_t)m,
        (size_t)k);
    return 0;
}

#endif

/* C <- beta C; beta = 0 does not read C. */
static void rows_scale(int m, int n, float beta, float *C, int ldc) {
    if (beta == 1) return;
    for (int i = 0; i < m; i++) {
        float *c = C + (size_t)i * (size_t)ldc;
        for (int j = 0; j < n; j++) c[j] = beta == 0 ? 0 : beta * c[j];
    }
}

/* The libraries do not agree on empty products, and refuse a leading dimension of 0. */
int host_gemm_one(int threads, int ta, int tb, int m, int n, int k, float alpha, const float *A,
    int lda, const float *B, int ldb, float beta, float *C, int ldc) {
    ASSERT(m >= 0 && n >= 0 && k >= 0);
    if (m == 0 || n == 0) return 0;
    if (k == 0) {
        rows_scale(m, n, beta, C, ldc);
        return 0;
    }
    ASSERT(lda >= (ta ? m : k) && ldb >= (tb ? k : n) && ldc >= n);
    return product(threads, ta, tb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
}

/* Many products go one to a thread; few are each computed by the whole team. */
void host_gemm(struct stream *q, int count, int ta, int tb, int m, int n, int k, float alpha,
    const float *A, int lda, size_t stride_a, const float *B, int ldb, size_t stride_b, float beta,
    float *C, int ldc, size_t stride_c) {
    if (q->failed != STATUS_OK) return;
    int bad = 0, threads = q->threads;
    if (threads > 1 && count >= threads) {
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : bad)
        for (int i = 0; i < count; i++) {
            bad |= host_gemm_one(1, ta, tb, m, n, k, alpha, A + (size_t)i * stride_a, lda,
                B + (size_t)i * stride_b, ldb, beta, C + (size_t)i * stride_c, ldc);
        }
    } else {
        for (int i = 0; i < count; i++) {
            bad |= host_gemm_one(threads, ta, tb, m, n, k, alpha, A + (size_t)i * stride_a, lda,
                B + (size_t)i * stride_b, ldb, beta, C + (size_t)i * stride_c, ldc);
        }
    }
    if (bad) stream_fail(q, "gemm of %d x %d x %d: the library gave status %d", m, n, k, bad);
}
