/* task.h -- where a gradient comes from: data, model and loss, or a formula.
 *
 * A task is opened once, on the main thread, and then only read; a learner is one worker's share
 * of it: its batches, its activations. The engine knows neither data nor layers.
 */
#ifndef TASK_H
#define TASK_H

#include "base/options.h"
#include "devices/device.h"
#include "devices/vec.h"

struct task {
    const struct task_ops *ops;
    size_t floats;     /* of x */
    size_t buffers;    /* of b: what a model has beside its parameters, running statistics say */
    size_t parameters; /* of those, the model's own; the rest is alignment */
    double epoch;      /* samples in one */
    int batch;         /* samples in a gradient */
    int has_accuracy;  /* score.right means something */
    double curvature;  /* the loss' largest, where it is known; else 0 */
};

/* What the run tells a task that is being opened. */
struct task_setup {
    uint32_t seed;
    int workers;
    int spare_threads; /* cores that no worker needs: threads for loading in the background */
    const struct settings *settings; /* for groups of options beside the task's own */
};

/* Sums over the samples that were judged. */
struct score {
    double loss, right, samples;
};

/* A named tensor inside x, or in b, whose floats count on behind x's; for checkpoints. */
struct tensor {
    char name[32];
    struct range range;
    int dims, dim[4];
};

struct learner {
    struct task *task;
    int rank;
    struct stream *q;
    struct vec b;  /* buffers that go with x: a gradient updates them, a judgment reads them; the
                      engine says which before it calls, n = 0 where the task has none */
    double waited; /* seconds spent on batches that were not ready */

    /* The batches' losses, sums over their samples, that were ever read, added one by one: by whom
     * and how often they are asked for does not show in the bits; and how many batches. */
    double loss_sum, losses;

    /* The engine's: what `step` will hold when the device comes to it, for what the host draws; an
     * event for the host to wait for, NULL where work is done at once; gradients enqueued, and of
     * those how many the device is known to have done: what the host gave them may be reused. */
    struct step now;
    struct event *passed;
    long taken, reached;
};

/* The host waits for all that was enqueued on the learner's stream. A failure stays latched. */
void learner_wait(struct learner *l);

/* Before a gradient for which the host has one of `ring` places: waits when the device may still be
 * reading all of them. The place is number l->taken modulo ring. */
void learner_ring(struct learner *l, int ring);

struct task_ops {
    const char *name, *summary;
    size_t size;
    const struct option *options;
    const struct option_group *groups; /* further groups that it reads, until a NULL name */

    /* Required, all. Main thread; fills in the fields of struct task. */
    enum status (*open)(struct task *t, const struct task_setup *setup);
    void (*close)(struct task *t); /* also after a failed open */

    /* x (floats), and behind it b (buffers), host memory <- where training starts. */
    void (*init)(const struct task *t, float *x);

    /* The i-th tensor of x, then of b; false past the last. */
    int (*tensor)(const struct task *t, int i, struct tensor *out);

    /* Writes "[group]" sections: every option as it is in force. */
    void (*write_options)(const struct task *t, FILE *f);

    /* On the worker's thread, with its stream. drawn: samples that it had drawn when the run that
     * goes on was saved; drawn() says how many it has. */
    enum status (*learner_open)(
        struct task *t, struct learner **out, int rank, struct stream *q, uint64_t drawn);
    uint64_t (*drawn)(const struct learner *l);
    void (*learner_close)(struct learner *l);

    /* Before each gradient: draws what it is for and sends it to the device. Returns which of the
     * task's places, counted from 0, it goes to: a gradient of the same place reads and writes the
     * same addresses. */
    int (*feed)(struct learner *l);

    /* g <- gradient of the mean loss, at x, of the batch that was fed last; returns the range it is
     * for. step is in device memory. Enqueues kernels on l->q and changes nothing on the host that
     * a replay of them would miss. */
    struct range (*grad)(struct learner *l, struct vec x, struct vec g, const struct step *step);

    /* Optional, as grad: grad and a step of plain descent without. x <- x - rate times that gradient, up to
     * rounding, without ever writing it down; returns the range it moved. */
    struct range (*descend)(struct learner *l, struct vec x, const struct step *step);

    /* The mean training loss since this was last asked; NaN if none. Synchronizes the stream, and
     * says how that went. */
    enum status (*loss)(struct learner *l, double *mean);

    /* The part-th of `parts` shares of what is judged, at x. Waits for the stream. */
    enum status (*evaluate)(
        struct learner *l, struct vec x, int part, int parts, struct score *score);

    /* Required where a task has buffers. l->b <- sums over the part-th of `parts` shares of
     * `samples` training samples of what the buffers are at x, each sample counted once; *counted
     * says how many there were. Draws nothing that training draws. */
    enum status (*statistics)(
        struct learner *l, struct vec x, int samples, int part, int parts, double *counted);

    /* Optional. What is learned from what, a few lines, for the log. */
    void (*describe)(const struct task *t, char *text, size_t n);
};

extern const struct task_ops *const tasks[]; /* until NULL; tasks.c */

/* The one of that name in a list like `tasks`, or NULL. */
const struct task_ops *task_find(const struct task_ops *const *list, const char *name);

/* Opens a task with its settings; it is closed by task_close also when this fails. */
enum status task_open(
    struct task **out, const struct task_ops *ops, const struct task_setup *setup);
void task_close(struct task *t);

#endif
