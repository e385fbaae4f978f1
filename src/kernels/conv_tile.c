/* conv_tile.c -- convolutions without columns: tile_pack, tile_pack_mirrored, tile_forward,
 * tile_grad_weight.
 *
 * A tile is TILE x LINE sums that stay in registers. A sum's factors are floats of the image, at the
 * places of a grid, and lines of LINE channels, packed one behind the other: for an output they are
 * the taps of its window and the weights, for a gradient of the weights the windows' pixels that a
 * tap meets and dz. An image whose windows reach over its border is copied into a frame of zeros.
 */
#include <math.h>
#include <string.h>

#include "host.h"

/* Sums that there are registers for, beside a line and a float. */
#if defined __AVX512F__
enum { TILE = 12 };
#elif defined __AVX__ || defined __aarch64__
enum { TILE = 6 };
#else
enum { TILE = 3 };
#endif

enum {
    BLOCK = 8 * TILE, /* outputs that all channels are worked out for before the next */
    STRIP = 128,      /* outputs whose dz is packed at a time */
    LEAST = 36,       /* outputs of an image below which too few tiles are full */
    NARROW = 32, /* channels up to which the weights' gradient is faster so than as a product */
};

/* oneDNN looks for the widest vectors when it is loaded. A build for any processor has narrower ones
 * and leaves the products to it; debugging builds tile, so that there is something to debug. */
#if defined __FMA__ || defined __ARM_FEATURE_FMA || defined DEBUG || !defined HAVE_DNNL
enum { PAYS = 1 };
#else
enum { PAYS = 0 };
#endif

static size_t pixels(const struct conv_shape *s) { return (size_t)s->out_h * (size_t)s->out_w; }

static size_t taps(const struct conv_shape *s) {
    return (size_t)s->size * (size_t)s->size * (size_t)s->c;
}

int host_tile_forward_pays(const struct conv_shape *s) {
    if (s->top >= s->size || s->left >= s->size) return 0; /* windows may lie outside */
    return PAYS && s->out_c % LINE == 0 && pixels(s) >= LEAST;
}

int host_tile_grad_weight_pays(const struct conv_shape *s) {
    return host_tile_forward_pays(s) && s->out_c <= NARROW;
}

struct conv_shape host_tile_mirrored(const struct conv_shape *s) {
    return (struct conv_shape){
        .batch = s->batch,
        .h = s->out_h,
        .w = s->out_w,
        .c = s->out_c,
        .size = s->size,
        .stride = 1,
        .top = s->size - 1 - s->top,
        .left = s->size - 1 - s->left,
        .out_h = s->h,
        .out_w = s->w,
        .out_c = s->c,
    };
}

/* Where the outputs are fewer than the inputs, most of a mirrored window is border. */
int host_tile_grad_input_pays(const struct conv_shape *s) {
    const struct conv_shape m = host_tile_mirrored(s);
    int same = s->stride == 1 && s->out_h == s->h && s->out_w == s->w;
    return same && m.top >= 0 && m.left >= 0 && host_tile_forward_pays(&m);
}

/* ---- frames ----------------------------------------------------------------------------------- */

/* What the windows of an image cover. */
struct frame {
    size_t h, w;
};

static struct frame frame_of(const struct conv_shape *s) {
    return (struct frame){(size_t)((s->out_h - 1) * s->stride + s->size),
        (size_t)((s->out_w - 1) * s->stride + s->size)};
}

static int is_framed(const struct conv_shape *s) {
    struct frame f = frame_of(s);
    return s->top > 0 || s->left > 0 || f.h > (size_t)s->h || f.w > (size_t)s->w;
}

static size_t frame_room(const struct conv_shape *s) {
    struct frame f = frame_of(s);
    return is_framed(s) ? (f.h * f.w * (size_t)s->c + LINE - 1) / LINE * LINE : 0;
}

size_t host_tile_room(const struct conv_shape *s) {
    size_t strip = STRIP > s->out_w ? STRIP : (size_t)s->out_w;
    return frame_room(s) + strip * (size_t)s->out_c;
}

