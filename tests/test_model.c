#include "nn/model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/layer.h"

TestSuite(model, .timeout = 60);

static const struct shape mnist = {28, 28, 1}, crop = {28, 28, 3}, digits = {8, 8, 1};

static struct model *open_or_die(const char *layers, struct shape in, int classes) {
    struct model *m;
    cr_assert(model_open(&m, layers, in, classes) == STATUS_OK, "%s", fail_message());
    return m;
}

static size_t parameters_of(const char *layers, struct shape in) {
    struct model *m = open_or_die(layers, in, 10);
    size_t n = m->parameters;
    model_close(m);
    return n;
}

Test(model, presets_have_the_papers_numbers_of_parameters) {
    cr_assert(parameters_of("2nn", mnist) == 199210);
    cr_assert(parameters_of("mnist_cnn", mnist) == 1663370);
    cr_assert(parameters_of("easgd_cifar", crop) == 351946);
    cr_assert(parameters_of("digits_cnn", digits) == 38282);
}

/* (3,28) C(64,24) P(64,12) C(128,8) P(128,4) C(64,2) D(256,1) S(10,1) in the paper. */
Test(model, shapes_of_the_easgd_net_are_the_papers) {
    static const int side[] = {24, 24, 12, 8, 8, 4, 2, 2, 1, 1, 1, 1, 1};
    static const int channels[] = {64, 64, 64, 128, 128, 128, 64, 64, 256, 256, 256, 256, 10};
    struct model *m = open_or_die("easgd_cifar", crop, 10);
    cr_assert(m->layers == 13);
    for (int i = 0; i < 13; i++) {
        cr_assert(m->layer[i].out.h == side[i] && m->layer[i].out.w == side[i], "layer %d", i + 1);
        cr_assert(m->layer[i].out.c == channels[i], "layer %d", i + 1);
    }
    model_close(m);
}

/* He, Zhang, Ren, Sun, section 4.2, with n = 3 and projections; a convolution of 3 x 3 from a to b
 * channels has 9 a b weights, a batch norm 2 b parameters:
 *
 *     first       9 x 3 x 16 + 2 x 16                                                  464
 *     16 channels 6 x 9 x 16 x 16 + 6 x 32                                          14,016
 *     32 channels 9 x 16 x 32 + 5 x 9 x 32 x 32 + 6 x 64, shortcut 16 x 32 + 64     51,648
 *     64 channels 9 x 32 x 64 + 5 x 9 x 64 x 64 + 6 x 128, shortcut 32 x 64 + 128  205,696
 *     dense       64 x 10 + 10                                                        650
 *
 * which is 272,474. Running means and variances: 7 x (16 + 32 + 64) channels, in rows of 64. */
Test(model, resnet20_is_the_papers_with_projections) {
    struct model *m = open_or_die("resnet20", (struct shape){32, 32, 3}, 10);
    cr_assert(m->parameters == 272474, "%zu", m->parameters);
    cr_assert(m->residuals == 9 && m->buffer_parts == 42 && m->buffers == (size_t)42 * 64);
    static const int side[] = {32, 32, 32, 16, 16, 16, 8, 8, 8};
    for (int i = 0, join = 0, projections = 0; i < m->layers; i++) {
        const struct layer *l = &m->layer[i];
        projections += l->shortcut && l->size == 1;
        if (strcmp(l->ops->name, "join") != 0) continue;
        cr_assert(l->out.h == side[join] && l->out.c == 16 * 32 / side[join], "block %d", join);
        cr_assert(projections == join / 3 && l->act == ACTIVATION_RELU, "block %d", join);
        join++;
    }
    model_close(m);
}

Test(model, parts_are_named_and_start_on_256_bytes) {
    struct model *m = open_or_die(
        "conv 5 3 same, relu, maxpool 2, dense 7, tanh, dense 3", (struct shape){6, 4, 2}, 3);
    static const char *const names[] = {"1.conv.weight", "1.conv.bias", "4.dense.weight",
        "4.dense.bias", "6.dense.weight", "6.dense.bias"};
    static const size_t offset[] = {0, 128, 192, 448, 512, 576}, n[] = {90, 5, 210, 7, 21, 3};
    static const int dims[] = {4, 1, 2, 1, 2, 1};
    static const int dim[][4] = {{3, 3, 2, 5}, {5}, {7, 30}, {7}, {3, 7}, {3}};
    cr_assert(m->parts == 6 && m->floats == 640 && m->parameters == 336);
    for (int i = 0; i < 6; i++) {
        const struct part *p = &m->part[i];
        cr_assert(!strcmp(p->name, names[i]), "%s", p->name);
        cr_assert(p->range.offset == offset[i] && p->range.n == n[i], "%s", p->name);
        cr_assert(p->dims == dims[i], "%s", p->name);
        for (int d = 0; d < dims[i]; d++) cr_assert(p->dim[d] == dim[i][d], "%s", p->name);
    }
    model_close(m);
}

