/* cuda_dnn.h -- convolutions by cuDNN, of the shapes that it does as they are meant.
 *
 * Which those are depends on the shape, the library and the kind of GPU, never on time, and its
 * algorithms are ones that add in one order: the same settings give the same bits. What it does not
 * do, conv.cu does itself.
 */
#ifndef CUDA_DNN_H
#define CUDA_DNN_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dnn;      /* a stream's: cuDNN's handle on it, and what was found out for each shape */
struct dnn_plan; /* how cuDNN does a shape */

/* on = 0: it does none. tf32 = 1: it may round what it multiplies to TF32. The library is loaded
 * when the first shape is asked for: most nets on most machines have none. NULL: no memory. */
struct dnn *dnn_open(int on, int tf32);
void dnn_close(struct dnn *d);

/* How cuDNN does s on q; NULL: not at all. What was found out is kept. */
const struct dnn_plan *dnn_plan(const struct stream *q, const struct conv_shape *s);

/* Bytes of workspace for any of the three. */
size_t dnn_bytes(const struct dnn_plan *p);

/* As conv_forward, conv_grad_input and conv_grad_weight, with weights and their gradient stored as
 * cuDNN wants them, (out_c, size, size, c); nothing is done to sums, and none is added to what was
 * there. The workspace is 256-byte aligned. */
void dnn_forward(struct stream *q, const struct dnn_plan *p, float *y, const float *x,
    const float *W, void *workspace);
void dnn_grad_input(struct stream *q, const struct dnn_plan *p, float *dx, const float *dz,
    const float *W, void *workspace);
void dnn_grad_weight(struct stream *q, const struct dnn_plan *p, float *dW, const float *dz,
    const float *x, void *workspace);

/* As device_ops.convolves says. */
int dnn_tell(const struct stream *q, char words[160]);

#ifdef __cplusplus
}
#endif
#endif
