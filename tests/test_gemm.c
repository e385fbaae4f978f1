#include <criterion/criterion.h>

#include "check.h"
#include "devices/device.h"
#include "guard.h"

TestSuite(gemm, .timeout = 60);

/* One case: sizes, transposes, factors, and how much longer than needed a stored row is. */
struct product {
    int count, ta, tb, m, n, k, pad;
    float alpha, beta;
};

struct matrix {
    float *at;
    int rows, columns, ld;
    size_t stride, floats;
};

static struct matrix matrix_open(int count, int rows, int columns, int pad, unsigned salt) {
    struct matrix a = {.rows = rows, .columns = columns, .ld = columns + pad};
    if (a.ld == 0) a.ld = 1;
    a.stride = (size_t)rows * (size_t)a.ld + 5;
    a.floats = (size_t)count * a.stride;
    a.at = guard_ints(a.floats, salt, 8);
    return a;
}

static double element(const struct matrix *a, unsigned salt, int i, int row, int column) {
    size_t at = (size_t)i * a->stride + (size_t)row * (size_t)a->ld + (size_t)column;
    return small_int(at, salt, 8);
}

static double inner_product(const struct product *p, const struct matrix *A, const struct matrix *B,
    int i, int row, int column) {
    double sum = 0;
    for (int l = 0; l < p->k; l++) {
        double a = p->ta ? element(A, 1, i, l, row) : element(A, 1, i, row, l);
        double b = p->tb ? element(B, 2, i, column, l) : element(B, 2, i, l, column);
        sum += a * b;
    }
    return sum;
}

/* What all of C's memory is to hold: the padding and the gaps keep what they held. */
static double *product_oracle(const struct product *p, const struct matrix *A,
    const struct matrix *B, const struct matrix *C) {
    double *want = doubles(C->floats);
    for (size_t i = 0; i < C->floats; i++) want[i] = small_int(i, 3, 8);
    for (int i = 0; i < p->count; i++)
        for (int r = 0; r < p->m; r++)
            for (int c = 0; c < p->n; c++)
                want[(size_t)i * C->stride + (size_t)r * (size_t)C->ld + (size_t)c] =
                    (double)p->alpha * inner_product(p, A, B, i, r, c) +
                    (double)p->beta * element(C, 3, i, r, c);
    return want;
}

static void product_check(const struct product *p, int threads) {
    struct stream q = {.kernels = &kernels_host, .threads = threads};
    struct matrix A = matrix_open(p->count, p->ta ? p->k : p->m, p->ta ? p->m : p->k, p->pad, 1);
    struct matrix B = matrix_open(p->count, p->tb ? p->n : p->k, p->tb ? p->k : p->n, p->pad, 2);
    struct matrix C = matrix_open(p->count, p->m, p->n, p->pad, 3);
    double *want = product_oracle(p, &A, &B, &C);
    if (p->beta == 0) /* then C is not to be read */
        for (int i = 0; i < p->count; i++)
            for (int r = 0; r < p->m; r++)
                for (int c = 0; c < p->n; c++)
                    C.at[(size_t)i * C.stride + (size_t)(r * C.ld + c)] = NAN;
    kernels_host.gemm(&q, p->count, p->ta, p->tb, p->m, p->n, p->k, p->alpha, A.at, A.ld, A.stride,
        B.at, B.ld, B.stride, p->beta, C.at, C.ld, C.stride);
    cr_assert(q.failed == STATUS_OK, "%s", q.why);
    check_close(C.at, want, C.floats, 0, 0, "%d products of %d x %d x %d, %d%d, beta %g, team %d",
        p->count, p->m, p->n, p->k, p->ta, p->tb, (double)p->beta, threads);
    cr_assert(guard_holds(C.at, C.floats));
    guard_free(A.at);
    guard_free(B.at);
    guard_free(C.at);
    free(want);
}

/* Whole numbers up to 8 and inner sizes up to 300: every sum is exact. */
Test(gemm, products_of_whole_numbers_are_exact) {
    static const int shapes[][3] = {
        {1, 1, 1}, {10, 200, 31}, {33, 10, 64}, {5, 129, 300}, {64, 33, 65}, {255, 17, 1}};
    static const float factors[][2] = {{1, 0}, {1, 1}, {-0.5f, 2}};
    for (int i = 0; i < 6; i++)
        for (int t = 0; t < 4; t++)
            for (int f = 0; f < 3; f++)
                for (int threads = 1; threads <= 3; threads++) {
                    struct product p = {1 + i % 2 * 3, t / 2, t % 2, shapes[i][0], shapes[i][1],
                        shapes[i][2], i % 3, factors[f][0], factors[f][1]};
                    product_check(&p, threads);
                }
}

Test(gemm, empty_products_scale_what_is_there) {
    static const int shapes[][3] = {{0, 4, 4}, {4, 0, 4}, {4, 5, 0}, {0, 0, 0}};
    static const float factors[][2] = {{1, 0}, {1, 1}, {1, 2}, {0, 2}, {0, 0}};
    for (int i = 0; i < 4; i++)
        for (int f = 0; f < 5; f++) {
            struct product p = {2, 0, i % 2, shapes[i][0], shapes[i][1], shapes[i][2], 0,
                factors[f][0], factors[f][1]};
            product_check(&p, 1);
        }
}

Test(gemm, one_team_size_always_gives_the_same_bits) {
    enum { M = 65, N = 70, K = 501 };
    static float A[M * K], B[K * N], C[2][M * N];
    for (int i = 0; i < M * K; i++) A[i] = (float)small_int((size_t)i, 1, 1000) / 7;
    for (int i = 0; i < K * N; i++) B[i] = (float)small_int((size_t)i, 2, 1000) / 7;
    for (int threads = 1; threads <= 3; threads++) {
        struct stream q = {.kernels = &kernels_host, .threads = threads};
        for (int i = 0; i < 2; i++)
            q.kernels->gemm(&q, 1, 0, 0, M, N, K, 1, A, K, 0, B, N, 0, 0, C[i], N, 0);
        for (int i = 0; i < M * N; i++) cr_assert(C[0][i] == C[1][i]);
    }
}
