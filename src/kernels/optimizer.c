/* optimizer.c -- sgd, momentum, look_ahead, rmsprop, adam. */
#include <math.h>

#include "host.h"

static void sgd_share(size_t from, size_t to, float *x, const float *g, float eta) {
#pragma omp simd
    for (size_t i = from; i < to; i++) x[i] = x[i] - eta * g[i];
}

void host_sgd(struct stream *q, float *x, const float *g, const struct step *step, size_t n) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, n, LINE, n, sgd_share, x, g, step->rate);
}

static void momentum_share(
    size_t from, size_t to, float *x, float *v, const float *g, float delta, float eta) {
#pragma omp simd
    for (size_t i = from; i < to; i++) {
        v[i] = delta * v[i] - eta * g[i];
        x[i] = x[i] + v[i];
    }
}

void host_momentum(struct stream *q, float *x, float *v, const float *g, float delta,
    const struct step *step, size_t n) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, n, LINE, n, momentum_share, x, v, g, delta, step->rate);
}

static void look_ahead_share(
    size_t from, size_t to, float *y, const float *x, float delta, const float *v) {
#pragma omp simd
    for (size_t i = from; i < to; i++) y[i] = x[i] + delta * v[i];
}

void host_look_ahead(
    struct stream *q, float *y, const float *x, float delta, const float *v, size_t n) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, n, LINE, n, look_ahead_share, y, x, delta, v);
}

static void rmsprop_share(size_t from, size_t to, float *x, float *s, const float *g, float rho,
    float inside, float outside, float eta) {
#pragma omp simd
    for (size_t i = from; i < to; i++) {
        s[i] = rho * s[i] + (1 - rho) * (g[i] * g[i]);
        x[i] = x[i] - eta * (g[i] / (sqrtf(s[i] + inside) + outside));
    }
}

void host_rmsprop(struct stream *q, float *x, float *s, const float *g, float rho, float inside,
    float outside, const struct step *step, size_t n) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, n, LINE, n, rmsprop_share, x, s, g, rho, inside, outside, step->rate);
}

/* 1 - beta^t without the digits that the difference would cost where beta^t is nearly 1. */
static float adam_part(float log_beta, uint32_t number) {
    return -expm1f(((float)number + 1) * log_beta);
}

static void adam_share(size_t from, size_t to, float *x, float *m, float *s, const float *g,
    float beta1, float beta2, float inside, float outside, float up, float down) {
#pragma omp simd
    for (size_t i = from; i < to; i++) {
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        s[i] = beta2 * s[i] + (1 - beta2) * (g[i] * g[i]);
        x[i] = x[i] - up * (m[i] / (sqrtf(down * s[i] + inside) + outside));
    }
}

void host_adam(struct stream *q, float *x, float *m, float *s, const float *g, float beta1,
    float beta2, float inside, float outside, const struct step *step, size_t n) {
    if (q->failed != STATUS_OK) return;
    float up = step->rate / adam_part((float)log((double)beta1), step->number);
    float down = 1 / adam_part((float)log((double)beta2), step->number);
    SHARE(q, n, LINE, n, adam_share, x, m, s, g, beta1, beta2, inside, outside, up, down);
}
