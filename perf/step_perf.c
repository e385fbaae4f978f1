/* step_perf.c -- a training step beside the matrix products that it cannot do without.
 *
 * For each model and batch: forward, backward and the SGD step of one replica on one thread, with a
 * gradient in between and without; the products alone, on ready operands, by the same gemm; the
 * step on two threads; and two replicas side by side, one thread each. On a GPU: the step as a
 * graph and kernel by kernel, the products alone, and several replicas on the one GPU. The columns
 * are derived in README.md.
 *
 * usage: step_perf [host|cuda] [model [batch]]          2nn, mnist_cnn, easgd_cifar, resnet20
 *        CUDNN=0 in the environment: cuDNN does not convolve
 */
#include <pthread.h>

#include "devices/device.h"
#include "devices/openmp.h"
#include "nn/layer.h"
#include "nn/net.h"
#include "nn/optimizer.h"
#include "perf.h"
#include "topology/topology.h"

struct bench {
    const struct model *model;
    int batch;
    struct device *device;
    struct stream *q;
    struct net *net;
    struct optimizer optimizer;
    struct vec x, g, buffers;
    float *in, *dlogits, *descent, *loss;
    int *label;
    struct step *step;
    float *a, *b, *c;        /* operands of the products alone */
    struct capture *capture; /* of a step, on a GPU */
};

static void must(enum status end) {
    if (end == STATUS_OK) return;
    fprintf(stderr, "step_perf: %s\n", fail_message());
    exit(status_exit_code(end));
}

static float *room(struct bench *b, size_t n) {
    void *at;
    must(device_alloc(b->device, &at, n * sizeof(float)));
    return at;
}

/* ---- the products ----------------------------------------------------------------------------- */

struct product {
    int count, ta, tb, m, n, k;
};

static void one_product(struct bench *b, struct product p) {
    b->q->kernels->gemm(b->q, 1, p.ta, p.tb, p.m, p.n, p.k, 1, b->a, p.ta ? p.m : p.k, 0, b->b,
        p.tb ? p.k : p.n, 0, 0, b->c, p.n, 0);
}

/* The three products of a layer: forward, weight gradient, input gradient. A convolution's are
 * done image by image on the host, and for the whole batch at once on a GPU. */
static int layer_products(const struct bench *b, const struct layer *l, struct product out[3]) {
    int gpu = !b->device->ops->host_memory, batch = b->batch;
    if (!l->weight.n) return 0;
    int conv = !strcmp(l->ops->name, "conv");
    int count = conv && !gpu ? batch : 1, rows = conv ? l->out.h * l->out.w : batch;
    if (conv && gpu) rows *= batch;
    int inner = conv ? l->size * l->size * l->in.c : (int)shape_size(l->in), units = l->units;
    out[0] = (struct product){count, 0, !conv, rows, units, inner};
    out[1] = conv ? (struct product){count, 1, 0, inner, units, rows}
                  : (struct product){count, 1, 0, units, inner, rows};
    out[2] = (struct product){count, 0, conv, rows, inner, units};
    return l->position == 1 ? 2 : 3; /* nobody asks for the gradient of the samples */
}

static void products_run(void *with) {
    struct bench *b = with;
    struct product p[3];
    for (int i = 0; i < b->model->layers; i++) {
        int n = layer_products(b, &b->model->layer[i], p);
        for (int j = 0; j < n; j++) {
            for (int k = 0; k < p[j].count; k++) one_product(b, p[j]);
        }
    }
}

static double flops(const struct bench *b) {
    double sum = 0;
    struct product p[3];
    for (int i = 0; i < b->model->layers; i++) {
        int n = layer_products(b, &b->model->layer[i], p);
        for (int j = 0; j < n; j++) sum += 2.0 * p[j].count * p[j].m * p[j].n * p[j].k;
    }
    return sum;
}

static size_t largest_operand(const struct bench *b) {
    size_t most = 0;
    struct product p[3];
    for (int i = 0; i < b->model->layers; i++) {
        int n = layer_products(b, &b->model->layer[i], p);
        for (int j = 0; j < n; j++) {
            size_t sizes[] = {(size_t)p[j].m * (size_t)p[j].k, (size_t)p[j].k * (size_t)p[j].n,
                (size_t)p[j].m * (size_t)p[j].n};
            for (int k = 0; k < 3; k++) most = sizes[k] > most ? sizes[k] : most;
        }
    }
    return most;
}

/* ---- the step --------------------------------------------------------------------------------- */

static void learn(struct bench *b) {
    const float *logits = net_forward(b->net, b->x, b->buffers, b->in, b->batch, b->step);
    b->q->kernels->softmax_cross_entropy(b->q, b->loss, b->dlogits, logits, b->label,
        1 / (float)b->batch, 0, b->batch, b->model->classes);
}

