/* test_loader.c -- what a worker draws, and that it does not depend on who fills its batches. */
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "datasets/loader.h"

TestSuite(loader, .timeout = 120);

/* A set of n samples of c channels and 1 x 3 pixels; the bytes and the label tell which it is. */
static struct dataset *set_make(int n, int c) {
    struct dataset *d = calloc(1, sizeof *d);
    size_t image = 3 * (size_t)c;
    snprintf(d->name, sizeof d->name, "made up");
    d->train = (struct samples){.n = n, .h = 1, .w = 3, .c = c, .classes = 200};
    d->train.pixels = malloc((size_t)n * image);
    d->train.labels = malloc((size_t)n);
    for (size_t i = 0; i < (size_t)n; i++) {
        for (size_t k = 0; k < image; k++) {
            d->train.pixels[i * image + k] = (uint8_t)(k == 0 ? i : k == 1 ? i >> 8 : i * 5 + k);
        }
        d->train.labels[i] = (uint8_t)(i % 199);
    }
    for (int i = 0; i < DATASET_CHANNELS * 256; i++) d->value[i] = (float)(i * 3 + 1);
    return d;
}

static void set_free(struct dataset *d) {
    free(d->train.pixels);
    free(d->train.labels);
    free(d);
}

/* Whether place `at` of the batch is sample i. */
static int is_sample(const struct dataset *d, const struct batch *b, int at, uint32_t i) {
    int c = d->train.c, image = 3 * c;
    int same = b->label[at] == (int)(i % 199);
    for (int k = 0; k < image; k++) {
        uint8_t byte = (uint8_t)(k == 0 ? i : k == 1 ? i >> 8 : i * 5 + (uint32_t)k);
        same &= b->x[at * image + k] == (float)((k % c * 256 + byte) * 3 + 1);
    }
    return same;
}

static struct loader *open_well(
    const struct dataset *d, const struct loader_settings *set, struct arena *arena) {
    struct loader *l;
    cr_assert(loader_open(&l, d, set, arena) == STATUS_OK, "%s", fail_message());
    return l;
}

/* ---- which sample ---- */

enum { MOST = 1024 };

static const uint32_t sizes[] = {1, 2, 31, 33, 255, 1000};

Test(loader, each_worker_sees_the_whole_set_in_each_pass) {
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        uint32_t n = sizes[k];
        int alike[2] = {0, 0};
        for (int rank = 0; rank < 3; rank++) {
            struct loader_settings set = {.seed = 7, .rank = rank, .workers = 3, .batch = 1};
            struct loader_settings other = set;
            other.rank = (rank + 1) % 3;
            for (uint32_t pass = 0; pass < 3; pass++) {
                int seen[MOST] = {0};
                for (uint32_t i = 0; i < n; i++) {
                    uint32_t sample = loader_pick(&set, n, (uint64_t)pass * n + i);
                    cr_assert(sample < n && seen[sample]++ == 0, "%u of %u", sample, n);
                    alike[0] += sample == loader_pick(&set, n, (uint64_t)(pass + 1) * n + i);
                    alike[1] += sample == loader_pick(&other, n, (uint64_t)pass * n + i);
                }
            }
        }
        /* Two shuffles agree in one place on average; 9 pairs of each kind were compared. */
        if (n > 30) cr_assert(alike[0] < 40 && alike[1] < 40, "%d %d", alike[0], alike[1]);
    }
}

Test(loader, shares_are_disjoint_and_cover_the_set) {
    static const int teams[] = {1, 2, 3, 7, 64};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        for (size_t t = 0; t < sizeof teams / sizeof *teams; t++) {
            uint32_t n = sizes[k], workers = (uint32_t)teams[t];
            for (uint32_t pass = 0; workers <= n && pass < 6; pass++) {
                int seen[MOST] = {0};
                for (uint32_t rank = 0; rank < workers; rank++) {
                    struct loader_settings set = {.seed = 3,
                        .rank = (int)rank,
                        .workers = teams[t],
                        .batch = 1,
                        .sampling = SAMPLING_SHARDS,
                        .reshuffle = pass % 2 == 0};
                    uint64_t share = n * (rank + 1) / workers - n * rank / workers;
                    for (uint64_t i = 0; i < share; i++) {
                        uint32_t sample = loader_pick(&set, n, pass * share + i);
                        cr_assert(sample < n && seen[sample]++ == 0, "%u of %u", sample, n);
                    }
                }
                for (uint32_t i = 0; i < n; i++) cr_assert(seen[i] == 1, "%u of %u", i, n);
            }
        }
    }
}

