#include "losses.h"

#include <math.h>

enum status losses_open(struct losses *l, struct learner *learner) {
    struct device *d = learner->q->device;
    *l = (struct losses){.learner = learner};
    TRY(device_alloc(d, (void **)&l->now, sizeof *l->now));
    TRY(device_alloc(d, (void **)&l->at, LOSSES_KEPT * sizeof *l->at));
    return device_pinned(d, (void **)&l->read, LOSSES_KEPT * sizeof *l->read);
}

static void copy_kept(struct losses *l) {
    stream_copy(l->learner->q, l->read, l->at, (size_t)l->kept * sizeof *l->at);
}

/* When the copy is done. */
static void sum_kept(struct losses *l) {
    for (int i = 0; i < l->kept; i++) {
        l->sum += (double)l->read[i];
        l->learner->loss_sum += (double)l->read[i];
    }
    l->summed += l->kept;
    l->learner->losses += l->kept;
    l->kept = 0;
}

static void keep(struct losses *l) {
    if (!l->fresh) return;
    if (l->kept == LOSSES_KEPT) {
        copy_kept(l);
        learner_wait(l->learner);
        sum_kept(l);
    }
    stream_copy(l->learner->q, l->at + l->kept++, l->now, sizeof *l->now);
}

void losses_next(struct losses *l) {
    keep(l);
    l->fresh = 1;
}

enum status losses_mean(struct losses *l, double *mean) {
    keep(l);
    l->fresh = 0;
    copy_kept(l);
    TRY(stream_sync(l->learner->q));
    l->learner->reached = l->learner->taken;
    sum_kept(l);
    *mean = l->summed ? l->sum / (double)l->summed : (double)NAN;
    l->sum = 0;
    l->summed = 0;
    return STATUS_OK;
}
