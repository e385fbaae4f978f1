/* batchnorm.c -- batchnorm_statistics, batchnorm_forward, batchnorm_grad_sums, batchnorm_grad_input.
 *
 * Channels are summed a cache line of each row at a time, in blocks of rows that are summed apart, so
 * that tall columns lose few bits. The variance takes a second pass: the difference of the mean
 * square and the squared mean would lose what a mean far from zero leaves of it.
 */
#include <math.h>
#include <string.h>

#include "host.h"

enum { BLOCK = 256 };

/* Channels that are worked on at a time: a multiple of a line's. */
enum { ROOM = 64 };

/* Adds to n columns' sums those of a - a0 and of (a - a0) (b - b0), of at most BLOCK rows. */
static void few_columns_sum(float *sum, float *product, const float *a, const float *a0,
    const float *b, const float *b0, size_t n, size_t rows, size_t c) {
    float s[LINE] = {0}, p[LINE] = {0};
    for (size_t r = 0; r < rows; r++, a += c, b += c) {
        for (size_t j = 0; j < n; j++) {
            float d = a[j] - a0[j];
            s[j] += d;
            p[j] += d * (b[j] - b0[j]);
        }
    }
    for (size_t j = 0; j < n; j++) {
        sum[j] += s[j];
        product[j] += p[j];
    }
}

static inline void lanes_add(float *to, lanes v) { lanes_write(to, lanes_at(to) + v, LANES); }

/* The same of LINE columns. */
static void line_sum(float *sum, float *product, const float *a, const float *a0, const float *b,
    const float *b0, size_t rows, size_t c) {
    enum { PARTS = LINE / LANES };
    lanes s[PARTS] = {{0}}, p[PARTS] = {{0}};
    for (size_t r = 0; r < rows; r++, a += c, b += c) {
#pragma GCC unroll 4
        for (size_t i = 0; i < PARTS; i++) {
            lanes d = lanes_at(a + i * LANES) - lanes_at(a0 + i * LANES);
            s[i] += d;
            p[i] += d * (lanes_at(b + i * LANES) - lanes_at(b0 + i * LANES));
        }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < PARTS; i++) {
        lanes_add(sum + i * LANES, s[i]);
        lanes_add(product + i * LANES, p[i]);
    }
}

/* The same of n <= ROOM columns of all rows, from zero. */
static void columns_sum(float *sum, float *product, const float *a, const float *a0, const float *b,
    const float *b0, size_t n, size_t rows, size_t c) {
    memset(sum, 0, n * sizeof *sum);
    memset(product, 0, n * sizeof *product);
    for (size_t block = 0; block < rows; block += BLOCK) {
        size_t height = rows - block < BLOCK ? rows - block : BLOCK, j = 0;
        const float *at = a + block * c, *bt = b + block * c;
        for (; j + LINE <= n; j += LINE) {
            line_sum(sum + j, product + j, at + j, a0 + j, bt + j, b0 + j, height, c);
        }
        if (j < n) {
            few_columns_sum(sum + j, product + j, at + j, a0 + j, bt + j, b0 + j, n - j, height, c);
        }
    }
}

static const float zeros[ROOM];

/* Channels [from, to). The second pass also mends the mean of the first. */
static void statistics_share(
    size_t from, size_t to, float *mean, float *var, const float *x, size_t rows, size_t c) {
    float count = (float)rows, sum[ROOM], squares[ROOM], center[ROOM];
    for (size_t at = from; at < to; at += ROOM) {
        size_t n = to - at < ROOM ? to - at : ROOM;
        columns_sum(sum, squares, x + at, zeros, x + at, zeros, n, rows, c);
        for (size_t j = 0; j < n; j++) center[j] = sum[j] / count;
        columns_sum(sum, squares, x + at, center, x + at, center, n, rows, c);
        for (size_t j = 0; j < n; j++) {
            float rest = sum[j] / count;
            mean[at + j] = center[j] + rest;
            var[at + j] = squares[j] / count - rest * rest;
        }
    }
}

