/* late_kernels.h -- the host's kernels, each put on a late stream with a copy of its arguments.
 *
 * Included by late.h only. What a kernel's caller may overwrite when the call has returned is
 * copied, what it may not, vectors, is not: that is the difference the tests are after.
 */
#ifndef LATE_KERNELS_H
#define LATE_KERNELS_H

/* The types of n arguments, first to last, as fields of a struct, as parameters, by name, and out of
 * the struct again: a<n> .. a1. */
/* clang-format off */
#define FIELDS1(t) t a1;
#define FIELDS2(t, ...) t a2; FIELDS1(__VA_ARGS__)
#define FIELDS3(t, ...) t a3; FIELDS2(__VA_ARGS__)
#define FIELDS4(t, ...) t a4; FIELDS3(__VA_ARGS__)
#define FIELDS5(t, ...) t a5; FIELDS4(__VA_ARGS__)
#define FIELDS6(t, ...) t a6; FIELDS5(__VA_ARGS__)
#define FIELDS7(t, ...) t a7; FIELDS6(__VA_ARGS__)
#define FIELDS8(t, ...) t a8; FIELDS7(__VA_ARGS__)
#define FIELDS9(t, ...) t a9; FIELDS8(__VA_ARGS__)
#define FIELDS10(t, ...) t a10; FIELDS9(__VA_ARGS__)
#define FIELDS11(t, ...) t a11; FIELDS10(__VA_ARGS__)
#define FIELDS12(t, ...) t a12; FIELDS11(__VA_ARGS__)
#define FIELDS13(t, ...) t a13; FIELDS12(__VA_ARGS__)
#define FIELDS14(t, ...) t a14; FIELDS13(__VA_ARGS__)
#define FIELDS15(t, ...) t a15; FIELDS14(__VA_ARGS__)
#define FIELDS16(t, ...) t a16; FIELDS15(__VA_ARGS__)
#define FIELDS17(t, ...) t a17; FIELDS16(__VA_ARGS__)
#define TAKES1(t) t a1
#define TAKES2(t, ...) t a2, TAKES1(__VA_ARGS__)
#define TAKES3(t, ...) t a3, TAKES2(__VA_ARGS__)
#define TAKES4(t, ...) t a4, TAKES3(__VA_ARGS__)
#define TAKES5(t, ...) t a5, TAKES4(__VA_ARGS__)
#define TAKES6(t, ...) t a6, TAKES5(__VA_ARGS__)
#define TAKES7(t, ...) t a7, TAKES6(__VA_ARGS__)
#define TAKES8(t, ...) t a8, TAKES7(__VA_ARGS__)
#define TAKES9(t, ...) t a9, TAKES8(__VA_ARGS__)
#define TAKES10(t, ...) t a10, TAKES9(__VA_ARGS__)
#define TAKES11(t, ...) t a11, TAKES10(__VA_ARGS__)
#define TAKES12(t, ...) t a12, TAKES11(__VA_ARGS__)
#define TAKES13(t, ...) t a13, TAKES12(__VA_ARGS__)
#define TAKES14(t, ...) t a14, TAKES13(__VA_ARGS__)
#define TAKES15(t, ...) t a15, TAKES14(__VA_ARGS__)
#define TAKES16(t, ...) t a16, TAKES15(__VA_ARGS__)
#define TAKES17(t, ...) t a17, TAKES16(__VA_ARGS__)
#define NAMES1 a1
#define NAMES2 a2, NAMES1
#define NAMES3 a3, NAMES2
#define NAMES4 a4, NAMES3
#define NAMES5 a5, NAMES4
#define NAMES6 a6, NAMES5
#define NAMES7 a7, NAMES6
#define NAMES8 a8, NAMES7
#define NAMES9 a9, NAMES8
#define NAMES10 a10, NAMES9
#define NAMES11 a11, NAMES10
#define NAMES12 a12, NAMES11
#define NAMES13 a13, NAMES12
#define NAMES14 a14, NAMES13
#define NAMES15 a15, NAMES14
#define NAMES16 a16, NAMES15
#define NAMES17 a17, NAMES16
#define KEPT1(c) (c)->a1
#define KEPT2(c) (c)->a2, KEPT1(c)
#define KEPT3(c) (c)->a3, KEPT2(c)
#define KEPT4(c) (c)->a4, KEPT3(c)
#define KEPT5(c) (c)->a5, KEPT4(c)
#define KEPT6(c) (c)->a6, KEPT5(c)
#define KEPT7(c) (c)->a7, KEPT6(c)
#define KEPT8(c) (c)->a8, KEPT7(c)
#define KEPT9(c) (c)->a9, KEPT8(c)
#define KEPT10(c) (c)->a10, KEPT9(c)
#define KEPT11(c) (c)->a11, KEPT10(c)
#define KEPT12(c) (c)->a12, KEPT11(c)
#define KEPT13(c) (c)->a13, KEPT12(c)
#define KEPT14(c) (c)->a14, KEPT13(c)
#define KEPT15(c) (c)->a15, KEPT14(c)
#define KEPT16(c) (c)->a16, KEPT15(c)
#define KEPT17(c) (c)->a17, KEPT16(c)
/* clang-format on */

