/* nccl.c -- sums by NCCL, which knows one rank a device: the first worker there leads it.
 *
 * In free order the leader adds what the workers of its device brought, NCCL adds over the devices,
 * and the leader copies the sum to the others. In fixed order NCCL only moves: each leader gathers
 * the vectors of all workers, chunk by chunk, and adds them in rank order, so that the bits are those
 * of any other way to take the sum. Only leaders call NCCL, and all between the same two moments, in
 * one order.
 *
 * Kernels, and cuBLAS's and cuDNN's by the thousand, are loaded when they are first launched. That may
 * wait for what runs on the device, a sum that spins until the other leaders come among it. They do come:
 * each is launched by a thread of its own device's, which on the way to a sum waits for workers of that
 * device alone, and nobody meets in a sum who holds a shared vector. So CUDA_MODULE_LOADING is left as
 * it is, and a start does not pay for kernels that no run uses.
 *
 * Communicators are non-blocking: whatever NCCL waits for, any thread can end it. The lock guards
 * them, since nobody may abort one while another thread is in a call on it.
 */
#include <nccl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "comm/comm.h"
#include "devices/device.h"
#include "kernels/cuda_stream.cuh"

/* Floats of each worker that are gathered at a time, and of all of them together. */
enum { CHUNK = 1 << 18, GATHERED_MOST = 1 << 22 };

struct nccl_device {
    ncclComm_t nccl; /* NULL: aborted */
    int number;
    int workers;
    int worker[COMM_MOST];
    struct event *done;  /* the sum is with all workers; NULL where the leader is alone */
    struct device *mine; /* the leader's, of done and of gathered */
    float *gathered;     /* (devices, most, chunk), fixed order: what all workers brought */
};

struct nccl_seat {
    float *brought;
    size_t n;
    int on;              /* its device */
    int place;           /* among the workers there */
    struct device *mine; /* of ready */
    struct event *ready; /* what is brought is there; NULL for a leader */
};

struct nccl_comm {
    struct comm base;
    struct comm *slices; /* for groups, mixes and single numbers */
    int ordered, devices;
    int most;     /* workers on a device, where they are most */
    size_t chunk; /* floats of a worker in gathered */
    double patience;
    struct nccl_device device[COMM_MOST];
    struct nccl_seat seat[COMM_MOST];
    pthread_mutex_t lock;
    int aborted;
    char error[200]; /* the first, in words; "": none */
};

/* ---- communicators --------------------------------------------------------------------------- */

/* Under the lock. */
static void abort_all(struct nccl_comm *c) {
    c->aborted = 1;
    for (int d = 0; d < c->devices; d++) {
        if (c->device[d].nccl) (void)ncclCommAbort(c->device[d].nccl);
        c->device[d].nccl = NULL;
    }
}

/* Under the lock: the first failure is remembered, and nobody is left waiting. */
static void give_up(struct nccl_comm *c, int d, ncclResult_t result) {
    if (!c->aborted) {
        snprintf(c->error, sizeof c->error, "NCCL on cuda:%d: %s", c->device[d].number,
            result == ncclInProgress ? "no answer" : ncclGetErrorString(result));
    }
    abort_all(c);
}

/* Waits until NCCL has taken on what it was asked for; an abort ends the wait. The clock is looked
 * at only by those who wait long. */
static void settle(struct nccl_comm *c, int d) {
    double start = 0;
    for (long i = 0;; i++) {
        ncclResult_t result = ncclSuccess;
        pthread_mutex_lock(&c->lock);
        ncclComm_t nccl = c->device[d].nccl;
        ncclResult_t asked = nccl ? ncclCommGetAsyncError(nccl, &result) : ncclSuccess;
        if (asked != ncclSuccess) result = asked;
        int late = result == ncclInProgress && i > 1000 && clock_seconds() - start > c->patience;
        if (late || (result != ncclSuccess && result != ncclInProgress)) give_up(c, d, result);
        pthread_mutex_unlock(&c->lock);
        if (late || result != ncclInProgress) return;
        if (i == 1000) start = clock_seconds();
        if (i < 1000) {
            sched_yield();
        } else {
            usleep(50);
        }
    }
}

/* recv <- the sum of n floats over the devices; or those of each, gathered. */
static void enqueue(
    struct nccl_comm *c, int d, struct stream *q, const float *send, float *recv, size_t n) {
    cudaStream_t cuda = ((struct cuda_stream *)q)->cuda;
    char error[sizeof c->error];
    ncclResult_t result = ncclSuccess;
    pthread_mutex_lock(&c->lock);
    ncclComm_t nccl = c->device[d].nccl;
    if (nccl && c->ordered) {
        result = ncclAllGather(send, recv, n, ncclFloat, nccl, cuda);
    } else if (nccl) {
        result = ncclAllReduce(send, recv, n, ncclFloat, ncclSum, nccl, cuda);
    }
    if (result != ncclSuccess && result != ncclInProgress) give_up(c, d, result);
    pthread_mutex_unlock(&c->lock);
    if (result == ncclInProgress) settle(c, d);
    pthread_mutex_lock(&c->lock);
    memcpy(error, c->error, sizeof error);
    pthread_mutex_unlock(&c->lock);
    if (*error) stream_fail(q, "%s", error);
}

