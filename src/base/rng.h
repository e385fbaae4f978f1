/* rng.h -- random numbers without state: a key and a counter give a word, always the same.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC11),
 * the same raw words as Random123's and cuRAND's. A draw is named by who draws and for what, so
 * a run's numbers do not depend on the number of threads, nor on which came first.
 */
#ifndef RNG_H
#define RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a number is for. Two uses never share one. */
enum rng_salt {
    RNG_INIT = 1,  /* initial weights; id: the layer */
    RNG_SHUFFLE,   /* the order of samples; id: the worker, or 0 where all share it */
    RNG_DROPOUT,   /* masks; id: worker * 4096 + layer */
    RNG_NOISE,     /* the quadratic's gradient noise; id: the worker */
    RNG_STRATEGY,  /* worker_draw and worker_chance; id: the worker */
    RNG_TEAM,      /* team_draw: all workers alike */
    RNG_SPLIT,     /* which samples are held out */
    RNG_TARGET,    /* the quadratic's targets; id: the shard */
    RNG_SYNTHETIC, /* synthetic images; id: prototypes, noise or labels */
    RNG_AUGMENT,   /* crops and flips of samples; id: the worker */
    RNG_STATISTICS /* which samples batch norm's statistics are taken of again */
};

/* Names a sequence of numbers. */
struct rng_key {
    uint32_t seed, salt, id;
};

/* The block of four 32-bit words at `counter` (below 2^64) of the sequence. */
void rng_block(struct rng_key key, uint64_t counter, uint32_t words[4]);

/* The raw function: out <- philox4x32-10(counter, key). Known answers are in tests/test_rng.c. */
void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* The i-th word of the sequence. */
uint32_t rng_word(struct rng_key key, uint64_t i);

/* A word as a float in [0, 1): its upper 24 bits over 2^24, exact. */
static inline float rng_unit(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

/* A word as an integer in 0 .. below-1, below > 0. Biased by less than below / 2^32. */
static inline uint32_t rng_below(uint32_t word, uint32_t below) {
    return (uint32_t)(((uint64_t)word * below) >> 32);
}

/* out[0 .. n-1] <- independent normals of mean 0 and deviation 1, numbers `from` to from + n - 1
 * of the sequence (Box and Muller, in double). */
void rng_normals(struct rng_key key, uint64_t from, float *out, uint64_t n);

/* Where i (below n, 1 <= n < 2^31) goes in a permutation of 0 .. n-1 that the key and the turn
 * name: a shuffle that needs no memory and can be entered anywhere. */
uint32_t rng_permute(struct rng_key key, uint32_t turn, uint32_t i, uint32_t n);

#ifdef __cplusplus
}
#endif
#endif
