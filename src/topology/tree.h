/* tree.h -- the machine as a tree: packages, NUMA nodes, caches, cores, processing units.
 *
 * The tree is a list in which what belongs to a twig follows it, one deeper. A NUMA node stands
 * around the cores that are near it; where they have several, the first stands around the others.
 */
#ifndef TREE_H
#define TREE_H

#include <stdint.h>

#include "topology/topology.h"

enum twig_kind { TWIG_MACHINE, TWIG_PACKAGE, TWIG_NODE, TWIG_CACHE, TWIG_CORE, TWIG_UNIT };

struct twig {
    enum twig_kind kind;
    int depth;        /* 0: the machine */
    int number;       /* a cache's level; a core's place in struct machine; of packages, nodes and
                          units the operating system's, which need not begin at 0 */
    uint64_t bytes;   /* a node's memory, a cache's size; 0: not known */
    int first, cores; /* the cores in it: machine->core[first] and on */
};

struct tree {
    int n, room;
    struct twig *twig; /* [n]; the first is the machine */
};

enum { TREE_DEPTH_MOST = 64 };

enum status tree_open(struct tree *t, const struct machine *m);
void tree_close(struct tree *t);

/* The system's number of the innermost NUMA node around a core; -1 where there is none. */
int tree_node_of(const struct tree *t, int core);

#endif
