/* loader.h -- one worker's batches: which samples, in which order, as floats.
 *
 * A sample drawn to learn from may be cut out of its image, which zeros surround, at a place that
 * is drawn, and mirrored; what is drawn is named by the seed, the worker and the draw. A sample that
 * is judged is cut out of the middle and never mirrored.
 *
 * What a batch holds depends on the settings and on how many samples the worker drew before, not
 * on time or threads: a feeder may fill batches in the background, and where it has not, the
 * worker fills its own.
 */
#ifndef LOADER_H
#define LOADER_H

#include <semaphore.h>

#include "base/arena.h"
#include "datasets/dataset.h"

enum loader_sampling {
    SAMPLING_WHOLE, /* each worker shuffles the whole set for itself, pass after pass */
    SAMPLING_SHARDS /* each worker has a share of its own */
};

struct loader_settings {
    uint32_t seed;
    int rank, workers;
    int batch;
    int sampling;  /* enum loader_sampling */
    int reshuffle; /* shards: 1: all are cut anew, alike on all workers, at each pass;
                      0: a worker keeps its samples and only their order changes */
    int crop;      /* pixels of zeros around an image, of which crops are taken */
    int flip;      /* 1: every other sample is mirrored, left to right */

    /* Whose pinned memory holds the batches; they stay valid until loader_give_back. NULL: the
     * arena does, and each is valid until the next is asked for. */
    struct device *device;
};

struct batch {
    float *x;   /* (B, h, w, c), normalized; h and w are dataset_h and dataset_w */
    int *label; /* (B) */
    int n;      /* B */
};

/* STATUS_BAD_CONFIG when there are more shards than samples. */
enum status loader_check(const struct dataset *d, const struct loader_settings *set);

struct loader;
struct device;

/* The loader's memory comes from the arena and is touched here, so that it is near the worker who
 * opens it. STATUS_BAD_CONFIG when there are more shards than samples. The set must outlive the
 * loader. */
enum status loader_open(struct loader **out, const struct dataset *d,
    const struct loader_settings *set, struct arena *arena);
void loader_close(struct loader *l);

/* The next batch, valid until the next call, unless a device copies it: then until it is given
 * back, and at most LOADER_RING_DEVICE - 1 may be out when the next is asked for. Full batches always: one that meets the end of a
 * pass goes on in the next. *waited (NULL: not wanted) grows by the seconds that the worker spent
 * on it because it was not ready; no clock is read when it was. */
const struct batch *loader_next(struct loader *l, double *waited);

/* The `n` batches that have been out for longest may be filled anew. For a loader with a device. */
void loader_give_back(struct loader *l, long n);

/* Samples handed out so far; and: go on after that many. Seek before the feeder is attached. */
uint64_t loader_drawn(const struct loader *l);
void loader_seek(struct loader *l, uint64_t drawn);

/* Which sample of the training part the worker draws i-th (0-based). Exposed for the tests. */
uint32_t loader_pick(const struct loader_settings *set, uint32_t samples, uint64_t i);

/* How a sample is cut out of its image: where its first pixel is, and whether it is mirrored. */
struct cut {
    int top, left, flip;
};

/* The cut of the worker's i-th draw. Exposed for the tests. */
struct cut loader_cut(const struct loader_settings *set, const struct dataset *d, uint64_t i);

/* Sample i of a part, its middle, to place `at` of a batch. */
void dataset_sample(
    const struct dataset *d, const struct samples *part, int i, int at, struct batch *out);

/* A batch of consecutive samples `from` .. `from + n - 1` of a part, for evaluation. */
void dataset_batch(
    const struct dataset *d, const struct samples *part, int from, int n, struct batch *out);

/* ---- background threads that fill the batches of several loaders ---- */

struct feeder;

/* threads = 0 gives a feeder that does nothing. At most 64 loaders. */
enum status feeder_open(struct feeder **out, int threads);

/* Any thread may add a loader, but not while another draws from that loader. */
enum status feeder_add(struct feeder *f, struct loader *l);

/* The loader is filled no more in the background. When no worker draws. */
void feeder_remove(struct feeder *f, struct loader *l);

/* Ends its threads; do this before the loaders close, and when no worker draws. The loaders can be
 * drawn from afterwards. */
void feeder_close(struct feeder *f);

/* ---- between loader.c and feeder.c ---- */

/* How many batches a loader holds: the one in the worker's hands and those being made ready; with
 * a device, whose copies come later, those on their way to it too. */
enum { LOADER_RING = 4, LOADER_RING_DEVICE = 16 };

/* Fills the batch that the worker will ask for after `ahead` others, if there is room for so many
 * and nobody has begun it; true when it did. Any thread. */
int loader_fill(struct loader *l, int ahead);

/* From now on *released is posted whenever a batch is there to be filled anew; NULL: no more. */
void loader_notify(struct loader *l, sem_t *released);

#endif
