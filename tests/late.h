/* late.h -- a device that is late: the host's kernels, done some time after the call returned.
 *
 * Each stream has a thread of its own that does what was enqueued, in order, now and then after a
 * pause that the seed draws. Copies to and from ordinary host memory are late too, as if it were
 * pinned, and their target holds NaNs until then. So whatever is read, overwritten or freed without
 * a wait for it shows as a wrong number, before there is any GPU. One run at a time.
 */
#ifndef LATE_H
#define LATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/rng.h"
#include "devices/device.h"
#include "devices/openmp.h"

enum { LATE_ARGUMENTS = 640, LATE_PIECES = 8192 };

struct event {
    pthread_mutex_t lock;
    pthread_cond_t passed;
    long recorded, done; /* times: enqueued; come to pass */
};

struct late_job {
    struct late_job *next;
    void (*kernel)(struct stream *q, const void *arguments); /* one of the four below */
    struct event *record, *wait;
    void *to;
    const void *from;
    long time; /* of the event */
    size_t bytes;
    const char *name;
    _Alignas(16) char arguments[LATE_ARGUMENTS];
};

struct late_stream {
    struct stream base;
    struct stream inner; /* what the kernels see: failures latch here */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more, idle;
    struct late_job *first, *last;
    int enqueued, executed, closing; /* guarded by lock */
    uint64_t draws;
    uint32_t salt;
};

/* What the tests set and read. waits: of a host for a stream or an event, all workers together. */
static struct {
    uint32_t seed;
    const char *slow_kernel; /* takes half a millisecond longer each time; NULL: none */
    int slow_copies;         /* microseconds that each copy takes longer */
    const char *fail_kernel; /* NULL: none */
    atomic_long fails_in;    /* the so-manieth call of it fails */
    atomic_long waits;
    atomic_int streams;
} late;

/* Memory that belongs to late devices, of all kinds: a copy's other targets are the host's. */
static struct {
    pthread_mutex_t lock;
    int n;
    struct {
        const struct device *device;
        const char *at;
        size_t bytes;
    } piece[LATE_PIECES];
} late_memory = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct late_device {
    struct device base;
    struct arena arena;
};

/* ---- the thread of a stream ------------------------------------------------------------------- */

static inline void late_pause(struct late_stream *s) {
    uint32_t word = rng_word((struct rng_key){late.seed, 77, s->salt}, s->draws++);
    if (word % 32 == 0) usleep(20 + (word >> 8) % 180);
}

static inline void event_pass(struct event *e, long time) {
    pthread_mutex_lock(&e->lock);
    if (e->done < time) e->done = time;
    pthread_cond_broadcast(&e->passed);
    pthread_mutex_unlock(&e->lock);
}

static inline void event_await(struct event *e, long time) {
    pthread_mutex_lock(&e->lock);
    while (e->done < time) pthread_cond_wait(&e->passed, &e->lock);
    pthread_mutex_unlock(&e->lock);
}

static inline void late_kernel(struct late_stream *s, const struct late_job *job) {
    if (s->inner.failed != STATUS_OK) return;
    if (late.slow_kernel && !strcmp(late.slow_kernel, job->name)) usleep(500);
    if (late.fail_kernel && !strcmp(late.fail_kernel, job->name) &&
        atomic_fetch_sub(&late.fails_in, 1) == 1) {
        stream_fail(&s->inner, "%s has failed late", job->name);
        return;
    }
    job->kernel(&s->inner, job->arguments);
}

static inline void late_do(struct late_stream *s, const struct late_job *job) {
    late_pause(s);
    if (job->kernel) late_kernel(s, job);
    if (job->bytes && late.slow_copies) usleep((unsigned)late.slow_copies);
    if (job->bytes && s->inner.failed == STATUS_OK) memcpy(job->to, job->from, job->bytes);
    if (job->wait) event_await(job->wait, job->time);
    if (job->record) event_pass(job->record, job->time);
}

