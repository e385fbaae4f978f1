/* optimizer.c -- sgd, momentum, look_ahead. */
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
