#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"

TestSuite(checksum, .timeout = 60);

enum { LONGEST = 65 };

static void fill(unsigned char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)(i * 37 + 11);
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Sorted, so that the same sum twice stands side by side. */
static void check_all_differ(uint64_t *sums, size_t n, const char *what) {
    qsort(sums, n, sizeof *sums, by_value);
    for (size_t i = 1; i < n; i++) cr_assert(sums[i] != sums[i - 1], "%s: two are the same", what);
}

Test(checksum, one_or_two_bits_that_change_show) {
    static const size_t lengths[] = {1, 7, 8, 9, 31, 33};
    unsigned char bytes[LONGEST];
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        size_t n = lengths[k];
        fill(bytes, n);
        uint64_t right = checksum(0, bytes, n);
        for (size_t i = 0; i < n * 8; i++) {
            bytes[i / 8] ^= (unsigned char)(1 << i % 8);
            cr_assert(checksum(0, bytes, n) != right, "bit %zu of %zu bytes", i, n);
            for (size_t j = 0; j < i; j++) {
                bytes[j / 8] ^= (unsigned char)(1 << j % 8);
                cr_assert(checksum(0, bytes, n) != right, "bits %zu and %zu of %zu", i, j, n);
                bytes[j / 8] ^= (unsigned char)(1 << j % 8);
            }
            bytes[i / 8] ^= (unsigned char)(1 << i % 8);
        }
    }
}

Test(checksum, every_length_has_its_own_even_of_zeros) {
    static const unsigned char zeros[LONGEST];
    uint64_t sums[LONGEST + 1];
    for (size_t n = 0; n <= LONGEST; n++) sums[n] = checksum(0, zeros, n);
    check_all_differ(sums, LONGEST + 1, "zeros");
}

Test(checksum, what_came_before_and_its_order_count) {
    uint64_t ab = checksum(checksum(0, "a", 1), "b", 1);
    cr_assert(ab != checksum(checksum(0, "b", 1), "a", 1));
    cr_assert(ab != checksum(0, "b", 1));
    cr_assert(ab == checksum(checksum(0, "a", 1), "b", 1), "not the same again");
}

/* Where the bytes lie is nothing to it. */
Test(checksum, bytes_need_no_alignment) {
    unsigned char bytes[LONGEST + 8];
    uint64_t sums[8];
    for (size_t by = 0; by < 8; by++) {
        fill(bytes + by, LONGEST);
        sums[by] = checksum(0, bytes + by, LONGEST);
        cr_assert(sums[by] == sums[0], "moved by %zu", by);
    }
}
