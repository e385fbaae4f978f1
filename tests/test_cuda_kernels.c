/* test_cuda_kernels.c -- every CUDA kernel against the host's, on the same numbers.
 *
 * Where both do the same sums element by element the results must be equal; else the tolerance says
 * why. Everything is computed four times on the device, in other orders of blocks and threads
 * where the simulated CUDA does it, and must have the same bits each time. */
#include <criterion/criterion.h>

#ifndef HAVE_CUDA

TestSuite(cuda_kernels);

Test(cuda_kernels, are_compared_with_the_hosts) {
    cr_skip_test("built without CUDA; make sim compares its kernels with the host's");
}

#else

#include <cuda_runtime.h>
#ifdef CUDASIM
#include <cudnn.h>
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "devices/device.h"
#include "kernels/cuda.h"

TestSuite(cuda_kernels, .timeout = 120);

static const size_t sizes[] = {0, 1, 31, 33, 255, 65537};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* ---- the stream ---- */

static struct device *device;
static struct stream *q;

static void stream_begin(void) {
    if (device_cuda.count() == 0) cr_skip_test("needs a GPU: %s", fail_message());
    cr_assert(device_open(&device, &device_cuda, 0, 1) == STATUS_OK, "%s", fail_message());
    cr_assert(stream_open(&q, device) == STATUS_OK, "%s", fail_message());
}

static void stream_end(void) {
    stream_close(q);
    device_close(device);
}

/* Another stream in place of it, which may or may not convolve by cuDNN. */
static void stream_again(int cudnn) {
    stream_close(q);
    device->cudnn = cudnn;
    cr_assert(stream_open(&q, device) == STATUS_OK, "%s", fail_message());
}

/* The order in which the simulated CUDA takes blocks and threads: as they come, reversed, random.
 * A real one does not care. Nothing may be running. */
enum { ORDERS = 3 };

static void order_set(int order) {
    const char text[2] = {(char)('0' + order), 0};
    setenv("CUDASIM_ORDER", text, 1);
}

#define CUDA_TEST(name) Test(cuda_kernels, name, .init = stream_begin, .fini = stream_end)

/* ---- one call of a kernel, on both ---- */

enum fill {
    UNITS,    /* in -1 .. 1 */
    WHOLE,    /* small whole numbers */
    POSITIVE, /* in 0.5 .. 1.5 */
    JUNK,     /* NaN, which is not to be read */
    STEP,     /* a struct step */
    LABEL     /* int, 0 .. 9 */
};

/* n values of 4 bytes, or of 1, that a kernel reads or writes; got must be within atol + rtol
 * |want| of what the host wrote. */
struct array {
    size_t n, size;
    enum fill fill;
    double atol, rtol;
    int scratch; /* whatever may be left in it */
};

/* FLOATS(n, .fill = ...) */
#define FLOATS(...)                                                                                \
    (struct array) { .size = 4, .n = __VA_ARGS__ }
#define BYTES(count)                                                                               \
    (struct array) { .n = (count), .size = 1, .fill = JUNK }

enum { ARRAYS = 8, GUARD_BYTES = 256 };

/* What is called: a kernel with the arrays of `of` at `at`. */
typedef void call(const struct kernels *k, struct stream *to, void *const *at, const void *of);

static size_t array_bytes(const struct array *a) { return a->n * a->size; }

static float value_of(enum fill fill, uint32_t word) {
    float unit = 2 * rng_unit(word) - 1;
    if (fill == JUNK) return NAN;
    if (fill == WHOLE) return (float)(int)(word % 7) - 3;
    return fill == POSITIVE ? 1 + unit / 2 : unit;
}

static void value_make(unsigned char *at, enum fill fill, size_t i, uint32_t word) {
    const struct step step = {.rate = 0.1f, .number = 3};
    const uint32_t label = word % 10;
    float v = value_of(fill, word);
    memcpy(at, &v, sizeof v);
    if (fill == LABEL) memcpy(at, &label, sizeof label);
    if (fill == STEP) memcpy(at, (const unsigned char *)&step + 4 * i, 4);
}

/* The array as it is before the call, between guards. */
static unsigned char *array_make(const struct array *a, uint32_t id) {
    size_t bytes = array_bytes(a);
    unsigned char *at = malloc(bytes + (size_t)2 * GUARD_BYTES);
    const struct rng_key key = {.seed = 11, .salt = 99, .id = id};
    cr_assert(at != NULL);
    memset(at, 0x5a, bytes + (size_t)2 * GUARD_BYTES);
    for (size_t i = 0; i < a->n && a->size == 4; i++) {
        value_make(at + GUARD_BYTES + 4 * i, a->fill, i, rng_word(key, i));
    }
    return at;
}

static void guards_check(const unsigned char *at, const struct array *a, const char *what) {
    size_t bytes = array_bytes(a) + GUARD_BYTES;
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        cr_assert(at[i] == 0x5a && at[bytes + i] == 0x5a, "%s wrote outside", what);
    }
}

static void array_compare(
    const unsigned char *got, const unsigned char *want, const struct array *a, const char *what) {
    if (a->size == 1) {
        cr_assert(memcmp(got, want, a->n) == 0, "%s: bytes differ", what);
        return;
    }
    for (size_t i = 0; i < a->n; i++) {
        float x, y;
        memcpy(&x, got + 4 * i, sizeof x);
        memcpy(&y, want + 4 * i, sizeof y);
        int same =
            isnan(y) ? isnan(x)
                     : x == y || fabs((double)x - (double)y) <= a->atol + a->rtol * fabs((double)y);
        cr_assert(
            same, "%s: element %zu of %zu is %.9g, not %.9g", what, i, a->n, (double)x, (double)y);
    }
}

static void cuda_ok(cudaError_t said) {
    cr_assert_eq(said, cudaSuccess, "%s", cudaGetErrorName(said));
}

