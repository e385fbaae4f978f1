/* cifar10.c -- reads CIFAR-10's binary version.
 *
 * A record is a label and 32 x 32 pixels as three planes, red, green and blue; there is no header,
 * so the file's size is all that tells a whole file from one cut short.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "datasets/dataset.h"

enum {
    SIDE = 32,
    PLANE = SIDE * SIDE,
    CHANNELS = 3,
    IMAGE = PLANE * CHANNELS,
    RECORD = 1 + IMAGE,
    CLASSES = 10
};

/* Planes to pixels: (c, h, w) to (h, w, c). */
static void planes_join(uint8_t *pixels, const uint8_t *planes) {
    for (int i = 0; i < PLANE; i++) {
        for (int c = 0; c < CHANNELS; c++) pixels[i * CHANNELS + c] = planes[c * PLANE + i];
    }
}

static enum status samples_grow(struct samples *s, const char *path, uint64_t bytes, int *more) {
    uint64_t records = bytes / RECORD;
    if (records == 0 || bytes % RECORD != 0 || records > (uint64_t)(INT_MAX - s->n)) {
        return fail(STATUS_IO,
            "%s: %" PRIu64 " bytes, which is no whole number of CIFAR-10 records of %d bytes", path,
            bytes, RECORD);
    }
    size_t n = (size_t)s->n + (size_t)records;
    uint8_t *pixels = realloc(s->pixels, n * IMAGE);
    if (pixels) s->pixels = pixels;
    uint8_t *labels = realloc(s->labels, n);
    if (labels) s->labels = labels;
    if (!pixels || !labels) return fail(STATUS_FAILED, "%s: no memory for %zu images", path, n);
    *more = (int)records;
    return STATUS_OK;
}

static enum status record_read(int fd, const char *path, struct samples *s, int i) {
    uint8_t record[RECORD];
    size_t got;
    TRY(file_read(fd, path, record, RECORD, &got));
    if (got < RECORD) return fail(STATUS_IO, "%s: cut short in sample %d", path, i);
    if (record[0] >= CLASSES) {
        return fail(STATUS_IO, "%s: sample %d has the label %d, not 0 .. %d", path, i, record[0],
            CLASSES - 1);
    }
    s->labels[s->n] = record[0];
    planes_join(s->pixels + (size_t)s->n * IMAGE, record + 1);
    s->n++;
    return STATUS_OK;
}

static enum status records_read(int fd, const char *path, uint64_t bytes, struct samples *s) {
    int more = 0;
    TRY(samples_grow(s, path, bytes, &more));
    for (int i = 0; i < more; i++) TRY(record_read(fd, path, s, i));
    return STATUS_OK;
}

enum status cifar10_read(const char *path, struct samples *s) {
    int fd;
    uint64_t bytes;
    TRY(file_open(path, &fd, &bytes));
    s->h = s->w = SIDE;
    s->c = CHANNELS;
    s->classes = CLASSES;
    enum status status = records_read(fd, path, bytes, s);
    close(fd);
    return status;
}
