#include "devices/reach.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* Long enough for several packets, blocks and copy descriptors, with an end that is not round. */
enum { WORDS = (1 << 16) + 33 };

enum { LOOK_US = 100 }; /* between two looks at whether a transfer has ended */

/* One device and what it tries with. */
struct probe {
    struct device *d;
    struct stream *q;
    struct event *e;
    uint32_t *near, *far;  /* (WORDS), the device's: for itself, and for others to reach */
    uint32_t *sent, *came; /* (WORDS), pinned */
};

struct trial {
    struct reach *reach;
    struct probe probe[REACH_MOST];
    double seconds;
    uint32_t salt; /* names the next pattern: what stays from the last transfer is no success */
};

/* ---- transfers -------------------------------------------------------------------------------- */

/* Floats of both signs and many magnitudes, none a NaN: a factor of 1 keeps their bits. A hash, as
 * there are dozens of patterns to a run's start. */
static void pattern_write(uint32_t *at, uint32_t salt) {
    for (uint32_t i = 0; i < WORDS; i++) {
        uint32_t word = (i + 1) * 0x9E3779B9u + salt * 0x85EBCA6Bu;
        word = (word ^ word >> 16) * 0x7FEB352Du;
        word = (word ^ word >> 15) * 0x846CA68Bu;
        at[i] = ((word ^ word >> 16) & 0xbfffffffu) | 0x00800000u;
    }
}

/* Until all of the probe's stream is done. */
static enum reach_state probe_wait(struct probe *p, double seconds) {
    long looks = (long)(seconds * 1e6 / LOOK_US) + 1;
    stream_record(p->q, p->e);
    while (!event_passed(p->e, p->d)) {
        if (looks-- == 0) return REACH_HANGS;
        usleep(LOOK_US);
    }
    return stream_sync(p->q) == STATUS_OK ? REACH_YES : REACH_FAILED;
}

static enum reach_state probe_copy(
    struct trial *t, struct probe *p, uint32_t *to, const uint32_t *from) {
    if (device_use(p->d) != STATUS_OK) return REACH_FAILED;
    stream_copy(p->q, to, from, WORDS * sizeof *to);
    return probe_wait(p, t->seconds);
}

/* The transfer that is in question, by the mover's stream. */
static enum reach_state probe_move(
    struct trial *t, struct probe *mover, int by_kernel, uint32_t *to, const uint32_t *from) {
    if (!by_kernel) return probe_copy(t, mover, to, from);
    if (device_use(mover->d) != STATUS_OK) return REACH_FAILED;
    mover->q->kernels->mix(mover->q, (float *)to, 0, 1, (const float *)from, WORDS);
    return probe_wait(mover, t->seconds);
}

/* A pattern goes from one device's memory to the other's, moved by one of the two, and is looked at
 * on the host. */
static enum reach_state try_transfer(
    struct trial *t, struct probe *from, struct probe *to, struct probe *mover, int by_kernel) {
    uint32_t *start = mover == from ? from->near : from->far;
    uint32_t *end = mover == from ? to->far : to->near;
    ASSERT(from->sent && to->came);
    pattern_write(from->sent, ++t->salt);
    enum reach_state state = probe_copy(t, from, start, from->sent);
    if (state == REACH_YES) state = probe_move(t, mover, by_kernel, end, start);
    if (state == REACH_YES) state = probe_copy(t, to, to->came, end);
    if (state != REACH_YES) return state;
    return memcmp(from->sent, to->came, WORDS * sizeof *from->sent) ? REACH_CHANGES : REACH_YES;
}

static enum reach_state try_pair(struct trial *t, int a, int b) {
    struct probe *mine = &t->probe[a], *other = &t->probe[b];
    enum reach_state state = REACH_YES;
    const struct device_ops *ops = t->reach->ops;
    if (ops->peer_enable(mine->d, t->reach->number[b]) != STATUS_OK) return REACH_FAILED;
    for (int by_kernel = 0; by_kernel < 2 && state == REACH_YES; by_kernel++) {
        state = try_transfer(t, mine, other, mine, by_kernel);
        if (state == REACH_YES) state = try_transfer(t, other, mine, mine, by_kernel);
    }
    if (state != REACH_YES && state != REACH_HANGS) {
        ops->peer_disable(mine->d, t->reach->number[b]);
    }
    return state;
}

/* ---- devices ---------------------------------------------------------------------------------- */

static enum status probe_open(struct probe *p, const struct device_ops *ops, int number) {
    size_t bytes = WORDS * sizeof(uint32_t);
    TRY(device_open(&p->d, ops, number, 1));
    TRY(stream_open(&p->q, p->d));
    TRY(event_open(&p->e, p->d));
    TRY(device_alloc(p->d, (void **)&p->near, bytes));
    TRY(device_alloc(p->d, (void **)&p->far, bytes));
    TRY(device_pinned(p->d, (void **)&p->sent, bytes));
    return device_pinned(p->d, (void **)&p->came, bytes);
}

