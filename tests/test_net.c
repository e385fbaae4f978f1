#include "nn/net.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "guard.h"
#include "nn/layer.h"

TestSuite(net, .timeout = 120);

/* ---- the oracle: forward in double, from the definitions, and gradients by differences ---- */

enum ref_kind { REF_END, CONV, POOL, AVERAGE, RELU, TANH, SIGMOID, DROP, DENSE, NORM, OPEN, CLOSE };

/* position is the layer's in the line: it names the parameters and the mask. An AVERAGE of size 0
 * is that of the whole image. A CLOSE is at its OPEN's position; it has n channels where there is a
 * convolution on the shortcut. */
struct ref_layer {
    enum ref_kind kind;
    int position, n, size, stride, same;
    double rate;
};

struct ref_case {
    const char *line;
    struct shape in;
    int classes, step; /* of dropout; -1: not in training */
    struct ref_layer layer[24];
};

static const struct ref_case cases[] = {
    {"dense 7, tanh, dense 5, relu, dense 3", {1, 1, 6}, 3, -1,
        {{DENSE, 1, 7, 0, 0, 0, 0}, {TANH, 2, 0, 0, 0, 0, 0}, {DENSE, 3, 5, 0, 0, 0, 0},
            {RELU, 4, 0, 0, 0, 0, 0}, {DENSE, 5, 3, 0, 0, 0, 0}}},
    {"conv 4 3, relu, conv 3 3 stride 2 same, tanh, dense 4", {7, 6, 2}, 4, -1,
        {{CONV, 1, 4, 3, 1, 0, 0}, {RELU, 2, 0, 0, 0, 0, 0}, {CONV, 3, 3, 3, 2, 1, 0},
            {TANH, 4, 0, 0, 0, 0, 0}, {DENSE, 5, 4, 0, 0, 0, 0}}},
    {"conv 5 3 same, relu, maxpool 3 stride 2, conv 4 2 stride 2 valid, flatten, relu, dense 5",
        {9, 8, 1}, 5, -1,
        {{CONV, 1, 5, 3, 1, 1, 0}, {RELU, 2, 0, 0, 0, 0, 0}, {POOL, 3, 0, 3, 2, 0, 0},
            {CONV, 4, 4, 2, 2, 0, 0}, {RELU, 6, 0, 0, 0, 0, 0}, {DENSE, 7, 5, 0, 0, 0, 0}}},
    {"dropout 0.3, dense 8, relu, dropout 0.5, dense 4", {2, 3, 2}, 4, 17,
        {{DROP, 1, 0, 0, 0, 0, 0.3}, {DENSE, 2, 8, 0, 0, 0, 0}, {RELU, 3, 0, 0, 0, 0, 0},
            {DROP, 4, 0, 0, 0, 0, 0.5}, {DENSE, 5, 4, 0, 0, 0, 0}}},
    {"dropout 0.3, dense 8, relu, dropout 0.5, dense 4", {2, 3, 2}, 4, -1,
        {{DENSE, 2, 8, 0, 0, 0, 0}, {RELU, 3, 0, 0, 0, 0, 0}, {DENSE, 5, 4, 0, 0, 0, 0}}},
    {"flatten, tanh, dense 6, dense 3, tanh, flatten", {2, 2, 3}, 3, -1,
        {{TANH, 2, 0, 0, 0, 0, 0}, {DENSE, 3, 6, 0, 0, 0, 0}, {DENSE, 4, 3, 0, 0, 0, 0},
            {TANH, 5, 0, 0, 0, 0, 0}}},
    {"relu, conv 3 4 stride 3 same, maxpool 2 stride 1, tanh, dense 3", {7, 8, 3}, 3, -1,
        {{RELU, 1, 0, 0, 0, 0, 0}, {CONV, 2, 3, 4, 3, 1, 0}, {POOL, 3, 0, 2, 1, 0, 0},
            {TANH, 4, 0, 0, 0, 0, 0}, {DENSE, 5, 3, 0, 0, 0, 0}}},
    {"maxpool 2, conv 17 2, tanh, conv 3 1, dropout 0.2", {5, 4, 2}, 3, 4,
        {{POOL, 1, 0, 2, 2, 0, 0}, {CONV, 2, 17, 2, 1, 0, 0}, {TANH, 3, 0, 0, 0, 0, 0},
            {CONV, 4, 3, 1, 1, 0, 0}, {DROP, 5, 0, 0, 0, 0, 0.2}}},
    {"conv 3 3, sigmoid, avgpool 2, conv 5 2 same, sigmoid, globalavgpool, dense 4, sigmoid",
        {8, 7, 2}, 4, -1,
        {{CONV, 1, 3, 3, 1, 0, 0}, {SIGMOID, 2, 0, 0, 0, 0, 0}, {AVERAGE, 3, 0, 2, 2, 0, 0},
            {CONV, 4, 5, 2, 1, 1, 0}, {SIGMOID, 5, 0, 0, 0, 0, 0}, {AVERAGE, 6, 0, 0, 0, 0, 0},
            {DENSE, 7, 4, 0, 0, 0, 0}, {SIGMOID, 8, 0, 0, 0, 0, 0}}},
    {"globalavgpool, sigmoid, dense 3", {5, 3, 4}, 3, -1,
        {{AVERAGE, 1, 0, 0, 0, 0, 0}, {SIGMOID, 2, 0, 0, 0, 0, 0}, {DENSE, 3, 3, 0, 0, 0, 0}}},
    {"avgpool 3 stride 2, tanh, dense 3", {8, 7, 3}, 3, -1,
        {{AVERAGE, 1, 0, 3, 2, 0, 0}, {TANH, 2, 0, 0, 0, 0, 0}, {DENSE, 3, 3, 0, 0, 0, 0}}},
    {"conv 4 3 same, relu, residual ( conv 4 3 same, relu, conv 4 3 same ), relu, dense 3",
        {5, 6, 2}, 3, -1,
        {{CONV, 1, 4, 3, 1, 1, 0}, {RELU, 2, 0, 0, 0, 0, 0}, {OPEN, 3, 0, 0, 0, 0, 0},
            {CONV, 4, 4, 3, 1, 1, 0}, {RELU, 5, 0, 0, 0, 0, 0}, {CONV, 6, 4, 3, 1, 1, 0},
            {CLOSE, 3, 0, 0, 0, 0, 0}, {RELU, 7, 0, 0, 0, 0, 0}, {DENSE, 8, 3, 0, 0, 0, 0}}},
    {"residual(conv 5 3 stride 2 same, tanh, conv 5 3 same), tanh, residual(tanh, dense 5),dense 4",
        {7, 6, 2}, 4, -1,
        {{OPEN, 1, 0, 0, 0, 0, 0}, {CONV, 2, 5, 3, 2, 1, 0}, {TANH, 3, 0, 0, 0, 0, 0},
            {CONV, 4, 5, 3, 1, 1, 0}, {CLOSE, 1, 5, 1, 2, 0, 0}, {TANH, 5, 0, 0, 0, 0, 0},
            {OPEN, 6, 0, 0, 0, 0, 0}, {TANH, 7, 0, 0, 0, 0, 0}, {DENSE, 8, 5, 0, 0, 0, 0},
            {CLOSE, 6, 5, 1, 4, 0, 0}, {DENSE, 9, 4, 0, 0, 0, 0}}},
    {"residual ( tanh, dense 6 ), residual (sigmoid), residual (dense 3)", {1, 1, 6}, 3, -1,
        {{OPEN, 1, 0, 0, 0, 0, 0}, {TANH, 2, 0, 0, 0, 0, 0}, {DENSE, 3, 6, 0, 0, 0, 0},
            {CLOSE, 1, 0, 0, 0, 0, 0}, {OPEN, 4, 0, 0, 0, 0, 0}, {SIGMOID, 5, 0, 0, 0, 0, 0},
            {CLOSE, 4, 0, 0, 0, 0, 0}, {OPEN, 6, 0, 0, 0, 0, 0}, {DENSE, 7, 3, 0, 0, 0, 0},
            {CLOSE, 6, 3, 1, 1, 0, 0}}},
    {"residual (avgpool 2), sigmoid, dropout 0.3, residual (dropout 0.2), flatten, dense 3",
        {6, 4, 2}, 3, 5,
        {{OPEN, 1, 0, 0, 0, 0, 0}, {AVERAGE, 2, 0, 2, 2, 0, 0}, {CLOSE, 1, 2, 1, 2, 0, 0},
            {SIGMOID, 3, 0, 0, 0, 0, 0}, {DROP, 4, 0, 0, 0, 0, 0.3}, {OPEN, 5, 0, 0, 0, 0, 0},
            {DROP, 6, 0, 0, 0, 0, 0.2}, {CLOSE, 5, 0, 0, 0, 0, 0}, {DENSE, 8, 3, 0, 0, 0, 0}}},
    {"conv 4 3 nobias, batchnorm, relu, batchnorm, tanh, dense 3", {5, 6, 2}, 3, 1,
        {{CONV, 1, 4, 3, 1, 0, 0}, {NORM, 2, 0, 0, 0, 0, 0}, {RELU, 3, 0, 0, 0, 0, 0},
            {NORM, 4, 0, 0, 0, 0, 0}, {TANH, 5, 0, 0, 0, 0, 0}, {DENSE, 6, 3, 0, 0, 0, 0}}},
    {"batchnorm, conv 17 3 stride 2 same nobias, relu, batchnorm, sigmoid, globalavgpool, dense 3",
        {5, 6, 2}, 3, -1,
        {{NORM, 1, 0, 0, 0, 0, 0}, {CONV, 2, 17, 3, 2, 1, 0}, {RELU, 3, 0, 0, 0, 0, 0},
            {NORM, 4, 0, 0, 0, 0, 0}, {SIGMOID, 5, 0, 0, 0, 0, 0}, {AVERAGE, 6, 0, 0, 0, 0, 0},
            {DENSE, 7, 3, 0, 0, 0, 0}}},
    {"conv 3 3 same nobias, batchnorm, relu, residual ( conv 3 3 same nobias, batchnorm, relu, "
     "conv "
     "3 3 same nobias, batchnorm ), relu, residual ( conv 5 3 stride 2 same nobias, batchnorm, "
     "tanh ), tanh, globalavgpool, dense 3",
        {5, 4, 2}, 3, 2,
        {{CONV, 1, 3, 3, 1, 1, 0}, {NORM, 2, 0, 0, 0, 0, 0}, {RELU, 3, 0, 0, 0, 0, 0},
            {OPEN, 4, 0, 0, 0, 0, 0}, {CONV, 5, 3, 3, 1, 1, 0}, {NORM, 6, 0, 0, 0, 0, 0},
            {RELU, 7, 0, 0, 0, 0, 0}, {CONV, 8, 3, 3, 1, 1, 0}, {NORM, 9, 0, 0, 0, 0, 0},
            {CLOSE, 4, 0, 0, 0, 0, 0}, {RELU, 10, 0, 0, 0, 0, 0}, {OPEN, 11, 0, 0, 0, 0, 0},
            {CONV, 12, 5, 3, 2, 1, 0}, {NORM, 13, 0, 0, 0, 0, 0}, {TANH, 14, 0, 0, 0, 0, 0},
            {CLOSE, 11, 5, 1, 2, 0, 0}, {TANH, 15, 0, 0, 0, 0, 0}, {AVERAGE, 16, 0, 0, 0, 0, 0},
            {DENSE, 17, 3, 0, 0, 0, 0}}},
    {"digits_cnn", {8, 8, 1}, 10, -1,
        {{CONV, 1, 16, 3, 1, 1, 0}, {RELU, 2, 0, 0, 0, 0, 0}, {CONV, 3, 32, 3, 1, 1, 0},
            {RELU, 4, 0, 0, 0, 0, 0}, {POOL, 5, 0, 2, 2, 0, 0}, {DENSE, 7, 64, 0, 0, 0, 0},
            {RELU, 8, 0, 0, 0, 0, 0}, {DENSE, 9, 10, 0, 0, 0, 0}}},
};
enum { CASES = sizeof cases / sizeof *cases, ROOM = 4096, B = 3, SEED = 11, RANK = 2 };

