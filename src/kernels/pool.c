/* pool.c -- maxpool_forward, maxpool_backward. */
#include <string.h>

#include "host.h"

/* One window, all channels: x is its first pixel, `row` the floats of an image's row. A NaN is
 * larger than all, so that it is passed on. */
static void window_max(
    float *restrict y, uint8_t *restrict where, const float *x, int size, size_t row, size_t c) {
    memcpy(y, x, c * sizeof *y);
    memset(where, 0, c);
    for (int place = 1; place < size * size; place++) {
        const float *at = x + (size_t)(place / size) * row + (size_t)(place % size) * c;
#pragma omp simd
        for (size_t j = 0; j < c; j++) {
            int more = (at[j] > y[j]) | ((at[j] != at[j]) & (y[j] == y[j]));
            y[j] = more ? at[j] : y[j];
            where[j] = more ? (uint8_t)place : where[j];
        }
    }
}

/* Rows [from, to) of the outputs of all images. */
static void forward_share(
    size_t from, size_t to, const struct pool_shape *s, float *y, uint8_t *where, const float *x) {
    size_t c = (size_t)s->c, row = (size_t)s->w * c, out_row = (size_t)s->out_w * c;
    size_t step = (size_t)s->stride * c;
    for (size_t r = from; r < to; r++) {
        size_t image = r / (size_t)s->out_h, top = r % (size_t)s->out_h * (size_t)s->stride;
        const float *at = x + (image * (size_t)s->h + top) * row;
        for (size_t j = 0; j < (size_t)s->out_w; j++)
            window_max(y + r * out_row + j * c, where + r * out_row + j * c, at + j * step, s->size,
                row, c);
    }
}

static void shape_check(const struct pool_shape *s) {
    ASSERT(s->size >= 1 && s->size <= 16 && s->stride >= 1);
    ASSERT((s->out_h - 1) * s->stride + s->size <= s->h);
    ASSERT((s->out_w - 1) * s->stride + s->size <= s->w);
}

void host_maxpool_forward(
    struct stream *q, const struct pool_shape *s, float *y, uint8_t *where, const float *x) {
    if (q->failed != STATUS_OK) return;
    shape_check(s);
    size_t rows = (size_t)s->batch * (size_t)s->out_h;
    SHARE(q, rows, 1, rows * (size_t)s->stride * (size_t)s->w * (size_t)s->c, forward_share, s, y,
        where, x);
}

/* One window, all channels: adds, or where no other window reaches there, writes. */
static void window_grad(float *restrict dx, const float *restrict dy, const uint8_t *restrict where,
    int add, int size, size_t row, size_t c) {
    for (int place = 0; place < size * size; place++) {
        float *at = dx + (size_t)(place / size) * row + (size_t)(place % size) * c;
        if (add) {
#pragma omp simd
            for (size_t j = 0; j < c; j++) at[j] += where[j] == place ? dy[j] : 0;
        } else {
#pragma omp simd
            for (size_t j = 0; j < c; j++) at[j] = where[j] == place ? dy[j] : 0;
        }
    }
}

/* Images [from, to). */
static void backward_share(size_t from, size_t to, const struct pool_shape *s, float *dx,
    const float *dy, const uint8_t *where) {
    size_t c = (size_t)s->c, row = (size_t)s->w * c, image = (size_t)s->h * row;
    size_t step = (size_t)s->stride;
    int tiled = s->stride == s->size && s->out_h * s->size == s->h && s->out_w * s->size == s->w;
    for (size_t b = from; b < to; b++) {
        float *at = dx + b * image;
        if (!tiled) memset(at, 0, image * sizeof *at);
        for (size_t i = 0; i < (size_t)s->out_h; i++)
            for (size_t j = 0; j < (size_t)s->out_w; j++) {
                size_t out = ((b * (size_t)s->out_h + i) * (size_t)s->out_w + j) * c;
                window_grad(at + i * step * row + j * step * c, dy + out, where + out, !tiled,
                    s->size, row, c);
            }
    }
}

void host_maxpool_backward(struct stream *q, const struct pool_shape *s, float *dx, const float *dy,
    const uint8_t *where) {
    if (q->failed != STATUS_OK) return;
    shape_check(s);
    size_t floats = (size_t)s->batch * (size_t)s->h * (size_t)s->w * (size_t)s->c;
    SHARE(q, (size_t)s->batch, 1, floats, backward_share, s, dx, dy, where);
}
