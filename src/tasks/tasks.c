#include <stdlib.h>
#include <string.h>

#include "tasks/task.h"

extern const struct task_ops task_classify, task_quadratic;

const struct task_ops *const tasks[] = {&task_classify, &task_quadratic, NULL};

const struct task_ops *task_find(const struct task_ops *const *list, const char *name) {
    while (*list && strcmp((*list)->name, name) != 0) list++;
    return *list;
}

enum status task_open(
    struct task **out, const struct task_ops *ops, const struct task_setup *setup) {
    *out = calloc(1, ops->size);
    if (!*out) return fail(STATUS_FAILED, "no memory for task %s", ops->name);
    (*out)->ops = ops;
    TRY(settings_apply(setup->settings, ops->name, ops->options, *out));
    return ops->open(*out, setup);
}

void task_close(struct task *t) {
    if (!t) return;
    t->ops->close(t);
    free(t);
}

void learner_wait(struct learner *l) {
    if (!l->passed) return;
    stream_record(l->q, l->passed);
    event_sync(l->passed, l->q->device);
    l->reached = l->taken;
}

void learner_ring(struct learner *l, int ring) {
    if (l->taken - l->reached >= ring) learner_wait(l);
}
