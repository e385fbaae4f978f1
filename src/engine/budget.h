/* budget.h -- what a run will take of its devices' memory, known before any of it is taken.
 *
 * All seats are taken once on devices that only count: the same calls as later, in the same order,
 * with the device's own workspaces, so nothing has to be kept in step with anything.
 */
#ifndef BUDGET_H
#define BUDGET_H

#include <stddef.h>

#include "base/status.h"

struct run;
struct strategy_ops;

struct budget {
    int devices; /* different ones; 0 where memory is the machine's, and nothing is planned */
    struct budget_device {
        int number, workers;
        size_t left, total; /* bytes: what nobody uses now, and all */
        size_t need;        /* of all its workers */
        size_t batches;     /* of that, what grows with the batch, or nearly all of it */
    } * device;             /* [devices], ascending numbers */
    size_t pinned;          /* bytes of the host's memory that will be page-locked */
    int cudnn;              /* does it convolve? */
    char convolution[160];  /* what does; "": nothing asked, or this is the host */
};

/* The run's task and devices are open, its team is not. Notes the devices' name too, and
 * what convolves on them. STATUS_DEVICE
 * when a device, or the host, has not got what the run needs: the message says how much that is, how
 * much there is, and what to lower. budget_close also after a failure. */
enum status budget_plan(struct budget *b, struct run *run, const struct strategy_ops *strategy);
void budget_close(struct budget *b);

/* Bytes on all devices together. */
size_t budget_total(const struct budget *b);

#endif
