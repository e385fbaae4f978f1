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

void cuda_sgd(struct stream *q, float *x, const float *g, const struct step *step, size_t n);
void cuda_momentum(struct stream *q, float *x, float *v, const float *g, float delta,
    const struct step *step, size_t n);
void cuda_look_ahead(
    struct stream *q, float *y, const float *x, float delta, const float *v, size_t n);
void cuda_rmsprop(struct stream *q, float *x, float *s, const float *g, float rho, float inside,
    float outside, const struct step *step, size_t n);
void cuda_adam(struct stream *q, float *x, float *m, float *s, const float *g, float beta1,
    float beta2, float inside, float outside, const struct step *step, size_t n);

#ifdef __cplusplus
}
#endif
#endif