/* The batch between two layers. */
struct room {
    double at[B][ROOM];
};

/* What the oracle works on; after: the buffers when training has seen the batch; kink is how near it came to a place without a derivative. */
struct ref {
    const struct ref_case *c;
    const struct model *m;
    double *x, *in;    /* parameters in the model's order, samples */
    double *b, *after; /* buffers */
    int label[B];
    double kink;
    double logits[B][16];
};

static const double *ref_part(
    const struct ref *r, int position, const char *kind, const char *what) {
    char name[32];
    snprintf(name, sizeof name, "%d.%s.%s", position, kind, what);
    for (int i = 0; i < r->m->parts; i++)
        if (!strcmp(r->m->part[i].name, name)) return r->x + r->m->part[i].range.offset;
    return NULL;
}

/* The offset in b. */
static size_t ref_buffer(const struct ref *r, int position, const char *kind, const char *what) {
    char name[40];
    snprintf(name, sizeof name, "%d.%s.%s", position, kind, what);
    for (int i = 0; i < r->m->buffer_parts; i++)
        if (!strcmp(r->m->buffer[i].name, name)) return r->m->buffer[i].range.offset;
    abort();
}

static void ref_conv(const struct ref *r, const struct ref_layer *l, struct shape in,
    struct shape *out, const double *x, double *y) {
    const char *kind = l->kind == CLOSE ? "shortcut.conv" : "conv";
    const double *w = ref_part(r, l->position, kind, "weight");
    const double *bias = ref_part(r, l->position, kind, "bias");
    int s = l->stride, k = l->size;
    out->h = l->same ? (in.h + s - 1) / s : (in.h - k) / s + 1;
    out->w = l->same ? (in.w + s - 1) / s : (in.w - k) / s + 1;
    out->c = l->n;
    int over_h = (out->h - 1) * s + k - in.h, over_w = (out->w - 1) * s + k - in.w;
    int top = l->same && over_h > 0 ? over_h / 2 : 0, left = l->same && over_w > 0 ? over_w / 2 : 0;
    for (int i = 0; i < out->h; i++)
        for (int j = 0; j < out->w; j++)
            for (int o = 0; o < out->c; o++) {
                double sum = bias ? bias[o] : 0;
                for (int u = 0; u < k * k * in.c; u++) {
                    int row = i * s - top + u / in.c / k, column = j * s - left + u / in.c % k;
                    if (row < 0 || row >= in.h || column < 0 || column >= in.w) continue;
                    sum += w[u * out->c + o] * x[(row * in.w + column) * in.c + u % in.c];
                }
                y[(i * out->w + j) * out->c + o] = sum;
            }
}

