/* loss.c -- softmax_cross_entropy, right, total. They are small: the calling thread does them. */
#include <math.h>

#include "host.h"

static float row_max(const float *z, int n) {
    float most = z[0];
    for (int j = 1; j < n; j++) most = z[j] > most ? z[j] : most;
    return most;
}

/* The mean of z - most under the target; without smoothing the other logits are not looked at: one
 * of minus infinity must not count. */
static float target_mean(const float *z, int C, int label, float most, float smoothing) {
    float sum = 0;
    if (smoothing == 0) return z[label] - most;
    for (int j = 0; j < C; j++) sum += z[j] - most;
    return (1 - smoothing) * (z[label] - most) + smoothing / (float)C * sum;
}

/* A NaN among the logits is in the sum, whatever row_max made of it, and so in the loss. */
void host_softmax_cross_entropy(struct stream *q, float *loss, float *dlogits, const float *logits,
    const int *label, float scale, float smoothing, int B, int C) {
    if (q->failed != STATUS_OK) return;
    float all = smoothing / (float)C; /* every class's share of the target */
    for (int b = 0; b < B; b++) {
        const float *z = logits + (size_t)b * (size_t)C;
        float *dz = dlogits ? dlogits + (size_t)b * (size_t)C : NULL;
        float most = row_max(z, C), sum = 0;
        ASSERT(label[b] >= 0 && label[b] < C);
        for (int j = 0; j < C; j++) {
            float e = expf(z[j] - most);
            sum += e;
            if (dz) dz[j] = e;
        }
        loss[b] = logf(sum) - target_mean(z, C, label[b], most, smoothing);
        if (!dz) continue;
        for (int j = 0; j < C; j++) {
            float target = j == label[b] ? 1 - smoothing + all : all;
            dz[j] = scale * (dz[j] / sum - target);
        }
    }
}

void host_right(
    struct stream *q, float *right, const float *logits, const int *label, int B, int C) {
    if (q->failed != STATUS_OK) return;
    for (int b = 0; b < B; b++) {
        const float *z = logits + (size_t)b * (size_t)C;
        int first = 0, nan = 0;
        for (int j = 0; j < C; j++) {
            nan |= z[j] != z[j];
            if (z[j] > z[first]) first = j;
        }
        right[b] = !nan && first == label[b] ? 1.0f : 0.0f;
    }
}

void host_total(struct stream *q, float *out, const float *v, size_t n) {
    if (q->failed != STATUS_OK) return;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += (double)v[i];
    out[0] = (float)sum;
}
