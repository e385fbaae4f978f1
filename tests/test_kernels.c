#include <criterion/criterion.h>
#include <string.h>

#include "check.h"
#include "devices/device.h"
#include "guard.h"

TestSuite(kernels, .timeout = 60);

static const struct kernels *const k = &kernels_host;
static const size_t sizes[] = {0, 1, 15, 31, 33, 255, 1025, 65537};
enum { SIZES = sizeof sizes / sizeof *sizes };

static struct stream stream_of(int threads) {
    return (struct stream){.kernels = &kernels_host, .threads = threads};
}

/* For every size and for teams of 1 to 3. */
#define FOR_ALL(n, q)                                                                              \
    for (int s_ = 0; s_ < 3 * SIZES; s_++)                                                         \
        for (size_t n = sizes[s_ / 3], once_ = 1; once_; once_ = 0)                                \
            for (struct stream q = stream_of(s_ % 3 + 1); once_; once_ = 0)

#define CHECK_EXACT(got, want, n, what)                                                            \
    do {                                                                                           \
        check_close((got), (want), (n), 0, 0, "%s of %zu", (what), (size_t)(n));                   \
        cr_assert(guard_holds((got), (n)), "%s of %zu wrote outside", (what), (size_t)(n));        \
    } while (0)

Test(kernels, no_slot_is_empty) {
    const unsigned char *at = (const unsigned char *)&kernels_host;
    for (size_t i = 0; i < sizeof kernels_host / sizeof(void (*)(void)); i++) {
        void (*slot)(void);
        memcpy(&slot, at + i * sizeof slot, sizeof slot);
        cr_assert(slot != NULL, "slot %zu", i);
    }
}

Test(kernels, fill_fills_and_stays_inside) {
    FOR_ALL(n, q) {
        float *y = guard_floats(n);
        double *want = doubles(n);
        for (size_t i = 0; i < n; i++) want[i] = 3;
        k->fill(&q, y, 3, n);
        CHECK_EXACT(y, want, n, "fill");
        guard_free(y);
        free(want);
    }
}

Test(kernels, mix_is_exact_for_whole_numbers) {
    static const float factors[][2] = {{2, -3}, {1, 5}, {1, 0}, {0, 1}, {-2, 0}, {0, 0}};
    for (int f = 0; f < 6; f++) FOR_ALL(n, q) {
            float *y = guard_ints(n, 1, 100), *x = guard_ints(n, 2, 100);
            double *want = doubles(n);
            float a = factors[f][0], b = factors[f][1];
            for (size_t i = 0; i < n; i++)
                want[i] = (double)a * small_int(i, 1, 100) + (double)b * small_int(i, 2, 100);
            k->mix(&q, y, a, b, x, n);
            CHECK_EXACT(y, want, n, "mix");
            guard_free(y);
            guard_free(x);
            free(want);
        }
}

Test(kernels, a_factor_of_zero_does_not_read_its_vector) {
    struct stream q = stream_of(1);
    float y[3] = {NAN, INFINITY, NAN}, x[3] = {1, 2, 3};
    const double twice[3] = {2, 4, 6}, zero[3] = {0, 0, 0};
    k->mix(&q, y, 0, 2, x, 3);
    check_close(y, twice, 3, 0, 0, "mix");
    x[0] = x[1] = x[2] = NAN;
    k->mix(&q, y, 1, 0, x, 3);
    check_close(y, twice, 3, 0, 0, "mix");
    y[1] = NAN;
    k->mix(&q, y, 0, 0, x, 3);
    check_close(y, zero, 3, 0, 0, "mix");
}

Test(kernels, diff_may_write_over_either_operand) {
    for (int over = 0; over < 3; over++) FOR_ALL(n, q) {
            float *x = guard_ints(n, 1, 100), *y = guard_ints(n, 2, 100), *d = guard_floats(n);
            double *want = doubles(n);
            float *to = over == 0 ? d : over == 1 ? x : y;
            for (size_t i = 0; i < n; i++)
                want[i] = 0.5 * (small_int(i, 1, 100) - small_int(i, 2, 100));
            k->diff(&q, to, 0.5f, x, y, n);
            CHECK_EXACT(to, want, n, "diff");
            guard_free(x);
            guard_free(y);
            guard_free(d);
            free(want);
        }
}

