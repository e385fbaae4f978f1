/* host.h -- the host's kernels by name, one for each slot of struct kernels, and how a team of
 * threads shares their work.
 *
 * What each does is said in kernels.h. Included by the host's kernels only.
 */
#ifndef HOST_H
#define HOST_H

#include <string.h>

#include "kernels/stream.h"

/* Units [from, to) of some work. */
struct share {
    size_t from, to;
};

/* The share of n units that number t of a team gets, in multiples of `grain` units. */
static inline struct share share_of(size_t n, size_t grain, int t, int team) {
    size_t grains = (n + grain - 1) / grain;
    size_t from = grains * (size_t)t / (size_t)team * grain;
    size_t to = grains * (size_t)(t + 1) / (size_t)team * grain;
    return (struct share){from < n ? from : n, to < n ? to : n};
}

enum {
    LINE = 16,            /* floats of a cache line: two threads should not write to the same */
    SHARE_LEAST = 1 << 15 /* floats below which waking a team costs more than it brings */
};

/* As many values as a register holds, as one: gcc does not vectorize every loop over channels by
 * itself, and keeps vectors in memory that are wider than registers. */
#if defined __AVX512F__
enum { LANES = 16 };
#elif defined __AVX2__
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t int_lanes __attribute__((vector_size(4 * LANES)));
typedef uint8_t byte_lanes __attribute__((vector_size(LANES)));

static inline lanes lanes_at(const float *at) { return *(const lanes *)at; }

/* n <= LANES floats, zeros behind them. Where n is known to be LANES, it is one instruction. */
static inline lanes lanes_read(const float *at, size_t n) {
    if (n == LANES) return lanes_at(at);
    lanes few = {0};
    memcpy(&few, at, n * sizeof *at);
    return few;
}

static inline void lanes_write(float *at, lanes v, size_t n) {
    if (n == LANES) {
        *(lanes *)at = v;
    } else {
        memcpy(at, &v, n * sizeof *at);
    }
}

/* Calls work(from, to, ...) so that 0 .. n-1 is covered: at once, or by each thread of q's team for
 * its share, in multiples of `grain`. A team of one must not enter a parallel region, which costs
 * more than many a small vector; nor must a team for fewer than SHARE_LEAST `floats`. */
#define SHARE(q, n, grain, floats, work, ...)                                                      \
    do {                                                                                           \
        int team_ = (q)->threads;                                                                  \
        if (team_ <= 1 || (floats) < SHARE_LEAST) {                                                \
            work(0, (n), __VA_ARGS__);                                                             \
            break;                                                                                 \
        }                                                                                          \
        _Pragma("omp parallel for num_threads(team_) schedule(static, 1)") for (int t_ = 0;        \
                                                                                t_ < team_;        \
                                                                                t_++) {            \
            struct share share_ = share_of((n), (grain), t_, team_);                               \
            if (share_.from < share_.to) work(share_.from, share_.to, __VA_ARGS__);                \
        }                                                                                          \
    } while (0)

/* One product as gemm's, on `threads` threads; on the calling one only where it is already one of
 * a team. Returns 0, or what the library said. */
int host_gemm_one(int threads, int ta, int tb, int m, int n, int k, float alpha, const float *A,
    int lda, const float *B, int ldb, float beta, float *C, int ldc);

/* Convolutions without columns, of images [from, to), by the calling thread: where that is faster.
 * Weights are packed first, `room` holds host_tile_room floats. The gradient of the input is
 * the forward of the mirrored shape with mirrored weights, where that one pays. */
int host_tile_forward_pays(const struct conv_shape *s);
int host_tile_grad_input_pays(const struct conv_shape *s);
int host_tile_grad_weight_pays(const struct conv_shape *s);
size_t host_tile_room(const struct conv_shape *s);
struct conv_shape host_tile_mirrored(const struct conv_shape *s);
void host_tile_pack(const struct conv_shape *s, float *packed, const float *W);
void host_tile_pack_mirrored(const struct conv_shape *s, float *packed, const float *W);
void host_tile_forward(const struct conv_shape *s, size_t from, size_t to, float *y, const float *x,
    const float *packed, const float *bias, enum activation act, float *room);
void host_tile_grad_weight(const struct conv_shape *s, size_t from, size_t to, float *sum,
    const float *dz, const float *x, float *room); /* adds to sum */

/* bias_act on rows [from, to), by the calling thread. */
void host_bias_act_rows(
    size_t from, size_t to, float *y, const float *bias, enum activation act, size_t c);

