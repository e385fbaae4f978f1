/* seat.h -- what the engine keeps for each worker, behind worker.seat. Engine only. */
#ifndef SEAT_H
#define SEAT_H

#include "base/clock.h"
#include "devices/device.h"
#include "engine/emulate.h"
#include "engine/recorder.h"
#include "engine/schedule.h"
#include "engine/staleness.h"
#include "engine/team_waits.h"
#include "nn/optimizer.h"
#include "tasks/task.h"

/* Steps whose numbers are on their way to the device: so far the host may be ahead of it. */
enum { SEAT_VECS = 24, SEAT_NOTES = 8, SEAT_STEPS = 1024 };

/* Where a worker's training time went, in seconds; what remains is computing. */
struct ledger {
    double exchange;  /* moving and adding what others see */
    double lock_wait; /* for locks; other waits are the team's to count */
    double data;      /* for batches that were not ready */
    double bytes;     /* moved to or from memory that is not its own */
};

/* A vector that somebody claimed. */
struct claim {
    const char *name;
    enum vec_kind kind;
    struct vec v;
};

struct note {
    const char *name;
    double value;
};

struct seat {
    struct worker w;
    struct device *device;
    struct learner *learner;
    struct optimizer optimizer;
    const struct schedules *schedules;
    struct step *step;        /* device memory */
    struct step now;          /* what step holds when the device has come here */
    struct step *steps;       /* (SEAT_STEPS), pinned: on their way */
    struct event *passed;     /* the learner's; NULL where work is done at once */
    struct range range;       /* of the last gradient */
    struct recorder recorder; /* of gradient and step */
    double samples;           /* drawn by this worker, ever */
    double samples_told;      /* of those, what the run knows of */
    long steps_told;          /* of w.steps, the same */
    double samples_at_gather; /* drawn by this worker, and by all, when all gathered last */
    double all_at_gather;
    long steps_at_gather, all_steps_at_gather;
    double samples_read; /* drawn when the training losses were read last */
    double read;         /* losses that were read since anybody looked, times their samples */
    double read_of;      /* and those samples */
    uint64_t draws;      /* worker_draw's counter */
    struct ledger ledger;
    struct claim claim[SEAT_VECS];
    int claims;
    struct note note[SEAT_NOTES];
    enum over_workers over[SEAT_NOTES]; /* of each note */
    int notes;
    struct staleness staleness; /* of all that it brought */

    const struct emulation *emulation; /* of a machine that is not there; NULL: none */
    double bytes_at_lock;              /* the ledger's, when a shared vector was locked last */
};

/* Waits for the stream; all training losses so far are read. */
enum status seat_read_losses(struct seat *s);

#endif
