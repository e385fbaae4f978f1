/* targets.h -- what strangers may hand to huddle, one function a format: any bytes at all.
 *
 * Each reads the bytes, and looks at what it was told: a refusal says why, and what was accepted
 * is as it promises. A broken promise aborts. fuzz.c runs one of them under libFuzzer, and
 * test_fuzz.c all of them on the inputs that are kept in corpus/.
 */
#ifndef TARGETS_H
#define TARGETS_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/options.h"
#include "base/safetensors.h"
#include "datasets/dataset.h"
#include "nn/model.h"

/* The path of a file in memory that holds the bytes; one at a time. */
static inline const char *fuzz_file(const uint8_t *bytes, size_t n) {
    static char path[64];
    static int fd = -1;
    if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
    ASSERT(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

/* The bytes as a string of its own, so that reading beyond its end is noticed. */
static inline char *fuzz_text(const uint8_t *bytes, size_t n) {
    char *text = malloc(n + 1);
    ASSERT(text);
    if (n > 0) memcpy(text, bytes, n);
    text[n] = '\0';
    return text;
}

/* Reads every byte, so that one that is not there is noticed. */
static inline void fuzz_touch(const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) (void)((const volatile uint8_t *)bytes)[i];
}

static inline void fuzz_refused(enum status end, enum status why) {
    ASSERT(end == why && *fail_message());
}

/* ---- idx: the first byte says images or labels, and plain or gzipped --------------------------- */

static inline int fuzz_idx(const uint8_t *bytes, size_t n) {
    if (n < 1) return 0;
    int dims = bytes[0] & 1 ? 3 : 1, dim[3] = {1, 1, 1};
    const char *path = fuzz_file(bytes + 1, n - 1);
    char gz[64] = "";
    if (bytes[0] & 2) {
        snprintf(gz, sizeof gz, "%s/huddle-fuzz-%d.gz", P_tmpdir, (int)getpid());
        ASSERT(symlink(path, gz) == 0);
        path = gz;
    }
    uint8_t *values;
    enum status end = idx_read(path, dims, dim, &values);
    if (*gz) unlink(gz);
    if (end != STATUS_OK) {
        fuzz_refused(end, STATUS_IO);
        ASSERT(!values);
        return 0;
    }
    ASSERT(dim[0] > 0 && dim[1] > 0 && dim[2] > 0);
    fuzz_touch(values, (size_t)dim[0] * (size_t)dim[1] * (size_t)dim[2]);
    free(values);
    return 0;
}

/* ---- CIFAR-10's binary version ----------------------------------------------------------------- */

static inline int fuzz_cifar10(const uint8_t *bytes, size_t n) {
    struct samples s = {0};
    enum status end = cifar10_read(fuzz_file(bytes, n), &s);
    if (end == STATUS_OK) {
        ASSERT((size_t)s.n * 3073 == n && s.h == 32 && s.w == 32 && s.c == 3 && s.classes == 10);
        for (size_t i = 0; i < (size_t)s.n; i++) {
            ASSERT(s.labels[i] == bytes[i * 3073]);
            for (size_t k = 0; k < 3072; k++) {
                ASSERT(s.pixels[i * 3072 + k] == bytes[i * 3073 + 1 + k % 3 * 1024 + k / 3]);
            }
        }
    } else {
        fuzz_refused(end, STATUS_IO);
    }
    free(s.pixels);
    free(s.labels);
    return 0;
}

/* ---- settings: a file, and each of its lines as a word of the command line --------------------- */

struct fuzz_options {
    int whole, choice;
    float real;
    char text[200];
};

static const struct option fuzz_table[] = {
    {"whole", OPTION_INT, offsetof(struct fuzz_options, whole), 4, -3, 2147483647, "number", NULL},
    {"real", OPTION_REAL, offsetof(struct fuzz_options, real), 0.1, -1e30, 1e30, "number", NULL},
    {"choice", OPTION_CHOICE, offsetof(struct fuzz_options, choice), 1, 0, 2, "a|b|c: which", NULL},
    {"text", OPTION_TEXT, offsetof(struct fuzz_options, text), 0, 0, 200, "text", "a b"},
    {0},
};

static const struct option_group fuzz_groups[] = {
    {"run", "all", fuzz_table}, {"empty", "nothing", NULL}, {0}};

static inline char *fuzz_written(const struct fuzz_options *o) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    ASSERT(f);
    options_write(f, "run", fuzz_table, o);
    ASSERT(fclose(f) == 0);
    return text;
}

