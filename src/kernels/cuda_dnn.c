#include "cuda_dnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda_stream.cuh"

#ifdef HAVE_CUDNN
#include <cudnn.h>
#endif

struct dnn {
    int on, tf32;
    int shapes; /* that were asked for */
#ifdef HAVE_CUDNN
    int done;             /* of those, by cuDNN */
    char why_not[96];     /* "" while nothing speaks against it */
    cudnnHandle_t handle; /* NULL before the first shape */
    struct dnn_plan *plans;
#endif
};

static struct dnn *dnn_of(const struct stream *q) { return ((const struct cuda_stream *)q)->dnn; }

struct dnn *dnn_open(int on, int tf32) {
    struct dnn *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->on = on;
    d->tf32 = tf32;
    return d;
}

#ifdef HAVE_CUDNN

/* They add in one order and take images in NHWC. */
static const cudnnConvolutionFwdAlgo_t forward_by =
    CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
static const cudnnConvolutionBwdDataAlgo_t input_by = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
static const cudnnConvolutionBwdFilterAlgo_t weight_by = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

static const size_t WORKSPACE_MOST = (size_t)256 << 20; /* bytes; what wants more is not done */

struct dnn_plan {
    struct dnn_plan *next;
    struct conv_shape shape;
    int is_done;                /* by cuDNN; else the rest is not there */
    size_t bytes;               /* of workspace, for any of the three */
    cudnnTensorDescriptor_t in; /* of x and dx */
    cudnnTensorDescriptor_t out;
    cudnnFilterDescriptor_t weights;
    cudnnConvolutionDescriptor_t conv;
};

/* Returns what a call says, unless it went well. */
#define OK(call)                                                                                   \
    do {                                                                                           \
        cudnnStatus_t said_ = (call);                                                              \
        if (said_ != CUDNN_STATUS_SUCCESS) return said_;                                           \
    } while (0)

/* ---- what is done ------------------------------------------------------------------------------ */

/* cuDNN pads as much below as above, and to the right as to the left. */
static int is_even(int in, int size, int stride, int before, int out) {
    int room = in + 2 * before - size;
    return room >= 0 && room / stride + 1 == out;
}

static int is_as_meant(const struct conv_shape *s) {
    return s->batch > 0 && is_even(s->h, s->size, s->stride, s->top, s->out_h) &&
           is_even(s->w, s->size, s->stride, s->left, s->out_w);
}

static cudnnStatus_t images_describe(cudnnTensorDescriptor_t *t, int batch, int h, int w, int c) {
    OK(cudnnCreateTensorDescriptor(t));
    return cudnnSetTensor4dDescriptor(*t, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, batch, c, h, w);
}

