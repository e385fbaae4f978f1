/* Graphs of neighbors, for every number of workers. */
#include "engine/peers.h"

#include "check.h"
#include <string.h>

#include "engine/team.h"

TestSuite(peers, .timeout = 60);

static int has_graph(enum graph graph, int size) {
    return graph != GRAPH_HYPERCUBE || (size & (size - 1)) == 0;
}

Test(peers, everyone_is_somebodys_at_each_turn_and_nobodys_twice) {
    for (int g = GRAPH_RING; g <= GRAPH_COMPLETE; g++) {
        for (int size = 1; size <= TEAM_MOST; size++) {
            if (!has_graph((enum graph)g, size)) continue;
            int count = peers_count((enum graph)g, size);
            for (int r = 0; r < size; r++) {
                int seen[TEAM_MOST] = {0};
                for (int t = 0; t < count; t++) {
                    int to = peers_to((enum graph)g, size, r, t);
                    cr_assert(to >= 0 && to < size && to != r && !seen[to]++, "%d of %d to %d", r,
                        size, to);
                    cr_assert_eq(peers_from((enum graph)g, size, to, t), r);
                    cr_assert_eq(peers_to((enum graph)g, size, r, t + 3L * count), to);
                }
            }
        }
    }
}

Test(peers, neighbors_are_those_of_the_graph) {
    static const int ring[] = {4, 2}, exponential[] = {4, 5, 7}, complete[] = {4, 5, 0, 1, 2};
    static const int cube[] = {2, 1, 7};
    cr_assert(peers_count(GRAPH_RING, 6) == 2 && peers_count(GRAPH_EXPONENTIAL, 8) == 3);
    cr_assert(peers_count(GRAPH_RING, 2) == 1 && peers_count(GRAPH_EXPONENTIAL, 9) == 4);
    cr_assert(peers_count(GRAPH_RING, 1) == 0 && peers_count(GRAPH_EXPONENTIAL, 1) == 0);
    cr_assert(peers_count(GRAPH_HYPERCUBE, 8) == 3 && peers_count(GRAPH_COMPLETE, 6) == 5);
    for (int t = 0; t < 2; t++) cr_assert_eq(peers_to(GRAPH_RING, 6, 3, t), ring[t]);
    for (int t = 0; t < 3; t++) cr_assert_eq(peers_to(GRAPH_EXPONENTIAL, 8, 3, t), exponential[t]);
    for (int t = 0; t < 3; t++) cr_assert_eq(peers_to(GRAPH_HYPERCUBE, 8, 3, t), cube[t]);
    for (int t = 0; t < 5; t++) cr_assert_eq(peers_to(GRAPH_COMPLETE, 6, 3, t), complete[t]);
}

Test(peers, a_hypercube_needs_a_power_of_two) {
    for (int size = 1; size <= TEAM_MOST; size++) {
        cr_assert(peers_check(GRAPH_RING, size, "a.b") == STATUS_OK);
        cr_assert(peers_check(GRAPH_EXPONENTIAL, size, "a.b") == STATUS_OK);
        cr_assert(peers_check(GRAPH_COMPLETE, size, "a.b") == STATUS_OK);
        int power = size == 1 || size == 2 || size == 4 || size == 8 || size == 16 || size == 32 ||
                    size == 64;
        enum status end = peers_check(GRAPH_HYPERCUBE, size, "a.b");
        cr_assert_eq(end, power ? STATUS_OK : STATUS_BAD_CONFIG, "%d", size);
    }
    peers_check(GRAPH_HYPERCUBE, 6, "sgp.peers");
    cr_assert(strstr(fail_message(), "sgp.peers") && strstr(fail_message(), "not 6"));
    cr_assert(strstr(fail_message(), "run.workers=4 or 8") != NULL, "%s", fail_message());
}

/* ---- the spectral gap ----------------------------------------------------------------------- */

/* y <- A x, A = W - J / size, or its transpose: by the definition, one weight after the other. */
static void apply(enum graph graph, int size, const double *x, double *y, int transposed) {
    double mean = 0, weight = 1.0 / (peers_count(graph, size) + 1);
    for (int i = 0; i < size; i++) mean += x[i] / size;
    for (int i = 0; i < size; i++) y[i] = weight * x[i] - mean;
    for (int i = 0; i < size; i++) {
        for (int t = 0; t < peers_count(graph, size); t++) {
            int to = peers_to(graph, size, i, t);
            if (transposed) {
                y[i] += weight * x[to];
            } else {
                y[to] += weight * x[i];
            }
        }
    }
}

/* The largest singular value of A, by powers of A'A: these matrices commute with their transposes,
 * so it is the largest modulus of an eigenvalue as well. */
static double norm(enum graph graph, int size) {
    double x[TEAM_MOST] = {0}, y[TEAM_MOST] = {0}, length = 1;
    for (int i = 0; i < size; i++) x[i] = cos(1.7 * i * i + 0.3);
    for (int k = 0; k < 4000; k++) {
        apply(graph, size, x, y, 0);
        apply(graph, size, y, x, 1);
        length = 0;
        for (int i = 0; i < size; i++) length += x[i] * x[i];
        length = sqrt(length);
        if (!(length > 1e-30)) return 0;
        for (int i = 0; i < size; i++) x[i] /= length;
    }
    return sqrt(length);
}

/* After 4000 powers the quotient's error is below 1e-7 unless two values are closer than that. */
Test(peers, the_spectral_gap_is_that_of_the_matrix) {
    for (int g = GRAPH_RING; g <= GRAPH_COMPLETE; g++) {
        for (int size = 1; size <= 17; size++) {
            if (!has_graph((enum graph)g, size)) continue;
            double got = peers_gap((enum graph)g, size), want = 1 - norm((enum graph)g, size);
            cr_assert(
                fabs(got - want) <= 1e-7, "graph %d of %d: %.9g, not %.9g", g, size, got, want);
        }
    }
}

Test(peers, spectral_gaps_that_are_known) {
    cr_assert_float_eq(peers_gap(GRAPH_COMPLETE, 8), 1, 1e-12);
    cr_assert_float_eq(peers_gap(GRAPH_RING, 4), 2 / 3.0, 1e-12);
    cr_assert_float_eq(peers_gap(GRAPH_RING, 8), 1 - (1 + sqrt(2)) / 3, 1e-12);
    cr_assert_float_eq(peers_gap(GRAPH_HYPERCUBE, 8), 0.5, 1e-12);
    cr_assert_float_eq(peers_gap(GRAPH_EXPONENTIAL, 8), 0.5, 1e-12);
}
