/* activation.c -- bias_act, act_grad, act, add_act, bias_grad.
 *
 * The comparisons are such that a NaN is passed on: a max(0, NaN) of 0 would hide a diverged net.
 */
#include <math.h>
#include <string.h>

#include "host.h"

static inline float relu(float z) { return z < 0 ? 0 : z; }

static inline float sigmoid(float z) { return 1 / (1 + expf(-z)); }

void host_bias_act_rows(
    size_t from, size_t to, float *y, const float *bias, enum activation act, size_t c) {
    for (size_t r = from; r < to; r++) {
        float *restrict row = y + r * c;
        switch (act) {
        case ACTIVATION_NONE:
#pragma omp simd
            for (size_t j = 0; j < c; j++) row[j] = row[j] + bias[j];
            break;
        case ACTIVATION_RELU:
#pragma omp simd
            for (size_t j = 0; j < c; j++) row[j] = relu(row[j] + bias[j]);
            break;
        case ACTIVATION_TANH:
            for (size_t j = 0; j < c; j++) row[j] = tanhf(row[j] + bias[j]);
            break;
        case ACTIVATION_SIGMOID:
            for (size_t j = 0; j < c; j++) row[j] = sigmoid(row[j] + bias[j]);
            break;
        }
    }
}

void host_bias_act(
    struct stream *q, float *y, const float *bias, enum activation act, size_t rows, int c) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, rows, 1, rows * (size_t)c, host_bias_act_rows, y, bias, act, (size_t)c);
}

static void act_grad_share(
    size_t from, size_t to, float *dz, const float *dy, const float *y, enum activation act) {
    switch (act) {
    case ACTIVATION_NONE:
        if (dz != dy) memcpy(dz + from, dy + from, (to - from) * sizeof *dz);
        break;
    case ACTIVATION_RELU:
#pragma omp simd
        for (size_t i = from; i < to; i++) dz[i] = y[i] > 0 ? dy[i] : 0;
        break;
    case ACTIVATION_TANH:
#pragma omp simd
        for (size_t i = from; i < to; i++) dz[i] = dy[i] * (1 - y[i] * y[i]);
        break;
    case ACTIVATION_SIGMOID:
#pragma omp simd
        for (size_t i = from; i < to; i++) dz[i] = dy[i] * (y[i] * (1 - y[i]));
        break;
    }
}

void host_act_grad(
    struct stream *q, float *dz, const float *dy, const float *y, enum activation act, size_t n) {
    if (q->failed != STATUS_OK || n == 0) return;
    SHARE(q, n, LINE, n, act_grad_share, dz, dy, y, act);
}

void host_act_share(size_t from, size_t to, float *y, const float *x, enum activation act) {
    switch (act) {
    case ACTIVATION_NONE:
        if (y != x) memcpy(y + from, x + from, (to - from) * sizeof *y);
        break;
    case ACTIVATION_RELU:
#pragma omp simd
        for (size_t i = from; i < to; i++) y[i] = relu(x[i]);
        break;
    case ACTIVATION_TANH:
        for (size_t i = from; i < to; i++) y[i] = tanhf(x[i]);
        break;
    case ACTIVATION_SIGMOID:
        for (size_t i = from; i < to; i++) y[i] = sigmoid(x[i]);
        break;
    }
}

void host_act(struct stream *q, float *y, const float *x, enum activation act, size_t n) {
    if (q->failed != STATUS_OK || n == 0) return;
    SHARE(q, n, LINE, n, host_act_share, y, x, act);
}

/* In pieces that stay in the nearest cache between the sum and the activation. */
static void add_act_share(
    size_t from, size_t to, float *y, const float *a, const float *b, enum activation act) {
    enum { PIECE = 2048 };
    for (size_t at = from; at < to; at += PIECE) {
        size_t end = to - at < PIECE ? to : at + PIECE;
#pragma omp simd
        for (size_t i = at; i < end; i++) y[i] = a[i] + b[i];
        if (act != ACTIVATION_NONE) host_act_share(at, end, y, y, act);
    }
}

void host_add_act(
    struct stream *q, float *y, const float *a, const float *b, enum activation act, size_t n) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, n, LINE, n, add_act_share, y, a, b, act);
}

enum { BLOCK = 256 }; /* rows summed apart: tall sums then lose fewer bits */

/* A cache line of floats as one value: arrays of accumulators would be kept in memory. */
typedef float line_of_floats __attribute__((vector_size(4 * LINE), aligned(4), may_alias));

/* sum[0 .. 15] <- column sums of the 16 columns that start at dz. */
static void sum_line(float *sum, const float *dz, size_t rows, size_t c) {
    line_of_floats total = {0};
    for (size_t block = 0; block < rows; block += BLOCK) {
        size_t n = rows - block < BLOCK ? rows - block : BLOCK, r = 0;
        line_of_floats even = {0}, odd = {0};
        const float *at = dz + block * c;
        for (; r + 1 < n; r += 2, at += 2 * c) {
            even += *(const line_of_floats *)at;
            odd += *(const line_of_floats *)(at + c);
        }
        if (r < n) even += *(const line_of_floats *)at;
        total += even + odd;
    }
    memcpy(sum, &total, sizeof total);
}

/* The same of fewer columns. */
static void sum_few(float *sum, const float *dz, size_t columns, size_t rows, size_t c) {
    for (size_t j = 0; j < columns; j++) sum[j] = 0;
    for (size_t block = 0; block < rows; block += BLOCK) {
        size_t n = rows - block < BLOCK ? rows - block : BLOCK;
        float part[LINE] = {0};
        for (size_t r = block; r < block + n; r++) {
            for (size_t j = 0; j < columns; j++) part[j] += dz[r * c + j];
        }
        for (size_t j = 0; j < columns; j++) sum[j] += part[j];
    }
}

/* Columns [from, to). */
static void bias_grad_share(
    size_t from, size_t to, float *db, const float *dz, float beta, size_t rows, size_t c) {
    for (size_t at = from; at < to; at += LINE) {
        size_t n = to - at < LINE ? to - at : LINE;
        float sum[LINE];
        if (n == LINE) {
            sum_line(sum, dz + at, rows, c);
        } else {
            sum_few(sum, dz + at, n, rows, c);
        }
        for (size_t j = 0; j < n; j++) db[at + j] = beta == 0 ? sum[j] : beta * db[at + j] + sum[j];
    }
}

void host_bias_grad(struct stream *q, float *db, const float *dz, float beta, size_t rows, int c) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, (size_t)c, LINE, rows * (size_t)c, bias_grad_share, db, dz, beta, rows, (size_t)c);
}
