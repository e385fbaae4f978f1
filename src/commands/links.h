/* links.h -- what lies between the GPUs of a machine, and what gets through, for `huddle topo`. */
#ifndef LINKS_H
#define LINKS_H

#include <cjson/cJSON.h>
#include <stdio.h>

#include "devices/reach.h"
#include "topology/pci.h"

enum { LINKS_MOST = 16 };

struct links {
    struct reach reach;
    int count;
    char name[LINKS_MOST][64], address[LINKS_MOST][32];
    unsigned char way[LINKS_MOST][LINKS_MOST];     /* enum pci_way */
    unsigned char atomics[LINKS_MOST][LINKS_MOST]; /* as only NVLink has them */

    /* [from][to], the host last: bytes a second and seconds for four bytes; 0: not measured. */
    double rate[LINKS_MOST + 1][LINKS_MOST + 1], latency[LINKS_MOST + 1][LINKS_MOST + 1];
    int iommu_groups;
    char kernel_words[256];
};

/* Tries which devices of this kind reach one another; measure: and how fast copies are. */
enum status links_find(struct links *l, const struct device_ops *ops, int measure);

void links_print(FILE *f, const struct links *l);
void links_add(cJSON *top, const struct links *l);

#endif