static void ref_pool(struct ref *r, const struct ref_layer *l, struct shape in, struct shape *out,
    const double *x, double *y) {
    *out = (struct shape){(in.h - l->size) / l->stride + 1, (in.w - l->size) / l->stride + 1, in.c};
    for (int i = 0; i < out->h; i++)
        for (int j = 0; j < out->w; j++)
            for (int c = 0; c < in.c; c++) {
                double best = -HUGE_VAL, second = -HUGE_VAL;
                for (int u = 0; u < l->size * l->size; u++) {
                    int row = i * l->stride + u / l->size, column = j * l->stride + u % l->size;
                    double v = x[(row * in.w + column) * in.c + c];
                    second = v > best ? best : fmax(second, v);
                    best = fmax(v, best);
                }
                /* Equal zeros come from a relu, far from its own kink: they do not matter. */
                if (best != 0 || second != 0) r->kink = fmin(r->kink, best - second);
                y[(i * out->w + j) * out->c + c] = best;
            }
}

static void ref_average(
    const struct ref_layer *l, struct shape in, struct shape *out, const double *x, double *y) {
    int rows = l->size ? l->size : in.h, columns = l->size ? l->size : in.w;
    int step = l->size ? l->stride : 1;
    *out = (struct shape){(in.h - rows) / step + 1, (in.w - columns) / step + 1, in.c};
    for (int o = 0; o < out->h * out->w * in.c; o++) {
        int top = o / in.c / out->w * step, left = o / in.c % out->w * step;
        y[o] = 0;
        for (int u = 0; u < rows * columns; u++) {
            int at = (top + u / columns) * in.w + left + u % columns;
            y[o] += x[at * in.c + o % in.c] / (rows * columns);
        }
    }
}

