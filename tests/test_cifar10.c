/* test_cifar10.c -- CIFAR-10's binary version: planes to pixels, and what is no such file. */
#include <criterion/criterion.h>
#include <stdint.h>

#include "datasets/dataset.h"
#include "files.h"

TestSuite(cifar10, .init = files_open, .fini = files_close, .timeout = 60);

enum { RECORD = 3073 };

/* Image i has at row y, column x of plane c the byte (i * 89 + c * 101 + y * 7 + x * 3) mod 251. */
static uint8_t pixel_of(int i, int c, int y, int x) {
    return (uint8_t)((i * 89 + c * 101 + y * 7 + x * 3) % 251);
}

static uint8_t *records_make(int from, int n) {
    uint8_t *file = malloc((size_t)n * RECORD), *at = file;
    for (int i = from; i < from + n; i++) {
        *at++ = (uint8_t)(i % 10);
        for (int c = 0; c < 3; c++) {
            for (int y = 0; y < 32; y++) {
                for (int x = 0; x < 32; x++) *at++ = pixel_of(i, c, y, x);
            }
        }
    }
    return file;
}

static void check_samples(const struct samples *s, int n) {
    cr_assert(s->n == n && s->h == 32 && s->w == 32 && s->c == 3 && s->classes == 10);
    for (int i = 0; i < n; i++) {
        const uint8_t *at = s->pixels + (size_t)i * 3072;
        cr_assert(s->labels[i] == i % 10);
        for (int k = 0; k < 3072; k++) {
            int y = k / 96, x = k / 3 % 32, c = k % 3;
            cr_assert(at[k] == pixel_of(i, c, y, x), "image %d, %d %d %d", i, y, x, c);
        }
    }
}

static void refuse(const char *name, const char *words) {
    struct samples s = {0};
    enum status status = cifar10_read(files_path(name), &s);
    cr_assert(status == STATUS_IO, "%s: status %d", name, (int)status);
    cr_assert(strstr(fail_message(), words) != NULL, "'%s' lacks '%s'", fail_message(), words);
    cr_assert(strstr(fail_message(), files_path(name)) != NULL, "'%s'", fail_message());
    free(s.pixels);
    free(s.labels);
}

Test(cifar10, batches_are_appended_as_pixels) {
    struct samples s = {0};
    uint8_t *one = records_make(0, 3), *two = records_make(3, 31);
    files_write("one", one, 3 * RECORD);
    files_write("two", two, 31 * RECORD);
    cr_assert(cifar10_read(files_path("one"), &s) == STATUS_OK, "%s", fail_message());
    check_samples(&s, 3);
    cr_assert(cifar10_read(files_path("two"), &s) == STATUS_OK, "%s", fail_message());
    check_samples(&s, 34);
    free(s.pixels);
    free(s.labels);
    free(one);
    free(two);
}

Test(cifar10, what_is_no_batch_is_refused_in_words) {
    uint8_t *file = records_make(0, 3);
    files_write("short", file, 3 * RECORD - 1);
    refuse("short", "9218 bytes, which is no whole number");
    files_write("empty", file, 0);
    refuse("empty", "0 bytes, which is no whole number");
    file[2 * RECORD] = 10;
    files_write("label", file, 3 * RECORD);
    refuse("label", "sample 2 has the label 10, not 0 .. 9");
    files_make_folder("folder");
    refuse("folder", "Is a directory");
    refuse("absent", "No such file");
    free(file);
}
