/* maps.h -- the linear map that a round of all workers is on x^2 / 2, read off a real run.
 *
 * A run of as many coordinates as its state has numbers begins with the k-th unit vector of the
 * state in coordinate k, and makes one round: the coordinates then are the map's columns, to the
 * rounding of floats.
 */
#ifndef MAPS_H
#define MAPS_H

#ifdef HAVE_LAPACK
#include <lapacke.h>
#endif

#include "runs.h"

enum { MAP_MOST = 40 };

struct map {
    int n;
    double at[MAP_MOST][MAP_MOST]; /* row, column */
};

/* What such a run is told beside its strategy. */
#define MAP_WORDS                                                                                  \
    "run.steps=1 run.order=fixed quadratic.h_min=1 quadratic.h_max=1 quadratic.spread=0 "          \
    "quadratic.start=0 "

/* One number of the state, in all coordinates. On the worker's own thread. */
static inline void map_begin(const struct worker *w, struct vec v, const double *row) {
    float to[MAP_MOST];
    cr_assert(v.n <= MAP_MOST, "a state of %zu", v.n);
    for (size_t k = 0; k < v.n; k++) to[k] = (float)row[k];
    stream_copy(w->q, v.at, to, v.n * sizeof *to);
    if (stream_sync(w->q) != STATUS_OK) stream_fail(w->q, "%s", fail_message());
}

static inline void map_begin_unit(const struct worker *w, struct vec v, int which) {
    double row[MAP_MOST] = {0};
    row[which] = 1;
    map_begin(w, v, row);
}

static inline void map_end(struct map *m, int which, const float *x) {
    for (int k = 0; k < m->n; k++) m->at[which][k] = (double)x[k];
}

/* The largest |eigenvalue|. */
static inline double map_radius(const struct map *m) {
#ifdef HAVE_LAPACK
    double matrix[MAP_MOST * MAP_MOST], re[MAP_MOST], im[MAP_MOST], most = 0;
    for (int i = 0; i < m->n * m->n; i++) matrix[i] = m->at[i / m->n][i % m->n];
    int info = LAPACKE_dgeev(
        LAPACK_ROW_MAJOR, 'N', 'N', m->n, matrix, m->n, re, im, NULL, m->n, NULL, m->n);
    cr_assert(info == 0, "LAPACK's dgeev says %d", info);
    for (int i = 0; i < m->n; i++) most = fmax(most, hypot(re[i], im[i]));
    return most;
#else
    (void)m;
    cr_skip_test("eigenvalues are LAPACK's, without which this was built");
    return (double)NAN;
#endif
}

#endif
