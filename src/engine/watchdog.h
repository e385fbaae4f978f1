/* watchdog.h -- who stands still, as against those who only wait for him.
 *
 * A frozen thread can be neither joined nor told to stop. The main thread looks at the workers'
 * pulses now and then; where one that waits for nobody gives no sign of life for too long, it is
 * named, with what it is in, and the process ends.
 */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include <stddef.h>

#include "base/pulse.h"
#include "engine/team_waits.h"

struct run;

struct watchdog {
    double patience; /* seconds; 0: watches nobody */
    double looked;   /* the clock at the last look */
    struct silence {
        unsigned long beats; /* at the last look */
        double seconds;      /* since they changed, as far as somebody looked */
        int warned;
    } of[TEAM_MOST];
};

/* What a look shows: a rank, or one of these. */
enum { WATCH_WELL = -1, WATCH_ALL_WAIT = -2 };

void watchdog_start(struct watchdog *d, double patience, double now);

/* Looks at n pulses at `now`, seconds of clock.h. WATCH_WELL; or the rank of whom nothing was heard
 * for the whole patience in a call that is no wait for another worker; or WATCH_ALL_WAIT where for
 * as long all have waited for one another. *warn: whoever has been silent for half of it just now,
 * else WATCH_WELL. A look that comes late counts as one second: a process that was itself stopped
 * knows nothing of the time in between. */
int watchdog_look(struct watchdog *d, const struct pulse *pulse, int n, double now, int *warn);

/* What the rank-th is in, and since when: "computing a gradient for 300 s". */
void watchdog_tell(
    const struct watchdog *d, const struct pulse *pulse, int rank, char *text, size_t n);

/* On the main thread, now and then: looks at a run's workers. Where one is frozen, says so, and
 * who waits for what, and ends the process. */
void watch_workers(struct run *run);

#endif
