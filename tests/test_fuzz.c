/* test_fuzz.c -- the inputs that are kept in tests/fuzz/corpus, those that once broke something
 * among them, go through. */
#include <criterion/criterion.h>
#include <dirent.h>

#include "fuzz/targets.h"

TestSuite(fuzz, .timeout = 60);

static size_t file_bytes(const char *path, uint8_t *bytes, size_t room) {
    FILE *f = fopen(path, "rb");
    cr_assert(f != NULL, "cannot read %s", path);
    size_t n = fread(bytes, 1, room, f);
    cr_assert(n < room, "%s is too long", path);
    fclose(f);
    return n;
}

static void replay(const char *target, int (*run)(const uint8_t *, size_t)) {
    static uint8_t bytes[1 << 20];
    struct dirent **entry;
    char folder[128], path[512];
    int inputs = 0;
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", target);
    int n = scandir(folder, &entry, NULL, alphasort);
    cr_assert(n >= 0, "cannot list %s: the tests run in the repository's root", folder);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, entry[i]->d_name);
        int hidden = entry[i]->d_name[0] == '.';
        free(entry[i]);
        if (hidden) continue;
        cr_assert(run(bytes, file_bytes(path, bytes, sizeof bytes)) == 0, "%s", path);
        inputs++;
    }
    free(entry);
    cr_assert(inputs > 0, "nothing in %s", folder);
}

Test(fuzz, idx) { replay("idx", fuzz_idx); }
Test(fuzz, cifar10) { replay("cifar10", fuzz_cifar10); }
Test(fuzz, ini) { replay("ini", fuzz_ini); }
Test(fuzz, model) { replay("model", fuzz_model); }
Test(fuzz, safetensors) { replay("safetensors", fuzz_safetensors); }