/* As worker_grad and worker_step do it. */
static void apart_run(void *with) {
    struct bench *b = with;
    learn(b);
    net_backward(b->net, b->g, 0, b->dlogits, NULL);
    optimizer_step(&b->optimizer, b->q, b->x, b->g, (struct range){0, b->model->floats}, b->step);
}

/* As worker_descend does it. */
static void step_run(void *with) {
    struct bench *b = with;
    size_t n = (size_t)b->batch * (size_t)b->model->classes;
    learn(b);
    b->q->kernels->fill(b->q, b->descent, 0, n);
    b->q->kernels->sgd(b->q, b->descent, b->dlogits, b->step, n);
    net_backward(b->net, b->x, 1, b->descent, NULL);
}

/* Memory of the device <- n floats with normal deviation. */
static void fill(struct bench *b, float *to, size_t n, struct rng_key key) {
    float *from = malloc(n * sizeof *from);
    if (!from) abort();
    rng_normals(key, 0, from, n);
    stream_copy(b->q, to, from, n * sizeof *from);
    must(stream_sync(b->q));
    free(from);
}

static void bench_fill(struct bench *b, int rank) {
    const struct model *m = b->model;
    const struct step step = {.rate = 1e-4f};
    float *x = malloc(m->floats * sizeof *x);
    int *label = malloc((size_t)b->batch * sizeof *label);
    if (!x || !label) abort();
    model_init(m, 1, x);
    for (int i = 0; i < b->batch; i++) label[i] = i % m->classes;
    stream_copy(b->q, b->x.at, x, m->floats * sizeof *x);
    stream_copy(b->q, b->label, label, (size_t)b->batch * sizeof *label);
    stream_copy(b->q, b->step, &step, sizeof step);
    must(stream_sync(b->q));
    free(x);
    free(label);
    fill(b, b->in, (size_t)b->batch * shape_size(m->in),
        (struct rng_key){1, RNG_NOISE, (uint32_t)rank});
}

static void bench_open(struct bench *b, const struct device_ops *ops, const struct model *m,
    int batch, int rank, int threads) {
    size_t B = (size_t)batch, size = shape_size(m->in);
    *b = (struct bench){.model = m, .batch = batch};
    must(device_open(&b->device, ops, 0, threads));
    const char *cudnn = getenv("CUDNN");
    b->device->cudnn = !cudnn || strcmp(cudnn, "0") != 0;
    must(stream_open(&b->q, b->device));
    must(net_open(&b->net, m, b->q, batch, 1, rank));
    must(optimizer_open(&b->optimizer, (struct optimizer_settings){0}, b->device, m->floats));
    b->x = (struct vec){room(b, m->floats), m->floats};
    b->g = (struct vec){room(b, m->floats), m->floats};
    b->buffers = (struct vec){room(b, m->buffers), m->buffers};
    b->in = room(b, B * size);
    b->dlogits = room(b, B * (size_t)m->classes);
    b->descent = room(b, B * (size_t)m->classes);
    b->loss = room(b, B);
    must(device_alloc(b->device, (void **)&b->label, B * sizeof *b->label));
    must(device_alloc(b->device, (void **)&b->step, sizeof *b->step));
    bench_fill(b, rank);
}

/* For the products alone. */
static void operands_open(struct bench *b) {
    size_t most = largest_operand(b);
    b->a = room(b, most);
    b->b = room(b, most);
    b->c = room(b, most);
    fill(b, b->a, most, (struct rng_key){2, RNG_NOISE, 0});
    fill(b, b->b, most, (struct rng_key){3, RNG_NOISE, 0});
}

static void bench_close(struct bench *b) {
    capture_close(b->capture, b->device);
    net_close(b->net);
    stream_close(b->q);
    device_close(b->device);
}

/* Two steps first, for what is loaded or chosen when it is first used. */
static void bench_capture(struct bench *b) {
    for (int i = 0; i < 2; i++) step_run(b);
    must(stream_sync(b->q));
    if (!stream_can_replay(b->q)) return;
    must(stream_capture_begin(b->q));
    step_run(b);
    must(stream_capture_end(b->q, &b->capture));
}

static void replay_run(void *with) {
    struct bench *b = with;
    if (b->capture) {
        stream_replay(b->q, b->capture);
    } else {
        step_run(b);
    }
}

static void bench_finish(void *with) { must(stream_sync(((struct bench *)with)->q)); }

/* ---- several replicas ----------------------------------------------------------------------------- */

enum { REPLICAS_MOST = 8, CROWDS = 4 };

struct crowd;

struct replica {
    struct crowd *crowd;
    pthread_t thread;
    int rank;
};

