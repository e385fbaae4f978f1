/* arena.h -- host memory that is taken piece by piece and given back all at once.
 *
 * For what a worker or a run needs from start to end. One thread at a time. Pieces are zeroed and
 * aligned to 256 bytes; large blocks stand on 2 MiB and ask for huge pages.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stddef.h>

struct arena {
    struct arena_block *blocks; /* zeroed: an empty arena */
    size_t used;                /* bytes handed out */
};

/* `bytes` zeroed bytes, or NULL when there is no memory. Nothing is touched: pages belong to the
 * NUMA node of whoever writes first. */
void *arena_take(struct arena *a, size_t bytes);

/* Gives everything back; the arena is empty again. */
void arena_close(struct arena *a);

#endif
