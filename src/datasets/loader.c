/* loader.c -- a ring of batches that the worker empties and anybody may fill.
 *
 * A slot is a batch and a word: the number of the batch that it holds or is to hold, and how far
 * that is. Batch k of a loader is samples k * B to k * B + B - 1 of what the worker draws, so
 * whoever claims a slot fills in the same bits. The worker goes round:
 *
 *   EMPTY k  --claimed, by compare and exchange-->  FILLING k  -->  READY k
 *   READY k  --given back by the worker when it asks for k + 1-->  EMPTY k + LOADER_RING
 */
#include "datasets/loader.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/pulse.h"
#include "base/rng.h"
#include "devices/device.h"

enum { CACHE_LINE = 64, SPINS = 256 };

enum slot_state { SLOT_EMPTY, SLOT_FILLING, SLOT_READY };

struct slot {
    _Alignas(CACHE_LINE) _Atomic uint64_t word; /* the batch's number * 4 + enum slot_state */
    struct batch batch;
};

struct loader {
    const struct dataset *data;
    struct loader_settings set;
    uint64_t from;   /* samples drawn before batch 0 */
    uint64_t ring;   /* slots in use */
    uint64_t out;    /* the first batch that was not given back; the worker's thread only */
    sem_t *released; /* NULL: nobody else fills */
    /* The batch that the worker takes next. Others read it as a hint where to look first. */
    _Alignas(CACHE_LINE) _Atomic uint64_t next;
    struct slot slots[LOADER_RING_DEVICE];
};

static uint64_t slot_word(uint64_t number, enum slot_state state) { return number * 4 + state; }

/* ---- which sample ---- */

/* The whole set in an order of the worker's own. */
static uint32_t pick_whole(const struct loader_settings *set, uint32_t samples, uint64_t i) {
    const struct rng_key own = {set->seed, RNG_SHUFFLE, (uint32_t)set->rank + 1};
    return rng_permute(own, (uint32_t)(i / samples), (uint32_t)(i % samples), samples);
}

/* The shares are cut from a shuffle that all workers have in common, so that none depends on the
 * order of the file; a fixed share is shuffled once more by its worker. */
static uint32_t pick_share(const struct loader_settings *set, uint32_t samples, uint64_t i) {
    const struct rng_key common = {set->seed, RNG_SHUFFLE, 0};
    const struct rng_key own = {set->seed, RNG_SHUFFLE, (uint32_t)set->rank + 1};
    uint64_t n = samples, rank = (uint64_t)set->rank, workers = (uint64_t)set->workers;
    uint32_t begin = (uint32_t)(n * rank / workers);
    uint32_t share = (uint32_t)(n * (rank + 1) / workers) - begin;
    ASSERT(share > 0);
    uint32_t pass = (uint32_t)(i / share), at = (uint32_t)(i % share);
    if (set->reshuffle) return rng_permute(common, pass, begin + at, samples);
    return rng_permute(common, 0, begin + rng_permute(own, pass, at, share), samples);
}

uint32_t loader_pick(const struct loader_settings *set, uint32_t samples, uint64_t i) {
    return set->sampling == SAMPLING_SHARDS ? pick_share(set, samples, i)
                                            : pick_whole(set, samples, i);
}

/* ---- bytes to floats ---- */

static inline void channels_convert(float *restrict x, const uint8_t *restrict pixels,
    const float *restrict value, size_t n, size_t channels) {
    for (size_t i = 0; i < n; i += channels) {
        for (size_t c = 0; c < channels; c++) x[i + c] = value[c * 256 + pixels[i + c]];
    }
}

/* The usual numbers of channels are constants here, for which the compiler makes tight loops. */
static void pixels_convert(
    float *x, const uint8_t *pixels, const float *value, size_t n, size_t channels) {
    if (channels == 1) {
        channels_convert(x, pixels, value, n, 1);
    } else if (channels == 3) {
        channels_convert(x, pixels, value, n, 3);
    } else {
        channels_convert(x, pixels, value, n, channels);
    }
}

static size_t floats_of(const struct dataset *d) {
    return (size_t)dataset_h(d) * (size_t)dataset_w(d) * (size_t)d->train.c;
}

static void row_flip(float *x, int w, size_t c) {
    for (float *end = x + ((size_t)w - 1) * c; x < end; x += c, end -= c) {
        for (size_t k = 0; k < c; k++) {
            float left = x[k];
            x[k] = end[k];
            end[k] = left;
        }
    }
}

static int between(int a, int least, int most) { return a < least ? least : a > most ? most : a; }

