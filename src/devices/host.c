/* host.c -- the host as a device: a group of cores, on which enqueued work is done at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "devices/device.h"

struct host {
    struct device base;
    struct arena arena;
};

struct event {
    struct device *device; /* work before it is always done: there is nothing to remember */
};

static int host_count(void) { return 1; }

static void host_address(int index, char text[32]) {
    (void)index;
    text[0] = 0;
}

static enum status host_open(struct device **out, int index, int threads) {
    struct host *h = calloc(1, sizeof *h);
    if (!h) return fail(STATUS_FAILED, "no memory for a host device");
    h->base.ops = &device_host;
    h->base.index = index;
    h->base.threads = threads;
    snprintf(
        h->base.name, sizeof h->base.name, "host, %d thread%s", threads, threads == 1 ? "" : "s");
    *out = &h->base;
    return STATUS_OK;
}

static void host_close(struct device *d) {
    struct host *h = (struct host *)d;
    arena_close(&h->arena);
    free(h);
}

static enum status host_alloc(struct device *d, void **at, size_t bytes) {
    *at = arena_take(&((struct host *)d)->arena, bytes);
    if (*at) return STATUS_OK;
    return fail(STATUS_FAILED,
        "no memory for %.1f MB on the host; use fewer workers, a smaller model or a smaller batch",
        (double)bytes / 1e6);
}

static enum status host_use(struct device *d) {
    (void)d;
    return STATUS_OK;
}

static enum status host_free_bytes(struct device *d, size_t *left, size_t *total) {
    (void)d;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *left = page * (size_t)sysconf(_SC_AVPHYS_PAGES);
    *total = page * (size_t)sysconf(_SC_PHYS_PAGES);
    return STATUS_OK;
}

/* All cores share one memory. */
static struct peer_claim host_peer_claim(int from, int to) {
    (void)from;
    (void)to;
    return (struct peer_claim){.reaches = 1, .atomics = 1};
}

static enum status host_peer_enable(struct device *d, int to) {
    (void)d;
    (void)to;
    return STATUS_OK;
}

static void host_peer_disable(struct device *d, int to) {
    (void)d;
    (void)to;
}

static enum status host_stream_open(struct device *d, struct stream **out, int kernels) {
    (void)kernels;
    struct stream *q = calloc(1, sizeof *q);
    if (!q) return fail(STATUS_FAILED, "no memory for a stream");
    q->device = d;
    q->kernels = &kernels_host;
    q->threads = d->threads;
    *out = q;
    return STATUS_OK;
}

static void host_stream_close(struct stream *q) { free(q); }

static enum status host_event_open(struct device *d, struct event **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) return fail(STATUS_FAILED, "no memory for an event");
    (*out)->device = d;
    return STATUS_OK;
}

static void host_event_close(struct event *e) { free(e); }

static void host_copy(struct stream *q, void *to, const void *from, size_t bytes) {
    (void)q;
    if (bytes) memcpy(to, from, bytes);
}

static void host_record(struct stream *q, struct event *e) {
    (void)q;
    (void)e;
}

static void host_event_sync(struct event *e) { (void)e; }

static int host_event_passed(struct event *e) {
    (void)e;
    return 1;
}

static enum status host_sync(struct stream *q) {
    enum status failed = q->failed;
    q->failed = STATUS_OK;
    return failed == STATUS_OK ? STATUS_OK : fail(failed, "%s", q->why);
}

const struct device_ops device_host = {
    .kind = "host",
    .host_memory = 1,
    .count = host_count,
    .address = host_address,
    .open = host_open,
    .close = host_close,
    .use = host_use,
    .alloc = host_alloc,
    .pinned = host_alloc,
    .free_bytes = host_free_bytes,
    .peer_claim = host_peer_claim,
    .peer_enable = host_peer_enable,
    .peer_disable = host_peer_disable,
    .stream_open = host_stream_open,
    .stream_close = host_stream_close,
    .event_open = host_event_open,
    .event_close = host_event_close,
    .copy = host_copy,
    .record = host_record,
    .wait = host_record,
    .event_sync = host_event_sync,
    .event_passed = host_event_passed,
    .sync = host_sync,
};
