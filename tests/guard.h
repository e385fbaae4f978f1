/* guard.h -- arrays with guard words around them, and small whole numbers to fill them with.
 *
 * Sums and products of small whole numbers are exact in float32, so that a kernel can be compared
 * with its oracle at a tolerance of zero. */
#ifndef GUARD_H
#define GUARD_H

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { GUARD = 64 };

static const float guard_word = 12345.678f;

/* n floats, all guard_word, between guards. */
static inline float *guard_floats(size_t n) {
    float *at = aligned_alloc(256, (n + 2 * GUARD + 63) / 64 * 64 * sizeof *at);
    for (size_t i = 0; i < n + 2 * GUARD; i++) at[i] = guard_word;
    return at + GUARD;
}

/* True when no guard was written over. */
static inline int guard_holds(const float *at, size_t n) {
    for (size_t i = 0; i < GUARD; i++) {
        uint32_t before = 0, after = 0, word = 0;
        __builtin_memcpy(&before, at - GUARD + i, sizeof before);
        __builtin_memcpy(&after, at + n + i, sizeof after);
        __builtin_memcpy(&word, &guard_word, sizeof word);
        if (before != word || after != word) return 0;
    }
    return 1;
}

static inline void guard_free(float *at) { free(at - GUARD); }

/* A whole number in -most .. most that i and the salt name. */
static inline int small_int(size_t i, unsigned salt, int most) {
    uint32_t h = (uint32_t)i * 2654435761u + salt * 40503u + 12345u;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    return (int)(h % (uint32_t)(2 * most + 1)) - most;
}

/* n small whole numbers between guards. */
static inline float *guard_ints(size_t n, unsigned salt, int most) {
    float *at = guard_floats(n);
    for (size_t i = 0; i < n; i++) at[i] = (float)small_int(i, salt, most);
    return at;
}

/* n zeros; the check only calms gcc, which imagines sizes below zero. */
static inline double *doubles(size_t n) {
    if (n > (size_t)1 << 30) abort();
    return calloc(n + 1, sizeof(double));
}

#endif
