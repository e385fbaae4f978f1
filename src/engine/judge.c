#include "judge.h"

#include <stdlib.h>

#include "devices/openmp.h"
#include "engine/checkpoint.h"
#include "engine/devices.h"
#include "engine/run.h"
#include "topology/topology.h"

/* All that judging holds open. */
struct bench {
    struct machine *machine;
    struct task *task;
    struct device *device;
    struct stream *q;
    struct learner *learner;
    struct vec x;
};

static enum status open_device(
    struct bench *b, const struct run_settings *set, const struct device_ops *const *list) {
    struct devices chosen;
    TRY(devices_choose(&chosen, list, set->devices, 1));
    TRY(topology_open(&b->machine, NULL));
    openmp_settle(b->machine->cores);
    TRY(device_open(&b->device, chosen.ops, chosen.number[0], b->machine->cores));
    b->device->cudnn = run_wants_cudnn(set);
    return stream_open(&b->q, b->device);
}

/* b->x, and the buffers behind it, <- the checkpoint. */
static enum status read_weights(struct bench *b, const char *path) {
    size_t n = b->task->floats + b->task->buffers;
    b->x.n = b->task->floats;
    TRY(device_alloc(b->device, (void **)&b->x.at, n * sizeof *b->x.at));
    float *read = malloc(n * sizeof *read);
    if (!read) return fail(STATUS_FAILED, "no memory for %zu parameters", n);
    enum status end = checkpoint_read(path, b->task, read);
    if (end == STATUS_OK) {
        stream_copy(b->q, b->x.at, read, n * sizeof *read);
        end = stream_sync(b->q);
    }
    free(read);
    return end;
}

static enum status judge(struct bench *b, const char *path, const struct settings *settings,
    const struct task_ops *const *kinds, const struct device_ops *const *list,
    struct judgment *out) {
    struct run_settings set;
    TRY(settings_apply(settings, "run", run_options, &set));
    const struct task_ops *ops = task_find(kinds, set.task);
    if (!ops) return fail(STATUS_BAD_CONFIG, "there is no task \"%s\"", set.task);
    struct task_setup setup = {
        .seed = (uint32_t)set.seed, .workers = set.workers, .settings = settings};
    TRY(task_open(&b->task, ops, &setup));
    TRY(open_device(b, &set, list));
    TRY(ops->learner_open(b->task, &b->learner, 0, b->q, 0));
    TRY(read_weights(b, path));
    b->learner->b = (struct vec){b->x.at + b->x.n, b->task->buffers};
    out->has_accuracy = b->task->has_accuracy;
    return ops->evaluate(b->learner, b->x, 0, 1, &out->score);
}

enum status judge_checkpoint(const char *path, const struct settings *settings,
    const struct task_ops *const *kinds, const struct device_ops *const *list,
    struct judgment *out) {
    struct bench b = {0};
    *out = (struct judgment){0};
    enum status end = judge(&b, path, settings, kinds, list, out);
    if (b.learner) b.task->ops->learner_close(b.learner);
    stream_close(b.q);
    device_close(b.device);
    task_close(b.task);
    topology_close(b.machine);
    return end;
}