static void ref_dense(const struct ref *r, const struct ref_layer *l, struct shape in,
    struct shape *out, const double *x, double *y) {
    const double *w = ref_part(r, l->position, "dense", "weight");
    const double *bias = ref_part(r, l->position, "dense", "bias");
    int inputs = in.h * in.w * in.c;
    *out = (struct shape){1, 1, l->n};
    for (int o = 0; o < l->n; o++) {
        y[o] = bias[o];
        for (int i = 0; i < inputs; i++) y[o] += w[o * inputs + i] * x[i];
    }
}

static void ref_values(
    struct ref *r, const struct ref_layer *l, int b, int n, const double *x, double *y) {
    const struct rng_key key = {
        SEED ^ (uint32_t)r->c->step, RNG_DROPOUT, (uint32_t)(RANK * 4096 + l->position)};
    for (int i = 0; i < n; i++) {
        if (l->kind == RELU) r->kink = fmin(r->kink, fabs(x[i]));
        if (l->kind == RELU) y[i] = x[i] > 0 ? x[i] : 0;
        if (l->kind == TANH) y[i] = tanh(x[i]);
        if (l->kind == SIGMOID) y[i] = (1 + tanh(x[i] / 2)) / 2;
        if (l->kind != DROP) continue;
        double unit = (double)rng_word(key, (uint64_t)(b * n + i)) / 4294967296.0;
        y[i] = unit < (double)(1 - (float)l->rate) ? x[i] / (1 - l->rate) : 0;
    }
}

/* Mean and variance of channel c over the batch in training, else what the buffers say. */
static void ref_norm_channel(struct ref *r, size_t at_mean, size_t at_var, int pixels, int c,
    int of, const struct room *x, double *mean, double *var) {
    double n = B * pixels;
    *mean = r->b[at_mean + (size_t)c];
    *var = r->b[at_var + (size_t)c];
    if (r->c->step < 0) return;
    *mean = *var = 0;
    for (int i = 0; i < B * pixels; i++) *mean += x->at[i / pixels][i % pixels * of + c] / n;
    for (int i = 0; i < B * pixels; i++) {
        double d = x->at[i / pixels][i % pixels * of + c] - *mean;
        *var += d * d / n;
    }
    r->after[at_mean + (size_t)c] = 0.9 * r->b[at_mean + (size_t)c] + 0.1 * *mean;
    r->after[at_var + (size_t)c] = 0.9 * r->b[at_var + (size_t)c] + 0.1 * *var * n / (n - 1);
}

static void ref_norm(struct ref *r, int position, const char *kind, struct shape in,
    const struct room *x, struct room *y) {
    const double *w = ref_part(r, position, kind, "weight");
    const double *bias = ref_part(r, position, kind, "bias");
    size_t at_mean = ref_buffer(r, position, kind, "mean");
    size_t at_var = ref_buffer(r, position, kind, "var");
    int pixels = in.h * in.w;
    for (int c = 0; c < in.c; c++) {
        double mean, var;
        ref_norm_channel(r, at_mean, at_var, pixels, c, in.c, x, &mean, &var);
        for (int i = 0; i < B * pixels; i++) {
            int at = i % pixels * in.c + c;
            double hat = (x->at[i / pixels][at] - mean) / sqrt(var + 1e-5);
            y->at[i / pixels][at] = w[c] * hat + bias[c];
        }
    }
}

/* y <- x, which the body gave, and what went past the body; from: the shape of that. */
static void ref_close(struct ref *r, const struct ref_layer *l, struct shape out, struct shape from,
    const struct room *x, const struct room *past, struct room *y) {
    static struct room room[2];
    struct shape made = from;
    const struct room *side = past;
    for (int b = 0; l->n && b < B; b++) ref_conv(r, l, from, &made, past->at[b], room[0].at[b]);
    if (l->n) side = &room[0];
    if (ref_part(r, l->position, "shortcut.batchnorm", "weight")) {
        ref_norm(r, l->position, "shortcut.batchnorm", made, side, &room[1]);
        side = &room[1];
    }
    cr_assert(made.h == out.h && made.w == out.w && made.c == out.c);
    for (int b = 0; b < B; b++)
        for (int i = 0; i < out.h * out.w * out.c; i++) y->at[b][i] = x->at[b][i] + side->at[b][i];
}

