#include "rng.h"

#include <math.h>

#include "philox.h"
#include "status.h"

void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    philox(counter, key, out);
}

void rng_block(struct rng_key key, uint64_t counter, uint32_t words[4]) {
    philox_block(key, counter, words);
}

uint32_t rng_word(struct rng_key key, uint64_t i) {
    uint32_t words[4];
    rng_block(key, i / 4, words);
    return words[i % 4];
}

/* Normals 2k and 2k + 1 come from words 2k and 2k + 1. */
static void normal_pair(struct rng_key key, uint64_t pair, float out[2]) {
    uint32_t words[4];
    rng_block(key, pair / 2, words);
    const uint32_t *two = words + 2 * (pair % 2);
    const double tau = 6.283185307179586;
    double radius = sqrt(-2 * log(1 - (double)rng_unit(two[0]))); /* 1 - u is never 0 */
    double angle = tau * (double)rng_unit(two[1]);
    out[0] = (float)(radius * cos(angle));
    out[1] = (float)(radius * sin(angle));
}

void rng_normals(struct rng_key key, uint64_t from, float *out, uint64_t n) {
    float two[2];
    for (uint64_t i = 0; i < n; i++) {
        if (i == 0 || (from + i) % 2 == 0) normal_pair(key, (from + i) / 2, two);
        out[i] = two[(from + i) % 2];
    }
}

/* A mixing function for the Feistel rounds below: 32 bits to 32 bits. */
static uint32_t mix(uint32_t a) {
    a ^= a >> 16;
    a *= 0x7feb352du;
    a ^= a >> 15;
    a *= 0x846ca68bu;
    a ^= a >> 16;
    return a;
}

/* A Feistel network permutes 0 .. 4^half - 1, the smallest such range that holds n; an image
 * outside 0 .. n-1 is sent through again, which permutes 0 .. n-1. With few rounds small ranges
 * come out uneven: six leave pairs of places out of five 8 % from equally likely, twelve 0.2 %. */
uint32_t rng_permute(struct rng_key key, uint32_t turn, uint32_t i, uint32_t n) {
    ASSERT(i < n && n < 0x80000000u);
    uint32_t half = 1, words[4];
    while ((1ull << (2 * half)) < n) half++;
    uint32_t mask = (1u << half) - 1;
    rng_block(key, turn, words);
    do {
        uint32_t left = i >> half, right = i & mask;
        for (uint32_t round = 0; round < 12; round++) {
            uint32_t next = left ^ (mix(right + words[round % 4] + round * 0x9E3779B9u) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}