static inline void *late_main(void *arg) {
    struct late_stream *s = arg;
    openmp_settle(s->base.threads);
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->first && !s->closing) pthread_cond_wait(&s->more, &s->lock);
        struct late_job *job = s->first;
        if (!job) break;
        s->first = job->next;
        pthread_mutex_unlock(&s->lock);
        late_do(s, job);
        free(job);
        pthread_mutex_lock(&s->lock);
        if (++s->executed == s->enqueued) pthread_cond_broadcast(&s->idle);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static inline struct late_job *late_job_of(struct late_job job) {
    struct late_job *made = malloc(sizeof *made);
    if (!made) abort();
    *made = job;
    return made;
}

static inline void late_enqueue(struct stream *q, struct late_job *job) {
    struct late_stream *s = (struct late_stream *)q;
    pthread_mutex_lock(&s->lock);
    if (s->first) {
        s->last->next = job;
    } else {
        s->first = job;
    }
    s->last = job;
    s->enqueued++;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
}

static inline void late_call(struct stream *q, const char *name,
    void (*kernel)(struct stream *q, const void *arguments), const void *arguments, size_t bytes) {
    if (bytes > LATE_ARGUMENTS) abort();
    struct late_job *job = late_job_of((struct late_job){.kernel = kernel, .name = name});
    memcpy(job->arguments, arguments, bytes);
    late_enqueue(q, job);
}

#include "late_kernels.h"

/* ---- the device ------------------------------------------------------------------------------- */

static const struct device_ops device_late;

static inline int late_count(void) { return 4; }

static inline void late_address(int index, char text[32]) {
    (void)index;
    text[0] = 0;
}

static inline enum status late_open(struct device **out, int index, int threads) {
    struct late_device *d = calloc(1, sizeof *d);
    if (!d) abort();
    d->base = (struct device){.ops = &device_late, .index = index, .threads = threads};
    snprintf(d->base.name, sizeof d->base.name, "late %d", index);
    *out = &d->base;
    return STATUS_OK;
}

static inline void late_close(struct device *d) {
    pthread_mutex_lock(&late_memory.lock);
    for (int i = 0; i < late_memory.n;) {
        if (late_memory.piece[i].device == d) {
            late_memory.piece[i] = late_memory.piece[--late_memory.n];
        } else {
            i++;
        }
    }
    pthread_mutex_unlock(&late_memory.lock);
    arena_close(&((struct late_device *)d)->arena);
    free(d);
}

static inline enum status late_alloc(struct device *d, void **at, size_t bytes) {
    *at = arena_take(&((struct late_device *)d)->arena, bytes);
    if (!*at) return fail(STATUS_FAILED, "no memory");
    pthread_mutex_lock(&late_memory.lock);
    if (late_memory.n == LATE_PIECES) abort();
    late_memory.piece[late_memory.n].device = d;
    late_memory.piece[late_memory.n].at = *at;
    late_memory.piece[late_memory.n++].bytes = bytes;
    pthread_mutex_unlock(&late_memory.lock);
    return STATUS_OK;
}

static inline int late_owns(const void *at) {
    int owns = 0;
    pthread_mutex_lock(&late_memory.lock);
    for (int i = 0; i < late_memory.n && !owns; i++) {
        const char *from = late_memory.piece[i].at;
        owns = (const char *)at >= from && (const char *)at < from + late_memory.piece[i].bytes;
    }
    pthread_mutex_unlock(&late_memory.lock);
    return owns;
}

static inline enum status late_use(struct device *d) {
    (void)d;
    return STATUS_OK;
}

static inline struct peer_claim late_peer_claim(int from, int to) {
    (void)from;
    (void)to;
    return (struct peer_claim){.reaches = 1};
}

static inline enum status late_peer_enable(struct device *d, int to) {
    (void)to;
    return late_use(d);
}

static inline void late_peer_disable(struct device *d, int to) {
    (void)d;
    (void)to;
}

static inline enum status late_free_bytes(struct device *d, size_t *left, size_t *total) {
    (void)d;
    *left = *total = (size_t)1 << 32;
    return STATUS_OK;
}