/* One layer on all samples; in <- the shape of what it gives. */
static void ref_layer(
    struct ref *r, const struct ref_layer *l, struct shape *in, struct room *x, struct room *y) {
    static struct room past;
    static struct shape from;
    struct shape out = *in;
    if (l->kind == OPEN) {
        *y = past = *x;
        from = *in;
    }
    if (l->kind == CLOSE) ref_close(r, l, *in, from, x, &past, y);
    if (l->kind == NORM) ref_norm(r, l->position, "batchnorm", *in, x, y);
    if (l->kind == OPEN || l->kind == CLOSE || l->kind == NORM) return;
    for (int b = 0; b < B; b++) {
        if (l->kind == CONV) {
            ref_conv(r, l, *in, &out, x->at[b], y->at[b]);
        } else if (l->kind == POOL) {
            ref_pool(r, l, *in, &out, x->at[b], y->at[b]);
        } else if (l->kind == AVERAGE) {
            ref_average(l, *in, &out, x->at[b], y->at[b]);
        } else if (l->kind == DENSE) {
            ref_dense(r, l, *in, &out, x->at[b], y->at[b]);
        } else {
            ref_values(r, l, b, in->h * in->w * in->c, x->at[b], y->at[b]);
        }
    }
    *in = out;
}

/* The mean loss of the batch; logits are left in r. */
static double ref_loss(struct ref *r) {
    static struct room room[2];
    struct room *x = &room[0], *y = &room[1];
    struct shape in = r->c->in;
    double total = 0;
    r->kink = HUGE_VAL;
    for (int b = 0; b < B; b++)
        memcpy(x->at[b], r->in + (size_t)b * shape_size(in), shape_size(in) * sizeof(double));
    for (const struct ref_layer *l = r->c->layer; l->kind != REF_END; l++) {
        ref_layer(r, l, &in, x, y);
        struct room *swap = x;
        x = y;
        y = swap;
    }
    for (int b = 0; b < B; b++) {
        double sum = 0;
        for (int j = 0; j < r->c->classes; j++) sum += exp(r->logits[b][j] = x->at[b][j]);
        total += (log(sum) - x->at[b][r->label[b]]) / B;
    }
    return total;
}

/* The derivative by *at. The third derivative is of order 1, so the formula's error is 1e-12; the
 * losses' rounding gives 1e-10. */
static double ref_slope(struct ref *r, double *at) {
    const double h = 1e-6, was = *at;
    *at = was + h;
    double above = ref_loss(r);
    *at = was - h;
    double below = ref_loss(r);
    *at = was;
    return (above - below) / (2 * h);
}

/* ---- the net beside it ---- */

struct bench {
    struct ref r;
    struct model *m;
    struct device *d;
    struct stream *q;
    struct net *n;
    struct step step;
    float *x, *in, *g, *din, *dlogits, *b;
    size_t samples; /* floats */
};

/* Parameters, buffers and samples by a seed; biases are not zero, or they would not be tested. */
static void bench_fill(struct bench *b, uint32_t seed) {
    const struct rng_key key = {seed, RNG_NOISE, 1}, other = {seed, RNG_NOISE, 2};
    model_init(b->m, seed, b->x);
    for (int i = 0; i < b->m->parts; i++) {
        struct range part = b->m->part[i].range;
        int scale = strstr(b->m->part[i].name, "batchnorm.weight") != NULL;
        if (!scale && !strstr(b->m->part[i].name, ".bias")) continue;
        rng_normals(other, part.offset, b->x + part.offset, part.n);
        for (size_t j = 0; scale && j < part.n; j++)
            b->x[part.offset + j] = 1 + b->x[part.offset + j] / 4;
    }
    for (size_t i = 0; i < b->m->buffers; i++) {
        b->b[i] = 0.5f + rng_unit(rng_word(other, i));
        b->r.b[i] = (double)b->b[i];
    }
    rng_normals(key, 0, b->in, b->samples);
    for (size_t i = 0; i < b->m->floats; i++) b->r.x[i] = (double)b->x[i];
    for (size_t i = 0; i < b->samples; i++) b->r.in[i] = (double)b->in[i];
}

/* Seeds are tried until no relu and no pool is within 2e-5 of its kink: 20 times the step of the
 * differences. */