/* Shares of 250: how many of pass 0 come again in pass 1, and how many of those in their place. */
static void pass_compare(int reshuffle, int *again, int *in_place) {
    struct loader_settings set = {.seed = 11,
        .rank = 2,
        .workers = 4,
        .batch = 1,
        .sampling = SAMPLING_SHARDS,
        .reshuffle = reshuffle};
    int first[1000] = {0};
    for (uint64_t i = 0; i < 250; i++) first[loader_pick(&set, 1000, i)] = (int)i + 1;
    *again = *in_place = 0;
    for (uint64_t i = 0; i < 250; i++) {
        int was = first[loader_pick(&set, 1000, 250 + i)];
        *again += was > 0;
        *in_place += was == (int)i + 1;
    }
}

Test(loader, a_share_is_cut_anew_or_kept_and_reordered) {
    int again, in_place;
    pass_compare(0, &again, &in_place);
    cr_assert(again == 250 && in_place < 10, "%d %d", again, in_place);
    pass_compare(1, &again, &in_place);
    cr_assert(again > 30 && again < 95 && in_place < 10, "%d %d", again, in_place); /* 62 or so */
    struct loader_settings set = {.rank = 1, .workers = 2, .sampling = SAMPLING_SHARDS};
    int next_door = 0; /* also a kept share is drawn from all over the file */
    for (uint64_t i = 0; i < 500; i++) next_door += loader_pick(&set, 1000, i) >= 500;
    cr_assert(next_door > 200 && next_door < 300, "%d", next_door);
    cr_assert(loader_pick(&set, 1000, 1ull << 40) < 1000);
}

/* ---- crops and flips ---- */

enum { TALL = 6, WIDE = 5, COLORS = 2, IMAGES = 7 };

/* Images whose byte tells sample, row, column and channel; values are the bytes plus 1, so that a
 * zero is no pixel's. */
static struct dataset *images_make(int side) {
    struct dataset *d = calloc(1, sizeof *d);
    size_t n = (size_t)IMAGES * TALL * WIDE * COLORS;
    d->train = (struct samples){.n = IMAGES, .h = TALL, .w = WIDE, .c = COLORS, .classes = IMAGES};
    d->train.pixels = malloc(n);
    d->train.labels = malloc(IMAGES);
    for (size_t i = 0; i < n; i++) d->train.pixels[i] = (uint8_t)(i * 37 % 251);
    for (int i = 0; i < IMAGES; i++) d->train.labels[i] = (uint8_t)i;
    for (int i = 0; i < DATASET_CHANNELS * 256; i++) d->value[i] = (float)(i % 256 + 1);
    d->side = side;
    return d;
}

/* What stands in a sample that is cut out so. */
static float pixel_wanted(
    const struct dataset *d, int sample, struct cut cut, int row, int column, int channel) {
    int w = d->side ? d->side : WIDE;
    int y = cut.top + row, x = cut.left + (cut.flip ? w - 1 - column : column);
    if (y < 0 || y >= TALL || x < 0 || x >= WIDE) return 0;
    int at = ((sample * TALL + y) * WIDE + x) * COLORS + channel;
    return (float)(at * 37 % 251 + 1);
}

static void sample_check(
    const struct dataset *d, const struct batch *b, int at, int sample, struct cut cut) {
    int h = d->side ? d->side : TALL, w = d->side ? d->side : WIDE;
    const float *x = b->x + at * h * w * COLORS;
    cr_assert(b->label[at] == sample);
    for (int i = 0; i < h * w * COLORS; i++) {
        float want = pixel_wanted(d, sample, cut, i / COLORS / w, i / COLORS % w, i % COLORS);
        cr_assert(x[i] == want, "float %d is %g, not %g", i, (double)x[i], (double)want);
    }
}

static const struct {
    int side, crop, flip;
} cuts[] = {{0, 0, 1}, {0, 2, 0}, {3, 0, 0}, {4, 1, 1}, {5, 0, 1}, {1, 9, 1}, {0, 7, 1}};
enum { CUTS = sizeof cuts / sizeof *cuts };

