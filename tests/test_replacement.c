#include "base/replacement.h"
#include "files.h"

TestSuite(replacement, .init = files_open, .fini = files_close, .timeout = 60);

static int holds(const char *name, const char *text) {
    char has[64] = "";
    FILE *f = fopen(files_path(name), "r");
    size_t n = f ? fread(has, 1, sizeof has - 1, f) : 0;
    if (f) fclose(f);
    return n == strlen(text) && memcmp(has, text, n) == 0;
}

Test(replacement, the_old_stays_until_the_new_is_whole) {
    struct replacement r;
    files_write("f", "old", 3);
    cr_assert(replacement_open(&r, files_path("f")) == STATUS_OK);
    fputs("new and longer", r.file);
    fflush(r.file);
    cr_assert(holds("f", "old") && holds("f.part", "new and longer"));
    cr_assert(replacement_close(&r) == STATUS_OK && r.file == NULL);
    cr_assert(holds("f", "new and longer"));
    cr_assert(access(files_path("f.part"), F_OK) != 0);
}

Test(replacement, a_write_that_failed_before_leaves_the_old_and_no_part) {
    struct replacement r;
    files_write("f", "old", 3);
    cr_assert(replacement_open(&r, files_path("f")) == STATUS_OK);
    fputs("new", r.file);
    r.file = freopen("/dev/full", "w", r.file);
    if (!r.file) cr_skip_test("there is no /dev/full here");
    fputs("more", r.file);
    fflush(r.file);
    cr_assert(replacement_close(&r) == STATUS_IO);
    cr_assert(strstr(fail_message(), files_path("f")), "%s", fail_message());
    cr_assert(holds("f", "old") && access(files_path("f.part"), F_OK) != 0);
}

Test(replacement, a_place_that_cannot_be_taken_is_told_in_words) {
    struct replacement r;
    static char path[5000];
    files_make_folder("d");
    files_make_folder("d/inside");
    cr_assert(replacement_open(&r, files_path("d")) == STATUS_OK);
    cr_assert(replacement_close(&r) == STATUS_IO);
    cr_assert(strstr(fail_message(), "directory"), "%s", fail_message());
    cr_assert(access(files_path("d.part"), F_OK) != 0, "the part is left");
    cr_assert(replacement_open(&r, files_path("none/f")) == STATUS_IO);
    cr_assert(strstr(fail_message(), "No such file"), "%s", fail_message());
    memset(path, 'a', sizeof path - 1);
    cr_assert(replacement_open(&r, path) == STATUS_IO);
    cr_assert(strstr(fail_message(), "too long"), "%s", fail_message());
}
