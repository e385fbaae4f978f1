/* check.h -- comparisons for the tests. NaN is refused first; every comparison is positive. */
#ifndef CHECK_H
#define CHECK_H

#include <criterion/criterion.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>

/* |got - want| <= atol + rtol |want| for all n; else the worst element is named. */
#define check_close(got, want, n, atol, rtol, ...)                                                 \
    do {                                                                                           \
        size_t check_at_ = check_worst((got), (want), (n), (atol), (rtol));                        \
        if (check_at_ == (size_t)(n)) break;                                                       \
        fprintf(stderr, "element %zu is %.9g, not %.9g\n", check_at_, (double)(got)[check_at_],    \
            (double)(want)[check_at_]);                                                            \
        cr_assert(0, "" __VA_ARGS__);                                                              \
    } while (0)

/* The index that is furthest outside its tolerance; n when all are inside. */
static inline size_t check_worst(
    const float *got, const double *want, size_t n, double atol, double rtol) {
    size_t worst = n;
    double most = 1;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]), tol = atol + rtol * fabs(want[i]);
        if (d <= tol) continue;
        double by = tol > 0 && isfinite(d) ? d / tol : (double)INFINITY;
        if (worst == n || by > most) {
            worst = i;
            most = by;
        }
    }
    return worst;
}

#endif
