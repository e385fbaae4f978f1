/* test_idx.c -- idx files, whole and broken, plain and gzipped. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <sys/resource.h>

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

#include "datasets/dataset.h"
#include "files.h"

TestSuite(idx, .init = files_open, .fini = files_close, .timeout = 60);

/* Writes the magic number and the sizes by hand, then n values; returns the file's size. */
static size_t idx_make(uint8_t *to, uint32_t magic, int dims, const uint32_t *dim, size_t n) {
    size_t at = 0;
    for (int i = -1; i < dims; i++) {
        uint32_t word = i < 0 ? magic : dim[i];
        for (int shift = 24; shift >= 0; shift -= 8) to[at++] = (uint8_t)(word >> shift & 255);
    }
    for (size_t i = 0; i < n; i++) to[at++] = (uint8_t)(i * 7 + i / 251);
    return at;
}

static void check_values(const uint8_t *got, size_t n) {
    for (size_t i = 0; i < n; i++) {
        cr_assert(got[i] == (uint8_t)(i * 7 + i / 251), "value %zu is %d", i, got[i]);
    }
}

/* The file must be refused with these words, and named. */
static void refuse(const char *name, int dims, const char *words) {
    int dim[3];
    uint8_t *bytes = (uint8_t *)1;
    enum status status = idx_read(files_path(name), dims, dim, &bytes);
    cr_assert(status == STATUS_IO, "%s: status %d", name, (int)status);
    cr_assert(bytes == NULL);
    cr_assert(strstr(fail_message(), words) != NULL, "'%s' lacks '%s'", fail_message(), words);
    cr_assert(strstr(fail_message(), files_path(name)) != NULL, "'%s'", fail_message());
}

/* Sizes around the first piece of memory that is taken, 2^20, and its doubles. */
static const uint32_t shapes[][3] = {{1, 1, 1}, {3, 2, 5}, {258, 1, 33}, {1, 1, 1048575},
    {2, 524288, 1}, {1, 1048577, 1}, {65537, 16, 2}, {5, 1000, 1000}};

Test(idx, files_are_read_whole) {
    uint8_t *file = malloc(6000000), *got;
    int dim[3];
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const uint32_t *s = shapes[i];
        size_t n = (size_t)s[0] * s[1] * s[2];
        files_write("images", file, idx_make(file, 0x803, 3, s, n));
        cr_assert(idx_read(files_path("images"), 3, dim, &got) == STATUS_OK, "%s", fail_message());
        for (int k = 0; k < 3; k++) cr_assert(dim[k] == (int)s[k], "shape %zu", i);
        check_values(got, n);
        free(got);
    }
    files_write("labels", file, idx_make(file, 0x801, 1, (const uint32_t[]){300}, 300));
    cr_assert(idx_read(files_path("labels"), 1, dim, &got) == STATUS_OK, "%s", fail_message());
    cr_assert(dim[0] == 300);
    check_values(got, 300);
    free(got);
    free(file);
}

Test(idx, what_is_not_whole_or_not_idx_is_refused_in_words) {
    static const struct {
        uint32_t magic, dim[3];
        int dims, read_dims, n;
        const char *words;
    } cases[] = {
        {0x801, {4}, 1, 3, 4, "begins with 0x00000801, not 0x00000803"},
        {0x803, {1, 2, 2}, 3, 1, 4, "it holds images, not labels"},
        {0x0d03, {1, 2, 2}, 3, 3, 16, "begins with 0x00000d03"},
        {0x03080000, {1, 2, 2}, 3, 3, 4, "begins with 0x03080000"},
        {0x1f8b0800, {1, 2, 2}, 3, 3, 4, "must end in .gz"},
        {0x803, {2, 3, 4}, 3, 3, 23, "cut short: 23 bytes"},
        {0x803, {2, 3, 4}, 3, 3, 0, "cut short: 0 bytes"},
        {0x803, {2, 3, 4}, 3, 3, 25, "goes on after the 2 x 3 x 4 bytes"},
        {0x803, {2, 3}, 2, 3, 0, "cut short: 12 bytes, and its header alone has 16"},
        {0x801, {9}, 0, 1, 0, "cut short: 4 bytes"},
        {0x803, {0, 28, 28}, 3, 3, 0, "dimension 1 the size 0"},
        {0x803, {5, 28, 0}, 3, 3, 0, "dimension 3 the size 0"},
        {0x803, {0x80000000u, 1, 1}, 3, 3, 4, "dimension 1 the size 2147483648"},
        {0x803, {65536, 65536, 65536}, 3, 3, 4, "dimension 3 the size 65536"},
        /* The product is 2^64, which would wrap to 0. */
        {0x803, {0x400000, 0x200000, 0x200000}, 3, 3, 0, "dimension 2 the size 2097152"},
        {0x801, {0xffffffffu}, 1, 1, 4, "dimension 1 the size 4294967295"},
    };
    uint8_t file[256];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = idx_make(file, cases[i].magic, cases[i].dims, cases[i].dim, (size_t)cases[i].n);
        files_write("broken", file, n);
        refuse("broken", cases[i].read_dims, cases[i].words);
    }
    files_write("broken", file, 0);
    refuse("broken", 3, "cut short: 0 bytes");
    files_write("broken", "\0\0\10", 3);
    refuse("broken", 3, "cut short: 3 bytes");
    refuse("absent", 3, "No such file");
    refuse("broken/in/a/file", 3, "Not a directory");
    files_make_folder("folder");
    refuse("folder", 3, "Is a directory");
    cr_assert(mkfifo(files_path("pipe"), 0600) == 0);
    refuse("pipe", 3, "not a regular file");
    if (geteuid() == 0) return; /* nothing is forbidden to root */
    cr_assert(chmod(files_path("broken"), 0) == 0);
    refuse("broken", 3, "Permission denied");
}

