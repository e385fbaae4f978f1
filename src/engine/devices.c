#include "devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "topology/topology.h"

static const struct device_ops *kind_find(
    const struct device_ops *const *list, const char *name, size_t n) {
    for (; *list; list++) {
        if (strlen((*list)->kind) == n && !strncmp((*list)->kind, name, n)) return *list;
    }
    return NULL;
}

/* why <- what is wrong with the first, where that is not the best. */
static const struct device_ops *kind_best(
    const struct device_ops *const *list, char *why, size_t n) {
    const struct device_ops *best = *list;
    *why = '\0';
    for (; best && list[1] && best->count() == 0; best = *++list) {
        if (!*why) snprintf(why, n, "%s", fail_message());
    }
    return best;
}

static enum status refuse(const char *text, const struct device_ops *const *list) {
    char kinds[64] = "";
    for (; *list; list++) {
        size_t n = strlen(kinds);
        snprintf(kinds + n, sizeof kinds - n, ", %s", (*list)->kind);
    }
    return fail(STATUS_BAD_CONFIG,
        "run.devices = %s: say auto, one of the kinds that this huddle was built for (%s), or "
        "devices of one kind by number, cuda:0,cuda:1",
        text, kinds + 2);
}

/* One "kind:number" of the list; *at moves behind it. */
static enum status read_one(
    struct devices *d, const struct device_ops *const *list, const char *text, const char **at) {
    size_t n = strcspn(*at, ":,");
    char *end;
    const struct device_ops *ops = kind_find(list, *at, n);
    if (!ops || (d->ops && d->ops != ops) || (*at)[n] != ':') return refuse(text, list);
    const char *digits = *at + n + 1;
    long value = strtol(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || (*end && *end != ',')) return refuse(text, list);
    d->ops = ops;
    if (value >= ops->count()) {
        return fail(STATUS_DEVICE, "run.devices = %s: there %s %d %s device%s here, counted from 0",
            text, ops->count() == 1 ? "is" : "are", ops->count(), ops->kind,
            ops->count() == 1 ? "" : "s");
    }
    d->number[d->count++] = (int)value;
    *at = *end ? end + 1 : end;
    return *end && !*(*at) ? refuse(text, list) : STATUS_OK;
}

/* The numbers that the text names; the same may stand there twice: it is used as two. */
static enum status read_numbers(
    struct devices *d, const struct device_ops *const *list, const char *text) {
    const char *at = text;
    while (*at) {
        if (d->count == TEAM_MOST) return refuse(text, list);
        TRY(read_one(d, list, text, &at));
    }
    return d->count ? STATUS_OK : refuse(text, list);
}

static enum status take_kind(struct devices *d, const struct device_ops *ops) {
    d->ops = ops;
    d->count = ops->count();
    if (d->count > TEAM_MOST) d->count = TEAM_MOST;
    for (int i = 0; i < d->count; i++) d->number[i] = i;
    if (d->count) return STATUS_OK;
    return fail(STATUS_DEVICE,
        "run.devices = %s: there is no such device here, or no driver for it; run.devices=host "
        "computes on the cores",
        ops->kind);
}

enum status devices_choose(
    struct devices *out, const struct device_ops *const *list, const char *text, int workers) {
    *out = (struct devices){0};
    const struct device_ops *whole = kind_find(list, text, strlen(text));
    if (!strcmp(text, "auto")) whole = kind_best(list, out->instead, sizeof out->instead);
    TRY(whole ? take_kind(out, whole) : read_numbers(out, list, text));
    if (out->count > workers) out->count = workers;
    for (int r = 0; r < workers; r++) out->of[r] = (int)((long)r * out->count / workers);
    return STATUS_OK;
}

void devices_group(const struct devices *d, const struct place *places, int workers, int *group) {
    int groups = 0, where[TEAM_MOST];
    for (int r = 0; r < workers; r++) {
        int first = 0;
        where[r] = d->count > 1 ? d->of[r] : places[r].node;
        while (where[first] != where[r]) first++;
        group[r] = first < r ? group[first] : groups++;
    }
}

/* Devices whose numbers follow one another are told by the first and the last. */
static size_t describe_list(const struct devices *d, char *text, size_t n) {
    const char *kind = d->ops->kind;
    int row = d->count > 2;
    for (int i = 1; i < d->count; i++) row = row && d->number[i] == d->number[i - 1] + 1;
    if (row) {
        return (size_t)snprintf(
            text, n, "%s:%d to %s:%d", kind, d->number[0], kind, d->number[d->count - 1]);
    }
    size_t at = 0;
    for (int i = 0; i < d->count && at < n; i++) {
        at += (size_t)snprintf(text + at, n - at, "%s%s:%d", i ? ", " : "", kind, d->number[i]);
    }
    return at;
}

void devices_describe(const struct devices *d, int workers, char *text, size_t n) {
    int least = workers / d->count, even = workers % d->count == 0;
    size_t at = (size_t)snprintf(text, n, "%d worker%s on ", workers, workers == 1 ? "" : "s");
    if (at < n) at += describe_list(d, text + at, n - at);
    if (at < n && *d->name) at += (size_t)snprintf(text + at, n - at, " (%s)", d->name);
    if (at >= n || d->count == 1) return;
    if (even) {
        snprintf(text + at, n - at, ", %d on each", least);
    } else {
        snprintf(text + at, n - at, ", %d or %d on each", least, least + 1);
    }
}

void devices_write(const struct devices *d, char *text, size_t n) {
    size_t at = 0;
    snprintf(text, n, "%s", d->ops->kind);
    if (d->ops->host_memory) return; /* there is but one */
    for (int i = 0; i < d->count && at < n; i++) {
        at += (size_t)snprintf(
            text + at, n - at, "%s%s:%d", i ? "," : "", d->ops->kind, d->number[i]);
    }
}
