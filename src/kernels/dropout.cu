/* dropout.cu -- CUDA: dropout_mask, dropout. */
#include "base/philox.h"
#include "kernels/cuda.h"
#include "kernels/cuda_stream.cuh"

/* Four words come at a time. */
static __global__ void dropout_mask_kernel(
    uint8_t *mask, struct rng_key key, uint64_t below, const struct step *step, size_t n) {
    key.seed ^= step->number;
    FOR_EACH (block, (n + 3) / 4) {
        uint32_t words[4];
        philox_block(key, block, words);
        for (unsigned i = 0; i < 4 && 4 * block + i < n; i++) {
            mask[4 * block + i] = words[i] < below;
        }
    }
}

void cuda_dropout_mask(struct stream *q, uint8_t *mask, struct rng_key key, float keep,
    const struct step *step, size_t n) {
    uint64_t below = (uint64_t)((double)keep * 0x1p32);
    LAUNCH(dropout_mask_kernel, q, blocks_for((n + 3) / 4), THREADS, 0, mask, key, below, step, n);
}

static __global__ void dropout_kernel(
    float *y, const float *x, const uint8_t *mask, float keep, size_t n) {
    FOR_EACH (i, n) y[i] = mask[i] ? x[i] / keep : 0;
}

void cuda_dropout(
    struct stream *q, float *y, const float *x, const uint8_t *mask, float keep, size_t n) {
    LAUNCH(dropout_kernel, q, blocks_for(n), THREADS, 0, y, x, mask, keep, n);
}
