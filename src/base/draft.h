/* draft.h -- text that is written like a file and kept in memory.
 *
 * Unlike an open_memstream, a draft says when it could not grow: a text that lacks a piece from its
 * middle would be taken for whole. One thread at a time.
 */
#ifndef DRAFT_H
#define DRAFT_H

#include <stdio.h>

struct draft {
    FILE *file; /* write here */
    char *text;
    size_t n, room;
    int failed;
};

/* draft->file is NULL when there is no memory; draft_close is right even then. */
void draft_open(struct draft *d);

/* The text, malloc-ed, a 0 behind it; NULL when any of it is missing. */
char *draft_close(struct draft *d);

#endif