/* What is accepted and written reads back to what is written again. */
static inline void fuzz_settings(const struct settings *set) {
    struct fuzz_options o, again;
    struct settings *other;
    enum status end = settings_check(set, fuzz_groups);
    if (end != STATUS_OK) {
        fuzz_refused(end, STATUS_BAD_CONFIG);
        return;
    }
    ASSERT(settings_apply(set, "run", fuzz_table, &o) == STATUS_OK);
    ASSERT(o.whole >= -3 && o.choice >= 0 && o.choice <= 2 && o.real >= -1.1e30f);
    char *text = fuzz_written(&o);
    ASSERT(settings_open(&other) == STATUS_OK);
    ASSERT(settings_read_text(other, text, "again") == STATUS_OK);
    ASSERT(settings_check(other, fuzz_groups) == STATUS_OK);
    ASSERT(settings_apply(other, "run", fuzz_table, &again) == STATUS_OK);
    char *second = fuzz_written(&again);
    ASSERT(!strcmp(text, second) && o.whole == again.whole && o.choice == again.choice);
    ASSERT(!memcmp(&o.real, &again.real, sizeof o.real));
    free(text);
    free(second);
    settings_close(other);
}

static inline int fuzz_ini(const uint8_t *bytes, size_t n) {
    struct settings *set;
    char *text = fuzz_text(bytes, n), *rest = text;
    ASSERT(settings_open(&set) == STATUS_OK);
    enum status end = settings_read_text(set, text, "text");
    if (end != STATUS_OK) fuzz_refused(end, STATUS_BAD_CONFIG);
    if (end == STATUS_OK) fuzz_settings(set);
    settings_close(set);
    ASSERT(settings_open(&set) == STATUS_OK);
    end = STATUS_OK;
    for (char *word; end == STATUS_OK && (word = strtok_r(rest, "\n", &rest));) {
        end = settings_read_argument(set, word);
    }
    if (end != STATUS_OK) fuzz_refused(end, STATUS_BAD_CONFIG);
    if (end == STATUS_OK) fuzz_settings(set);
    settings_close(set);
    free(text);
    return 0;
}

/* ---- a model's line; the first byte names the classes ------------------------------------------ */

static inline int fuzz_model(const uint8_t *bytes, size_t n) {
    if (n < 1) return 0;
    const struct shape in = {8, 9, 3};
    int classes = bytes[0] % 16 + 1;
    char *line = fuzz_text(bytes + 1, n - 1), text[300];
    struct model *m, *again;
    enum status end = model_open(&m, line, in, classes);
    free(line);
    if (end != STATUS_OK) {
        fuzz_refused(end, STATUS_BAD_CONFIG);
        ASSERT(!m);
        return 0;
    }
    size_t before = 0, parameters = 0;
    for (int i = 0; i < m->parts; i++) {
        const struct part *p = &m->part[i];
        size_t size = 1;
        for (int k = 0; k < p->dims; k++) size *= (size_t)p->dim[k];
        ASSERT(size == p->range.n && p->range.offset >= before && p->range.offset % 64 == 0);
        before = p->range.offset + p->range.n;
        parameters += size;
    }
    ASSERT(before <= m->floats && parameters == m->parameters && m->classes == classes);
    model_describe(m, text, sizeof text);
    ASSERT(strlen(text) < sizeof text);
    ASSERT(model_open(&again, m->line, in, classes) == STATUS_OK && again->floats == m->floats);
    model_close(again);
    model_close(m);
    return 0;
}

/* ---- safetensors ------------------------------------------------------------------------------- */

static inline int fuzz_safetensors(const uint8_t *bytes, size_t n) {
    struct safetensors s;
    enum status end = safetensors_read(&s, fuzz_file(bytes, n));
    if (end != STATUS_OK) {
        fuzz_refused(end, STATUS_IO);
        return 0;
    }
    size_t all = 0;
    for (int i = 0; i < s.n; i++) {
        const struct safetensor *t = &s.tensor[i];
        size_t size = sizeof(float);
        ASSERT(t->dims >= 0 && t->dims <= 4);
        for (int k = 0; k < t->dims; k++) size *= (size_t)t->dim[k];
        fuzz_touch(t->data, size);
        ASSERT(safetensors_find(&s, t->name) == t);
        all += size;
    }
    ASSERT(all <= n);
    for (int i = 0; i < s.ntexts; i++) {
        ASSERT(safetensors_find_text(&s, s.text[i].name) == s.text[i].value);
        fuzz_touch(s.text[i].value, strlen(s.text[i].value));
    }
    safetensors_close(&s);
    return 0;
}

#endif
