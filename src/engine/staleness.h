/* staleness.h -- how often others had come in between, counted. Engine only. */
#ifndef STALENESS_H
#define STALENESS_H

/* Bins for the values 0, 1, 2-3, 4-7, ..., the last for all that is more. */
enum { STALENESS_BINS = 16 };

struct staleness {
    double counted, sum, most;
    double bin[STALENESS_BINS];
};

void staleness_add(struct staleness *s, double value);

/* What both counted together. */
void staleness_join(struct staleness *s, const struct staleness *other);

#endif
