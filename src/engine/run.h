/* run.h -- a run: from settings to a trained answer, with everything in between.
 *
 * run_train does all of it on the calling thread and one thread a worker, and leaves
 * folder/name/{config.ini, metrics.jsonl, checkpoint.safetensors, summary.json}.
 */
#ifndef RUN_H
#define RUN_H

#include <stdatomic.h>

#include "engine/health.h"
#include "engine/schedule.h"
#include "engine/strategy.h"
#include "tasks/task.h"

/* run.cudnn; and for a plan: where it is found, as the run then decides. */
enum { CUDNN_OFF, CUDNN_ON, CUDNN_AUTO, CUDNN_TRY };

/* Group "run". */
struct run_settings {
    char name[64], folder[256], strategy[32], task[32], devices[512];
    char record[256], replay[256];
    int workers, seed, order, center, comm, max_lag, ahead, steps, judge, threads, bind, keep;
    int batchnorm, batchnorm_samples, tf32, graph, cudnn;
    float epochs, seconds, target, eval_every, save_every, watchdog, curvature;
};
extern const struct option run_options[];

/* Whether cuDNN is to convolve where it is found. */
int run_wants_cudnn(const struct run_settings *set);

extern const struct option topology_options[]; /* of the same struct */
extern const struct option optimizer_options[];

/* What the commands hand down: the user's lines, and the lists that no lower floor knows. */
struct run_setup {
    const struct settings *settings;
    const struct strategy_ops *const *strategies; /* until NULL, as below */
    const struct schedule_ops *const *schedules;
    const struct task_ops *const *tasks;
    const struct device_ops *const *devices; /* the first kind that is there is what auto means */

    /* Optional, for those who want to look: called for each worker on its own thread, when the
     * last round is over and all vectors are still there. */
    void (*finished)(void *with, const struct worker *w);
    void *with;
    int quiet; /* prints nothing; leaves no folder, unless run.name is set */

    /* Goes on with the run whose folder the settings name, from its newest state. */
    int resume;

    /* Optional. Once it is not 0 the run is saved and ends with STATUS_INTERRUPTED. Whoever writes it
     * may be a signal handler, on any thread. */
    const atomic_int *interrupt;
};

struct run_result {
    struct score score;     /* of the last evaluation; sums */
    double accuracy;        /* 0 .. 1; NaN where the task has none */
    double train_loss;      /* mean since the evaluation before */
    double samples, epochs; /* drawn by all workers */
    double seconds;         /* the training clock: evaluations are not in it */
    double computing, exchanging, waiting, loading; /* seconds, mean over workers */
    double bytes;                                   /* exchanged, over all workers */
    double device_bytes; /* that all workers together take of their devices; 0: the host's */
    double pinned_bytes; /* page-locked for them on the host */
    long steps;          /* over all workers */
    float rate;          /* in force at the end */
    struct health health;
    char path[400]; /* of the run's folder; "" when quiet */
};

enum status run_train(const struct run_setup *setup, struct run_result *out);

#endif