Test(kernels, elastic_moves_both_by_the_same) {
    FOR_ALL(n, q) {
        float *x = guard_ints(n, 1, 100), *c = guard_ints(n, 2, 100);
        double *want_x = doubles(n), *want_c = doubles(n);
        for (size_t i = 0; i < n; i++) {
            double d = 0.25 * (small_int(i, 1, 100) - small_int(i, 2, 100));
            want_x[i] = small_int(i, 1, 100) - d;
            want_c[i] = small_int(i, 2, 100) + d;
        }
        k->elastic(&q, x, c, 0.25f, n);
        CHECK_EXACT(x, want_x, n, "elastic x");
        CHECK_EXACT(c, want_c, n, "elastic c");
        guard_free(x);
        guard_free(c);
        free(want_x);
        free(want_c);
    }
}

Test(kernels, distance_is_the_same_for_any_team) {
    FOR_ALL(n, q) {
        float *x = guard_ints(n, 1, 9), *y = guard_ints(n, 2, 9), out = guard_word, again = out;
        double apart = 0, alone = 0;
        for (size_t i = 0; i < n; i++) {
            double d = small_int(i, 1, 9) - small_int(i, 2, 9);
            apart += d * d;
            alone += small_int(i, 1, 9) * small_int(i, 1, 9);
        }
        k->distance(&q, &out, x, y, n);
        check_close(&out, &apart, 1, 0, 0, "distance of %zu", n);
        k->distance(&q, &out, x, NULL, n);
        check_close(&out, &alone, 1, 0, 0, "square of %zu", n);
        for (size_t i = 0; i < n; i++) x[i] /= 3;
        struct stream one = stream_of(1);
        k->distance(&q, &out, x, y, n);
        k->distance(&one, &again, x, y, n);
        cr_assert(out == again);
        guard_free(x);
        guard_free(y);
    }
}

Test(kernels, distance_does_not_hide_nan) {
    struct stream q = stream_of(1);
    const float x[3] = {1, NAN, 2}, y[3] = {1, 2, 3};
    float out = 0;
    k->distance(&q, &out, x, y, 3);
    cr_assert(isnan(out));
    k->distance(&q, &out, x, NULL, 3);
    cr_assert(isnan(out));
}

Test(kernels, sum_reaches_every_vector) {
    for (int count = 1; count <= 5; count++) FOR_ALL(n, q) {
            float *v[5];
            double *want = doubles(n);
            for (int i = 0; i < count; i++) v[i] = guard_ints(n, (unsigned)i, 100);
            for (size_t j = 0; j < n; j++)
                for (int i = 0; i < count; i++) want[j] += 0.25 * small_int(j, (unsigned)i, 100);
            k->sum(&q, v, count, 0.25f, n);
            for (int i = 0; i < count; i++) CHECK_EXACT(v[i], want, n, "sum");
            for (int i = 0; i < count; i++) guard_free(v[i]);
            free(want);
        }
}

/* 1 + 2^24 is 2^24 in float32: any other order of these three gives another sum. */
Test(kernels, sum_adds_in_the_order_of_the_vectors) {
    struct stream q = stream_of(1);
    float a = 1, b = 0x1p24f, c = -0x1p24f;
    float *v[3] = {&a, &b, &c};
    k->sum(&q, v, 3, 1, 1);
    cr_assert(a == 0 && b == 0 && c == 0);
    a = 0x1p24f, b = -0x1p24f, c = 1;
    k->sum(&q, v, 3, 1, 1);
    cr_assert(a == 1 && b == 1 && c == 1);
}

Test(kernels, optimizers_follow_their_equations) {
    const struct step step = {.rate = 0.5f, .number = 7};
    FOR_ALL(n, q) {
        float *x = guard_ints(n, 1, 100), *v = guard_ints(n, 2, 100), *g = guard_ints(n, 3, 100);
        float *x2 = guard_ints(n, 1, 100), *y = guard_floats(n);
        double *sgd = doubles(n), *vel = doubles(n), *pos = doubles(n), *ahead = doubles(n);
        for (size_t i = 0; i < n; i++) {
            double xi = small_int(i, 1, 100), vi = small_int(i, 2, 100), gi = small_int(i, 3, 100);
            ahead[i] = xi + 0.25 * vi;
            sgd[i] = xi - 0.5 * gi;
            vel[i] = 0.25 * vi - 0.5 * gi;
            pos[i] = xi + vel[i];
        }
        k->look_ahead(&q, y, x, 0.25f, v, n);
        k->momentum(&q, x, v, g, 0.25f, &step, n);
        k->sgd(&q, x2, g, &step, n);
        CHECK_EXACT(y, ahead, n, "look_ahead");
        CHECK_EXACT(v, vel, n, "velocity");
        CHECK_EXACT(x, pos, n, "momentum");
        CHECK_EXACT(x2, sgd, n, "sgd");
        float *const all[] = {x, v, g, x2, y};
        for (int i = 0; i < 5; i++) guard_free(all[i]);
        double *const wanted[] = {sgd, vel, pos, ahead};
        for (int i = 0; i < 4; i++) free(wanted[i]);
    }
}

