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

struct device;
struct event;
struct reach;
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

enum { COMM_MOST = 64 }; /* workers; and so devices */

/* NCCL between devices; kernels that reach all devices' memory; or kernels on host memory that all
 * devices reach. COMM_AUTO is the first of these that is there. */
enum comm_kind { COMM_AUTO, COMM_NCCL, COMM_COPY, COMM_HOST };

struct comm_setup {
    int size; /* workers, 1 .. COMM_MOST */
    struct comm_waits waits;
    enum comm_kind kind;
    int ordered;               /* sums are added in rank order, whoever adds them */
    const struct reach *reach; /* the workers' devices, by rank; the comm outlives it */
    double patience;           /* seconds that NCCL may take to answer when all are there; 0: 120 */
};

struct comm {
    const struct comm_ops *ops;
    enum comm_kind kind; /* never COMM_AUTO */
    int size;
    struct comm_waits waits;
    char why[320]; /* what was chosen and why, in words for the log */
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

    /* Optional: there is nothing to do. Any thread, any time after open. abort: streams that are
     * in a sum come out of it, with whatever they had; no sum is begun any more. check: has a sum
     * failed that nobody waits for? */
    void (*abort)(struct comm *c);
    enum status (*check)(struct comm *c);
};

/* Main thread. STATUS_BAD_CONFIG or STATUS_DEVICE where the kind that is asked for is not there. */
enum status comm_open(struct comm **out, const struct comm_setup *setup);

/* NULL is fine. Before the devices close whose streams have joined. */
void comm_close(struct comm *c);
enum status comm_join(struct comm *c, int rank, struct stream *q);
void comm_sum(
    struct comm *c, int rank, struct stream *q, struct vec v, float scale, struct ranks of);
void comm_mix(
    struct comm *c, int rank, struct stream *q, struct vec y, struct vec v, const float *weight);
double comm_sum1(struct comm *c, int rank, struct stream *q, double a);
void comm_abort(struct comm *c);
enum status comm_check(struct comm *c);

/* ---- the kinds, which comm_open chooses from ------------------------------------------------ */

/* The devices that the workers are on, each once; open, on the main thread, while a comm opens. */
struct comm_devices {
    int count;
    int number[COMM_MOST];
    struct device *device[COMM_MOST];
    int of[COMM_MOST]; /* worker -> which of them */
};

/* Each worker sums one slice of the vectors, in rank order, and writes it to all. COMM_COPY: in the
 * vectors themselves. COMM_HOST: where memory is not the host's, in pinned memory, to and from which
 * each copies its vector. Where work is done at once, on the host, it needs no join. */
enum status comm_open_slices(
    struct comm **out, const struct comm_setup *setup, enum comm_kind kind);

#ifdef HAVE_NCCL
/* One rank a device, led by its first worker, who adds those of the others there. slices is what
 * NCCL is not for; it is the comm's from now on, also where this fails. */
enum status comm_open_nccl(struct comm **out, const struct comm_setup *setup,
    const struct comm_devices *d, struct comm *slices);

/* What ordered sums take on each of `count` devices for what they gather; most: workers of one device. */
size_t comm_nccl_bytes(int count, int most);
#endif

#endif