static void nccl_abort(struct comm *base) {
    struct nccl_comm *c = (struct nccl_comm *)base;
    pthread_mutex_lock(&c->lock);
    abort_all(c);
    pthread_mutex_unlock(&c->lock);
}

static enum status nccl_check(struct comm *base) {
    struct nccl_comm *c = (struct nccl_comm *)base;
    enum status end = STATUS_OK;
    pthread_mutex_lock(&c->lock);
    for (int d = 0; d < c->devices && c->device[d].nccl; d++) {
        ncclResult_t result = ncclSuccess, asked;
        asked = ncclCommGetAsyncError(c->device[d].nccl, &result);
        if (asked != ncclSuccess) result = asked;
        if (result != ncclSuccess && result != ncclInProgress) give_up(c, d, result);
    }
    if (*c->error) end = fail(STATUS_DEVICE, "%s", c->error);
    pthread_mutex_unlock(&c->lock);
    return end;
}

/* ---- sums ------------------------------------------------------------------------------------- */

static float *brought(const struct nccl_comm *c, const struct nccl_device *d, int place) {
    return c->seat[d->worker[place]].brought;
}

static void sum_free(struct nccl_comm *c, int on, struct stream *q, size_t n, float scale) {
    const struct nccl_device *d = &c->device[on];
    float *v[COMM_MOST] = {brought(c, d, 0)};
    for (int i = 1; i < d->workers; i++) v[i] = brought(c, d, i);
    if (d->workers > 1 || scale != 1) q->kernels->sum(q, v, d->workers, scale, n);
    if (n) enqueue(c, on, q, v[0], v[0], n);
    for (int i = 1; i < d->workers; i++) stream_copy(q, v[i], v[0], n * sizeof(float));
}

/* Every device brings as many vectors; where it has fewer workers, what stands there is not read. */
static void sum_ordered(struct nccl_comm *c, int on, struct stream *q, size_t n, float scale) {
    const struct nccl_device *d = &c->device[on];
    for (size_t from = 0; from < n; from += c->chunk) {
        size_t m = n - from < c->chunk ? n - from : c->chunk, each = (size_t)c->most * m;
        float *mine = d->gathered + (size_t)on * each, *v[COMM_MOST];
        for (int i = 0; i < d->workers; i++) {
            stream_copy(q, mine + (size_t)i * m, brought(c, d, i) + from, m * sizeof(float));
        }
        enqueue(c, on, q, mine, d->gathered, each);
        for (int r = 0; r < c->base.size; r++) {
            const struct nccl_seat *s = &c->seat[r];
            v[r] = d->gathered + (size_t)s->on * each + (size_t)s->place * m;
            if (s->on == on) v[r] = s->brought + from;
        }
        q->kernels->sum(q, v, c->base.size, scale, m);
    }
}

static void lead(struct nccl_comm *c, int on, struct stream *q, struct vec v, float scale) {
    const struct nccl_device *d = &c->device[on];
    for (int r = 0; r < c->base.size; r++) ASSERT(c->seat[r].n == v.n);
    for (int i = 1; i < d->workers; i++) stream_wait(q, c->seat[d->worker[i]].ready);
    (c->ordered ? sum_ordered : sum_free)(c, on, q, v.n, scale);
    if (d->done) stream_record(q, d->done);
}

/* Events stand still while they are waited for: whoever would record one anew comes to the next
 * meeting first, and there all who wait are past it. */
static void nccl_sum(
    struct comm *base, int rank, struct stream *q, struct vec v, float scale, struct ranks of) {
    struct nccl_comm *c = (struct nccl_comm *)base;
    struct nccl_seat *mine = &c->seat[rank];
    if (of.count < base->size) {
        comm_sum(c->slices, rank, q, v, scale, of);
        return;
    }
    mine->brought = v.at;
    mine->n = v.n;
    if (mine->ready) stream_record(q, mine->ready);
    if (!base->waits.meet(base->waits.with, rank)) return;
    if (mine->place == 0) lead(c, mine->on, q, v, scale);
    base->waits.part(base->waits.with, rank);
    if (mine->place > 0) stream_wait(q, c->device[mine->on].done);
}

static void nccl_mix(struct comm *base, int rank, struct stream *q, struct vec y, struct vec v,
    const float *weight) {
    comm_mix(((struct nccl_comm *)base)->slices, rank, q, y, v, weight);
}

