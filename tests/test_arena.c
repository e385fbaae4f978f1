#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"

TestSuite(arena, .timeout = 20);

static const size_t MIB = 1u << 20;

static int is_zero(const char *at, size_t bytes) {
    return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

Test(arena, pieces_are_zeroed_aligned_and_apart) {
    const size_t size[] = {0, 1, 31, 33, 255, 256, 257, 4096, 65537, MIB, 2 * MIB - 256,
        2 * MIB - 255, 2 * MIB, 2 * MIB + 1, 7 * MIB, 1, 0, 0, 300};
    enum { N = sizeof size / sizeof *size };
    unsigned char *piece[N];
    struct arena a = {0};
    for (size_t i = 0; i < N; i++) {
        piece[i] = arena_take(&a, size[i]);
        cr_assert(piece[i] != NULL, "no piece of %zu bytes", size[i]);
        cr_assert((uintptr_t)piece[i] % 256 == 0, "a piece of %zu bytes is at %p", size[i],
            (void *)piece[i]);
        cr_assert(is_zero((char *)piece[i], size[i]), "a piece of %zu bytes is not zero", size[i]);
        for (size_t k = 0; k < i; k++) cr_assert(piece[k] != piece[i], "pieces %zu, %zu", k, i);
        memset(piece[i], (int)i + 1, size[i]);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t b = 0; b < size[i]; b++)
            cr_assert(piece[i][b] == i + 1, "byte %zu of piece %zu belongs to another", b, i);
    arena_close(&a);
}

Test(arena, many_small_pieces_stay_apart) {
    enum { N = 40000 };
    static uint32_t *piece[N];
    struct arena a = {0};
    for (uint32_t i = 0; i < N; i++) {
        piece[i] = arena_take(&a, sizeof **piece);
        cr_assert(piece[i] && *piece[i] == 0, "piece %u", i);
        *piece[i] = i + 1;
    }
    for (uint32_t i = 0; i < N; i++) cr_assert(*piece[i] == i + 1, "piece %u", i);
    arena_close(&a);
}

Test(arena, a_piece_of_no_bytes_does_not_overfill_a_block) {
    struct arena a = {0};
    char *full = arena_take(&a, 2 * MIB), *none = arena_take(&a, 0), *next = arena_take(&a, 1);
    cr_assert(full && none && next && none != next, "%p %p", (void *)none, (void *)next);
    *next = 1;
    char *large = arena_take(&a, 4 * MIB);
    cr_assert((uintptr_t)large % (2 * MIB) == 0, "%p is behind the first block", (void *)large);
    arena_close(&a);
}

Test(arena, counts_what_it_hands_out) {
    struct arena a = {0};
    cr_assert_eq(a.used, 0);
    arena_take(&a, 1000);
    cr_assert(a.used >= 1000 && a.used < 1000 + 256, "%zu bytes", a.used);
    arena_take(&a, 5 * MIB);
    cr_assert(a.used >= 5 * MIB + 1000 && a.used < 5 * MIB + 1000 + 512, "%zu bytes", a.used);
    arena_close(&a);
    cr_assert_eq(a.used, 0);
}

Test(arena, large_pieces_stand_on_a_huge_page) {
    struct arena a = {0};
    arena_take(&a, 33);
    for (size_t mib = 2; mib <= 9; mib++) {
        void *at = arena_take(&a, mib * MIB);
        cr_assert((uintptr_t)at % (2 * MIB) == 0, "%zu MiB are at %p", mib, at);
    }
    arena_close(&a);
}

/* Not one page is there before it is written: the writer's node shall get it. */
Test(arena, nothing_is_touched) {
    enum { PAGES = 6 << 8 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = PAGES * page;
    static unsigned char resident[PAGES];
    struct arena a = {0};
    char *at = arena_take(&a, bytes);
    cr_assert(at && (uintptr_t)at % page == 0, "the piece is at %p", (void *)at);
    cr_assert_eq(mincore(at, bytes, resident), 0);
    for (size_t i = 0; i < PAGES; i++) cr_assert((resident[i] & 1) == 0, "page %zu is there", i);
    at[0] = 1;
    cr_assert_eq(mincore(at, bytes, resident), 0);
    cr_assert(resident[0] & 1, "the page that was written is not there");
    arena_close(&a);
}

Test(arena, refuses_more_than_there_is) {
    static const size_t size[] = {
        SIZE_MAX, SIZE_MAX - 255, SIZE_MAX - 256, SIZE_MAX / 2 + 1, SIZE_MAX / 2, SIZE_MAX / 4};
    struct arena a = {0};
    char *first = arena_take(&a, 10);
    size_t used = a.used;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        cr_assert(arena_take(&a, size[i]) == NULL, "%zu bytes are given", size[i]);
    cr_assert_eq(a.used, used, "what was refused is counted");
    char *second = arena_take(&a, 10);
    cr_assert(second && second != first, "nothing is given after a refusal");
    arena_close(&a);
}

/* Bytes of address space that this process has. */
static size_t mapped_bytes(void) {
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%lu", &pages) != 1) pages = 0;
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

Test(arena, closes_to_nothing_and_opens_again) {
    struct arena a = {0};
    arena_close(&a);
    size_t before = 0;
    for (int turn = 0; turn < 20; turn++) {
        for (size_t mib = 1; mib <= 16; mib++) {
            char *at = arena_take(&a, mib * MIB);
            cr_assert(at && at[0] == 0, "turn %d", turn);
            at[0] = 1;
        }
        arena_close(&a);
        cr_assert(a.blocks == NULL && a.used == 0, "turn %d leaves something", turn);
        if (turn == 0) before = mapped_bytes();
    }
    cr_assert(mapped_bytes() <= before + MIB, "%zu bytes more are mapped", mapped_bytes() - before);
}
