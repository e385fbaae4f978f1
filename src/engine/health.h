/* health.h -- how the averaging is doing: numbers beside the loss of each evaluation. Engine only. */
#ifndef HEALTH_H
#define HEALTH_H

#include <stddef.h>

#include "engine/staleness.h"

struct health {
    double consensus_distance;  /* sqrt(mean over workers of ||x_i - their mean||^2) */
    double center_distance;     /* sqrt(mean over workers of ||x_i - the strategy's answer||^2) */
    double effective_step;      /* NaN where nobody can say */
    struct staleness staleness; /* over all workers; counted is 0 where the strategy counts none */
};

/* A curvature and how it is known, in words that follow it. */
struct curvature {
    double h; /* 0: nobody wants to know */
    const char *whence;
};

struct forecast;

/* Words for the bound that is crossed at the rate eta; false, and no words, where none is. */
int health_warning(char *text, size_t n, const struct forecast *f, double eta, struct curvature c);

#endif