/* after <- the arrays after the call. */
static void cuda_call(call *run, const void *of, const struct array *arrays, int count,
    unsigned char *const *before, unsigned char *const *after, const char *what) {
    void *room[ARRAYS] = {0}, *at[ARRAYS] = {0};
    for (int a = 0; a < count; a++) {
        size_t bytes = array_bytes(&arrays[a]) + (size_t)2 * GUARD_BYTES;
        cuda_ok(cudaMalloc(&room[a], bytes));
        stream_copy(q, room[a], before[a], bytes);
        at[a] = (unsigned char *)room[a] + GUARD_BYTES;
    }
    run(&kernels_cuda, q, at, of);
    for (int a = 0; a < count; a++) {
        stream_copy(q, after[a], room[a], array_bytes(&arrays[a]) + (size_t)2 * GUARD_BYTES);
    }
    cr_assert(stream_sync(q) == STATUS_OK, "%s: %s", what, fail_message());
    for (int a = 0; a < count; a++) cuda_ok(cudaFree(room[a]));
}

/* Calls the host's kernel once, and CUDA's as the head of this file says. */
static void both(
    const char *what, call *run, const void *of, const struct array *arrays, int count) {
    struct stream host = {.kernels = &kernels_host, .threads = 1};
    unsigned char *before[ARRAYS] = {0}, *want[ARRAYS] = {0}, *got[ARRAYS] = {0};
    unsigned char *first[ARRAYS] = {0};
    unsigned char **const all[] = {before, want, got, first};
    void *at[ARRAYS] = {0};
    for (int a = 0; a < count; a++) {
        for (int i = 0; i < 4; i++) all[i][a] = array_make(&arrays[a], (uint32_t)a);
        at[a] = want[a] + GUARD_BYTES;
    }
    order_set(0);
    run(&kernels_host, &host, at, of);
    cuda_call(run, of, arrays, count, before, first, what);
    for (int a = 0; a < count; a++) {
        guards_check(first[a], &arrays[a], what);
        if (!arrays[a].scratch)
            array_compare(first[a] + GUARD_BYTES, want[a] + GUARD_BYTES, &arrays[a], what);
    }
    for (int order = 0; order < ORDERS; order++) {
        order_set(order);
        cuda_call(run, of, arrays, count, before, got, what);
        for (int a = 0; a < count; a++) {
            size_t bytes = array_bytes(&arrays[a]) + (size_t)2 * GUARD_BYTES;
            cr_assert(
                memcmp(got[a], first[a], bytes) == 0, "%s: other bits in order %d", what, order);
        }
    }
    for (int i = 0; i < 4 * count; i++) free(all[i / count][i % count]);
}

#define BOTH(what, run, of, ...)                                                                   \
    do {                                                                                           \
        const struct array arrays_[] = {__VA_ARGS__};                                              \
        both((what), (run), (of), arrays_, (int)(sizeof arrays_ / sizeof *arrays_));               \
    } while (0)

/* ---- vectors ---- */

static void run_fill(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    k->fill(to, at[0], 0.7f, *(const size_t *)of);
}

static void run_mix(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    size_t n = *(const size_t *)of;
    k->mix(to, at[0], 0.3f, -0.7f, at[1], n);
    k->mix(to, at[2], 0, 0.9f, at[1], n);
    k->mix(to, at[3], 1.1f, 0, at[2], n);
    k->mix(to, at[4], 0, 0, at[2], n);
}

static void run_diff(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    size_t n = *(const size_t *)of;
    k->diff(to, at[0], 0.3f, at[1], at[2], n);
    k->diff(to, at[1], 0.3f, at[1], at[2], n);
    k->elastic(to, at[3], at[2], 0.3f, n);
}

static void run_sum(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    size_t n = *(const size_t *)of;
    float *v[64];
    float *wide = at[5];
    for (int i = 0; i < 5; i++) v[i] = at[i];
    k->sum(to, v, 5, 0.3f, n);
    for (size_t i = 0; i < 64; i++) v[i] = wide + i;
    k->sum(to, v, 64, 0.3f, 1);
    k->sum(to, v, 1, 0.3f, 1);
    k->sum(to, v, 0, 0.3f, 1);
}

/* Vectors that begin anywhere, and not all alike. */
static void run_shifted(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    size_t n = *(const size_t *)of - 3;
    float *a = at[0], *b = at[1], *c = at[2];
    float *v[3] = {a + 1, b + 1, c + 2};
    k->mix(to, a + 1, 0.3f, -0.7f, b + 1, n);
    k->diff(to, a + 2, 0.3f, b + 2, c + 2, n);
    k->elastic(to, b + 3, c + 3, 0.3f, n);
    k->elastic(to, b, c + 1, 0.3f, n);
    k->sum(to, v, 3, 0.3f, n);
    k->fill(to, a + 1, 0.7f, n / 2);
}

CUDA_TEST(vectors) {
    for (int i = 0; i < SIZES; i++) {
        size_t n = sizes[i];
        BOTH("fill", run_fill, &n, FLOATS(n, .fill = JUNK));
        /* A factor of 0 does not read. */
        BOTH("mix", run_mix, &n, FLOATS(n), FLOATS(n), FLOATS(n, .fill = JUNK), FLOATS(n),
            FLOATS(n, .fill = JUNK));
        BOTH("diff, elastic", run_diff, &n, FLOATS(n, .fill = JUNK), FLOATS(n), FLOATS(n),
            FLOATS(n));
        BOTH("sum", run_sum, &n, FLOATS(n), FLOATS(n), FLOATS(n), FLOATS(n), FLOATS(n), FLOATS(64));
        if (n < 3) continue;
        BOTH("shifted", run_shifted, &n, FLOATS(n), FLOATS(n), FLOATS(n));
    }
}

