/* peers.h -- who sends to whom: graphs of neighbors that look alike from every worker.
 *
 *     ring         rank + 1, rank - 1
 *     exponential  rank + 1, 2, 4, 8, ...        one way, less than the size
 *     hypercube    rank with one bit turned      a power of two of workers
 *     complete     rank + 1, 2, 3, ...           everybody else
 *
 * all modulo the size. Everyone has as many neighbors; at each turn everyone is somebody's neighbor
 * of that turn and nobody's twice. Pure functions of numbers; any thread.
 */
#ifndef PEERS_H
#define PEERS_H

#include "base/status.h"

enum graph { GRAPH_RING, GRAPH_EXPONENTIAL, GRAPH_HYPERCUBE, GRAPH_COMPLETE };

/* STATUS_BAD_CONFIG where the graph needs another number of workers; option: whose words to blame,
 * "sgp.peers". */
enum status peers_check(enum graph graph, int size, const char *option);

/* Neighbors of each; 0 where a worker is alone. */
int peers_count(enum graph graph, int size);

/* The neighbor to whom `rank` turns at `turn`, taken modulo their count, and the one who then turns
 * to `rank`. There is at least one. */
int peers_to(enum graph graph, int size, int rank, long turn);
int peers_from(enum graph graph, int size, int rank, long turn);

/* 1 minus the second largest modulus of an eigenvalue of the matrix that mixes a worker and all of
 * its neighbors with equal weights: how much of the disagreement one mixing takes away. By the
 * characters of the group, since these matrices are convolutions. */
double peers_gap(enum graph graph, int size);

#endif
