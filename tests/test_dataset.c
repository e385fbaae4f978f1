/* test_dataset.c -- sets are found, read, split and normalized; real ones where there are any. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>

#include "check.h"
#include "datasets/dataset.h"
#include "files.h"

TestSuite(dataset, .init = files_open, .fini = files_close, .timeout = 120);

/* An idx file of n values, image by image i * 3 + pixel, or labels i mod 10. */
static void idx_write(const char *name, int n, int h, int w) {
    static uint8_t file[1 << 16];
    const int dim[3] = {n, h, w};
    int dims = h > 0 ? 3 : 1, pixels = h > 0 ? h * w : 1;
    size_t at = 0;
    memset(file, 0, 16);
    file[2] = 8;
    file[3] = (uint8_t)dims;
    for (int i = 0; i < dims; i++) {
        file[4 + 4 * i + 2] = (uint8_t)(dim[i] >> 8);
        file[4 + 4 * i + 3] = (uint8_t)(dim[i] & 255);
    }
    at = 4 + 4 * (size_t)dims;
    for (int i = 0; i < n * pixels; i++) {
        int image = i / pixels, pixel = i % pixels;
        file[at++] = (uint8_t)(dims == 1 ? i % 10 : (image * 3 + pixel) % 200);
    }
    files_write(name, file, at);
}

static void mnist_write(int train, int test) {
    idx_write("train-images-idx3-ubyte", train, 2, 3);
    idx_write("train-labels-idx1-ubyte", train, 0, 0);
    idx_write("t10k-images-idx3-ubyte", test, 2, 3);
    idx_write("t10k-labels-idx1-ubyte", test, 0, 0);
}

static struct dataset *open_well(const struct dataset_settings *set) {
    struct dataset *d;
    cr_assert(dataset_open(&d, set) == STATUS_OK, "%s", fail_message());
    return d;
}

static void refuse(const struct dataset_settings *set, enum status want, const char *words) {
    struct dataset *d;
    enum status status = dataset_open(&d, set);
    cr_assert(status == want, "status %d: %s", (int)status, fail_message());
    cr_assert(d == NULL);
    cr_assert(strstr(fail_message(), words) != NULL, "'%s' lacks '%s'", fail_message(), words);
}

/* (byte - mean) / deviation in two passes over the floats' bytes, channel by channel. */
static void check_standard(const struct dataset *d, double tolerance) {
    size_t c = (size_t)d->train.c, n = (size_t)d->train.n * (size_t)(d->train.h * d->train.w);
    for (size_t k = 0; k < c; k++) {
        double mean = 0, variance = 0, want[256];
        for (size_t i = 0; i < n; i++) mean += d->train.pixels[i * c + k] / (double)n;
        for (size_t i = 0; i < n; i++) {
            variance += pow(d->train.pixels[i * c + k] - mean, 2) / (double)n;
        }
        for (int b = 0; b < 256; b++) want[b] = (b - mean) / sqrt(variance);
        check_close(d->value + k * 256, want, 256, tolerance, 1e-6, "of a channel");
    }
}

Test(dataset, both_parts_are_read_and_normalized) {
    mnist_write(33, 5);
    struct dataset_settings set = {.name = "mnist", .path = files_folder};
    struct dataset *d = open_well(&set);
    cr_assert(strcmp(d->name, "mnist") == 0);
    cr_assert(d->train.n == 33 && d->test.n == 5);
    cr_assert(d->train.h == 2 && d->train.w == 3 && d->train.c == 1 && d->train.classes == 10);
    for (int i = 0; i < 33 * 6; i++) cr_assert(d->train.pixels[i] == i / 6 * 3 + i % 6);
    for (int i = 0; i < 33; i++) cr_assert(d->train.labels[i] == i % 10);
    for (int i = 0; i < 5; i++) cr_assert(d->test.labels[i] == i);
    cr_assert(d->test.pixels[29] == 17);
    check_standard(d, 1e-6);
    dataset_close(d);
    set.normalize = NORMALIZE_UNIT; /* the largest byte of the training part is 101 */
    d = open_well(&set);
    for (int b = 0; b < 256; b++) {
        cr_assert(fabs((double)d->value[b] - b / 101.0) <= 1e-6, "byte %d", b);
    }
    dataset_close(d);
}

