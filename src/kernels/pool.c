/* pool.c -- maxpool_forward, maxpool_backward, and the same of avgpool and globalavgpool. */
#include <string.h>

#include "host.h"

/* n <= LANES channels of one window: x is its first pixel, `row` the floats of an image's row and c
 * those of a pixel. A NaN is larger than all, so that it is passed on. */
static inline void window_max(
    float *y, uint8_t *where, const float *x, int size, size_t row, size_t c, size_t n) {
    lanes best = lanes_read(x, n);
    int_lanes place = {0};
    for (int i = 0; i < size; i++) {
        for (int j = 0; j < size; j++) {
            lanes v = lanes_read(x + (size_t)i * row + (size_t)j * c, n);
            int_lanes more = ~(v <= best) & (best == best);
            best = (lanes)((more & (int_lanes)v) | (~more & (int_lanes)best));
            place = (more & (i * size + j)) | (~more & place);
        }
    }
    byte_lanes bytes = __builtin_convertvector(place, byte_lanes);
    lanes_write(y, best, n);
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
            for (size_t k = 0; k < c; k += LANES) {
                size_t n = c - k < LANES ? c - k : LANES, out = r * out_row + j * c + k;
                const float *first = at + j * step + k;
                if (n == LANES) { /* said apart, so that the copies are one instruction each */
                    window_max(y + out, where + out, first, s->size, row, c, LANES);
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

/* Is every pixel in exactly one window? */
static int is_tiled(const struct pool_shape *s) {
    return s->stride == s->size && s->out_h * s->size == s->h && s->out_w * s->size == s->w;
}

/* n <= LANES channels of one window: adds, or where no other window reaches there, writes. */
static inline void window_grad(float *dx, const float *dy, const uint8_t *where, int add, int size,
    size_t row, size_t c, size_t n) {
    lanes d = lanes_read(dy, n);
    byte_lanes bytes = {0};
    memcpy(&bytes, where, n);
    int_lanes places = __builtin_convertvector(bytes, int_lanes);
    for (int i = 0; i < size; i++) {
        for (int j = 0; j < size; j++) {
            float *at = dx + (size_t)i * row + (size_t)j * c;
            lanes v = (lanes)((places == i * size + j) & (int_lanes)d);
            if (add) v += lanes_read(at, n);
            lanes_write(at, v, n);
        }
    }
}

/* Images [from, to). */
static void backward_share(size_t from, size_t to, const struct pool_shape *s, float *dx,
    const float *dy, const uint8_t *where) {
    size_t c = (size_t)s->c, row = (size_t)s->w * c, image = (size_t)s->h * row;
    size_t step = (size_t)s->stride;
    int add = !is_tiled(s);
    for (size_t b = from; b < to; b++) {
        float *at = dx + b * image;
        if (add) memset(at, 0, image * sizeof *at);
        for (size_t i = 0; i < (size_t)s->out_h; i++) {
            for (size_t j = 0; j < (size_t)s->out_w; j++) {
                size_t out = ((b * (size_t)s->out_h + i) * (size_t)s->out_w + j) * c;
                float *first = at + i * step * row + j * step * c;
                for (size_t k = 0; k < c; k += LANES) {
                    size_t n = c - k < LANES ? c - k : LANES, o = out + k;
                    if (n == LANES) { /* said apart, as in forward_share */
                        window_grad(first + k, dy + o, where + o, add, s->size, row, c, LANES);
                    } else {
                        window_grad(first + k, dy + o, where + o, add, s->size, row, c, n);
                    }
                }
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

/* ---- means ---- */

static inline void row_add(float *restrict to, const float *restrict from, float scale, size_t n) {
#pragma omp simd
    for (size_t j = 0; j < n; j++) to[j] += scale * from[j];
}

/* Rows [from, to) of the outputs of all images. */
static void average_share(
    size_t from, size_t to, const struct pool_shape *s, float *y, const float *x) {
    size_t c = (size_t)s->c, row = (size_t)s->w * c, out_row = (size_t)s->out_w * c;
    float scale = 1 / ((float)s->size * (float)s->size);
    for (size_t r = from; r < to; r++) {
        size_t image = r / (size_t)s->out_h, top = r % (size_t)s->out_h * (size_t)s->stride;
        const float *at = x + (image * (size_t)s->h + top) * row;
        memset(y + r * out_row, 0, out_row * sizeof *y);
        for (int place = 0; place < s->size * s->size; place++) {
            size_t i = (size_t)(place / s->size), k = (size_t)(place % s->size);
            for (size_t j = 0; j < (size_t)s->out_w; j++) {
                const float *pixel = at + i * row + (j * (size_t)s->stride + k) * c;
                row_add(y + r * out_row + j * c, pixel, scale, c);
            }
        }
    }
}

static void windows_check(const struct pool_shape *s) {
    ASSERT(s->size >= 1 && s->stride >= 1);
    ASSERT((s->out_h - 1) * s->stride + s->size <= s->h);
    ASSERT((s->out_w - 1) * s->stride + s->size <= s->w);
}

void host_avgpool_forward(struct stream *q, const struct pool_shape *s, float *y, const float *x) {
    if (q->failed != STATUS_OK) return;
    windows_check(s);
    size_t rows = (size_t)s->batch * (size_t)s->out_h;
    SHARE(
        q, rows, 1, rows * (size_t)s->stride * (size_t)s->w * (size_t)s->c, average_share, s, y, x);
}

static inline void row_scale(float *restrict to, const float *restrict from, float a, size_t n) {
#pragma omp simd
    for (size_t j = 0; j < n; j++) to[j] = a * from[j];
}

/* Images [from, to). */
static void spread_share(
    size_t from, size_t to, const struct pool_shape *s, float *dx, const float *dy) {
    size_t c = (size_t)s->c, row = (size_t)s->w * c, image = (size_t)s->h * row;
    size_t step = (size_t)s->stride, outs = (size_t)s->out_h * (size_t)s->out_w;
    int add = !is_tiled(s);
    float scale = 1 / ((float)s->size * (float)s->size);
    for (size_t b = from; b < to; b++) {
        float *at = dx + b * image;
        if (add) memset(at, 0, image * sizeof *at);
        for (size_t o = 0; o < outs; o++) {
            size_t top = o / (size_t)s->out_w * step, left = o % (size_t)s->out_w * step;
            const float *d = dy + (b * outs + o) * c;
            for (size_t i = top; i < top + (size_t)s->size; i++) {
                for (size_t j = left; j < left + (size_t)s->size; j++) {
                    if (add) {
                        row_add(at + i * row + j * c, d, scale, c);
                    } else {
                        row_scale(at + i * row + j * c, d, scale, c);
                    }
                }
            }
        }
    }
}

void host_avgpool_backward(
    struct stream *q, const struct pool_shape *s, float *dx, const float *dy) {
    if (q->failed != STATUS_OK) return;
    windows_check(s);
    size_t floats = (size_t)s->batch * (size_t)s->h * (size_t)s->w * (size_t)s->c;
    SHARE(q, (size_t)s->batch, 1, floats, spread_share, s, dx, dy);
}

static void images_mean(size_t from, size_t to, float *y, const float *x, size_t pixels, size_t c) {
    for (size_t b = from; b < to; b++) {
        memset(y + b * c, 0, c * sizeof *y);
        for (size_t i = 0; i < pixels; i++) row_add(y + b * c, x + (b * pixels + i) * c, 1, c);
        for (size_t j = 0; j < c; j++) y[b * c + j] /= (float)pixels;
    }
}

void host_globalavgpool_forward(
    struct stream *q, float *y, const float *x, int batch, size_t pixels, int c) {
    if (q->failed != STATUS_OK) return;
    size_t B = (size_t)batch;
    SHARE(q, B, 1, B * pixels * (size_t)c, images_mean, y, x, pixels, (size_t)c);
}

static void images_spread(
    size_t from, size_t to, float *dx, const float *dy, size_t pixels, size_t c) {
    for (size_t b = from; b < to; b++) {
        for (size_t i = 0; i < pixels; i++) {
            float *at = dx + (b * pixels + i) * c;
            for (size_t j = 0; j < c; j++) at[j] = dy[b * c + j] / (float)pixels;
        }
    }
}

void host_globalavgpool_backward(
    struct stream *q, float *dx, const float *dy, int batch, size_t pixels, int c) {
    if (q->failed != STATUS_OK) return;
    size_t B = (size_t)batch;
    SHARE(q, B, 1, B * pixels * (size_t)c, images_spread, dx, dy, pixels, (size_t)c);
}
