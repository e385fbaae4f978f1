#include "optimizer.h"

/* Indices of vec[], by kind. */
enum { VELOCITY = 0, POINT = 1 };
enum { RMSPROP_SQUARE = 0 };
enum { ADAM_MEAN = 0, ADAM_SQUARE = 1 };

/* Without momentum these kinds are plain descent, and cost no vectors. */
static int has_velocity(const struct optimizer *o) {
    return (o->set.kind == OPTIMIZER_MOMENTUM || o->set.kind == OPTIMIZER_NESTEROV) &&
           o->set.momentum != 0;
}

static int looks_ahead(const struct optimizer *o) {
    return o->set.kind == OPTIMIZER_NESTEROV && has_velocity(o);
}

int optimizer_is_plain(const struct optimizer *o) {
    int descends = o->set.kind != OPTIMIZER_RMSPROP && o->set.kind != OPTIMIZER_ADAM;
    return descends && !has_velocity(o) && o->set.decay == 0;
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
    if (set.kind == OPTIMIZER_ADAM) TRY(vec_take(o, "mean_gradient", 1, d, n));
    if (set.kind == OPTIMIZER_ADAM || set.kind == OPTIMIZER_RMSPROP) {
        TRY(vec_take(o, "mean_square", 1, d, n));
    }
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
    const struct optimizer_settings *set = &o->set;
    float *at[OPTIMIZER_VECS] = {NULL};
    float inside = set->epsilon_form == EPSILON_INSIDE ? set->epsilon : 0;
    float outside = set->epsilon_form == EPSILON_INSIDE ? 0 : set->epsilon;
    for (int i = 0; i < o->vecs; i++) {
        ASSERT(o->vec[i].v.n == x.n);
        at[i] = o->vec[i].v.at + r.offset;
    }
    x = vec_part(x, r);
    g = vec_part(g, r);
    if (set->kind == OPTIMIZER_ADAM) {
        q->kernels->adam(q, x.at, at[ADAM_MEAN], at[ADAM_SQUARE], g.at, set->beta1, set->beta2,
            inside, outside, step, r.n);
    } else if (set->kind == OPTIMIZER_RMSPROP) {
        q->kernels->rmsprop(
            q, x.at, at[RMSPROP_SQUARE], g.at, set->rho, inside, outside, step, r.n);
    } else if (has_velocity(o)) {
        q->kernels->momentum(q, x.at, at[VELOCITY], g.at, set->momentum, step, r.n);
    } else {
        q->kernels->sgd(q, x.at, g.at, step, r.n);
    }
}
