/* schedules.c -- the base schedules, and the list that composes them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/schedule.h"

/* ---- constant: the rate as it is ------------------------------------------------------------ */

static void constant_plan(const struct schedule *s, const struct progress *now, struct plan *plan) {
    (void)s;
    (void)now;
    (void)plan;
}

static const struct schedule_ops schedule_constant = {
    .name = "constant",
    .summary = "the rate stays what it is",
    .size = sizeof(struct schedule),
    .plan = constant_plan,
};

/* ---- step: the rate drops at given epochs --------------------------------------------------- */

enum { DROPS_MOST = 16 };

struct step_schedule {
    struct schedule base;
    char at[128];
    float factor;
    double epoch[DROPS_MOST];
    int drops;
};

static const struct option step_options[] = {
    {"at", OPTION_TEXT, offsetof(struct step_schedule, at), 0, 0, 128,
        "epochs after which the rate drops, \"80, 120\"", ""},
    {"factor", OPTION_REAL, offsetof(struct step_schedule, factor), 0.1, 0, 1,
        "what each drop multiplies the rate by", NULL},
    {0},
};

static enum status step_open(struct schedule *base) {
    struct step_schedule *s = (struct step_schedule *)base;
    const char *at = s->at;
    s->drops = 0;
    for (; *at; s->drops++) {
        char *end;
        double epoch = strtod(at, &end);
        if (end == at || !(epoch >= 0) || (s->drops && epoch <= s->epoch[s->drops - 1])) {
            return fail(STATUS_BAD_CONFIG, "step.at = %s is not a list of rising epochs", s->at);
        }
        if (s->drops == DROPS_MOST) {
            return fail(
                STATUS_BAD_CONFIG, "step.at = %s has more than %d epochs", s->at, DROPS_MOST);
        }
        s->epoch[s->drops] = epoch;
        at = end + strspn(end, " ,");
    }
    if (s->drops) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG, "schedule step: say when the rate drops, step.at=80,120");
}

static void step_plan(const struct schedule *base, const struct progress *now, struct plan *plan) {
    const struct step_schedule *s = (const struct step_schedule *)base;
    for (int i = 0; i < s->drops && now->epochs >= s->epoch[i]; i++) plan->rate *= s->factor;
}

static const struct schedule_ops schedule_step = {
    .name = "step",
    .summary = "the rate is multiplied by step.factor after each epoch of step.at",
    .size = sizeof(struct step_schedule),
    .options = step_options,
    .open = step_open,
    .plan = step_plan,
};

/* ---- warmup: the rate rises in a straight line ---------------------------------------------- */

struct warmup {
    struct schedule base;
    float epochs, from;
};

static const struct option warmup_options[] = {
    {"epochs", OPTION_REAL, offsetof(struct warmup, epochs), 1, 0, 1e6,
        "epochs until the rate is whole", NULL},
    {"from", OPTION_REAL, offsetof(struct warmup, from), 0, 0, 1, "share of the rate at the start",
        NULL},
    {0},
};

static void warmup_plan(
    const struct schedule *base, const struct progress *now, struct plan *plan) {
    const struct warmup *s = (const struct warmup *)base;
    double length = (double)s->epochs;
    if (now->epochs >= length) return;
    double from = (double)s->from, share = from + (1 - from) * now->epochs / length;
    plan->rate = (float)((double)plan->rate * share);
}

static const struct schedule_ops schedule_warmup = {
    .name = "warmup",
    .summary = "the rate rises in a straight line from warmup.from to 1 over warmup.epochs",
    .size = sizeof(struct warmup),
    .options = warmup_options,
    .plan = warmup_plan,
};

/* ---- cosine and linear: the rate falls to a share of itself --------------------------------- */

struct fall {
    struct schedule base;
    float epochs, to;
};

static const struct option fall_options[] = {
    {"epochs", OPTION_REAL, offsetof(struct fall, epochs), 30, 0, 1e6,
        "epochs, from the start of the run, until the rate has fallen", NULL},
    {"to", OPTION_REAL, offsetof(struct fall, to), 0, 0, 1, "share of the rate at the end", NULL},
    {0},
};

