/* philox.h -- the arithmetic of rng.h's numbers, one source for the host and for CUDA's kernels. */
#ifndef PHILOX_H
#define PHILOX_H

#include "base/rng.h"

#ifdef __CUDACC__
#define PHILOX_BOTH __host__ __device__
#else
#define PHILOX_BOTH
#endif

enum { PHILOX_ROUNDS = 10 };

/* One of rng_philox's rounds, the first being round 0, on its four words. */
static inline PHILOX_BOTH void philox_round(
    uint32_t *c0, uint32_t *c1, uint32_t *c2, uint32_t *c3, const uint32_t key[2], uint32_t round) {
    uint64_t p0 = (uint64_t)0xD2511F53u * *c0, p1 = (uint64_t)0xCD9E8D57u * *c2;
    *c0 = (uint32_t)(p1 >> 32) ^ *c1 ^ (key[0] + round * 0x9E3779B9u);
    *c1 = (uint32_t)p1;
    *c2 = (uint32_t)(p0 >> 32) ^ *c3 ^ (key[1] + round * 0xBB67AE85u);
    *c3 = (uint32_t)p0;
}

/* rng_philox */
static inline PHILOX_BOTH void philox(
    const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    for (int i = 0; i < 4; i++) out[i] = counter[i];
    for (uint32_t round = 0; round < PHILOX_ROUNDS; round++) {
        philox_round(&out[0], &out[1], &out[2], &out[3], key, round);
    }
}

/* rng_block */
static inline PHILOX_BOTH void philox_block(
    struct rng_key key, uint64_t counter, uint32_t words[4]) {
    const uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), key.id, key.salt};
    const uint32_t k[2] = {key.seed, 0};
    philox(c, k, words);
}

#endif