/* ---- optimizers ---- */

static void run_optimizers(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    size_t n = *(const size_t *)of;
    const struct step *step = at[6];
    k->look_ahead(to, at[5], at[0], 0.9f, at[1], n);
    k->momentum(to, at[0], at[1], at[2], 0.9f, step, n);
    k->sgd(to, at[0], at[2], step, n);
    k->rmsprop(to, at[3], at[4], at[2], 0.9f, 1e-3f, 1e-2f, step, n);
}

static void run_adam(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    k->adam(to, at[0], at[1], at[2], at[3], 0.9f, 0.999f, 0, 1e-8f, at[4], *(const size_t *)of);
}

CUDA_TEST(optimizers) {
    for (int i = 0; i < SIZES; i++) {
        size_t n = sizes[i];
        BOTH("momentum, look_ahead, sgd, rmsprop", run_optimizers, &n, FLOATS(n), FLOATS(n),
            FLOATS(n), FLOATS(n), FLOATS(n, .fill = POSITIVE), FLOATS(n, .fill = JUNK),
            FLOATS(2, .fill = STEP));
        /* expm1f is only good to a unit or two in the last place, twice; steps are about 0.1 long. */
        BOTH("adam", run_adam, &n, FLOATS(n, .atol = 4e-7), FLOATS(n), FLOATS(n, .fill = POSITIVE),
            FLOATS(n), FLOATS(2, .fill = STEP));
    }
}

/* ---- products ---- */

struct product {
    int count, ta, tb, m, n, k, beta;
};

/* Rows are stored longer than they are, and matrices further apart than they are large. */
static size_t rows_of(int transposed, int rows, int columns) {
    return (size_t)(transposed ? columns : rows);
}

static size_t length_of(int transposed, int rows, int columns) {
    return (size_t)(transposed ? rows : columns) + 3;
}

static size_t stride_of(int transposed, int rows, int columns) {
    return rows_of(transposed, rows, columns) * length_of(transposed, rows, columns) + 5;
}

static void run_gemm(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct product *p = of;
    k->gemm(to, p->count, p->ta, p->tb, p->m, p->n, p->k, 2, at[0],
        (int)length_of(p->ta, p->m, p->k), stride_of(p->ta, p->m, p->k), at[1],
        (int)length_of(p->tb, p->k, p->n), stride_of(p->tb, p->k, p->n), (float)p->beta, at[2],
        p->n + 3, stride_of(0, p->m, p->n));
}

/* Whole numbers: sums of products are exact, in any order. */
CUDA_TEST(gemm_takes_rows) {
    static const int shapes[][4] = {{1, 1, 1, 1}, {1, 31, 33, 5}, {3, 7, 10, 33}, {2, 64, 65, 129},
        {1, 0, 3, 4}, {0, 2, 3, 4}, {2, 3, 5, 0}, {1, 2, 600, 1}};
    for (size_t i = 0; i < 12 * sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i / 12];
        int variant = (int)(i % 12), ta = variant & 1, tb = variant >> 1 & 1, beta = variant / 4;
        struct product p = {s[0], ta, tb, s[1], s[2], s[3], beta};
        size_t count = (size_t)p.count;
        BOTH("gemm", run_gemm, &p, FLOATS(count * stride_of(ta, p.m, p.k), .fill = WHOLE),
            FLOATS(count * stride_of(tb, p.k, p.n), .fill = WHOLE),
            FLOATS(count * stride_of(0, p.m, p.n), .fill = beta ? WHOLE : JUNK));
    }
}

/* ---- activations and columns ---- */

struct tall {
    size_t rows;
    int c;
    enum activation act;
    int beta;
};

/* tanhf and expf are good to two units in the last place: 2.4e-7 of a value up to 1. */
static double act_tolerance(enum activation act) { return act >= ACTIVATION_TANH ? 5e-7 : 0; }

static void run_act(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct tall *s = of;
    if (s->rows > 4) k->fill(to, (float *)at[1] + 3, NAN, 1);
    k->act(to, at[0], at[1], s->act, s->rows);
    k->add_act(to, at[2], at[1], at[3], s->act, s->rows);
    k->act_grad(to, at[4], at[3], at[1], s->act, s->rows);
    k->act_grad(to, at[3], at[3], at[1], s->act, s->rows);
}

static void run_bias_act(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct tall *s = of;
    k->bias_act(to, at[0], at[1], s->act, s->rows, s->c);
}

static void run_bias_grad(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct tall *s = of;
    k->bias_grad(to, at[0], at[1], (float)s->beta, s->rows, s->c);
}

/* Few and many columns, below, at and above a block's; short, tall and no rows. */
static const struct tall talls[] = {{0, 5, 0, 0}, {1, 1, 0, 0}, {33, 31, 0, 0}, {255, 10, 0, 0},
    {65537, 1, 0, 0}, {5000, 16, 0, 0}, {4099, 33, 0, 0}, {1500, 256, 0, 0}, {300, 257, 0, 0},
    {64, 700, 0, 0}};
enum { TALLS = sizeof talls / sizeof *talls };

CUDA_TEST(activations) {
    for (int a = ACTIVATION_NONE; a <= ACTIVATION_SIGMOID; a++) {
        double tol = act_tolerance((enum activation)a);
        for (int i = 0; i < SIZES; i++) {
            size_t n = sizes[i];
            struct tall s = {.rows = n, .act = (enum activation)a};
            BOTH("act, add_act, act_grad", run_act, &s, FLOATS(n, .fill = JUNK, .atol = tol),
                FLOATS(n), FLOATS(n, .fill = JUNK, .atol = tol), FLOATS(n),
                FLOATS(n, .fill = JUNK));
        }
        for (int i = 0; i < TALLS; i++) {
            struct tall s = talls[i];
            size_t c = (size_t)s.c;
            s.act = (enum activation)a;
            BOTH("bias_act", run_bias_act, &s, FLOATS(s.rows * c, .atol = tol), FLOATS(c));
        }
    }
}

