/* loss.c -- softmax_cross_entropy, right, total. They are small: the calling thread does them. */
#include <math.h>

#include "host.h"

static float row_max(const float *z, int n) {
    float most = z[0];
    for (int j = 1; j < n; j++) most = z[j] > most ? z[j] : most;
    return most;
}

/* A NaN among the logits is in the sum, whatever row_max made of it, and so in the loss. */
void host_softmax_cross_entropy(struct stream *q, float *loss, float *dlogits, const float *logits,
    const int *label, float scale, int B, int C) {
    if (q->failed != STATUS_OK) return;
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
        loss[b] = logf(sum) - (z[label[b]] - most);
        if (!dz) continue;
        for (int j = 0; j < C; j++) dz[j] = scale * (dz[j] / sum - (j == label[b] ? 1.0f : 0.0f));
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