Test(loader, samples_are_cut_out_and_mirrored_as_their_draw_says) {
    for (int k = 0; k < CUTS; k++) {
        struct dataset *d = images_make(cuts[k].side);
        struct arena arena = {0};
        struct loader_settings set = {.seed = 9, .rank = 1, .workers = 2, .batch = 5};
        set.crop = cuts[k].crop;
        set.flip = cuts[k].flip;
        struct loader *l = open_well(d, &set, &arena);
        struct feeder *f; /* the bits do not depend on who fills */
        uint64_t drawn = 0;
        cr_assert(feeder_open(&f, k % 3) == STATUS_OK && feeder_add(f, l) == STATUS_OK);
        for (int times = 0; times < 40; times++) {
            const struct batch *b = loader_next(l, NULL);
            for (int i = 0; i < b->n; i++, drawn++) {
                int sample = (int)loader_pick(&set, IMAGES, drawn);
                sample_check(d, b, i, sample, loader_cut(&set, d, drawn));
            }
        }
        feeder_close(f);
        loader_close(l);
        arena_close(&arena);
        set_free(d);
    }
}

/* Every place and both ways, about equally often: 5 deviations of a count of n at rate 1/of. */
static void counts_check(const int *count, int of, int n) {
    double mean = (double)n / of, deviation = sqrt(mean * (1 - 1.0 / of));
    for (int i = 0; i < of; i++)
        cr_assert(fabs(count[i] - mean) <= 5 * deviation + 1e-9, "%d: %d of %d", i, count[i], n);
}

Test(loader, all_places_and_both_ways_are_drawn_alike_and_by_each_worker_anew) {
    enum { DRAWS = 20000 };
    for (int k = 0; k < CUTS; k++) {
        struct dataset *d = images_make(cuts[k].side);
        struct loader_settings set = {.seed = 9, .rank = 0, .workers = 2, .batch = 5};
        set.crop = cuts[k].crop;
        set.flip = cuts[k].flip;
        struct loader_settings other = set;
        other.rank = 1;
        int h = cuts[k].side ? cuts[k].side : TALL, w = cuts[k].side ? cuts[k].side : WIDE;
        int tops = TALL - h + 2 * set.crop + 1, lefts = WIDE - w + 2 * set.crop + 1;
        int top[64] = {0}, left[64] = {0}, flip[2] = {0}, alike = 0;
        for (uint64_t i = 0; i < DRAWS; i++) {
            struct cut cut = loader_cut(&set, d, i), theirs = loader_cut(&other, d, i);
            cr_assert(cut.top >= -set.crop && cut.top < tops - set.crop);
            cr_assert(cut.left >= -set.crop && cut.left < lefts - set.crop);
            top[cut.top + set.crop]++;
            left[cut.left + set.crop]++;
            flip[cut.flip]++;
            alike += cut.top == theirs.top && cut.left == theirs.left && cut.flip == theirs.flip;
        }
        int ways = tops * lefts * (set.flip ? 2 : 1);
        counts_check(top, tops, DRAWS);
        counts_check(left, lefts, DRAWS);
        counts_check(flip, set.flip ? 2 : 1, DRAWS);
        cr_assert(ways == 1 || alike < DRAWS * 3 / 4, "%d of %d", alike, ways);
        set_free(d);
    }
}

Test(loader, what_is_judged_is_the_middle_and_not_mirrored) {
    static const int sides[] = {0, 1, 3, 4, 5};
    for (int k = 0; k < 5; k++) {
        struct dataset *d = images_make(sides[k]);
        float x[IMAGES * TALL * WIDE * COLORS];
        int label[IMAGES];
        struct batch b = {.x = x, .label = label};
        int h = sides[k] ? sides[k] : TALL, w = sides[k] ? sides[k] : WIDE;
        struct cut middle = {(TALL - h) / 2, (WIDE - w) / 2, 0};
        dataset_batch(d, &d->train, 2, 4, &b);
        for (int i = 0; i < 4; i++) sample_check(d, &b, i, i + 2, middle);
        dataset_sample(d, &d->train, 6, 3, &b);
        sample_check(d, &b, 3, 6, middle);
        set_free(d);
    }
}

/* ---- batches ---- */