void host_batchnorm_statistics(
    struct stream *q, float *mean, float *var, const float *x, size_t rows, int c) {
    if (q->failed != STATUS_OK || rows == 0) return;
    SHARE(q, (size_t)c, LINE, rows * (size_t)c, statistics_share, mean, var, x, rows, (size_t)c);
}

/* Rows [from, to): y is x times a factor plus a rest, both a channel's. */
static void forward_share(size_t from, size_t to, float *y, const float *x, const float *mean,
    const float *var, float eps, const float *weight, const float *bias, enum activation act,
    size_t c) {
    for (size_t at = 0; at < c; at += ROOM) {
        size_t n = c - at < ROOM ? c - at : ROOM;
        float factor[ROOM], center[ROOM], rest[ROOM];
        for (size_t j = 0; j < n; j++) {
            factor[j] = weight[at + j] / sqrtf(var[at + j] + eps);
            center[j] = mean[at + j];
            rest[j] = bias[at + j];
        }
        for (size_t r = from; r < to; r++) {
            const float *restrict in = x + r * c + at;
            float *restrict out = y + r * c + at;
#pragma omp simd
            for (size_t j = 0; j < n; j++) out[j] = (in[j] - center[j]) * factor[j] + rest[j];
            if (act != ACTIVATION_NONE) host_act_share(0, n, out, out, act);
        }
    }
}

void host_batchnorm_forward(struct stream *q, float *y, const float *x, const float *mean,
    const float *var, float eps, const float *weight, const float *bias, enum activation act,
    size_t rows, int c) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, rows, 1, rows * (size_t)c, forward_share, y, x, mean, var, eps, weight, bias, act,
        (size_t)c);
}

/* Channels [from, to). */
static void grad_sums_share(size_t from, size_t to, float *dweight, float *dbias, const float *dz,
    const float *x, const float *mean, const float *var, float eps, size_t rows, size_t c) {
    float product[ROOM];
    for (size_t at = from; at < to; at += ROOM) {
        size_t n = to - at < ROOM ? to - at : ROOM;
        columns_sum(dbias + at, product, dz + at, zeros, x + at, mean + at, n, rows, c);
        for (size_t j = 0; j < n; j++) dweight[at + j] = product[j] / sqrtf(var[at + j] + eps);
    }
}

void host_batchnorm_grad_sums(struct stream *q, float *dweight, float *dbias, const float *dz,
    const float *x, const float *mean, const float *var, float eps, size_t rows, int c) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, (size_t)c, LINE, rows * (size_t)c, grad_sums_share, dweight, dbias, dz, x, mean, var,
        eps, rows, (size_t)c);
}

/* Rows [from, to): dx is factor (dz - a - b (x - mean)), all but dz and x a channel's. */
static void grad_input_share(size_t from, size_t to, float *dx, const float *dz, const float *x,
    const float *mean, const float *var, float eps, const float *weight, const float *dweight,
    const float *dbias, size_t rows, size_t c) {
    for (size_t at = 0; at < c; at += ROOM) {
        size_t n = c - at < ROOM ? c - at : ROOM;
        float factor[ROOM], center[ROOM], a[ROOM], b[ROOM];
        for (size_t j = 0; j < n; j++) {
            float scale = 1 / sqrtf(var[at + j] + eps);
            factor[j] = weight[at + j] * scale;
            center[j] = mean[at + j];
            a[j] = dbias ? dbias[at + j] / (float)rows : 0;
            b[j] = dweight ? dweight[at + j] / (float)rows * scale : 0;
        }
        for (size_t r = from; r < to; r++) {
            const float *restrict in = x + r * c + at, *restrict d = dz + r * c + at;
            float *restrict out = dx + r * c + at;
#pragma omp simd
            for (size_t j = 0; j < n; j++) {
                out[j] = factor[j] * (d[j] - a[j] - b[j] * (in[j] - center[j]));
            }
        }
    }
}

void host_batchnorm_grad_input(struct stream *q, float *dx, const float *dz, const float *x,
    const float *mean, const float *var, float eps, const float *weight, const float *dweight,
    const float *dbias, size_t rows, int c) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, rows, 1, rows * (size_t)c, grad_input_share, dx, dz, x, mean, var, eps, weight,
        dweight, dbias, rows, (size_t)c);
}