/* The default would allow TF32. */
static cudnnStatus_t plan_describe(struct dnn_plan *p, int tf32) {
    const struct conv_shape *s = &p->shape;
    OK(images_describe(&p->in, s->batch, s->h, s->w, s->c));
    OK(images_describe(&p->out, s->batch, s->out_h, s->out_w, s->out_c));
    OK(cudnnCreateFilterDescriptor(&p->weights));
    OK(cudnnSetFilter4dDescriptor(
        p->weights, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, s->out_c, s->c, s->size, s->size));
    OK(cudnnCreateConvolutionDescriptor(&p->conv));
    OK(cudnnSetConvolution2dDescriptor(p->conv, s->top, s->left, s->stride, s->stride, 1, 1,
        CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    return cudnnSetConvolutionMathType(p->conv, tf32 ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH);
}

static cudnnStatus_t plan_measure(struct dnn_plan *p, cudnnHandle_t h) {
    size_t bytes[3];
    OK(cudnnGetConvolutionForwardWorkspaceSize(
        h, p->in, p->weights, p->conv, p->out, forward_by, &bytes[0]));
    OK(cudnnGetConvolutionBackwardDataWorkspaceSize(
        h, p->weights, p->out, p->conv, p->in, input_by, &bytes[1]));
    OK(cudnnGetConvolutionBackwardFilterWorkspaceSize(
        h, p->in, p->out, p->conv, p->weights, weight_by, &bytes[2]));
    for (int i = 0; i < 3; i++) p->bytes = bytes[i] > p->bytes ? bytes[i] : p->bytes;
    return CUDNN_STATUS_SUCCESS;
}

static void plan_close(struct dnn_plan *p) {
    if (p->conv) (void)cudnnDestroyConvolutionDescriptor(p->conv);
    if (p->weights) (void)cudnnDestroyFilterDescriptor(p->weights);
    if (p->out) (void)cudnnDestroyTensorDescriptor(p->out);
    if (p->in) (void)cudnnDestroyTensorDescriptor(p->in);
    free(p);
}

static int is_same(const struct conv_shape *a, const struct conv_shape *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

/* The workspace of a larger batch serves fewer images too; if they want more of it than that had,
 * which nobody forbids cuDNN, they are not done. */
static int has_room(const struct dnn *d, const struct dnn_plan *p) {
    for (const struct dnn_plan *at = d->plans; at; at = at->next) {
        struct conv_shape fewer = at->shape;
        if (fewer.batch <= p->shape.batch) continue;
        fewer.batch = p->shape.batch;
        if (is_same(&fewer, &p->shape) && (!at->is_done || at->bytes < p->bytes)) return 0;
    }
    return p->bytes <= WORKSPACE_MOST;
}

/* ---- shapes that are known --------------------------------------------------------------------- */

static cudnnStatus_t library_open(struct dnn *d, cudaStream_t q) {
    OK(cudnnCreate(&d->handle));
    return cudnnSetStream(d->handle, q);
}

/* Once: what was not there the first time will not be there later either. */
static int library_is_there(struct dnn *d, cudaStream_t q) {
    if (!d->on || *d->why_not) return 0;
    if (d->handle) return 1;
    cudnnStatus_t said = library_open(d, q);
    if (said == CUDNN_STATUS_SUCCESS) return 1;
    snprintf(d->why_not, sizeof d->why_not, "%s", cudnnGetErrorString(said));
    (void)cudaGetLastError();
    return 0;
}

static struct dnn_plan *plan_open(struct dnn *d, cudaStream_t q, const struct conv_shape *s) {
    struct dnn_plan *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->shape = *s;
    p->is_done = library_is_there(d, q) && is_as_meant(s) &&
                 plan_describe(p, d->tf32) == CUDNN_STATUS_SUCCESS &&
                 plan_measure(p, d->handle) == CUDNN_STATUS_SUCCESS && has_room(d, p);
    p->next = d->plans;
    d->plans = p;
    d->shapes++;
    d->done += p->is_done;
    return p;
}

const struct dnn_plan *dnn_plan(const struct stream *q, const struct conv_shape *s) {
    struct dnn *d = dnn_of(q);
    struct dnn_plan *p = d->plans;
    while (p && !is_same(&p->shape, s)) p = p->next;
    if (!p) p = plan_open(d, ((const struct cuda_stream *)q)->cuda, s);
    return p && p->is_done ? p : NULL;
}

size_t dnn_bytes(const struct dnn_plan *p) { return p->bytes; }

void dnn_close(struct dnn *d) {
    if (!d) return;
    for (struct dnn_plan *p = d->plans, *next; p; p = next) {
        next = p->next;
        plan_close(p);
    }
    if (d->handle) (void)cudnnDestroy(d->handle);
    free(d);
}

/* ---- the convolutions -------------------------------------------------------------------------- */

static const float one = 1, zero = 0;

static void check(
    struct stream *q, const struct dnn_plan *p, const char *what, cudnnStatus_t said) {
    const struct conv_shape *s = &p->shape;
    if (said == CUDNN_STATUS_SUCCESS) return;
    stream_fail(q, "%s of %d x %d x %d x %d by %d x %d x %d: cuDNN: %s", what, s->batch, s->h, s->w,
        s->c, s->size, s->size, s->out_c, cudnnGetErrorString(said));
}

void dnn_forward(struct stream *q, const struct dnn_plan *p, float *y, const float *x,
    const float *W, void *workspace) {
    if (q->failed != STATUS_OK) return;
    check(q, p, "convolution",
        cudnnConvolutionForward(dnn_of(q)->handle, &one, p->in, x, p->weights, W, p->conv,
            forward_by, workspace, p->bytes, &zero, p->out, y));
}

void dnn_grad_input(struct stream *q, const struct dnn_plan *p, float *dx, const float *dz,
    const float *W, void *workspace) {
    if (q->failed != STATUS_OK) return;
    check(q, p, "a convolution's gradient of its input",
        cudnnConvolutionBackwardData(dnn_of(q)->handle, &one, p->weights, W, p->out, dz, p->conv,
            input_by, workspace, p->bytes, &zero, p->in, dx));
}

void dnn_grad_weight(struct stream *q, const struct dnn_plan *p, float *dW, const float *dz,
    const float *x, void *workspace) {
    if (q->failed != STATUS_OK) return;
    check(q, p, "a convolution's gradient of its weights",
        cudnnConvolutionBackwardFilter(dnn_of(q)->handle, &one, p->in, x, p->out, dz, p->conv,
            weight_by, workspace, p->bytes, &zero, p->weights, dW));
}

/* Of what does its part. */
static void library_tell(const struct dnn *d, char words[160]) {
    int version = (int)cudnnGetVersion();
    int n =
        snprintf(words, 160, "cuDNN %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    if (d->done == d->shapes) return;
    snprintf(words + n, (size_t)(160 - n), ", %d of %d shapes by columns and products",
        d->shapes - d->done, d->shapes);
}

int dnn_tell(const struct stream *q, char words[160]) {
    const struct dnn *d = dnn_of(q);
    *words = 0;
    if (d->shapes == 0) return 0;
    if (d->on && !*d->why_not) {
        library_tell(d, words);
        return 1;
    }
    snprintf(words, 160, "columns and products%s%s", d->on ? "; no cuDNN: " : "", d->why_not);
    return 0;
}

#else

const struct dnn_plan *dnn_plan(const struct stream *q, const struct conv_shape *s) {
    (void)s;
    dnn_of(q)->shapes = 1;
    return NULL;
}

void dnn_close(struct dnn *d) { free(d); }

int dnn_tell(const struct stream *q, char words[160]) {
    const struct dnn *d = dnn_of(q);
    snprintf(words, 160, "%s%s", d->shapes ? "columns and products" : "",
        d->shapes && d->on ? "; no cuDNN: huddle was built without it" : "");
    return 0;
}

/* There is no plan to call these with. */
size_t dnn_bytes(const struct dnn_plan *p) {
    (void)p;
    return 0;
}

void dnn_forward(struct stream *q, const struct dnn_plan *p, float *y, const float *x,
    const float *W, void *workspace) {
    (void)q, (void)p, (void)y, (void)x, (void)W, (void)workspace;
}

void dnn_grad_input(struct stream *q, const struct dnn_plan *p, float *dx, const float *dz,
    const float *W, void *workspace) {
    (void)q, (void)p, (void)dx, (void)dz, (void)W, (void)workspace;
}

void dnn_grad_weight(struct stream *q, const struct dnn_plan *p, float *dW, const float *dz,
    const float *x, void *workspace) {
    (void)q, (void)p, (void)dW, (void)dz, (void)x, (void)workspace;
}

#endif
