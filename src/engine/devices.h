/* devices.h -- which devices a run computes on, and which worker on which. */
#ifndef DEVICES_H
#define DEVICES_H

#include "devices/device.h"
#include "engine/team_waits.h"

struct devices {
    const struct device_ops *ops; /* of one kind all */
    int count;                    /* that are used; one that was named twice counts as two */
    int number[TEAM_MOST];        /* each one's, among its kind */
    int of[TEAM_MOST];            /* worker -> which of them */
    char name[64];                /* "NVIDIA H200": of the first, once it has been open */
    char instead[200];            /* auto: why a faster kind is not what it means; "": it is */
};

/* What `text` asks for: "auto", a kind ("cuda": all of them), or "cuda:0,cuda:2". Neighboring ranks
 * sit on one device, and as many on each as go round. list is until NULL. STATUS_BAD_CONFIG for a
 * text that means nothing, STATUS_DEVICE for a device that is not there. */
enum status devices_choose(
    struct devices *out, const struct device_ops *const *list, const char *text, int workers);

/* group[worker]: who sits together, on one device or, where there is one only, on one NUMA node.
 * Numbered from 0, without gaps, as ranks come. */
void devices_group(const struct devices *d, const struct place *places, int workers, int *group);

/* Who computes where, for the log: "8 workers on cuda:0 to cuda:3 (NVIDIA H200), 2 on each". */
void devices_describe(const struct devices *d, int workers, char *text, size_t n);

/* The text that asks for just these. */
void devices_write(const struct devices *d, char *text, size_t n);

#endif
