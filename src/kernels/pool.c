/* pool.c -- maxpool_forward, maxpool_backward. */
#include <string.h>

#include "host.h"

/* 16 channels as one value: gcc does not vectorise the loop over channels by itself. */
typedef float line_of_floats __attribute__((vector_size(4 * LINE)));
typedef int32_t line_of_ints __attribute__((vector_size(4 * LINE)));
typedef uint8_t line_of_bytes __attribute__((vector_size(LINE)));

/* n <= LINE channels of one window: x is its first pixel, `row` the floats of an image's row and c
 * those of a pixel. A NaN is larger than all, so that it is passed on. */
static inline void window_max(
    float *y, uint8_t *where, const float *x, int size, size_t row, size_t c, size_t n) {
    line_of_floats best = {0}, v = {0};
    line_of_ints place = {0};
    memcpy(&best, x, n * sizeof *x);
    for (int i = 0; i < size; i++) {
        for (int j = 0; j < size; j++) {
            memcpy(&v, x + (size_t)i * row + (size_t)j * c, n * sizeof *x);
            line_of_ints more = (v > best) | ((v != v) & (best == best));
            best = (line_of_floats)((more & (line_of_ints)v) | (~more & (line_of_ints)best));
            place = (more & (i * size + j)) | (~more & place);
        }
    }
    line_of_bytes bytes = __builtin_convertvector(place, line_of_bytes);
    memcpy(y, &best, n * sizeof *y);
    memcpy(where, &bytes, n);
}

/* Rows [from, to) of the outputs of all images. */
static void forward_share(
    size_t from, size_t to, const struct pool_shape *s, float *y, uint8_t *where, const float *x) {
    size_t c = (size_t)s->c, row = (size_t)s->w * c, out_row = (size_t)s->out_w * c;
    size_t step = (size_t)s->stride * c;
    for (size_t r = from; r < to; r++) {
        size_t image = r / (size_t)s->out_h, top = r % (size_t)s->out_h * (size_t)s->stride;
        const float *at = x + (image * (size_t)s->h + top) * row;
        for (size_t j = 0; j < (size_t)s->out_w; j++) {
            for (size_t k = 0; k < c; k += LINE) {
                size_t n = c - k < LINE ? c - k : LINE, out = r * out_row + j * c + k;
                const float *first = at + j * step + k;
                if (n == LINE) { /* said apart, so that the copies are one instruction each */
                    window_max(y + out, where + out, first, s->size, row, c, LINE);
                } else {
                    window_max(y + out, where + out, first, s->size, row, c, n);
                }
            }
        }
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
        for (size_t i = 0; i < (size_t)s->out_h; i++) {
            for (size_t j = 0; j < (size_t)s->out_w; j++) {
                size_t out = ((b * (size_t)s->out_h + i) * (size_t)s->out_w + j) * c;
                window_grad(at + i * step * row + j * step * c, dy + out, where + out, !tiled,
                    s->size, row, c);
            }
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
