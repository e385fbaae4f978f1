/* team_waits.h -- the engine's side of a team: who runs when, and every wait of one for another.
 *
 * A worker computes by itself until it comes to an event: a meeting (collectives), a turn (shared
 * vectors), the end of a round. In free order events happen as they come. In fixed order they
 * happen one at a time, rank after rank, where a worker that is waiting or has left is passed
 * over; computing between events goes on in parallel, and the order of events, and so every bit,
 * is the same each time. There nobody begins a round before all have ended theirs, so that a run
 * that stops and goes on between rounds meets in the same order as one that does not. A replay takes
 * the order from a record, meetings and ends of rounds included. In virtual time each worker has a
 * clock, and the event of least time comes next, the lower rank's where two are the same: who is
 * computing has a clock too, and is waited for. One function, team_next in team.c, says whose event
 * comes next.
 *
 * A wait for somebody to arrive ends when the team breaks; a lock is never broken.
 */
#ifndef TEAM_WAITS_H
#define TEAM_WAITS_H

#include "base/status.h"
#include "engine/team.h"

enum team_order { ORDER_FREE, ORDER_FIXED, ORDER_REPLAY, ORDER_VIRTUAL };

/* How a device exchanges with a shared vector in host memory. */
enum center_way {
    CENTER_ZERO_COPY, /* a kernel reads and writes it where it is */
    CENTER_STAGED,    /* chunks are copied here and back while others are computed with */
    CENTER_AUTO       /* as one of these, when both were measured */
};

enum { DEPTH_MOST = 16 };

struct device_ops; /* devices/device.h */
struct device;
struct machine; /* topology/topology.h */
struct place;
struct record; /* record.h */

struct team_settings {
    int size;    /* 1 .. TEAM_MOST */
    int order;   /* enum team_order */
    int max_lag; /* rounds that the fastest may be ahead of the slowest; 0: any */
    int spin;    /* a wait looks this often before it sleeps; 0 where cores are scarce */
    uint32_t seed;
    const struct device_ops *kind; /* of the workers' devices; NULL: the host */
    const int *number;             /* [size] of each worker's device; read by team_open; NULL: 0 */
    int center;                    /* enum center_way: how shared_elastic reaches a host's vector */
    size_t
        chunk; /* floats of a shared vector that are locked at a time; 0: as the device likes it */
    int depth; /* staged: chunks of a worker on their way at a time, up to DEPTH_MOST; 0: 4 */
    int comm;  /* how sums are taken: enum comm_kind */
    const struct machine *machine; /* and who sits where: for shared memory; NULL: anywhere */
    const struct place *places;
    const int *group; /* what team_group says; NULL: all 0 */

    struct record *record; /* events are written there; NULL: nowhere. Not in fixed order */
    struct record *replay; /* ORDER_REPLAY: events come as they did there */
    int whole;             /* a shared vector is locked whole, and not chunk by chunk */

    /* Called at the end of each round, one worker at a time: true asks all to gather. met: there
     * was a meeting in the round, so all workers do it, and answers alike keep them together. */
    int (*round_ended)(void *with, int rank, int met);
    void *with;
};

enum status team_open(struct team **out, const struct team_settings *set);
void team_close(struct team *t); /* before the devices of those who joined close */

/* What a worker needs to exchange: on its thread, before its first meeting, when all shared vectors
 * are open. On the host, where work is done at once, it needs nothing. */
enum status team_join(struct team *t, int rank, struct stream *q);

/* An event that is not a meeting. But in free order: waits for the turn, and passes it on. In between
 * and with the lock, team_has says what the event is: it is written down, or must be the record's. */
void team_take_turn(struct team *t, int rank);
void team_has(struct team *t, int rank, const struct shared *s);
void team_give_turn(struct team *t, int rank);

/* True when all have come; false when the team broke first, and then for all: nobody may touch
 * another's memory. After it came true, and the work is done, team_part waits for all to be done. */
int team_meet(struct team *t, int rank);
void team_part(struct team *t, int rank);

/* The start of a round: meetings before it, of an evaluation say, are not the round's. */
void team_start_round(struct team *t, int rank);

/* The end of a round: keeps the pace and, if somebody asked to gather, waits for all to come to
 * the end of a round. True when all have gathered. */
int team_end_round(struct team *t, int rank);

/* This worker comes to no more events. */
void team_leave(struct team *t, int rank);

/* Lets go everybody who waits for an arrival, and streams that are in a sum; the first to break is
 * remembered. rank -1: no worker did. */
void team_break(struct team *t, int rank);
int team_broken(const struct team *t);
int team_culprit(const struct team *t); /* who broke it first; -1: nobody. When all have ended. */

/* How a replay came apart from its record, which breaks the team; "": it did not. When all have
 * ended. */
const char *team_apart(const struct team *t);

/* Seconds that this worker has waited in the calls above, ever; its own thread asks. */
double team_waited(const struct team *t, int rank);

/* What time it is for this worker; its own thread asks. Virtual time begins at 0, stands still
 * while all have gathered, and is set before the first event by a run that goes on. */
double team_seconds(const struct team *t, int rank);
void team_restore_seconds(struct team *t, int rank, double seconds);

/* An emulated machine is busy for so many seconds, in virtual time not before `from`: a clock goes
 * on, or the caller sleeps. Nothing while all have gathered. */
void team_spend(struct team *t, int rank, double from, double seconds);

/* For saving and going on: whose turn it was when all had gathered last (fixed order), and how many
 * rounds each had finished; restored before the first event. */
int team_turn_at_gathering(const struct team *t);
void team_restore_turn(struct team *t, int turn);
void team_restore_rounds(struct team *t, int rank, long rounds);

/* The shared vectors that are open, first to last; main thread, or when all have gathered. */
void team_add_shared(struct team *t, struct shared *s);
struct shared *team_shared(const struct team *t);
struct shared *shared_next(const struct shared *s);
const char *shared_name(const struct shared *s);
struct vec shared_vec(const struct shared *s);
void shared_set_next(struct shared *s, struct shared *next);
/* Copies n floats of plain host memory into it; main thread, before there are workers. */
enum status shared_fill(struct shared *s, const float *from);
void shared_set_version(struct shared *s, double version);
enum status shared_join(struct shared *s, int rank, struct device *d);

struct comm *team_comm(struct team *t);
uint32_t team_seed(const struct team *t);

/* Floats of a chunk of a shared vector of n, and how many of them are staged at a time. */
size_t team_chunk(const struct team *t, size_t n);
int team_depth(const struct team *t);
int team_is_fixed(const struct team *t); /* events come in a given order: any but the free one */
int team_is_virtual(const struct team *t);
int team_locks_whole(const struct team *t); /* shared vectors, not chunks */

/* Room for a shared vector that all workers' devices reach, zeroed, until the team closes; main
 * thread. On the device of the worker `home`, when each of the others was found to reach it; *where
 * is that device, and NULL for memory of the host, where it is otherwise. */
enum status team_alloc(struct team *t, int home, struct device **where, void **at, size_t bytes);

/* Which workers' devices reach one another, by rank. The first to ask has it tried: main thread. */
const struct reach *team_reach(struct team *t);

/* CENTER_AUTO until it was measured; then what was chosen: between a meeting and its end. */
int team_center(const struct team *t);
void team_set_center(struct team *t, int way);

/* Seconds of a few exchanges that change nothing but the signs of zeros, with all shared vectors of
 * the host that are as long as x; 0 where there is none. All workers at once, before the first
 * round. The team came to be with CENTER_AUTO. */
enum status shared_measure(struct worker *w, int way, double *seconds);

#endif