/* With rho, the betas and eta powers of 2 and t = 1 all but the root and the quotient are exact. */
Test(kernels, rmsprop_and_adam_follow_their_equations) {
    const struct step step = {.rate = 0.5f, .number = 0};
    FOR_ALL(n, q) {
        float *x = guard_ints(n, 1, 100), *s = guard_ints(n, 2, 50), *g = guard_ints(n, 3, 100);
        float *x2 = guard_ints(n, 1, 100), *m2 = guard_ints(n, 4, 100), *s2 = guard_ints(n, 2, 50);
        double *rms = doubles(n), *rms_s = doubles(n);
        double *adam = doubles(n), *mean = doubles(n), *square = doubles(n);
        for (size_t i = 0; i < n; i++) {
            double xi = small_int(i, 1, 100), gi = small_int(i, 3, 100), si = small_int(i, 2, 50);
            s[i] += 50, s2[i] += 50;
            rms_s[i] = 0.75 * (si + 50) + 0.25 * gi * gi;
            rms[i] = xi - 0.5 * gi / (sqrt(rms_s[i] + 3) + 7);
            mean[i] = 0.25 * small_int(i, 4, 100) + 0.75 * gi;
            square[i] = 0.5 * (si + 50) + 0.5 * gi * gi;
            adam[i] = xi - 0.5 * mean[i] / 0.75 / (sqrt(square[i] / 0.5 + 5) + 2);
        }
        k->rmsprop(&q, x, s, g, 0.75f, 3, 7, &step, n);
        k->adam(&q, x2, m2, s2, g, 0.25f, 0.5f, 5, 2, &step, n);
        CHECK_EXACT(s, rms_s, n, "rmsprop's mean square");
        CHECK_EXACT(m2, mean, n, "adam's mean");
        CHECK_EXACT(s2, square, n, "adam's mean square");
        check_close(x, rms, n, 2e-5, 0, "rmsprop, %zu", n);
        check_close(x2, adam, n, 2e-5, 0, "adam, %zu", n);
        float *const all[] = {x, s, g, x2, m2, s2};
        for (int i = 0; i < 6; i++) cr_assert(guard_holds(all[i], n));
        for (int i = 0; i < 6; i++) guard_free(all[i]);
        double *const wanted[] = {rms, rms_s, adam, mean, square};
        for (int i = 0; i < 5; i++) free(wanted[i]);
    }
}

static double act_of(double z, enum activation act) {
    if (act == ACTIVATION_SIGMOID) return z < 0 ? exp(z) / (1 + exp(z)) : 1 / (1 + exp(-z));
    return act == ACTIVATION_RELU ? (z > 0 ? z : 0) : act == ACTIVATION_TANH ? tanh(z) : z;
}

/* tanhf and expf are good to about one unit in the last place: 1.2e-7 of a value up to 1. */
static double act_tolerance(enum activation act) { return act >= ACTIVATION_TANH ? 2.5e-7 : 0; }

Test(kernels, bias_and_activation_are_done_in_one_pass) {
    static const int shapes[][2] = {{0, 3}, {1, 1}, {3, 10}, {33, 31}, {7, 32}, {640, 257}};
    for (int a = ACTIVATION_NONE; a <= ACTIVATION_SIGMOID; a++)
        for (int i = 0; i < 18; i++) {
            size_t rows = (size_t)shapes[i / 3][0], c = (size_t)shapes[i / 3][1], n = rows * c;
            struct stream q = stream_of(i % 3 + 1);
            float *y = guard_ints(n, 1, 3), *bias = guard_ints(c, 2, 2);
            double *want = doubles(n);
            for (size_t j = 0; j < n; j++)
                want[j] = act_of(small_int(j, 1, 3) + small_int(j % c, 2, 2), (enum activation)a);
            k->bias_act(&q, y, bias, (enum activation)a, rows, (int)c);
            check_close(y, want, n, act_tolerance((enum activation)a), 0, "%zu x %zu", rows, c);
            cr_assert(guard_holds(y, n));
            guard_free(y);
            guard_free(bias);
            free(want);
        }
}

