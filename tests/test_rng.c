/* test_rng.c -- known answers, and statistics whose bounds are five standard deviations. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

TestSuite(rng, .timeout = 60);

static void *room(size_t n, size_t size) {
    void *at = calloc(n, size);
    cr_assert(at != NULL, "no memory");
    return at;
}

/* |got - want| <= five of its standard deviations. */
static void check_within(const char *what, double got, double want, double deviation) {
    double d = fabs(got - want);
    cr_assert(d <= 5 * deviation, "%s is %.6g, not %.6g +- %.2g", what, got, want, 5 * deviation);
}

struct known {
    uint32_t counter[4], key[2], out[4];
};

/* From Random123's kat_vectors; cuRAND's Philox4_32_10 gives the same words. */
Test(rng, philox_gives_the_known_answers) {
    static const uint32_t f = 0xffffffff;
    const struct known all[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{f, f, f, f}, {f, f}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
            {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint32_t out[4];
        rng_philox(all[i].counter, all[i].key, out);
        cr_assert(memcmp(out, all[i].out, sizeof out) == 0, "answer %zu is %08x %08x %08x %08x", i,
            out[0], out[1], out[2], out[3]);
    }
}

Test(rng, philox_may_write_over_its_counter) {
    uint32_t c[4] = {0}, k[2] = {0};
    rng_philox(c, k, c);
    cr_assert(c[0] == 0x6627e8d5 && c[3] == 0x9b00dbd8, "%08x .. %08x", c[0], c[3]);
}

Test(rng, a_block_is_philox_of_its_name) {
    const struct rng_key key = {.seed = 0xa4093822, .salt = 7, .id = 0x03707344};
    const uint32_t c[4] = {0x243f6a88, 0x85a308d3, key.id, key.salt}, k[2] = {key.seed, 0};
    uint32_t want[4], got[4];
    rng_philox(c, k, want);
    rng_block(key, 0x85a308d3243f6a88, got);
    cr_assert(memcmp(got, want, sizeof got) == 0, "%08x, not %08x", got[0], want[0]);
}

Test(rng, words_are_those_of_the_blocks_in_turn) {
    static const uint64_t from[] = {0, 33, 255, 65537, (1ull << 34) - 2, UINT64_MAX - 9};
    const struct rng_key key = {1, RNG_NOISE, 3};
    for (size_t k = 0; k < sizeof from / sizeof *from; k++)
        for (uint64_t i = from[k]; i < from[k] + 9; i++) {
            uint32_t block[4], got = rng_word(key, i);
            rng_block(key, i >> 2, block);
            cr_assert(got == block[i & 3], "word %llu", (unsigned long long)i);
        }
}

Test(rng, a_unit_is_in_0_to_1_and_never_1) {
    cr_assert(rng_unit(0) == 0.0f && rng_unit(0xff) == 0.0f, "the least is not 0");
    cr_assert(rng_unit(0x100) == 0x1p-24f, "the least step is %g", (double)rng_unit(0x100));
    cr_assert(rng_unit(0x80000000) == 0.5f, "the middle is %g", (double)rng_unit(0x80000000));
    cr_assert(rng_unit(UINT32_MAX) == 1 - 0x1p-24f, "the most is %g", (double)rng_unit(UINT32_MAX));
}

Test(rng, units_are_spread_evenly) {
    enum { N = 1 << 18, BINS = 64 };
    int count[BINS] = {0};
    double sum = 0, squares = 0, chi2 = 0, each = (double)N / BINS;
    for (uint64_t i = 0; i < N; i++) {
        double u = (double)rng_unit(rng_word((struct rng_key){2, RNG_DROPOUT, 0}, i));
        sum += u;
        squares += u * u;
        count[(int)(u * BINS)]++;
    }
    for (int b = 0; b < BINS; b++) chi2 += (count[b] - each) * (count[b] - each) / each;
    check_within("the mean", sum / N, 0.5, sqrt(1.0 / 12 / N));
    check_within("the mean square", squares / N, 1.0 / 3, sqrt(4.0 / 45 / N));
    check_within("chi-square", chi2, BINS - 1, sqrt(2.0 * (BINS - 1)));
}

Test(rng, below_reaches_all_of_its_range_and_no_more) {
    static const uint32_t below[] = {1, 2, 3, 31, 33, 255, 65537, UINT32_MAX};
    for (size_t k = 0; k < sizeof below / sizeof *below; k++) {
        cr_assert(rng_below(0, below[k]) == 0, "of %u", below[k]);
        cr_assert(rng_below(UINT32_MAX, below[k]) == below[k] - 1, "of %u", below[k]);
    }
    int seen[33] = {0};
    for (uint64_t i = 0; i < 3300; i++)
        seen[rng_below(rng_word((struct rng_key){0, RNG_TEAM, 0}, i), 33)]++;
    for (int i = 0; i < 33; i++) check_within("a count", seen[i], 100, sqrt(100.0 * 32 / 33));
}

/* Box and Muller by hand, from the words. */
static double normal_by_hand(struct rng_key key, uint64_t i) {
    double u = (double)(rng_word(key, i - i % 2) >> 8) / 16777216;
    double v = (double)(rng_word(key, i - i % 2 + 1) >> 8) / 16777216;
    double r = sqrt(-2 * log1p(-u)), phi = 2 * acos(-1) * v;
    return i % 2 ? r * sin(phi) : r * cos(phi);
}

Test(rng, normals_come_from_their_own_words) {
    static const uint64_t from[] = {0, 1, 2, 3, 255, 65537, (1ull << 34) + 1};
    const struct rng_key key = {5, RNG_INIT, 9};
    for (size_t k = 0; k < sizeof from / sizeof *from; k++) {
        float got[33];
        rng_normals(key, from[k], got, 33);
        for (uint64_t i = 0; i < 33; i++) {
            double d = fabs((double)got[i] - normal_by_hand(key, from[k] + i));
            cr_assert(d <= 1e-6, "normal %llu is off by %g", (unsigned long long)(from[k] + i), d);
        }
    }
}

Test(rng, normals_are_the_same_whatever_the_pieces) {
    enum { N = 1025 };
    static const uint64_t piece[] = {1, 2, 3, 4, 5, 31, 33, 255, 1024};
    const struct rng_key key = {1, RNG_NOISE, 2};
    float whole[N], got[N + 2];
    rng_normals(key, 77, whole, N);
    for (size_t k = 0; k < sizeof piece / sizeof *piece; k++) {
        got[0] = got[N + 1] = 9e9f;
        for (uint64_t at = 0; at < N; at += piece[k])
            rng_normals(key, 77 + at, got + 1 + at, N - at < piece[k] ? N - at : piece[k]);
        cr_assert(memcmp(got + 1, whole, sizeof whole) == 0, "pieces of %d", (int)piece[k]);
        cr_assert(
            got[0] == 9e9f && got[N + 1] == 9e9f, "pieces of %d write outside", (int)piece[k]);
    }
    rng_normals(key, 0, got, 0);
    cr_assert(got[0] == 9e9f, "no normal is one too many");
}

Test(rng, normals_are_normal) {
    enum { N = 1 << 20 };
    float *x = room(N, sizeof *x);
    double m[5] = {0}, lag[2] = {0}, beyond[5] = {0}, most = 0;
    rng_normals((struct rng_key){42, RNG_INIT, 0}, 0, x, N);
    for (int i = 0; i < N; i++) {
        double v = (double)x[i], a = fabs(v);
        cr_assert(isfinite(v), "normal %d is %g", i, v);
        for (int k = 1; k <= 4; k++) m[k] += pow(v, k) / N;
        for (int k = 1; k <= 4; k++) beyond[k] += a > k;
        for (int k = 1; k <= 2; k++) lag[k - 1] += i >= k ? v * (double)x[i - k] / N : 0;
        if (a >= most) most = a;
    }
    check_within("the mean", m[1], 0, sqrt(1.0 / N));
    check_within("the second moment", m[2], 1, sqrt(2.0 / N));
    check_within("the third moment", m[3], 0, sqrt(15.0 / N));
    check_within("the fourth moment", m[4], 3, sqrt(96.0 / N));
    for (int k = 1; k <= 4; k++) {
        double p = erfc(k / sqrt(2));
        check_within("a tail", beyond[k], N * p, sqrt(N * p * (1 - p)));
    }
    for (int k = 0; k < 2; k++) check_within("a correlation", lag[k], 0, sqrt(1.0 / N));
    cr_assert(most >= 4.5 && most <= 5.8, "the largest is %g", most);
    free(x);
}

/* Whether the turn's images of 0 .. n-1 are each of 0 .. n-1 once. */
static int is_permutation(struct rng_key key, uint32_t turn, uint32_t n) {
    char *seen = room(n, 1);
    int good = 1;
    for (uint32_t i = 0; i < n && good; i++) {
        uint32_t to = rng_permute(key, turn, i, n);
        good = to < n && !seen[to];
        if (good) seen[to] = 1;
    }
    free(seen);
    return good;
}

Test(rng, permute_permutes) {
    for (uint32_t n = 1; n <= 300; n++)
        for (uint32_t turn = 0; turn < 8; turn++)
            cr_assert(is_permutation((struct rng_key){n, RNG_SHUFFLE, turn}, turn, n),
                "turn %u of %u is no permutation", turn, n);
    static const uint32_t big[] = {1023, 1024, 1025, 4096, 65535, 65536, 65537, 262145};
    for (size_t k = 0; k < sizeof big / sizeof *big; k++)
        cr_assert(is_permutation((struct rng_key){3, RNG_SHUFFLE, 0}, 5, big[k]), "of %u", big[k]);
}

/* 2^31 - 1 images are too many to check: some of them are inside, and different. */
Test(rng, permute_bears_the_largest_range) {
    const uint32_t n = 0x7fffffff;
    uint32_t last = n;
    for (uint32_t i = n - 1000; i < n; i++) {
        uint32_t to = rng_permute((struct rng_key){1, RNG_SHUFFLE, 0}, 0, i, n);
        cr_assert(to < n && to != last, "%u goes to %u", i, to);
        last = to;
    }
}

/* Two shuffles that have nothing to do with each other agree in about one place. */
static void check_unlike(struct rng_key a, uint32_t turn_a, struct rng_key b, uint32_t turn_b) {
    const uint32_t n = 65537;
    int same = 0;
    for (uint32_t i = 0; i < n; i++)
        same += rng_permute(a, turn_a, i, n) == rng_permute(b, turn_b, i, n);
    cr_assert(same <= 10, "two shuffles agree in %d places", same);
}

Test(rng, permutations_differ_by_turn_seed_salt_and_id) {
    const struct rng_key key = {1, RNG_SHUFFLE, 1};
    check_unlike(key, 0, key, 1);
    check_unlike(key, 1, key, 2);
    check_unlike(key, 0, key, 0x80000000);
    check_unlike(key, 0, (struct rng_key){2, RNG_SHUFFLE, 1}, 0);
    check_unlike(key, 0, (struct rng_key){1, RNG_SPLIT, 1}, 0);
    check_unlike(key, 0, (struct rng_key){1, RNG_SHUFFLE, 2}, 0);
}

static void check_shuffled(uint32_t turn, uint32_t n) {
    const struct rng_key key = {11, RNG_SHUFFLE, 0};
    double moved = 0, product = 0, middle = (n - 1) / 2.0;
    int neighbors = 0, stay = 0;
    uint32_t before = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t to = rng_permute(key, turn, i, n);
        moved += fabs((double)to - i) / n;
        product += (to - middle) * (i - middle) / n;
        stay += to == i;
        neighbors += i > 0 && (to == before + 1 || before == to + 1);
        before = to;
    }
    /* Of |U - V|: mean 1/3, variance 1/18. Of (U - 1/2)(V - 1/2): mean 0, variance 1/144. */
    check_within("the mean displacement", moved / n, 1.0 / 3, sqrt(1.0 / 18 / n));
    check_within("the correlation", product / n / n, 0, sqrt(1.0 / 144 / n));
    cr_assert(stay <= 10, "turn %u leaves %d in place", turn, stay);
    cr_assert(neighbors <= 12, "turn %u leaves %d neighbors together", turn, neighbors);
}

