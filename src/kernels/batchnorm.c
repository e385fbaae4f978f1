/* batchnorm.c -- batchnorm_statistics, batchnorm_forward, batchnorm_grad_sums, batchnorm_grad_input.
 *
 * Channels are summed 16 at a time, a cache line of each row, in blocks of rows that are summed
 * apart, so that tall columns lose few bits. The variance takes a second pass: the difference of
 * the mean square and the squared mean would lose what a mean far from zero leaves of it.
 */
#include <math.h>
#include <string.h>

#include "host.h"

enum { BLOCK = 256 };

/* A cache line of floats as one value, as in activation.c. */
typedef float line_of_floats __attribute__((vector_size(4 * LINE), aligned(4), may_alias));

/* n <= LINE floats from `at`, the rest zero. */
static inline line_of_floats line_read(const float *at, size_t n) {
    if (n == LINE) return *(const line_of_floats *)at;
    float few[LINE] = {0};
    for (size_t j = 0; j < n; j++) few[j] = at[j];
    line_of_floats line;
    memcpy(&line, few, sizeof line);
    return line;
}

/* Sums of n columns: of x - center, and of their squares. */
static void columns_sum(line_of_floats *sum, line_of_floats *squares, const float *x,
    line_of_floats center, size_t n, size_t rows, size_t c) {
    line_of_floats s = {0}, ss = {0};
    for (size_t block = 0; block < rows; block += BLOCK) {
        size_t end = rows - block < BLOCK ? rows : block + BLOCK;
        line_of_floats part = {0}, part_squares = {0};
        for (size_t r = block; r < end; r++) {
            line_of_floats d = line_read(x + r * c, n) - center;
            part += d;
            part_squares += d * d;
        }
        s += part;
        ss += part_squares;
    }
    *sum = s;
    *squares = ss;
}

/* Channels [from, to). The second pass also mends the mean of the first. */
static void statistics_share(
    size_t from, size_t to, float *mean, float *var, const float *x, size_t rows, size_t c) {
    float count = (float)rows;
    for (size_t at = from; at < to; at += LINE) {
        size_t n = to - at < LINE ? to - at : LINE;
        line_of_floats zero = {0}, sum, squares, center;
        columns_sum(&sum, &squares, x + at, zero, n, rows, c);
        center = sum / count;
        columns_sum(&sum, &squares, x + at, center, n, rows, c);
        line_of_floats rest = sum / count;
        for (size_t j = 0; j < n; j++) {
            mean[at + j] = center[j] + rest[j];
            var[at + j] = squares[j] / count - rest[j] * rest[j];
        }
    }
}

void host_batchnorm_statistics(
    struct stream *q, float *mean, float *var, const float *x, size_t rows, int c) {
    if (q->failed != STATUS_OK || rows == 0) return;
    SHARE(q, (size_t)c, LINE, rows * (size_t)c, statistics_share, mean, var, x, rows, (size_t)c);
}

enum { ROOM = 64 }; /* channels whose factors are worked out at a time */

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
    for (size_t at = from; at < to; at += LINE) {
        size_t n = to - at < LINE ? to - at : LINE;
        line_of_floats center = line_read(mean + at, n), sum = {0}, product = {0};
        for (size_t block = 0; block < rows; block += BLOCK) {
            size_t end = rows - block < BLOCK ? rows : block + BLOCK;
            line_of_floats part = {0}, part_product = {0};
            for (size_t r = block; r < end; r++) {
                line_of_floats d = line_read(dz + r * c + at, n);
                part += d;
                part_product += d * (line_read(x + r * c + at, n) - center);
            }
            sum += part;
            product += part_product;
        }
        for (size_t j = 0; j < n; j++) {
            dbias[at + j] = sum[j];
            dweight[at + j] = product[j] / sqrtf(var[at + j] + eps);
        }
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
