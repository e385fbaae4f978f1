/* device.h -- where vectors live and kernels run: a group of the host's cores, or one GPU.
 *
 * A device is opened by the thread that will use it, after that thread was bound to its cores.
 * Work is enqueued on a stream and returns at once; on the host it is then already done. A
 * failure latches in the stream: later calls on it do nothing, and stream_sync says what happened.
 * Open, alloc and the like fail for outside reasons and return a status.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <stddef.h>

#include "base/status.h"
#include "kernels/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

struct device;
struct event;

struct device_ops {
    const char *kind; /* "host", "cuda" */
    int host_memory;  /* its kernels read plain host memory: nothing has to be copied there */

    /* All required. How many there are: 0 where there is no driver. */
    int (*count)(void);

    /* The index-th of its kind; threads is the OpenMP team of a host device, else ignored. */
    enum status (*open)(struct device **out, int index, int threads);
    void (*close)(struct device *d);

    /* Memory of the device, zeroed, 256-byte aligned, until close. Untouched on the host: pages
     * belong to the NUMA node of the thread that writes first. */
    enum status (*alloc)(struct device *d, void **at, size_t bytes);

    enum status (*stream_open)(struct device *d, struct stream **q);
    void (*stream_close)(struct stream *q);
    enum status (*event_open)(struct device *d, struct event **e);
    void (*event_close)(struct event *e);

    /* On a stream. A copy is between any two places of the same kind, or the host and here. */
    void (*copy)(struct stream *q, void *to, const void *from, size_t bytes);
    void (*record)(struct stream *q, struct event *e);
    void (*wait)(struct stream *q, struct event *e); /* e may be another device's */

    /* The host waits for all of q. Returns, and clears, the first failure latched in it. */
    enum status (*sync)(struct stream *q);
};

struct device {
    const struct device_ops *ops;
    int index;     /* among its kind */
    int threads;   /* host: the OpenMP team */
    char name[64]; /* "NVIDIA H200", "host, 2 threads" */
};

extern const struct device_ops device_host;

extern const struct device_ops *const devices[]; /* until NULL, the fastest first; devices.c */

enum status device_open(struct device **out, const struct device_ops *ops, int index, int threads);
void device_close(struct device *d); /* NULL is fine, as everywhere here */
enum status device_alloc(struct device *d, void **at, size_t bytes);

enum status stream_open(struct stream **out, struct device *d);
void stream_close(struct stream *q);
enum status stream_sync(struct stream *q);
void stream_copy(struct stream *q, void *to, const void *from, size_t bytes);

enum status event_open(struct event **out, struct device *d);
void event_close(struct event *e, struct device *d);
void stream_record(struct stream *q, struct event *e);
void stream_wait(struct stream *q, struct event *e);

#ifdef __cplusplus
}
#endif
#endif
