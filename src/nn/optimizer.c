#include "optimizer.h"

enum { VELOCITY, POINT }; /* indices of vec[] */

/* Without momentum every kind is plain descent, and costs no vectors. */
static int has_velocity(const struct optimizer *o) {
    return o->set.kind != OPTIMIZER_SGD && o->set.momentum != 0;
}

static int looks_ahead(const struct optimizer *o) {
    return o->set.kind == OPTIMIZER_NESTEROV && has_velocity(o);
}

static enum status vec_take(
    struct optimizer *o, const char *name, int state, struct device *d, size_t n) {
    void *at;
    TRY(device_alloc(d, &at, n * sizeof(float)));
    o->vec[o->vecs++] = (struct optimizer_vec){name, state, {at, n}};
    return STATUS_OK;
}

enum status optimizer_open(
    struct optimizer *o, struct optimizer_settings set, struct device *d, size_t n) {
    *o = (struct optimizer){.set = set};
    if (has_velocity(o)) TRY(vec_take(o, "velocity", 1, d, n));
    if (looks_ahead(o)) TRY(vec_take(o, "point", 0, d, n));
    return STATUS_OK;
}

struct vec optimizer_point(struct optimizer *o, struct stream *q, struct vec x) {
    if (!looks_ahead(o)) return x;
    struct vec v = o->vec[VELOCITY].v, point = o->vec[POINT].v;
    ASSERT(x.n == v.n);
    q->kernels->look_ahead(q, point.at, x.at, o->set.momentum, v.at, x.n);
    return point;
}

void optimizer_decay(
    struct optimizer *o, struct stream *q, struct vec g, struct vec point, struct range r) {
    ASSERT(g.n == point.n && r.offset <= g.n && r.n <= g.n - r.offset);
    if (o->set.decay == 0) return;
    q->kernels->mix(q, g.at + r.offset, 1, o->set.decay, point.at + r.offset, r.n);
}

void optimizer_step(struct optimizer *o, struct stream *q, struct vec x, struct vec g,
    struct range r, const struct step *step) {
    ASSERT(g.n == x.n && r.offset <= x.n && r.n <= x.n - r.offset);
    if (!has_velocity(o)) {
        q->kernels->sgd(q, x.at + r.offset, g.at + r.offset, step, r.n);
        return;
    }
    struct vec v = o->vec[VELOCITY].v;
    ASSERT(v.n == x.n);
    q->kernels->momentum(
        q, x.at + r.offset, v.at + r.offset, g.at + r.offset, o->set.momentum, step, r.n);
}