static void bench_open(struct bench *b, const struct ref_case *c, int threads) {
    memset(b, 0, sizeof *b);
    cr_assert(model_open(&b->m, c->line, c->in, c->classes) == STATUS_OK, "%s", fail_message());
    cr_assert(device_open(&b->d, &device_host, 0, threads) == STATUS_OK);
    cr_assert(stream_open(&b->q, b->d) == STATUS_OK);
    cr_assert(net_open(&b->n, b->m, b->q, B + 1, SEED, RANK) == STATUS_OK, "%s", fail_message());
    b->samples = B * shape_size(c->in);
    b->x = guard_floats(b->m->floats);
    b->g = guard_floats(b->m->floats);
    b->in = guard_floats(b->samples);
    b->din = guard_floats(b->samples);
    b->dlogits = guard_floats((size_t)(B * c->classes));
    b->r = (struct ref){.c = c, .m = b->m};
    b->r.x = calloc(b->m->floats, sizeof(double));
    b->r.in = calloc(b->samples, sizeof(double));
    b->b = guard_floats(b->m->buffers);
    b->r.b = doubles(b->m->buffers);
    b->r.after = doubles(b->m->buffers);
    for (int i = 0; i < B; i++) b->r.label[i] = (2 * i + 1) % c->classes;
    b->step = (struct step){.rate = 1, .number = (uint32_t)c->step};
    for (uint32_t seed = 1; seed < 200; seed++) {
        bench_fill(b, seed);
        ref_loss(&b->r);
        if (b->r.kink >= 2e-5) return;
    }
    cr_assert(0, "no seed keeps away from the kinks");
}

static void bench_close(struct bench *b) {
    float *const all[] = {b->x, b->g, b->in, b->din, b->dlogits, b->b};
    for (int i = 0; i < 6; i++) guard_free(all[i]);
    free(b->r.x);
    free(b->r.b);
    free(b->r.after);
    free(b->r.in);
    net_close(b->n);
    stream_close(b->q);
    device_close(b->d);
    model_close(b->m);
}

static const float *bench_forward(struct bench *b) {
    return net_forward(b->n, (struct vec){b->x, b->m->floats}, (struct vec){b->b, b->m->buffers},
        b->in, B, b->r.c->step < 0 ? NULL : &b->step);
}

/* dlogits from the oracle's logits: the loss's own gradient is not what is tested here. */
static void bench_backward(struct bench *b, float beta, float *din) {
    int C = b->r.c->classes;
    ref_loss(&b->r);
    for (int i = 0; i < B; i++) {
        double sum = 0;
        for (int j = 0; j < C; j++) sum += exp(b->r.logits[i][j]);
        for (int j = 0; j < C; j++)
            b->dlogits[i * C + j] =
                (float)((exp(b->r.logits[i][j]) / sum - (j == b->r.label[i])) / B);
    }
    net_backward(b->n, (struct vec){b->g, b->m->floats}, beta, b->dlogits, din);
    cr_assert(stream_sync(b->q) == STATUS_OK, "%s", fail_message());
}

/* Inner sums have up to some 500 terms of order 1, a few layers deep: 4 eps sqrt(500) is 1e-5. */
static const double relative = 2e-5, absolute = 2e-6;

Test(net, logits_are_the_oracles) {
    for (int i = 0; i < 2 * CASES; i++) {
        struct bench b;
        double want[B * 16];
        bench_open(&b, &cases[i / 2], i % 2 + 1);
        int C = b.r.c->classes;
        const float *logits = bench_forward(&b);
        for (int j = 0; j < B * C; j++) want[j] = b.r.logits[j / C][j % C];
        check_close(logits, want, (size_t)(B * C), 5 * absolute, relative, "%s", b.r.c->line);
        bench_close(&b);
    }
}

/* After a pass of training; after one of judging the buffers are as they were. */
Test(net, running_statistics_follow_the_batch_in_training_only) {
    int normalized = 0;
    for (int i = 0; i < 2 * CASES; i++) {
        struct bench b;
        bench_open(&b, &cases[i / 2], i % 2 + 1);
        const double *want = b.r.c->step < 0 ? b.r.b : b.r.after;
        ref_loss(&b.r);
        bench_forward(&b);
        for (int p = 0; p < b.m->buffer_parts; p++) {
            struct range r = b.m->buffer[p].range;
            check_close(b.b + r.offset, want + r.offset, r.n, absolute, relative, "%s: %s",
                b.r.c->line, b.m->buffer[p].name);
            normalized++;
        }
        cr_assert(guard_holds(b.b, b.m->buffers));
        bench_close(&b);
    }
    cr_assert(normalized > 0);
}

/* Those of a batch alone are ten times what training moves the running ones by. */
Test(net, statistics_are_those_of_the_batch_alone) {
    for (int i = 0; i < CASES; i++) {
        struct bench b;
        bench_open(&b, &cases[i], 1);
        struct vec alone = {b.b, b.m->buffers};
        ref_loss(&b.r);
        for (size_t j = 0; j < b.m->buffers; j++) b.b[j] = NAN;
        net_statistics(b.n, (struct vec){b.x, b.m->floats}, alone, b.in, B);
        for (int p = 0; b.r.c->step >= 0 && p < b.m->buffer_parts; p++) {
            struct range r = b.m->buffer[p].range;
            for (size_t j = r.offset; j < r.offset + r.n; j++) {
                double want = 10 * b.r.after[j] - 9 * b.r.b[j];
                check_close(b.b + j, &want, 1, 5 * absolute, relative, "%s: %s", b.r.c->line,
                    b.m->buffer[p].name);
            }
        }
        bench_close(&b);
    }
}

