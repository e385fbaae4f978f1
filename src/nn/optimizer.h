/* optimizer.h -- how a gradient moves a replica: over one flat vector, or a range of it.
 *
 *     sgd        x <- x - eta g
 *     momentum   v <- delta v - eta g(x);            x <- x + v     (Polyak)
 *     nesterov   v <- delta v - eta g(x + delta v);  x <- x + v     (Nesterov, Sutskever's form)
 *     rmsprop    s <- rho s + (1 - rho) g^2;         x <- x - eta g / (sqrt(s) + epsilon)
 *                                                    (Tieleman and Hinton's lecture 6.5)
 *     adam       m <- beta1 m + (1 - beta1) g;  s <- beta2 s + (1 - beta2) g^2;
 *                M = m / (1 - beta1^t);  S = s / (1 - beta2^t);
 *                x <- x - eta M / (sqrt(S) + epsilon)                (Kingma and Ba, algorithm 1)
 *
 * Both of the last divide by sqrt(s + epsilon) instead where epsilon is asked to be inside the
 * root; authors differ, and where s is small so do the steps. t counts the worker's steps, this
 * one included, whichever range they moved.
 *
 * The gradient is taken where optimizer_point says; x itself is not moved for that. Weight decay
 * adds lambda times that point to the gradient, for adam too. The rate eta is whatever the step
 * says.
 */
#ifndef OPTIMIZER_H
#define OPTIMIZER_H

#include "devices/device.h"
#include "devices/vec.h"

enum optimizer_kind {
    OPTIMIZER_SGD,
    OPTIMIZER_MOMENTUM,
    OPTIMIZER_NESTEROV,
    OPTIMIZER_RMSPROP,
    OPTIMIZER_ADAM
};

enum epsilon_form { EPSILON_OUTSIDE, EPSILON_INSIDE };

struct optimizer_settings {
    int kind;           /* enum optimizer_kind */
    float momentum;     /* delta */
    float decay;        /* lambda */
    float rho;          /* rmsprop's */
    float beta1, beta2; /* adam's */
    float epsilon;      /* of rmsprop and adam, > 0 */
    int epsilon_form;   /* enum epsilon_form: outside the root, or inside */
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

/* Whether a step is x <- x - eta g(x) and nothing else, so that whoever makes g may as well add it
 * to x at once. */
int optimizer_is_plain(const struct optimizer *o);

/* x and the vectors of the state move by g, in the range; step is in device memory. */
void optimizer_step(struct optimizer *o, struct stream *q, struct vec x, struct vec g,
    struct range r, const struct step *step);

#endif