#ifdef HAVE_ZLIB

static void gz_write(const char *name, const uint8_t *bytes, size_t n) {
    gzFile f = gzopen(files_path(name), "wb6");
    cr_assert(f && gzwrite(f, bytes, (unsigned)n) == (int)n && gzclose(f) == Z_OK);
}

static size_t file_load(const char *name, uint8_t *to, size_t room) {
    FILE *f = fopen(files_path(name), "rb");
    size_t n = fread(to, 1, room, f);
    fclose(f);
    return n;
}

Test(idx, gzipped_files_are_read_alike) {
    uint8_t *file = malloc(6000000), *got;
    int dim[3];
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const uint32_t *s = shapes[i];
        size_t n = (size_t)s[0] * s[1] * s[2];
        gz_write("images.gz", file, idx_make(file, 0x803, 3, s, n));
        cr_assert(
            idx_read(files_path("images.gz"), 3, dim, &got) == STATUS_OK, "%s", fail_message());
        for (int k = 0; k < 3; k++) cr_assert(dim[k] == (int)s[k], "shape %zu", i);
        check_values(got, n);
        free(got);
    }
    free(file);
}

Test(idx, damaged_gzipped_files_are_refused_in_words) {
    static const uint32_t dim[3] = {20, 10, 10};
    uint8_t file[4096], packed[4096];
    size_t n = idx_make(file, 0x803, 3, dim, 2000);
    gz_write("cut.gz", file, n - 1);
    refuse("cut.gz", 3, "cut short: 1999 bytes");
    gz_write("long.gz", file, n + 1);
    refuse("long.gz", 3, "goes on after the 20 x 10 x 10 bytes");
    files_write("plain.gz", file, n);
    refuse("plain.gz", 3, "not gzipped");
    files_write("empty.gz", file, 0);
    refuse("empty.gz", 3, "empty.gz");
    gz_write("whole.gz", file, n);
    size_t size = file_load("whole.gz", packed, sizeof packed);
    for (size_t cut = 0; cut < size; cut++) { /* the last 8 bytes are a checksum and a size */
        files_write("part.gz", packed, cut);
        refuse("part.gz", 3, "part.gz");
    }
    packed[size - 6] ^= 1;
    files_write("sum.gz", packed, size);
    refuse("sum.gz", 3, "incorrect data check");
}

/* Sanitizers have shadow memory that is past any limit. */
#ifdef __has_feature
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define UNLIMITED
#endif
#endif
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
#define UNLIMITED
#endif

Test(idx, a_header_alone_takes_no_memory) {
    static const uint32_t dim[3] = {60000, 256, 256};
    uint8_t file[256];
    gz_write("bomb.gz", file, idx_make(file, 0x803, 3, dim, 10));
#ifndef UNLIMITED
    struct rlimit before, tight;
    cr_assert(getrlimit(RLIMIT_AS, &before) == 0);
    tight = before;
    tight.rlim_cur = 1ul << 30;
    cr_assert(setrlimit(RLIMIT_AS, &tight) == 0);
#endif
    refuse("bomb.gz", 3, "cut short: 10 bytes follow its header, and 60000 x 256 x 256");
#ifndef UNLIMITED
    cr_assert(setrlimit(RLIMIT_AS, &before) == 0);
#endif
}

#else

Test(idx, gzipped_files_are_refused_without_zlib) {
    files_write("images.gz", "\x1f\x8b", 2);
    refuse("images.gz", 3, "built without zlib");
}

#endif
