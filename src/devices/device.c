#include "device.h"

enum status device_open(struct device **out, const struct device_ops *ops, int index, int threads) {
    return ops->open(out, index, threads);
}

void device_close(struct device *d) {
    if (d) d->ops->close(d);
}

enum status device_alloc(struct device *d, void **at, size_t bytes) {
    return d->ops->alloc(d, at, bytes);
}

enum status stream_open(struct stream **out, struct device *d) {
    return d->ops->stream_open(d, out);
}

void stream_close(struct stream *q) {
    if (q) q->device->ops->stream_close(q);
}

enum status stream_sync(struct stream *q) { return q->device->ops->sync(q); }

void stream_copy(struct stream *q, void *to, const void *from, size_t bytes) {
    if (q->failed == STATUS_OK) q->device->ops->copy(q, to, from, bytes);
}

enum status event_open(struct event **out, struct device *d) { return d->ops->event_open(d, out); }

void event_close(struct event *e, struct device *d) {
    if (e) d->ops->event_close(e);
}

void stream_record(struct stream *q, struct event *e) {
    if (q->failed == STATUS_OK) q->device->ops->record(q, e);
}

void stream_wait(struct stream *q, struct event *e) {
    if (q->failed == STATUS_OK) q->device->ops->wait(q, e);
}