Test(model, the_line_is_kept_with_presets_spelled_out) {
    struct model *m = open_or_die("2nn", mnist, 10);
    cr_assert(!strcmp(m->line, "dense 200, relu, dense 200, relu, dense 10"), "%s", m->line);
    model_close(m);
    m = open_or_die(" dense  10 ,tanh\n", mnist, 10);
    cr_assert(!strcmp(m->line, " dense  10 ,tanh\n"));
    model_close(m);
}

Test(model, a_relu_is_absorbed_only_right_behind_a_conv_or_a_dense) {
    struct model *m = open_or_die("relu, conv 4 3, relu, relu, maxpool 2, tanh, flatten, dense 5, "
                                  "tanh, dropout 0.5, dense 10, sigmoid",
        mnist, 10);
    static const int absorbed[] = {0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1};
    for (int i = 0; i < 12; i++) cr_assert(m->layer[i].absorbed == absorbed[i], "%d", i + 1);
    cr_assert(m->layer[1].act == ACTIVATION_RELU && m->layer[7].act == ACTIVATION_TANH);
    cr_assert(m->layer[10].act == ACTIVATION_SIGMOID);
    model_close(m);
}

/* 'same' as TensorFlow: ceil(side / stride). */
Test(model, a_residual_has_a_shortcut_where_its_body_changes_the_shape) {
    struct model *m =
        open_or_die("conv 4 3 same, residual ( conv 4 3 same, relu ), relu, "
                    "residual(conv 6 3 stride 2 same,relu,conv 6 3 same),tanh, dense 3",
            (struct shape){5, 8, 2}, 3);
    static const char *const names[] = {"1.conv.weight", "1.conv.bias", "3.conv.weight",
        "3.conv.bias", "7.conv.weight", "7.conv.bias", "9.conv.weight", "9.conv.bias",
        "6.shortcut.conv.weight", "6.shortcut.conv.bias", "11.dense.weight", "11.dense.bias"};
    cr_assert(m->parts == 12 && m->residuals == 2);
    for (int i = 0; i < 12; i++) cr_assert(!strcmp(m->part[i].name, names[i]), "%d", i);
    const struct part *p = &m->part[8];
    static const int dim[4] = {1, 1, 4, 6};
    cr_assert(p->dims == 4 && !memcmp(p->dim, dim, sizeof dim));
    /* 76 + 148, 222 + 330, 4 x 6 + 6, 3 x 4 x 6 x 3 + 3 */
    cr_assert(m->parameters == 76 + 148 + 222 + 330 + 30 + 219, "%zu", m->parameters);
    model_close(m);
}

/* A stride of 2 gives 2 of 4 rows, but 5 of 9 columns. */
Test(model, a_shortcut_must_fit_both_ways) {
    struct model *m;
    cr_assert(model_open(&m, "tanh, residual (maxpool 2), dense 10", (struct shape){4, 9, 1}, 10) ==
              STATUS_BAD_CONFIG);
    cr_assert(strstr(fail_message(), "makes 2 x 4 x 1 of 4 x 9 x 1"), "%s", fail_message());
    m = open_or_die("tanh, residual (maxpool 2), dense 10", (struct shape){4, 8, 1}, 10);
    cr_assert(m->layer[3].shortcut && m->layer[3].stride == 2);
    model_close(m);
}

