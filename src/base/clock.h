/* clock.h -- what time it is. Nothing but the engine, the log and what measures asks. */
#ifndef CLOCK_H
#define CLOCK_H

#include <time.h>

/* Seconds since some fixed moment; never runs backwards. */
static inline double clock_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