Test(loader, batches_hold_what_is_picked_from_pass_to_pass) {
    static const int batches[] = {1, 7, 33, 100};
    for (int c = 1; c <= 4; c++) {
        struct dataset *d = set_make(33, c);
        for (size_t k = 0; k < sizeof batches / sizeof *batches; k++) {
            struct arena arena = {0};
            struct loader_settings set = {.seed = 5,
                .rank = 1,
                .workers = 2,
                .batch = batches[k],
                .sampling = (int)k % 2,
                .reshuffle = 1};
            struct loader *l = open_well(d, &set, &arena);
            uint64_t drawn = 0;
            for (int times = 0; times < 11; times++) {
                cr_assert(loader_drawn(l) == drawn);
                const struct batch *b = loader_next(l, NULL);
                cr_assert(b->n == batches[k]);
                for (int i = 0; i < b->n; i++) {
                    cr_assert(is_sample(d, b, i, loader_pick(&set, 33, drawn++)), "%d", i);
                }
            }
            loader_close(l);
            arena_close(&arena);
        }
        set_free(d);
    }
}

Test(loader, seeking_goes_on_where_another_stopped) {
    struct dataset *d = set_make(255, 1);
    struct arena arena = {0};
    struct loader_settings set = {.seed = 5, .workers = 1, .batch = 10};
    struct loader *l = open_well(d, &set, &arena);
    static const uint64_t places[] = {40, 37, 0, 1ull << 33};
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        loader_seek(l, places[k]);
        for (uint64_t drawn = places[k]; drawn < places[k] + 60;) {
            cr_assert(loader_drawn(l) == drawn);
            const struct batch *b = loader_next(l, NULL);
            for (int i = 0; i < 10; i++) {
                cr_assert(is_sample(d, b, i, loader_pick(&set, 255, drawn++)));
            }
        }
    }
    loader_close(l);
    arena_close(&arena);
    set_free(d);
}

Test(loader, more_shards_than_samples_are_refused) {
    struct dataset *d = set_make(6, 1);
    struct arena arena = {0};
    struct loader_settings set = {.workers = 7, .batch = 1, .sampling = SAMPLING_SHARDS};
    struct loader *l;
    cr_assert(loader_open(&l, d, &set, &arena) == STATUS_BAD_CONFIG);
    cr_assert(l == NULL && strstr(fail_message(), "7 workers") && strstr(fail_message(), "6 sam"));
    set.sampling = SAMPLING_WHOLE;
    open_well(d, &set, &arena);
    set.sampling = SAMPLING_SHARDS;
    set.workers = 6;
    open_well(d, &set, &arena);
    arena_close(&arena);
    set_free(d);
}

Test(loader, consecutive_samples_of_a_part_make_a_batch) {
    struct dataset *d = set_make(300, 3);
    float x[10 * 9 + 1];
    int label[11];
    struct batch b = {.x = x, .label = label};
    x[90] = 77;
    label[10] = 77;
    dataset_batch(d, &d->train, 290, 10, &b);
    cr_assert(b.n == 10 && x[90] == 77 && label[10] == 77);
    for (int i = 0; i < 10; i++) cr_assert(is_sample(d, &b, i, 290 + (uint32_t)i), "%d", i);
    dataset_batch(d, &d->train, 300, 0, &b);
    cr_assert(b.n == 0);
    set_free(d);
}

/* ---- the ring ---- */

Test(loader, a_ready_batch_costs_no_wait_and_a_batch_is_filled_once) {
    struct dataset *d = set_make(255, 1);
    struct arena arena = {0};
    struct loader_settings set = {.workers = 1, .batch = 5000};
    struct loader *l = open_well(d, &set, &arena);
    double waited = 0;
    for (int ahead = 0; ahead < LOADER_RING; ahead++) cr_assert(loader_fill(l, ahead) == 1);
    for (int ahead = 0; ahead < LOADER_RING; ahead++) cr_assert(loader_fill(l, ahead) == 0);
    for (int k = 0; k < LOADER_RING; k++) loader_next(l, &waited);
    cr_assert(waited == 0, "%g", waited);
    loader_next(l, &waited);
    cr_assert(waited > 0 && waited < 10, "%g", waited);
    /* The worker holds batch 4; batches 5 to 7 are free, and batch 8 waits for batch 4. */
    int filled = 0;
    for (int ahead = 0; ahead < LOADER_RING; ahead++) filled += loader_fill(l, ahead);
    cr_assert(filled == LOADER_RING - 1, "%d", filled);
    uint64_t drawn = loader_drawn(l);
    double before = waited;
    for (int k = 0; k < filled; k++) {
        const struct batch *b = loader_next(l, &waited);
        for (int i = 0; i < b->n; i++) {
            cr_assert(is_sample(d, b, i, loader_pick(&set, 255, drawn++)), "%d", i);
        }
    }
    cr_assert(waited == before);
    loader_close(l);
    arena_close(&arena);
    set_free(d);
}

