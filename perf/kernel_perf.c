/* kernel_perf.c -- each of the host's kernels beside what the machine can do.
 *
 * Kernels that do little with each float are held against plain loops over as many bytes, those that
 * multiply matrices against a loop of fused multiplications and additions that never leaves the
 * registers; the two take turns. Shapes are those of the presets at B = 64. The columns are derived
 * in README.md.
 *
 * usage: kernel_perf [-b BYTES] [-t THREADS] [WORD]     kernels whose name holds WORD
 */
#include <unistd.h>

#include "devices/device.h"
#include "devices/openmp.h"
#include "perf.h"
#include "topology/topology.h"

enum { BATCH = 64, VECTORS = 5 };

/* Floats of room. */
enum { IMAGE = 1 << 21, SMALL = 1 << 17, WORKSPACE = 1 << 22 };

/* One kernel on one shape. What is moved and computed is counted by the job itself. */
struct job {
    const char *name, *shape;
    void (*run)(void *bench);
    size_t updated, read,
        written; /* floats that it must move: in place, or one way; 0: not its bound */
    double flops;
};

struct bench {
    struct device *device;
    struct stream *q;
    const struct kernels *k;
    size_t n;          /* floats of a vector */
    float *v[VECTORS]; /* (n) */
    float *image[3];   /* the largest layer's inputs or outputs */
    float *workspace, *small[4];
    uint8_t *bytes;
    int *label, samples; /* of the losses */
    struct step *step;
    struct conv_shape conv;
    struct pool_shape pool;
    int m, columns, inner, ta, tb; /* gemm */
    size_t rows;                   /* (rows, channels) */
    int channels;
    float *area;    /* for the traffic beside */
    struct job job; /* that is measured */
};

static void must(enum status end) {
    if (end == STATUS_OK) return;
    fprintf(stderr, "kernel_perf: %s\n", fail_message());
    exit(status_exit_code(end));
}

/* ---- bounds ------------------------------------------------------------------------------------- */

enum { PIECE = 256, SUMS = 64 };

/* In sums that do not wait for one another. */
static inline float piece_sum(const float *y) {
    float sum[SUMS], all = 0;
#pragma omp simd
    for (int j = 0; j < SUMS; j++)
        sum[j] = (y[j] + y[SUMS + j]) + (y[2 * SUMS + j] + y[3 * SUMS + j]);
#pragma omp simd reduction(+ : all)
    for (int j = 0; j < SUMS; j++) all += sum[j];
    return all;
}

/* As many floats as the kernel beside it updates, reads and writes, in three plain loops; over the
 * same team. */
static void traffic_run(void *with) {
    struct bench *b = with;
    size_t updated = b->job.updated, read = b->job.read, written = b->job.written;
    float *restrict x = b->area, *restrict y = x + updated, *restrict z = y + read, sum = 0;
    int team = b->q->threads;
#pragma omp parallel num_threads(team) if (team > 1)
    {
#pragma omp for simd schedule(static) nowait
        for (size_t i = 0; i < updated; i++) x[i] = 0.5f * x[i] + 0.5f;
#pragma omp for simd schedule(static) nowait
        for (size_t i = 0; i < written; i++) z[i] = 0.5f;
#pragma omp for schedule(static) reduction(+ : sum)
        for (size_t i = 0; i < read / PIECE; i++) sum += piece_sum(y + i * PIECE);
    }
    b->small[3][0] = sum;
}

/* CHAINS sums of LANES floats each fit the registers, and do not wait for one another. */
#if defined __AVX512F__
enum { CHAINS = 16 };
#elif defined __AVX__
enum { CHAINS = 6 };
#else
enum { CHAINS = 3 };
#endif
enum { LANES = 16, TURNS = 1 << 14 };

static float chains_run(float a, float b) {
    float sum[CHAINS][LANES] = {{0}}, all = 0;
    for (int t = 0; t < TURNS; t++) {
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) {
#pragma omp simd
            for (int l = 0; l < LANES; l++) sum[c][l] = __builtin_fmaf(sum[c][l], a, b);
        }
    }
    for (int c = 0; c < CHAINS; c++) {
        for (int l = 0; l < LANES; l++) all += sum[c][l];
    }
    return all;
}

