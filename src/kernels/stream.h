/* stream.h -- one queue of work on a device, as the kernels see it.
 *
 * Opened and closed by a device (devices/device.h), used by one thread. A failure latches: later
 * calls on the stream do nothing, and whoever synchronizes it is told.
 */
#ifndef STREAM_H
#define STREAM_H

#include "base/status.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

struct device;

struct stream {
    struct device *device;
    const struct kernels *kernels; /* the device's */
    int threads;                   /* host: the size of the OpenMP team that works on it */
    enum status failed;            /* the first failure; once set, every call is a no-op */
    char why[200];
};

/* Latches a failure in q, if it is the first. */
void stream_fail(struct stream *q, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif
#endif