/* Replicas on threads of their own, of which the first 1, 2, 4 ... step at once, in turn. */
struct crowd {
    const struct machine *machine;
    const struct device_ops *ops;
    const struct model *model;
    int batch, counts;
    struct place place[REPLICAS_MOST];
    struct replica replica[REPLICAS_MOST];
    pthread_barrier_t barrier;
    long calls[CROWDS];
    double seconds[CROWDS][PERF_SAMPLES]; /* a step, until the last has done */
};

static int replicas_of(const struct crowd *c) { return 1 << (c->counts - 1); }

/* The first 2^k replicas step `calls` times each, the others wait. Seconds a step of each. */
static double time_crowd(struct replica *r, struct perf_body *body, int k, long calls) {
    pthread_barrier_wait(&r->crowd->barrier);
    double start = clock_seconds();
    if (r->rank < 1 << k) (void)perf_time(body, calls);
    pthread_barrier_wait(&r->crowd->barrier);
    return (clock_seconds() - start) / (double)calls;
}

static void *replica_main(void *arg) {
    struct replica *r = arg;
    struct crowd *c = r->crowd;
    struct bench b;
    topology_bind(c->machine, &c->place[r->rank]);
    openmp_settle(1);
    bench_open(&b, c->ops, c->model, c->batch, r->rank, 1);
    bench_capture(&b);
    struct perf_body body = {replay_run, &b, {0}, bench_finish};
    for (int k = 0; k < c->counts; k++) {
        (void)time_crowd(r, &body, k, PERF_WARMUP);
        double once = time_crowd(r, &body, k, 2);
        if (r->rank == 0) c->calls[k] = (long)(0.05 / once) + 1;
    }
    pthread_barrier_wait(&c->barrier);
    for (int s = 0; s < PERF_SAMPLES; s++) {
        for (int k = 0; k < c->counts; k++) {
            double seconds = time_crowd(r, &body, k, c->calls[k]);
            if (r->rank == 0) c->seconds[k][s] = seconds;
        }
    }
    bench_close(&b);
    return NULL;
}

static void crowd_run(struct crowd *c) {
    int count = replicas_of(c);
    must(plan_places(c->machine, count, 1, c->place));
    pthread_barrier_init(&c->barrier, NULL, (unsigned)count);
    for (int i = 0; i < count; i++) {
        c->replica[i] = (struct replica){.crowd = c, .rank = i};
        pthread_create(&c->replica[i].thread, NULL, replica_main, &c->replica[i]);
    }
    for (int i = 0; i < count; i++) pthread_join(c->replica[i].thread, NULL);
    pthread_barrier_destroy(&c->barrier);
}

static double middle(double sample[PERF_SAMPLES]) {
    qsort(sample, PERF_SAMPLES, sizeof *sample, perf_order);
    return sample[PERF_SAMPLES / 2];
}

/* Samples a second of 2^k replicas over those of one: the median of neighbors' ratios. */
static double crowd_gain(const struct crowd *c, int k) {
    double gain[PERF_SAMPLES];
    for (int s = 0; s < PERF_SAMPLES; s++) {
        gain[s] = (1 << k) * c->seconds[0][s] / c->seconds[k][s];
    }
    return middle(gain);
}

/* ---- rows ------------------------------------------------------------------------------------- */

/* What the command line asks for. */
struct choice {
    const struct machine *machine;
    const struct device_ops *ops;
    const char *model; /* NULL: all */
    int batch;         /* 0: all */
};

static void host_row(const struct machine *machine, const struct model *m, int batch) {
    struct bench one, two;
    bench_open(&one, &device_host, m, batch, 0, 1);
    bench_open(&two, &device_host, m, batch, 0, 2);
    operands_open(&one);
    struct perf_body bodies[] = {{.run = step_run, .with = &one},
        {.run = products_run, .with = &one}, {.run = apart_run, .with = &one},
        {.run = step_run, .with = &two}};
    perf_measure(bodies, machine->cores > 1 ? 4 : 3, 0.05);
    openmp_settle(1);
    double step = perf_median(&bodies[0]), products = perf_median(&bodies[1]);
    printf("%10.0f %10.0f %10.0f %8.2f %8.1f %10.0f %10.0f %10.0f", 1e6 * step,
        1e6 * bodies[0].sample[0], 1e6 * products, products / step, 1e-9 * flops(&one) / step,
        1 / step, batch / step, 1e6 * perf_median(&bodies[2]));
    bench_close(&one);
    bench_close(&two);
    if (machine->cores > 1) {
        struct crowd crowd = {
            .machine = machine, .ops = &device_host, .model = m, .batch = batch, .counts = 2};
        crowd_run(&crowd);
        double gain = crowd_gain(&crowd, 1);
        printf(" %10.0f %10.0f %10.0f %8.2f", 1e6 * perf_median(&bodies[3]),
            1e6 * middle(crowd.seconds[0]), 1e6 * middle(crowd.seconds[1]), gain);
    }
}