Test(dataset, one_value_only_is_not_divided_by_its_deviation) {
    mnist_write(1, 1);
    idx_write("train-images-idx3-ubyte", 1, 1, 1);
    idx_write("t10k-images-idx3-ubyte", 1, 1, 1);
    struct dataset_settings set = {.name = "mnist", .path = files_folder};
    for (int normalize = NORMALIZE_STANDARD; normalize <= NORMALIZE_UNIT; normalize++) {
        set.normalize = normalize;
        struct dataset *d = open_well(&set);
        for (int b = 0; b < 256; b++) cr_assert(d->value[b] == (float)b, "byte %d", b);
        dataset_close(d);
    }
}

/* How often each image stands in both parts; images are told apart by their first pixel, and
 * their labels must have come along. */
static int parts_count(const struct dataset *d, const struct samples *s, int seen[256]) {
    int before = -1;
    for (int i = 0; i < s->n; i++) {
        int image = s->pixels[(size_t)i * 6] / 3;
        for (int k = 0; k < 6; k++) {
            cr_assert(s->pixels[(size_t)i * 6 + (size_t)k] == image * 3 + k, "%s", d->name);
        }
        cr_assert(s->labels[i] == image % 10);
        cr_assert(image > before, "the order is kept");
        before = image;
        seen[image]++;
    }
    return s->n;
}

static void check_split(const struct dataset_settings *set, int n, int held) {
    int seen[256] = {0};
    struct dataset *d = open_well(set);
    cr_assert(parts_count(d, &d->train, seen) == n - held, "%d", d->train.n);
    cr_assert(parts_count(d, &d->test, seen) == held, "%d", d->test.n);
    for (int i = 0; i < n; i++) cr_assert(seen[i] == 1, "image %d", i);
    cr_assert(d->test.h == 2 && d->test.w == 3 && d->test.c == 1 && d->test.classes == 10);
    check_standard(d, 1e-6); /* over what is trained on */
    dataset_close(d);
}

Test(dataset, the_seed_names_what_is_held_out) {
    mnist_write(63, 5);
    idx_write("digits-images-idx3-ubyte", 63, 2, 3);
    idx_write("digits-labels-idx1-ubyte", 63, 0, 0);
    struct dataset_settings set = {.name = "mnist", .path = files_folder, .holdout = 0.25f};
    check_split(&set, 63, 16);
    set.name = "digits";
    check_split(&set, 63, 16);
    set.holdout = 0;
    check_split(&set, 63, 12);
    struct dataset *a = open_well(&set), *b = open_well(&set);
    set.seed = 1;
    struct dataset *c = open_well(&set);
    cr_assert(memcmp(a->test.pixels, b->test.pixels, 12 * 6) == 0);
    cr_assert(memcmp(a->test.pixels, c->test.pixels, 12 * 6) != 0);
    dataset_close(a);
    dataset_close(b);
    dataset_close(c);
    static const float shares[] = {1, -0.1f, 1.5f, NAN, INFINITY, 0.001f, 0.999f};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        set.holdout = shares[i];
        refuse(&set, STATUS_BAD_CONFIG, "h");
    }
}

Test(dataset, files_that_do_not_agree_are_refused) {
    struct dataset_settings set = {.name = "fashion", .path = files_folder};
    uint8_t label[8 + 33] = {0, 0, 8, 1, 0, 0, 0, 33};
    refuse(&set, STATUS_IO, "neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz");
    mnist_write(33, 5);
    label[8 + 17] = 12;
    files_write("train-labels-idx1-ubyte", label, sizeof label);
    refuse(&set, STATUS_IO, "train-labels-idx1-ubyte: sample 17 has the label 12, not 0 .. 9");
    idx_write("train-labels-idx1-ubyte", 32, 0, 0);
    refuse(&set, STATUS_IO, "32 labels, and train-images-idx3-ubyte has 33 images");
    mnist_write(33, 5);
    idx_write("t10k-images-idx3-ubyte", 5, 3, 2);
    refuse(&set, STATUS_IO, "the test images are 3 x 2 and the training images 2 x 3");
    remove(files_path("t10k-images-idx3-ubyte"));
    refuse(&set, STATUS_IO, "neither t10k-images-idx3-ubyte");
    set.holdout = 0.5f; /* the test part is not needed then */
    dataset_close(open_well(&set));
    set.name = "mnits";
    refuse(&set, STATUS_BAD_CONFIG, "'mnits'");
}

