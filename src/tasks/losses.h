/* losses.h -- a learner's training losses, left on the device until somebody asks for their mean. */
#ifndef LOSSES_H
#define LOSSES_H

#include "tasks/task.h"

enum { LOSSES_KEPT = 1024 };

struct losses {
    struct learner *learner;
    float *now;  /* device: the kernels put the loss of each gradient here */
    int fresh;   /* whether it is another one than was kept last */
    float *at;   /* (LOSSES_KEPT), device: of the gradients before */
    float *read; /* (LOSSES_KEPT), pinned: those on their way to the host */
    int kept;
    double sum; /* of those that are not kept any more */
    long summed;
};

/* On the learner's thread; its stream is there already. */
enum status losses_open(struct losses *l, struct learner *learner);

/* Before each gradient: keeps the loss of the one before. Waits for the device once in
 * LOSSES_KEPT. */
void losses_next(struct losses *l);

/* The mean since this was last asked, NaN if there is none. Synchronizes the stream. */
enum status losses_mean(struct losses *l, double *mean);

#endif
