/* synthetic.c -- images drawn from the seed: what is measured or tried needs no files then.
 *
 * A class is a prototype, an image of even noise. A sample is the prototype of its class and noise
 * of its own, cut off at 0 and 255. All is done in whole numbers: the same bytes everywhere.
 */
#include "datasets/synthetic.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

/* Ids of the sequences. */
enum { PROTOTYPES, TRAIN_NOISE, TEST_NOISE, TRAIN_LABELS, TEST_LABELS };

enum { DARKEST = 64, SHADES = 128, TEST_FOLD = 5 };

const struct option synthetic_options[] = {
    {"samples", OPTION_INT, offsetof(struct synthetic_settings, samples), 10000, 1, 1e8,
        "images to train on; a fifth as many are judged", NULL},
    {"height", OPTION_INT, offsetof(struct synthetic_settings, height), 28, 1, 1024,
        "pixels from top to bottom", NULL},
    {"width", OPTION_INT, offsetof(struct synthetic_settings, width), 28, 1, 1024,
        "pixels from left to right", NULL},
    {"channels", OPTION_INT, offsetof(struct synthetic_settings, channels), 1, 1, DATASET_CHANNELS,
        "numbers a pixel has", NULL},
    {"classes", OPTION_INT, offsetof(struct synthetic_settings, classes), 10, 2, 256,
        "kinds of images", NULL},
    {"noise", OPTION_REAL, offsetof(struct synthetic_settings, noise), 2, 0, 16,
        "deviation of a sample from its prototype, in deviations between the pixels of one", NULL},
    {0},
};

static void prototypes_draw(uint8_t *prototype, size_t n, uint32_t seed) {
    const struct rng_key key = {seed, RNG_SYNTHETIC, PROTOTYPES};
    for (size_t i = 0; i < n; i++) {
        prototype[i] = (uint8_t)(DARKEST + rng_below(rng_word(key, i), SHADES));
    }
}

/* The sum of a word's four bytes is nearly normal; its mean is 510 and its deviation, 147.8, four
 * times that of SHADES even shades. */
static int noise_of(uint32_t word, int strength) {
    int sum = (int)((word & 255) + (word >> 8 & 255) + (word >> 16 & 255) + (word >> 24));
    return (sum - 510) * strength / 65536;
}

static uint8_t shade_of(int v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v); }

/* Four pixels to a block of words: pixel i of the part has word i of the sequence. */
static void pixels_draw(
    struct samples *s, const uint8_t *prototype, size_t image, struct rng_key key, float noise) {
    int strength = (int)lroundf(noise * 16384);
    uint32_t words[4];
    size_t at = 0;
    for (int i = 0; i < s->n; i++) {
        const uint8_t *mean = prototype + s->labels[i] * image;
        for (size_t k = 0; k < image; k++, at++) {
            if (at % 4 == 0) rng_block(key, at / 4, words);
            s->pixels[at] = shade_of(mean[k] + noise_of(words[at % 4], strength));
        }
    }
}

/* Each class as often as any other, but for one, in an order that the seed names. */
static void labels_draw(struct samples *s, struct rng_key key) {
    for (int i = 0; i < s->n; i++) {
        uint32_t at = rng_permute(key, 0, (uint32_t)i, (uint32_t)s->n);
        s->labels[i] = (uint8_t)(at % (uint32_t)s->classes);
    }
}

static enum status part_draw(struct samples *s, const struct synthetic_settings *set, int n,
    const uint8_t *prototype, uint32_t seed, int test) {
    const struct rng_key noise = {seed, RNG_SYNTHETIC, test ? TEST_NOISE : TRAIN_NOISE};
    const struct rng_key labels = {seed, RNG_SYNTHETIC, test ? TEST_LABELS : TRAIN_LABELS};
    *s = (struct samples){n, set->height, set->width, set->channels, set->classes, NULL, NULL};
    size_t image = (size_t)s->h * (size_t)s->w * (size_t)s->c;
    s->pixels = malloc((size_t)n * image);
    s->labels = malloc((size_t)n);
    if (!s->pixels || !s->labels) {
        return fail(STATUS_FAILED, "no memory for %d synthetic images of %zu bytes", n, image);
    }
    labels_draw(s, labels);
    pixels_draw(s, prototype, image, noise, set->noise);
    return STATUS_OK;
}

enum status synthetic_read(struct dataset *d, const struct synthetic_settings *set, uint32_t seed) {
    size_t n =
        (size_t)set->classes * (size_t)set->height * (size_t)set->width * (size_t)set->channels;
    ASSERT(set->samples >= 1 && set->classes >= 2 && set->classes <= 256 && n > 0);
    uint8_t *prototype = malloc(n);
    if (!prototype) return fail(STATUS_FAILED, "no memory for %d prototypes", set->classes);
    prototypes_draw(prototype, n, seed);
    int test = set->samples < TEST_FOLD ? 1 : set->samples / TEST_FOLD;
    enum status end = part_draw(&d->train, set, set->samples, prototype, seed, 0);
    if (end == STATUS_OK) end = part_draw(&d->test, set, test, prototype, seed, 1);
    free(prototype);
    return end;
}
