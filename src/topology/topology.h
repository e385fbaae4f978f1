/* topology.h -- the machine's cores and NUMA nodes, and which worker sits on which.
 *
 * hwloc finds the machine, plan_places decides (a pure function, so that any machine can be tested
 * from a line of text), topology_bind acts. Built without hwloc, the machine is as many cores as
 * the system counts, on one node, and nothing is bound.
 */
#ifndef TOPOLOGY_H
#define TOPOLOGY_H

#include <stddef.h>

#include "base/status.h"

struct core {
    int pu;      /* the operating system's number of its first processing unit */
    int node;    /* NUMA node, in hwloc's order, of those that have cores */
    int package; /* likewise */
};

/* The cores that this process may use, in hwloc's order: neighbors share caches. */
struct machine {
    int cores, nodes, packages;
    struct core *core; /* [cores] */
    void *hwloc;       /* topology.c's own */
    int bindable;      /* 0: synthetic, or no hwloc */
};

/* Where a worker sits: `threads` cores from machine->core[first] on. */
struct place {
    int first, threads;
    int node;   /* of the first core */
    int shared; /* other workers sit on the same core */
};

/* synthetic: hwloc's description, "pack:2 numa:1 core:4 pu:2", or NULL for this machine. */
enum status topology_open(struct machine **out, const char *synthetic);
void topology_close(struct machine *m);

/* threads = 0 chooses: as many cores each as there are for all, at least one; fewer where a worker
 * would straddle nodes that have that many. Workers get neighboring cores and are spread evenly
 * over the nodes. No core is shared unless there are more threads than cores; then by workers
 * that have all their cores in common, evenly. A worker straddles nodes only where no node has
 * that many cores, or where the nodes cannot hold all workers whole and the machine can.
 * STATUS_BAD_CONFIG where threads exceeds the cores of the machine. places has room for all. */
enum status plan_places(const struct machine *m, int workers, int threads, struct place *places);

/* Binds the calling thread, and those that it will start, to its place's cores. STATUS_FAILED
 * where the system refuses; the caller decides whether that matters. A machine that is not
 * bindable: STATUS_OK, nothing happens. */
enum status topology_bind(const struct machine *m, const struct place *p);

/* Spreads the pages of untouched memory over all nodes that the places name. Best effort. */
void topology_interleave(
    const struct machine *m, const struct place *places, int workers, void *at, size_t bytes);

/* What the calling thread takes of memory from now on is the node's, by the system's number, where
 * there is room; -1: as the system sees fit again. Best effort. */
void topology_take_from(const struct machine *m, int node);

/* "2 packages, 4 nodes, 64 cores" in at most n bytes. */
void topology_describe(const struct machine *m, char *text, size_t n);

#endif
