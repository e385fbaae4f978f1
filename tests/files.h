/* files.h -- a folder for the files that a test writes; gone when the test closes it. */
#ifndef FILES_H
#define FILES_H

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char files_folder[256];

static inline void files_open(void) {
    const char *home = getenv("TMPDIR");
    snprintf(files_folder, sizeof files_folder, "%s/huddle.XXXXXX", home ? home : P_tmpdir);
    cr_assert(mkdtemp(files_folder) != NULL, "no folder %s", files_folder);
}

static inline int files_remove_one(
    const char *path, const struct stat *s, int kind, struct FTW *where) {
    (void)s, (void)kind, (void)where;
    return remove(path);
}

static inline void files_close(void) {
    nftw(files_folder, files_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Where the file of this name is; good until the fourth call from now. */
static inline const char *files_path(const char *name) {
    static char paths[4][512];
    static int at;
    char *path = paths[at++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", files_folder, name);
    return path;
}

static inline void files_write(const char *name, const void *bytes, size_t n) {
    FILE *f = fopen(files_path(name), "wb");
    cr_assert(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0, "cannot write %s", name);
}

static inline void files_make_folder(const char *name) {
    cr_assert(mkdir(files_path(name), 0777) == 0, "cannot make %s", name);
}

#endif
