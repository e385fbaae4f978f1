#include "pulse.h"

#include <stddef.h>

#include "base/ranges.h"
#include "base/status.h"

static _Thread_local struct pulse *mine;

/* What tools draw a call as; those without a name are seen by what is in them. */
static const char *const range_names[DOINGS] = {
    [DOING_ROUND] = "round",
    [DOING_GRADIENT] = "gradient",
    [DOING_BATCH] = "data",
    [DOING_STEP] = "step",
    [DOING_SUM] = "exchange",
    [DOING_EXCHANGE] = "exchange",
    [DOING_ANSWER] = "evaluation",
    [DOING_JUDGE] = "evaluation",
    [DOING_SAVE] = "save",
    [DOING_DEVICE] = "wait",
    [DOING_MEET] = "wait",
    [DOING_PART] = "wait",
    [DOING_TURN] = "wait",
    [DOING_LOCK] = "wait",
    [DOING_ROUND_END] = "wait",
};

void pulse_attach(struct pulse *p) { mine = p; }

/* Only its own thread writes: a load and a store, no locked addition. */
void pulse_beat(void) {
    if (!mine) return;
    unsigned long beats = atomic_load_explicit(&mine->beats, memory_order_relaxed);
    atomic_store_explicit(&mine->beats, beats + 1, memory_order_relaxed);
}

static void now_doing(enum doing doing) {
    atomic_store_explicit(&mine->doing, (int)doing, memory_order_relaxed);
    pulse_beat();
}

void pulse_begin(enum doing doing) {
    if (!mine) return;
    ASSERT(mine->depth < PULSE_DEPTH);
    if (range_names[doing]) range_begin(range_names[doing]);
    mine->outer[mine->depth++] =
        (enum doing)atomic_load_explicit(&mine->doing, memory_order_relaxed);
    now_doing(doing);
}

void pulse_begin_with(enum doing doing, const char *name, const atomic_int *holder) {
    if (!mine) return;
    atomic_store_explicit(&mine->name, name, memory_order_relaxed);
    atomic_store_explicit(&mine->holder, holder, memory_order_relaxed);
    pulse_begin(doing);
}

void pulse_end(void) {
    if (!mine) return;
    ASSERT(mine->depth > 0);
    if (range_names[atomic_load_explicit(&mine->doing, memory_order_relaxed)]) range_end();
    now_doing(mine->outer[--mine->depth]);
}

void pulse_count(long steps, long rounds) {
    if (!mine) return;
    atomic_store_explicit(&mine->steps, steps, memory_order_relaxed);
    atomic_store_explicit(&mine->rounds, rounds, memory_order_relaxed);
}

void pulse_stop(void) {
    while (mine && mine->depth > 0) pulse_end(); /* of what did not end well */
    if (mine) atomic_store_explicit(&mine->doing, DOING_ENDED, memory_order_release);
    mine = NULL;
}
