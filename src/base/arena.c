#include "arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { ALIGN = 256 };

static const size_t HUGE_PAGE = 2u << 20;

/* Apart from the memory that it describes: to write there would place a huge page. */
struct arena_block {
    struct arena_block *next;
    char *at;          /* on a huge page, inside what is mapped */
    size_t size, used; /* bytes */
    void *mapped;
    size_t mapped_size;
};

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* bytes: at most SIZE_MAX / 2 + ALIGN, so that no sum here overflows. */
static struct arena_block *block_open(size_t bytes) {
    size_t size = round_up(bytes, HUGE_PAGE), mapped_size = size + HUGE_PAGE;
    struct arena_block *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    void *mapped =
        mmap(NULL, mapped_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
        free(b);
        return NULL;
    }
    size_t skip = round_up((uintptr_t)mapped, HUGE_PAGE) - (uintptr_t)mapped;
    *b = (struct arena_block){
        .at = (char *)mapped + skip, .size = size, .mapped = mapped, .mapped_size = mapped_size};
    madvise(b->at, size, MADV_HUGEPAGE); /* a wish: nothing depends on it */
    return b;
}

void *arena_take(struct arena *a, size_t bytes) {
    if (bytes > SIZE_MAX / 2) return NULL;
    size_t size = round_up(bytes ? bytes : 1, ALIGN);
    if (!a->blocks || a->blocks->size - a->blocks->used < size) {
        struct arena_block *b = block_open(size);
        if (!b) return NULL;
        b->next = a->blocks;
        a->blocks = b;
    }
    void *at = a->blocks->at + a->blocks->used;
    a->blocks->used += size;
    a->used += size;
    return at;
}

void arena_close(struct arena *a) {
    while (a->blocks) {
        struct arena_block *b = a->blocks;
        a->blocks = b->next;
        munmap(b->mapped, b->mapped_size);
        free(b);
    }
    a->used = 0;
}
