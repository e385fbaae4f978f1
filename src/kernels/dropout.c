/* dropout.c -- dropout_mask, dropout. */
#include "host.h"

/* Four words come at a time, so shares are multiples of four. */
static void mask_share(size_t from, size_t to, uint8_t *mask, struct rng_key key, uint64_t below) {
    for (size_t at = from; at < to; at += 4) {
        uint32_t words[4];
        rng_block(key, at / 4, words);
        for (size_t i = 0; i < 4 && at + i < to; i++) mask[at + i] = words[i] < below;
    }
}

void host_dropout_mask(struct stream *q, uint8_t *mask, struct rng_key key, float keep,
    const struct step *step, size_t n) {
    if (q->failed != STATUS_OK) return;
    key.seed ^= step->number;
    uint64_t below = (uint64_t)((double)keep * 0x1p32);
    SHARE(q, n, 64, n, mask_share, mask, key, below);
}

static void dropout_share(
    size_t from, size_t to, float *y, const float *x, const uint8_t *mask, float keep) {
#pragma omp simd
    for (size_t i = from; i < to; i++) y[i] = mask[i] ? x[i] / keep : 0;
}

void host_dropout(
    struct stream *q, float *y, const float *x, const uint8_t *mask, float keep, size_t n) {
    if (q->failed != STATUS_OK) return;
    SHARE(q, n, 64, n, dropout_share, y, x, mask, keep);
}