static void gradients_check(struct bench *b) {
    size_t every = b->m->parameters > 5000 ? 997 : 1; /* of a large net only some are checked */
    for (int p = 0; p < b->m->parts; p++) {
        struct range r = b->m->part[p].range;
        for (size_t i = r.offset; i < r.offset + r.n; i += every) {
            double want = ref_slope(&b->r, b->r.x + i);
            check_close(b->g + i, &want, 1, absolute, relative, "%s: %s[%zu]", b->r.c->line,
                b->m->part[p].name, i - r.offset);
        }
    }
    for (size_t i = 0; i<b->samples; i += every> 1 ? 7 : 1) {
        double want = ref_slope(&b->r, b->r.in + i);
        check_close(
            b->din + i, &want, 1, absolute, relative, "%s: sample float %zu", b->r.c->line, i);
    }
    cr_assert(guard_holds(b->g, b->m->floats) && guard_holds(b->din, b->samples));
}

Test(net, gradients_are_the_differences_of_the_oracle) {
    for (int i = 0; i < 2 * CASES; i++) {
        struct bench b;
        bench_open(&b, &cases[i / 2], i % 2 + 1);
        bench_forward(&b);
        for (size_t j = 0; j < b.m->floats; j++) b.g[j] = NAN; /* beta 0 must not read it */
        bench_backward(&b, 0, b.din);
        gradients_check(&b);
        bench_close(&b);
    }
}

Test(net, beta_adds_to_the_gradient_and_the_gaps_stay_zero) {
    for (int i = 0; i < CASES; i++) {
        struct bench b;
        bench_open(&b, &cases[i], 1);
        double *want = doubles(b.m->floats);
        memset(b.g, 0, b.m->floats * sizeof *b.g);
        bench_forward(&b);
        bench_backward(&b, 0, NULL);
        for (size_t j = 0; j < b.m->floats; j++) want[j] = 3 * (double)b.g[j];
        bench_backward(&b, 1, NULL);
        bench_backward(&b, 1, NULL);
        check_close(b.g, want, b.m->floats, absolute, relative, "%s", b.r.c->line);
        size_t at = 0;
        for (int p = 0; p <= b.m->parts; p++) {
            size_t to = p < b.m->parts ? b.m->part[p].range.offset : b.m->floats;
            for (; at < to; at++) cr_assert(b.g[at] == 0, "gap %zu", at);
            if (p < b.m->parts) at += b.m->part[p].range.n;
        }
        free(want);
        bench_close(&b);
    }
}

Test(net, the_gradient_is_the_same_whether_or_not_the_samples_is_wanted) {
    for (int i = 0; i < CASES; i++) {
        struct bench b;
        bench_open(&b, &cases[i], 1);
        float *first = malloc(b.m->floats * sizeof *first);
        memset(b.g, 0, b.m->floats * sizeof *b.g);
        bench_forward(&b);
        bench_backward(&b, 0, NULL);
        memcpy(first, b.g, b.m->floats * sizeof *first);
        bench_backward(&b, 0, b.din);
        cr_assert(!memcmp(first, b.g, b.m->floats * sizeof *first), "%s", b.r.c->line);
        free(first);
        bench_close(&b);
    }
}

/* Every layer must have taken from x what it needs before it adds to it. */
Test(net, a_gradient_added_to_x_itself_is_a_step_of_descent) {
    for (int i = 0; i < CASES; i++) {
        struct bench b;
        bench_open(&b, &cases[i], 1);
        double *want = doubles(b.m->floats), *din = doubles(b.samples);
        memset(b.g, 0, b.m->floats * sizeof *b.g);
        bench_forward(&b);
        bench_backward(&b, 0, b.din);
        for (size_t j = 0; j < b.m->floats; j++) want[j] = (double)b.x[j] - 0.25 * (double)b.g[j];
        for (size_t j = 0; j < b.samples; j++) din[j] = -0.25 * (double)b.din[j];
        for (int j = 0; j < B * b.r.c->classes; j++) b.dlogits[j] *= -0.25f;
        net_backward(b.n, (struct vec){b.x, b.m->floats}, 1, b.dlogits, b.din);
        check_close(b.x, want, b.m->floats, absolute, relative, "%s", b.r.c->line);
        check_close(b.din, din, b.samples, absolute, relative, "%s: samples", b.r.c->line);
        free(want);
        free(din);
        bench_close(&b);
    }
}

Test(net, an_empty_batch_has_no_gradient) {
    for (int i = 0; i < CASES; i++) {
        struct bench b;
        bench_open(&b, &cases[i], 2);
        for (size_t j = 0; j < b.m->floats; j++) b.g[j] = 2;
        net_forward(
            b.n, (struct vec){b.x, b.m->floats}, (struct vec){b.b, b.m->buffers}, b.in, 0, NULL);
        net_backward(b.n, (struct vec){b.g, b.m->floats}, 1, b.dlogits, b.din);
        for (size_t j = 0; j < b.m->floats; j++) cr_assert(b.g[j] == 2);
        net_backward(b.n, (struct vec){b.g, b.m->floats}, 0, b.dlogits, b.din);
        for (int p = 0; p < b.m->parts; p++)
            for (size_t j = 0; j < b.m->part[p].range.n; j++)
                cr_assert(b.g[b.m->part[p].range.offset + j] == 0, "%s", b.r.c->line);
        bench_close(&b);
    }
}

