/* dropout.c -- dropout_mask, dropout. */
#include <string.h>

#include "base/philox.h"
#include "host.h"

enum { BLOCKS = 16, WORDS = 4 * BLOCKS }; /* blocks of four words that are drawn side by side */

/* words[i][b] <- word i of block `block` + b, as philox_block draws it: a round of all blocks before
 * the next, since the compiler makes vectors of that and not of one block after another. */
static void words_draw(uint32_t words[restrict 4][BLOCKS], struct rng_key key, uint64_t block) {
    const uint32_t k[2] = {key.seed, 0};
    for (uint64_t b = 0; b < BLOCKS; b++) {
        words[0][b] = (uint32_t)(block + b);
        words[1][b] = (uint32_t)((block + b) >> 32);
        words[2][b] = key.id;
        words[3][b] = key.salt;
    }
    for (uint32_t round = 0; round < PHILOX_ROUNDS; round++) {
#pragma omp simd
        for (int b = 0; b < BLOCKS; b++) {
            philox_round(&words[0][b], &words[1][b], &words[2][b], &words[3][b], k, round);
        }
    }
}

/* Shares are multiples of WORDS. */
static void mask_share(size_t from, size_t to, uint8_t *mask, struct rng_key key, uint64_t below) {
    for (size_t at = from; at < to; at += WORDS) {
        uint32_t words[4][BLOCKS];
        uint8_t kept[WORDS];
        words_draw(words, key, at / 4);
        for (int i = 0; i < 4; i++) {
            for (int b = 0; b < BLOCKS; b++) kept[4 * b + i] = words[i][b] < below;
        }
        memcpy(mask + at, kept, to - at < WORDS ? to - at : WORDS);
    }
}

void host_dropout_mask(struct stream *q, uint8_t *mask, struct rng_key key, float keep,
    const struct step *step, size_t n) {
    if (q->failed != STATUS_OK) return;
    key.seed ^= step->number;
    uint64_t below = (uint64_t)((double)keep * 0x1p32);
    SHARE(q, n, WORDS, n, mask_share, mask, key, below);
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
