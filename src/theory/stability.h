/* stability.h -- does a method come to rest? The largest absolute eigenvalue of one of its sweeps.
 *
 * Each method is a linear map of its state when the loss is x^2 / 2, so that eta stands for
 * eta h where the curvature is h. Over 1, a small deviation grows. Zhang, Choromanska, LeCun:
 * Deep learning with elastic averaging SGD, arXiv:1412.6651, section 3.
 *
 *     admm      round robin, linearized, rescaled multipliers: worker after worker
 *                   lambda_i <- lambda_i - (x_i - c)
 *                   x_i      <- ((1 - eta) x_i + eta rho (lambda_i + c)) / (1 + eta rho)
 *                   c        <- mean over j of x_j - lambda_j
 *     easgd     round robin, alpha = eta rho: worker after worker
 *                   d = alpha (x_i - c);  x_i <- x_i - eta x_i - d;  c <- c + d
 *     easgd_tau the same with alpha = beta / p at the first of tau steps, workers in lock step
 *     downpour  workers in lock step, at the first of tau steps: c <- c + v_i; x_i <- c; v_i <- 0;
 *               at each: x_i and v_i move by -eta x_i
 */
#ifndef STABILITY_H
#define STABILITY_H

#include "base/status.h"

enum stability_method { STABILITY_ADMM, STABILITY_EASGD, STABILITY_EASGD_TAU, STABILITY_DOWNPOUR };

struct stability {
    int method; /* enum stability_method */
    int p;      /* workers, 1 .. STABILITY_MOST */
    double eta, rho;
    int tau; /* of the last two */
    double beta;
    int after; /* easgd: the exchange comes after the gradient step, not at the point before it */
};

enum { STABILITY_MOST = 64 };

/* The largest |eigenvalue| of one sweep, or of one period of tau steps. STATUS_FAILED where huddle
 * was built without LAPACK. Any thread. */
enum status stability_radius(const struct stability *s, double *radius);

/* The least eta, up to 2.5, from which on the method is unstable; rel. to 1e-6. */
enum status stability_bound(struct stability s, double *eta);

#endif
