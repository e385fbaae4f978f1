/* kernels.h -- the arithmetic, once per device kind.
 *
 * This file says what each does; name.c does it for the host, name.cu for CUDA, in the same order.
 * Pointers are to memory of the stream's device, or to host memory that it can reach. Shapes are
 * written (outer, ..., inner), inner contiguous; images are NHWC. Nothing aliases unless said.
 * Every call is made by the stream's thread, is enqueued on q and latches its failure there. What
 * stands in plain host memory, shapes and lists of pointers, is read before the call returns. The
 * host's kernels use q->threads OpenMP threads; their bits depend on that number and on nothing
 * else. Nothing here allocates, but for what conv_workspace finds out about a shape.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

#ifdef __cplusplus
extern "C" {
#endif

struct stream;

/* What changes from step to step, in device memory, so that a recorded step can be replayed. */
struct step {
    float rate;      /* eta */
    uint32_t number; /* gradients taken so far; keys what a step draws */
};

/* A convolution over a batch: y (batch, out_h, out_w, out_c) from x (batch, h, w, c) and weights
 * (size, size, c, out_c). Padding is zero: `top` rows above, `left` columns to the left, and as
 * much below and to the right as out_h and out_w need. */
struct conv_shape {
    int batch, h, w, c;
    int size, stride, top, left;
    int out_h, out_w, out_c;
};

/* A pooling over a batch: windows of size x size, moved by stride, inside (h, w). size <= 16. */
struct pool_shape {
    int batch, h, w, c;
    int size, stride;
    int out_h, out_w;
};

/* What is done to a sum before it is passed on, and undone from what was passed on. */
enum activation { ACTIVATION_NONE, ACTIVATION_RELU, ACTIVATION_TANH, ACTIVATION_SIGMOID };

struct kernels {
    /* ---- vectors, all (n) ---- */

    /* y <- a */
    void (*fill)(struct stream *q, float *y, float a, size_t n);

    /* y <- a y + b x. A factor of 0 means its vector is not read. */
    void (*mix)(struct stream *q, float *y, float a, float b, const float *x, size_t n);

    /* d <- a (x - y); d may be x or y. */
    void (*diff)(struct stream *q, float *d, float a, const float *x, const float *y, size_t n);

    /* d = alpha (x - c); x <- x - d; c <- c + d */
    void (*elastic)(struct stream *q, float *x, float *c, float alpha, size_t n);

    /* s = scale (v[0] + v[1] + ... + v[count-1]), added in that order; every v[i] <- s.
     * v is an array of `count` <= 64 pointers in host memory. */
    void (*sum)(struct stream *q, float *const *v, int count, float scale, size_t n);

    /* out[0] <- sum of (x - y)^2, added as doubles in an order that does not depend on q->threads;
     * y NULL: of x^2. */
    void (*distance)(struct stream *q, float *out, const float *x, const float *y, size_t n);

    /* ---- optimizers; step is in device memory ---- */

    /* x <- x - eta g */
    void (*sgd)(struct stream *q, float *x, const float *g, const struct step *step, size_t n);

    /* v <- delta v - eta g; x <- x + v */
    void (*momentum)(struct stream *q, float *x, float *v, const float *g, float delta,
        const struct step *step, size_t n);

    /* y <- x + delta v */
    void (*look_ahead)(
        struct stream *q, float *y, const float *x, float delta, const float *v, size_t n);

    /* s <- rho s + (1 - rho) g^2; x <- x - eta g / (sqrt(s + inside) + outside) */
    void (*rmsprop)(struct stream *q, float *x, float *s, const float *g, float rho, float inside,
        float outside, const struct step *step, size_t n);

    /* m <- beta1 m + (1 - beta1) g; s <- beta2 s + (1 - beta2) g^2; with both corrected for their
     * start at 0, M = m / (1 - beta1^t) and S = s / (1 - beta2^t), t = step->number + 1:
     * x <- x - eta M / (sqrt(S + inside) + outside) */
    void (*adam)(struct stream *q, float *x, float *m, float *s, const float *g, float beta1,
        float beta2, float inside, float outside, const struct step *step, size_t n);

    /* ---- matrices ---- */

    /* For i below count: C_i <- alpha op(A_i) op(B_i) + beta C_i, with A_i = A + i stride_a and so
     * on, row-major; op(A) is (m, k), op(B) is (k, n), C is (m, n); ta, tb transpose. lda is the
     * length of a row as stored. beta = 0 does not read C. */
    void (*gemm)(struct stream *q, int count, int ta, int tb, int m, int n, int k, float alpha,
        const float *A, int lda, size_t stride_a, const float *B, int ldb, size_t stride_b,
        float beta, float *C, int ldc, size_t stride_c);

    /* y (rows, c) <- act(y + bias), bias (c) */
    void (*bias_act)(
        struct stream *q, float *y, const float *bias, enum activation act, size_t rows, int c);

    /* dz <- dy act'(z), from y = act(z), all (n). dz may be dy. */
    void (*act_grad)(struct stream *q, float *dz, const float *dy, const float *y,
        enum activation act, size_t n);

    /* y <- act(x), both (n). */
    void (*act)(struct stream *q, float *y, const float *x, enum activation act, size_t n);

    /* y <- act(a + b), all (n). */
    void (*add_act)(
        struct stream *q, float *y, const float *a, const float *b, enum activation act, size_t n);

    /* db (c) <- beta db + column sums of dz (rows, c); beta = 0 does not read db. */
    void (*bias_grad)(struct stream *q, float *db, const float *dz, float beta, size_t rows, int c);