/* The host adds up to 256 rows one after another, each time losing up to 6e-8 of a partial sum of
 * some sqrt(rows): four deviations of that. */
static double column_tolerance(size_t rows) { return 4 * 16 * 6e-8 * sqrt((double)rows + 1); }

CUDA_TEST(sums_of_columns) {
    for (int i = 0; i < 3 * TALLS; i++) {
        struct tall s = talls[i / 3];
        size_t c = (size_t)s.c;
        s.beta = i % 3;
        BOTH("bias_grad of whole numbers", run_bias_grad, &s,
            FLOATS(c, .fill = s.beta ? WHOLE : JUNK), FLOATS(s.rows * c, .fill = WHOLE));
        BOTH("bias_grad", run_bias_grad, &s,
            FLOATS(c, .fill = s.beta ? UNITS : JUNK, .atol = column_tolerance(s.rows)),
            FLOATS(s.rows * c));
    }
}

/* As many slices as have room in the scratch, to its last byte. */
CUDA_TEST(tall_and_wide_sums_of_columns) {
    const struct tall s = {.rows = 4200, .c = 512};
    BOTH("bias_grad of whole numbers", run_bias_grad, &s, FLOATS(512, .fill = JUNK),
        FLOATS(s.rows * 512, .fill = WHOLE));
}

/* ---- batch norm ---- */

static void run_statistics(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct tall *s = of;
    k->batchnorm_statistics(to, at[0], at[1], at[2], s->rows, s->c);
}

static void run_norm(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct tall *s = of;
    k->batchnorm_forward(
        to, at[0], at[1], at[2], at[3], 1e-5f, at[4], at[5], s->act, s->rows, s->c);
}

static void run_grad_sums(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct tall *s = of;
    k->batchnorm_grad_sums(to, at[0], at[1], at[2], at[3], at[4], at[5], 1e-5f, s->rows, s->c);
}

static void run_grad_input(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct tall *s = of;
    float *both[2] = {s->beta ? at[6] : NULL, s->beta ? at[7] : NULL};
    k->batchnorm_grad_input(
        to, at[0], at[1], at[2], at[3], at[4], 1e-5f, at[5], both[0], both[1], s->rows, s->c);
}

CUDA_TEST(batch_norm) {
    for (int i = 0; i < 2 * TALLS; i++) {
        struct tall s = talls[i / 2];
        size_t c = (size_t)s.c, n = s.rows * c;
        double tol = column_tolerance(s.rows);
        s.act = i % 2 ? ACTIVATION_RELU : ACTIVATION_NONE;
        s.beta = i % 2;
        /* A mean of numbers around 1 is good to a few units in the last place, on both. */
        BOTH("statistics", run_statistics, &s, FLOATS(c, .fill = JUNK, .atol = 1e-6),
            FLOATS(c, .fill = JUNK, .atol = 1e-6), FLOATS(n, .fill = i % 2 ? POSITIVE : UNITS));
        BOTH("forward", run_norm, &s, FLOATS(n, .fill = JUNK), FLOATS(n), FLOATS(c),
            FLOATS(c, .fill = POSITIVE), FLOATS(c), FLOATS(c));
        BOTH("grad_sums", run_grad_sums, &s, FLOATS(c, .fill = JUNK, .atol = tol),
            FLOATS(c, .fill = JUNK, .atol = tol), FLOATS(n), FLOATS(n), FLOATS(c),
            FLOATS(c, .fill = POSITIVE));
        BOTH("grad_input", run_grad_input, &s, FLOATS(n, .fill = JUNK), FLOATS(n), FLOATS(n),
            FLOATS(c), FLOATS(c, .fill = POSITIVE), FLOATS(c), FLOATS(c), FLOATS(c));
    }
}

/* A mean of squares less a squared mean would give anything here, but not 1/3. */
static void run_far(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct tall *s = of;
    k->fill(to, at[3], 4096, s->rows * (size_t)s->c);
    k->mix(to, at[2], 1, 1, at[3], s->rows * (size_t)s->c);
    run_statistics(k, to, at, of);
}

CUDA_TEST(a_variance_far_from_zero_is_kept) {
    struct tall s = {.rows = 20000, .c = 3};
    BOTH("statistics", run_far, &s, FLOATS(3, .fill = JUNK, .rtol = 2e-7),
        FLOATS(3, .fill = JUNK, .atol = 1e-6), FLOATS(60000), FLOATS(60000));
}

/* ---- images ---- */

/* batch, h, w, c; size, stride, top, left; out_h, out_w, out_c */
static const struct conv_shape convs[] = {
    {1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1}, {3, 8, 8, 1, 3, 1, 1, 1, 8, 8, 16},
    {5, 7, 6, 3, 5, 1, 2, 2, 7, 6, 5}, {3, 8, 9, 17, 3, 2, 0, 1, 4, 5, 33},
    {2, 6, 6, 40, 2, 3, 0, 0, 2, 2, 7}, {2, 4, 3, 2, 7, 1, 3, 3, 4, 3, 2},
    {2, 32, 32, 16, 3, 1, 1, 1, 32, 32, 16}, {3, 16, 16, 16, 1, 2, 0, 0, 8, 8, 32},
    {0, 4, 4, 1, 3, 1, 0, 0, 2, 2, 1},
    {2, 70, 70, 3, 12, 1, 5, 6, 70, 70, 1}, /* an image at a time: 2.1 M floats of columns each */
};
enum { CONVS = sizeof convs / sizeof *convs };

struct conv_case {
    struct conv_shape s;
    int bias, beta;
    enum activation act;
};

