/* idx.c -- reads idx files: a magic number, the sizes, then the values, all big-endian.
 *
 * The magic number is two zero bytes, the type (0x08: unsigned bytes) and the number of dimensions.
 * What a header announces is not believed: memory grows as bytes arrive.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

#include "datasets/dataset.h"

enum { DIMS = 3, HEADER_BYTES = 4 + 4 * DIMS, FIRST_BYTES = 1 << 20 };

/* More than any set of ours by far; a header that asks for more is wrong. */
static const uint64_t most_bytes = 1ull << 32;

/* A file that is read from its beginning; gz is NULL where it is plain. */
struct source {
    const char *path;
    int fd;
    uint64_t stored; /* bytes on the disk */
#ifdef HAVE_ZLIB
    gzFile gz;
#endif
};

static int name_is_gz(const char *path) {
    size_t n = strlen(path);
    return n > 3 && strcmp(path + n - 3, ".gz") == 0;
}

#ifdef HAVE_ZLIB

static enum status gz_open(struct source *s) {
    s->gz = gzopen(s->path, "rb");
    if (!s->gz) return fail(STATUS_FAILED, "%s: no memory to unpack it", s->path);
    gzbuffer(s->gz, 1 << 17);
    int direct = gzdirect(s->gz), code;
    gzerror(s->gz, &code);
    if (code == Z_MEM_ERROR) return fail(STATUS_FAILED, "%s: no memory to unpack it", s->path);
    if (direct) {
        return fail(STATUS_IO, "%s: not gzipped, though its name says so", s->path);
    }
    return STATUS_OK;
}

static void gz_close(struct source *s) {
    if (s->gz) gzclose(s->gz);
}

/* zlib's own message begins with the path. */
static enum status gz_read(struct source *s, uint8_t *to, size_t bytes, size_t *got) {
    *got = 0;
    while (*got < bytes) {
        size_t ask = bytes - *got < FIRST_BYTES ? bytes - *got : FIRST_BYTES;
        int code, n = gzread(s->gz, to + *got, (unsigned)ask);
        const char *why = gzerror(s->gz, &code);
        if (n < 0 || code != Z_OK) return fail(STATUS_IO, "%s, while unpacking it", why);
        if (n == 0) break;
        *got += (size_t)n;
    }
    return STATUS_OK;
}

static enum status source_read(struct source *s, uint8_t *to, size_t bytes, size_t *got) {
    return s->gz ? gz_read(s, to, bytes, got) : file_read(s->fd, s->path, to, bytes, got);
}

static int source_is_gz(const struct source *s) { return s->gz != NULL; }

#else

static enum status gz_open(struct source *s) {
    return fail(
        STATUS_IO, "%s: built without zlib, so a gzipped file cannot be read; gunzip it", s->path);
}

static void gz_close(struct source *s) { (void)s; }

static enum status source_read(struct source *s, uint8_t *to, size_t bytes, size_t *got) {
    return file_read(s->fd, s->path, to, bytes, got);
}

static int source_is_gz(const struct source *s) {
    (void)s;
    return 0;
}

#endif

static enum status source_open(struct source *s) {
    TRY(file_open(s->path, &s->fd, &s->stored));
    return name_is_gz(s->path) ? gz_open(s) : STATUS_OK;
}

static void source_close(struct source *s) {
    gz_close(s);
    if (s->fd >= 0) close(s->fd);
}