static inline enum status late_stream_open(struct device *d, struct stream **out, int kernels) {
    (void)kernels;
    struct late_stream *s = calloc(1, sizeof *s);
    if (!s) abort();
    s->base = (struct stream){.device = d, .kernels = &kernels_late, .threads = d->threads};
    s->inner = (struct stream){.device = d, .kernels = &kernels_host, .threads = d->threads};
    s->salt = (uint32_t)atomic_fetch_add(&late.streams, 1);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->more, NULL);
    pthread_cond_init(&s->idle, NULL);
    if (pthread_create(&s->thread, NULL, late_main, s) != 0) abort();
    *out = &s->base;
    return STATUS_OK;
}

/* Whoever closes a stream has waited for it: what its work reads may be gone otherwise. */
static inline void late_stream_close(struct stream *q) {
    struct late_stream *s = (struct late_stream *)q;
    pthread_mutex_lock(&s->lock);
    ASSERT(s->executed == s->enqueued);
    s->closing = 1;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->idle);
    pthread_cond_destroy(&s->more);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static inline enum status late_event_open(struct device *d, struct event **out) {
    (void)d;
    *out = calloc(1, sizeof **out);
    if (!*out) abort();
    pthread_mutex_init(&(*out)->lock, NULL);
    pthread_cond_init(&(*out)->passed, NULL);
    return STATUS_OK;
}

static inline void late_event_close(struct event *e) {
    ASSERT(e->done == e->recorded);
    pthread_cond_destroy(&e->passed);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static inline void late_copy(struct stream *q, void *to, const void *from, size_t bytes) {
    if (!late_owns(to)) memset(to, 0xff, bytes);
    late_enqueue(q, late_job_of((struct late_job){.to = to, .from = from, .bytes = bytes}));
}

static inline void late_record(struct stream *q, struct event *e) {
    pthread_mutex_lock(&e->lock);
    long time = ++e->recorded;
    pthread_mutex_unlock(&e->lock);
    late_enqueue(q, late_job_of((struct late_job){.record = e, .time = time}));
}

/* What was recorded up to now counts, not what will be when the stream comes here. */
static inline void late_wait(struct stream *q, struct event *e) {
    pthread_mutex_lock(&e->lock);
    long time = e->recorded;
    pthread_mutex_unlock(&e->lock);
    late_enqueue(q, late_job_of((struct late_job){.wait = e, .time = time}));
}

static inline void late_event_sync(struct event *e) {
    atomic_fetch_add(&late.waits, 1);
    pthread_mutex_lock(&e->lock);
    long time = e->recorded;
    pthread_mutex_unlock(&e->lock);
    event_await(e, time);
}

static inline int late_event_passed(struct event *e) {
    pthread_mutex_lock(&e->lock);
    int passed = e->done == e->recorded;
    pthread_mutex_unlock(&e->lock);
    return passed;
}

static inline enum status late_sync(struct stream *q) {
    struct late_stream *s = (struct late_stream *)q;
    atomic_fetch_add(&late.waits, 1);
    pthread_mutex_lock(&s->lock);
    while (s->executed != s->enqueued) pthread_cond_wait(&s->idle, &s->lock);
    pthread_mutex_unlock(&s->lock);
    enum status failed = s->inner.failed;
    s->inner.failed = STATUS_OK;
    return failed == STATUS_OK ? STATUS_OK : fail(failed, "%s", s->inner.why);
}

static const struct device_ops device_late = {
    .kind = "late",
    .count = late_count,
    .address = late_address,
    .open = late_open,
    .close = late_close,
    .use = late_use,
    .alloc = late_alloc,
    .pinned = late_alloc,
    .free_bytes = late_free_bytes,
    .peer_claim = late_peer_claim,
    .peer_enable = late_peer_enable,
    .peer_disable = late_peer_disable,
    .stream_open = late_stream_open,
    .stream_close = late_stream_close,
    .event_open = late_event_open,
    .event_close = late_event_close,
    .copy = late_copy,
    .record = late_record,
    .wait = late_wait,
    .event_sync = late_event_sync,
    .event_passed = late_event_passed,
    .sync = late_sync,
};

#endif