static void run_conv(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct conv_case *p = of;
    k->conv_forward(to, &p->s, at[0], at[1], at[2], p->bias ? at[3] : NULL, p->act, at[4]);
}

static void run_conv_input(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct conv_case *p = of;
    k->conv_grad_input(to, &p->s, at[0], at[1], at[2], at[3]);
}

static void run_conv_weight(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct conv_case *p = of;
    k->conv_grad_weight(to, &p->s, at[0], (float)p->beta, at[1], at[2], at[3]);
}

/* On q; the workspace is what q asks for, to the float. */
static void convolve_all(void) {
    const struct stream one = {.kernels = &kernels_host, .threads = 1};
    for (int i = 0; i < 3 * CONVS; i++) {
        const struct conv_shape *s = &convs[i / 3];
        struct conv_case p = {*s, i % 3 != 2, i % 3, i % 3 ? ACTIVATION_RELU : ACTIVATION_NONE};
        size_t batch = (size_t)s->batch, w = (size_t)(s->size * s->size * s->c * s->out_c);
        size_t x = batch * (size_t)(s->h * s->w * s->c);
        size_t y = batch * (size_t)(s->out_h * s->out_w * s->out_c);
        size_t room = kernels_host.conv_workspace(&one, s);
        if (room < kernels_cuda.conv_workspace(q, s)) room = kernels_cuda.conv_workspace(q, s);
        struct array space = FLOATS(room, .fill = JUNK, .scratch = 1);
        BOTH("conv_forward", run_conv, &p, FLOATS(y, .fill = JUNK), FLOATS(x, .fill = WHOLE),
            FLOATS(w, .fill = WHOLE), FLOATS((size_t)s->out_c, .fill = WHOLE), space);
        BOTH("conv_grad_input", run_conv_input, &p, FLOATS(x, .fill = JUNK),
            FLOATS(y, .fill = WHOLE), FLOATS(w, .fill = WHOLE), space);
        BOTH("conv_grad_weight", run_conv_weight, &p, FLOATS(w, .fill = p.beta ? WHOLE : JUNK),
            FLOATS(y, .fill = WHOLE), FLOATS(x, .fill = WHOLE), space);
    }
}

CUDA_TEST(convolutions) { convolve_all(); }

CUDA_TEST(convolutions_by_cudnn) {
    char words[160];
    stream_again(1);
    convolve_all();
    if (!stream_convolves(q, words)) cr_skip_test("convolutions by %s", words);
#ifdef CUDASIM
    /* All but the one of no images, and the two that are padded unevenly. */
    cr_assert(strstr(words, ", 3 of 10 shapes by columns and products"), "%s", words);
#else
    cr_assert(!strstr(words, ", 10 of 10 shapes"), "%s", words);
#endif
}

/* The three calls of shape s in a row, with what they read and write. */
struct convolution {
    struct conv_shape s;
    size_t x, y, w;
    float *at[7]; /* x, W, dz, y, dx, dW, workspace */
};
enum { X, W, DZ, Y, DX, DW, SPACE };

static void convolution_open(struct convolution *c, const struct conv_shape *s) {
    size_t batch = (size_t)s->batch, room = kernels_cuda.conv_workspace(q, s);
    c->s = *s;
    c->x = batch * (size_t)(s->h * s->w * s->c);
    c->y = batch * (size_t)(s->out_h * s->out_w * s->out_c);
    c->w = (size_t)(s->size * s->size * s->c * s->out_c);
    const size_t n[] = {c->x, c->w, c->y, c->y, c->x, c->w, room};
    for (int i = 0; i < 7; i++) {
        cr_assert(device_alloc(device, (void **)&c->at[i], n[i] * sizeof(float)) == STATUS_OK);
    }
    for (int i = 0; i < 3; i++) {
        const struct array a = FLOATS(n[i]);
        unsigned char *from = array_make(&a, (uint32_t)i);
        stream_copy(q, c->at[i], from + GUARD_BYTES, n[i] * sizeof(float));
        cr_assert(stream_sync(q) == STATUS_OK, "%s", fail_message());
        free(from);
    }
}

static void convolve(const struct convolution *c) {
    const struct kernels *k = &kernels_cuda;
    float *const *at = c->at;
    k->conv_forward(q, &c->s, at[Y], at[X], at[W], NULL, ACTIVATION_RELU, at[SPACE]);
    k->conv_grad_input(q, &c->s, at[DX], at[DZ], at[W], at[SPACE]);
    k->conv_grad_weight(q, &c->s, at[DW], 0, at[DZ], at[X], at[SPACE]);
}

/* What the three wrote, malloc-ed: y, dx, dW. What was there is NaN again. */
static float *convolution_take(const struct convolution *c) {
    float *all = malloc((c->y + c->x + c->w) * sizeof *all);
    cr_assert(all != NULL);
    stream_copy(q, all, c->at[Y], c->y * sizeof *all);
    stream_copy(q, all + c->y, c->at[DX], c->x * sizeof *all);
    stream_copy(q, all + c->y + c->x, c->at[DW], c->w * sizeof *all);
    cr_assert(stream_sync(q) == STATUS_OK, "%s", fail_message());
    for (size_t i = 0; i < c->y + c->x + c->w; i++) cr_assert(!isnan(all[i]), "value %zu", i);
    kernels_cuda.fill(q, c->at[Y], NAN, c->y);
    kernels_cuda.fill(q, c->at[DX], NAN, c->x);
    kernels_cuda.fill(q, c->at[DW], NAN, c->w);
    cr_assert(stream_sync(q) == STATUS_OK, "%s", fail_message());
    return all;
}