Test(dataset, the_folder_is_looked_for_place_by_place) {
    char home[512], from[512];
    const char *outside = getenv("HUDDLE_DATA");
    char *saved = outside ? strdup(outside) : NULL;
    struct dataset_settings set = {.name = "mnist"};
    cr_assert(getcwd(from, sizeof from) && chdir(files_folder) == 0);
    unsetenv("HUDDLE_DATA");
    refuse(&set, STATUS_IO, "share/huddle/data/mnist; data/fetch mnist gets it");
    snprintf(home, sizeof home, "%s/home", files_folder);
    setenv("HUDDLE_DATA", home, 1);
    refuse(&set, STATUS_IO, "/home/mnist ($HUDDLE_DATA), data/mnist and ");
    set.path = "elsewhere";
    refuse(&set, STATUS_IO, "elsewhere: No such file");
    set.path = "";
    mnist_write(7, 2);
    files_make_folder("data");
    cr_assert(symlink("..", "data/mnist") == 0);
    struct dataset *d = open_well(&set); /* not in the first place, so from the second */
    cr_assert(d->train.n == 7);
    dataset_close(d);
    files_make_folder("home");
    files_make_folder("home/mnist");
    refuse(&set, STATUS_IO, "/home/mnist: there is neither train-images-idx3-ubyte");
    setenv("HUDDLE_DATA", files_path("train-images-idx3-ubyte"), 1);
    refuse(&set, STATUS_IO, "Not a directory");
    set.path = "train-images-idx3-ubyte";
    refuse(&set, STATUS_IO, "train-images-idx3-ubyte: Not a directory");
    unsetenv("HUDDLE_DATA");
    if (saved) setenv("HUDDLE_DATA", saved, 1);
    free(saved);
    cr_assert(chdir(from) == 0);
}

/* A batch of n images whose labels are `mark` and whose planes are multiples of it. */
static void batch_write(const char *name, int n, int mark) {
    uint8_t *file = malloc((size_t)n * 3073);
    for (int i = 0; i < n * 3073; i++) {
        int at = i % 3073, plane = (at - 1) / 1024;
        file[i] = (uint8_t)(at == 0 ? mark : mark * (1 + plane * plane));
    }
    files_write(name, file, (size_t)n * 3073);
    free(file);
}

Test(dataset, cifar10_without_its_test_part_is_judged_on_batch_5) {
    struct dataset_settings set = {.name = "cifar10", .path = files_folder};
    char name[32];
    for (int i = 1; i <= 5; i++) {
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        batch_write(name, 3, i);
    }
    struct dataset *d = open_well(&set);
    cr_assert(d->train.n == 12 && d->test.n == 3 && d->train.c == 3);
    for (int i = 0; i < 12; i++) cr_assert(d->train.labels[i] == i / 3 + 1);
    cr_assert(d->test.labels[0] == 5 && d->test.labels[2] == 5);
    check_standard(d, 1e-5);
    dataset_close(d);
    set.holdout = 0.25f; /* batch 5 stays away from what chooses */
    d = open_well(&set);
    cr_assert(d->train.n == 9 && d->test.n == 3);
    for (int i = 0; i < 12; i++) {
        cr_assert((i < 9 ? d->train.labels[i] : d->test.labels[i - 9]) < 5, "sample %d", i);
    }
    dataset_close(d);
    batch_write("test_batch.bin", 2, 9);
    d = open_well(&set);
    cr_assert(d->train.n == 11 && d->test.n == 4);
    dataset_close(d);
    set.holdout = 0;
    d = open_well(&set);
    cr_assert(d->train.n == 15 && d->test.n == 2 && d->test.labels[1] == 9);
    dataset_close(d);
    remove(files_path("data_batch_3.bin"));
    refuse(&set, STATUS_IO, "data_batch_3.bin: No such file");
}

/* ---- the published files ---- */

