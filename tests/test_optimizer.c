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
            struct optimizer_settings set = {
                .kind = kind, .momentum = 0.875f, .decay = variant / 2 ? 0.0625f : 0};
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

/* Tieleman and Hinton's rule and Kingma and Ba's algorithm 1, in double. */
struct adaptive {
    double x[N], m[N], s[N];
};

static void oracle_adaptive(
    struct optimizer_settings set, struct adaptive *a, const struct step *step, int part) {
    double b1 = (double)set.beta1, b2 = (double)set.beta2, rho = (double)set.rho;
    double t = (double)step->number + 1, epsilon = (double)set.epsilon;
    size_t from = part ? middle.offset : 0, to = part ? middle.offset + middle.n : N;
    for (size_t i = from; i < to; i++) {
        double g = slope(i, a->x[i]) + (double)set.decay * a->x[i], up = g, down;
        if (set.kind == OPTIMIZER_ADAM) {
            a->m[i] = b1 * a->m[i] + (1 - b1) * g;
            a->s[i] = b2 * a->s[i] + (1 - b2) * g * g;
            up = a->m[i] / (1 - pow(b1, t));
            down = a->s[i] / (1 - pow(b2, t));
        } else {
            down = a->s[i] = rho * a->s[i] + (1 - rho) * g * g;
        }
        down = set.epsilon_form == EPSILON_INSIDE ? sqrt(down + epsilon) : sqrt(down) + epsilon;
        a->x[i] -= (double)step->rate * up / down;
    }
}

/* `first`: the number of the first step. */
static void check_adaptive(struct optimizer_settings set, int part, uint32_t first) {
    static struct bench b;
    static struct adaptive a;
    bench_open(&b, set);
    a = (struct adaptive){0};
    for (size_t i = 0; i < N; i++) a.x[i] = (double)b.x[i];
    for (uint32_t t = 0; t < STEPS; t++) {
        struct step step = {.rate = t < 20 ? 0.0625f : 0.03125f, .number = first + t};
        bench_step(&b, &step, part);
        oracle_adaptive(set, &a, &step, part);
    }
    cr_assert(stream_sync(b.q) == STATUS_OK);
    check_close(b.x, a.x, N, 2e-5, 2e-5, "kind %d, epsilon %g %d, part %d, from step %u", set.kind,
        (double)set.epsilon, set.epsilon_form, part, first);
    bench_close(&b);
}

Test(optimizer, rmsprop_and_adam_follow_their_equations) {
    static const float epsilons[] = {1e-8f, 0.0625f, 2};
    for (int kind = OPTIMIZER_RMSPROP; kind <= OPTIMIZER_ADAM; kind++)
        for (int variant = 0; variant < 24; variant++) {
            struct optimizer_settings set = {.kind = kind,
                .momentum = 0.5f,
                .rho = 0.9375f,
                .beta1 = variant < 18 ? 0.875f : 0,
                .beta2 = 0.999f,
                .epsilon = epsilons[variant % 3],
                .epsilon_form = variant / 3 % 2,
                .decay = variant / 6 % 2 ? 0.0625f : 0};
            check_adaptive(set, variant / 12, variant % 4 == 3 ? 100000 : 0);
        }
}

/* On the first step the corrected means are the gradient and its square: a sign times the rate. */
Test(optimizer, adam_starts_with_whole_steps) {
    struct bench b;
    float before[N];
    const struct step step = {.rate = 0.25f, .number = 0};
    bench_open(&b, (struct optimizer_settings){
                       .kind = OPTIMIZER_ADAM, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-20f});
    memcpy(before, b.x, sizeof before);
    bench_step(&b, &step, 0);
    for (size_t i = 0; i < N; i++) {
        double g = slope(i, (double)before[i]), moved = (double)(before[i] - b.x[i]);
        double want = g > 0 ? 0.25 : g < 0 ? -0.25 : 0;
        cr_assert(fabs(moved - want) <= 1e-6, "element %zu moved by %g", i, moved);
    }
    bench_close(&b);
}

/* Gaps between parts have gradient 0, and stay where they are. */
Test(optimizer, rmsprop_and_adam_do_not_move_what_has_no_gradient) {
    for (int kind = OPTIMIZER_RMSPROP; kind <= OPTIMIZER_ADAM; kind++)
        for (int form = EPSILON_OUTSIDE; form <= EPSILON_INSIDE; form++) {
            struct bench b;
            float before[N];
            const struct step step = {.rate = 1, .number = 3};
            bench_open(&b, (struct optimizer_settings){.kind = kind,
                               .rho = 0.9f,
                               .beta1 = 0.9f,
                               .beta2 = 0.9f,
                               .epsilon = 1e-20f,
                               .epsilon_form = form});
            memcpy(before, b.x, sizeof before);
            memset(b.g, 0, sizeof b.g);
            struct vec x = {b.x, N}, g = {b.g, N};
            optimizer_step(&b.o, b.q, x, g, (struct range){0, N}, &step);
            cr_assert(memcmp(before, b.x, sizeof before) == 0, "kind %d, form %d", kind, form);
            bench_close(&b);
        }
}