/* x, or where windows reach over its border, its copy amid the zeros of `frame`. */
static const float *image_framed(const struct conv_shape *s, float *frame, const float *x) {
    if (!is_framed(s)) return x;
    struct frame f = frame_of(s);
    size_t c = (size_t)s->c, w = (size_t)s->w, top = (size_t)s->top, left = (size_t)s->left;
    size_t rows = f.h - top < (size_t)s->h ? f.h - top : (size_t)s->h;
    size_t columns = f.w - left < w ? f.w - left : w;
    for (size_t i = 0; i < rows; i++) {
        float *to = frame + ((top + i) * f.w + left) * c;
        memcpy(to, x + i * w * c, columns * c * sizeof *to);
    }
    return frame;
}

/* ---- tiles ------------------------------------------------------------------------------------ */

/* Floats of an image: height x width of them, `down` and `across` apart. */
struct grid {
    size_t height, width, down, across;
};

static size_t image_row(const struct conv_shape *s) {
    return (is_framed(s) ? frame_of(s).w : (size_t)s->w) * (size_t)s->c;
}

/* The first floats of all windows. */
static struct grid windows_of(const struct conv_shape *s) {
    size_t stride = (size_t)s->stride;
    return (struct grid){
        (size_t)s->out_h, (size_t)s->out_w, stride * image_row(s), stride * (size_t)s->c};
}

/* The floats of the first window. */
static struct grid taps_of(const struct conv_shape *s) {
    size_t size = (size_t)s->size;
    return (struct grid){size, size * (size_t)s->c, image_row(s), 1};
}

/* Places first .. first+n-1 of the grid that starts at x; behind the last of all, that again. */
static void places_find(
    const float **place, size_t n, const struct grid *g, const float *x, size_t first) {
    size_t i = first / g->width, j = first % g->width;
    for (size_t p = 0; p < n; p++) {
        place[p] = x + i * g->down + j * g->across;
        if (j + 1 < g->width) {
            j++;
        } else if (i + 1 < g->height) {
            i++;
            j = 0;
        }
    }
}

#if defined __FMA__ || defined __ARM_FEATURE_FMA
static inline float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
static inline float multiply_add(float a, float b, float c) { return a * b + c; }
#endif

/* sums[p] <- start + the sum over the grid's places, seen from at[p], of the float there times the
 * next line. A function of its own: inlined, gcc may keep the sums in memory. */
__attribute__((noinline))
#if defined __AVX512F__ && !defined __clang__
__attribute__((target("prefer-vector-width=512")))
#endif
static void
tile_sum(float sums[TILE][LINE], const float *const *at, const struct grid *g, const float *line,
    const float *start) {
    float s[TILE][LINE];
    const float *a[TILE];
    size_t height = g->height, end = g->width * g->across, across = g->across, down = g->down;
#pragma GCC unroll 16
    for (int p = 0; p < TILE; p++) a[p] = at[p];
#pragma GCC unroll 16
    for (int p = 0; p < TILE; p++) {
#pragma omp simd
        for (int l = 0; l < LINE; l++) s[p][l] = start[l];
    }
    for (size_t i = 0; i < height; i++) {
        for (size_t k = 0; k < end; k += across, line += LINE) {
#pragma GCC unroll 16
            for (int p = 0; p < TILE; p++) {
#pragma omp simd
                for (int l = 0; l < LINE; l++) s[p][l] = multiply_add(a[p][k], line[l], s[p][l]);
            }
        }
#pragma GCC unroll 16
        for (int p = 0; p < TILE; p++) a[p] += down;
    }
#pragma GCC unroll 16
    for (int p = 0; p < TILE; p++) {
#pragma omp simd
        for (int l = 0; l < LINE; l++) sums[p][l] = s[p][l];
    }
}

static const float zeros[LINE];

/* ---- packing ---------------------------------------------------------------------------------- */

/* LINE columns of all rows, then the next LINE. */
static void lines_pack(float *to, const float *from, size_t rows, size_t columns) {
    for (size_t o = 0; o < columns; o += LINE) {
        for (size_t r = 0; r < rows; r++, to += LINE) {
            memcpy(to, from + r * columns + o, LINE * sizeof *to);
        }
    }
}

void host_tile_pack(const struct conv_shape *s, float *packed, const float *W) {
    lines_pack(packed, W, taps(s), (size_t)s->out_c);
}