/* One row of a sample: columns left .. left + w - 1 of an image's row, zero where it has none. */
static void row_convert(const struct dataset *d, const struct samples *part, float *x,
    const uint8_t *row, const struct cut *cut) {
    int w = dataset_w(d), from = between(-cut->left, 0, w);
    int to = between(part->w - cut->left, from, w);
    size_t c = (size_t)part->c;
    memset(x, 0, (size_t)from * c * sizeof *x);
    if (from < to) {
        pixels_convert(x + (size_t)from * c, row + (size_t)(cut->left + from) * c, d->value,
            (size_t)(to - from) * c, c);
    }
    memset(x + (size_t)to * c, 0, (size_t)(w - to) * c * sizeof *x);
    if (cut->flip) row_flip(x, w, c);
}

static void sample_cut(const struct dataset *d, const struct samples *part, const uint8_t *image,
    const struct cut *cut, float *x) {
    size_t floats = (size_t)dataset_w(d) * (size_t)part->c;
    for (int i = 0; i < dataset_h(d); i++, x += floats) {
        int y = cut->top + i;
        if (y < 0 || y >= part->h) {
            memset(x, 0, floats * sizeof *x);
        } else {
            row_convert(d, part, x, image + (size_t)y * (size_t)part->w * (size_t)part->c, cut);
        }
    }
}

/* Sample i, to place `at` of a batch; cut NULL: the whole image. */
static void sample_convert(const struct dataset *d, const struct samples *part, size_t i,
    const struct cut *cut, struct batch *out, size_t at) {
    size_t image = (size_t)part->h * (size_t)part->w * (size_t)part->c;
    const uint8_t *pixels = part->pixels + i * image;
    float *x = out->x + at * floats_of(d);
    if (cut) {
        sample_cut(d, part, pixels, cut, x);
    } else {
        pixels_convert(x, pixels, d->value, image, (size_t)part->c);
    }
    out->label[at] = part->labels[i];
}

/* Of the places that a crop of `size` has along `whole` pixels and the zeros around them, all are
 * equally likely. */
static int place_draw(uint32_t word, int whole, int size, int zeros) {
    return (int)rng_below(word, (uint32_t)(whole + 2 * zeros - size + 1)) - zeros;
}

struct cut loader_cut(const struct loader_settings *set, const struct dataset *d, uint64_t i) {
    const struct rng_key key = {set->seed, RNG_AUGMENT, (uint32_t)set->rank};
    uint32_t word[4];
    rng_block(key, i, word);
    return (struct cut){
        .top = place_draw(word[0], d->train.h, dataset_h(d), set->crop),
        .left = place_draw(word[1], d->train.w, dataset_w(d), set->crop),
        .flip = set->flip && word[2] >> 31,
    };
}

void dataset_sample(
    const struct dataset *d, const struct samples *part, int i, int at, struct batch *out) {
    ASSERT(i >= 0 && i < part->n && at >= 0);
    struct cut middle = {(part->h - dataset_h(d)) / 2, (part->w - dataset_w(d)) / 2, 0};
    sample_convert(d, part, (size_t)i, d->side ? &middle : NULL, out, (size_t)at);
}

void dataset_batch(
    const struct dataset *d, const struct samples *part, int from, int n, struct batch *out) {
    ASSERT(from >= 0 && n >= 0 && n <= part->n - from);
    for (int i = 0; i < n; i++) dataset_sample(d, part, from + i, i, out);
    out->n = n;
}

/* ---- the ring ---- */

/* The caller has claimed the slot. */
static void slot_fill(struct loader *l, struct slot *slot, uint64_t number) {
    const struct samples *part = &l->data->train;
    uint64_t size = (uint64_t)l->set.batch, first = l->from + number * size;
    int cuts = l->data->side || l->set.crop || l->set.flip;
    for (uint64_t i = 0; i < size; i++) {
        uint32_t sample = loader_pick(&l->set, (uint32_t)part->n, first + i);
        struct cut cut;
        if (cuts) cut = loader_cut(&l->set, l->data, first + i);
        sample_convert(l->data, part, sample, cuts ? &cut : NULL, &slot->batch, (size_t)i);
    }
    atomic_store_explicit(&slot->word, slot_word(number, SLOT_READY), memory_order_release);
}

/* Claims the slot if its word is still `empty`. That the word holds the batch's number keeps a
 * claim that was slow from taking the slot for a later batch. */
static int slot_claim(struct slot *slot, uint64_t empty) {
    return atomic_compare_exchange_strong_explicit(&slot->word, &empty,
        slot_word(empty / 4, SLOT_FILLING), memory_order_acquire, memory_order_relaxed);
}

int loader_fill(struct loader *l, int ahead) {
    uint64_t next = atomic_load_explicit(&l->next, memory_order_relaxed);
    if ((uint64_t)ahead >= l->ring) return 0;
    struct slot *slot = &l->slots[(next + (uint64_t)ahead) % l->ring];
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
    if (word % 4 != SLOT_EMPTY || !slot_claim(slot, word)) return 0;
    slot_fill(l, slot, word / 4);
    return 1;
}