Test(kernels, activations_and_their_gradients) {
    for (int a = ACTIVATION_NONE; a <= ACTIVATION_SIGMOID; a++) FOR_ALL(n, q) {
            enum activation act = (enum activation)a;
            float *x = guard_ints(n, 1, 3), *y = guard_floats(n), *dy = guard_ints(n, 2, 9);
            float *dz = guard_floats(n);
            double *want = doubles(n), *grad = doubles(n);
            for (size_t i = 0; i < n; i++) {
                double z = small_int(i, 1, 3), t = tanh(z), half = tanh(z / 2);
                double slope = a == ACTIVATION_RELU      ? (z > 0 ? 1 : 0)
                               : a == ACTIVATION_TANH    ? 1 - t * t
                               : a == ACTIVATION_SIGMOID ? (1 - half * half) / 4
                                                         : 1;
                want[i] = act_of(z, act);
                grad[i] = slope * small_int(i, 2, 9);
            }
            k->act(&q, y, x, act, n);
            k->act_grad(&q, dz, dy, y, act, n);
            check_close(y, want, n, act_tolerance(act), 0, "act %d", a);
            /* 1 - y y loses what y lost, twice, and is multiplied by up to 9. */
            check_close(dz, grad, n, 20 * act_tolerance(act), 0, "act_grad %d", a);
            k->act_grad(&q, dy, dy, y, act, n);
            check_close(dy, grad, n, 20 * act_tolerance(act), 0, "act_grad in place %d", a);
            cr_assert(guard_holds(y, n) && guard_holds(dz, n) && guard_holds(dy, n));
            float *const all[] = {x, y, dy, dz};
            for (int i = 0; i < 4; i++) guard_free(all[i]);
            free(want);
            free(grad);
        }
}

Test(kernels, a_sum_of_two_goes_through_the_activation) {
    for (int a = ACTIVATION_NONE; a <= ACTIVATION_SIGMOID; a++) FOR_ALL(n, q) {
            enum activation act = (enum activation)a;
            float *x = guard_ints(n, 1, 3), *other = guard_ints(n, 2, 3), *y = guard_floats(n);
            double *want = doubles(n);
            for (size_t i = 0; i < n; i++)
                want[i] = act_of(small_int(i, 1, 3) + small_int(i, 2, 3), act);
            k->add_act(&q, y, x, other, act, n);
            check_close(y, want, n, act_tolerance(act), 0, "add_act %d", a);
            cr_assert(guard_holds(y, n));
            float *const all[] = {x, other, y};
            for (int i = 0; i < 3; i++) guard_free(all[i]);
            free(want);
        }
}

Test(kernels, a_relu_passes_nan_on) {
    struct stream q = stream_of(1);
    float x[40], y[40], bias[40] = {0};
    for (int i = 0; i < 40; i++) x[i] = i % 7 == 3 ? NAN : -1;
    k->act(&q, y, x, ACTIVATION_RELU, 40);
    k->bias_act(&q, x, bias, ACTIVATION_RELU, 1, 40);
    for (int i = 0; i < 40; i++) cr_assert(i % 7 == 3 ? isnan(y[i]) && isnan(x[i]) : y[i] == 0);
}

Test(kernels, bias_grad_sums_columns) {
    static const int shapes[][2] = {
        {0, 5}, {1, 1}, {3, 10}, {255, 16}, {257, 33}, {1000, 47}, {2051, 64}};
    for (int i = 0; i < 42; i++) {
        size_t rows = (size_t)shapes[i / 6][0], c = (size_t)shapes[i / 6][1];
        struct stream q = stream_of(i % 3 + 1);
        float beta = i % 6 < 3 ? 0 : 2, *db = guard_ints(c, 1, 9);
        float *dz = guard_ints(rows * c, 2, 9);
        double *want = doubles(c);
        for (size_t j = 0; j < c; j++) {
            want[j] = (double)beta * small_int(j, 1, 9);
            for (size_t r = 0; r < rows; r++) want[j] += small_int(r * c + j, 2, 9);
            if (beta == 0) db[j] = NAN;
        }
        k->bias_grad(&q, db, dz, beta, rows, (int)c);
        CHECK_EXACT(db, want, c, "bias_grad");
        guard_free(db);
        guard_free(dz);
        free(want);
    }
}

/* A column of one value over many rows, which a plain running sum gets wrong by far more: the
 * tolerance is that of sums of blocks, 4 eps sqrt(rows / 256 + 256). */