Test(rng, a_long_permutation_looks_shuffled) {
    for (uint32_t turn = 0; turn < 20; turn++) check_shuffled(turn, 65537);
    for (uint32_t turn = 0; turn < 3; turn++) check_shuffled(turn, 1000003);
}

/* How often i went to j, over many turns. The counts' rows and columns all have the same sum, so
 * that (n-1)/n of the usual statistic is a chi-square of (n-1)^2 degrees of freedom. */
Test(rng, every_place_is_equally_likely) {
    enum { MOST = 65, TURNS = 20000 };
    static const uint32_t size[] = {2, 3, 4, 5, 7, 16, 17, 31, 64, 65};
    static int count[MOST][MOST];
    for (size_t k = 0; k < sizeof size / sizeof *size; k++) {
        uint32_t n = size[k];
        double chi2 = 0, each = (double)TURNS / n, degrees = (n - 1.0) * (n - 1.0);
        memset(count, 0, sizeof count);
        for (uint32_t turn = 0; turn < TURNS; turn++)
            for (uint32_t i = 0; i < n; i++)
                count[i][rng_permute((struct rng_key){8, RNG_SHUFFLE, 1}, turn, i, n)]++;
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < n; j++)
                chi2 += (count[i][j] - each) * (count[i][j] - each) / each * (n - 1) / n;
        check_within("chi-square of the places", chi2, degrees, sqrt(2 * degrees));
    }
}

/* Where two neighbors go together: a shuffle that moves blocks passes the test above, not this. */
Test(rng, every_pair_of_places_is_equally_likely) {
    enum { MOST = 17, TURNS = 100000 };
    static const uint32_t size[] = {3, 4, 5, 16, 17};
    static int count[MOST][MOST];
    for (size_t k = 0; k < sizeof size / sizeof *size; k++) {
        uint32_t n = size[k];
        double chi2 = 0, each = TURNS / (n * (n - 1.0)), degrees = n * (n - 1.0) - 1;
        memset(count, 0, sizeof count);
        for (uint32_t turn = 0; turn < TURNS; turn++) {
            const struct rng_key key = {turn, RNG_SHUFFLE, 0};
            count[rng_permute(key, 3, 0, n)][rng_permute(key, 3, 1, n)]++;
        }
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < n; j++)
                if (i != j) chi2 += (count[i][j] - each) * (count[i][j] - each) / each;
        check_within("chi-square of the pairs", chi2, degrees, sqrt(2 * degrees));
    }
}
