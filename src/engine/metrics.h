/* metrics.h -- a run's numbers: a row an evaluation, for people and for programs. */
#ifndef METRICS_H
#define METRICS_H

#include <stdio.h>

#include "engine/run.h"
#include "engine/seat.h"

struct metrics {
    FILE *file; /* metrics.jsonl; NULL: none */
    int rows, quiet;
    int printed; /* rows on stdout */
    long bytes;  /* of the file, up to the last row */
};

/* A run that goes on keeps the first m->bytes of the file, the rows up to where it was saved. */
enum status metrics_open(struct metrics *m, const char *path);

/* One evaluation: to the file, flushed, and to stdout. notes: means over workers. */
enum status metrics_row(
    struct metrics *m, const struct run_result *r, long round, const struct note *notes, int n);

enum status metrics_close(struct metrics *m);

/* The table that ends a run, on stdout. */
void metrics_table(const struct run_result *r, const char *strategy, int workers);

#endif
