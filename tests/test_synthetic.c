/* test_synthetic.c -- images drawn from the seed: the same again, even classes, learnable. */
#include "datasets/synthetic.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(synthetic, .timeout = 60);

static struct dataset *open_set(struct synthetic_settings of, uint32_t seed, float holdout) {
    struct dataset_settings set = {
        .name = "synthetic", .seed = seed, .holdout = holdout, .synthetic = of};
    struct dataset *d;
    cr_assert(dataset_open(&d, &set) == STATUS_OK, "%s", fail_message());
    return d;
}

static size_t image_of(const struct samples *s) {
    return (size_t)s->h * (size_t)s->w * (size_t)s->c;
}

static int same(const struct samples *a, const struct samples *b) {
    size_t n = (size_t)a->n;
    return a->n == b->n && image_of(a) == image_of(b) && !memcmp(a->labels, b->labels, n) &&
           !memcmp(a->pixels, b->pixels, n * image_of(a));
}

static const struct synthetic_settings small = {203, 5, 7, 3, 10, 1};

Test(synthetic, the_seed_names_every_byte) {
    struct dataset *a = open_set(small, 1, 0), *b = open_set(small, 1, 0);
    struct dataset *c = open_set(small, 2, 0);
    cr_assert(a->train.n == 203 && a->test.n == 40);
    cr_assert(a->train.h == 5 && a->train.w == 7 && a->train.c == 3 && a->train.classes == 10);
    cr_assert(a->test.h == 5 && a->test.w == 7 && a->test.c == 3 && a->test.classes == 10);
    cr_assert(same(&a->train, &b->train) && same(&a->test, &b->test));
    cr_assert(!same(&a->train, &c->train) && !same(&a->test, &c->test));
    cr_assert(memcmp(a->train.labels, c->train.labels, 203) != 0);
    cr_assert(memcmp(a->train.pixels, a->test.pixels, 40 * image_of(&a->test)) != 0);
    dataset_close(a);
    dataset_close(b);
    dataset_close(c);
}

/* Of one class, or it would be no wonder. */
Test(synthetic, no_sample_is_in_both_parts) {
    struct dataset *d = open_set(small, 1, 0);
    size_t image = image_of(&d->test);
    int pairs = 0;
    for (size_t i = 0; i < 40; i++)
        for (size_t k = 0; k < 203; k++) {
            if (d->test.labels[i] != d->train.labels[k]) continue;
            cr_assert(memcmp(d->test.pixels + i * image, d->train.pixels + k * image, image) != 0);
            pairs++;
        }
    cr_assert(pairs > 40);
    dataset_close(d);
}

/* Were the bytes ever to change, what was measured with them could not be compared. */
Test(synthetic, the_bytes_are_the_same_everywhere) {
    struct dataset *d = open_set(small, 1, 0);
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < 203 * image_of(&d->train); i++) {
        hash = (hash ^ d->train.pixels[i]) * 16777619u;
    }
    for (int i = 0; i < 203; i++) hash = (hash ^ d->train.labels[i]) * 16777619u;
    cr_assert(hash == 0x9c679a91u, "0x%08x", hash);
    dataset_close(d);
}

Test(synthetic, classes_are_even_and_in_no_order) {
    static const int classes[] = {2, 3, 10, 256};
    for (int i = 0; i < 4; i++) {
        struct synthetic_settings set = {1001, 2, 2, 1, classes[i], 1};
        struct dataset *d = open_set(set, 5, 0);
        int count[256] = {0}, follows = 0;
        for (int k = 0; k < 1001; k++) {
            count[d->train.labels[k]]++;
            if (k > 0) follows += d->train.labels[k] == (d->train.labels[k - 1] + 1) % classes[i];
        }
        for (int c = 0; c < 256; c++) {
            int want = c < classes[i] ? 1001 / classes[i] : 0;
            cr_assert(count[c] >= want && count[c] <= (want ? want + 1 : 0), "%d of %d", count[c],
                classes[i]);
        }
        double share = follows / 1000.0, even = 1.0 / classes[i];
        cr_assert(share <= even + 4 * sqrt(even / 1000), "%d follow in order", follows);
        dataset_close(d);
    }
}