#define LATE(kernel, n, ...)                                                                       \
    struct kernel##_call {                                                                         \
        FIELDS##n(__VA_ARGS__)                                                                     \
    };                                                                                             \
    static inline void run_##kernel(struct stream *q, const void *at) {                            \
        const struct kernel##_call *c = at;                                                        \
        kernels_host.kernel(q, KEPT##n(c));                                                        \
    }                                                                                              \
    static inline void late_##kernel(struct stream *q, TAKES##n(__VA_ARGS__)) {                    \
        const struct kernel##_call c = {NAMES##n};                                                 \
        late_call(q, #kernel, run_##kernel, &c, sizeof c);                                         \
    }

/* Those whose first argument points to a shape. */
#define LATE_SHAPED(kernel, type, n, ...)                                                          \
    struct kernel##_call {                                                                         \
        struct type shape;                                                                         \
        FIELDS##n(__VA_ARGS__)                                                                     \
    };                                                                                             \
    static inline void run_##kernel(struct stream *q, const void *at) {                            \
        const struct kernel##_call *c = at;                                                        \
        kernels_host.kernel(q, &c->shape, KEPT##n(c));                                             \
    }                                                                                              \
    static inline void late_##kernel(                                                              \
        struct stream *q, const struct type *shape, TAKES##n(__VA_ARGS__)) {                       \
        const struct kernel##_call c = {*shape, NAMES##n};                                         \
        late_call(q, #kernel, run_##kernel, &c, sizeof c);                                         \
    }

LATE(fill, 3, float *, float, size_t)
LATE(mix, 5, float *, float, float, const float *, size_t)
LATE(diff, 5, float *, float, const float *, const float *, size_t)
LATE(elastic, 4, float *, float *, float, size_t)
LATE(sgd, 4, float *, const float *, const struct step *, size_t)
LATE(momentum, 6, float *, float *, const float *, float, const struct step *, size_t)
LATE(look_ahead, 5, float *, const float *, float, const float *, size_t)
LATE(rmsprop, 8, float *, float *, const float *, float, float, float, const struct step *, size_t)
LATE(adam, 10, float *, float *, float *, const float *, float, float, float, float,
    const struct step *, size_t)
LATE(gemm, 17, int, int, int, int, int, int, float, const float *, int, size_t, const float *, int,
    size_t, float, float *, int, size_t)
LATE(bias_act, 5, float *, const float *, enum activation, size_t, int)
LATE(act_grad, 5, float *, const float *, const float *, enum activation, size_t)
LATE(act, 4, float *, const float *, enum activation, size_t)
LATE(add_act, 5, float *, const float *, const float *, enum activation, size_t)
LATE(bias_grad, 5, float *, const float *, float, size_t, int)
LATE(globalavgpool_forward, 5, float *, const float *, int, size_t, int)
LATE(globalavgpool_backward, 5, float *, const float *, int, size_t, int)
LATE(batchnorm_statistics, 5, float *, float *, const float *, size_t, int)
LATE(batchnorm_forward, 10, float *, const float *, const float *, const float *, float,
    const float *, const float *, enum activation, size_t, int)
