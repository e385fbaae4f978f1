/* optimizer.h -- how a gradient moves a replica: over one flat vector, or a range of it.
 *
 *     sgd        x <- x - eta g
 *     momentum   v <- delta v - eta g(x);            x <- x + v     (Polyak)
 *     nesterov   v <- delta v - eta g(x + delta v);  x <- x + v     (Nesterov, Sutskever's form)
 *
 * The gradient is taken where optimizer_point says; x itself is not moved for that. Weight decay
 * adds lambda times that point to the gradient. The rate eta is whatever the step says.
 */
#ifndef OPTIMIZER_H
#define OPTIMIZER_H

#include "devices/device.h"
#include "devices/vec.h"

enum optimizer_kind { OPTIMIZER_SGD, OPTIMIZER_MOMENTUM, OPTIMIZER_NESTEROV };

struct optimizer_settings {
    int kind;       /* enum optimizer_kind */
    float momentum; /* delta */
    float decay;    /* lambda */
};

/* A vector that a resumed run needs, or room that it does not. */
struct optimizer_vec {
    const char *name; /* "velocity" */
    int state;        /* 0: scratch */
    struct vec v;
};

enum { OPTIMIZER_VECS = 2 };

struct optimizer {
    struct optimizer_settings set;
    int vecs;
    struct optimizer_vec vec[OPTIMIZER_VECS];
};

/* Vectors of n floats on d; zeroed. */
enum status optimizer_open(
    struct optimizer *o, struct optimizer_settings set, struct device *d, size_t n);

/* Where the gradient for the next step is to be taken: x, or a vector of the optimizer's that now
 * holds x + delta v. Valid until x or the velocity changes. */
struct vec optimizer_point(struct optimizer *o, struct stream *q, struct vec x);

/* g <- g + lambda point, in the range. */
void optimizer_decay(
    struct optimizer *o, struct stream *q, struct vec g, struct vec point, struct range r);

/* x and the velocity move by g, in the range; step is in device memory. */
void optimizer_step(struct optimizer *o, struct stream *q, struct vec x, struct vec g,
    struct range r, const struct step *step);

#endif