static const double CHAIN_FLOPS = 2.0 * CHAINS * LANES * TURNS;

static void chains_of_all(void *with) {
    struct bench *b = with;
    float all = 0, a = b->v[1][0], c = b->v[2][0];
#pragma omp parallel for num_threads(b->q->threads) reduction(+ : all) if (b->q->threads > 1)
    for (int t = 0; t < b->q->threads; t++) all += chains_run(a, c + (float)t);
    b->small[3][0] = all;
}

/* ---- vectors and optimizers --------------------------------------------------------------------- */

#define RUN(name, call)                                                                            \
    static void name##_run(void *with) {                                                           \
        struct bench *b = with;                                                                    \
        b->k->call;                                                                                \
    }

RUN(fill, fill(b->q, b->v[0], 1, b->n))
RUN(mix, mix(b->q, b->v[0], 0.5f, 0.5f, b->v[1], b->n))
RUN(diff, diff(b->q, b->v[0], 0.5f, b->v[1], b->v[2], b->n))
RUN(elastic, elastic(b->q, b->v[0], b->v[1], 0.1f, b->n))
RUN(sum, sum(b->q, b->v, 4, 0.25f, b->n))
RUN(distance, distance(b->q, b->small[3], b->v[0], b->v[1], b->n))
RUN(sgd, sgd(b->q, b->v[0], b->v[1], b->step, b->n))
RUN(momentum, momentum(b->q, b->v[0], b->v[1], b->v[2], 0.9f, b->step, b->n))
RUN(look_ahead, look_ahead(b->q, b->v[0], b->v[1], 0.9f, b->v[2], b->n))
RUN(rmsprop, rmsprop(b->q, b->v[0], b->v[3], b->v[2], 0.99f, 0, 1e-8f, b->step, b->n))
RUN(adam, adam(b->q, b->v[0], b->v[1], b->v[3], b->v[2], 0.9f, 0.999f, 0, 1e-8f, b->step, b->n))
RUN(total, total(b->q, b->small[3], b->v[1], b->n))
RUN(dropout_mask,
    dropout_mask(b->q, b->bytes, (struct rng_key){1, RNG_DROPOUT, 0}, 0.5f, b->step, b->n))
RUN(dropout, dropout(b->q, b->v[0], b->v[1], b->bytes, 0.5f, b->n))
RUN(quadratic, quadratic(b->q, b->v[0], b->small[3], b->v[1], b->v[2], b->v[3], b->v[4], b->n))

/* ---- layers ------------------------------------------------------------------------------------- */

RUN(gemm,
    gemm(b->q, 1, b->ta, b->tb, b->m, b->columns, b->inner, 1, b->image[0], b->ta ? b->m : b->inner,
        0, b->image[1], b->tb ? b->inner : b->columns, 0, 0, b->image[2], b->columns, 0))
RUN(conv_forward, conv_forward(b->q, &b->conv, b->image[1], b->image[0], b->small[0], b->small[1],
                      ACTIVATION_RELU, b->workspace))
RUN(conv_grad_input,
    conv_grad_input(b->q, &b->conv, b->image[0], b->image[1], b->small[0], b->workspace))
RUN(conv_grad_weight,
    conv_grad_weight(b->q, &b->conv, b->small[0], 0, b->image[1], b->image[0], b->workspace))
RUN(bias_act, bias_act(b->q, b->image[0], b->small[1], ACTIVATION_RELU, b->rows, b->channels))
RUN(bias_grad, bias_grad(b->q, b->small[0], b->image[0], 0, b->rows, b->channels))
RUN(relu_grad, act_grad(b->q, b->image[0], b->image[1], b->image[2], ACTIVATION_RELU,
                   b->rows *(size_t)b->channels))
RUN(tanh, act(b->q, b->image[0], b->image[1], ACTIVATION_TANH, b->rows *(size_t)b->channels))
RUN(add_relu, add_act(b->q, b->image[0], b->image[1], b->image[2], ACTIVATION_RELU,
                  b->rows *(size_t)b->channels))
