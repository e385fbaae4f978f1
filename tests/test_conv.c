#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "devices/device.h"
#include "guard.h"

TestSuite(conv, .timeout = 60);
TestSuite(pool, .timeout = 60);

static const struct kernels *const k = &kernels_host;

static struct stream stream_of(int threads) {
    return (struct stream){.kernels = &kernels_host, .threads = threads};
}

/* batch, h, w, c; size, stride, top, left; out_h, out_w, out_c */
static const struct conv_shape shapes[] = {
    {1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {2, 5, 7, 1, 3, 1, 0, 0, 3, 5, 4},
    {3, 8, 8, 1, 3, 1, 1, 1, 8, 8, 16},
    {5, 7, 6, 3, 5, 1, 2, 2, 7, 6, 5},
    {4, 9, 9, 2, 3, 2, 1, 1, 5, 5, 3},
    {3, 8, 9, 17, 3, 2, 0, 1, 4, 5, 33},
    {2, 6, 6, 40, 2, 3, 0, 0, 2, 2, 7},
    {2, 4, 3, 2, 7, 1, 3, 3, 4, 3, 2},
    {70, 14, 14, 4, 5, 1, 2, 2, 14, 14, 6},
    {2, 20, 70, 3, 4, 1, 0, 0, 17, 67, 32},
    {0, 4, 4, 1, 3, 1, 0, 0, 2, 2, 1},
    /* without columns: a multiple of 16 channels, and no team larger than the batch */
    {3, 9, 5, 16, 3, 1, 1, 1, 9, 5, 16},
    {3, 20, 20, 16, 5, 1, 2, 2, 20, 20, 32},
    {4, 8, 8, 16, 4, 1, 1, 2, 8, 8, 48},
    {3, 13, 14, 3, 3, 2, 1, 0, 7, 7, 48},
    {3, 16, 17, 16, 1, 2, 0, 0, 8, 9, 32},
    {5, 10, 11, 1, 3, 1, 0, 0, 8, 7, 16},
    {3, 3, 150, 2, 3, 1, 1, 1, 3, 150, 16},
    {4, 7, 6, 48, 3, 1, 1, 1, 7, 6, 6},
    {0, 8, 8, 16, 3, 1, 1, 1, 8, 8, 16},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* One pair of an input and a weight that meet in an output; what is done with it. */
typedef void meeting(double *a, size_t x, size_t w, size_t y);

/* Calls `meet` for all such pairs: the definition of the convolution, nothing more. */
static void all_meetings(const struct conv_shape *s, double *a, meeting *meet) {
    for (int b = 0; b < s->batch; b++)
        for (int i = 0; i < s->out_h; i++)
            for (int j = 0; j < s->out_w; j++)
                for (int o = 0; o < s->out_c; o++)
                    for (int u = 0; u < s->size; u++)
                        for (int v = 0; v < s->size; v++)
                            for (int c = 0; c < s->c; c++) {
                                int r = i * s->stride + u - s->top, t = j * s->stride + v - s->left;
                                if (r < 0 || r >= s->h || t < 0 || t >= s->w) continue;
                                int x = ((b * s->h + r) * s->w + t) * s->c + c;
                                int w = ((u * s->size + v) * s->c + c) * s->out_c + o;
                                int y = ((b * s->out_h + i) * s->out_w + j) * s->out_c + o;
                                meet(a, (size_t)x, (size_t)w, (size_t)y);
                            }
}

enum { X = 1, W = 2, BIAS = 3, DZ = 4, OLD = 5 }; /* salts */

static void meet_forward(double *y, size_t x, size_t w, size_t at) {
    y[at] += small_int(x, X, 3) * small_int(w, W, 3);
}

static void meet_input(double *dx, size_t x, size_t w, size_t y) {
    dx[x] += small_int(w, W, 3) * small_int(y, DZ, 3);
}

static void meet_weight(double *dw, size_t x, size_t w, size_t y) {
    dw[w] += small_int(x, X, 3) * small_int(y, DZ, 3);
}

struct sizes {
    size_t x, y, w;
};

static struct sizes sizes_of(const struct conv_shape *s) {
    size_t b = (size_t)s->batch;
    return (struct sizes){b * (size_t)(s->h * s->w * s->c),
        b * (size_t)(s->out_h * s->out_w * s->out_c),
        (size_t)(s->size * s->size * s->c * s->out_c)};
}

static float *workspace_open(const struct stream *q, const struct conv_shape *s, size_t *n) {
    *n = k->conv_workspace(q, s);
    float *at = guard_floats(*n);
    for (size_t i = 0; i < *n; i++) at[i] = NAN;
    return at;
}

#define FOR_SHAPES(s, q)                                                                           \
    for (int i_ = 0; i_ < 3 * SHAPES; i_++)                                                        \
        for (int once_ = 1; once_; once_ = 0)                                                      \
            for (const struct conv_shape *s = &shapes[i_ / 3]; once_; once_ = 0)                   \
                for (struct stream q = stream_of(i_ % 3 + 1); once_; once_ = 0)

Test(conv, forward_with_other_activations_and_without_bias) {
    FOR_SHAPES(s, q) {
        struct sizes n = sizes_of(s);
        size_t room;
        float *x = guard_ints(n.x, X, 3), *w = guard_ints(n.w, W, 3), *y = guard_floats(n.y);
        float *space = workspace_open(&q, s, &room);
        double *want = doubles(n.y);
        all_meetings(s, want, meet_forward);
        for (size_t i = 0; i < n.y; i++) want[i] = tanh(want[i] / 64);
        for (size_t i = 0; i < n.w; i++) w[i] /= 64;
        k->conv_forward(&q, s, y, x, w, NULL, ACTIVATION_TANH, space);
        check_close(y, want, n.y, 1e-6, 1e-6, "shape %d, team %d", i_ / 3, q.threads);
        cr_assert(guard_holds(y, n.y) && guard_holds(space, room));
        float *const all[] = {x, w, y, space};
        for (int i = 0; i < 4; i++) guard_free(all[i]);
        free(want);
    }
}

Test(conv, forward_is_exact_for_whole_numbers) {
    for (int act = ACTIVATION_NONE; act <= ACTIVATION_RELU; act++) FOR_SHAPES(s, q) {
            struct sizes n = sizes_of(s);
            size_t room;
            float *x = guard_ints(n.x, X, 3), *w = guard_ints(n.w, W, 3), *y = guard_floats(n.y);
            float *bias = guard_ints((size_t)s->out_c, BIAS, 9);
            float *space = workspace_open(&q, s, &room);
            double *want = doubles(n.y);
            all_meetings(s, want, meet_forward);
            for (size_t i = 0; i < n.y; i++) {
                want[i] += small_int(i % (size_t)s->out_c, BIAS, 9);
                if (act == ACTIVATION_RELU && want[i] < 0) want[i] = 0;
            }
            k->conv_forward(&q, s, y, x, w, bias, (enum activation)act, space);
            check_close(y, want, n.y, 0, 0, "shape %d, team %d", i_ / 3, q.threads);
            cr_assert(guard_holds(y, n.y) && guard_holds(space, room) && guard_holds(x, n.x));
            float *const all[] = {x, w, y, bias, space};
            for (int i = 0; i < 5; i++) guard_free(all[i]);
            free(want);
        }
}

Test(conv, a_nan_is_passed_on_by_relu) {
    FOR_SHAPES(s, q) {
        struct sizes n = sizes_of(s);
        size_t room, nans = 0, met = 0;
        if (n.x == 0) continue;
        float *x = guard_ints(n.x, X, 3), *w = guard_ints(n.w, W, 3), *y = guard_floats(n.y);
        float *bias = guard_ints((size_t)s->out_c, BIAS, 9), *space = workspace_open(&q, s, &room);
        bias[s->out_c - 1] = NAN;
        k->conv_forward(&q, s, y, x, w, bias, ACTIVATION_RELU, space);
        for (size_t i = 0; i < n.y; i++) {
            nans += isnan(y[i]) != 0;
            met += isnan(y[i]) && i % (size_t)s->out_c == (size_t)s->out_c - 1;
        }
        cr_assert(
            met == n.y / (size_t)s->out_c && nans == met, "shape %d: %zu, %zu", i_ / 3, nans, met);
        float *const all[] = {x, w, y, bias, space};
        for (int i = 0; i < 5; i++) guard_free(all[i]);
    }
}

Test(conv, gradient_of_the_input_is_exact) {
    FOR_SHAPES(s, q) {
        struct sizes n = sizes_of(s);
        size_t room;
        float *dz = guard_ints(n.y, DZ, 3), *w = guard_ints(n.w, W, 3), *dx = guard_floats(n.x);
        float *space = workspace_open(&q, s, &room);
        double *want = doubles(n.x);
        all_meetings(s, want, meet_input);
        k->conv_grad_input(&q, s, dx, dz, w, space);
        check_close(dx, want, n.x, 0, 0, "shape %d, team %d", i_ / 3, q.threads);
        cr_assert(guard_holds(dx, n.x) && guard_holds(space, room));
        float *const all[] = {dz, w, dx, space};
        for (int i = 0; i < 4; i++) guard_free(all[i]);
        free(want);
    }
}

Test(conv, gradient_of_the_weights_is_exact_and_adds) {
    for (int beta = 0; beta <= 2; beta++) FOR_SHAPES(s, q) {
            struct sizes n = sizes_of(s);
            size_t room;
            float *dz = guard_ints(n.y, DZ, 3), *x = guard_ints(n.x, X, 3);
            float *dw = guard_ints(n.w, OLD, 9), *space = workspace_open(&q, s, &room);
            double *want = doubles(n.w);
            for (size_t i = 0; i < n.w; i++) want[i] = beta * small_int(i, OLD, 9);
            if (beta == 0)
                for (size_t i = 0; i < n.w; i++) dw[i] = NAN;
            all_meetings(s, want, meet_weight);
            k->conv_grad_weight(&q, s, dw, (float)beta, dz, x, space);
            check_close(dw, want, n.w, 0, 0, "shape %d, team %d", i_ / 3, q.threads);
            cr_assert(guard_holds(dw, n.w) && guard_holds(space, room) && guard_holds(x, n.x));
            float *const all[] = {dz, x, dw, space};
            for (int i = 0; i < 4; i++) guard_free(all[i]);
            free(want);
        }
}

/* Short copies take more than they need. The samples end where the process's memory does. */
Test(conv, nothing_is_read_behind_the_samples) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, 17 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(map != MAP_FAILED && mprotect(map + 16 * page, page, PROT_NONE) == 0);
    for (int i = 0; i < SHAPES; i++) {
        const struct conv_shape *s = &shapes[i];
        struct stream q = stream_of(1);
        struct sizes n = sizes_of(s);
        size_t room;
        if (n.x * sizeof(float) > 16 * page) continue;
        float *x = (float *)(void *)(map + 16 * page) - n.x, *space = workspace_open(&q, s, &room);
        float *w = guard_ints(n.w, W, 3), *y = guard_ints(n.y, DZ, 3), *bias = guard_ints(99, 1, 1);
        k->conv_forward(&q, s, y, x, w, bias, ACTIVATION_NONE, space);
        k->conv_grad_weight(&q, s, w, 0, y, x, space);
        k->conv_grad_input(&q, s, x, y, w, space);
        cr_assert(q.failed == STATUS_OK && guard_holds(y, n.y));
        float *const all[] = {space, w, y, bias};
        for (int j = 0; j < 4; j++) guard_free(all[j]);
    }
    munmap(map, 17 * page);
}

/* batch, h, w, c; size, stride; out_h, out_w */
static const struct pool_shape pools[] = {
    {1, 1, 1, 1, 1, 1, 1, 1},
    {2, 4, 6, 3, 2, 2, 2, 3},
    {3, 5, 7, 33, 2, 2, 2, 3},
    {2, 7, 7, 17, 3, 2, 3, 3},
    {2, 6, 5, 4, 3, 1, 4, 3},
    {1, 9, 9, 2, 2, 4, 2, 2},
    {2, 33, 17, 5, 16, 1, 18, 2},
    {40, 28, 28, 32, 2, 2, 14, 14},
    {0, 4, 4, 1, 2, 2, 2, 2},
};
enum { POOLS = sizeof pools / sizeof *pools };

/* The largest of a window, the first of equals, and where in x it is. */
static int window_oracle(
    const struct pool_shape *s, const float *x, int b, int i, int j, int c, size_t *at) {
    int best = -1;
    for (int p = 0; p < s->size * s->size; p++) {
        int r = i * s->stride + p / s->size, t = j * s->stride + p % s->size;
        size_t here = (size_t)(((b * s->h + r) * s->w + t) * s->c + c);
        if (best >= 0 && !(x[here] > x[*at])) continue;
        best = p;
        *at = here;
    }
    return best;
}

static void pool_check(const struct pool_shape *s, int threads) {
    struct stream q = stream_of(threads);
    size_t in = (size_t)(s->batch * s->h * s->w * s->c);
    size_t out = (size_t)(s->batch * s->out_h * s->out_w * s->c);
    float *x = guard_ints(in, X, 5), *y = guard_floats(out), *dy = guard_ints(out, DZ, 9);
    float *dx = guard_floats(in);
    double *want = doubles(out), *grad = doubles(in);
    uint8_t *where = malloc(out + 2);
    where[0] = where[out + 1] = 211;
    k->maxpool_forward(&q, s, y, where + 1, x);
    size_t o = 0;
    for (int b = 0; b < s->batch; b++)
        for (int i = 0; i < s->out_h; i++)
            for (int j = 0; j < s->out_w; j++)
                for (int c = 0; c < s->c; c++, o++) {
                    size_t at = 0;
                    int place = window_oracle(s, x, b, i, j, c, &at);
                    cr_assert(where[1 + o] == place, "place %d, not %d", where[1 + o], place);
                    want[o] = (double)x[at];
                    grad[at] += small_int(o, DZ, 9);
                }
    check_close(y, want, out, 0, 0, "forward");
    k->maxpool_backward(&q, s, dx, dy, where + 1);
    check_close(dx, grad, in, 0, 0, "backward");
    cr_assert(where[0] == 211 && where[out + 1] == 211);
    cr_assert(guard_holds(y, out) && guard_holds(dx, in));
    float *const all[] = {x, y, dy, dx};
    for (int i = 0; i < 4; i++) guard_free(all[i]);
    free(want);
    free(grad);
    free(where);
}

Test(pool, windows_and_their_gradients_are_exact) {
    for (int i = 0; i < POOLS; i++)
        for (int threads = 1; threads <= 3; threads++) pool_check(&pools[i], threads);
}

Test(pool, a_nan_is_passed_on_wherever_it_stands) {
    struct stream q = stream_of(1);
    const struct pool_shape s = {1, 2, 2, 1, 2, 2, 1, 1};
    for (int at = 0; at < 4; at++) {
        float x[4] = {4, 1, 2, NAN}, y; /* a NaN behind the first is not its place */
        uint8_t where;
        x[at] = NAN;
        k->maxpool_forward(&q, &s, &y, &where, x);
        cr_assert(isnan(y) && where == at, "at %d", at);
    }
}

/* Means of whole numbers are rounded once a pixel; the sums stay below 256 x 5. */
static void average_check(const struct pool_shape *s, int threads) {
    struct stream q = stream_of(threads);
    size_t in = (size_t)(s->batch * s->h * s->w * s->c), o = 0;
    size_t out = (size_t)(s->batch * s->out_h * s->out_w * s->c);
    float *x = guard_ints(in, X, 5), *y = guard_floats(out), *dy = guard_ints(out, DZ, 9);
    float *dx = guard_floats(in);
    double *want = doubles(out), *grad = doubles(in), n = s->size * s->size;
    for (int b = 0; b < s->batch; b++)
        for (int i = 0; i < s->out_h * s->out_w; i++)
            for (int c = 0; c < s->c; c++, o++)
                for (int p = 0; p < s->size * s->size; p++) {
                    int r = i / s->out_w * s->stride + p / s->size;
                    int t = i % s->out_w * s->stride + p % s->size;
                    size_t at = (size_t)(((b * s->h + r) * s->w + t) * s->c + c);
                    want[o] += (double)x[at] / n;
                    grad[at] += small_int(o, DZ, 9) / n;
                }
    k->avgpool_forward(&q, s, y, x);
    check_close(y, want, out, 4e-6, 1e-6, "forward");
    k->avgpool_backward(&q, s, dx, dy);
    check_close(dx, grad, in, 4e-6, 1e-6, "backward");
    cr_assert(guard_holds(y, out) && guard_holds(dx, in));
    float *const all[] = {x, y, dy, dx};
    for (int i = 0; i < 4; i++) guard_free(all[i]);
    free(want);
    free(grad);
}

Test(pool, averages_of_windows_and_their_gradients) {
    for (int i = 0; i < POOLS; i++)
        for (int threads = 1; threads <= 3; threads++) average_check(&pools[i], threads);
}

static void global_check(int batch, size_t pixels, int c, int threads) {
    struct stream q = stream_of(threads);
    size_t out = (size_t)batch * (size_t)c, in = out * pixels;
    float *x = guard_ints(in, X, 5), *y = guard_floats(out), *dy = guard_ints(out, DZ, 9);
    float *dx = guard_floats(in);
    double *want = doubles(out), *grad = doubles(in);
    for (size_t i = 0; i < in; i++) {
        size_t o = i / ((size_t)c * pixels) * (size_t)c + i % (size_t)c;
        want[o] += (double)x[i] / (double)pixels;
        grad[i] = small_int(o, DZ, 9) / (double)pixels;
    }
    k->globalavgpool_forward(&q, y, x, batch, pixels, c);
    check_close(y, want, out, 1e-7, 1e-6, "forward");
    k->globalavgpool_backward(&q, dx, dy, batch, pixels, c);
    check_close(dx, grad, in, 0, 1e-6, "backward");
    cr_assert(guard_holds(y, out) && guard_holds(dx, in));
    float *const all[] = {x, y, dy, dx};
    for (int i = 0; i < 4; i++) guard_free(all[i]);
    free(want);
    free(grad);
}

Test(pool, averages_of_whole_images_and_their_gradients) {
    static const int images[][3] = {
        {0, 3, 2}, {1, 1, 1}, {2, 64, 17}, {3, 65, 33}, {33, 255, 3}, {5, 1024, 16}};
    for (int i = 0; i < 18; i++) {
        const int *s = images[i / 3];
        global_check(s[0], (size_t)s[1], s[2], i % 3 + 1);
    }
}