Test(kernels, bias_grad_of_tall_columns_keeps_its_bits) {
    struct stream q = stream_of(1);
    size_t rows = 200000;
    float *dz = guard_floats(rows * 17), db[17];
    double want[17];
    for (size_t i = 0; i < rows * 17; i++) dz[i] = 0.1f;
    for (size_t j = 0; j < 17; j++) want[j] = (double)0.1f * (double)rows;
    k->bias_grad(&q, db, dz, 0, rows, 17);
    check_close(db, want, 17, 0, 4 * 1.2e-7 * sqrt((double)rows / 256 + 256), "tall");
    guard_free(dz);
}

static const int norm_shapes[][2] = {
    {1, 1}, {2, 3}, {31, 16}, {33, 17}, {257, 33}, {1025, 64}, {600, 130}};
enum { NORMS = 3 * sizeof norm_shapes / sizeof *norm_shapes };

/* One channel's mean and mean squared distance from it, in double. */
static void channel_statistics(
    const float *x, size_t rows, size_t c, size_t j, double *mean, double *var) {
    *mean = *var = 0;
    for (size_t r = 0; r < rows; r++) *mean += (double)x[r * c + j] / (double)rows;
    for (size_t r = 0; r < rows; r++) {
        double d = (double)x[r * c + j] - *mean;
        *var += d * d / (double)rows;
    }
}

/* Values far from zero: a variance by way of the mean square would be lost. Blocks of 256 are summed
 * apart: 4 eps sqrt(256). */
Test(kernels, batch_norm_finds_mean_and_variance) {
    for (int i = 0; i < 2 * NORMS; i++) {
        size_t rows = (size_t)norm_shapes[i / 6][0], c = (size_t)norm_shapes[i / 6][1];
        struct stream q = stream_of(i % 3 + 1);
        float *x = guard_ints(rows * c, 1, 9), *mean = guard_floats(c), *var = guard_floats(c);
        double *want_mean = doubles(c), *want_var = doubles(c), far = i % 2 ? 3000 : 0;
        for (size_t j = 0; j < rows * c; j++) x[j] += (float)far;
        for (size_t j = 0; j < c; j++)
            channel_statistics(x, rows, c, j, want_mean + j, want_var + j);
        k->batchnorm_statistics(&q, mean, var, x, rows, (int)c);
        check_close(mean, want_mean, c, 4e-6, 4e-7, "mean of %zu x %zu", rows, c);
        check_close(var, want_var, c, 1e-6, 8e-6, "variance of %zu x %zu", rows, c);
        cr_assert(guard_holds(mean, c) && guard_holds(var, c));
        float *const all[] = {x, mean, var};
        for (int a = 0; a < 3; a++) guard_free(all[a]);
        free(want_mean);
        free(want_var);
    }
}

/* Vectors of c floats for batch norm: small whole numbers, the variances above zero. */
struct norm {
    float *mean, *var, *weight, *bias, *dweight, *dbias;
};

static struct norm norm_open(size_t c) {
    struct norm n = {guard_ints(c, 2, 5), guard_ints(c, 3, 4), guard_ints(c, 4, 3),
        guard_ints(c, 5, 3), guard_ints(c, 6, 30), guard_ints(c, 7, 30)};
    for (size_t j = 0; j < c; j++) n.var[j] += 5;
    return n;
}

static void norm_close(const struct norm *n) {
    float *const all[] = {n->mean, n->var, n->weight, n->bias, n->dweight, n->dbias};
    for (int i = 0; i < 6; i++) guard_free(all[i]);
}