enum { WORKERS = 5, DRAWS = 300, BATCH = 9 };

struct drawer {
    pthread_t thread;
    const struct dataset *d;
    struct feeder *feeder;
    int rank, wrong;
    struct loader *l;
    struct arena arena;
};

/* A worker: opens its loader, adds it, draws, looks at each batch before and after a pause. */
static void *drawer_main(void *arg) {
    struct drawer *w = arg;
    struct loader_settings set = {.seed = 9,
        .rank = w->rank,
        .workers = WORKERS,
        .batch = BATCH,
        .sampling = w->rank % 2,
        .reshuffle = w->rank % 3 == 0};
    double waited = 0;
    w->wrong += loader_open(&w->l, w->d, &set, &w->arena) != STATUS_OK;
    w->wrong += feeder_add(w->feeder, w->l) != STATUS_OK;
    for (uint64_t drawn = 0; drawn < DRAWS * BATCH; drawn += BATCH) {
        const struct batch *b = loader_next(w->l, drawn % 2 ? &waited : NULL);
        for (int look = 0; look < 2; look++) {
            for (int i = 0; i < BATCH; i++) {
                uint32_t sample = loader_pick(&set, (uint32_t)w->d->train.n, drawn + (uint64_t)i);
                w->wrong += !is_sample(w->d, b, i, sample);
            }
            if (drawn % 4 == 0) sched_yield();
        }
    }
    w->wrong += !(waited >= 0 && waited < 100);
    return NULL;
}

Test(loader, batches_are_the_same_whoever_fills_them) {
    static const int threads[] = {0, 1, 3};
    struct dataset *d = set_make(1000, 2);
    for (size_t k = 0; k < sizeof threads / sizeof *threads; k++) {
        struct drawer w[WORKERS];
        struct feeder *f;
        memset(w, 0, sizeof w);
        cr_assert(feeder_open(&f, threads[k]) == STATUS_OK, "%s", fail_message());
        for (int i = 0; i < WORKERS; i++) {
            w[i].d = d;
            w[i].feeder = f;
            w[i].rank = i;
            cr_assert(pthread_create(&w[i].thread, NULL, drawer_main, &w[i]) == 0);
        }
        for (int i = 0; i < WORKERS; i++) pthread_join(w[i].thread, NULL);
        feeder_close(f);
        for (int i = 0; i < WORKERS; i++) {
            cr_assert(w[i].wrong == 0, "worker %d, %d threads: %d", i, threads[k], w[i].wrong);
            cr_assert(loader_drawn(w[i].l) == DRAWS * BATCH);
            loader_next(w[i].l, NULL); /* also without the feeder it goes on */
            loader_close(w[i].l);
            arena_close(&w[i].arena);
        }
    }
    set_free(d);
}

Test(loader, a_feeder_keeps_the_ring_full) {
    const struct timespec moment = {0, 1000000};
    struct dataset *d = set_make(255, 1);
    struct arena arena = {0};
    struct loader_settings set = {.workers = 1, .batch = 33};
    struct loader *l = open_well(d, &set, &arena);
    struct feeder *f;
    cr_assert(feeder_open(&f, 2) == STATUS_OK && feeder_add(f, l) == STATUS_OK);
    /* A worker who is slow must find each batch ready, but for a machine that is slower still. */
    int late = 0;
    for (int k = 0; k < 50; k++) {
        double waited = 0;
        for (int i = 0; i < 5; i++) nanosleep(&moment, NULL);
        loader_next(l, &waited);
        late += waited > 0;
    }
    cr_assert(late < 25, "%d of 50 batches were not ready", late);
    feeder_close(f);
    arena_close(&arena);
    set_free(d);
}

Test(loader, a_feeder_serves_64_loaders_and_no_more) {
    struct dataset *d = set_make(31, 1);
    struct arena arena = {0};
    struct loader_settings set = {.workers = 1, .batch = 2};
    struct feeder *f;
    cr_assert(feeder_open(&f, 1) == STATUS_OK);
    for (int i = 0; i < 64; i++) cr_assert(feeder_add(f, open_well(d, &set, &arena)) == STATUS_OK);
    struct loader *last = open_well(d, &set, &arena);
    cr_assert(feeder_add(f, last) == STATUS_BAD_CONFIG);
    cr_assert(strstr(fail_message(), "64") != NULL);
    loader_next(last, NULL);
    feeder_close(f);
    feeder_close(NULL);
    arena_close(&arena);
    set_free(d);
}
