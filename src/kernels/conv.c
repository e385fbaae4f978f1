/* conv.c -- conv_workspace, conv_forward, conv_grad_input, conv_grad_weight.
 *
 * A window's floats are laid out as one row, (size, size, c), a row for each output pixel: the
 * columns. The convolution is then the product columns (pixels, taps) x W (taps, out_c), and both
 * gradients are products as well. Columns are built for as many images at a time as stay in the
 * second-level cache; a batch's worth would not, and rebuilding them for the weights' gradient is
 * cheaper than keeping them. With a team, images are split over it, each thread with a room of its
 * own, in which the weights' gradient is summed; the partial sums are added in the team's order.
 * Some shapes are faster without columns: those conv_tile.c takes, image by image as well.
 */
#include <string.h>

#include "host.h"

enum {
    SLACK = LINE,      /* floats that a short copy may write past its end */
    COLUMNS = 1 << 16, /* floats of columns that are built at a time, if an image has fewer */
};

static size_t taps(const struct conv_shape *s) {
    return (size_t)s->size * (size_t)s->size * (size_t)s->c;
}

static size_t pixels(const struct conv_shape *s) { return (size_t)s->out_h * (size_t)s->out_w; }

static size_t weights(const struct conv_shape *s) { return taps(s) * (size_t)s->out_c; }

static size_t image_in(const struct conv_shape *s) {
    return (size_t)s->h * (size_t)s->w * (size_t)s->c;
}

static size_t image_out(const struct conv_shape *s) { return pixels(s) * (size_t)s->out_c; }

/* Images whose columns are built together. */
static size_t together(const struct conv_shape *s) {
    size_t n = COLUMNS / (pixels(s) * taps(s)), batch = (size_t)s->batch;
    return n < 1 ? 1 : n < batch ? n : batch;
}

static int team_size(const struct stream *q, const struct conv_shape *s) {
    int most = s->batch < q->threads ? s->batch : q->threads;
    return most > 1 ? most : 1;
}

static size_t whole_lines(size_t floats) { return (floats + LINE - 1) / LINE * LINE; }

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* What a thread has to itself: columns, or what tiles want. */
static size_t thread_room(const struct conv_shape *s) {
    struct conv_shape mirrored = host_tile_mirrored(s);
    size_t room = together(s) * pixels(s) * taps(s) + SLACK;
    if (host_tile_forward_pays(s)) room = larger(room, host_tile_room(s));
    if (host_tile_grad_input_pays(s)) room = larger(room, host_tile_room(&mirrored));
    return whole_lines(room);
}

/* A room for each thread; then a gradient of the weights for each where there are several, or the
 * weights as tiles want them. */
size_t host_conv_workspace(const struct stream *q, const struct conv_shape *s) {
    size_t team = (size_t)team_size(q, s);
    return team * thread_room(s) + team * whole_lines(weights(s));
}

/* Copies n floats. Short runs are copied by whole lines, which may write up to SLACK floats more;
 * not near `end`, behind which nothing may be read. */
static inline void run_copy(float *to, const float *from, size_t n, const float *end) {
    if (n > (size_t)4 * LINE || (size_t)(end - from) < n + SLACK) {
        memcpy(to, from, n * sizeof *to);
        return;
    }
    for (size_t i = 0; i < n; i += LINE) memcpy(to + i, from + i, LINE * sizeof *to);
}

/* Of the places 0 .. size-1 from `at` on, those inside 0 .. n-1. */
static inline struct share places_inside(int at, int size, int n) {
    int from = at < 0 ? -at : 0, to = at + size > n ? n - at : size;
    if (from > size) from = size;
    if (to < from) to = from;
    return (struct share){(size_t)from, (size_t)to};
}

/* One row of the columns: the window whose first pixel is (top, left) of image x. What a short
 * copy writes too much is overwritten by the next one, or lies in the slack. */
static inline void window_read(
    const struct conv_shape *s, float *to, const float *x, const float *end, int top, int left) {
    size_t c = (size_t)s->c, row = (size_t)s->size * c;
    struct share in = places_inside(left, s->size, s->w);
    size_t before = in.from * c, inside = (in.to - in.from) * c, after = row - before - inside;
    for (int i = 0; i < s->size; i++, to += row) {
        int y = top + i;
        if (y < 0 || y >= s->h || inside == 0) {
            memset(to, 0, row * sizeof *to);
            continue;
        }
        if (before) memset(to, 0, before * sizeof *to);
        size_t first = ((size_t)y * (size_t)s->w + (size_t)(left + (int)in.from)) * c;
        run_copy(to + before, x + first, inside, end);
        if (after) memset(to + before + inside, 0, after * sizeof *to);
    }
}

