#include "stability.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LAPACK
#include <lapacke.h>
#endif

/* A method's state: c, then x_1 .. x_p, then what else each worker has (lambda_i, or v_i). */
struct state {
    double *c, *x, *extra;
};

static struct state state_at(double *at, int p) { return (struct state){at, at + 1, at + 1 + p}; }

static int state_size(const struct stability *s) {
    int extra = s->method == STABILITY_ADMM || s->method == STABILITY_DOWNPOUR;
    return 1 + s->p + extra * s->p;
}

/* ---- one sweep of each method -------------------------------------------------------------- */

static void sweep_admm(const struct stability *s, struct state a) {
    double er = s->eta * s->rho;
    for (int i = 0; i < s->p; i++) {
        a.extra[i] -= a.x[i] - *a.c;
        a.x[i] = ((1 - s->eta) * a.x[i] + er * (a.extra[i] + *a.c)) / (1 + er);
        double sum = 0;
        for (int j = 0; j < s->p; j++) sum += a.x[j] - a.extra[j];
        *a.c = sum / s->p;
    }
}

static void step_easgd(const struct stability *s, struct state a, int i, double alpha) {
    if (s->after) a.x[i] -= s->eta * a.x[i];
    double d = alpha * (a.x[i] - *a.c), g = s->after ? 0 : a.x[i];
    a.x[i] -= s->eta * g + d;
    *a.c += d;
}

static void sweep_easgd(const struct stability *s, struct state a) {
    for (int i = 0; i < s->p; i++) step_easgd(s, a, i, s->eta * s->rho);
}

static void sweep_easgd_tau(const struct stability *s, struct state a) {
    for (int t = 0; t < s->tau; t++) {
        for (int i = 0; i < s->p; i++) step_easgd(s, a, i, t == 0 ? s->beta / s->p : 0);
    }
}

static void sweep_downpour(const struct stability *s, struct state a) {
    for (int t = 0; t < s->tau; t++) {
        for (int i = 0; i < s->p; i++) {
            if (t == 0) {
                *a.c += a.extra[i];
                a.x[i] = *a.c;
                a.extra[i] = 0;
            }
            double move = s->eta * a.x[i];
            a.x[i] -= move;
            a.extra[i] -= move;
        }
    }
}

/* ---- its matrix and its eigenvalues -------------------------------------------------------- */

/* Column k is what a sweep makes of the k-th unit vector. */
static void matrix_fill(const struct stability *s, double *column, int n) {
    static void (*const sweep[])(const struct stability *, struct state) = {
        sweep_admm, sweep_easgd, sweep_easgd_tau, sweep_downpour};
    memset(column, 0, (size_t)n * (size_t)n * sizeof *column);
    for (int k = 0; k < n; k++, column += n) {
        column[k] = 1;
        sweep[s->method](s, state_at(column, s->p));
    }
}

#ifdef HAVE_LAPACK
static enum status largest_eigenvalue(double *matrix, int n, double *out) {
    double *re = malloc(2 * (size_t)n * sizeof *re), *im = re + n;
    if (!re) return fail(STATUS_FAILED, "no memory for %d eigenvalues", n);
    int info = LAPACKE_dgeev(LAPACK_COL_MAJOR, 'N', 'N', n, matrix, n, re, im, NULL, 1, NULL, 1);
    *out = 0;
    for (int k = 0; k < n; k++) *out = fmax(*out, hypot(re[k], im[k]));
    free(re);
    return info == 0 ? STATUS_OK : fail(STATUS_FAILED, "LAPACK's dgeev found no eigenvalues");
}
#else
static enum status largest_eigenvalue(double *matrix, int n, double *out) {
    (void)matrix;
    (void)n;
    (void)out;
    return fail(STATUS_FAILED,
        "this huddle was built without LAPACK, which finds eigenvalues; `make deps`, then `make`");
}
#endif

enum status stability_radius(const struct stability *s, double *radius) {
    ASSERT(s->p >= 1 && s->p <= STABILITY_MOST);
    int n = state_size(s);
    double *matrix = malloc((size_t)n * (size_t)n * sizeof *matrix);
    if (!matrix) return fail(STATUS_FAILED, "no memory for a matrix of %d x %d", n, n);
    matrix_fill(s, matrix, n);
    enum status end = largest_eigenvalue(matrix, n, radius);
    free(matrix);
    return end;
}

/* An eigenvalue that is 1 for every eta must not count as growth. */
static const double GROWS = 1 + 1e-9;

enum status stability_bound(struct stability s, double *eta) {
    const double least = 1e-4, most = 2.5, ratio = 1.02;
    double radius = 0, low = 0;
    s.eta = least;
    while (s.eta <= most) {
        TRY(stability_radius(&s, &radius));
        if (radius > GROWS) break;
        low = s.eta;
        s.eta *= ratio;
    }
    double high = s.eta;
    while (high - low > 1e-6 * high) {
        s.eta = (low + high) / 2;
        TRY(stability_radius(&s, &radius));
        *(radius > GROWS ? &high : &low) = s.eta;
    }
    *eta = high;
    return STATUS_OK;
}
