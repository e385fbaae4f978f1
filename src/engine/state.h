/* state.h -- everything that a resumed run needs, in one file beside its answer.
 *
 * A state is written while all workers have gathered and every stream has synchronized: the
 * vectors that anybody claimed as STATE, the shared vectors, and every number that training reads.
 * Nobody is asked for it: what has a name is saved, with a checksum of it all. In fixed order a run that was resumed gives the
 * same bits as one that never stopped.
 */
#ifndef STATE_H
#define STATE_H

#include "engine/run_inside.h"

/* Rank 0, when all have gathered. STATUS_IO leaves the states before as they are. Then removes all
 * but the newest run.keep. */
enum status state_save(struct run *run, struct stream *q);

/* Main thread, when the strategy is open: reads the newest state of the run's folder that is whole,
 * and with it the run's own numbers and the shared vectors. STATUS_BAD_CONFIG where another strategy
 * or another number of workers saved it. */
enum status state_open(struct run *run);

/* Each worker on its thread, when all its vectors are claimed. */
enum status state_restore(struct run *run, struct crew *c);

/* path <- the newest state in the run's folder; false: there is none. */
int state_newest(const struct run *run, char *path, size_t n);

/* Samples that the worker's loader had handed out; 0 in a run that is not resumed. */
uint64_t state_drawn(const struct run *run, int rank);

#endif
