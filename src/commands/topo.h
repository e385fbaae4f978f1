/* topo.h -- what `huddle topo` shows, for those who have a machine of their own to show. */
#ifndef TOPO_H
#define TOPO_H

#include <stdio.h>

#include "commands/links.h"
#include "topology/pci.h"
#include "topology/tree.h"

struct seating {
    const struct machine *machine;
    const struct tree *tree;
    const struct place *place; /* [workers] */
    int workers;
    const struct gpu *gpu; /* [gpus] */
    int gpus;
    const struct links *links; /* of devices that have a driver; NULL: none */
};

/* A line a package, node, cache or core, with the workers that sit there; then the workers; then
 * the GPUs. */
void topo_print(FILE *f, const struct seating *s);

/* The same as JSON. */
enum status topo_print_json(FILE *f, const struct seating *s);

#endif