static int real_there(const char *name, const char *file) {
    const char *home = getenv("HUDDLE_DATA");
    char path[512];
    snprintf(path, sizeof path, "%s/%s/%s", home ? home : "", name, file);
    return home && access(path, R_OK) == 0;
}

Test(dataset, the_shipped_digits_open) {
#ifdef HAVE_ZLIB
    struct dataset_settings set = {
        .name = "digits", .path = "data/digits", .normalize = NORMALIZE_UNIT};
    if (access("data/digits", R_OK) != 0) cr_skip_test("not started where data/digits is");
    struct dataset *d = open_well(&set);
    cr_assert(d->train.n == 1438 && d->test.n == 359 && d->train.h == 8 && d->train.w == 8);
    cr_assert(d->value[16] == 1.0f && d->value[8] == 0.5f);
    int count[10] = {0};
    for (int i = 0; i < 1438; i++) count[d->train.labels[i]]++;
    for (int i = 0; i < 359; i++) count[d->test.labels[i]]++;
    static const int want[10] = {178, 182, 177, 183, 181, 182, 181, 179, 174, 180};
    for (int i = 0; i < 10; i++) cr_assert(count[i] == want[i], "%d of digit %d", count[i], i);
    dataset_close(d);
#else
    cr_skip_test("built without zlib: the digits are gzipped");
#endif
}

Test(dataset, mnist_has_the_published_mean_and_deviation) {
    struct dataset_settings set = {.name = "mnist"};
    if (!real_there("mnist", "train-images-idx3-ubyte")) {
        cr_skip_test("needs $HUDDLE_DATA/mnist, unpacked");
    }
    struct dataset *d = open_well(&set);
    cr_assert(d->train.n == 60000 && d->test.n == 10000 && d->train.h == 28);
    static const int first[10] = {5, 0, 4, 1, 9, 2, 1, 3, 1, 4};
    for (int i = 0; i < 10; i++) cr_assert(d->train.labels[i] == first[i]);
    double deviation = 1 / (255 * ((double)d->value[1] - (double)d->value[0]));
    double mean = -(double)d->value[0] * deviation;
    cr_assert(fabs(mean - 0.1307) <= 5e-5, "mean %g", mean);
    cr_assert(fabs(deviation - 0.3081) <= 5e-5, "deviation %g", deviation);
    dataset_close(d);
}

Test(dataset, cifar10_has_the_published_means_and_deviations) {
    static const double means[] = {0.4914, 0.4822, 0.4465};
    static const double deviations[] = {0.2470, 0.2435, 0.2616};
    struct dataset_settings set = {.name = "cifar10"};
    if (!real_there("cifar10", "data_batch_1.bin")) cr_skip_test("needs $HUDDLE_DATA/cifar10");
    struct dataset *d = open_well(&set);
    cr_assert(d->train.n >= 40000 && d->test.n == 10000);
    static const int first[10] = {6, 9, 9, 4, 1, 1, 2, 7, 8, 3};
    for (int i = 0; i < 10; i++) cr_assert(d->train.labels[i] == first[i]);
    for (int c = 0; c < 3; c++) { /* published over 50000; 40000 of them are close to it */
        const float *value = d->value + c * 256;
        double deviation = 1 / (255 * ((double)value[1] - (double)value[0]));
        double mean = -(double)value[0] * deviation;
        cr_assert(fabs(mean - means[c]) <= 2e-3, "channel %d: mean %g", c, mean);
        cr_assert(fabs(deviation - deviations[c]) <= 2e-3, "channel %d: %g", c, deviation);
    }
    dataset_close(d);
}

Test(dataset, crops_must_fit_the_images) {
    struct dataset_settings set = {.name = "digits", .path = "data/digits", .side = 8};
    struct dataset *d;
    cr_assert(dataset_open(&d, &set) == STATUS_OK, "%s", fail_message());
    cr_assert(dataset_h(d) == 8 && dataset_w(d) == 8);
    dataset_close(d);
    set.side = 9;
    cr_assert(dataset_open(&d, &set) == STATUS_BAD_CONFIG && !d);
    cr_assert(strstr(fail_message(), "9 x 9 do not fit the images of digits, 8 x 8"), "%s",
        fail_message());
}