/* Every operand is of order 10: the tolerances are a few roundings of that. */
Test(kernels, batch_norm_normalizes_and_takes_gradients_back) {
    for (int i = 0; i < NORMS; i++) {
        size_t rows = (size_t)norm_shapes[i / 3][0], c = (size_t)norm_shapes[i / 3][1];
        size_t n = rows * c;
        struct stream q = stream_of(i % 3 + 1);
        struct norm v = norm_open(c);
        enum activation act = i % 2 ? ACTIVATION_RELU : ACTIVATION_NONE;
        float *x = guard_ints(n, 1, 9), *dz = guard_ints(n, 8, 9), *y = guard_floats(n);
        float *dx = guard_floats(n), *still = guard_floats(n);
        double *want_y = doubles(n), *want_dx = doubles(n), *want_still = doubles(n);
        double *want_w = doubles(c), *want_b = doubles(c);
        for (size_t a = 0; a < n; a++) {
            size_t j = a % c;
            double scale = 1 / sqrt((double)v.var[j] + 0.25), w = (double)v.weight[j];
            double hat = ((double)x[a] - (double)v.mean[j]) * scale, d = (double)dz[a];
            want_y[a] = act_of(w * hat + (double)v.bias[j], act);
            want_still[a] = w * scale * d;
            want_dx[a] =
                w * scale * (d - ((double)v.dbias[j] + hat * (double)v.dweight[j]) / (double)rows);
            want_w[j] += d * hat;
            want_b[j] += d;
        }
        k->batchnorm_forward(&q, y, x, v.mean, v.var, 0.25f, v.weight, v.bias, act, rows, (int)c);
        check_close(y, want_y, n, 1e-5, 1e-6, "forward %zu x %zu", rows, c);
        k->batchnorm_grad_input(
            &q, dx, dz, x, v.mean, v.var, 0.25f, v.weight, v.dweight, v.dbias, rows, (int)c);
        check_close(dx, want_dx, n, 1e-4, 1e-6, "gradient %zu x %zu", rows, c);
        k->batchnorm_grad_input(
            &q, still, dz, x, v.mean, v.var, 0.25f, v.weight, NULL, NULL, rows, (int)c);
        check_close(still, want_still, n, 1e-5, 1e-6, "fixed statistics %zu x %zu", rows, c);
        k->batchnorm_grad_sums(&q, v.dweight, v.dbias, dz, x, v.mean, v.var, 0.25f, rows, (int)c);
        check_close(v.dbias, want_b, c, 0, 0, "sums %zu x %zu", rows, c);
        check_close(v.dweight, want_w, c, 1e-4, 4e-6, "products %zu x %zu", rows, c);
        cr_assert(guard_holds(y, n) && guard_holds(dx, n) && guard_holds(v.dweight, c));
        float *const all[] = {x, dz, y, dx, still};
        double *const wanted[] = {want_y, want_dx, want_still, want_w, want_b};
        for (int a = 0; a < 5; a++) guard_free(all[a]);
        for (int a = 0; a < 5; a++) free(wanted[a]);
        norm_close(&v);
    }
}

Test(kernels, dropout_masks_are_the_words_of_their_key) {
    const struct step step = {.rate = 1, .number = 41};
    const struct rng_key key = {5, RNG_DROPOUT, 2 * 4096 + 3};
    const struct rng_key stepped = {5 ^ 41, RNG_DROPOUT, 2 * 4096 + 3};
    FOR_ALL(n, q) {
        uint8_t *mask = malloc(n + 2);
        float *x = guard_ints(n, 1, 100), *y = guard_floats(n);
        double *want = doubles(n);
        mask[0] = mask[n + 1] = 77;
        k->dropout_mask(&q, mask + 1, key, 0.25f, &step, n);
        k->dropout(&q, y, x, mask + 1, 0.25f, n);
        for (size_t i = 0; i < n; i++) {
            int kept = rng_word(stepped, i) < 0x40000000u;
            cr_assert(mask[1 + i] == kept, "mask %zu of %zu", i, n);
            want[i] = kept ? 4.0 * small_int(i, 1, 100) : 0;
        }
        cr_assert(mask[0] == 77 && mask[n + 1] == 77);
        CHECK_EXACT(y, want, n, "dropout");
        k->dropout(&q, x, x, mask + 1, 0.25f, n);
        CHECK_EXACT(x, want, n, "dropout in place");
        free(mask);
        guard_free(x);
        guard_free(y);
        free(want);
    }
}

Test(kernels, a_rate_of_zero_drops_nothing_and_a_dropped_nan_is_gone) {
    struct stream q = stream_of(1);
    const struct step step = {.rate = 1, .number = 0};
    uint8_t mask[100];
    k->dropout_mask(&q, mask, (struct rng_key){1, RNG_DROPOUT, 0}, 1, &step, 100);
    for (int i = 0; i < 100; i++) cr_assert(mask[i] == 1);
    float x[2] = {NAN, NAN}, y[2];
    const uint8_t one[2] = {0, 1};
    k->dropout(&q, y, x, one, 0.5f, 2);
    cr_assert(y[0] == 0 && isnan(y[1]));
}

/* The oracle in double, with another formula: -log p[j] is log sum exp(z - z[j]), and with a
 * smoothing the loss is the mean of these under the target. */
static void cross_entropy_oracle(
    const float *z, int label, double scale, double smoothing, int C, double *loss, double *dz) {
    *loss = 0;
    for (int j = 0; j < C; j++) {
        double target = (j == label) * (1 - smoothing) + smoothing / C, sum = 0;
        for (int i = 0; i < C; i++) sum += exp((double)z[i] - (double)z[j]);
        if (target > 0) *loss += target * log(sum);
        dz[j] = scale * (1 / sum - target);
    }
}

