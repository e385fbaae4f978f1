#include "device.h"

#include "base/pulse.h"

enum status device_open(struct device **out, const struct device_ops *ops, int index, int threads) {
    return ops->open(out, index, threads);
}

void device_close(struct device *d) {
    if (d) d->ops->close(d);
}

enum status device_use(struct device *d) { return d->ops->use(d); }

enum status device_alloc(struct device *d, void **at, size_t bytes) {
    return d->ops->alloc(d, at, bytes);
}

enum status device_pinned(struct device *d, void **at, size_t bytes) {
    return d->ops->pinned(d, at, bytes);
}

enum status device_free_bytes(struct device *d, size_t *left, size_t *total) {
    return d->ops->free_bytes(d, left, total);
}

enum status stream_open(struct stream **out, struct device *d) {
    return d->ops->stream_open(d, out, 1);
}

enum status stream_open_for_copies(struct stream **out, struct device *d) {
    return d->ops->stream_open(d, out, 0);
}

void stream_close(struct stream *q) {
    if (q) q->device->ops->stream_close(q);
}

int stream_convolves(const struct stream *q, char words[160]) {
    *words = 0;
    return q->device->ops->convolves ? q->device->ops->convolves(q, words) : 0;
}

enum status stream_sync(struct stream *q) {
    pulse_begin(DOING_DEVICE);
    enum status end = q->device->ops->sync(q);
    pulse_end();
    return end;
}

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

void event_sync(struct event *e, struct device *d) {
    pulse_begin(DOING_DEVICE);
    d->ops->event_sync(e);
    pulse_end();
}

int event_passed(struct event *e, struct device *d) { return d->ops->event_passed(e); }

int stream_can_replay(const struct stream *q) { return q->device->ops->replay != NULL; }

enum status stream_capture_begin(struct stream *q) {
    ASSERT(q->failed == STATUS_OK);
    return q->device->ops->capture_begin(q);
}

enum status stream_capture_end(struct stream *q, struct capture **out) {
    *out = NULL;
    return q->device->ops->capture_end(q, out);
}

void stream_replay(struct stream *q, struct capture *g) {
    if (q->failed == STATUS_OK) q->device->ops->replay(q, g);
}

void capture_close(struct capture *g, struct device *d) {
    if (g) d->ops->capture_close(g);
}
