/* philox.h -- the arithmetic of rng.h's numbers, one source for the host and for CUDA's kernels. */
#ifndef PHILOX_H
#define PHILOX_H

#include "base/rng.h"

#ifdef __CUDACC__
#define PHILOX_BOTH __host__ __device__
#else
#define PHILOX_BOTH
#endif

/* rng_philox */
static inline PHILOX_BOTH void philox(
    const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t hi0 = (uint32_t)(p0 >> 32), lo0 = (uint32_t)p0;
        uint32_t hi1 = (uint32_t)(p1 >> 32), lo1 = (uint32_t)p1;
        c0 = hi1 ^ c1 ^ k0;
        c1 = lo1;
        c2 = hi0 ^ c3 ^ k1;
        c3 = lo0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* rng_block */
static inline PHILOX_BOTH void philox_block(
    struct rng_key key, uint64_t counter, uint32_t words[4]) {
    const uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), key.id, key.salt};
    const uint32_t k[2] = {key.seed, 0};
    philox(c, k, words);
}

#endif