Test(net, masks_differ_by_step_by_rank_and_by_layer) {
    struct model *m;
    struct device *d;
    struct stream *q;
    struct net *n[2];
    float x[128 + 4096] = {0}, in[64];
    struct step step = {.rate = 1, .number = 0};
    cr_assert(device_open(&d, &device_host, 0, 1) == STATUS_OK && stream_open(&q, d) == STATUS_OK);
    cr_assert(model_open(&m, "dropout 0.5, dropout 0.5, dense 64", (struct shape){1, 1, 64}, 64) ==
              STATUS_OK);
    for (int r = 0; r < 2; r++) cr_assert(net_open(&n[r], m, q, 1, 1, r) == STATUS_OK);
    for (int i = 0; i < 64; i++) in[i] = 1, x[m->part[0].range.offset + (size_t)(65 * i)] = 1;
    float out[4][64];
    for (int t = 0; t < 4; t++) { /* steps 0, 1 of rank 0; step 0 of rank 1; step 0 again */
        step.number = t == 1;
        const float *logits =
            net_forward(n[t == 2], (struct vec){x, m->floats}, (struct vec){NULL, 0}, in, 1, &step);
        memcpy(out[t], logits, sizeof *out);
    }
    int kept = 0;
    for (int i = 0; i < 64; i++) kept += out[0][i] != 0;
    cr_assert(kept >= 4 && kept <= 30, "%d of 64 passed two masks of a half", kept);
    cr_assert(memcmp(out[0], out[1], sizeof *out) && memcmp(out[0], out[2], sizeof *out));
    cr_assert(!memcmp(out[0], out[3], sizeof *out));
    for (int r = 0; r < 2; r++) net_close(n[r]);
    model_close(m);
    stream_close(q);
    device_close(d);
}

/* ---- replicas side by side: what a layer does for two is what it does for each ---- */

enum { TWO = 2 };

struct side {
    float *x, *g, *in, *out, *dout, *scratch, *din, *space;
    size_t floats, n_in, n_out;
};

static void side_pass(struct stream *q, const struct layer *l, const struct side *s, size_t first,
    int replicas, struct side *to) {
    struct pass p = {.q = q, .batch = B, .replicas = replicas, .stride = s->floats, .train = 1};
    p.x = s->x + first * s->floats;
    p.g = to->g + first * s->floats;
    p.workspace = to->space;
    struct slot slot = {.in = s->in + first * s->n_in,
        .out = to->out + first * s->n_out,
        .dout = s->dout + first * s->n_out,
        .dscratch = to->scratch + first * s->n_out,
        .din = to->din + first * s->n_in};
    l->ops->forward(l, &p, &slot);
    l->ops->backward(l, &p, &slot);
}

static void side_check(const struct layer *l, struct stream *q, size_t floats) {
    struct side s = {
        .floats = floats, .n_in = B * shape_size(l->in), .n_out = B * shape_size(l->out)};
    size_t space = l->ops->workspace ? l->ops->workspace(l, q, B) : 0;
    s.x = guard_ints(TWO * floats, 1, 3);
    s.in = guard_ints(TWO * s.n_in, 2, 3);
    s.dout = guard_ints(TWO * s.n_out, 3, 3);
    struct side to[TWO];
    for (int i = 0; i < TWO; i++) {
        to[i].g = guard_floats(TWO * floats);
        to[i].out = guard_floats(TWO * s.n_out);
        to[i].scratch = guard_floats(TWO * s.n_out);
        to[i].din = guard_floats(TWO * s.n_in);
        to[i].space = guard_floats(space);
    }
    side_pass(q, l, &s, 0, TWO, &to[0]);
    for (size_t r = 0; r < TWO; r++) side_pass(q, l, &s, r, 1, &to[1]);
    cr_assert(!memcmp(to[0].g, to[1].g, TWO * floats * sizeof(float)), "%s", l->ops->name);
    cr_assert(!memcmp(to[0].out, to[1].out, TWO * s.n_out * sizeof(float)), "%s", l->ops->name);
    cr_assert(!memcmp(to[0].din, to[1].din, TWO * s.n_in * sizeof(float)), "%s", l->ops->name);
    cr_assert(guard_holds(to[0].out, TWO * s.n_out) && guard_holds(to[0].din, TWO * s.n_in));
    for (int i = 0; i < TWO; i++) {
        float *const all[] = {to[i].g, to[i].out, to[i].scratch, to[i].din, to[i].space};
        for (int j = 0; j < 5; j++) guard_free(all[j]);
    }
    guard_free(s.x);
    guard_free(s.in);
    guard_free(s.dout);
}

Test(net, two_replicas_of_a_layer_are_computed_as_one_after_the_other) {
    struct model *m;
    struct device *d;
    struct stream *q;
    cr_assert(device_open(&d, &device_host, 0, 2) == STATUS_OK && stream_open(&q, d) == STATUS_OK);
    cr_assert(model_open(&m, "conv 4 3 same, relu, dense 7, relu, dense 3", (struct shape){5, 4, 2},
                  3) == STATUS_OK);
    for (int i = 0; i < m->layers; i++)
        if (!m->layer[i].absorbed) side_check(&m->layer[i], q, m->floats);
    cr_assert(stream_sync(q) == STATUS_OK);
    model_close(m);
    stream_close(q);
    device_close(d);
}
