/* turns.h -- fixed order for the oracles, as team_waits.h words it: one event at a time, rank after
 * rank; who has ended its round is passed over; when all have, the next round begins after the
 * last. The first event of a run is rank 0's. */
#ifndef TURNS_H
#define TURNS_H

#include "runs.h"

/* One round of p workers: event(with, rank) does the rank's next event and is true when that was
 * its round's end. Returns whose turn it is then. */
static inline int turns_round(int p, int turn, int (*event)(void *with, int rank), void *with) {
    int ended[TEAM_MOST] = {0};
    for (int left = p; left > 0; turn = (turn + 1) % p) {
        if (!ended[turn] && event(with, turn)) {
            ended[turn] = 1;
            left--;
        }
    }
    return turn;
}

/* What worker_draw gives for the `*draws`-th time; runs have seed 1 where nothing is said. */
static inline int turns_draw(int rank, long *draws, int below) {
    struct rng_key key = {1, RNG_STRATEGY, (uint32_t)rank};
    return (int)rng_below(rng_word(key, (uint64_t)(*draws)++), (uint32_t)below);
}

static inline int turns_chance(int rank, long *draws, double p) {
    return turns_draw(rank, draws, 1 << 24) < p * (1 << 24);
}

#endif