/* Fills the batch, or waits for whoever is at it: that is a matter of microseconds unless that
 * thread was put off its core, and then yielding lets it on again. */
static void slot_await(struct loader *l, struct slot *slot, uint64_t number, double *waited) {
    double began = waited ? clock_seconds() : 0;
    uint64_t ready = slot_word(number, SLOT_READY);
    if (slot_claim(slot, slot_word(number, SLOT_EMPTY))) slot_fill(l, slot, number);
    pulse_begin(DOING_BATCH);
    for (int i = 0; atomic_load_explicit(&slot->word, memory_order_acquire) != ready; i++) {
        if (i >= SPINS) sched_yield();
    }
    pulse_end();
    if (waited) *waited += clock_seconds() - began;
}

/* Gives the oldest batch that is out back to be filled anew. */
static void slot_release(struct loader *l) {
    struct slot *slot = &l->slots[l->out % l->ring];
    uint64_t empty = slot_word(l->out + l->ring, SLOT_EMPTY);
    atomic_store_explicit(&slot->word, empty, memory_order_release);
    if (l->released) sem_post(l->released);
    l->out++;
}

void loader_give_back(struct loader *l, long n) {
    ASSERT(l->set.device && n >= 0 && l->out + (uint64_t)n <= atomic_load(&l->next));
    while (n-- > 0) slot_release(l);
}

const struct batch *loader_next(struct loader *l, double *waited) {
    uint64_t next = atomic_load_explicit(&l->next, memory_order_relaxed);
    struct slot *slot = &l->slots[next % l->ring];
    if (!l->set.device && next > 0) slot_release(l);
    ASSERT(next - l->out < l->ring);
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);
    if (word != slot_word(next, SLOT_READY)) slot_await(l, slot, next, waited);
    atomic_store_explicit(&l->next, next + 1, memory_order_relaxed);
    return &slot->batch;
}

void loader_notify(struct loader *l, sem_t *released) { l->released = released; }

/* ---- opening ---- */

uint64_t loader_drawn(const struct loader *l) {
    uint64_t next = atomic_load_explicit(&l->next, memory_order_relaxed);
    return l->from + next * (uint64_t)l->set.batch;
}

void loader_seek(struct loader *l, uint64_t drawn) {
    ASSERT(!l->released);
    l->from = drawn;
    l->out = 0;
    atomic_init(&l->next, 0);
    for (uint64_t i = 0; i < l->ring; i++) {
        atomic_init(&l->slots[i].word, slot_word(i, SLOT_EMPTY));
    }
}

/* Writes to the memory at once: a page belongs to the node of the thread that writes first. */
static enum status batch_open(struct batch *b, const struct loader *l, struct arena *a) {
    int n = l->set.batch;
    size_t x_bytes = (size_t)n * floats_of(l->data) * sizeof *b->x,
           label_bytes = (size_t)n * sizeof *b->label;
    if (l->set.device) {
        TRY(device_pinned(l->set.device, (void **)&b->x, x_bytes));
        TRY(device_pinned(l->set.device, (void **)&b->label, label_bytes));
    } else {
        b->x = arena_take(a, x_bytes);
        b->label = arena_take(a, label_bytes);
    }
    if (!b->x || !b->label) {
        return fail(STATUS_FAILED, "no memory for batches of %d samples: %d of %zu bytes", n,
            LOADER_RING, x_bytes + label_bytes);
    }
    memset(b->x, 0, x_bytes);
    memset(b->label, 0, label_bytes);
    b->n = n;
    return STATUS_OK;
}

enum status loader_check(const struct dataset *d, const struct loader_settings *set) {
    if (set->sampling != SAMPLING_SHARDS || set->workers <= d->train.n) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG,
        "%d workers cannot have a share each of the %d samples of %s: take fewer workers, or let "
        "each draw from the whole set, data.sampling=whole",
        set->workers, d->train.n, d->name);
}

enum status loader_open(struct loader **out, const struct dataset *d,
    const struct loader_settings *set, struct arena *arena) {
    ASSERT(set->batch > 0 && set->rank >= 0 && set->rank < set->workers && d->train.n > 0);
    *out = NULL;
    TRY(loader_check(d, set));
    struct loader *l = arena_take(arena, sizeof *l);
    if (!l) return fail(STATUS_FAILED, "no memory for a loader");
    l->data = d;
    l->set = *set;
    l->ring = set->device ? LOADER_RING_DEVICE : LOADER_RING;
    for (uint64_t i = 0; i < l->ring; i++) TRY(batch_open(&l->slots[i].batch, l, arena));
    loader_seek(l, 0);
    *out = l;
    return STATUS_OK;
}

/* All that it has is the arena's. */
void loader_close(struct loader *l) { ASSERT(!l || !l->released); }
