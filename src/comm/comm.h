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

    /* v <- scale times the sum over ranks, the same bits on all. */
    void (*sum)(struct comm *c, int rank, struct stream *q, struct vec v, float scale);

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
void comm_sum(struct comm *c, int rank, struct stream *q, struct vec v, float scale);
double comm_sum1(struct comm *c, int rank, struct stream *q, double a);

#endif
