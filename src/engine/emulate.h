/* emulate.h -- a machine that is not there: slow workers, workers that stop for a while, links.
 *
 * In real time whoever is slow sleeps. In virtual time nobody does: each worker has a clock, a step
 * adds what it was said to take, an exchange its latency and its bytes over the bandwidth, and a
 * wait takes the later of two clocks. Pure functions of numbers; team.c keeps the clocks.
 */
#ifndef EMULATE_H
#define EMULATE_H

#include "base/options.h"
#include "engine/team_waits.h"

/* Group "emulate". */
struct emulate_settings {
    int time;
    char compute[32], slow[256], freeze[256], link[512];
};
extern const struct option emulate_options[];

enum { FREEZES_MOST = 32 };

struct emulated_link {
    double latency;  /* seconds a message */
    double per_byte; /* seconds */
};

struct emulation {
    int is_on;              /* there is anything to emulate */
    int is_virtual;         /* no step and no exchange really takes what it is said to */
    int has_links;          /* some are not infinitely fast */
    double compute;         /* virtual: seconds that a gradient and its step take */
    double slow[TEAM_MOST]; /* times as much for this worker */
    struct freeze {
        int rank;
        long step;
        double seconds;
    } freeze[FREEZES_MOST];
    int freezes;
    long nobody; /* a rank that a text named and no worker has; -1: none */
    struct emulated_link link[TEAM_MOST + 1][TEAM_MOST + 1]; /* the last: host memory */
};

/* STATUS_BAD_CONFIG, in words, when a text does not say what it should. */
enum status emulation_open(struct emulation *e, const struct emulate_settings *set, int workers);

/* Seconds: for which a worker stops when it has done so many steps; that a message between a worker
 * and a home (a rank, or HOME_HOST) takes; and that a sum over `count` ranks from `first` on takes
 * where it goes around the ring of them in 2 (count - 1) messages of a count-th of it each, all as
 * slow as the slowest link. */
double emulation_freeze(const struct emulation *e, int rank, long steps);
double emulation_message(const struct emulation *e, int rank, int home, double bytes);
double emulation_ring(const struct emulation *e, int first, int count, double bytes);

#endif
