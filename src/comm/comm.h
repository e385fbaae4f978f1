/* comm.h -- how a collective moves bytes.
 *
 * A team's workers each call with their rank, all in the same order. Between the moment when all
 * have arrived and the moment when all are done, each may read and write what the others brought;
 * who waits how is the caller's business, so that a wait can be broken.
 */
#ifndef COMM_H
#define COMM_H

#include "base/status.h"
#include "devices/vec.h"

struct event;
struct stream;

/* How the workers wait for each other. */
struct comm_waits {
    int (*meet)(void *with, int rank);  /* false: the team is broken, leave all as it is */
    void (*part)(void *with, int rank); /* after meet: all are done */
    void *with;
};

/* Neighbors: `count` ranks from `first` on. */
struct ranks {
    int first, count;
};

struct comm {
    const struct comm_ops *ops;
    int size;
    struct comm_waits waits;
};

struct comm_ops {
    const char *name; /* "host" */
    void (*close)(struct comm *c);

    /* Before the worker's first collective, on its thread: the stream that its collectives are on. */
    enum status (*join)(struct comm *c, int rank, struct stream *q);

    /* v <- scale times the sum over the ranks that the caller names, in rank order, the same bits
     * on all of those. The caller is one of them; all whom it names, name the same. */
    void (*sum)(
        struct comm *c, int rank, struct stream *q, struct vec v, float scale, struct ranks of);

    /* y <- the sum over ranks of weight times v, in rank order; weight 0: v is not read. y is the
     * caller's alone and no part of v; weight, host memory, [size], is the caller's own too. */
    void (*mix)(struct comm *c, int rank, struct stream *q, struct vec y, struct vec v,
        const float *weight);

    /* The sum of one number, in rank order; NaN when the team broke. */
    double (*sum1)(struct comm *c, int rank, struct stream *q, double a);
};

/* Through memory that all threads and devices of this process reach: each worker sums one slice of
 * the vectors, in rank order, and writes it to all. Where work is done at once, on the host, it
 * needs no join. */
enum status comm_open_host(struct comm **out, int size, struct comm_waits waits);

/* NULL is fine. Before the devices close whose streams have joined. */
void comm_close(struct comm *c);
enum status comm_join(struct comm *c, int rank, struct stream *q);
void comm_sum(
    struct comm *c, int rank, struct stream *q, struct vec v, float scale, struct ranks of);
void comm_mix(
    struct comm *c, int rank, struct stream *q, struct vec y, struct vec v, const float *weight);
double comm_sum1(struct comm *c, int rank, struct stream *q, double a);

#endif