Test(kernels, softmax_cross_entropy_and_its_gradient) {
    static const int shapes[][2] = {{0, 10}, {1, 1}, {1, 2}, {33, 10}, {65, 257}};
    static const float smoothings[] = {0, 0.1f, 0.75f};
    for (int i = 0; i < 15; i++) {
        int B = shapes[i / 3][0], C = shapes[i / 3][1], label[65];
        float smoothing = smoothings[i % 3];
        size_t n = (size_t)B * (size_t)C;
        struct stream q = stream_of(2);
        float *z = guard_ints(n, 1, 10), *dz = guard_floats(n), *loss = guard_floats((size_t)B);
        double *want = doubles(n), *want_loss = doubles((size_t)B);
        float scale = B ? 1.0f / (float)B : 1;
        for (int b = 0; b < B; b++) {
            float *row = z + (size_t)b * (size_t)C;
            label[b] = abs(small_int((size_t)b, 3, 1000)) % C;
            for (int j = 0; j < C; j++) row[j] = row[j] / 3 + (b % 2 ? 500.0f : 0);
            cross_entropy_oracle(row, label[b], (double)scale, (double)smoothing, C, want_loss + b,
                want + (size_t)b * (size_t)C);
        }
        k->softmax_cross_entropy(&q, loss, dz, z, label, scale, smoothing, B, C);
        /* Sums of up to 257 terms: 4 eps sqrt(257), and as much again for expf and logf. */
        check_close(loss, want_loss, (size_t)B, 4e-6, 4e-6, "loss");
        check_close(dz, want, n, 2e-6, 4e-6, "dlogits");
        cr_assert(guard_holds(dz, n) && guard_holds(loss, (size_t)B) && guard_holds(z, n));
        for (int b = 0; b < B; b++) loss[b] = guard_word;
        k->softmax_cross_entropy(&q, loss, NULL, z, label, scale, smoothing, B, C);
        check_close(loss, want_loss, (size_t)B, 4e-6, 4e-6, "without a gradient");
        guard_free(z);
        guard_free(dz);
        guard_free(loss);
        free(want);
        free(want_loss);
    }
}

Test(kernels, large_logits_do_not_overflow_and_nan_is_not_hidden) {
    struct stream q = stream_of(1);
    float loss[4], dz[12], right[4];
    const float z[12] = {1000, 0, -1000, NAN, 5, 1, 7, NAN, 1, 3, 4, NAN};
    const int label[4] = {0, 1, 0, 0};
    k->softmax_cross_entropy(&q, loss, dz, z, label, 1, 0, 4, 3);
    k->right(&q, right, z, label, 4, 3);
    cr_assert(fabsf(loss[0]) <= 1e-6f && fabsf(dz[0]) <= 1e-6f);
    cr_assert(right[0] == 1);
    for (int b = 1; b < 4; b++) {
        cr_assert(isnan(loss[b]), "row %d", b);
        cr_assert(right[b] == 0, "row %d", b);
        for (int j = 0; j < 3; j++) cr_assert(isnan(dz[3 * b + j]));
    }
}

Test(kernels, a_logit_of_minus_infinity_does_not_count_without_smoothing) {
    struct stream q = stream_of(1);
    float loss[1], dz[2];
    const float z[2] = {3, -INFINITY};
    const int label[1] = {0};
    k->softmax_cross_entropy(&q, loss, dz, z, label, 1, 0, 1, 2);
    cr_assert(loss[0] == 0 && dz[0] == 0 && dz[1] == 0);
}

Test(kernels, right_takes_the_first_of_equals) {
    struct stream q = stream_of(1);
    const float z[9] = {1, 3, 3, 1, 3, 3, -5, -2, -9};
    const int label[3] = {1, 2, 1};
    float right[3];
    k->right(&q, right, z, label, 3, 3);
    cr_assert(right[0] == 1 && right[1] == 0 && right[2] == 1);
}

Test(kernels, total_is_the_same_for_any_team) {
    FOR_ALL(n, q) {
        float *v = guard_ints(n, 1, 100), out = guard_word, again = guard_word;
        double want = 0;
        for (size_t i = 0; i < n; i++) want += small_int(i, 1, 100);
        k->total(&q, &out, v, n);
        check_close(&out, &want, 1, 0, 0, "total of %zu", n);
        for (size_t i = 0; i < n; i++) v[i] /= 3;
        struct stream one = stream_of(1);
        k->total(&q, &out, v, n);
        k->total(&one, &again, v, n);
        cr_assert(out == again);
        guard_free(v);
    }
}