    /* ---- images ---- */

    /* Floats of workspace that the three convolutions below want for this shape on q, or for fewer
     * images of it. */
    size_t (*conv_workspace)(const struct stream *q, const struct conv_shape *s);

    /* y <- act(x * W + bias); bias NULL: none. */
    void (*conv_forward)(struct stream *q, const struct conv_shape *s, float *y, const float *x,
        const float *W, const float *bias, enum activation act, float *workspace);

    /* dx <- gradient with respect to x, from dz, that of the sums before the activation. */
    void (*conv_grad_input)(struct stream *q, const struct conv_shape *s, float *dx,
        const float *dz, const float *W, float *workspace);

    /* dW <- beta dW + gradient with respect to W, summed over the batch. */
    void (*conv_grad_weight)(struct stream *q, const struct conv_shape *s, float *dW, float beta,
        const float *dz, const float *x, float *workspace);

    /* y <- largest of each window, where <- its place in the window, row * size + column; the
     * first of equals. y and where are (batch, out_h, out_w, c). */
    void (*maxpool_forward)(
        struct stream *q, const struct pool_shape *s, float *y, uint8_t *where, const float *x);

    /* dx (batch, h, w, c) <- the gradients of the windows, each at the place of its largest. */
    void (*maxpool_backward)(struct stream *q, const struct pool_shape *s, float *dx,
        const float *dy, const uint8_t *where);

    /* y <- mean of each window; y is (batch, out_h, out_w, c). The windows' size is not limited. */
    void (*avgpool_forward)(struct stream *q, const struct pool_shape *s, float *y, const float *x);

    /* dx (batch, h, w, c) <- the gradients of the windows, spread evenly over their pixels. */
    void (*avgpool_backward)(
        struct stream *q, const struct pool_shape *s, float *dx, const float *dy);

    /* y (batch, c) <- mean over the pixels of x (batch, pixels, c); and the reverse. */
    void (*globalavgpool_forward)(
        struct stream *q, float *y, const float *x, int batch, size_t pixels, int c);
    void (*globalavgpool_backward)(
        struct stream *q, float *dx, const float *dy, int batch, size_t pixels, int c);

    /* ---- batch norm: a channel over its values in all rows; x, y, dz, dx are (rows, c), the rest
     * (c), with scale = 1 / sqrt(var + eps) ---- */

    /* mean, var <- mean and mean squared distance from it. rows > 0. */
    void (*batchnorm_statistics)(
        struct stream *q, float *mean, float *var, const float *x, size_t rows, int c);

    /* y <- act(weight scale (x - mean) + bias) */
    void (*batchnorm_forward)(struct stream *q, float *y, const float *x, const float *mean,
        const float *var, float eps, const float *weight, const float *bias, enum activation act,
        size_t rows, int c);

    /* dweight <- sum of dz scale (x - mean), dbias <- sum of dz; dz is that before the activation. */
    void (*batchnorm_grad_sums)(struct stream *q, float *dweight, float *dbias, const float *dz,
        const float *x, const float *mean, const float *var, float eps, size_t rows, int c);

    /* dx <- weight scale (dz - dbias / rows - scale (x - mean) dweight / rows). dweight and dbias
     * NULL: the statistics do not depend on x, and only weight scale dz is left. */
    void (*batchnorm_grad_input)(struct stream *q, float *dx, const float *dz, const float *x,
        const float *mean, const float *var, float eps, const float *weight, const float *dweight,
        const float *dbias, size_t rows, int c);

    /* ---- dropout ---- */

    /* mask[i] <- 1 with probability keep, else 0: word i of the sequence that key names after its
     * seed was xor-ed with step->number, kept when it is below keep * 2^32. */
    void (*dropout_mask)(struct stream *q, uint8_t *mask, struct rng_key key, float keep,
        const struct step *step, size_t n);

    /* y <- mask ? x / keep : 0. y may be x. */
    void (*dropout)(
        struct stream *q, float *y, const float *x, const uint8_t *mask, float keep, size_t n);

    /* ---- losses ---- */

    /* Softmax and cross entropy, forward and backward in one pass over the logits.
     *
     *   loss    (B)     out  -sum_j t_j log p_j, nats
     *   dlogits (B, C)  out  scale (p - t); NULL: not wanted
     *   logits  (B, C)  in   not overwritten
     *   label   (B)     in   0 .. C-1
     *   scale           in   1/B for the gradient of a mean loss
     *   smoothing       in   t is (1 - smoothing) onehot(label) + smoothing / C */
    void (*softmax_cross_entropy)(struct stream *q, float *loss, float *dlogits,
        const float *logits, const int *label, float scale, float smoothing, int B, int C);

    /* right (B) <- 1 where the first largest logit is the label's and no logit is NaN, else 0. */
    void (*right)(
        struct stream *q, float *right, const float *logits, const int *label, int B, int C);

    /* out[0] <- sum of v (n), added in an order that does not depend on q->threads. */
    void (*total)(struct stream *q, float *out, const float *v, size_t n);

    /* ---- the quadratic's gradient ---- */

    /* g <- h (x - target) + noise, all (n); loss[0] <- sum of h (x - target)^2 / 2. */
    void (*quadratic)(struct stream *q, float *g, float *loss, const float *x, const float *h,
        const float *target, const float *noise, size_t n);
};

extern const struct kernels kernels_host;

#ifdef __cplusplus
}
#endif
#endif
