/* dataset.c -- finds a set's files, reads its parts, holds samples out, normalizes. */
#include "datasets/dataset.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/rng.h"
#include "datasets/synthetic.h"

/* Where `make install` puts what ships. */
#ifndef HUDDLE_SHARE
#define HUDDLE_SHARE "/usr/local/share/huddle"
#endif

enum { CLASSES = 10, CIFAR10_BATCHES = 5, DIGITS_FOLD = 5 };

/* The idx files of a part: images, labels. */
struct part_files {
    const char *images, *labels;
};

/* test.images is NULL where the set has no test part of its own; train.images where it is not
 * made of idx files. What is drawn has no recipe. */
struct recipe {
    struct part_files train, test;
};

const char *const dataset_names[] = {"digits", "mnist", "fashion", "cifar10", "synthetic", NULL};

static const struct recipe recipes[] = {
    {.train = {"digits-images-idx3-ubyte", "digits-labels-idx1-ubyte"}},
    {.train = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
        .test = {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}},
    {.train = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
        .test = {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}},
    {.train = {NULL, NULL}},
};

/* ---- finding ---- */

static enum status path_join(char path[PATH_MAX], const char *a, const char *b, const char *c) {
    int n = snprintf(path, PATH_MAX, "%s/%s%s", a, b, c);
    if (n >= PATH_MAX) return fail(STATUS_IO, "%.80s...: the path is too long", a);
    return STATUS_OK;
}

/* Whether there is something at this path. That it cannot be looked at is a failure. */
static enum status path_look(const char *path, int *there) {
    struct stat s;
    *there = stat(path, &s) == 0;
    if (!*there && errno != ENOENT) return fail(STATUS_IO, "%s: %s", path, strerror(errno));
    return STATUS_OK;
}

static enum status folder_look(const char *path, int *there) {
    struct stat s;
    TRY(path_look(path, there));
    if (*there && stat(path, &s) == 0 && !S_ISDIR(s.st_mode)) {
        return fail(STATUS_IO, "%s: %s", path, strerror(ENOTDIR));
    }
    return STATUS_OK;
}

static enum status folder_fail(const char *name, const char *tried) {
    char hint[64] = "";
    if (strcmp(name, "digits") != 0) snprintf(hint, sizeof hint, "; data/fetch %s gets it", name);
    return fail(STATUS_IO,
        "the set %s is not there: looked for the folders %s%s, data/%s and " HUDDLE_SHARE
        "/data/%s%s",
        name, *tried ? tried : "$HUDDLE_DATA", *tried ? " ($HUDDLE_DATA)" : " (not set)", name,
        name, hint);
}

/* The folder that the user names, or the first that is there of $HUDDLE_DATA/name, data/name and
 * the installed one. */
static enum status folder_find(const struct dataset_settings *set, char folder[PATH_MAX]) {
    const char *home = getenv("HUDDLE_DATA");
    char tried[PATH_MAX] = "";
    int there;
    if (set->path && *set->path) {
        TRY(folder_look(set->path, &there));
        if (!there) return fail(STATUS_IO, "%s: %s", set->path, strerror(ENOENT));
        int n = snprintf(folder, PATH_MAX, "%s", set->path);
        return n < PATH_MAX ? STATUS_OK : fail(STATUS_IO, "the path of the set is too long");
    }
    if (home && *home) {
        TRY(path_join(tried, home, set->name, ""));
        TRY(folder_look(tried, &there));
        if (there) return path_join(folder, home, set->name, "");
    }
    TRY(path_join(folder, "data", set->name, ""));
    TRY(folder_look(folder, &there));
    if (there) return STATUS_OK;
    TRY(path_join(folder, HUDDLE_SHARE "/data", set->name, ""));
    TRY(folder_look(folder, &there));
    return there ? STATUS_OK : folder_fail(set->name, tried);
}

/* The plain file where there is one, else the gzipped one. */
static enum status file_find(char path[PATH_MAX], const char *folder, const char *name) {
    int there;
    TRY(path_join(path, folder, name, ""));
    TRY(path_look(path, &there));
    if (there) return STATUS_OK;
    TRY(path_join(path, folder, name, ".gz"));
    TRY(path_look(path, &there));
    if (there) return STATUS_OK;
    return fail(STATUS_IO, "%s: there is neither %s nor %s.gz in it", folder, name, name);
}

/* ---- reading ---- */

static size_t samples_image(const struct samples *s) {
    return (size_t)s->h * (size_t)s->w * (size_t)s->c;
}

static void samples_close(struct samples *s) {
    free(s->pixels);
    free(s->labels);
    *s = (struct samples){0};
}

