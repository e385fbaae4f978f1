#include "engine/peers.h"

#include <math.h>

static int is_power_of_two(int size) { return (size & (size - 1)) == 0; }

enum status peers_check(enum graph graph, int size, const char *option) {
    int less = 1;
    if (graph != GRAPH_HYPERCUBE || is_power_of_two(size)) return STATUS_OK;
    while (2 * less < size) less *= 2;
    return fail(STATUS_BAD_CONFIG,
        "%s = hypercube needs a power of two of workers, not %d: say run.workers=%d or %d, or "
        "%s=exponential",
        option, size, less, 2 * less, option);
}

/* The least k with 2^k >= size. */
static int bits(int size) {
    int k = 0;
    while ((1 << k) < size) k++;
    return k;
}

int peers_count(enum graph graph, int size) {
    if (graph == GRAPH_COMPLETE) return size - 1;
    if (graph == GRAPH_RING) return size > 2 ? 2 : size - 1;
    return bits(size);
}

/* How far off the neighbor of a turn is; hypercube: the bit that is turned. */
static int hop(enum graph graph, int size, long turn) {
    ASSERT(peers_count(graph, size) > 0);
    int k = (int)(turn % peers_count(graph, size));
    if (graph == GRAPH_COMPLETE) return k + 1;
    if (graph == GRAPH_RING) return k == 0 ? 1 : size - 1;
    return 1 << k;
}

int peers_to(enum graph graph, int size, int rank, long turn) {
    int far = hop(graph, size, turn);
    return graph == GRAPH_HYPERCUBE ? rank ^ far : (rank + far) % size;
}

int peers_from(enum graph graph, int size, int rank, long turn) {
    int far = hop(graph, size, turn);
    return graph == GRAPH_HYPERCUBE ? rank ^ far : (rank + size - far) % size;
}

/* The modulus of eigenvalue m of the mixing: of sum over hops of exp(2 pi i m hop / size), or with
 * signs by the bits that m and the hop share. */
static double modulus(enum graph graph, int size, int m) {
    int count = peers_count(graph, size);
    double re = 1, im = 0;
    for (int k = 0; k < count; k++) {
        int far = hop(graph, size, k);
        double angle = 2 * acos(-1) * m * far / size;
        re += graph != GRAPH_HYPERCUBE ? cos(angle) : (m & far) ? -1 : 1;
        im += graph != GRAPH_HYPERCUBE ? sin(angle) : 0;
    }
    return hypot(re, im) / (count + 1);
}

double peers_gap(enum graph graph, int size) {
    double second = 0;
    for (int m = 1; m < size; m++) second = fmax(second, modulus(graph, size, m));
    return 1 - second;
}
