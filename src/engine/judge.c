#include "judge.h"

#include <string.h>

#include "devices/openmp.h"
#include "engine/checkpoint.h"
#include "engine/run.h"
#include "topology/topology.h"

/* All that judging holds open. */
struct bench {
    struct machine *machine;
    struct task *task;
    struct device *device;
    struct stream *q;
    struct learner *learner;
};

static enum status judge(struct bench *b, const char *path, const struct settings *settings,
    const struct task_ops *const *kinds, struct judgment *out) {
    struct run_settings set;
    struct vec x;
    TRY(settings_apply(settings, "run", run_options, &set));
    const struct task_ops *ops = task_find(kinds, set.task);
    if (!ops) return fail(STATUS_BAD_CONFIG, "there is no task \"%s\"", set.task);
    struct task_setup setup = {
        .seed = (uint32_t)set.seed, .workers = set.workers, .settings = settings};
    TRY(task_open(&b->task, ops, &setup));
    TRY(topology_open(&b->machine, NULL));
    openmp_settle(b->machine->cores);
    TRY(device_open(&b->device, &device_host, 0, b->machine->cores));
    TRY(stream_open(&b->q, b->device));
    TRY(ops->learner_open(b->task, &b->learner, 0, b->q, 0));
    x.n = b->task->floats;
    TRY(device_alloc(b->device, (void **)&x.at, (x.n + b->task->buffers) * sizeof *x.at));
    TRY(checkpoint_read(path, b->task, x.at));
    b->learner->b = (struct vec){x.at + x.n, b->task->buffers};
    out->has_accuracy = b->task->has_accuracy;
    return ops->evaluate(b->learner, x, 0, 1, &out->score);
}

enum status judge_checkpoint(const char *path, const struct settings *settings,
    const struct task_ops *const *kinds, struct judgment *out) {
    struct bench b = {0};
    *out = (struct judgment){0};
    enum status end = judge(&b, path, settings, kinds, out);
    if (b.learner) b.task->ops->learner_close(b.learner);
    stream_close(b.q);
    device_close(b.device);
    task_close(b.task);
    topology_close(b.machine);
    return end;
}