/* The columns of n images from x on; x ends at `end`. */
static void columns_build(
    const struct conv_shape *s, float *columns, const float *x, const float *end, size_t n) {
    size_t row = taps(s);
    for (size_t b = 0; b < n; b++, x += image_in(s)) {
        for (int i = 0; i < s->out_h; i++) {
            for (int j = 0; j < s->out_w; j++, columns += row) {
                window_read(s, columns, x, end, i * s->stride - s->top, j * s->stride - s->left);
            }
        }
    }
}

/* The reverse of window_read: adds to the pixels that a row of columns was read from. */
static inline void window_add(
    const struct conv_shape *s, float *x, const float *from, int top, int left) {
    size_t c = (size_t)s->c, row = (size_t)s->size * c;
    struct share in = places_inside(left, s->size, s->w);
    size_t before = in.from * c, inside = (in.to - in.from) * c;
    if (inside == 0) return;
    for (int i = 0; i < s->size; i++, from += row) {
        int y = top + i;
        if (y < 0 || y >= s->h) continue;
        size_t first = ((size_t)y * (size_t)s->w + (size_t)(left + (int)in.from)) * c;
        float *restrict to = x + first;
        const float *restrict run = from + before;
#pragma omp simd
        for (size_t k = 0; k < inside; k++) to[k] += run[k];
    }
}

/* The n images from x on <- the sums of their columns. */
static void columns_add(const struct conv_shape *s, float *x, const float *columns, size_t n) {
    size_t row = taps(s);
    memset(x, 0, n * image_in(s) * sizeof *x);
    for (size_t b = 0; b < n; b++, x += image_in(s)) {
        for (int i = 0; i < s->out_h; i++) {
            for (int j = 0; j < s->out_w; j++, columns += row) {
                window_add(s, x, columns, i * s->stride - s->top, j * s->stride - s->left);
            }
        }
    }
}

/* One convolution, or one of its gradients, as its shares see it. */
struct work {
    const struct conv_shape *s;
    int threads; /* of one product; 1 inside a team */
    size_t room; /* floats of each share's */
    const float *x, *W, *bias, *dz;
    float *y, *dx;
    enum activation act;
};

/* What a share does for images [from, to) in its room, for columns, and with its sum where it has
 * one; returns 0, or what gemm said. */
typedef int share_work(const struct work *w, size_t from, size_t to, float *columns, float *sum);

static int forward_share(const struct work *w, size_t from, size_t to, float *columns, float *sum) {
    const struct conv_shape *s = w->s;
    const float *end = w->x + (size_t)s->batch * image_in(s);
    int bad = 0, k = (int)taps(s), c = s->out_c;
    (void)sum;
    for (size_t b = from, n; b < to; b += n) {
        n = to - b < together(s) ? to - b : together(s);
        float *y = w->y + b * image_out(s);
        columns_build(s, columns, w->x + b * image_in(s), end, n);
        bad |= host_gemm_one(
            w->threads, 0, 0, (int)(n * pixels(s)), c, k, 1, columns, k, w->W, c, 0, y, c);
        if (w->bias) {
            host_bias_act_rows(0, n * pixels(s), y, w->bias, w->act, (size_t)c);
        } else {
            host_act_share(0, n * image_out(s), y, y, w->act);
        }
    }
    return bad;
}

static int grad_input_share(
    const struct work *w, size_t from, size_t to, float *columns, float *sum) {
    const struct conv_shape *s = w->s;
    int bad = 0, k = (int)taps(s), c = s->out_c;
    (void)sum;
    for (size_t b = from, n; b < to; b += n) {
        n = to - b < together(s) ? to - b : together(s);
        bad |= host_gemm_one(w->threads, 0, 1, (int)(n * pixels(s)), k, c, 1,
            w->dz + b * image_out(s), c, w->W, c, 0, columns, k);
        columns_add(s, w->dx + b * image_in(s), columns, n);
    }
    return bad;
}

/* sum += the gradient of these images. */
static int grad_weight_share(
    const struct work *w, size_t from, size_t to, float *columns, float *sum) {
    const struct conv_shape *s = w->s;
    const float *end = w->x + (size_t)s->batch * image_in(s);
    int bad = 0, k = (int)taps(s), c = s->out_c;
    for (size_t b = from, n; b < to; b += n) {
        n = to - b < together(s) ? to - b : together(s);
        columns_build(s, columns, w->x + b * image_in(s), end, n);
        bad |= host_gemm_one(w->threads, 1, 0, k, c, (int)(n * pixels(s)), 1, columns, k,
            w->dz + b * image_out(s), c, 1, sum, c);
    }
    return bad;
}