static void gpu_row(const struct choice *c, const struct model *m, int batch) {
    struct bench b;
    char convolution[160];
    bench_open(&b, c->ops, m, batch, 0, 1);
    stream_convolves(b.q, convolution);
    operands_open(&b);
    bench_capture(&b);
    struct perf_body bodies[] = {{.run = replay_run, .with = &b, .finish = bench_finish},
        {.run = products_run, .with = &b, .finish = bench_finish},
        {.run = step_run, .with = &b, .finish = bench_finish}};
    perf_measure(bodies, 3, 0.05);
    double step = perf_median(&bodies[0]), products = perf_median(&bodies[1]);
    printf("%10.1f %10.1f %10.1f %8.2f %8.1f %10.0f %10.0f %10.1f", 1e6 * step,
        1e6 * bodies[0].sample[0], 1e6 * products, products / step, 1e-9 * flops(&b) / step,
        1 / step, batch / step, 1e6 * perf_median(&bodies[2]));
    bench_close(&b);
    struct crowd crowd = {
        .machine = c->machine, .ops = c->ops, .model = m, .batch = batch, .counts = CROWDS};
    crowd_run(&crowd);
    for (int k = 1; k < CROWDS; k++) printf(" %8.2f", crowd_gain(&crowd, k));
    if (*convolution) printf("  %s", convolution);
}

static void row(const struct choice *c, const char *preset, struct shape in, int batch) {
    struct model *m;
    if (c->model && strcmp(c->model, preset) != 0) return;
    if (c->batch && c->batch != batch) return;
    must(model_open(&m, preset, in, 10));
    printf("%-12s %6d ", preset, batch);
    if (c->ops->host_memory) {
        host_row(c->machine, m, batch);
    } else {
        gpu_row(c, m, batch);
    }
    printf("\n");
    fflush(stdout);
    model_close(m);
}

static void rows(const struct choice *c, int batch) {
    const struct shape mnist = {28, 28, 1}, crop = {28, 28, 3}, cifar = {32, 32, 3};
    row(c, "2nn", mnist, batch);
    row(c, "mnist_cnn", mnist, batch);
    row(c, "easgd_cifar", crop, batch);
    row(c, "resnet20", cifar, batch);
}

static void host_rows(const struct choice *c) {
    printf("# forward, backward and SGD step, float32, one thread a replica; median of %d\n",
        PERF_SAMPLES);
    printf("#%-11s %6s %10s %10s %10s %8s %8s %10s %10s %10s %10s %10s %10s %8s\n", "model",
        "batch", "step", "least", "products", "share", "rate", "steps", "samples", "apart", "two",
        "alone", "pair", "pair");
    printf("#%-11s %6s %10s %10s %10s %8s %8s %10s %10s %10s %10s %10s %10s %8s\n", "", "", "(us)",
        "(us)", "(us)", "", "(GF/s)", "(1/s)", "(1/s)", "(us)", "(us)", "(us)", "(us)", "gain");
    for (int batch = 10; batch <= 64; batch += 54) rows(c, batch);
}

static void gpu_rows(const struct choice *c) {
    struct device *d;
    must(device_open(&d, c->ops, 0, 1));
    printf(
        "# forward, backward and SGD step, float32, on %s; median of %d\n", d->name, PERF_SAMPLES);
    device_close(d);
    printf("#%-11s %6s %10s %10s %10s %8s %8s %10s %10s %10s %8s %8s %8s  %s\n", "model", "batch",
        "step", "least", "products", "share", "rate", "steps", "samples", "launches", "two", "four",
        "eight", "convolutions");
    printf("#%-11s %6s %10s %10s %10s %8s %8s %10s %10s %10s %8s %8s %8s\n", "", "", "(us)", "(us)",
        "(us)", "", "(GF/s)", "(1/s)", "(1/s)", "(us)", "gain", "gain", "gain");
    static const int batch[] = {10, 16, 32, 128, 512};
    for (int i = 0; i < 5; i++) rows(c, batch[i]);
}

int main(int argc, char **argv) {
    struct machine *machine;
    const struct device_ops *ops = perf_kind("step_perf", &argc, &argv);
    must(topology_open(&machine, NULL));
    openmp_settle(1);
    perf_header("step", machine->cores);
    const struct choice choice = {
        machine, ops, argc > 1 ? argv[1] : NULL, argc > 2 ? atoi(argv[2]) : 0};
    if (choice.ops->host_memory) {
        host_rows(&choice);
    } else {
        gpu_rows(&choice);
    }
    topology_close(machine);
    return 0;
}
