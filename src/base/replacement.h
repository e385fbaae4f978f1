/* replacement.h -- a file that takes another's place whole, or not at all.
 *
 * It is written beside its place and renamed into it once it is on the disk: a reader never meets
 * half of one, and what stood there before stays until then.
 */
#ifndef REPLACEMENT_H
#define REPLACEMENT_H

#include <stdio.h>

#include "base/status.h"

struct replacement {
    FILE *file; /* write here */
    const char *path;
    char beside[4096];
};

/* path: must live until the end. STATUS_IO when there can be no such file. */
enum status replacement_open(struct replacement *r, const char *path);

/* Puts it into its place; STATUS_IO when any write before failed or one of these does. Nothing is
 * left of it then. */
enum status replacement_close(struct replacement *r);

#endif