static uint32_t big_endian(const uint8_t *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static enum status magic_check(const char *path, uint32_t magic, int dims) {
    uint32_t want = 0x800u + (uint32_t)dims;
    const char *hint = "";
    if (magic == want) return STATUS_OK;
    if (magic >> 16 == 0x1f8b) hint = "; it is gzipped, so its name must end in .gz";
    if (magic == 0x801) hint = "; it holds labels, not images";
    if (magic == 0x803) hint = "; it holds images, not labels";
    return fail(STATUS_IO,
        "%s: begins with 0x%08" PRIx32 ", not 0x%08" PRIx32
        " (idx, unsigned bytes, %d dimension%s)%s",
        path, magic, want, dims, dims > 1 ? "s" : "", hint);
}

/* "60000 x 28 x 28" */
static void sizes_print(char text[64], int dims, const int *dim) {
    int at = 0;
    for (int i = 0; i < dims; i++) at += sprintf(text + at, "%s%d", i ? " x " : "", dim[i]);
}

/* Reads the magic number and the sizes; *bytes is their product. */
static enum status header_read(struct source *s, int dims, int *dim, uint64_t *bytes) {
    uint8_t header[HEADER_BYTES] = {0};
    size_t size = 4 + 4 * (size_t)dims, got;
    TRY(source_read(s, header, size, &got));
    if (got >= 4) TRY(magic_check(s->path, big_endian(header), dims));
    if (got < size) {
        return fail(STATUS_IO, "%s: cut short: %zu bytes, and its header alone has %zu", s->path,
            got, size);
    }
    *bytes = 1;
    for (int i = 0; i < dims; i++) {
        uint32_t n = big_endian(header + 4 + (size_t)4 * (size_t)i);
        if (n == 0 || n > INT_MAX || n > most_bytes / *bytes) {
            return fail(STATUS_IO,
                "%s: its header gives dimension %d the size %" PRIu32 ", which cannot be", s->path,
                i + 1, n);
        }
        dim[i] = (int)n;
        *bytes *= n;
    }
    return STATUS_OK;
}

static enum status short_fail(
    const struct source *s, int dims, const int *dim, uint64_t got, uint64_t want) {
    char sizes[64];
    sizes_print(sizes, dims, dim);
    return fail(STATUS_IO,
        "%s: cut short: %" PRIu64
        " bytes follow its header, and %s of them are announced, %" PRIu64,
        s->path, got, sizes, want);
}

static enum status long_fail(const struct source *s, int dims, const int *dim, uint64_t want) {
    char sizes[64];
    sizes_print(sizes, dims, dim);
    return fail(STATUS_IO, "%s: goes on after the %s bytes that its header announces, %" PRIu64,
        s->path, sizes, want);
}

/* A plain file's size must be right before anything is allocated for it. */
static enum status stored_check(const struct source *s, int dims, const int *dim, uint64_t bytes) {
    uint64_t follow = s->stored - (4 + 4 * (uint64_t)dims);
    if (source_is_gz(s) || follow == bytes) return STATUS_OK;
    return follow < bytes ? short_fail(s, dims, dim, follow, bytes)
                          : long_fail(s, dims, dim, bytes);
}

/* Doubles the memory whenever it is full, so that it is at most twice what really came. */
static enum status values_read(
    struct source *s, int dims, const int *dim, size_t bytes, uint8_t **values) {
    size_t filled = 0, got;
    for (size_t room = FIRST_BYTES; filled < bytes; room *= 2) {
        if (room > bytes) room = bytes;
        uint8_t *larger = realloc(*values, room);
        if (!larger) return fail(STATUS_FAILED, "%s: no memory for %zu bytes", s->path, room);
        *values = larger;
        TRY(source_read(s, larger + filled, room - filled, &got));
        filled += got;
        if (filled < room) return short_fail(s, dims, dim, filled, bytes);
    }
    uint8_t beyond;
    TRY(source_read(s, &beyond, 1, &got)); /* a gzipped file's checksum is looked at here */
    return got ? long_fail(s, dims, dim, bytes) : STATUS_OK;
}

static enum status source_values(struct source *s, int dims, int *dim, uint8_t **values) {
    uint64_t bytes = 0;
    TRY(source_open(s));
    TRY(header_read(s, dims, dim, &bytes));
    TRY(stored_check(s, dims, dim, bytes));
    return values_read(s, dims, dim, (size_t)bytes, values);
}

enum status idx_read(const char *path, int dims, int *dim, uint8_t **bytes) {
    ASSERT(dims >= 1 && dims <= DIMS);
    struct source s = {.path = path, .fd = -1};
    uint8_t *values = NULL;
    enum status status = source_values(&s, dims, dim, &values);
    source_close(&s);
    if (status != STATUS_OK) {
        free(values);
        values = NULL;
    }
    *bytes = values;
    return status;
}
