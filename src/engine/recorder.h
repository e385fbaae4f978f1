/* recorder.h -- what a worker enqueues again at each step, recorded once and replayed from then on,
 * where its device can do that: one launch instead of one for each kernel.
 *
 * Replays have the arguments of the recording, addresses too. So what changes from step to step is
 * read from memory: the step's numbers, the batch in one of the task's places. What else may differ
 * between two calls, the key names.
 */
#ifndef RECORDER_H
#define RECORDER_H

#include "devices/device.h"
#include "devices/vec.h"

enum recorded_call { RECORD_GRAD, RECORD_STEP, RECORD_DESCEND };

struct recording_key {
    enum recorded_call call;
    int place;          /* of the batch, as the task numbers them */
    struct range range; /* asked for: of a step */
};

struct recording {
    struct recording_key key;
    struct capture *capture; /* NULL: seen once, not recorded yet */
    struct range range;      /* what the call returned */
};

enum { RECORDINGS = 16 };

struct recorder {
    struct stream *q; /* NULL: nothing is recorded */
    int given_up;     /* a recording failed */
    int n;
    struct recording at[RECORDINGS];
};

/* on = 0, or a device that cannot: every call is made as it is. */
void recorder_open(struct recorder *r, struct stream *q, int on);

/* When q has nothing to do any more, before its device closes. */
void recorder_close(struct recorder *r);

/* Has call(with) enqueue its work on q, or enqueues what it did when the key was the same; returns
 * what call returned. The first call with a key is made as it is, for whatever is loaded or chosen
 * at first use; the second is recorded. Where recording fails the log says why, once, and calls
 * are made as they are from then on. call enqueues kernels and does nothing else that counts. */
struct range recorder_run(
    struct recorder *r, struct recording_key key, struct range (*call)(void *with), void *with);

#endif
