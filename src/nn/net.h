/* net.h -- one worker's room to compute a model in: activations, masks, workspace.
 *
 * All memory is taken from the device when the net is opened. Every call is enqueued on the net's
 * stream. Activations stay addressable after backward.
 */
#ifndef NET_H
#define NET_H

#include "devices/device.h"
#include "nn/model.h"

struct net;

/* For batches of up to `batch` samples, on q. The memory is the device's, until it closes; the
 * struct itself is freed by net_close. rank keys the dropout masks. */
enum status net_open(
    struct net **out, const struct model *m, struct stream *q, int batch, uint32_t seed, int rank);
void net_close(struct net *n);

/* Bytes of device memory that net_open takes. */
size_t net_bytes(const struct model *m, const struct stream *q, int batch);

/* Logits (B, classes) at parameters x for the samples in (B, h, w, c), B <= batch. With `step`
 * the pass is one of training: dropout is on, keyed by step->number (device memory), batch norm
 * normalizes by the batch and b, the model's buffers, follows; NULL: off, and b is read. */
const float *net_forward(
    struct net *n, struct vec x, struct vec b, const float *in, int B, const struct step *step);

/* b <- what batch norm finds in these samples, with dropout off. */
void net_statistics(struct net *n, struct vec x, struct vec b, const float *in, int B);

/* g <- beta g + the gradient at the x and in of the last forward, from dlogits (B, classes).
 * din (B, h, w, c): the gradient with respect to the samples; NULL: not wanted. g may be x: with
 * beta = 1 and dlogits times -eta that is a step of plain descent, without a pass over x and g. */
void net_backward(struct net *n, struct vec g, float beta, const float *dlogits, float *din);

#endif