/* The same without columns; W is packed, and grad_input's shape is the mirrored one. */
static int forward_tiles(const struct work *w, size_t from, size_t to, float *room, float *sum) {
    (void)sum;
    host_tile_forward(w->s, from, to, w->y, w->x, w->W, w->bias, w->act, room);
    return 0;
}

static int grad_weight_tiles(
    const struct work *w, size_t from, size_t to, float *room, float *sum) {
    host_tile_grad_weight(w->s, from, to, sum, w->dz, w->x, room);
    return 0;
}

/* All images: by the calling thread, or split over the team. `sum` is one gradient of the weights
 * for each of the team, or NULL. */
static void images_share(
    struct stream *q, share_work *share, struct work *w, float *workspace, float *sum) {
    size_t batch = (size_t)w->s->batch;
    size_t sums = sum ? whole_lines(weights(w->s)) : 0;
    int team = team_size(q, w->s), bad = 0;
    w->threads = team > 1 ? 1 : q->threads;
    if (team == 1) {
        bad = share(w, 0, batch, workspace, sum);
    } else {
#pragma omp parallel for num_threads(team) schedule(static, 1) reduction(| : bad)
        for (int t = 0; t < team; t++) {
            struct share images = share_of(batch, 1, t, team);
            bad |= share(w, images.from, images.to, workspace + (size_t)t * w->room,
                sum ? sum + (size_t)t * sums : NULL);
        }
    }
    if (bad) stream_fail(q, "convolution: the library's gemm gave status %d", bad);
}

/* A tile is one thread's: images for all of the team, or its threads share the products. */
static int enough_images(const struct stream *q, const struct conv_shape *s) {
    return s->batch >= q->threads;
}

void host_conv_forward(struct stream *q, const struct conv_shape *s, float *y, const float *x,
    const float *W, const float *bias, enum activation act, float *workspace) {
    if (q->failed != STATUS_OK || s->batch == 0) return;
    struct work w = {
        .s = s, .room = thread_room(s), .y = y, .x = x, .W = W, .bias = bias, .act = act};
    if (!host_tile_forward_pays(s) || !enough_images(q, s)) {
        images_share(q, forward_share, &w, workspace, NULL);
        return;
    }
    float *packed = workspace + (size_t)team_size(q, s) * w.room;
    host_tile_pack(s, packed, W);
    w.W = packed;
    images_share(q, forward_tiles, &w, workspace, NULL);
}

void host_conv_grad_input(struct stream *q, const struct conv_shape *s, float *dx, const float *dz,
    const float *W, float *workspace) {
    if (q->failed != STATUS_OK || s->batch == 0) return;
    if (!host_tile_grad_input_pays(s) || !enough_images(q, s)) {
        struct work w = {.s = s, .room = thread_room(s), .dx = dx, .dz = dz, .W = W};
        images_share(q, grad_input_share, &w, workspace, NULL);
        return;
    }
    float *packed = workspace + (size_t)team_size(q, s) * thread_room(s);
    host_tile_pack_mirrored(s, packed, W);
    const struct conv_shape mirrored = host_tile_mirrored(s);
    struct work w = {.s = &mirrored, .room = thread_room(s), .y = dx, .x = dz, .W = packed};
    images_share(q, forward_tiles, &w, workspace, NULL);
}

static void sums_add(size_t from, size_t to, float *dW, const float *sum, int team, size_t apart) {
    for (int t = 0; t < team; t++) {
        const float *part = sum + (size_t)t * apart;
#pragma omp simd
        for (size_t i = from; i < to; i++) dW[i] += part[i];
    }
}

void host_conv_grad_weight(struct stream *q, const struct conv_shape *s, float *dW, float beta,
    const float *dz, const float *x, float *workspace) {
    if (q->failed != STATUS_OK) return;
    size_t n = weights(s), apart = whole_lines(n);
    if (beta != 1) host_mix(q, dW, beta, 0, dW, n);
    if (s->batch == 0) return;
    struct work w = {.s = s, .room = thread_room(s), .dz = dz, .x = x};
    int team = team_size(q, s), tiles = host_tile_grad_weight_pays(s) && enough_images(q, s);
    share_work *share = tiles ? grad_weight_tiles : grad_weight_share;
    if (team == 1) {
        images_share(q, share, &w, workspace, dW);
        return;
    }
    float *sum = workspace + (size_t)team * w.room;
    host_fill(q, sum, 0, (size_t)team * apart);
    images_share(q, share, &w, workspace, sum);
    SHARE(q, n, LINE, n * (size_t)team, sums_add, dW, sum, team, apart);
}
