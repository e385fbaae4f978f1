/* judge.h -- what saved weights are worth. */
#ifndef JUDGE_H
#define JUDGE_H

#include "tasks/task.h"

struct judgment {
    struct score score;
    int has_accuracy;
};

/* Opens the task that the settings name, with the checkpoint's weights, on the first of the devices
 * that run.devices means in the list, or all cores of the host. */
enum status judge_checkpoint(const char *path, const struct settings *settings,
    const struct task_ops *const *kinds, const struct device_ops *const *list,
    struct judgment *out);

#endif