Test(model, a_batch_norm_has_buffers_and_one_on_the_shortcut_where_the_body_has_one) {
    struct model *m =
        open_or_die("conv 4 3 same nobias, batchnorm, relu, residual ( conv 70 3 same "
                    "nobias, batchnorm ), relu, dense 3",
            (struct shape){5, 8, 2}, 3);
    static const char *const names[] = {"1.conv.weight", "2.batchnorm.weight", "2.batchnorm.bias",
        "5.conv.weight", "6.batchnorm.weight", "6.batchnorm.bias", "4.shortcut.conv.weight",
        "4.shortcut.batchnorm.weight", "4.shortcut.batchnorm.bias", "8.dense.weight",
        "8.dense.bias"};
    static const char *const buffers[] = {"2.batchnorm.mean", "2.batchnorm.var", "6.batchnorm.mean",
        "6.batchnorm.var", "4.shortcut.batchnorm.mean", "4.shortcut.batchnorm.var"};
    static const size_t offset[] = {0, 64, 128, 256, 384, 512}, n[] = {4, 4, 70, 70, 70, 70};
    cr_assert(m->parts == 11 && m->buffer_parts == 6 && m->buffers == 640);
    for (int i = 0; i < 11; i++) cr_assert(!strcmp(m->part[i].name, names[i]), "%d", i);
    float *x = malloc(m->floats * sizeof *x), b[640];
    model_init(m, 1, x);
    model_init_buffers(m, b);
    size_t at = 0;
    for (int i = 0; i < 6; i++) {
        const struct part *p = &m->buffer[i];
        cr_assert(!strcmp(p->name, buffers[i]) && p->dims == 1 && p->dim[0] == (int)n[i], "%d", i);
        cr_assert(p->range.offset == offset[i] && p->range.n == n[i], "%d", i);
        for (; at < offset[i]; at++) cr_assert(b[at] == 0);
        for (; at < offset[i] + n[i]; at++) cr_assert(b[at] == (float)(i % 2));
    }
    for (int i = 1; i <= 7; i += 3)
        for (size_t j = 0; j < m->part[i].range.n; j++) {
            cr_assert(x[m->part[i].range.offset + j] == 1);
            cr_assert(x[m->part[i + 1].range.offset + j] == 0);
        }
    free(x);
    model_close(m);
}

Test(model, strides_and_paddings_give_the_right_shapes) {
    static const struct {
        const char *layers;
        int h, w;
    } cases[] = {
        {"conv 2 3, dense 10", 5, 8},
        {"conv 2 3 valid, dense 10", 5, 8},
        {"conv 2 3 same, dense 10", 7, 10},
        {"conv 2 3 stride 2, dense 10", 3, 4},
        {"conv 2 3 stride 2 same, dense 10", 4, 5},
        {"conv 2 2 stride 3 same, dense 10", 3, 4},
        {"conv 2 7 same, dense 10", 7, 10},
        {"maxpool 2, dense 10", 3, 5},
        {"maxpool 3 stride 2, dense 10", 3, 4},
        {"maxpool 2 stride 5, dense 10", 2, 2},
        {"avgpool 2, dense 10", 3, 5},
        {"avgpool 3 stride 2, dense 10", 3, 4},
        {"globalavgpool, dense 10", 1, 1},
    };
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i++) {
        struct model *m = open_or_die(cases[i].layers, (struct shape){7, 10, 3}, 10);
        struct shape s = m->layer[0].out;
        cr_assert(s.h == cases[i].h && s.w == cases[i].w, "%s: %d x %d", cases[i].layers, s.h, s.w);
        model_close(m);
    }
}

