#include "vec.h"

#include "base/status.h"
#include "devices/device.h"

struct vec vec_part(struct vec v, struct range part) {
    ASSERT(part.offset <= v.n && part.n <= v.n - part.offset);
    return (struct vec){v.at + part.offset, part.n};
}

void vec_fill(struct stream *q, struct vec y, float a) { q->kernels->fill(q, y.at, a, y.n); }

void vec_copy(struct stream *q, struct vec y, struct vec x) {
    ASSERT(y.n == x.n);
    stream_copy(q, y.at, x.at, y.n * sizeof *y.at);
}

void vec_mix(struct stream *q, struct vec y, float a, float b, struct vec x) {
    ASSERT(y.n == x.n);
    q->kernels->mix(q, y.at, a, b, x.at, y.n);
}

void vec_diff(struct stream *q, struct vec d, float a, struct vec x, struct vec y) {
    ASSERT(d.n == x.n && d.n == y.n);
    q->kernels->diff(q, d.at, a, x.at, y.at, d.n);
}

void vec_elastic(struct stream *q, struct vec x, struct vec c, float alpha) {
    ASSERT(x.n == c.n);
    q->kernels->elastic(q, x.at, c.at, alpha, x.n);
}

void vec_distance(struct stream *q, float *out, struct vec x, struct vec y) {
    ASSERT(x.n == y.n);
    q->kernels->distance(q, out, x.at, y.at, x.n);
}

void vec_square(struct stream *q, float *out, struct vec x) {
    q->kernels->distance(q, out, x.at, NULL, x.n);
}
