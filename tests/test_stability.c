#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "check.h"
#include "theory/stability.h"

TestSuite(stability, .timeout = 60);

static double radius(struct stability s) {
    double r = NAN;
    cr_assert(stability_radius(&s, &r) == STATUS_OK, "%s", fail_message());
    return r;
}

static double bound(int method, int p, int tau) {
    double eta = NAN;
    struct stability s = {.method = method, .p = p, .tau = tau, .beta = 0.9};
    cr_assert(stability_bound(s, &eta) == STATUS_OK, "%s", fail_message());
    return eta;
}

static void near(double value, double expected, double tolerance) {
    cr_assert(fabs(value - expected) <= tolerance, "%.12g, not %.12g", value, expected);
}

/* Independently computed, to nine digits. */
Test(stability, a_sweep_of_admm_has_the_known_radii) {
    static const struct {
        int p;
        double eta, rho, radius;
        double tolerance;
    } known[] = {{3, 1e-3, 2.5, 1.000973885, 1e-9}, {8, 1e-3, 2.5, 1.002257866, 1e-9},
        {2, 1e-3, 2.5, 0.99900187, 1e-8}, {4, 1e-3, 2.5, 1.00175010, 1e-8},
        {16, 1e-3, 2.5, 1.00230320, 1e-8}, {3, 1e-3, 10, 0.999084, 1e-6},
        {3, 5e-4, 10, 1.000853, 1e-6}, {3, 5e-3, 2.5, 0.996132, 1e-6},
        {8, 1e-3, 10, 1.002288, 1e-6}, {8, 5e-4, 10, 1.002858, 1e-6},
        {8, 5e-3, 2.5, 0.999865, 1e-6}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct stability s = {
            .method = STABILITY_ADMM, .p = known[i].p, .eta = known[i].eta, .rho = known[i].rho};
        near(radius(s), known[i].radius, known[i].tolerance);
    }
}

Test(stability, easgd_stays_below_one_where_admm_does_not) {
    near(radius((struct stability){.method = STABILITY_EASGD, .p = 3, .eta = 1e-3, .rho = 2.5}),
        0.999269748, 1e-9);
    near(radius((struct stability){.method = STABILITY_EASGD, .p = 8, .eta = 1e-3, .rho = 2.5}),
        0.999115698, 1e-9);
}

/* 0 <= eta <= 2 and 0 <= alpha <= (4 - 2 eta) / (4 - eta), whatever p is. */
Test(stability, easgd_is_stable_wherever_the_paper_proves_it) {
    static const int ps[] = {1, 2, 3, 8, 16};
    for (size_t k = 0; k < sizeof ps / sizeof ps[0]; k++) {
        for (int i = 1; i < 20; i++) {
            for (int j = 0; j <= 10; j++) {
                double eta = i / 10.0, alpha = (4 - 2 * eta) / (4 - eta) * j / 10;
                double r = radius((struct stability){
                    .method = STABILITY_EASGD, .p = ps[k], .eta = eta, .rho = alpha / eta});
                cr_assert(r <= 1 + 1e-9, "p %d eta %g alpha %g: %.12g", ps[k], eta, alpha, r);
            }
        }
    }
}

Test(stability, with_one_worker_the_bound_of_easgd_is_sharp_in_both_orders) {
    for (int after = 0; after < 2; after++) {
        for (int i = 1; i <= 9; i++) {
            double eta = i / 10.0;
            double most = after ? (4 - 2 * eta) / (4 - 3 * eta) : (4 - 2 * eta) / (4 - eta);
            struct stability s = {.method = STABILITY_EASGD, .p = 1, .eta = eta, .after = after};
            s.rho = most * 0.999 / eta;
            cr_assert(radius(s) <= 1 + 1e-12, "%d %g", after, eta);
            s.rho = most * 1.001 / eta;
            cr_assert(radius(s) > 1, "%d %g", after, eta);
        }
    }
}

/* The figures were found by simulating for a while, which overlooks what grows slowly: DOWNPOUR's
 * may be too large by some percent. */
Test(stability, downpour_bears_about_two_over_p_tau_and_easgd_about_two) {
    static const int p[] = {4, 8, 16}, tau[] = {1, 4, 16, 64};
    static const double downpour[3][4] = {{0.445, 0.137, 0.0363, 0.0093},
        {0.209, 0.057, 0.0146, 0.0038}, {0.101, 0.026, 0.0068, 0.0018}};
    static const double easgd[3][4] = {
        {1.747, 1.942, 1.986, 1.997}, {1.881, 1.972, 1.993, 1.998}, {1.942, 1.986, 1.997, 1.999}};
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 4; k++) {
            double found = bound(STABILITY_DOWNPOUR, p[i], tau[k]);
            cr_assert(found <= 1.02 * downpour[i][k] && found >= 0.92 * downpour[i][k], "%d %d: %g",
                p[i], tau[k], found);
            near(bound(STABILITY_EASGD_TAU, p[i], tau[k]), easgd[i][k], 1.1e-3);
        }
    }
    cr_assert(bound(STABILITY_DOWNPOUR, 8, 16) > 0.014);
    cr_assert(bound(STABILITY_DOWNPOUR, 8, 16) < 0.0155);
}

Test(stability, one_worker_alone_is_gradient_descent) {
    for (int tau = 1; tau <= 64; tau *= 4) {
        near(bound(STABILITY_DOWNPOUR, 1, tau), 2, 1e-5);
        struct stability s = {.method = STABILITY_DOWNPOUR, .p = 1, .tau = tau, .eta = 0.25};
        near(radius(s), pow(0.75, tau), 1e-7); /* beside a double eigenvalue 0, found to its root */
    }
}