Test(kernels, the_quadratic_and_its_gradient) {
    FOR_ALL(n, q) {
        float *x = guard_ints(n, 1, 9), *h = guard_ints(n, 2, 3), *t = guard_ints(n, 3, 9);
        float *noise = guard_ints(n, 4, 9), *g = guard_floats(n), loss = NAN;
        double *want = doubles(n), sum = 0;
        for (size_t i = 0; i < n; i++) {
            double d = small_int(i, 1, 9) - small_int(i, 3, 9), hi = small_int(i, 2, 3);
            want[i] = hi * d + small_int(i, 4, 9);
            sum += hi * d * d / 2;
        }
        k->quadratic(&q, g, &loss, x, h, t, noise, n);
        CHECK_EXACT(g, want, n, "quadratic");
        check_close(&loss, &sum, 1, 0, 0, "loss");
        float *const all[] = {x, h, t, noise, g};
        for (int i = 0; i < 5; i++) guard_free(all[i]);
        free(want);
    }
}

/* Everything that writes is called with nothing but NULL: a failed stream must not look. */
Test(kernels, a_failed_stream_does_nothing) {
    struct stream q = stream_of(2);
    const struct conv_shape conv = {1, 3, 3, 1, 3, 1, 0, 0, 1, 1, 1};
    const struct pool_shape pool = {1, 2, 2, 1, 2, 2, 1, 1};
    const struct rng_key key = {0, 0, 0};
    q.failed = STATUS_DEVICE;
    k->fill(&q, NULL, 1, 9);
    k->mix(&q, NULL, 1, 1, NULL, 9);
    k->diff(&q, NULL, 1, NULL, NULL, 9);
    k->elastic(&q, NULL, NULL, 1, 9);
    k->sum(&q, NULL, 2, 1, 9);
    k->distance(&q, NULL, NULL, NULL, 9);
    k->sgd(&q, NULL, NULL, NULL, 9);
    k->momentum(&q, NULL, NULL, NULL, 1, NULL, 9);
    k->look_ahead(&q, NULL, NULL, 1, NULL, 9);
    k->gemm(&q, 1, 0, 0, 2, 2, 2, 1, NULL, 2, 0, NULL, 2, 0, 0, NULL, 2, 0);
    k->bias_act(&q, NULL, NULL, ACTIVATION_NONE, 2, 2);
    k->act_grad(&q, NULL, NULL, NULL, ACTIVATION_RELU, 9);
    k->act(&q, NULL, NULL, ACTIVATION_RELU, 9);
    k->add_act(&q, NULL, NULL, NULL, ACTIVATION_RELU, 9);
    k->bias_grad(&q, NULL, NULL, 0, 2, 2);
    k->conv_forward(&q, &conv, NULL, NULL, NULL, NULL, ACTIVATION_NONE, NULL);
    k->conv_grad_input(&q, &conv, NULL, NULL, NULL, NULL);
    k->conv_grad_weight(&q, &conv, NULL, 0, NULL, NULL, NULL);
    k->maxpool_forward(&q, &pool, NULL, NULL, NULL);
    k->maxpool_backward(&q, &pool, NULL, NULL, NULL);
    k->avgpool_forward(&q, &pool, NULL, NULL);
    k->avgpool_backward(&q, &pool, NULL, NULL);
    k->globalavgpool_forward(&q, NULL, NULL, 2, 2, 2);
    k->globalavgpool_backward(&q, NULL, NULL, 2, 2, 2);
    k->batchnorm_statistics(&q, NULL, NULL, NULL, 2, 2);
    k->batchnorm_forward(&q, NULL, NULL, NULL, NULL, 1, NULL, NULL, ACTIVATION_NONE, 2, 2);
    k->batchnorm_grad_sums(&q, NULL, NULL, NULL, NULL, NULL, NULL, 1, 2, 2);
    k->batchnorm_grad_input(&q, NULL, NULL, NULL, NULL, NULL, 1, NULL, NULL, NULL, 2, 2);
    k->dropout_mask(&q, NULL, key, 1, NULL, 9);
    k->dropout(&q, NULL, NULL, NULL, 1, 9);
    k->softmax_cross_entropy(&q, NULL, NULL, NULL, NULL, 1, 0, 2, 2);
    k->right(&q, NULL, NULL, NULL, 2, 2);
    k->total(&q, NULL, NULL, 9);
    k->quadratic(&q, NULL, NULL, NULL, NULL, NULL, NULL, 9);
    cr_assert(q.failed == STATUS_DEVICE);
}
