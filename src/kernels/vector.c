/* vector.c -- fill, mix, diff, elastic, sum, distance. */
#include "host.h"

static void fill_share(size_t from, size_t to, float *y, float a) {
#pragma omp simd
    for (size_t i = from; i < to; i++) y[i] = a;
}

void host_fill(struct stream *q, float *y, float a, size_t n) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, n, LINE, n, fill_share, y, a);
}

static void mix_share(size_t from, size_t to, float *y, float a, float b, const float *x) {
#pragma omp simd
    for (size_t i = from; i < to; i++) y[i] = a * y[i] + b * x[i];
}

static void scale_share(size_t from, size_t to, float *y, float a, const float *x) {
#pragma omp simd
    for (size_t i = from; i < to; i++) y[i] = a * x[i];
}

/* A factor of 0 is not a product: 0 times NaN would be NaN. */
void host_mix(struct stream *q, float *y, float a, float b, const float *x, size_t n) {
    if (q->failed != STATUS_OK) return;
    if (a != 0 && b != 0) {
        SHARE(q, n, LINE, n, mix_share, y, a, b, x);
    } else if (a != 0) {
        SHARE(q, n, LINE, n, scale_share, y, a, y);
    } else if (b != 0) {
        SHARE(q, n, LINE, n, scale_share, y, b, x);
    } else {
        SHARE(q, n, LINE, n, fill_share, y, 0);
    }
}

static void diff_share(size_t from, size_t to, float *d, float a, const float *x, const float *y) {
#pragma omp simd
    for (size_t i = from; i < to; i++) d[i] = a * (x[i] - y[i]);
}

void host_diff(struct stream *q, float *d, float a, const float *x, const float *y, size_t n) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, n, LINE, n, diff_share, d, a, x, y);
}

static void elastic_share(size_t from, size_t to, float *x, float *c, float alpha) {
#pragma omp simd
    for (size_t i = from; i < to; i++) {
        float d = alpha * (x[i] - c[i]);
        x[i] = x[i] - d;
        c[i] = c[i] + d;
    }
}

void host_elastic(struct stream *q, float *x, float *c, float alpha, size_t n) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, n, LINE, n, elastic_share, x, c, alpha);
}

enum { SUMS = 4, TILE = SUMS * LANES }; /* floats summed at a time: they stay in registers */

static inline void tile_sum(float *const *v, int count, float scale, size_t at) {
    lanes s[SUMS];
    for (size_t j = 0; j < SUMS; j++) s[j] = lanes_at(v[0] + at + j * LANES);
    for (int i = 1; i < count; i++) {
        for (size_t j = 0; j < SUMS; j++) s[j] += lanes_at(v[i] + at + j * LANES);
    }
    for (size_t j = 0; j < SUMS; j++) s[j] *= scale;
    for (int i = 0; i < count; i++) {
        for (size_t j = 0; j < SUMS; j++) lanes_write(v[i] + at + j * LANES, s[j], LANES);
    }
}

static void sum_share(size_t from, size_t to, float *const *v, int count, float scale) {
    size_t at = from;
    for (; to - at >= TILE; at += TILE) tile_sum(v, count, scale, at);
    for (; at < to; at++) {
        float s = v[0][at];
        for (int i = 1; i < count; i++) s += v[i][at];
        s *= scale;
        for (int i = 0; i < count; i++) v[i][at] = s;
    }
}

void host_sum(struct stream *q, float *const *v, int count, float scale, size_t n) {
    if (q->failed != STATUS_OK || count == 0 || (count == 1 && scale == 1)) return;
    SHARE(q, n, LINE, n * (size_t)count, sum_share, v, count, scale);
}

/* One thread does it: the sum must not depend on the team, and it is wanted at evaluations only. */
void host_distance(struct stream *q, float *out, const float *x, const float *y, size_t n) {
    if (q->failed != STATUS_OK) return;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        double d = (double)(y ? x[i] - y[i] : x[i]);
        sum += d * d;
    }
    out[0] = (float)sum;
}