RUN(maxpool_forward, maxpool_forward(b->q, &b->pool, b->image[1], b->bytes, b->image[0]))
RUN(maxpool_backward, maxpool_backward(b->q, &b->pool, b->image[0], b->image[1], b->bytes))
RUN(avgpool_forward, avgpool_forward(b->q, &b->pool, b->image[1], b->image[0]))
RUN(avgpool_backward, avgpool_backward(b->q, &b->pool, b->image[0], b->image[1]))
RUN(globalavgpool_forward,
    globalavgpool_forward(b->q, b->small[0], b->image[0], BATCH, b->rows / BATCH, b->channels))
RUN(globalavgpool_backward,
    globalavgpool_backward(b->q, b->image[0], b->small[0], BATCH, b->rows / BATCH, b->channels))
RUN(batchnorm_statistics,
    batchnorm_statistics(b->q, b->small[1], b->small[2], b->image[0], b->rows, b->channels))
RUN(batchnorm_forward, batchnorm_forward(b->q, b->image[1], b->image[0], b->small[1], b->small[2],
                           1e-5f, b->small[0], b->small[3], ACTIVATION_RELU, b->rows, b->channels))
RUN(batchnorm_grad_sums, batchnorm_grad_sums(b->q, b->small[0], b->small[3], b->image[1],
                             b->image[0], b->small[1], b->small[2], 1e-5f, b->rows, b->channels))
RUN(batchnorm_grad_input,
    batchnorm_grad_input(b->q, b->image[2], b->image[1], b->image[0], b->small[1], b->small[2],
        1e-5f, b->small[0], b->small[0], b->small[3], b->rows, b->channels))
RUN(softmax_cross_entropy, softmax_cross_entropy(b->q, b->small[3], b->image[1], b->image[0],
                               b->label, 1, 0, b->samples, 10))
RUN(right, right(b->q, b->small[3], b->image[0], b->label, b->samples, 10))

/* ---- the table ---------------------------------------------------------------------------------- */

/* The job beside its bound: a share of 1 is all that the machine has. */
static void row(struct bench *b, const char *word, struct job job) {
    if (word && !strstr(job.name, word)) return;
    size_t floats = 2 * job.updated + job.read + job.written;
    struct perf_body bodies[] = {
        {.run = job.run, .with = b}, {.run = floats ? traffic_run : chains_of_all, .with = b}};
    b->job = job;
    perf_measure(bodies, 2, 0.02);
    must(stream_sync(b->q));
    double time = perf_median(&bodies[0]), bound = perf_median(&bodies[1]);
    printf("%-24s %-28s %10.1f", job.name, job.shape, 1e6 * time);
    if (floats) {
        double giga = 4e-9 * (double)floats;
        printf(" %8.1f %8s %8.1f %8.2f\n", giga / time, "", giga / bound, bound / time);
    } else {
        double most = CHAIN_FLOPS * b->q->threads / bound;
        printf(" %8s %8.1f %8.1f %8.2f\n", "", 1e-9 * job.flops / time, 1e-9 * most,
            job.flops / time / most);
    }
    fflush(stdout);
}

static void vector_rows(struct bench *b, const char *word) {
    char shape[64];
    const size_t n = b->n;
    const struct job jobs[] = {
        {"fill", shape, fill_run, 0, 0, n, 0},
        {"mix", shape, mix_run, n, n, 0, 0},
        {"diff", shape, diff_run, 0, 2 * n, n, 0},
        {"elastic", shape, elastic_run, 2 * n, 0, 0, 0},
        {"sum of 4", shape, sum_run, 4 * n, 0, 0, 0},
        {"distance", shape, distance_run, 0, 2 * n, 0, 0},
        {"sgd", shape, sgd_run, n, n, 0, 0},
        {"momentum", shape, momentum_run, 2 * n, n, 0, 0},
        {"look_ahead", shape, look_ahead_run, 0, 2 * n, n, 0},
        {"rmsprop", shape, rmsprop_run, 2 * n, n, 0, 0},
        {"adam", shape, adam_run, 3 * n, n, 0, 0},
        {"total", shape, total_run, 0, n, 0, 0},
        {"dropout_mask", shape, dropout_mask_run, 0, 0, n / 4, 0},
        {"dropout", shape, dropout_run, 0, n + n / 4, n, 0},
        {"quadratic", shape, quadratic_run, 0, 4 * n, n, 0},
    };
    snprintf(shape, sizeof shape, "%zu", b->n);
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        for (size_t j = 0; j < VECTORS; j++) b->k->fill(b->q, b->v[j], 1, b->n);
        row(b, word, jobs[i]);
    }
}

