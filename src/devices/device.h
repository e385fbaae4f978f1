/* device.h -- where vectors live and kernels run: a group of the host's cores, or one GPU.
 *
 * A device is opened by the thread that will use it, after that thread was bound to its cores. A
 * thread with several devices says which one's streams it turns to: device_use; any thread may
 * close what another opened, when nothing uses it any more.
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
struct capture; /* work that was recorded on a stream, to be enqueued again at once */

/* What the driver says of the way from one device to another of its kind. */
struct peer_claim {
    int reaches; /* kernels and copies of the one could use the other's memory */
    int atomics; /* and add to it in one piece: NVLink can, PCIe cannot */
    int rank;    /* 0: of the fastest ways here; larger is slower */
};

struct device_ops {
    const char *kind; /* "host", "cuda" */
    int host_memory;  /* its kernels read plain host memory: nothing has to be copied there */

    /* Optional. So many workers will share the devices of this kind. Main thread, before any other
     * call of the process to the kind; later it does nothing. */
    void (*expect)(int workers);

    /* All required. How many there are: 0 where there is none, and then fail_message says why. */
    int (*count)(void);

    /* Where the index-th sits on the PCI bus, "0000:3b:00.0"; "": on none. */
    void (*address)(int index, char text[32]);

    /* The index-th of its kind; threads is the OpenMP team of a host device, else ignored. */
    enum status (*open)(struct device **out, int index, int threads);
    void (*close)(struct device *d);

    /* What the calling thread enqueues from now on is for d's streams; open says so for d. */
    enum status (*use)(struct device *d);

    /* Memory of the device, zeroed, 256-byte aligned, until close. Untouched on the host: pages
     * belong to the NUMA node of the thread that writes first. */
    enum status (*alloc)(struct device *d, void **at, size_t bytes);

    /* Host memory that all devices of the process reach under this address, zeroed, 256-byte
     * aligned, until close. On a GPU it is page-locked, and copies from and to it run by
     * themselves. */
    enum status (*pinned)(struct device *d, void **at, size_t bytes);

    /* Bytes of the device's memory: what nobody uses now, and all. */
    enum status (*free_bytes)(struct device *d, size_t *left, size_t *total);

    /* Of two devices by number. Whatever is claimed: devices/reach.h finds out whether it is true. */
    struct peer_claim (*peer_claim)(int from, int to);

    /* From now on kernels and copies of d use memory of device `to` of its kind, or no more. Holds
     * for all devices of the process that are the same one. */
    enum status (*peer_enable)(struct device *d, int to);
    void (*peer_disable)(struct device *d, int to);

    /* Streams run side by side and are ordered by events. kernels = 0: only copies, records and
     * waits are enqueued, so that no workspace is needed. */
    enum status (*stream_open)(struct device *d, struct stream **q, int kernels);
    void (*stream_close)(struct stream *q);

    /* Optional: bytes of d's memory that a stream takes by itself, for its kernels. A kind without
     * this has the machine's own memory, which nobody plans. */
    size_t (*stream_bytes)(const struct device *d);

    /* Optional: whether cuDNN convolves on q, and in words what does; "" while nothing has asked for
     * a convolution's workspace. */
    int (*convolves)(const struct stream *q, char words[160]);
    enum status (*event_open)(struct device *d, struct event **e);
    void (*event_close)(struct event *e);

    /* On a stream. A copy is between any two places of the same kind, or the host and here. On a
     * GPU, a copy from plain host memory has read it on return, one to plain host memory has
     * ended. */
    void (*copy)(struct stream *q, void *to, const void *from, size_t bytes);
    void (*record)(struct stream *q, struct event *e);
    void (*wait)(struct stream *q, struct event *e); /* e may be another device's of the kind */

    /* The host waits until e, as it was recorded last, has come to pass; one that never was recorded
     * has. A failure stays latched in its stream. */
    void (*event_sync)(struct event *e);

    /* The same, asked without waiting. True too when that can no longer happen: sync tells why. */
    int (*event_passed)(struct event *e);

    /* The host waits for all of q. Returns, and clears, the first failure latched in it. After a
     * kernel's fault a GPU is lost to the process: from then on each sync fails. */
    enum status (*sync)(struct stream *q);

    /* Optional, all four or none. Between capture_begin and capture_end what is enqueued on q is not
     * done but recorded; only kernels, and copies within the device, may be. A failure latched in
     * between is cleared by capture_end, which returns it. replay enqueues all of it as one, with
     * the same arguments, on the stream that it was recorded on. */
    enum status (*capture_begin)(struct stream *q);
    enum status (*capture_end)(struct stream *q, struct capture **out);
    void (*replay)(struct stream *q, struct capture *g);
    void (*capture_close)(struct capture *g);
};

struct device {
    const struct device_ops *ops;
    int index;     /* among its kind */
    int threads;   /* host: the OpenMP team */
    int tf32;      /* its user's: 1 lets products on streams opened from now on round to TF32 */
    int cudnn;     /* the same: 1 lets cuDNN convolve on them */
    char name[64]; /* "NVIDIA H200", "host, 2 threads" */
    char bus[32];  /* its place on the PCI bus, "0000:3b:00.0"; "": none, or not known */
};

extern const struct device_ops device_host;
#ifdef HAVE_CUDA
extern const struct device_ops device_cuda;
#endif

extern const struct device_ops *const devices[]; /* until NULL, the fastest first; devices.c */

enum status device_open(struct device **out, const struct device_ops *ops, int index, int threads);
void device_close(struct device *d); /* NULL is fine, as everywhere here */
enum status device_use(struct device *d);
enum status device_alloc(struct device *d, void **at, size_t bytes);
enum status device_pinned(struct device *d, void **at, size_t bytes);
enum status device_free_bytes(struct device *d, size_t *left, size_t *total);

enum status stream_open(struct stream **out, struct device *d);
enum status stream_open_for_copies(struct stream **out, struct device *d);
void stream_close(struct stream *q);
int stream_convolves(const struct stream *q, char words[160]);
enum status stream_sync(struct stream *q);
void stream_copy(struct stream *q, void *to, const void *from, size_t bytes);

enum status event_open(struct event **out, struct device *d);
void event_close(struct event *e, struct device *d);
void stream_record(struct stream *q, struct event *e);
void stream_wait(struct stream *q, struct event *e);
void event_sync(struct event *e, struct device *d);
int event_passed(struct event *e, struct device *d);

int stream_can_replay(const struct stream *q);
enum status stream_capture_begin(struct stream *q);
enum status stream_capture_end(struct stream *q, struct capture **out);
void stream_replay(struct stream *q, struct capture *g);
void capture_close(struct capture *g, struct device *d);

#ifdef __cplusplus
}
#endif
#endif