LATE(batchnorm_grad_sums, 9, float *, float *, const float *, const float *, const float *,
    const float *, float, size_t, int)
LATE(batchnorm_grad_input, 11, float *, const float *, const float *, const float *, const float *,
    float, const float *, const float *, const float *, size_t, int)
LATE(dropout_mask, 5, uint8_t *, struct rng_key, float, const struct step *, size_t)
LATE(dropout, 5, float *, const float *, const uint8_t *, float, size_t)
LATE(softmax_cross_entropy, 8, float *, float *, const float *, const int *, float, float, int, int)
LATE(right, 5, float *, const float *, const int *, int, int)
LATE(distance, 4, float *, const float *, const float *, size_t)
LATE(total, 3, float *, const float *, size_t)
LATE(quadratic, 7, float *, float *, const float *, const float *, const float *, const float *,
    size_t)
LATE_SHAPED(conv_forward, conv_shape, 6, float *, const float *, const float *, const float *,
    enum activation, float *)
LATE_SHAPED(conv_grad_input, conv_shape, 4, float *, const float *, const float *, float *)
LATE_SHAPED(conv_grad_weight, conv_shape, 5, float *, float, const float *, const float *, float *)
LATE_SHAPED(maxpool_forward, pool_shape, 3, float *, uint8_t *, const float *)
LATE_SHAPED(maxpool_backward, pool_shape, 3, float *, const float *, const uint8_t *)
LATE_SHAPED(avgpool_forward, pool_shape, 2, float *, const float *)
LATE_SHAPED(avgpool_backward, pool_shape, 2, float *, const float *)

struct sum_call {
    float *v[64];
    int count;
    float scale;
    size_t n;
};

static inline void run_sum(struct stream *q, const void *at) {
    const struct sum_call *c = at;
    kernels_host.sum(q, c->v, c->count, c->scale, c->n);
}

static inline void late_sum(struct stream *q, float *const *v, int count, float scale, size_t n) {
    struct sum_call c = {.count = count, .scale = scale, .n = n};
    if (count > 64) abort();
    memcpy(c.v, v, (size_t)count * sizeof *v);
    late_call(q, "sum", run_sum, &c, sizeof c);
}

static inline size_t late_conv_workspace(const struct stream *q, const struct conv_shape *s) {
    return kernels_host.conv_workspace(q, s);
}

static const struct kernels kernels_late = {
    .fill = late_fill,
    .mix = late_mix,
    .diff = late_diff,
    .elastic = late_elastic,
    .sum = late_sum,
    .sgd = late_sgd,
    .momentum = late_momentum,
    .look_ahead = late_look_ahead,
    .rmsprop = late_rmsprop,
    .adam = late_adam,
    .gemm = late_gemm,
    .bias_act = late_bias_act,
    .act_grad = late_act_grad,
    .act = late_act,
    .add_act = late_add_act,
    .bias_grad = late_bias_grad,
    .conv_workspace = late_conv_workspace,
    .conv_forward = late_conv_forward,
    .conv_grad_input = late_conv_grad_input,
    .conv_grad_weight = late_conv_grad_weight,
    .maxpool_forward = late_maxpool_forward,
    .maxpool_backward = late_maxpool_backward,
    .avgpool_forward = late_avgpool_forward,
    .avgpool_backward = late_avgpool_backward,
    .globalavgpool_forward = late_globalavgpool_forward,
    .globalavgpool_backward = late_globalavgpool_backward,
    .batchnorm_statistics = late_batchnorm_statistics,
    .batchnorm_forward = late_batchnorm_forward,
    .batchnorm_grad_sums = late_batchnorm_grad_sums,
    .batchnorm_grad_input = late_batchnorm_grad_input,
    .dropout_mask = late_dropout_mask,
    .dropout = late_dropout,
    .softmax_cross_entropy = late_softmax_cross_entropy,
    .right = late_right,
    .distance = late_distance,
    .total = late_total,
    .quadratic = late_quadratic,
};

#endif
