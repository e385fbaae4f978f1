/* metrics.h -- a run's numbers: a row an evaluation, for people and for programs. */
#ifndef METRICS_H
#define METRICS_H

#include <cjson/cJSON.h>
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

/* One evaluation: to the file, flushed, and to stdout. notes: over all workers. */
enum status metrics_row(
    struct metrics *m, const struct run_result *r, long round, const struct note *notes, int n);

/* When it returns the rows are on the disk: a state that counts them may follow. */
enum status metrics_sync(const struct metrics *m);

enum status metrics_close(struct metrics *m);

/* Adds the numbers to an object; NaN is null, JSON has none. False when there is no memory. */
int metrics_add(cJSON *to, const struct note *numbers, size_t n);

/* The table that ends a run, on stdout. */
void metrics_table(const struct run_result *r, const char *strategy, int workers);

#endif