static void gemm_row(struct bench *b, const char *word, int ta, int tb, int m, int n, int k) {
    char shape[64];
    snprintf(shape, sizeof shape, "%d x %d x %d%s%s", m, n, k, ta ? ", A'" : "", tb ? ", B'" : "");
    b->ta = ta, b->tb = tb, b->m = m, b->columns = n, b->inner = k;
    row(b, word, (struct job){"gemm", shape, gemm_run, 0, 0, 0, 2.0 * m * n * k});
}

/* The three products of a dense layer. */
static void dense_rows(struct bench *b, const char *word, int batch, int units, int inputs) {
    gemm_row(b, word, 0, 1, batch, units, inputs);
    gemm_row(b, word, 1, 0, units, inputs, batch);
    gemm_row(b, word, 0, 0, batch, inputs, units);
}

/* 'same' convolutions. */
static void conv_rows(struct bench *b, const char *word, int side, int c, int size, int out) {
    char shape[64];
    double flops = 2.0 * BATCH * side * side * size * size * c * out;
    b->conv = (struct conv_shape){.batch = BATCH,
        .h = side,
        .w = side,
        .c = c,
        .size = size,
        .stride = 1,
        .top = size / 2,
        .left = size / 2,
        .out_h = side,
        .out_w = side,
        .out_c = out};
    snprintf(shape, sizeof shape, "%d x %d, %d > %d, %d x %d", side, side, c, out, size, size);
    row(b, word, (struct job){"conv_forward", shape, conv_forward_run, 0, 0, 0, flops});
    row(b, word, (struct job){"conv_grad_input", shape, conv_grad_input_run, 0, 0, 0, flops});
    row(b, word, (struct job){"conv_grad_weight", shape, conv_grad_weight_run, 0, 0, 0, flops});
}

/* What stands behind a convolution: rows (BATCH side side), c channels. */
static void image_rows(struct bench *b, const char *word, int side, int c) {
    char shape[64];
    b->rows = (size_t)BATCH * (size_t)side * (size_t)side;
    b->channels = c;
    b->pool = (struct pool_shape){BATCH, side, side, c, 2, 2, side / 2, side / 2};
    const size_t n = b->rows * (size_t)c, quarter = n / 4, places = n / 16;
    const struct job jobs[] = {
        {"bias_act, relu", shape, bias_act_run, n, 0, 0, 0},
        {"bias_grad", shape, bias_grad_run, 0, n, 0, 0},
        {"act_grad, relu", shape, relu_grad_run, 0, 2 * n, n, 0},
        {"act, tanh", shape, tanh_run, 0, n, n, 0},
        {"add_act, relu", shape, add_relu_run, 0, 2 * n, n, 0},
        {"maxpool_forward", shape, maxpool_forward_run, 0, n, quarter + places, 0},
        {"maxpool_backward", shape, maxpool_backward_run, 0, quarter + places, n, 0},
        {"avgpool_forward", shape, avgpool_forward_run, 0, n, quarter, 0},
        {"avgpool_backward", shape, avgpool_backward_run, 0, quarter, n, 0},
        {"globalavgpool_forward", shape, globalavgpool_forward_run, 0, n, 0, 0},
        {"globalavgpool_backward", shape, globalavgpool_backward_run, 0, 0, n, 0},
        {"batchnorm_statistics", shape, batchnorm_statistics_run, 0, n, 0, 0},
        {"batchnorm_forward", shape, batchnorm_forward_run, 0, n, n, 0},
        {"batchnorm_grad_sums", shape, batchnorm_grad_sums_run, 0, 2 * n, 0, 0},
        {"batchnorm_grad_input", shape, batchnorm_grad_input_run, 0, 2 * n, n, 0},
    };
    snprintf(shape, sizeof shape, "%d x %d x %d x %d", BATCH, side, side, c);
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) row(b, word, jobs[i]);
}