/* A graph has the bits of the calls that it was recorded of, each time. */
CUDA_TEST(convolutions_are_recorded_and_replayed) {
    static const struct conv_shape s = {6, 9, 8, 5, 3, 1, 1, 1, 9, 8, 35};
    for (int cudnn = 0; cudnn < 2; cudnn++) {
        struct convolution c;
        struct capture *graph;
        stream_again(cudnn);
        convolution_open(&c, &s);
        convolve(&c);
        float *want = convolution_take(&c);
        cr_assert(stream_sync(q) == STATUS_OK && stream_capture_begin(q) == STATUS_OK);
        convolve(&c);
        cr_assert(stream_capture_end(q, &graph) == STATUS_OK, "%s", fail_message());
        for (int turn = 0; turn < 2; turn++) {
            stream_replay(q, graph);
            float *got = convolution_take(&c);
            cr_assert(memcmp(got, want, (c.y + c.x + c.w) * sizeof *got) == 0, "turn %d", turn);
            free(got);
        }
        capture_close(graph, device);
        free(want);
    }
}

#ifdef CUDASIM

static long cudnn_calls_of(const struct convolution *c) {
    long before = cudasim_cudnn_calls();
    convolve(c);
    cr_assert(stream_sync(q) == STATUS_OK, "%s", fail_message());
    return cudasim_cudnn_calls() - before;
}

#ifdef HAVE_CUDNN
enum { BY_CUDNN = 3 };
#else
enum { BY_CUDNN = 0 };
#endif

CUDA_TEST(cudnn_does_what_is_padded_evenly) {
    static const struct {
        struct conv_shape s;
        int even;
    } cases[] = {
        {{2, 8, 8, 3, 3, 1, 1, 1, 8, 8, 4}, 1},
        {{2, 8, 8, 3, 3, 2, 1, 1, 4, 4, 4}, 1}, /* a row that no window reaches */
        {{2, 8, 8, 3, 3, 2, 0, 0, 4, 4, 4}, 0}, /* one more below, and to the right */
        {{2, 9, 8, 3, 3, 2, 1, 0, 5, 4, 4}, 0}, /* to the right only */
        {{2, 8, 9, 3, 3, 2, 0, 1, 4, 5, 4}, 0}, /* below only */
        {{2, 8, 8, 3, 3, 1, 1, 1, 7, 8, 4}, 0}, /* less below */
        {{2, 8, 8, 3, 3, 1, 0, 0, 6, 6, 4}, 1}, /* none */
        {{2, 2, 2, 3, 5, 1, 2, 2, 2, 2, 4}, 1}, /* larger than its image */
        {{2, 16, 16, 3, 1, 2, 0, 0, 8, 8, 4}, 1},
    };
    stream_again(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct convolution c;
        convolution_open(&c, &cases[i].s);
        cr_assert(cudnn_calls_of(&c) == BY_CUDNN * cases[i].even, "case %zu", i);
    }
}

CUDA_TEST(cudnn_does_nothing_where_it_is_not_wanted) {
    struct convolution c;
    stream_again(0);
    convolution_open(&c, &convs[1]);
    cr_assert(cudnn_calls_of(&c) == 0);
}

/* The simulated one wants more for 3 images than for 4. */
CUDA_TEST(fewer_images_need_no_more_room) {
    static const struct conv_shape shapes[] = {/* more weights than columns, and the reverse */
        {4, 1, 1, 1, 1, 1, 0, 0, 1, 1, 500}, {4, 16, 16, 8, 3, 1, 1, 1, 16, 16, 8}};
    stream_again(1);
    for (int i = 0; i < 2; i++) {
        struct convolution c;
        convolution_open(&c, &shapes[i]);
        for (c.s.batch = 1; c.s.batch <= 4; c.s.batch++) {
            int fits = c.s.batch != 3;
            cr_assert(cudnn_calls_of(&c) == BY_CUDNN * fits, "%d images", c.s.batch);
        }
    }
}

/* Its library is missing, refuses, wants too much: the numbers are the same as without it. */
CUDA_TEST(without_cudnn_columns_and_products_do_it) {
    static const char *const trouble[] = {"0", "2", "3"};
    static const char *const says[] = {
        "columns and products; no cuDNN: there is no simulated cuDNN",
        ", 1 of 1 shapes by columns and products", ", 1 of 1 shapes by columns and products"};
    struct convolution c;
    char words[160];
    stream_again(0);
    convolution_open(&c, &convs[1]);
    convolve(&c);
    float *want = convolution_take(&c);
    for (int i = 0; i < 3; i++) {
        setenv("CUDASIM_CUDNN", trouble[i], 1);
        stream_again(1);
        cr_assert(stream_convolves(q, words) == 0 && !*words, "%s", words);
        cr_assert(kernels_cuda.conv_workspace(q, &c.s) > 0 && cudnn_calls_of(&c) == 0);
        float *got = convolution_take(&c);
        cr_assert(memcmp(got, want, (c.y + c.x + c.w) * sizeof *got) == 0, "%s", trouble[i]);
        free(got);
        cr_assert(stream_convolves(q, words) == (BY_CUDNN && i > 0));
        if (BY_CUDNN) cr_assert(strstr(words, says[i]), "%s", words);
    }
    free(want);
}

#endif

/* batch, h, w, c; size, stride; out_h, out_w: tiled, with gaps, overlapping, with a rest */
static const struct pool_shape pools[] = {{1, 1, 1, 1, 1, 1, 1, 1}, {2, 8, 6, 3, 2, 2, 4, 3},
    {2, 9, 7, 5, 3, 2, 4, 3}, {3, 7, 8, 17, 2, 3, 2, 3}, {1, 20, 18, 2, 16, 1, 5, 3},
    {2, 32, 32, 16, 3, 1, 30, 30}, {0, 4, 4, 1, 2, 2, 2, 2}};
enum { POOLS = sizeof pools / sizeof *pools };

static void run_maxpool(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    k->maxpool_forward(to, of, at[0], at[1], at[2]);
    k->maxpool_backward(to, of, at[3], at[4], at[1]);
}