static void probe_close(struct probe *p) {
    if (p->d) (void)device_use(p->d);
    event_close(p->e, p->d);
    stream_close(p->q);
    device_close(p->d);
}

static void veto(struct reach *p, int a, int b, enum reach_state state) {
    p->state[a][b] = (unsigned char)state;
    log_warn("%s:%d does not reach %s:%d, though the driver says so: %s%s%s; going by the host",
        p->ops->kind, p->number[a], p->ops->kind, p->number[b], reach_words(state),
        state == REACH_FAILED ? ": " : "", state == REACH_FAILED ? fail_message() : "");
}

/* What can be said without a transfer. The number of pairs that need one. */
static int take_claims(struct reach *p) {
    int open = 0;
    for (int a = 0; a < p->count; a++) {
        for (int b = 0; b < p->count; b++) {
            int same = !p->ops->peer_claim || p->number[a] == p->number[b];
            p->claimed[a][b] =
                same || p->ops->peer_claim(p->number[a], p->number[b]).reaches ? 1 : 0;
            p->state[a][b] = same ? REACH_YES : p->claimed[a][b] ? REACH_UNTRIED : REACH_DENIED;
            open += p->state[a][b] == REACH_UNTRIED;
        }
    }
    return open;
}

/* The first index of the same device. */
static int first_of(const struct reach *p, int i) {
    int first = 0;
    while (p->number[first] != p->number[i]) first++;
    return first;
}

/* True when one hung: then nothing more is tried, and nothing that it holds can be closed. */
static int try_pairs(struct trial *t) {
    struct reach *p = t->reach;
    int hung = 0;
    for (int a = 0; a < p->count; a++) {
        for (int b = 0; b < p->count; b++) {
            if (p->state[a][b] != REACH_UNTRIED) continue;
            int x = first_of(p, a), y = first_of(p, b);
            if (x < a || y < b) {
                p->state[a][b] = p->state[x][y];
                continue;
            }
            enum reach_state state = hung ? REACH_UNTRIED : try_pair(t, a, b);
            if (state == REACH_HANGS) hung = 1;
            if (state != REACH_YES) veto(p, a, b, state);
            p->state[a][b] = (unsigned char)state;
        }
    }
    return hung;
}

static void fail_all(struct reach *p) {
    for (int a = 0; a < p->count; a++) {
        for (int b = 0; b < p->count; b++) {
            if (p->state[a][b] == REACH_UNTRIED) p->state[a][b] = REACH_FAILED;
        }
    }
    log_warn(
        "which devices reach one another cannot be tried: %s; going by the host", fail_message());
}

void reach_verify(
    struct reach *p, const struct device_ops *ops, const int *number, int count, double seconds) {
    struct trial t = {.reach = p, .seconds = seconds};
    ASSERT(count >= 0 && count <= REACH_MOST);
    *p = (struct reach){.ops = ops, .count = count};
    for (int i = 0; i < count; i++) p->number[i] = number[i];
    if (take_claims(p) == 0) return;
    enum status opened = STATUS_OK;
    for (int i = 0; i < count && opened == STATUS_OK; i++) {
        if (first_of(p, i) == i) opened = probe_open(&t.probe[i], ops, number[i]);
    }
    if (opened != STATUS_OK) fail_all(p);
    if (opened == STATUS_OK && try_pairs(&t)) return;
    for (int i = 0; i < count; i++) probe_close(&t.probe[i]);
}

/* ---- what came of it -------------------------------------------------------------------------- */

int reach_between(const struct reach *p, int a, int b) { return p->state[a][b] == REACH_YES; }

int reach_all(const struct reach *p) {
    for (int a = 0; a < p->count; a++) {
        for (int b = 0; b < p->count; b++) {
            if (!reach_between(p, a, b)) return 0;
        }
    }
    return 1;
}

void reach_write(const struct reach *p, char *text, size_t n) {
    int more = -1, x = 0, y = 0;
    for (int a = 0; a < p->count; a++) {
        for (int b = 0; b < p->count; b++) {
            if (reach_between(p, a, b)) continue;
            if (more++ >= 0) continue;
            x = a;
            y = b;
        }
    }
    if (more < 0) {
        snprintf(text, n, "%s", p->count < 2 ? "one device" : "all devices reach one another");
        return;
    }
    int at = snprintf(text, n, "%s:%d does not reach %s:%d: %s", p->ops->kind, p->number[x],
        p->ops->kind, p->number[y], reach_words((enum reach_state)p->state[x][y]));
    if (more > 0 && at >= 0 && (size_t)at < n) {
        snprintf(text + at, n - (size_t)at, ", and %d more pair%s", more, more == 1 ? "" : "s");
    }
}

const char *reach_words(enum reach_state state) {
    static const char *const words[] = {"it does", "the driver offers no access", "a call failed",
        "bytes arrive changed", "a transfer does not end", "not tried, since another hung"};
    return words[state];
}