static enum status labels_check(const struct samples *s, const char *path) {
    for (int i = 0; i < s->n; i++) {
        if (s->labels[i] < s->classes) continue;
        return fail(STATUS_IO, "%s: sample %d has the label %d, not 0 .. %d", path, i, s->labels[i],
            s->classes - 1);
    }
    return STATUS_OK;
}

static enum status part_read(
    struct samples *s, const char *folder, const struct part_files *files) {
    char path[PATH_MAX];
    int dim[3], labels;
    TRY(file_find(path, folder, files->images));
    TRY(idx_read(path, 3, dim, &s->pixels));
    s->n = dim[0];
    s->h = dim[1];
    s->w = dim[2];
    s->c = 1;
    s->classes = CLASSES;
    TRY(file_find(path, folder, files->labels));
    TRY(idx_read(path, 1, &labels, &s->labels));
    if (labels != s->n) {
        return fail(
            STATUS_IO, "%s: %d labels, and %s has %d images", path, labels, files->images, s->n);
    }
    return labels_check(s, path);
}

static enum status idx_parts_read(
    struct dataset *d, const char *folder, const struct recipe *r, int want_test) {
    TRY(part_read(&d->train, folder, &r->train));
    if (!want_test) return STATUS_OK;
    TRY(part_read(&d->test, folder, &r->test));
    if (d->test.h == d->train.h && d->test.w == d->train.w) return STATUS_OK;
    return fail(STATUS_IO, "%s: the test images are %d x %d and the training images %d x %d",
        folder, d->test.h, d->test.w, d->train.h, d->train.w);
}

/* Without its test part the set loses batch 5 of the training part to be judged, also where the
 * user holds samples out: what chose a rate must not be what judges it. */
static enum status cifar10_parts_read(struct dataset *d, const char *folder, int want_test) {
    char path[PATH_MAX], name[32];
    int own;
    TRY(path_join(path, folder, "test_batch.bin", ""));
    TRY(path_look(path, &own));
    if (own && want_test) TRY(cifar10_read(path, &d->test));
    for (int i = 1; i <= CIFAR10_BATCHES; i++) {
        int judged = !own && i == CIFAR10_BATCHES;
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        TRY(path_join(path, folder, name, ""));
        if (!judged || want_test) TRY(cifar10_read(path, judged ? &d->test : &d->train));
    }
    if (!own) {
        log_warn("cifar10: no test_batch.bin in %s: batch 5 is %s, batches 1 to 4 are trained on",
            folder, want_test ? "judged instead" : "kept out of the training part");
    }
    return STATUS_OK;
}

/* ---- holding out ---- */

/* Moves `held` samples of the training part, named by the seed, to the test part. Both keep their
 * order. */
static enum status samples_hold_out(struct dataset *d, int held, uint32_t seed) {
    struct samples *train = &d->train, *test = &d->test;
    const struct rng_key key = {seed, RNG_SPLIT, 0};
    size_t image = samples_image(train);
    int n = train->n;
    *test = *train;
    test->pixels = malloc((size_t)held * image);
    test->labels = malloc((size_t)held);
    if (!test->pixels || !test->labels) {
        return fail(STATUS_FAILED, "no memory to hold out %d samples", held);
    }
    train->n = test->n = 0;
    for (int i = 0; i < n; i++) {
        int out = rng_permute(key, 0, (uint32_t)i, (uint32_t)n) < (uint32_t)held;
        struct samples *to = out ? test : train;
        memmove(to->pixels + (size_t)to->n * image, train->pixels + (size_t)i * image, image);
        to->labels[to->n++] = train->labels[i];
    }
    return STATUS_OK;
}

static enum status samples_split(struct dataset *d, const struct dataset_settings *set) {
    int n = d->train.n;
    int held = set->holdout > 0 ? (int)lround((double)set->holdout * n) : n / DIGITS_FOLD;
    if (held < 1 || held >= n) {
        return fail(STATUS_BAD_CONFIG, "holding out %g of the %d samples of %s leaves %d and %d",
            (double)set->holdout, n, set->name, n - held, held);
    }
    return samples_hold_out(d, held, set->seed);
}

/* ---- normalizing ---- */

/* count[c * 256 + b]: how often byte b stands in channel c. */
static void bytes_count(const struct samples *s, uint64_t count[DATASET_CHANNELS * 256]) {
    size_t pixels = (size_t)s->n * (size_t)s->h * (size_t)s->w, c = (size_t)s->c;
    for (size_t i = 0; i < pixels; i++) {
        for (size_t k = 0; k < c; k++) count[k * 256 + s->pixels[i * c + k]]++;
    }
}

/* value <- (byte - mean) / deviation, both over the bytes counted. A channel of one value only is
 * left undivided: it becomes 0 in training. */
