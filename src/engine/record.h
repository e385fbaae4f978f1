/* record.h -- who met whom, in a file: written in one run, followed in another.
 *
 * Where workers come as they come, the bits of a run hang on the order of few events: who came to a
 * meeting, who had which shared vector next, whose round ended before whose and which of these
 * ends called for an evaluation. A record is that order, a line an event, as text:
 *
 *     m 0                 worker 0 came to a meeting
 *     l 2 center 17       worker 2 had `center` after 17 changes
 *     r 1                 worker 1 ended a round
 *     g 1                 the same, and all gathered when they had ended theirs
 *
 * between the settings of the run, who sat together among them, and a last line with their count and a
 * checksum. The events of a running run are kept in memory and written while all have gathered; the file
 * appears when the run has ended well.
 */
#ifndef RECORD_H
#define RECORD_H

#include <stddef.h>

#include "base/status.h"

enum { RECORD_MEETING = 'm', RECORD_LOCK = 'l', RECORD_ROUND = 'r', RECORD_GATHER = 'g' };

struct record_event {
    char kind;
    int rank;
    const char *name; /* of the shared vector; NULL: it is about none */
    double version;   /* which it had */
};

struct record;

/* ---- written -------------------------------------------------------------------------------- */

/* path must live as long as the record. config: the settings, ini lines, and behind them [compute], with
 * a line "group = 0 0 1" of each worker's. STATUS_IO where there can be no such file. */
enum status record_create(struct record **out, const char *path, const char *config);

/* Any thread. e's name must live until the record has been written. */
void record_add(struct record *r, const struct record_event *e);

/* What was added so far goes to the file; one thread at a time, while others may add. */
enum status record_write(struct record *r);

/* The rest, the last line, and the file takes its place. */
enum status record_finish(struct record *r);

/* ---- followed ------------------------------------------------------------------------------- */

/* STATUS_IO when it cannot be read, is no record, is cut short or damaged. */
enum status record_read(struct record **out, const char *path);

/* group[worker] <- as it was then, numbered as devices_group does; unchanged where that was another number
 * of workers, which record_check refuses. STATUS_BAD_CONFIG for a record that does not say. */
enum status record_groups(const struct record *r, int workers, int *group);

/* STATUS_BAD_CONFIG when the settings that decide the bits are not those it was written with. What
 * a replay takes from the record (where it evaluates and ends), how it is shown and kept, and which
 * devices of the kind compute, may differ. */
enum status record_check(const struct record *r, const char *config);

/* The event that comes next, NULL at the end; and on to the one behind it. */
const struct record_event *record_next(const struct record *r);
void record_pass(struct record *r);

/* How many events have passed, and how many ends of rounds are still to come. */
long record_passed(const struct record *r);
long record_rounds_left(const struct record *r);

/* One event as a line without an end. */
void record_tell(const struct record_event *e, char *text, size_t n);

/* NULL is fine. A file that was not finished is removed. */
void record_close(struct record *r);

#endif