/* What must be in the message of each mistake. */
static const struct {
    const char *layers, *says;
} mistakes[] = {
    {"", "model.layers is empty"},
    {"  \n", "model.layers is empty"},
    {"dense 10,", "layer 2 is empty"},
    {",dense 10", "layer 1 is empty"},
    {"dense 5,, dense 10", "layer 2 is empty"},
    {"relu, covn 3 3, dense 10", "layer 2 \"covn 3 3\": there is no layer \"covn\"; did you mean "
                                 "\"conv\"?"},
    {"mnist_cn", "did you mean \"mnist_cnn\"?"},
    {"3nn", "did you mean \"2nn\"?"},
    {"dens 10", "did you mean \"dense\"?"},
    {"Dense 10", "did you mean \"dense\"?"},
    {"dense", "layer 1 \"dense\": this layer is written \"dense UNITS\""},
    {"dense 5 5", "\"dense UNITS\""},
    {"dense ten", "UNITS is to be a whole number, not \"ten\""},
    {"dense 1.5", "UNITS is to be a whole number"},
    {"dense 0", "UNITS = 0 is not in 1 .. 16777216"},
    {"dense -3", "UNITS = -3 is not in 1"},
    {"dense 99999999999999999999", "is not in 1"},
    {"conv 8", "\"conv CHANNELS SIZE [stride N] [same|valid] [nobias]\""},
    {"conv 8 3 sane, dense 10", "\"conv CHANNELS SIZE"},
    {"conv 8 3 same stride 2, dense 10", "\"conv CHANNELS SIZE"},
    {"conv 8 3 stride, dense 10", "\"conv CHANNELS SIZE"},
    {"conv 8 3 stride 0, dense 10", "stride = 0 is not in 1"},
    {"conv 8 3 stride 2 same same same", "too many words"},
    {"conv 8 25, maxpool 2, conv 64 5, dense 10",
        "model.layers: layer 3 \"conv 64 5\": a window of 5 does not fit an input of 2 x 2; use "
        "'same' or a smaller window"},
    {"conv 8 58 same, dense 10", "more than twice as large"},
    {"maxpool", "\"maxpool SIZE [stride N]\""},
    {"maxpool 2 same, dense 10", "\"maxpool SIZE [stride N]\""},
    {"maxpool 17, dense 10", "SIZE = 17 is not in 1 .. 16"},
    {"avgpool", "\"avgpool SIZE [stride N]\""},
    {"avgpool 2 3, dense 10", "\"avgpool SIZE [stride N]\""},
    {"avgpool 29, dense 10", "a window of 29 does not fit an input of 28 x 28"},
    {"globalavgpool 2, dense 10", "this layer is written \"globalavgpool\""},
    {"sigmoid 3, dense 10", "this layer is written \"sigmoid\""},
    {"dense 100, maxpool 2, dense 10", "layer 2 \"maxpool 2\": a window of 2 does not fit an input "
                                       "of 1 x 1"},
    {"batchnorm 3, dense 10", "this layer is written \"batchnorm\""},
    {"conv 4 3 nobias same, dense 10", "\"conv CHANNELS SIZE"},
    {"residual, dense 10",
        "layer 1 \"residual\": this layer is written \"residual ( LAYER, ... )\""},
    {"residual 3 (relu), dense 10", "\"residual ( LAYER, ... )\""},
    {"relu (tanh), dense 10", "layer 1 \"relu\": there is a \"(\" behind it"},
    {"residual (), dense 10", "layer 2 is empty"},
    {"residual (relu, ), dense 10", "layer 3 is empty"},
    {"(relu), dense 10", "layer 1 is empty"},
    {"residual (relu, dense 10", "layer 1 \"residual\": its \"(\" is never closed"},
    {"relu ), dense 10", "there is a \")\" behind layer 1, and no \"residual (\""},
    {"relu, residual (relu)), dense 10", "behind the \")\" of layer 2 there is to be a comma"},
    {"residual (relu) dense 10", "behind the \")\" of layer 1 there is to be a comma"},
    {"residual (relu, residual (tanh)), dense 10",
        "layer 3 \"residual\": a residual does not hold another one"},
    {"residual (flatten), dense 10", "layer 1 \"residual (...)\": there is nothing to compute"},
    {"tanh, residual (conv 4 3), dense 10",
        "layer 2 \"residual (...)\": its body makes 26 x 26 x 4 of 28 x 28 x 1, and no stride"},
    {"residual (relu),, dense 10", "layer 3 is empty"},
    {"relu 3, dense 10", "this layer is written \"relu\""},
    {"flatten 3, dense 10", "this layer is written \"flatten\""},
    {"dropout, dense 10", "\"dropout RATE\""},
    {"dropout 1, dense 10", "RATE = 1 is not in 0 .. 1, 1 excluded"},
    {"dropout -0.1, dense 10", "RATE = -0.1 is not in"},
    {"dropout nan, dense 10", "RATE = nan is not in"},
    {"dropout half, dense 10", "RATE is to be a number, not \"half\""},
    {"dense 11", "gives 11 numbers for 10 classes; end with \"dense 10\""},
    {"conv 4 3", "numbers for 10 classes"},
    {"dense 16777216, dense 10", "layer 1 \"dense 16777216\": the model would have more than 2^31"},
    {"conv 16777216 3 same, dense 10", "is too large"},
    {"dense 40000, dense 40000, dense 20000, dense 10", "layer 3 \"dense 20000\": the model would"},
};

Test(model, mistakes_are_named_with_their_place_and_a_hint) {
    for (int i = 0; i < (int)(sizeof mistakes / sizeof *mistakes); i++) {
        struct model *m = (struct model *)&m;
        enum status status = model_open(&m, mistakes[i].layers, mnist, 10);
        cr_assert(status == STATUS_BAD_CONFIG, "\"%s\" was accepted", mistakes[i].layers);
        cr_assert(m == NULL);
        cr_assert(strstr(fail_message(), mistakes[i].says), "\"%s\" gave \"%s\"",
            mistakes[i].layers, fail_message());
        cr_assert(strstr(fail_message(), "model.layers"), "%s", fail_message());
    }
}

