/* cuda.h -- the CUDA kernels by name, as host.h has the host's. What each does: kernels.h. */
#ifndef CUDA_H
#define CUDA_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct kernels kernels_cuda;

void cuda_fill(struct stream *q, float *y, float a, size_t n);
void cuda_mix(struct stream *q, float *y, float a, float b, const float *x, size_t n);
void cuda_diff(struct stream *q, float *d, float a, const float *x, const float *y, size_t n);
void cuda_elastic(struct stream *q, float *x, float *c, float alpha, size_t n);

/* The same on at most so many blocks of threads. */
void cuda_elastic_by(struct stream *q, float *x, float *c, float alpha, size_t n, unsigned blocks);
void cuda_sum(struct stream *q, float *const *v, int count, float scale, size_t n);
void cuda_distance(struct stream *q, float *out, const float *x, const float *y, size_t n);

void cuda_sgd(struct stream *q, float *x, const float *g, const struct step *step, size_t n);
void cuda_momentum(struct stream *q, float *x, float *v, const float *g, float delta,
    const struct step *step, size_t n);
void cuda_look_ahead(
    struct stream *q, float *y, const float *x, float delta, const float *v, size_t n);
void cuda_rmsprop(struct stream *q, float *x, float *s, const float *g, float rho, float inside,
    float outside, const struct step *step, size_t n);
void cuda_adam(struct stream *q, float *x, float *m, float *s, const float *g, float beta1,
    float beta2, float inside, float outside, const struct step *step, size_t n);

void cuda_gemm(struct stream *q, int count, int ta, int tb, int m, int n, int k, float alpha,
    const float *A, int lda, size_t stride_a, const float *B, int ldb, size_t stride_b, float beta,
    float *C, int ldc, size_t stride_c);

void cuda_bias_act(
    struct stream *q, float *y, const float *bias, enum activation act, size_t rows, int c);
void cuda_act_grad(
    struct stream *q, float *dz, const float *dy, const float *y, enum activation act, size_t n);
void cuda_act(struct stream *q, float *y, const float *x, enum activation act, size_t n);
void cuda_add_act(
    struct stream *q, float *y, const float *a, const float *b, enum activation act, size_t n);
void cuda_bias_grad(struct stream *q, float *db, const float *dz, float beta, size_t rows, int c);

size_t cuda_conv_workspace(const struct stream *q, const struct conv_shape *s);
void cuda_conv_forward(struct stream *q, const struct conv_shape *s, float *y, const float *x,
    const float *W, const float *bias, enum activation act, float *workspace);
void cuda_conv_grad_input(struct stream *q, const struct conv_shape *s, float *dx, const float *dz,
    const float *W, float *workspace);
void cuda_conv_grad_weight(struct stream *q, const struct conv_shape *s, float *dW, float beta,
    const float *dz, const float *x, float *workspace);

void cuda_maxpool_forward(
    struct stream *q, const struct pool_shape *s, float *y, uint8_t *where, const float *x);
void cuda_maxpool_backward(
    struct stream *q, const struct pool_shape *s, float *dx, const float *dy, const uint8_t *where);

void cuda_avgpool_forward(struct stream *q, const struct pool_shape *s, float *y, const float *x);
void cuda_avgpool_backward(
    struct stream *q, const struct pool_shape *s, float *dx, const float *dy);
void cuda_globalavgpool_forward(
    struct stream *q, float *y, const float *x, int batch, size_t pixels, int c);
void cuda_globalavgpool_backward(
    struct stream *q, float *dx, const float *dy, int batch, size_t pixels, int c);

void cuda_batchnorm_statistics(
    struct stream *q, float *mean, float *var, const float *x, size_t rows, int c);
void cuda_batchnorm_forward(struct stream *q, float *y, const float *x, const float *mean,
    const float *var, float eps, const float *weight, const float *bias, enum activation act,
    size_t rows, int c);
void cuda_batchnorm_grad_sums(struct stream *q, float *dweight, float *dbias, const float *dz,
    const float *x, const float *mean, const float *var, float eps, size_t rows, int c);
void cuda_batchnorm_grad_input(struct stream *q, float *dx, const float *dz, const float *x,
    const float *mean, const float *var, float eps, const float *weight, const float *dweight,
    const float *dbias, size_t rows, int c);

void cuda_dropout_mask(struct stream *q, uint8_t *mask, struct rng_key key, float keep,
    const struct step *step, size_t n);
void cuda_dropout(
    struct stream *q, float *y, const float *x, const uint8_t *mask, float keep, size_t n);

void cuda_softmax_cross_entropy(struct stream *q, float *loss, float *dlogits, const float *logits,
    const int *label, float scale, float smoothing, int B, int C);
void cuda_right(
    struct stream *q, float *right, const float *logits, const int *label, int B, int C);
void cuda_total(struct stream *q, float *out, const float *v, size_t n);

void cuda_quadratic(struct stream *q, float *g, float *loss, const float *x, const float *h,
    const float *target, const float *noise, size_t n);

#ifdef __cplusplus
}
#endif
#endif
