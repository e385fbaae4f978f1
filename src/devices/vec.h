/* vec.h -- vectors of float32 that live on a device, and the few things done to them.
 *
 * A vec is a view: two words, passed by value, owning nothing. Destination first, as in memcpy.
 * A call is enqueued on a stream and returns at once (on the host it is already done). None
 * returns an error: failures latch in the stream. Sizes of the operands are equal.
 */
#ifndef VEC_H
#define VEC_H

#include <stddef.h>

struct stream;

struct vec {
    float *at; /* [n], memory of the stream's device, or host memory that it can reach */
    size_t n;
};

/* A part of a vector, valid in x, in g and in every vector of the optimizer. */
struct range {
    size_t offset, n;
};

struct vec vec_part(struct vec v, struct range part);

void vec_fill(struct stream *q, struct vec y, float a);      /* y <- a */
void vec_copy(struct stream *q, struct vec y, struct vec x); /* y <- x */

/* y <- a y + b x. A factor of 0 means its vector is not read, so it may hold anything. */
void vec_mix(struct stream *q, struct vec y, float a, float b, struct vec x);

/* d <- a (x - y); d may be x or y. */
void vec_diff(struct stream *q, struct vec d, float a, struct vec x, struct vec y);

/* x <- x - d, c <- c + d with d = alpha (x - c), in one pass over both. */
void vec_elastic(struct stream *q, struct vec x, struct vec c, float alpha);

/* out[0], memory as a vec's <- ||x - y||^2, and ||x||^2. */
void vec_distance(struct stream *q, float *out, struct vec x, struct vec y);
void vec_square(struct stream *q, float *out, struct vec x);

#endif
