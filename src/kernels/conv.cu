/* conv.cu -- CUDA: conv_workspace, conv_forward, conv_grad_input, conv_grad_weight.
 *
 * By cuDNN where cuda_dnn.h has a plan. Else as on the host: columns (pixels, taps) of several images
 * at a time, and products. The columns of one time are few enough to stay in a GPU's second-level
 * cache, and enough to keep it busy.
 */
#include "kernels/cuda.h"
#include "kernels/cuda_dnn.h"
#include "kernels/cuda_reduce.cuh"

enum { COLUMNS = 1 << 22 }; /* floats of columns that are built at a time, if an image has fewer */

static size_t taps(const struct conv_shape *s) {
    return (size_t)s->size * (size_t)s->size * (size_t)s->c;
}

static size_t pixels(const struct conv_shape *s) { return (size_t)s->out_h * (size_t)s->out_w; }

static size_t image_in(const struct conv_shape *s) {
    return (size_t)s->h * (size_t)s->w * (size_t)s->c;
}

static size_t image_out(const struct conv_shape *s) { return pixels(s) * (size_t)s->out_c; }

/* Images whose columns are built together. */
static size_t together(const struct conv_shape *s) {
    size_t n = COLUMNS / (pixels(s) * taps(s)), batch = (size_t)s->batch;
    return n < 1 ? 1 : n < batch ? n : batch;
}

/* ---- columns and products ---- */

static size_t columns_size(const struct conv_shape *s) { return together(s) * pixels(s) * taps(s); }

/* A warp writes a pixel's row of columns. Its windows' rows lie in x as they do here, `run` floats
 * without a gap, so that both are read and written side by side. */
static __global__ void columns_build_kernel(
    struct conv_shape s, float *columns, const float *x, size_t all) {
    int lane = threadIdx.x % 32, run = s.size * s.c, row = s.w * s.c;
    for (size_t p = (blockIdx.x * (size_t)blockDim.x + threadIdx.x) / 32; p < all;
         p += (size_t)blockDim.x * gridDim.x / 32) {
        size_t image = p;
        int left = (int)coordinate_off(&image, s.out_w) * s.stride - s.left;
        int top = (int)coordinate_off(&image, s.out_h) * s.stride - s.top;
        const float *from = x + image * s.h * row;
        float *to = columns + p * s.size * run;
        for (int k = lane; k < s.size * run; k += 32) {
            int y = top + k / run, at = left * s.c + k % run;
            bool inside = y >= 0 && y < s.h && at >= 0 && at < row;
            to[k] = inside ? from[(size_t)y * row + at] : 0;
        }
    }
}

static void columns_build(
    struct stream *q, const struct conv_shape *s, float *columns, const float *x, size_t images) {
    size_t all = images * pixels(s);
    LAUNCH(columns_build_kernel, q, blocks_for(32 * all), THREADS, 0, *s, columns, x, all);
}

/* A thread fetches what an input takes part in, output after output, so that nobody has to be
 * waited for. Outputs i of a line of inputs reach input y with tap y + top - i stride. */
static __global__ void columns_add_kernel(
    struct conv_shape s, float *x, const float *columns, size_t all) {
    int row = s.size * s.size * s.c;
    FOR_EACH (at, all) {
        size_t image = at;
        int c = (int)coordinate_off(&image, s.c);
        int left = (int)coordinate_off(&image, s.w) + s.left;
        int top = (int)coordinate_off(&image, s.h) + s.top;
        int i0 = top < s.size ? 0 : (top - s.size) / s.stride + 1;
        int j0 = left < s.size ? 0 : (left - s.size) / s.stride + 1;
        float sum = 0;
        for (int i = i0; i < s.out_h && i * s.stride <= top; i++) {
            for (int j = j0; j < s.out_w && j * s.stride <= left; j++) {
                int tap = (top - i * s.stride) * s.size + left - j * s.stride;
                sum += columns[((image * s.out_h + i) * s.out_w + j) * row + tap * s.c + c];
            }
        }
        x[at] = sum;
    }
}

static void columns_add(
    struct stream *q, const struct conv_shape *s, float *x, const float *columns, size_t images) {
    size_t all = images * image_in(s);
    LAUNCH(columns_add_kernel, q, blocks_for(all), THREADS, 0, *s, x, columns, all);
}

static void columns_forward(struct stream *q, const struct conv_shape *s, float *y, const float *x,
    const float *W, float *workspace) {
    int k = (int)taps(s), c = s->out_c;
    size_t batch = (size_t)s->batch;
    for (size_t b = 0, n; b < batch; b += n) {
        n = batch - b < together(s) ? batch - b : together(s);
        columns_build(q, s, workspace, x + b * image_in(s), n);
        cuda_gemm(q, 1, 0, 0, (int)(n * pixels(s)), c, k, 1, workspace, k, 0, W, c, 0, 0,
            y + b * image_out(s), c, 0);
    }
}