void host_tile_pack_mirrored(const struct conv_shape *s, float *packed, const float *W) {
    size_t places = (size_t)s->size * (size_t)s->size, c = (size_t)s->c, n = (size_t)s->out_c;
    for (size_t k = 0; k < c; k += LINE) {
        for (size_t place = places; place-- > 0;) {
            const float *from = W + (place * c + k) * n;
            for (size_t o = 0; o < n; o++, packed += LINE) {
                for (size_t l = 0; l < LINE; l++) packed[l] = from[l * n + o];
            }
        }
    }
}

/* ---- forward ---------------------------------------------------------------------------------- */

/* Sums below `low` are raised to it: ReLU. A NaN is passed on. */
static void outputs_write(float *y, size_t apart, size_t n, float sums[TILE][LINE], float low) {
    for (size_t p = 0; p < n; p++, y += apart) {
#pragma omp simd
        for (int l = 0; l < LINE; l++) y[l] = sums[p][l] < low ? low : sums[p][l];
    }
}

static void image_forward(const struct conv_shape *s, float *y, const float *x, const float *packed,
    const float *bias, float low) {
    const struct grid windows = windows_of(s), window = taps_of(s);
    size_t c = (size_t)s->out_c, all = pixels(s);
    const float *place[BLOCK];
    float sums[TILE][LINE];
    for (size_t at = 0; at < all; at += BLOCK) {
        size_t end = all - at < BLOCK ? all - at : BLOCK;
        places_find(place, BLOCK, &windows, x, at);
        for (size_t o = 0; o < c; o += LINE) {
            const float *start = bias ? bias + o : zeros, *lines = packed + o * taps(s);
            for (size_t p = 0; p < end; p += TILE) {
                tile_sum(sums, place + p, &window, lines, start);
                outputs_write(y + (at + p) * c + o, c, end - p < TILE ? end - p : TILE, sums, low);
            }
        }
    }
}

void host_tile_forward(const struct conv_shape *s, size_t from, size_t to, float *y, const float *x,
    const float *packed, const float *bias, enum activation act, float *room) {
    size_t in = (size_t)s->h * (size_t)s->w * (size_t)s->c, out = pixels(s) * (size_t)s->out_c;
    float low = act == ACTIVATION_RELU ? 0 : -INFINITY;
    memset(room, 0, frame_room(s) * sizeof *room);
    for (size_t b = from; b < to; b++) {
        float *at = y + b * out;
        image_forward(s, at, image_framed(s, room, x + b * in), packed, bias, low);
        if (act != ACTIVATION_RELU) host_act_share(0, out, at, at, act);
    }
}

/* ---- gradient of the weights ------------------------------------------------------------------ */

/* sum += that of the outputs of a strip of rows, windows and dz of which are given. */
static void strip_grad_weight(const struct conv_shape *s, float *sum, const float *x,
    const struct grid *windows, const float *packed) {
    const struct grid window = taps_of(s);
    size_t c = (size_t)s->out_c, all = taps(s), n = windows->height * windows->width;
    const float *place[TILE];
    float sums[TILE][LINE];
    for (size_t o = 0; o < c; o += LINE) {
        for (size_t t = 0; t < all; t += TILE) {
            places_find(place, TILE, &window, x, t);
            tile_sum(sums, place, windows, packed + o * n, zeros);
            for (size_t p = 0; p < TILE && t + p < all; p++) {
                float *to = sum + (t + p) * c + o;
#pragma omp simd
                for (int l = 0; l < LINE; l++) to[l] += sums[p][l];
            }
        }
    }
}

void host_tile_grad_weight(const struct conv_shape *s, size_t from, size_t to, float *sum,
    const float *dz, const float *x, float *room) {
    size_t in = (size_t)s->h * (size_t)s->w * (size_t)s->c, c = (size_t)s->out_c;
    size_t h = (size_t)s->out_h, w = (size_t)s->out_w, rows = STRIP > w ? STRIP / w : 1;
    struct grid windows = windows_of(s);
    float *strip = room + frame_room(s);
    memset(room, 0, frame_room(s) * sizeof *room);
    for (size_t b = from; b < to; b++) {
        const float *image = image_framed(s, room, x + b * in);
        for (size_t i = 0; i < h; i += rows) {
            const float *d = dz + (b * h + i) * w * c;
            windows.height = h - i < rows ? h - i : rows;
            if (c > LINE) lines_pack(strip, d, windows.height * w, c);
            strip_grad_weight(s, sum, image + i * windows.down, &windows, c > LINE ? strip : d);
        }
    }
}