/* act on floats [from, to), by the calling thread; y may be x. */
void host_act_share(size_t from, size_t to, float *y, const float *x, enum activation act);

void host_fill(struct stream *q, float *y, float a, size_t n);
void host_mix(struct stream *q, float *y, float a, float b, const float *x, size_t n);
void host_diff(struct stream *q, float *d, float a, const float *x, const float *y, size_t n);
void host_elastic(struct stream *q, float *x, float *c, float alpha, size_t n);
void host_sum(struct stream *q, float *const *v, int count, float scale, size_t n);
void host_distance(struct stream *q, float *out, const float *x, const float *y, size_t n);

void host_sgd(struct stream *q, float *x, const float *g, const struct step *step, size_t n);
void host_momentum(struct stream *q, float *x, float *v, const float *g, float delta,
    const struct step *step, size_t n);
void host_look_ahead(
    struct stream *q, float *y, const float *x, float delta, const float *v, size_t n);
void host_rmsprop(struct stream *q, float *x, float *s, const float *g, float rho, float inside,
    float outside, const struct step *step, size_t n);
void host_adam(struct stream *q, float *x, float *m, float *s, const float *g, float beta1,
    float beta2, float inside, float outside, const struct step *step, size_t n);

void host_gemm(struct stream *q, int count, int ta, int tb, int m, int n, int k, float alpha,
    const float *A, int lda, size_t stride_a, const float *B, int ldb, size_t stride_b, float beta,
    float *C, int ldc, size_t stride_c);

void host_bias_act(
    struct stream *q, float *y, const float *bias, enum activation act, size_t rows, int c);
void host_act_grad(
    struct stream *q, float *dz, const float *dy, const float *y, enum activation act, size_t n);
void host_act(struct stream *q, float *y, const float *x, enum activation act, size_t n);
void host_add_act(
    struct stream *q, float *y, const float *a, const float *b, enum activation act, size_t n);
void host_bias_grad(struct stream *q, float *db, const float *dz, float beta, size_t rows, int c);

size_t host_conv_workspace(const struct stream *q, const struct conv_shape *s);
void host_conv_forward(struct stream *q, const struct conv_shape *s, float *y, const float *x,
    const float *W, const float *bias, enum activation act, float *workspace);
void host_conv_grad_input(struct stream *q, const struct conv_shape *s, float *dx, const float *dz,
    const float *W, float *workspace);
void host_conv_grad_weight(struct stream *q, const struct conv_shape *s, float *dW, float beta,
    const float *dz, const float *x, float *workspace);

void host_maxpool_forward(
    struct stream *q, const struct pool_shape *s, float *y, uint8_t *where, const float *x);
void host_maxpool_backward(
    struct stream *q, const struct pool_shape *s, float *dx, const float *dy, const uint8_t *where);

void host_avgpool_forward(struct stream *q, const struct pool_shape *s, float *y, const float *x);
void host_avgpool_backward(
    struct stream *q, const struct pool_shape *s, float *dx, const float *dy);
void host_globalavgpool_forward(
    struct stream *q, float *y, const float *x, int batch, size_t pixels, int c);
void host_globalavgpool_backward(
    struct stream *q, float *dx, const float *dy, int batch, size_t pixels, int c);

void host_batchnorm_statistics(
    struct stream *q, float *mean, float *var, const float *x, size_t rows, int c);
void host_batchnorm_forward(struct stream *q, float *y, const float *x, const float *mean,
    const float *var, float eps, const float *weight, const float *bias, enum activation act,
    size_t rows, int c);
void host_batchnorm_grad_sums(struct stream *q, float *dweight, float *dbias, const float *dz,
    const float *x, const float *mean, const float *var, float eps, size_t rows, int c);
void host_batchnorm_grad_input(struct stream *q, float *dx, const float *dz, const float *x,
    const float *mean, const float *var, float eps, const float *weight, const float *dweight,
    const float *dbias, size_t rows, int c);

void host_dropout_mask(struct stream *q, uint8_t *mask, struct rng_key key, float keep,
    const struct step *step, size_t n);
void host_dropout(
    struct stream *q, float *y, const float *x, const uint8_t *mask, float keep, size_t n);

void host_softmax_cross_entropy(struct stream *q, float *loss, float *dlogits, const float *logits,
    const int *label, float scale, float smoothing, int B, int C);
void host_right(
    struct stream *q, float *right, const float *logits, const int *label, int B, int C);
void host_total(struct stream *q, float *out, const float *v, size_t n);

void host_quadratic(struct stream *q, float *g, float *loss, const float *x, const float *h,
    const float *target, const float *noise, size_t n);

#endif
