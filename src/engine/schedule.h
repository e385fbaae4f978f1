/* schedule.h -- the control plane: how long a step, decided from numbers alone.
 *
 * Orthogonal to the strategy, which decides who talks to whom. Schedules compose as a list: each
 * is given the plan of those before it and changes it. plan() is pure, so it is tested without a
 * device and every worker may ask for itself.
 */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include "base/options.h"

struct progress {
    double epochs; /* samples drawn by all workers over the set's size */
};

struct plan {
    float rate; /* eta */
};

struct schedule {
    const struct schedule_ops *ops;
};

struct schedule_ops {
    const char *name, *summary;
    size_t size;
    const struct option *options;

    /* Optional. After the options were read: checks them. */
    enum status (*open)(struct schedule *s);

    /* Required. Changes the plan of the schedules before it. Any thread. */
    void (*plan)(const struct schedule *s, const struct progress *now, struct plan *plan);
};

extern const struct schedule_ops *const base_schedules[]; /* until NULL; schedules.c */

enum { SCHEDULES_MOST = 8 };

/* A list, as the user composed it. */
struct schedules {
    float rate;
    char use[128]; /* "warmup, step" */
    int n;
    struct schedule *list[SCHEDULES_MOST];
};

extern const struct option schedules_options[]; /* group "schedule" */

enum status schedules_open(
    struct schedules *s, const struct settings *set, const struct schedule_ops *const *kinds);
void schedules_close(struct schedules *s);
struct plan schedules_plan(const struct schedules *s, const struct progress *now);
int schedules_have(const struct schedules *s, const struct schedule_ops *kind);
void schedules_write(const struct schedules *s, FILE *f);

#endif