static void channel_standardize(float value[256], const uint64_t count[256]) {
    double n = 0, sum = 0, squares = 0;
    for (int b = 0; b < 256; b++) {
        n += (double)count[b];
        sum += (double)count[b] * b;
    }
    double mean = sum / n;
    for (int b = 0; b < 256; b++) squares += (double)count[b] * (b - mean) * (b - mean);
    double deviation = sqrt(squares / n);
    if (!(deviation > 0)) deviation = 1;
    for (int b = 0; b < 256; b++) value[b] = (float)((b - mean) / deviation);
}

static int largest_byte(const uint64_t *count, int channels) {
    int largest = 0;
    for (int i = 0; i < channels * 256; i++) {
        if (count[i] > 0 && i % 256 > largest) largest = i % 256;
    }
    return largest;
}

static void values_compute(struct dataset *d, int normalize) {
    uint64_t count[DATASET_CHANNELS * 256] = {0};
    int channels = d->train.c;
    ASSERT(channels >= 1 && channels <= DATASET_CHANNELS && d->train.n > 0);
    bytes_count(&d->train, count);
    int largest = largest_byte(count, channels);
    for (int c = 0; c < channels; c++) {
        float *value = d->value + (size_t)c * 256;
        if (normalize == NORMALIZE_STANDARD) channel_standardize(value, count + (size_t)c * 256);
        if (normalize == NORMALIZE_STANDARD) continue;
        for (int b = 0; b < 256; b++) value[b] = (float)b / (float)(largest > 0 ? largest : 1);
    }
}

/* ---- all of it ---- */

static enum status name_find(const char *name, int *at) {
    for (*at = 0; dataset_names[*at]; ++*at) {
        if (strcmp(name, dataset_names[*at]) == 0) return STATUS_OK;
    }
    return fail(STATUS_BAD_CONFIG,
        "no data set has the name '%s'; there are digits, mnist, fashion, cifar10 "
        "and synthetic",
        name);
}

/* Both parts from the set's files; *split: the test part is to be held out. */
static enum status files_read(struct dataset *d, const struct dataset_settings *set,
    const struct recipe *r, char folder[PATH_MAX], int *split) {
    int idx = r->train.images != NULL;
    TRY(folder_find(set, folder));
    if (idx && !r->test.images) *split = 1;
    return idx ? idx_parts_read(d, folder, r, !*split) : cifar10_parts_read(d, folder, !*split);
}

static enum status synthetic_parts_read(
    struct dataset *d, const struct dataset_settings *set, int split) {
    if (set->path && *set->path) {
        return fail(
            STATUS_BAD_CONFIG, "the set synthetic is drawn: leave out its path, %s", set->path);
    }
    TRY(synthetic_read(d, &set->synthetic, set->seed));
    if (split) samples_close(&d->test);
    return STATUS_OK;
}

static enum status side_check(const struct samples *s, const struct dataset_settings *set) {
    if (set->side <= s->h && set->side <= s->w) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG,
        "data.side = %d: crops of %d x %d do not fit the images of %s, %d x %d", set->side,
        set->side, set->side, set->name, s->h, s->w);
}

static enum status dataset_read(struct dataset *d, const struct dataset_settings *set) {
    char folder[PATH_MAX] = "the seed";
    int at, split = set->holdout > 0;
    TRY(name_find(set->name, &at));
    if (!(set->holdout >= 0 && set->holdout < 1)) {
        return fail(STATUS_BAD_CONFIG, "the share held out, %g, is not in 0 .. 1 without 1",
            (double)set->holdout);
    }
    snprintf(d->name, sizeof d->name, "%s", set->name);
    if (strcmp(set->name, "synthetic") == 0) {
        TRY(synthetic_parts_read(d, set, split));
    } else {
        TRY(files_read(d, set, &recipes[at], folder, &split));
    }
    if (split) TRY(samples_split(d, set));
    TRY(side_check(&d->train, set));
    d->side = set->side;
    values_compute(d, set->normalize);
    log_info("%s: %d samples of %d x %d x %d to train on, %d %s, from %s", d->name, d->train.n,
        d->train.h, d->train.w, d->train.c, d->test.n,
        split ? "held out of them to be judged" : "to be judged", folder);
    return STATUS_OK;
}

enum status dataset_open(struct dataset **out, const struct dataset_settings *set) {
    ASSERT(set->normalize == NORMALIZE_STANDARD || set->normalize == NORMALIZE_UNIT);
    *out = NULL;
    struct dataset *d = calloc(1, sizeof *d);
    if (!d) return fail(STATUS_FAILED, "no memory for a data set");
    enum status status = dataset_read(d, set);
    if (status != STATUS_OK) {
        dataset_close(d);
    } else {
        *out = d;
    }
    return status;
}

void dataset_close(struct dataset *d) {
    if (!d) return;
    samples_close(&d->train);
    samples_close(&d->test);
    free(d);
}