/* Without noise all samples of a class are its prototype, in both parts, and classes differ. */
Test(synthetic, without_noise_a_class_is_one_image) {
    struct synthetic_settings set = {100, 9, 9, 2, 7, 0};
    struct dataset *d = open_set(set, 3, 0);
    const struct samples *parts[] = {&d->train, &d->test};
    const uint8_t *first[7] = {NULL};
    size_t image = image_of(&d->train);
    for (int p = 0; p < 2; p++) {
        for (int i = 0; i < parts[p]->n; i++) {
            const uint8_t *at = parts[p]->pixels + (size_t)i * image;
            const uint8_t **one = &first[parts[p]->labels[i]];
            if (!*one) *one = at;
            cr_assert(memcmp(at, *one, image) == 0, "part %d, sample %d", p, i);
        }
    }
    for (int a = 0; a < 7; a++)
        for (int b = 0; b < a; b++) cr_assert(memcmp(first[a], first[b], image) != 0);
    dataset_close(d);
}

/* At noise 1 a pixel's deviation is that of the prototypes' shades, 64 to 191: 36.95. */
Test(synthetic, noise_is_in_deviations_of_the_prototypes) {
    struct synthetic_settings set = {2000, 8, 8, 1, 2, 0};
    struct dataset *clean = open_set(set, 4, 0);
    for (int step = 1; step <= 2; step++) {
        set.noise = (float)step / 2;
        struct dataset *d = open_set(set, 4, 0);
        double sum = 0, squares = 0, n = 2000 * 64;
        cr_assert(memcmp(d->train.labels, clean->train.labels, 2000) == 0);
        for (size_t i = 0; i < 2000 * 64; i++) {
            double by = d->train.pixels[i] - (double)clean->train.pixels[i];
            sum += by / n;
            squares += by * by / n;
        }
        /* What is cut off at 0 and 255, and towards 0 by dividing, makes it a little less. */
        double want = 36.95 * step / 2;
        cr_assert(fabs(sum) <= 0.6, "mean %g", sum);
        cr_assert(fabs(sqrt(squares) - want) <= 0.06 * want, "%g, not %g", sqrt(squares), want);
        dataset_close(d);
    }
    dataset_close(clean);
}

/* Whoever is nearest to the mean of a class's training images is of that class. */
Test(synthetic, what_is_learned_from_one_part_holds_in_the_other) {
    struct synthetic_settings set = {2000, 8, 8, 1, 10, 2};
    struct dataset *d = open_set(set, 1, 0);
    static double mean[10][64];
    int count[10] = {0}, right = 0;
    for (int i = 0; i < 2000; i++) {
        count[d->train.labels[i]]++;
        for (int k = 0; k < 64; k++) {
            mean[d->train.labels[i]][k] += d->train.pixels[(size_t)i * 64 + (size_t)k];
        }
    }
    for (int i = 0; i < d->test.n; i++) {
        double best = (double)INFINITY;
        int nearest = -1;
        for (int c = 0; c < 10; c++) {
            double far = 0;
            for (size_t k = 0; k < 64; k++) {
                far += pow(d->test.pixels[(size_t)i * 64 + k] - mean[c][k] / count[c], 2);
            }
            if (far < best) best = far, nearest = c;
        }
        right += nearest == d->test.labels[i];
    }
    cr_assert(d->test.n == 400 && right >= 360, "%d right of %d", right, d->test.n);
    dataset_close(d);
}

Test(synthetic, odd_sizes_and_holding_out) {
    struct synthetic_settings one = {1, 1, 1, 1, 2, 1};
    struct dataset *d = open_set(one, 1, 0);
    cr_assert(d->train.n == 1 && d->test.n == 1);
    dataset_close(d);
    d = open_set(small, 1, 0.25f);
    cr_assert(d->train.n == 152 && d->test.n == 51);
    dataset_close(d);
    struct dataset_settings set = {.name = "synthetic", .path = "here", .synthetic = small};
    cr_assert(dataset_open(&d, &set) == STATUS_BAD_CONFIG && !d);
    cr_assert(strstr(fail_message(), "here"), "%s", fail_message());
}
