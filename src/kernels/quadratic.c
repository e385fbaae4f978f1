/* quadratic.c -- quadratic. */
#include "host.h"

/* One thread does it: the loss must not depend on the team, and quadratics are small. */
void host_quadratic(struct stream *q, float *g, float *loss, const float *x, const float *h,
    const float *target, const float *noise, size_t n) {
    if (q->failed != STATUS_OK) return;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        float d = x[i] - target[i];
        g[i] = h[i] * d + noise[i];
        sum += (double)h[i] * (double)d * (double)d;
    }
    loss[0] = (float)(sum / 2);
}