/* A run that goes on from x, the state and the number of steps goes on to the same bits. */
Test(optimizer, rmsprop_and_adam_resume_from_their_state) {
    for (int kind = OPTIMIZER_RMSPROP; kind <= OPTIMIZER_ADAM; kind++) {
        struct bench whole, rest;
        struct optimizer_settings set = {
            .kind = kind, .rho = 0.9f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f};
        bench_open(&whole, set);
        bench_open(&rest, set);
        for (uint32_t t = 0; t < STEPS; t++) {
            const struct step step = {.rate = 0.03f, .number = t};
            if (t == 7) {
                memcpy(rest.x, whole.x, sizeof rest.x);
                for (int i = 0; i < whole.o.vecs; i++) {
                    cr_assert(whole.o.vec[i].state);
                    memcpy(rest.o.vec[i].v.at, whole.o.vec[i].v.at, N * sizeof(float));
                }
            }
            bench_step(&whole, &step, 0);
            if (t >= 7) bench_step(&rest, &step, 0);
        }
        cr_assert(!memcmp(whole.x, rest.x, sizeof rest.x), "kind %d", kind);
        bench_close(&whole);
        bench_close(&rest);
    }
}

Test(optimizer, nesterov_and_momentum_without_momentum_are_sgd_to_the_bit) {
    struct bench sgd, other;
    for (int kind = OPTIMIZER_MOMENTUM; kind <= OPTIMIZER_NESTEROV; kind++) {
        bench_open(&sgd,
            (struct optimizer_settings){.kind = OPTIMIZER_SGD, .momentum = 0.9f, .decay = 0.01f});
        bench_open(
            &other, (struct optimizer_settings){.kind = kind, .momentum = 0, .decay = 0.01f});
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

Test(optimizer, only_what_a_step_keeps_is_state) {
    struct bench b;
    bench_open(&b, (struct optimizer_settings){.kind = OPTIMIZER_SGD, .momentum = 0.9f});
    cr_assert(b.o.vecs == 0);
    bench_close(&b);
    bench_open(&b, (struct optimizer_settings){.kind = OPTIMIZER_MOMENTUM, .momentum = 0.9f});
    cr_assert(b.o.vecs == 1 && !strcmp(b.o.vec[0].name, "velocity") && b.o.vec[0].state);
    bench_close(&b);
    bench_open(&b, (struct optimizer_settings){.kind = OPTIMIZER_NESTEROV, .momentum = 0.9f});
    cr_assert(b.o.vecs == 2 && !strcmp(b.o.vec[0].name, "velocity") && b.o.vec[0].state);
    cr_assert(!b.o.vec[1].state && b.o.vec[1].v.n == N);
    struct vec x = {b.x, N};
    cr_assert(optimizer_point(&b.o, b.q, x).at == b.o.vec[1].v.at);
    bench_close(&b);
    bench_open(&b, (struct optimizer_settings){.kind = OPTIMIZER_RMSPROP, .momentum = 0.9f});
    cr_assert(b.o.vecs == 1 && !strcmp(b.o.vec[0].name, "mean_square") && b.o.vec[0].state);
    cr_assert(optimizer_point(&b.o, b.q, x).at == b.x);
    bench_close(&b);
    bench_open(&b, (struct optimizer_settings){.kind = OPTIMIZER_ADAM, .momentum = 0.9f});
    cr_assert(b.o.vecs == 2 && !strcmp(b.o.vec[0].name, "mean_gradient") && b.o.vec[0].state);
    cr_assert(!strcmp(b.o.vec[1].name, "mean_square") && b.o.vec[1].state);
    cr_assert(optimizer_point(&b.o, b.q, x).at == b.x);
    bench_close(&b);
}

/* Without decay the gradient is not touched, whatever stands at the point. */
Test(optimizer, no_decay_does_not_read_the_point) {
    struct bench b;
    float nan[N];
    bench_open(&b, (struct optimizer_settings){.kind = OPTIMIZER_SGD, .momentum = 0});
    for (int i = 0; i < N; i++) nan[i] = NAN, b.g[i] = 1;
    struct vec g = {b.g, N}, point = {nan, N};
    optimizer_decay(&b.o, b.q, g, point, (struct range){0, N});
    for (int i = 0; i < N; i++) cr_assert(b.g[i] == 1);
    bench_close(&b);
}
