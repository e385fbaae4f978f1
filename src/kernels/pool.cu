/* pool.cu -- CUDA: maxpool_forward, maxpool_backward, and the same of avgpool and globalavgpool.
 *
 * Outputs are taken by one thread each, also where they are gradients of inputs: it asks the
 * windows that its input is in, in their order.
 */
#include "kernels/cuda.h"
#include "kernels/cuda_reduce.cuh"

static void shape_check(const struct pool_shape *s) {
    ASSERT(s->size >= 1 && s->stride >= 1);
    ASSERT((s->out_h - 1) * s->stride + s->size <= s->h);
    ASSERT((s->out_w - 1) * s->stride + s->size <= s->w);
}

static size_t inputs(const struct pool_shape *s) {
    return (size_t)s->batch * (size_t)s->h * (size_t)s->w * (size_t)s->c;
}

static size_t outputs(const struct pool_shape *s) {
    return (size_t)s->batch * (size_t)s->out_h * (size_t)s->out_w * (size_t)s->c;
}

/* The first float of output `at`'s window. */
static inline __device__ size_t window_first(const struct pool_shape &s, size_t at) {
    size_t image = at, c = coordinate_off(&image, s.c);
    size_t left = (size_t)coordinate_off(&image, s.out_w) * s.stride;
    size_t top = (size_t)coordinate_off(&image, s.out_h) * s.stride;
    return ((image * s.h + top) * s.w + left) * s.c + c;
}

/* The windows that reach an input: rows i0 .. i1 - 1 and columns j0 .. j1 - 1 of its image's, with
 * the outputs of channel c from `first` on. The input is in place y - i stride, x - j stride. */
struct windows {
    int y, x, i0, i1, j0, j1;
    size_t first;
};

static inline __device__ struct windows windows_of(const struct pool_shape &s, size_t at) {
    struct windows v;
    size_t image = at, c = coordinate_off(&image, s.c);
    v.x = (int)coordinate_off(&image, s.w);
    v.y = (int)coordinate_off(&image, s.h);
    v.i0 = v.y < s.size ? 0 : (v.y - s.size) / s.stride + 1;
    v.j0 = v.x < s.size ? 0 : (v.x - s.size) / s.stride + 1;
    v.i1 = v.y / s.stride < s.out_h ? v.y / s.stride + 1 : s.out_h;
    v.j1 = v.x / s.stride < s.out_w ? v.x / s.stride + 1 : s.out_w;
    v.first = image * s.out_h * s.out_w * s.c + c;
    return v;
}

/* A NaN is larger than all, so that it is passed on. */
static __global__ void maxpool_forward_kernel(
    struct pool_shape s, float *y, uint8_t *where, const float *x, size_t n) {
    FOR_EACH (at, n) {
        const float *first = x + window_first(s, at);
        float best = *first;
        int place = 0;
        for (int i = 0; i < s.size; i++) {
            for (int j = 0; j < s.size; j++) {
                float v = first[((size_t)i * s.w + j) * s.c];
                if (v > best || (v != v && best == best)) best = v, place = i * s.size + j;
            }
        }
        y[at] = best;
        where[at] = (uint8_t)place;
    }
}

void cuda_maxpool_forward(
    struct stream *q, const struct pool_shape *s, float *y, uint8_t *where, const float *x) {
    if (q->failed != STATUS_OK) return;
    shape_check(s);
    ASSERT(s->size <= 16);
    LAUNCH(
        maxpool_forward_kernel, q, blocks_for(outputs(s)), THREADS, 0, *s, y, where, x, outputs(s));
}

static __global__ void maxpool_backward_kernel(
    struct pool_shape s, float *dx, const float *dy, const uint8_t *where, size_t n) {
    FOR_EACH (at, n) {
        struct windows v = windows_of(s, at);
        float sum = 0;
        for (int i = v.i0; i < v.i1; i++) {
            for (int j = v.j0; j < v.j1; j++) {
                size_t out = v.first + ((size_t)i * s.out_w + j) * s.c;
                int place = (v.y - i * s.stride) * s.size + v.x - j * s.stride;
                sum += where[out] == place ? dy[out] : 0;
            }
        }
        dx[at] = sum;
    }
}

void cuda_maxpool_backward(struct stream *q, const struct pool_shape *s, float *dx, const float *dy,
    const uint8_t *where) {
    if (q->failed != STATUS_OK) return;
    shape_check(s);
    LAUNCH(maxpool_backward_kernel, q, blocks_for(inputs(s)), THREADS, 0, *s, dx, dy, where,
        inputs(s));
}

/* ---- means ---- */

static __global__ void avgpool_forward_kernel(
    struct pool_shape s, float *y, const float *x, size_t n) {
    float scale = 1 / ((float)s.size * (float)s.size);
    FOR_EACH (at, n) {
        const float *first = x + window_first(s, at);
        float sum = 0;
        for (int i = 0; i < s.size; i++) {
            for (int j = 0; j < s.size; j++) sum += scale * first[((size_t)i * s.w + j) * s.c];
        }
        y[at] = sum;
    }
}

void cuda_avgpool_forward(struct stream *q, const struct pool_shape *s, float *y, const float *x) {
    if (q->failed != STATUS_OK) return;
    shape_check(s);
    LAUNCH(avgpool_forward_kernel, q, blocks_for(outputs(s)), THREADS, 0, *s, y, x, outputs(s));
}

static __global__ void avgpool_backward_kernel(
    struct pool_shape s, float *dx, const float *dy, size_t n) {
    float scale = 1 / ((float)s.size * (float)s.size);
    FOR_EACH (at, n) {
        struct windows v = windows_of(s, at);
        float sum = 0;
        for (int i = v.i0; i < v.i1; i++) {
            for (int j = v.j0; j < v.j1; j++) {
                sum += scale * dy[v.first + ((size_t)i * s.out_w + j) * s.c];
            }
        }
        dx[at] = sum;
    }
}

void cuda_avgpool_backward(
    struct stream *q, const struct pool_shape *s, float *dx, const float *dy) {
    if (q->failed != STATUS_OK) return;
    shape_check(s);
    LAUNCH(avgpool_backward_kernel, q, blocks_for(inputs(s)), THREADS, 0, *s, dx, dy, inputs(s));
}

static __global__ void globalavgpool_forward_kernel(
    float *y, const float *x, size_t pixels, int c, size_t n) {
    FOR_EACH (at, n) {
        size_t image = at, j = coordinate_off(&image, c);
        const float *first = x + image * pixels * c + j;
        float sum = 0;
        for (size_t i = 0; i < pixels; i++) sum += first[i * c];
        y[at] = sum / (float)pixels;
    }
}

void cuda_globalavgpool_forward(
    struct stream *q, float *y, const float *x, int batch, size_t pixels, int c) {
    size_t n = (size_t)batch * (size_t)c;
    LAUNCH(globalavgpool_forward_kernel, q, blocks_for(n), THREADS, 0, y, x, pixels, c, n);
}

static __global__ void globalavgpool_backward_kernel(
    float *dx, const float *dy, size_t pixels, int c, size_t n) {
    FOR_EACH (at, n) {
        size_t pixel = at, j = coordinate_off(&pixel, c);
        dx[at] = dy[pixel / pixels * c + j] / (float)pixels;
    }
}

void cuda_globalavgpool_backward(
    struct stream *q, float *dx, const float *dy, int batch, size_t pixels, int c) {
    size_t n = (size_t)batch * pixels * (size_t)c;
    LAUNCH(globalavgpool_backward_kernel, q, blocks_for(n), THREADS, 0, dx, dy, pixels, c, n);
}
