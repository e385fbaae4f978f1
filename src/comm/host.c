#include <math.h>
#include <stdlib.h>

#include "comm/comm.h"
#include "devices/device.h"

enum { LINE = 64 }; /* bytes: what two workers write stands on different cache lines */

struct comm_seat {
    _Alignas(LINE) float *brought;
    size_t n;
    double number;
    float *slices[]; /* [size] the caller's slice of everybody's vector */
};

struct host_comm {
    struct comm base;
    size_t stride; /* bytes from one seat to the next */
    char *seats;
};

static struct comm_seat *seat_at(struct host_comm *c, int rank) {
    return (void *)(c->seats + c->stride * (size_t)rank);
}

/* Slices begin on cache lines, so that no line is written by two. */
static size_t slice_start(size_t n, int rank, int size) {
    size_t floats = LINE / sizeof(float), lines = (n + floats - 1) / floats;
    size_t at = lines * (size_t)rank / (size_t)size * floats;
    return at < n ? at : n;
}

static void host_sum(struct comm *base, int rank, struct stream *q, struct vec v, float scale) {
    struct host_comm *c = (struct host_comm *)base;
    struct comm_seat *mine = seat_at(c, rank);
    mine->brought = v.at;
    mine->n = v.n;
    if (!base->waits.meet(base->waits.with, rank)) return;
    size_t from = slice_start(v.n, rank, base->size), to = slice_start(v.n, rank + 1, base->size);
    for (int r = 0; r < base->size; r++) {
        ASSERT(seat_at(c, r)->n == v.n);
        mine->slices[r] = seat_at(c, r)->brought + from;
    }
    q->kernels->sum(q, mine->slices, base->size, scale, to - from);
    base->waits.part(base->waits.with, rank);
}

static double host_sum1(struct comm *base, int rank, struct stream *q, double a) {
    struct host_comm *c = (struct host_comm *)base;
    double sum = 0;
    (void)q;
    seat_at(c, rank)->number = a;
    if (!base->waits.meet(base->waits.with, rank)) return (double)NAN;
    for (int r = 0; r < base->size; r++) sum += seat_at(c, r)->number;
    base->waits.part(base->waits.with, rank);
    return sum;
}

static void host_comm_close(struct comm *base) {
    free(((struct host_comm *)base)->seats);
    free(base);
}

static const struct comm_ops comm_host = {
    .name = "host",
    .close = host_comm_close,
    .sum = host_sum,
    .sum1 = host_sum1,
};

enum status comm_open_host(struct comm **out, int size, struct comm_waits waits) {
    struct host_comm *c = calloc(1, sizeof *c);
    if (!c) return fail(STATUS_FAILED, "no memory for collectives");
    *out = &c->base;
    c->base = (struct comm){&comm_host, size, waits};
    size_t bytes = sizeof(struct comm_seat) + (size_t)size * sizeof(float *);
    c->stride = (bytes + LINE - 1) / LINE * LINE;
    c->seats = aligned_alloc(LINE, c->stride * (size_t)size);
    if (c->seats) return STATUS_OK;
    host_comm_close(*out);
    *out = NULL;
    return fail(STATUS_FAILED, "no memory for collectives");
}
