/* reach.h -- which devices reach one another's memory, found out and not believed.
 *
 * What a driver claims does not always hold: behind some bridges and IOMMUs, bytes that one GPU sends
 * to another arrive changed, late or never. So each pair is tried at start, in both directions, by
 * kernels and by copies, and whoever would use a way that failed goes by the host.
 */
#ifndef REACH_H
#define REACH_H

#include "devices/device.h"

enum { REACH_MOST = 64 };

/* What became of a pair. */
enum reach_state {
    REACH_YES,     /* tried and found good; as a matter of course on one device, and on the host */
    REACH_DENIED,  /* the driver offers no such access */
    REACH_FAILED,  /* it does, and then a call failed */
    REACH_CHANGES, /* bytes arrived changed */
    REACH_HANGS,   /* a transfer did not end in time */
    REACH_UNTRIED  /* left out, since another hung */
};

struct reach {
    const struct device_ops *ops;
    int count;
    int number[REACH_MOST]; /* each one's, among its kind */

    /* [a][b]: of streams of a in memory of b. enum reach_state; what the driver says. */
    unsigned char state[REACH_MOST][REACH_MOST], claimed[REACH_MOST][REACH_MOST];
};

/* Tries all ordered pairs of `count` devices, given by their numbers; one may stand there twice. On
 * return access is enabled where state says REACH_YES, and nowhere else between them. Each veto
 * is a warning in the log. No transfer is waited for longer than about `seconds`; after one that
 * hangs, the device objects that tried it stay open for good. Call before anything is enqueued
 * elsewhere, and device_use afterwards. */
void reach_verify(
    struct reach *p, const struct device_ops *ops, const int *number, int count, double seconds);

/* Kernels and copies of device a may use memory of device b; indices into number. */
int reach_between(const struct reach *p, int a, int b);

/* All may use all others' memory. */
int reach_all(const struct reach *p);

/* "cuda:0 does not reach cuda:1: bytes arrive changed, and 3 more pairs", or that all do. */
void reach_write(const struct reach *p, char *text, size_t n);

/* A state in words that go on from "a does not reach b: ". */
const char *reach_words(enum reach_state state);

#endif
