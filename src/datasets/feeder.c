/* feeder.c -- threads that sleep until a loader has a batch to fill.
 *
 * The semaphore counts batches given back, so there are never fewer posts than batches to fill.
 * A worker that fills its own leaves a post too many, which costs its finder one look around.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "datasets/loader.h"

enum { LOADERS = 64 };

struct feeder {
    int threads, begun;
    pthread_t *thread;
    pthread_mutex_t adding;
    struct loader *loaders[LOADERS];
    _Atomic int count; /* of loaders; those below it do not change */
    _Atomic int stop;
    sem_t work;
};

/* Fills one batch, of those that their workers need soonest; false when all are filled or begun. */
static int feeder_fill(struct feeder *f) {
    int count = atomic_load_explicit(&f->count, memory_order_acquire);
    for (int ahead = 0; ahead < LOADER_RING_DEVICE; ahead++) {
        for (int i = 0; i < count; i++) {
            if (loader_fill(f->loaders[i], ahead)) return 1;
        }
    }
    return 0;
}

static void *feeder_main(void *arg) {
    struct feeder *f = arg;
    log_name("feeder");
    while (!atomic_load(&f->stop)) {
        while (!atomic_load(&f->stop) && feeder_fill(f)) continue;
        while (sem_wait(&f->work) != 0) ASSERT(errno == EINTR);
    }
    return NULL;
}

static enum status threads_start(struct feeder *f) {
    for (; f->begun < f->threads; f->begun++) {
        int error = pthread_create(&f->thread[f->begun], NULL, feeder_main, f);
        if (error) {
            return fail(STATUS_FAILED, "feeder thread %d of %d does not start: %s", f->begun + 1,
                f->threads, strerror(error));
        }
    }
    return STATUS_OK;
}

enum status feeder_open(struct feeder **out, int threads) {
    ASSERT(threads >= 0);
    *out = NULL;
    struct feeder *f = calloc(1, sizeof *f);
    pthread_t *thread = calloc((size_t)threads + 1, sizeof *thread);
    if (!f || !thread) {
        free(f);
        free(thread);
        return fail(STATUS_FAILED, "no memory for a feeder");
    }
    f->threads = threads;
    f->thread = thread;
    ASSERT(pthread_mutex_init(&f->adding, NULL) == 0 && sem_init(&f->work, 0, 0) == 0);
    enum status status = threads_start(f);
    if (status != STATUS_OK) {
        feeder_close(f);
    } else {
        *out = f;
    }
    return status;
}

enum status feeder_add(struct feeder *f, struct loader *l) {
    if (f->threads == 0) return STATUS_OK;
    pthread_mutex_lock(&f->adding);
    int count = atomic_load(&f->count);
    if (count < LOADERS) {
        loader_notify(l, &f->work);
        f->loaders[count] = l;
        atomic_store_explicit(&f->count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&f->adding);
    if (count == LOADERS) {
        return fail(STATUS_BAD_CONFIG, "a feeder serves at most %d loaders", LOADERS);
    }
    for (int i = 0; i < LOADER_RING_DEVICE; i++) sem_post(&f->work);
    return STATUS_OK;
}

static void threads_stop(struct feeder *f) {
    atomic_store(&f->stop, 1);
    for (int i = 0; i < f->begun; i++) sem_post(&f->work);
    for (; f->begun > 0; f->begun--) pthread_join(f->thread[f->begun - 1], NULL);
    atomic_store(&f->stop, 0);
}

/* No thread runs meanwhile: none can be in the middle of a batch of it. Where they do not start
 * again, workers fill their own. */
void feeder_remove(struct feeder *f, struct loader *l) {
    pthread_mutex_lock(&f->adding);
    int count = atomic_load(&f->count), i = 0;
    while (i < count && f->loaders[i] != l) i++;
    if (i < count) {
        threads_stop(f);
        loader_notify(l, NULL);
        f->loaders[i] = f->loaders[count - 1];
        atomic_store(&f->count, count - 1);
        (void)threads_start(f);
    }
    pthread_mutex_unlock(&f->adding);
}

void feeder_close(struct feeder *f) {
    if (!f) return;
    threads_stop(f);
    for (int i = 0; i < atomic_load(&f->count); i++) loader_notify(f->loaders[i], NULL);
    sem_destroy(&f->work);
    pthread_mutex_destroy(&f->adding);
    free(f->thread);
    free(f);
}
