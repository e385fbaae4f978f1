/* team.h -- the workers, and every way one of them may touch another's memory.
 *
 * One worker is one thread, one device, one stream, one replica. Each function is called by a
 * worker on its own thread; `w` is always the caller. Contact between workers has two forms only:
 * collectives (all workers, in the same order) and shared vectors (anyone, under a lock).
 *
 * Device work is enqueued on w->q and returns at once. When a worker fails, everyone waiting for
 * it to arrive is let go, worker_grad and its like return at once, and the engine ends the run
 * after the round: a strategy need not look. Locks stay exclusive even then. Hold one shared
 * vector at a time, and enter no collective while holding it.
 */
#ifndef TEAM_H
#define TEAM_H

#include <stdint.h>

#include "base/status.h"
#include "devices/vec.h"

struct team;
struct seat;
struct stream;

enum { TEAM_MOST = 64 }; /* workers */

int team_size(const struct team *team);

/* The group that a worker sits in, by what is near: workers of one device, or of one NUMA node where
 * there is one device only. Numbered from 0, without gaps, as ranks come. */
int team_group(const struct team *team, int rank);

struct worker {
    struct team *team;
    int rank;          /* 0 .. size-1 */
    int size;          /* workers in the team */
    long round;        /* rounds finished */
    long steps;        /* gradient steps taken */
    struct stream *q;  /* everything below is ordered on it */
    struct vec x;      /* parameters, every layer, one contiguous block */
    struct vec g;      /* gradient, same layout; a round leaves nothing there for the next */
    struct vec b;      /* buffers that are no parameters; n = 0 where a model has none */
    void *mine;        /* the strategy's own state for this worker */
    struct seat *seat; /* the engine's own */
};

/* ---- local work --------------------------------------------------------------------------- */

/* g <- the gradient of the next batch's mean loss, weight decay included, at x, or at the point
 * ahead of x that the optimizer names; x is unchanged. Returns the range of x, g that it is for. */
struct range worker_grad(struct worker *w);

/* x <- optimizer(x, g) over the range of the last worker_grad; steps++. */
void worker_step(struct worker *w);

/* Both at once, for a step that nobody meets in between: x ends where the two would take it, but
 * for rounding, and g is of no use afterwards. Plain SGD so saves a pass over g and one over x. */
void worker_descend(struct worker *w);

/* Epochs that all workers have drawn, and the rate of w's next step. The others are taken to have
 * drawn as much as w since all gathered last: exact, and alike on all, where they have. */
double team_epochs(const struct worker *w);
float worker_rate(const struct worker *w);

/* Room for n floats, zeroed, on w's device, until w ends. In join only. STATE is what a resumed
 * run needs, SCRATCH what it does not; names are unique within a worker. */
enum vec_kind { STATE, SCRATCH };
enum status worker_vec(
    struct worker *w, const char *name, struct vec *v, size_t n, enum vec_kind kind);

/* A number worth a column in the run's metrics, such as a period or a mass; the last one counts, and
 * the column has the workers' mean, sum or least. At most 8 names, literals. */
enum over_workers { OVER_MEAN, OVER_SUM, OVER_LEAST };
void worker_note(struct worker *w, const char *name, double value, enum over_workers over);

/* How stale what w brings, or applies, is: how often others came between. The metrics have all that
 * was counted ever, as a histogram. */
void worker_staleness(struct worker *w, double value);

/* Uniform in 0 .. below-1, and true with probability p. team_draw depends only on (seed, round,
 * salt): all workers draw alike and need not tell one another. */
uint32_t worker_draw(struct worker *w, uint32_t below);
int worker_chance(struct worker *w, float p);
uint32_t team_draw(const struct worker *w, uint32_t salt, uint32_t below);

/* ---- collectives: every worker calls, in the same order ------------------------------------- */

/* v <- sum, or mean, over workers, the same bits on all. */
void team_sum(struct worker *w, struct vec v);
void team_mean(struct worker *w, struct vec v);

/* v <- the mean over `count` ranks from `first` on, the same bits on all of them. All workers call,
 * each for a group that it is in and whose members all name it. */
void team_mean_of(struct worker *w, struct vec v, int first, int count);

/* y <- the sum over workers r of weight[r] times r's v, in rank order. Each worker has weights,
 * host memory, one at least not 0, and a y of its own, which is no part of v; a v of weight 0 is
 * not read. */
void team_mix(struct worker *w, struct vec y, struct vec v, const float *weight);

/* What becomes of the optimizer's own vectors (velocity, moments) when replicas are averaged: each
 * worker keeps its own, all take the mean of the group's, or they begin anew from 0. */
enum momentum { MOMENTUM_KEEP, MOMENTUM_AVERAGE, MOMENTUM_RESET };
void team_momentum(struct worker *w, enum momentum how, int first, int count);

/* The sum of one number over the workers, in rank order; waits for it. */
double team_sum1(struct worker *w, double a);

/* The training losses, means over a batch, of all gradients so far: their sum over all workers, the
 * same bits on all, and how many they are. Waits for the device. */
double team_losses(struct worker *w, double *count);

/* ---- shared vectors: any worker, any time --------------------------------------------------- */

/* A vector with a home, a lock and a mass. The lock orders the hosts; letting go records an event
 * that the next holder's stream waits for, which orders the devices. */
struct shared;

/* HOME_HOST, or the rank on whose device it lives; in host memory too where some device of the
 * others does not reach that one's. */
enum { HOME_HOST = -1 };

/* A copy of `from`, host memory. Main thread, in a strategy's open. Closing NULL is fine. */
enum status shared_open(
    struct shared **out, struct team *team, const char *name, int home, struct vec from);
void shared_close(struct shared *s);

void shared_lock(struct worker *w, struct shared *s);
void shared_unlock(struct worker *w, struct shared *s);

/* Between lock and unlock only: y <- s, and s <- a s + b x. */
void shared_read(struct worker *w, struct shared *s, struct vec y);
void shared_mix(struct worker *w, struct shared *s, float a, float b, struct vec x);
double *shared_mass(struct shared *s);

/* x <- x - d, s <- s + d with d = alpha (x - s), in one pass over both; takes the lock itself.
 * In free order the vector is taken chunk by chunk, each worker beginning at another: s + sum x is
 * conserved, but x has met chunks of s at different moments. Returns s's version as x met it. */
double shared_elastic(struct worker *w, struct shared *s, float alpha, struct vec x);

/* How often any worker changed it, counted by the chunk: the mean over chunks. Any time; between
 * lock and unlock it stands still. */
double shared_version(const struct shared *s);

#endif