Test(model, a_model_must_have_something_to_learn) {
    struct model *m;
    cr_assert(model_open(&m, "relu, flatten", (struct shape){1, 1, 10}, 10) == STATUS_BAD_CONFIG);
    cr_assert(strstr(fail_message(), "nothing to learn"), "%s", fail_message());
}

Test(model, very_long_lines_are_refused_or_read_but_never_break) {
    char *line = calloc(1, 100000);
    struct model *m;
    memset(line, 'x', 99999);
    cr_assert(model_open(&m, line, mnist, 10) == STATUS_BAD_CONFIG);
    cr_assert(strstr(fail_message(), "too long"), "%s", fail_message());
    line[0] = 0;
    for (int i = 0; i < 4094; i++) memcpy(line + 6 * i, "relu, ", 6);
    memcpy(line + 6 * 4094, "dense 10", 9);
    cr_assert(model_open(&m, line, (struct shape){1, 1, 3}, 10) == STATUS_OK, "%s", fail_message());
    model_close(m);
    memcpy(line + 6 * 4094, "relu, dense 10", 15);
    cr_assert(model_open(&m, line, (struct shape){1, 1, 3}, 10) == STATUS_BAD_CONFIG);
    free(line);
}

static float *init_of(const struct model *m, uint32_t seed) {
    float *x = malloc(m->floats * sizeof *x);
    for (size_t i = 0; i < m->floats; i++) x[i] = NAN;
    model_init(m, seed, x);
    return x;
}

/* Mean and variance of n independent normals are within 5 deviations of their own. */
static void normals_check(const float *x, struct range r, double variance) {
    double sum = 0, squares = 0, n = (double)r.n;
    for (size_t i = r.offset; i < r.offset + r.n; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    cr_assert(fabs(sum / n) <= 5 * sqrt(variance / n), "mean %g", sum / n);
    cr_assert(fabs(squares / n / variance - 1) <= 5 * sqrt(2 / n), "variance %g, not %g",
        squares / n, variance);
}

Test(model, weights_are_normal_with_the_layers_variance_and_the_rest_is_zero) {
    struct model *m = open_or_die("mnist_cnn", mnist, 10);
    float *x = init_of(m, 3);
    static const double variance[] = {2.0 / 25, 2.0 / 800, 2.0 / 3136, 1.0 / 512};
    unsigned char *drawn = calloc(1, m->floats);
    for (int i = 0; i < 4; i++) {
        normals_check(x, m->part[2 * i].range, variance[i]);
        memset(drawn + m->part[2 * i].range.offset, 1, m->part[2 * i].range.n);
    }
    for (size_t i = 0; i < m->floats; i++) cr_assert(drawn[i] || x[i] == 0, "%zu", i);
    free(drawn);
    free(x);
    model_close(m);
}

Test(model, a_seed_always_gives_the_same_weights_and_another_gives_others) {
    struct model *m = open_or_die("2nn", mnist, 10), *again = open_or_die("2nn", mnist, 10);
    float *a = init_of(m, 1), *b = init_of(again, 1), *c = init_of(m, 2);
    cr_assert(!memcmp(a, b, m->floats * sizeof *a));
    cr_assert(memcmp(a, c, m->floats * sizeof *a));
    free(a);
    free(b);
    free(c);
    model_close(m);
    model_close(again);
}

Test(model, layers_of_one_shape_start_with_different_weights) {
    struct model *m =
        open_or_die("dense 8, relu, dense 8, relu, dense 8", (struct shape){1, 1, 8}, 8);
    float *x = init_of(m, 1);
    const float *first = x + m->part[0].range.offset, *second = x + m->part[2].range.offset;
    for (int i = 0; i < 64; i++) cr_assert(first[i] != second[i], "%d", i);
    free(x);
    model_close(m);
}

Test(model, describe_names_layers_and_parameters_and_fits_any_room) {
    char text[4096], room[80];
    struct model *m = open_or_die("mnist_cnn", mnist, 10);
    model_describe(m, text, sizeof text);
    cr_assert(strstr(text, "conv 64 5 same") && strstr(text, "51264"), "%s", text);
    cr_assert(strstr(text, "1663370"), "%s", text);
    memset(room, 'z', sizeof room);
    for (size_t n = 0; n < 64; n++) {
        model_describe(m, room, n);
        cr_assert(n == 0 || strlen(room) <= n - 1);
        cr_assert(room[n] == 'z');
    }
    model_close(m);
}