static double nccl_sum1(struct comm *base, int rank, struct stream *q, double a) {
    return comm_sum1(((struct nccl_comm *)base)->slices, rank, q, a);
}

/* ---- start and end ---------------------------------------------------------------------------- */

static enum status nccl_join(struct comm *base, int rank, struct stream *q) {
    struct nccl_comm *c = (struct nccl_comm *)base;
    struct nccl_seat *mine = &c->seat[rank];
    struct nccl_device *d = &c->device[mine->on];
    TRY(comm_join(c->slices, rank, q));
    mine->mine = q->device;
    if (mine->place > 0) return event_open(&mine->ready, q->device);
    d->mine = q->device;
    if (d->workers > 1) TRY(event_open(&d->done, q->device));
    if (!c->ordered) return STATUS_OK;
    size_t bytes = comm_nccl_bytes(c->devices, c->most);
    return device_alloc(q->device, (void **)&d->gathered, bytes);
}

static void end_communicators(struct nccl_comm *c) {
    for (int d = 0; d < c->devices; d++) {
        if (c->device[d].nccl) (void)ncclCommFinalize(c->device[d].nccl);
    }
    for (int d = 0; d < c->devices; d++) settle(c, d);
    for (int d = 0; d < c->devices; d++) {
        if (c->device[d].nccl) (void)ncclCommDestroy(c->device[d].nccl);
    }
}

static void nccl_close(struct comm *base) {
    struct nccl_comm *c = (struct nccl_comm *)base;
    end_communicators(c);
    for (int r = 0; r < base->size; r++) event_close(c->seat[r].ready, c->seat[r].mine);
    for (int d = 0; d < c->devices; d++) event_close(c->device[d].done, c->device[d].mine);
    comm_close(c->slices);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* All ranks start at once, from one thread. */
static enum status start(struct nccl_comm *c, const struct comm_devices *d) {
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess) {
        return fail(STATUS_DEVICE, "NCCL does not start: %s", ncclGetErrorString(result));
    }
    (void)ncclGroupStart();
    for (int i = 0; i < d->count && result == ncclSuccess; i++) {
        if (device_use(d->device[i]) != STATUS_OK) break;
        result = ncclCommInitRankConfig(&c->device[i].nccl, d->count, id, i, &config);
        if (result == ncclInProgress) result = ncclSuccess;
    }
    ncclResult_t end = ncclGroupEnd();
    if (result == ncclSuccess && end != ncclInProgress) result = end;
    if (result != ncclSuccess) give_up(c, 0, result);
    for (int i = 0; i < d->count; i++) settle(c, i);
    return *c->error ? fail(STATUS_DEVICE, "%s, at its start", c->error) : STATUS_OK;
}

static const struct comm_ops comm_nccl = {
    .name = "nccl",
    .close = nccl_close,
    .join = nccl_join,
    .sum = nccl_sum,
    .mix = nccl_mix,
    .sum1 = nccl_sum1,
    .abort = nccl_abort,
    .check = nccl_check,
};

/* Floats of one worker in a piece. */
static size_t chunk_of(int count, int most) {
    size_t room = GATHERED_MOST / ((size_t)count * (size_t)most);
    return room < CHUNK ? room : CHUNK;
}

size_t comm_nccl_bytes(int count, int most) {
    return (size_t)count * (size_t)most * chunk_of(count, most) * sizeof(float);
}

static void seat_workers(struct nccl_comm *c, const struct comm_devices *d) {
    c->devices = d->count;
    for (int i = 0; i < d->count; i++) c->device[i].number = d->number[i];
    for (int r = 0; r < c->base.size; r++) {
        struct nccl_device *at = &c->device[d->of[r]];
        c->seat[r].on = d->of[r];
        c->seat[r].place = at->workers;
        at->worker[at->workers++] = r;
        if (at->workers > c->most) c->most = at->workers;
    }
    c->chunk = chunk_of(c->devices, c->most);
}

enum status comm_open_nccl(struct comm **out, const struct comm_setup *setup,
    const struct comm_devices *d, struct comm *slices) {
    struct nccl_comm *c = calloc(1, sizeof *c);
    if (!c) {
        comm_close(slices);
        return fail(STATUS_FAILED, "no memory for collectives");
    }
    c->base = (struct comm){
        .ops = &comm_nccl, .kind = COMM_NCCL, .size = setup->size, .waits = setup->waits};
    c->slices = slices;
    c->ordered = setup->ordered;
    c->patience = setup->patience > 0 ? setup->patience : 120;
    pthread_mutex_init(&c->lock, NULL);
    seat_workers(c, d);
    enum status end = start(c, d);
    if (end == STATUS_OK) {
        *out = &c->base;
    } else {
        nccl_close(&c->base);
    }
    return end;
}
