#include "watchdog.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/run_inside.h"
#include "engine/state.h"

/* What a worker is in, in words, and how many times the usual patience that takes: how long a disk
 * takes to write a file is not ours to know. */
static const struct {
    const char *words;
    int patience;
} says[DOINGS] = {
    [DOING_SEAT] = {"taking its seat", 1},
    [DOING_PLAN] = {"between two rounds", 1},
    [DOING_ROUND] = {"in its strategy's round", 1},
    [DOING_GRADIENT] = {"computing a gradient", 1},
    [DOING_BATCH] = {"waiting for a batch", 1},
    [DOING_STEP] = {"taking a step", 1},
    [DOING_SUM] = {"adding up in a collective", 1},
    [DOING_EXCHANGE] = {"exchanging with shared vector ", 1},
    [DOING_ANSWER] = {"in its strategy's answer", 1},
    [DOING_JUDGE] = {"judging the answer", 1},
    [DOING_SAVE] = {"saving", 4},
    [DOING_DEVICE] = {"waiting for its device", 1},
    [DOING_MEET] = {"waiting for the others to come to a collective", 1},
    [DOING_PART] = {"waiting for the others to end a collective", 1},
    [DOING_TURN] = {"waiting for its turn", 1},
    [DOING_LOCK] = {"waiting for the lock of shared vector ", 1},
    [DOING_ROUND_END] = {"waiting for the others at the end of a round", 1},
    [DOING_ENDED] = {"at its end", 1},
};

static int doing_of(const struct pulse *p) {
    return atomic_load_explicit(&p->doing, memory_order_acquire);
}

void watchdog_start(struct watchdog *d, double patience, double now) {
    *d = (struct watchdog){.patience = patience, .looked = now};
}

static void listen(struct silence *s, const struct pulse *p, double passed) {
    unsigned long beats = atomic_load_explicit(&p->beats, memory_order_relaxed);
    s->seconds = beats == s->beats ? s->seconds + passed : 0;
    if (beats != s->beats) s->warned = 0;
    s->beats = beats;
}

int watchdog_look(struct watchdog *d, const struct pulse *pulse, int n, double now, int *warn) {
    double passed = now - d->looked < 1 ? now - d->looked : 1, longest = 0;
    int frozen = WATCH_WELL, waiting = 0, there = 0;
    d->looked = now;
    *warn = WATCH_WELL;
    if (!(d->patience > 0)) return WATCH_WELL;
    for (int r = 0; r < n; r++) {
        struct silence *s = &d->of[r];
        int doing = doing_of(&pulse[r]);
        listen(s, &pulse[r], passed);
        if (doing == DOING_ENDED) continue;
        double patience = d->patience * says[doing].patience;
        there++;
        if (doing >= DOING_MEET) {
            waiting += s->seconds >= patience;
            continue;
        }
        if (s->seconds >= patience && s->seconds > longest) {
            frozen = r;
            longest = s->seconds;
        }
        if (s->seconds < patience / 2 || s->warned) continue;
        s->warned = 1;
        *warn = r;
    }
    if (frozen == WATCH_WELL && there && waiting == there) return WATCH_ALL_WAIT;
    return frozen;
}

void watchdog_tell(
    const struct watchdog *d, const struct pulse *pulse, int rank, char *text, size_t n) {
    const struct pulse *p = &pulse[rank];
    int doing = doing_of(p);
    const char *name = NULL;
    char holder[48] = "";
    if (doing == DOING_EXCHANGE || doing == DOING_LOCK) {
        name = atomic_load_explicit(&p->name, memory_order_relaxed);
    }
    if (doing == DOING_LOCK) {
        const atomic_int *who = atomic_load_explicit(&p->holder, memory_order_relaxed);
        int held = atomic_load_explicit(who, memory_order_relaxed);
        if (held >= 0) snprintf(holder, sizeof holder, ", held by worker %d,", held);
    }
    if (doing == DOING_ENDED) {
        snprintf(text, n, "%s", says[doing].words);
    } else {
        snprintf(text, n, "%s%s%s for %.1f s", says[doing].words, name ? name : "", holder,
            d->of[rank].seconds);
    }
}

/* ---- the end ---------------------------------------------------------------------------------- */

static void tell_others(const struct run *run, int but) {
    char text[200];
    for (int r = 0; r < run->set.workers; r++) {
        if (r == but) continue;
        watchdog_tell(&run->watchdog, run->pulse, r, text, sizeof text);
        const struct crew *c = &run->crew[r];
        int ended = doing_of(&run->pulse[r]) == DOING_ENDED; /* then its end can be read */
        if (ended && c->end != STATUS_OK && c->end != STATUS_STOPPED) {
            log_error("worker %d: had failed: %s", r, c->why);
        } else {
            log_error("worker %d: %s", r, text);
        }
    }
}

static void tell_what_is_left(const struct run *run) {
    char path[512];
    if (!*run->result.path) return;
    if (state_newest(run, path, sizeof path)) {
        log_error("the last saved state is %s; `huddle resume %s` goes on from it", path,
            run->result.path);
    } else {
        log_error("nothing had been saved in %s to go on from", run->result.path);
    }
}

/* Nothing is closed: the frozen one may be in the middle of it. The log is written line by line. */
__attribute__((noreturn)) static void end_process(const struct run *run, int frozen) {
    enum status end = STATUS_FAILED;
    char text[200];
    log_progress("%s", "");
    if (frozen == WATCH_ALL_WAIT) {
        log_error("all workers wait for one another: this is a defect of huddle, please report it");
    } else {
        const struct pulse *p = &run->pulse[frozen];
        const struct devices *d = &run->devices;
        watchdog_tell(&run->watchdog, run->pulse, frozen, text, sizeof text);
        log_error("worker %d is frozen: %s, after %ld steps and %ld rounds, on %s:%d", frozen, text,
            atomic_load(&p->steps), atomic_load(&p->rounds), d->ops->kind,
            d->number[d->of[frozen]]);
        if (doing_of(p) == DOING_DEVICE) end = STATUS_DEVICE;
    }
    tell_others(run, frozen);
    tell_what_is_left(run);
    log_error("run.watchdog=%g ends a run after so many seconds without a sign of life; 0: never",
        (double)run->set.watchdog);
    _exit(status_exit_code(end));
}

void watch_workers(struct run *run) {
    char text[200];
    int warn;
    int frozen =
        watchdog_look(&run->watchdog, run->pulse, run->set.workers, clock_seconds(), &warn);
    if (frozen != WATCH_WELL) end_process(run, frozen);
    if (warn == WATCH_WELL) return;
    watchdog_tell(&run->watchdog, run->pulse, warn, text, sizeof text);
    log_warn(
        "worker %d gives no sign of life: %s; at twice that run.watchdog ends the run", warn, text);
}