static void run_avgpool(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    k->avgpool_forward(to, of, at[0], at[1]);
    k->avgpool_backward(to, of, at[2], at[3]);
}

static void run_globalavgpool(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct pool_shape *s = of;
    size_t pixels = (size_t)(s->h * s->w);
    k->globalavgpool_forward(to, at[0], at[1], s->batch, pixels, s->c);
    k->globalavgpool_backward(to, at[2], at[3], s->batch, pixels, s->c);
}

static void run_maxpool_nan(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    float *x = at[2];
    k->fill(to, x, NAN, 1);     /* the first of a window, */
    k->fill(to, x + 4, NAN, 1); /* the second of one */
    k->fill(to, x + 7, -INFINITY, 9);
    run_maxpool(k, to, at, of);
}

CUDA_TEST(pools) {
    for (int i = 0; i < POOLS; i++) {
        const struct pool_shape *s = &pools[i];
        size_t images = (size_t)(s->batch * s->c), x = images * (size_t)(s->h * s->w);
        size_t y = images * (size_t)(s->out_h * s->out_w);
        for (int whole = 0; whole < 2; whole++) {
            enum fill fill = whole ? WHOLE : UNITS; /* whole numbers are often equal */
            BOTH("maxpool", run_maxpool, s, FLOATS(y, .fill = JUNK), BYTES(y),
                FLOATS(x, .fill = fill), FLOATS(x, .fill = JUNK), FLOATS(y));
        }
        BOTH("avgpool", run_avgpool, s, FLOATS(y, .fill = JUNK), FLOATS(x), FLOATS(x, .fill = JUNK),
            FLOATS(y));
        BOTH("globalavgpool", run_globalavgpool, s, FLOATS(images, .fill = JUNK), FLOATS(x),
            FLOATS(x, .fill = JUNK), FLOATS(images));
    }
    BOTH("maxpool of NaN", run_maxpool_nan, &pools[1], FLOATS(72, .fill = JUNK), BYTES(72),
        FLOATS(288), FLOATS(288, .fill = JUNK), FLOATS(72));
}

/* ---- dropout ---- */

struct drop {
    size_t n;
    float keep;
};

static void run_dropout(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct drop *d = of;
    const struct rng_key key = {.seed = 5, .salt = RNG_DROPOUT, .id = 4099};
    k->dropout_mask(to, at[0], key, d->keep, at[1], d->n);
    k->dropout(to, at[2], at[3], at[0], d->keep > 0 ? d->keep : 1, d->n);
    k->dropout(to, at[3], at[3], at[0], 0.5f, d->n);
}

/* Sixteenths tell the upper four bits of every word. */
CUDA_TEST(dropout_masks_and_what_they_leave) {
    for (int i = 0; i < 17 * SIZES; i++) {
        struct drop d = {sizes[i / 17], (float)(i % 17) / 16};
        BOTH("dropout", run_dropout, &d, BYTES(d.n), FLOATS(2, .fill = STEP),
            FLOATS(d.n, .fill = JUNK), FLOATS(d.n));
    }
}

/* ---- losses ---- */

struct rows {
    int B, C, grad;
    float smoothing, odd; /* logits 3 .. 5 are this, unless it is 0 */
};

static void run_softmax(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    const struct rows *s = of;
    float *logits = at[2];
    if (s->odd != 0) k->fill(to, logits + 3, s->odd, 3);
    k->softmax_cross_entropy(to, at[0], s->grad ? at[1] : NULL, at[2], at[3], 1 / (float)(s->B + 1),
        s->smoothing, s->B, s->C);
    k->right(to, at[4], at[2], at[3], s->B, s->C);
}

CUDA_TEST(softmax_and_right) {
    static const int shapes[][2] = {
        {0, 10}, {1, 10}, {33, 10}, {64, 31}, {9, 33}, {31, 1000}, {3, 1025}, {2, 5003}};
    static const float odd[] = {0, 0, NAN, INFINITY, -INFINITY, 100, -3e38f};
    for (int i = 0; i < 7 * 8; i++) {
        struct rows s = {
            shapes[i / 7][0], shapes[i / 7][1], i % 7 != 1, i % 2 ? 0.1f : 0, odd[i % 7]};
        size_t B = (size_t)s.B, n = B * (size_t)s.C;
        if (s.odd != 0 && n < 6) continue;
        /* expf and logf are good to two units in the last place; a sum of C of them, added in
         * another order, to a few more, and a smoothed one of differences up to 100 to as many
         * of theirs. Gradients are below `scale`, most far below. */
        BOTH("softmax", run_softmax, &s, FLOATS(B, .fill = JUNK, .atol = 2e-6, .rtol = 2e-6),
            FLOATS(n, .fill = JUNK, .atol = 2e-6 / (s.B + 1)),
            FLOATS(n, .fill = i % 2 ? WHOLE : UNITS), FLOATS(B, .fill = LABEL),
            FLOATS(B, .fill = JUNK));
    }
}

/* The bits of a NaN are a label that is no class. */
CUDA_TEST(a_label_that_is_no_class_gives_nan) {
    const struct rows s = {5, 10, 1, 0, 0};
    const struct array arrays[] = {
        FLOATS(5), FLOATS(50), FLOATS(50), FLOATS(5, .fill = JUNK), FLOATS(5)};
    unsigned char *at[5];
    for (int a = 0; a < 5; a++) at[a] = array_make(&arrays[a], (uint32_t)a);
    cuda_call(run_softmax, &s, arrays, 5, at, at, "softmax");
    for (size_t i = 0; i < 55; i++) {
        float v;
        memcpy(&v, at[i < 5 ? 0 : 1] + GUARD_BYTES + 4 * (i < 5 ? i : i - 5), sizeof v);
        cr_assert(isnan(v), "value %zu is %g", i, (double)v);
    }
    for (int a = 0; a < 5; a++) free(at[a]);
}