/* How much of the fall is behind us, 0 .. 1. */
static double fallen(const struct fall *s, const struct progress *now) {
    return now->epochs < (double)s->epochs ? now->epochs / (double)s->epochs : 1;
}

static void fall_plan(const struct fall *s, double left, struct plan *plan) {
    double to = (double)s->to;
    plan->rate = (float)((double)plan->rate * (to + (1 - to) * left));
}

static void cosine_plan(
    const struct schedule *base, const struct progress *now, struct plan *plan) {
    const struct fall *s = (const struct fall *)base;
    fall_plan(s, (1 + cos(acos(-1) * fallen(s, now))) / 2, plan);
}

static const struct schedule_ops schedule_cosine = {
    .name = "cosine",
    .summary = "the rate falls along half a cosine from 1 to cosine.to over cosine.epochs",
    .size = sizeof(struct fall),
    .options = fall_options,
    .plan = cosine_plan,
};

static void linear_plan(
    const struct schedule *base, const struct progress *now, struct plan *plan) {
    const struct fall *s = (const struct fall *)base;
    fall_plan(s, 1 - fallen(s, now), plan);
}

static const struct schedule_ops schedule_linear = {
    .name = "linear",
    .summary = "the rate falls in a straight line from 1 to linear.to over linear.epochs",
    .size = sizeof(struct fall),
    .options = fall_options,
    .plan = linear_plan,
};

const struct schedule_ops *const base_schedules[] = {
    &schedule_constant, &schedule_step, &schedule_warmup, &schedule_cosine, &schedule_linear, NULL};

/* ---- the list ------------------------------------------------------------------------------- */

const struct option schedules_options[] = {
    {"rate", OPTION_REAL, offsetof(struct schedules, rate), 0.05, 0, 1e3, "learning rate eta",
        NULL},
    {"use", OPTION_TEXT, offsetof(struct schedules, use), 0, 0, 128,
        "schedules that change it, one after the other, \"warmup, step\"", "constant"},
    {0},
};

static enum status add(struct schedules *s, const struct settings *set, const char *name,
    const struct schedule_ops *const *kinds) {
    for (; *kinds && strcmp((*kinds)->name, name) != 0; kinds++) continue;
    if (!*kinds) {
        return fail(STATUS_BAD_CONFIG,
            "schedule.use: there is no schedule \"%s\"; `huddle help options` lists them", name);
    }
    if (s->n == SCHEDULES_MOST) {
        return fail(STATUS_BAD_CONFIG, "schedule.use: more than %d schedules", SCHEDULES_MOST);
    }
    struct schedule *new = calloc(1, (*kinds)->size);
    if (!new) return fail(STATUS_FAILED, "no memory for a schedule");
    s->list[s->n++] = new;
    new->ops = *kinds;
    TRY(settings_apply(set, name, (*kinds)->options, new));
    return (*kinds)->open ? (*kinds)->open(new) : STATUS_OK;
}

enum status schedules_open(
    struct schedules *s, const struct settings *set, const struct schedule_ops *const *kinds) {
    *s = (struct schedules){0};
    TRY(settings_apply(set, "schedule", schedules_options, s));
    for (const char *at = s->use + strspn(s->use, " ,"); *at; at += strspn(at, " ,")) {
        char name[32];
        size_t n = strcspn(at, " ,");
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), at);
        TRY(add(s, set, name, kinds));
        at += n;
    }
    return STATUS_OK;
}

void schedules_close(struct schedules *s) {
    for (int i = 0; i < s->n; i++) free(s->list[i]);
    s->n = 0;
}

struct plan schedules_plan(const struct schedules *s, const struct progress *now) {
    struct plan plan = {.rate = s->rate};
    for (int i = 0; i < s->n; i++) s->list[i]->ops->plan(s->list[i], now, &plan);
    return plan;
}

int schedules_have(const struct schedules *s, const struct schedule_ops *kind) {
    int n = 0;
    for (int i = 0; i < s->n; i++) n += s->list[i]->ops == kind;
    return n > 0;
}

void schedules_write(const struct schedules *s, FILE *f) {
    options_write(f, "schedule", schedules_options, s);
    for (int i = 0; i < s->n; i++) {
        options_write(f, s->list[i]->ops->name, s->list[i]->ops->options, s->list[i]);
    }
}
