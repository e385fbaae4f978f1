#include "nn/optimizer.h"

#include <criterion/criterion.h>
#include <string.h>

#include "check.h"
#include "guard.h"

TestSuite(optimizer, .timeout = 30);

enum { N = 203, STEPS = 40 };

static const struct range middle = {64, 100};

struct bench {
    struct device *d;
    struct stream *q;
    struct optimizer o;
    float x[N], g[N];
};

static void bench_open(struct bench *b, struct optimizer_settings set) {
    cr_assert(device_open(&b->d, &device_host, 0, 1) == STATUS_OK);
    cr_assert(stream_open(&b->q, b->d) == STATUS_OK);
    cr_assert(optimizer_open(&b->o, set, b->d, N) == STATUS_OK);
    for (size_t i = 0; i < N; i++) {
        b->x[i] = (float)small_int(i, 1, 100) / 50;
        b->g[i] = NAN;
    }
}

static void bench_close(struct bench *b) {
    stream_close(b->q);
    device_close(b->d);
}

/* The gradient of sum of h (x - 1)^2 / 2, plus something that no potential has. */
static double slope(size_t i, double x) { return (0.5 + (double)(i % 5)) * (x - 1) + 0.1 * x * x; }

/* One step over all, or where `part` is set over the middle only. */
static void bench_step(struct bench *b, const struct step *step, int part) {
    struct vec x = {b->x, N}, g = {b->g, N};
    struct range r = part ? middle : (struct range){0, N};
    struct vec point = optimizer_point(&b->o, b->q, x);
    for (size_t i = 0; i < N; i++) b->g[i] = (float)slope(i, (double)point.at[i]);
    optimizer_decay(&b->o, b->q, g, point, r);
    optimizer_step(&b->o, b->q, x, g, r, step);
}

/* The equations of optimizer.h, in double. */
static void oracle_step(
    struct optimizer_settings set, double *x, double *v, double rate, size_t from, size_t to) {
    double delta = (double)set.momentum, lambda = (double)set.decay;
    for (size_t i = from; i < to; i++) {
        double at = set.kind == OPTIMIZER_NESTEROV ? x[i] + delta * v[i] : x[i];
        double g = slope(i, at) + lambda * at;
        v[i] = set.kind == OPTIMIZER_SGD ? -rate * g : delta * v[i] - rate * g;
        x[i] += v[i];
    }
}

Test(optimizer, every_kind_follows_its_equations) {
    for (int kind = OPTIMIZER_SGD; kind <= OPTIMIZER_NESTEROV; kind++)
        for (int variant = 0; variant < 4; variant++) {
            struct optimizer_settings set = {kind, 0.875f, variant / 2 ? 0.0625f : 0};
            struct bench b;
            double x[N], v[N] = {0};
            int part = variant % 2;
            bench_open(&b, set);
            for (size_t i = 0; i < N; i++) x[i] = (double)b.x[i];
            for (int t = 0; t < STEPS; t++) {
                struct step step = {.rate = t < 20 ? 0.0625f : 0.03125f, .number = (uint32_t)t};
                bench_step(&b, &step, part);
                oracle_step(set, x, v, (double)step.rate, part ? middle.offset : 0,
                    part ? middle.offset + middle.n : N);
            }
            cr_assert(stream_sync(b.q) == STATUS_OK);
            check_close(b.x, x, N, 1e-5, 1e-5, "kind %d, variant %d", kind, variant);
            bench_close(&b);
        }
}

Test(optimizer, nesterov_and_momentum_without_momentum_are_sgd_to_the_bit) {
    struct bench sgd, other;
    for (int kind = OPTIMIZER_MOMENTUM; kind <= OPTIMIZER_NESTEROV; kind++) {
        bench_open(&sgd, (struct optimizer_settings){OPTIMIZER_SGD, 0.9f, 0.01f});
        bench_open(&other, (struct optimizer_settings){kind, 0, 0.01f});
        cr_assert(other.o.vecs == 0);
        struct vec x = {other.x, N};
        cr_assert(optimizer_point(&other.o, other.q, x).at == other.x);
        for (int t = 0; t < STEPS; t++) {
            const struct step step = {.rate = 0.07f, .number = (uint32_t)t};
            bench_step(&sgd, &step, 0);
            bench_step(&other, &step, 0);
        }
        cr_assert(!memcmp(sgd.x, other.x, sizeof sgd.x));
        bench_close(&sgd);
        bench_close(&other);
    }
}

Test(optimizer, only_the_velocity_is_state) {
    struct bench b;
    bench_open(&b, (struct optimizer_settings){OPTIMIZER_SGD, 0.9f, 0});
    cr_assert(b.o.vecs == 0);
    bench_close(&b);
    bench_open(&b, (struct optimizer_settings){OPTIMIZER_MOMENTUM, 0.9f, 0});
    cr_assert(b.o.vecs == 1 && !strcmp(b.o.vec[0].name, "velocity") && b.o.vec[0].state);
    bench_close(&b);
    bench_open(&b, (struct optimizer_settings){OPTIMIZER_NESTEROV, 0.9f, 0});
    cr_assert(b.o.vecs == 2 && !strcmp(b.o.vec[0].name, "velocity") && b.o.vec[0].state);
    cr_assert(!b.o.vec[1].state && b.o.vec[1].v.n == N);
    struct vec x = {b.x, N};
    cr_assert(optimizer_point(&b.o, b.q, x).at == b.o.vec[1].v.at);
    bench_close(&b);
}

/* Without decay the gradient is not touched, whatever stands at the point. */
Test(optimizer, no_decay_does_not_read_the_point) {
    struct bench b;
    float nan[N];
    bench_open(&b, (struct optimizer_settings){OPTIMIZER_SGD, 0, 0});
    for (int i = 0; i < N; i++) nan[i] = NAN, b.g[i] = 1;
    struct vec g = {b.g, N}, point = {nan, N};
    optimizer_decay(&b.o, b.q, g, point, (struct range){0, N});
    for (int i = 0; i < N; i++) cr_assert(b.g[i] == 1);
    bench_close(&b);
}