static void run_total(const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    k->total(to, at[0], at[1], *(const size_t *)of);
}

static void run_distance(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    k->distance(to, at[0], at[1], at[2], *(const size_t *)of);
    k->distance(to, at[3], at[1], NULL, *(const size_t *)of);
}

static void run_quadratic(
    const struct kernels *k, struct stream *to, void *const *at, const void *of) {
    k->quadratic(to, at[0], at[1], at[2], at[3], at[4], at[5], *(const size_t *)of);
}

/* Sums are taken in double: rounded to float they may be a unit in the last place apart. */
CUDA_TEST(totals_distances_and_the_quadratic) {
    static const size_t all[] = {0, 1, 31, 33, 255, 2048, 2049, 65537};
    for (int i = 0; i < 8; i++) {
        size_t n = all[i];
        BOTH("total", run_total, &n, FLOATS(1, .fill = JUNK, .rtol = 1.2e-7), FLOATS(n));
        BOTH("distance", run_distance, &n, FLOATS(1, .fill = JUNK, .rtol = 1.2e-7), FLOATS(n),
            FLOATS(n), FLOATS(1, .fill = JUNK, .rtol = 1.2e-7));
        BOTH("quadratic", run_quadratic, &n, FLOATS(n, .fill = JUNK),
            FLOATS(1, .fill = JUNK, .rtol = 1.2e-7), FLOATS(n), FLOATS(n, .fill = POSITIVE),
            FLOATS(n), FLOATS(n));
    }
}

/* As many blocks as there are at most, each with more than one turn. */
CUDA_TEST(a_long_total_of_whole_numbers_is_exact) {
    const size_t n = ((size_t)2 << 20) + 4097;
    BOTH("total", run_total, &n, FLOATS(1, .fill = JUNK), FLOATS(n, .fill = WHOLE));
}

/* ---- the table ---- */

CUDA_TEST(no_slot_is_empty) {
    const unsigned char *at = (const unsigned char *)&kernels_cuda;
    for (size_t i = 0; i < sizeof kernels_cuda / sizeof(void (*)(void)); i++) {
        void (*slot)(void);
        memcpy(&slot, at + i * sizeof slot, sizeof slot);
        cr_assert(slot != NULL, "slot %zu", i);
    }
}

/* Everything that writes is called with nothing but NULL: a failed stream must not look. */
CUDA_TEST(a_failed_stream_does_nothing) {
    const struct kernels *k = &kernels_cuda;
    const struct conv_shape conv = {1, 3, 3, 1, 3, 1, 0, 0, 1, 1, 1};
    const struct pool_shape pool = {1, 2, 2, 1, 2, 2, 1, 1};
    const struct rng_key key = {0, 0, 0};
    q->failed = STATUS_DEVICE;
    k->fill(q, NULL, 1, 9);
    k->mix(q, NULL, 1, 1, NULL, 9);
    k->diff(q, NULL, 1, NULL, NULL, 9);
    k->elastic(q, NULL, NULL, 1, 9);
    k->sum(q, NULL, 2, 1, 9);
    k->distance(q, NULL, NULL, NULL, 9);
    k->sgd(q, NULL, NULL, NULL, 9);
    k->momentum(q, NULL, NULL, NULL, 1, NULL, 9);
    k->look_ahead(q, NULL, NULL, 1, NULL, 9);
    k->gemm(q, 1, 0, 0, 2, 2, 2, 1, NULL, 2, 0, NULL, 2, 0, 0, NULL, 2, 0);
    k->bias_act(q, NULL, NULL, ACTIVATION_NONE, 2, 2);
    k->act_grad(q, NULL, NULL, NULL, ACTIVATION_RELU, 9);
    k->act(q, NULL, NULL, ACTIVATION_RELU, 9);
    k->add_act(q, NULL, NULL, NULL, ACTIVATION_RELU, 9);
    k->bias_grad(q, NULL, NULL, 0, 2, 2);
    k->conv_forward(q, &conv, NULL, NULL, NULL, NULL, ACTIVATION_NONE, NULL);
    k->conv_grad_input(q, &conv, NULL, NULL, NULL, NULL);
    k->conv_grad_weight(q, &conv, NULL, 0, NULL, NULL, NULL);
    k->maxpool_forward(q, &pool, NULL, NULL, NULL);
    k->maxpool_backward(q, &pool, NULL, NULL, NULL);
    k->avgpool_forward(q, &pool, NULL, NULL);
    k->avgpool_backward(q, &pool, NULL, NULL);
    k->globalavgpool_forward(q, NULL, NULL, 2, 2, 2);
    k->globalavgpool_backward(q, NULL, NULL, 2, 2, 2);
    k->batchnorm_statistics(q, NULL, NULL, NULL, 2, 2);
    k->batchnorm_forward(q, NULL, NULL, NULL, NULL, 1, NULL, NULL, ACTIVATION_NONE, 2, 2);
    k->batchnorm_grad_sums(q, NULL, NULL, NULL, NULL, NULL, NULL, 1, 2, 2);
    k->batchnorm_grad_input(q, NULL, NULL, NULL, NULL, NULL, 1, NULL, NULL, NULL, 2, 2);
    k->dropout_mask(q, NULL, key, 1, NULL, 9);
    k->dropout(q, NULL, NULL, NULL, 1, 9);
    k->softmax_cross_entropy(q, NULL, NULL, NULL, NULL, 1, 0, 2, 2);
    k->right(q, NULL, NULL, NULL, 2, 2);
    k->total(q, NULL, NULL, 9);
    k->quadratic(q, NULL, NULL, NULL, NULL, NULL, NULL, 9);
    cr_assert(stream_sync(q) == STATUS_DEVICE);
}

#endif