/* Ten classes, many samples: of one batch there would be nothing to measure. */
static void loss_rows(struct bench *b, const char *word) {
    char shape[64];
    const size_t B = (size_t)b->samples;
    snprintf(shape, sizeof shape, "%zu x 10", B);
    row(b, word,
        (struct job){
            "softmax_cross_entropy", shape, softmax_cross_entropy_run, 0, 11 * B, 11 * B, 0});
    row(b, word, (struct job){"right", shape, right_run, 0, 11 * B, B, 0});
}

static float *room(struct bench *b, size_t n) {
    void *at;
    must(device_alloc(b->device, &at, n * sizeof(float)));
    rng_normals((struct rng_key){1, RNG_NOISE, 0}, 0, at, n);
    return at;
}

static void bench_open(struct bench *b, size_t bytes, int threads) {
    *b = (struct bench){.n = bytes / sizeof(float), .samples = 1 << 15};
    must(device_open(&b->device, &device_host, 0, threads));
    must(stream_open(&b->q, b->device));
    b->k = b->q->kernels;
    for (int i = 0; i < VECTORS; i++) b->v[i] = room(b, b->n > IMAGE ? b->n : IMAGE);
    for (int i = 0; i < 3; i++) b->image[i] = room(b, IMAGE);
    for (int i = 0; i < 4; i++) b->small[i] = room(b, SMALL);
    b->workspace = room(b, WORKSPACE);
    b->area = room(b, VECTORS * (b->n > IMAGE ? b->n : IMAGE));
    must(device_alloc(b->device, (void **)&b->bytes, b->n > IMAGE ? b->n : IMAGE));
    must(device_alloc(b->device, (void **)&b->label, (size_t)b->samples * sizeof *b->label));
    must(device_alloc(b->device, (void **)&b->step, sizeof *b->step));
    *b->step = (struct step){.rate = 1e-4f};
    b->k->fill(b->q, b->small[2], 1, SMALL); /* variances */
    for (int i = 0; i < b->samples; i++) b->label[i] = i % 10;
}

static void all_rows(struct bench *b, const char *word) {
    vector_rows(b, word);
    for (int batch = 10; batch <= BATCH; batch += BATCH - 10) {
        dense_rows(b, word, batch, 200, 784);
        dense_rows(b, word, batch, 512, 3136);
    }
    conv_rows(b, word, 28, 1, 5, 32);
    conv_rows(b, word, 14, 32, 5, 64);
    conv_rows(b, word, 32, 16, 3, 16);
    conv_rows(b, word, 16, 32, 3, 32);
    conv_rows(b, word, 8, 64, 3, 64);
    image_rows(b, word, 28, 32);
    image_rows(b, word, 32, 16);
    loss_rows(b, word);
}

static void usage(void) {
    fprintf(stderr, "usage: kernel_perf [-b BYTES] [-t THREADS] [WORD]\n");
    exit(2);
}

int main(int argc, char **argv) {
    size_t bytes = 6653480; /* of mnist_cnn */
    int threads = 1;
    for (int letter; (letter = getopt(argc, argv, "b:t:")) != -1;) {
        if (letter == '?') usage();
        if (letter == 'b') bytes = perf_bytes(optarg);
        if (letter == 't') threads = (int)strtol(optarg, NULL, 10);
    }
    if (bytes < 64 || threads < 1 || optind + 1 < argc) usage();
    struct machine *machine;
    struct bench b;
    must(topology_open(&machine, NULL));
    openmp_settle(threads);
    bench_open(&b, bytes, threads);
    perf_header("kernels", machine->cores);
    printf(
        "# float32, %d thread%s; median of %d\n", threads, threads == 1 ? "" : "s", PERF_SAMPLES);
    printf("#%-23s %-28s %10s %8s %8s %8s %8s\n", "kernel", "shape", "time", "rate", "rate",
        "bound", "share");
    printf("#%-23s %-28s %10s %8s %8s %8s\n", "", "", "(us)", "(GB/s)", "(GF/s)", "(same)");
    all_rows(&b, optind < argc ? argv[optind] : NULL);
    stream_close(b.q);
    device_close(b.device);
    topology_close(machine);
    return 0;
}
