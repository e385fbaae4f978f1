/* dataset.h -- labelled images in memory, as the bytes they were published as.
 *
 * A set is read once, on the main thread, and then only read: loaders (loader.h) turn bytes into
 * batches of floats. Files are checked before they are believed: a file cut short, a wrong magic
 * number or a label out of range is STATUS_IO and names the file, what it holds and what it should.
 */
#ifndef DATASET_H
#define DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { DATASET_CHANNELS = 4 };

/* One part, for training or for testing. */
struct samples {
    int n, h, w, c, classes;
    uint8_t *pixels; /* (n, h, w, c) */
    uint8_t *labels; /* (n), 0 .. classes-1 */
};

struct dataset {
    char name[32];
    struct samples train, test;
    int side; /* batches hold side x side pixels of each image; 0: all */
    /* byte b of channel c becomes value[c * 256 + b] */
    float value[DATASET_CHANNELS * 256];
};

enum dataset_normalize {
    NORMALIZE_STANDARD, /* each channel to mean 0, deviation 1 over the training part */
    NORMALIZE_UNIT      /* the largest byte of the training part to 1 */
};

/* Of the set that is drawn; synthetic.c says how. */
struct synthetic_settings {
    int samples, height, width, channels, classes;
    float noise;
};

struct dataset_settings {
    const char *name; /* "digits", "mnist", "fashion", "cifar10", "synthetic" */
    const char *path; /* its folder; "" or NULL: $HUDDLE_DATA/name, data/name, then where
                         `make install` put what ships, PREFIX/share/huddle/data/name */
    int normalize;    /* enum dataset_normalize */
    float holdout;    /* share of the training part that is judged instead of the test part; 0:
                            the set's own test part (digits has none: a fifth is held out) */
    uint32_t seed;    /* names which samples are held out, and what is drawn */
    struct synthetic_settings synthetic; /* read where that is the set */
    int side;                            /* 0: images as they are; else no larger than these */
};

/* Reads both parts. Says on the log what was read from where, and where a set lacks its own test
 * part (digits; CIFAR-10 without test_batch.bin: batch 5 is judged and not trained on). */
enum status dataset_open(struct dataset **out, const struct dataset_settings *set);
void dataset_close(struct dataset *d);

/* A sample's height and width in a batch. */
static inline int dataset_h(const struct dataset *d) { return d->side ? d->side : d->train.h; }
static inline int dataset_w(const struct dataset *d) { return d->side ? d->side : d->train.w; }

/* The names that dataset_open knows, until NULL, for the help. */
extern const char *const dataset_names[];

/* ---- files ---- */

/* Opens a regular file for reading; *bytes is its size. What is no file, a folder say, is refused
 * in words. */
enum status file_open(const char *path, int *fd, uint64_t *bytes);

/* Reads until `bytes` are there or the file ends; *got says how many came. */
enum status file_read(int fd, const char *path, void *to, size_t bytes, size_t *got);

/* An idx file (images: 3 dimensions; labels: 1), plain or, where the name ends in .gz, gzipped.
 * *dim has `dims` sizes; *bytes is malloc-ed. */
enum status idx_read(const char *path, int dims, int *dim, uint8_t **bytes);

/* CIFAR-10's binary version: appends the file's records, as NHWC, to s. */
enum status cifar10_read(const char *path, struct samples *s);

#endif
