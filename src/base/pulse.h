/* pulse.h -- signs of life of a thread, for whoever watches it, and for tools that draw time.
 *
 * A watched thread says what it begins and what it ends, and so which call it is in; each is a few
 * stores to a cache line of its own, without a lock or a clock, and a range (ranges.h). The calls below
 * are about the calling thread and do nothing where nobody watches it.
 */
#ifndef PULSE_H
#define PULSE_H

#include <stdatomic.h>

/* What a thread is in. Those from DOING_MEET on are waits for another worker. */
enum doing {
    DOING_SEAT,
    DOING_PLAN, /* between rounds and calls */
    DOING_ROUND,
    DOING_GRADIENT,
    DOING_BATCH,
    DOING_STEP,
    DOING_SUM,
    DOING_EXCHANGE,
    DOING_ANSWER,
    DOING_JUDGE,
    DOING_SAVE,
    DOING_DEVICE,
    DOING_MEET,
    DOING_PART,
    DOING_TURN,
    DOING_LOCK,
    DOING_ROUND_END,
    DOING_ENDED,
    DOINGS
};

enum { PULSE_DEPTH = 8 };

struct pulse {
    _Alignas(64) atomic_ulong beats;
    atomic_int doing;                   /* enum doing */
    _Atomic(const char *) name;         /* of the shared vector, while it is about one */
    _Atomic(const atomic_int *) holder; /* DOING_LOCK: who holds it; -1: nobody */
    atomic_long steps, rounds;          /* done */
    enum doing outer[PULSE_DEPTH];      /* what is gone back to; the thread's own, as is depth */
    int depth;
};

/* From now on the calling thread's signs of life go there; NULL: nowhere. Zeros are a good start:
 * DOING_SEAT. */
void pulse_attach(struct pulse *p);

/* Begins a call inside the one that the thread is in, and ends the one begun last. */
void pulse_begin(enum doing doing);
void pulse_end(void);

/* The same, with the shared vector that it is about, and where its holder's rank stands. Both must
 * stay while the thread is watched. */
void pulse_begin_with(enum doing doing, const char *name, const atomic_int *holder);

/* Still alive, in work that takes long. */
void pulse_beat(void);

void pulse_count(long steps, long rounds);

/* Nothing more is to be expected of the thread. What it wrote before is seen by whoever sees this. */
void pulse_stop(void);

#endif
