#include "draft.h"

#include <stdlib.h>
#include <string.h>

/* A short count is an error to stdio. */
static ssize_t draft_write(void *cookie, const char *bytes, size_t n) {
    struct draft *d = cookie;
    while (d->room - d->n <= n) {
        size_t room = d->room ? 2 * d->room : 1024;
        char *text = realloc(d->text, room);
        if (!text) {
            d->failed = 1;
            return 0;
        }
        d->text = text;
        d->room = room;
    }
    memcpy(d->text + d->n, bytes, n);
    d->n += n;
    return (ssize_t)n;
}

void draft_open(struct draft *d) {
    static const cookie_io_functions_t functions = {.write = draft_write};
    *d = (struct draft){0};
    d->file = fopencookie(d, "w", functions);
}

char *draft_close(struct draft *d) {
    int bad = !d->file || ferror(d->file);
    if (d->file && fclose(d->file) != 0) bad = 1;
    d->file = NULL;
    if (bad || d->failed || !d->text) {
        free(d->text);
        return NULL;
    }
    d->text[d->n] = '\0';
    return d->text;
}
