#include "comm.h"

#include <stdio.h>
#include <string.h>

#include "devices/reach.h"

static enum status devices_find(struct comm_devices *d, const struct comm_setup *s) {
    for (int r = 0; r < s->size; r++) {
        int number = s->reach->number[r], i = 0;
        while (i < d->count && d->number[i] != number) i++;
        d->of[r] = i;
        if (i < d->count) continue;
        d->number[d->count++] = number;
        TRY(device_open(&d->device[i], s->reach->ops, number, 1));
    }
    return STATUS_OK;
}

/* "cuda:0..3", or "cuda:0, cuda:2". */
static void devices_name(
    const struct comm_devices *d, const struct device_ops *ops, char *text, size_t n) {
    size_t at = (size_t)snprintf(text, n, "%s:%d", ops->kind, d->number[0]);
    int last = d->number[d->count - 1], neighbors = d->count > 1;
    for (int i = 1; i < d->count; i++) neighbors &= d->number[i] == d->number[0] + i;
    if (neighbors) snprintf(text + at, n - at, "..%d", last);
    for (int i = 1; i < d->count && !neighbors && at < n; i++) {
        at += (size_t)snprintf(text + at, n - at, ", %s:%d", ops->kind, d->number[i]);
    }
}

/* What a comm tells about itself. */
struct words {
    char where[160];   /* the devices */
    char apart[128];   /* which of them do not reach each other; "" where all do */
    char no_nccl[256]; /* why NCCL was not taken */
};

static enum status open_slices(
    struct comm **out, const struct comm_setup *s, const struct comm_devices *d, struct words *w) {
    int reach = reach_all(s->reach);
    if (!reach) reach_write(s->reach, w->apart, sizeof w->apart);
    if (s->kind == COMM_COPY && !reach) {
        return fail(STATUS_DEVICE, "run.comm = copy: %s; say host or auto", w->apart);
    }
    enum comm_kind kind = reach && s->kind != COMM_HOST ? COMM_COPY : COMM_HOST;
    TRY(comm_open_slices(out, s, kind));
    char *why = (*out)->why;
    size_t n = sizeof(*out)->why;
    if (kind == COMM_HOST) {
        snprintf(why, n, "sums through host memory%s%s", *w->apart ? ": " : "", w->apart);
    } else if (d->count == 1) {
        snprintf(why, n, "sums on %s, which all workers share", w->where);
    } else {
        snprintf(why, n, "sums over the peer access between %s", w->where);
    }
    if (*w->no_nccl) snprintf(why + strlen(why), n - strlen(why), "; no NCCL: %s", w->no_nccl);
    return STATUS_OK;
}

#ifdef HAVE_NCCL
static enum status open_nccl(
    struct comm **out, const struct comm_setup *s, const struct comm_devices *d, struct words *w) {
    struct comm_setup rest = *s;
    struct comm *slices = NULL;
    if (s->reach->ops != &device_cuda) {
        return fail(
            STATUS_BAD_CONFIG, "run.comm = nccl is between GPUs, not on %s", s->reach->ops->kind);
    }
    rest.kind = COMM_AUTO;
    TRY(open_slices(&slices, &rest, d, w));
    TRY(comm_open_nccl(out, s, d, slices));
    snprintf((*out)->why, sizeof(*out)->why, "sums by NCCL, one rank each on %s%s", w->where,
        s->ordered ? ", added in rank order" : "");
    return STATUS_OK;
}
#else
static enum status open_nccl(
    struct comm **out, const struct comm_setup *s, const struct comm_devices *d, struct words *w) {
    (void)out, (void)s, (void)d, (void)w;
    return fail(STATUS_BAD_CONFIG, "this huddle was built without it");
}
#endif

/* Workers of one device have nobody to send anything to. */
static enum status open_best(
    struct comm **out, const struct comm_setup *s, const struct comm_devices *d) {
    struct words w = {.apart = ""};
    devices_name(d, s->reach->ops, w.where, sizeof w.where);
    if (s->kind == COMM_NCCL || (s->kind == COMM_AUTO && d->count > 1)) {
        enum status end = open_nccl(out, s, d, &w);
        if (end == STATUS_OK) return end;
        snprintf(w.no_nccl, sizeof w.no_nccl, "%s", fail_message());
        if (s->kind == COMM_NCCL) {
            return fail(end, "run.comm = nccl: %s; say copy, host or auto", w.no_nccl);
        }
    }
    return open_slices(out, s, d, &w);
}

enum status comm_open(struct comm **out, const struct comm_setup *s) {
    struct comm_devices d = {.count = 0};
    ASSERT(s->size >= 1 && s->size <= COMM_MOST);
    if (s->reach->ops->host_memory) {
        if (s->kind == COMM_NCCL || s->kind == COMM_COPY) {
            return fail(STATUS_BAD_CONFIG,
                "run.comm = %s is between GPUs, and the workers are on the host; say host or auto",
                s->kind == COMM_NCCL ? "nccl" : "copy");
        }
        TRY(comm_open_slices(out, s, COMM_HOST));
        snprintf((*out)->why, sizeof(*out)->why, "sums in host memory, where all workers are");
        return STATUS_OK;
    }
    enum status end = devices_find(&d, s);
    if (end == STATUS_OK) end = open_best(out, s, &d);
    for (int i = 0; i < d.count; i++) device_close(d.device[i]);
    return end;
}

void comm_close(struct comm *c) {
    if (c) c->ops->close(c);
}

enum status comm_join(struct comm *c, int rank, struct stream *q) {
    return c->ops->join(c, rank, q);
}

void comm_sum(
    struct comm *c, int rank, struct stream *q, struct vec v, float scale, struct ranks of) {
    ASSERT(of.first <= rank && rank < of.first + of.count);
    ASSERT(of.first >= 0 && of.first + of.count <= c->size);
    c->ops->sum(c, rank, q, v, scale, of);
}

void comm_mix(
    struct comm *c, int rank, struct stream *q, struct vec y, struct vec v, const float *weight) {
    ASSERT(y.n == v.n);
    c->ops->mix(c, rank, q, y, v, weight);
}

double comm_sum1(struct comm *c, int rank, struct stream *q, double a) {
    return c->ops->sum1(c, rank, q, a);
}

void comm_abort(struct comm *c) {
    if (c->ops->abort) c->ops->abort(c);
}

enum status comm_check(struct comm *c) { return c->ops->check ? c->ops->check(c) : STATUS_OK; }
