#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm.h"
#include "devices/device.h"

enum { LINE = 64 }; /* bytes: what two workers write stands on different cache lines */

/* Floats of a vector that are on the host at a time: a meeting costs little beside moving them. */
enum { LANDING = 1 << 20 };

struct comm_seat {
    _Alignas(LINE) float *brought;
    size_t n;
    double number;
    struct device *device; /* of the two below; NULL where work is done at once */
    struct event *ready;   /* what is brought is there */
    struct event *done;    /* the caller's slice is written, to all */
    float *landing;  /* (LANDING), pinned: what is brought; NULL: vectors are where they are */
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

static enum status host_join(struct comm *base, int rank, struct stream *q) {
    struct comm_seat *mine = seat_at((struct host_comm *)base, rank);
    if (q->device->ops->host_memory) return STATUS_OK;
    mine->device = q->device;
    TRY(event_open(&mine->ready, q->device));
    TRY(event_open(&mine->done, q->device));
    if (base->kind == COMM_COPY) return STATUS_OK;
    return device_pinned(q->device, (void **)&mine->landing, LANDING * sizeof(float));
}

/* q goes on when the others' vectors are there, or when they have written their slices. The events
 * stand still meanwhile: nobody records one anew before all have come to the next meeting, or have
 * parted. */
static void wait_ready(struct host_comm *c, int rank, struct stream *q) {
    if (!seat_at(c, rank)->device) return;
    for (int r = 0; r < c->base.size; r++) {
        if (r != rank) stream_wait(q, seat_at(c, r)->ready);
    }
}

static void wait_done(struct host_comm *c, int rank, struct stream *q) {
    if (!seat_at(c, rank)->device) return;
    for (int r = 0; r < c->base.size; r++) {
        if (r != rank) stream_wait(q, seat_at(c, r)->done);
    }
}

static size_t landing_room(size_t n) { return n < LANDING ? n : LANDING; }

/* False when the team is broken. */
static int sum_slices(
    struct host_comm *c, int rank, struct stream *q, struct vec v, float scale, struct ranks of) {
    struct comm *base = &c->base;
    struct comm_seat *mine = seat_at(c, rank);
    mine->brought = v.at;
    mine->n = v.n;
    if (mine->device) stream_record(q, mine->ready);
    if (!base->waits.meet(base->waits.with, rank)) return 0;
    int slice = rank - of.first;
    size_t from = slice_start(v.n, slice, of.count), to = slice_start(v.n, slice + 1, of.count);
    for (int i = 0; i < of.count; i++) {
        const struct comm_seat *theirs = seat_at(c, of.first + i);
        ASSERT(theirs->n == v.n);
        mine->slices[i] = theirs->brought + from;
    }
    wait_ready(c, rank, q);
    q->kernels->sum(q, mine->slices, of.count, scale, to - from);
    if (mine->device) stream_record(q, mine->done);
    base->waits.part(base->waits.with, rank);
    wait_done(c, rank, q);
    return 1;
}

static void host_sum(
    struct comm *base, int rank, struct stream *q, struct vec v, float scale, struct ranks of) {
    struct host_comm *c = (struct host_comm *)base;
    float *landing = seat_at(c, rank)->landing;
    size_t from = 0;
    if (!landing) {
        sum_slices(c, rank, q, v, scale, of);
        return;
    }
    do {
        struct vec landed = {landing, landing_room(v.n - from)};
        stream_copy(q, landing, v.at + from, landed.n * sizeof *landing);
        if (!sum_slices(c, rank, q, landed, scale, of)) return;
        stream_copy(q, v.at + from, landing, landed.n * sizeof *landing);
        from += landed.n;
    } while (from < v.n);
}

/* False when the team is broken. */
static int mix_brought(struct host_comm *c, int rank, struct stream *q, struct vec y, struct vec v,
    const float *weight) {
    struct comm *base = &c->base;
    struct comm_seat *mine = seat_at(c, rank);
    float keep = 0;
    mine->brought = v.at;
    mine->n = v.n;
    if (mine->device) stream_record(q, mine->ready);
    if (!base->waits.meet(base->waits.with, rank)) return 0;
    wait_ready(c, rank, q);
    for (int r = 0; r < base->size; r++) {
        if (weight[r] == 0) continue;
        ASSERT(seat_at(c, r)->n == v.n);
        q->kernels->mix(q, y.at, keep, weight[r], seat_at(c, r)->brought, y.n);
        keep = 1;
    }
    if (mine->device) stream_record(q, mine->done);
    base->waits.part(base->waits.with, rank);
    wait_done(c, rank, q);
    return 1;
}

static void host_mix(struct comm *base, int rank, struct stream *q, struct vec y, struct vec v,
    const float *weight) {
    struct host_comm *c = (struct host_comm *)base;
    float *landing = seat_at(c, rank)->landing;
    size_t from = 0;
    if (!landing) {
        mix_brought(c, rank, q, y, v, weight);
        return;
    }
    do {
        struct vec landed = {landing, landing_room(v.n - from)}, part = {y.at + from, landed.n};
        stream_copy(q, landing, v.at + from, landed.n * sizeof *landing);
        if (!mix_brought(c, rank, q, part, landed, weight)) return;
        from += landed.n;
    } while (from < v.n);
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
    struct host_comm *c = (struct host_comm *)base;
    for (int r = 0; c->seats && r < base->size; r++) {
        struct comm_seat *s = seat_at(c, r);
        event_close(s->ready, s->device);
        event_close(s->done, s->device);
    }
    free(c->seats);
    free(c);
}

static const struct comm_ops comm_host = {
    .name = "host",
    .close = host_comm_close,
    .join = host_join,
    .sum = host_sum,
    .mix = host_mix,
    .sum1 = host_sum1,
};

static const struct comm_ops comm_copy = {
    .name = "copy",
    .close = host_comm_close,
    .join = host_join,
    .sum = host_sum,
    .mix = host_mix,
    .sum1 = host_sum1,
};

enum status comm_open_slices(
    struct comm **out, const struct comm_setup *setup, enum comm_kind kind) {
    int size = setup->size;
    struct host_comm *c = calloc(1, sizeof *c);
    if (!c) return fail(STATUS_FAILED, "no memory for collectives");
    *out = &c->base;
    c->base = (struct comm){
        .ops = kind == COMM_COPY ? &comm_copy : &comm_host,
        .kind = kind,
        .size = size,
        .waits = setup->waits,
    };
    size_t bytes = sizeof(struct comm_seat) + (size_t)size * sizeof(float *);
    c->stride = (bytes + LINE - 1) / LINE * LINE;
    c->seats = aligned_alloc(LINE, c->stride * (size_t)size);
    if (c->seats) memset(c->seats, 0, c->stride * (size_t)size);
    if (c->seats) return STATUS_OK;
    host_comm_close(*out);
    *out = NULL;
    return fail(STATUS_FAILED, "no memory for collectives");
}