static void columns_grad_input(struct stream *q, const struct conv_shape *s, float *dx,
    const float *dz, const float *W, float *workspace) {
    int k = (int)taps(s), c = s->out_c;
    size_t batch = (size_t)s->batch;
    for (size_t b = 0, n; b < batch; b += n) {
        n = batch - b < together(s) ? batch - b : together(s);
        cuda_gemm(q, 1, 0, 1, (int)(n * pixels(s)), k, c, 1, dz + b * image_out(s), c, 0, W, c, 0,
            0, workspace, k, 0);
        columns_add(q, s, dx + b * image_in(s), workspace, n);
    }
}

static void columns_grad_weight(struct stream *q, const struct conv_shape *s, float *dW, float beta,
    const float *dz, const float *x, float *workspace) {
    int k = (int)taps(s), c = s->out_c;
    size_t batch = (size_t)s->batch;
    if (batch == 0) cuda_mix(q, dW, beta, 0, dW, (size_t)k * (size_t)c);
    for (size_t b = 0, n; b < batch; b += n) {
        n = batch - b < together(s) ? batch - b : together(s);
        columns_build(q, s, workspace, x + b * image_in(s), n);
        cuda_gemm(q, 1, 1, 0, k, c, (int)(n * pixels(s)), 1, workspace, k, 0, dz + b * image_out(s),
            c, 0, b == 0 ? beta : 1, dW, c, 0);
    }
}

/* ---- cuDNN ---- */

enum { TILE = 32 };

/* Floats of the weights as cuDNN wants them, in front of its own workspace. */
static size_t turned_size(const struct conv_shape *s) {
    return (taps(s) * (size_t)s->out_c + 63) / 64 * 64;
}

/* to (columns, rows) <- beta to + from (rows, columns), transposed; beta = 0 does not read it. A
 * block takes a tile: what it reads and what it writes lie side by side. */
static __global__ void turn_kernel(
    float *to, const float *from, float beta, int rows, int columns, unsigned across) {
    static __shared__ float tile[TILE][TILE + 1];
    int lane = threadIdx.x % TILE, first = threadIdx.x / TILE;
    int row = blockIdx.x / across * TILE, column = blockIdx.x % across * TILE;
    for (int i = first; i < TILE && row + i < rows; i += THREADS / TILE) {
        if (column + lane < columns)
            tile[i][lane] = from[(size_t)(row + i) * columns + column + lane];
    }
    __syncthreads();
    for (int i = first; i < TILE && column + i < columns; i += THREADS / TILE) {
        size_t at = (size_t)(column + i) * rows + row + lane;
        if (row + lane < rows) to[at] = (beta == 0 ? 0 : beta * to[at]) + tile[lane][i];
    }
}

static void turn(
    struct stream *q, float *to, const float *from, float beta, size_t rows, size_t columns) {
    unsigned across = (unsigned)((columns + TILE - 1) / TILE);
    unsigned tiles = across * (unsigned)((rows + TILE - 1) / TILE);
    LAUNCH(turn_kernel, q, tiles, THREADS, 0, to, from, beta, (int)rows, (int)columns, across);
}

/* ---- one or the other ---- */

/* Fewer images may be done the other way. */
size_t cuda_conv_workspace(const struct stream *q, const struct conv_shape *s) {
    const struct dnn_plan *plan = dnn_plan(q, s);
    size_t floats = plan ? turned_size(s) + (dnn_bytes(plan) + 3) / 4 : 0;
    return floats > columns_size(s) ? floats : columns_size(s);
}

void cuda_conv_forward(struct stream *q, const struct conv_shape *s, float *y, const float *x,
    const float *W, const float *bias, enum activation act, float *workspace) {
    const struct dnn_plan *plan = dnn_plan(q, s);
    size_t all = (size_t)s->batch * pixels(s);
    if (plan) {
        turn(q, workspace, W, 0, taps(s), s->out_c);
        dnn_forward(q, plan, y, x, workspace, workspace + turned_size(s));
    } else {
        columns_forward(q, s, y, x, W, workspace);
    }
    if (bias) {
        cuda_bias_act(q, y, bias, act, all, s->out_c);
    } else if (act != ACTIVATION_NONE) {
        cuda_act(q, y, y, act, all * s->out_c);
    }
}

void cuda_conv_grad_input(struct stream *q, const struct conv_shape *s, float *dx, const float *dz,
    const float *W, float *workspace) {
    const struct dnn_plan *plan = dnn_plan(q, s);
    if (!plan) return columns_grad_input(q, s, dx, dz, W, workspace);
    turn(q, workspace, W, 0, taps(s), s->out_c);
    dnn_grad_input(q, plan, dx, dz, workspace, workspace + turned_size(s));
}

void cuda_conv_grad_weight(struct stream *q, const struct conv_shape *s, float *dW, float beta,
    const float *dz, const float *x, float *workspace) {
    const struct dnn_plan *plan = dnn_plan(q, s);
    if (!plan) return columns_grad_weight(q, s, dW, beta, dz, x, workspace);
    dnn_grad_weight(q, plan, workspace, dz, x, workspace + turned_size(s));
    turn(q, dW, workspace, beta, s->out_c, taps(s));
}
