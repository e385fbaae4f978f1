/* step_perf.c -- a training step beside the matrix products that it cannot do without.
 *
 * For each model and batch: forward, backward and the SGD step of one replica on one thread, with a
 * gradient in between and without; the products alone, on ready operands, by the same gemm; the
 * step on two threads; and two replicas side by side, one thread each. The columns are derived in
 * README.md.
 *
 * usage: step_perf [model [batch]]          2nn, mnist_cnn, easgd_cifar, resnet20
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
    float *a, *b, *c; /* operands of the products alone */
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

/* The three products of a layer: forward, weight gradient, input gradient. */
static int layer_products(const struct layer *l, int batch, struct product out[3]) {
    if (!l->weight.n) return 0;
    int conv = !strcmp(l->ops->name, "conv");
    int count = conv ? batch : 1, rows = conv ? l->out.h * l->out.w : batch;
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
        int n = layer_products(&b->model->layer[i], b->batch, p);
        for (int j = 0; j < n; j++) {
            for (int k = 0; k < p[j].count; k++) one_product(b, p[j]);
        }
    }
}

static double flops(const struct bench *b) {
    double sum = 0;
    struct product p[3];
    for (int i = 0; i < b->model->layers; i++) {
        int n = layer_products(&b->model->layer[i], b->batch, p);
        for (int j = 0; j < n; j++) sum += 2.0 * p[j].count * p[j].m * p[j].n * p[j].k;
    }
    return sum;
}

static size_t largest_operand(const struct bench *b) {
    size_t most = 0;
    struct product p[3];
    for (int i = 0; i < b->model->layers; i++) {
        int n = layer_products(&b->model->layer[i], b->batch, p);
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

static void bench_open(struct bench *b, const struct model *m, int batch, int rank, int threads) {
    size_t B = (size_t)batch, size = shape_size(m->in);
    *b = (struct bench){.model = m, .batch = batch};
    must(device_open(&b->device, &device_host, 0, threads));
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
    *b->step = (struct step){.rate = 1e-4f};
    model_init(m, 1, b->x.at);
    rng_normals((struct rng_key){1, RNG_NOISE, (uint32_t)rank}, 0, b->in, B * size);
    for (int i = 0; i < batch; i++) b->label[i] = i % m->classes;
    size_t most = largest_operand(b);
    b->a = room(b, most);
    b->b = room(b, most);
    b->c = room(b, most);
    rng_normals((struct rng_key){2, RNG_NOISE, 0}, 0, b->a, most);
    rng_normals((struct rng_key){3, RNG_NOISE, 0}, 0, b->b, most);
}

static void bench_close(struct bench *b) {
    net_close(b->net);
    stream_close(b->q);
    device_close(b->device);
}

/* ---- two replicas ----------------------------------------------------------------------------- */

struct replica {
    pthread_t thread;
    const struct machine *machine;
    struct place place;
    const struct model *model;
    int batch, rank;
    pthread_barrier_t *barrier;
    double seconds; /* a step, while the other replica runs as well */
};

static void *replica_main(void *arg) {
    struct replica *r = arg;
    struct bench b;
    topology_bind(r->machine, &r->place);
    openmp_settle(1);
    bench_open(&b, r->model, r->batch, r->rank, 1);
    struct perf_body body = {step_run, &b, {0}};
    step_run(&b);
    long calls = (long)(0.5 / perf_time(&body, 2)) + 1;
    pthread_barrier_wait(r->barrier);
    r->seconds = perf_time(&body, calls);
    pthread_barrier_wait(r->barrier);
    bench_close(&b);
    return NULL;
}

static double two_replicas(const struct machine *machine, const struct model *m, int batch) {
    struct place places[2];
    struct replica replica[2];
    pthread_barrier_t barrier;
    must(plan_places(machine, 2, 1, places));
    pthread_barrier_init(&barrier, NULL, 2);
    for (int i = 0; i < 2; i++) {
        replica[i] = (struct replica){.machine = machine,
            .place = places[i],
            .model = m,
            .batch = batch,
            .rank = i,
            .barrier = &barrier};
        pthread_create(&replica[i].thread, NULL, replica_main, &replica[i]);
    }
    for (int i = 0; i < 2; i++) pthread_join(replica[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
    return (replica[0].seconds + replica[1].seconds) / 2;
}

/* What the command line asks for. */
struct choice {
    const char *model; /* NULL: all */
    int batch;         /* 0: both */
};

static void row(const struct machine *machine, struct choice choice, const char *preset,
    struct shape in, int batch) {
    struct model *m;
    struct bench one, two;
    if (choice.model && strcmp(choice.model, preset) != 0) return;
    if (choice.batch && choice.batch != batch) return;
    must(model_open(&m, preset, in, 10));
    bench_open(&one, m, batch, 0, 1);
    bench_open(&two, m, batch, 0, 2);
    struct perf_body bodies[] = {{step_run, &one, {0}}, {products_run, &one, {0}},
        {apart_run, &one, {0}}, {step_run, &two, {0}}};
    perf_measure(bodies, machine->cores > 1 ? 4 : 3, 0.05);
    openmp_settle(1);
    double step = perf_median(&bodies[0]), products = perf_median(&bodies[1]);
    printf("%-12s %6d %10.0f %10.0f %10.0f %8.2f %8.1f %10.0f %10.0f %10.0f", preset, batch,
        1e6 * step, 1e6 * bodies[0].sample[0], 1e6 * products, products / step,
        1e-9 * flops(&one) / step, 1 / step, batch / step, 1e6 * perf_median(&bodies[2]));
    bench_close(&one);
    bench_close(&two);
    if (machine->cores > 1) {
        double pair = two_replicas(machine, m, batch);
        printf(" %10.0f %10.0f %8.2f", 1e6 * perf_median(&bodies[3]), 1e6 * pair, 2 * step / pair);
    }
    printf("\n");
    fflush(stdout);
    model_close(m);
}

int main(int argc, char **argv) {
    struct machine *machine;
    const struct shape mnist = {28, 28, 1}, crop = {28, 28, 3}, cifar = {32, 32, 3};
    const struct choice choice = {argc > 1 ? argv[1] : NULL, argc > 2 ? atoi(argv[2]) : 0};
    must(topology_open(&machine, NULL));
    openmp_settle(1);
    perf_header("step", machine->cores);
    printf("# forward, backward and SGD step, float32, one thread a replica; median of %d\n",
        PERF_SAMPLES);
    printf("#%-11s %6s %10s %10s %10s %8s %8s %10s %10s %10s %10s %10s %8s\n", "model", "batch",
        "step", "least", "products", "share", "rate", "steps", "samples", "apart", "two", "pair",
        "pair");
    printf("#%-11s %6s %10s %10s %10s %8s %8s %10s %10s %10s %10s %10s %8s\n", "", "", "(us)",
        "(us)", "(us)", "", "(GF/s)", "(1/s)", "(1/s)", "(us)", "(us)", "(us)", "gain");
    for (int batch = 10; batch <= 64; batch += 54) {
        row(machine, choice, "2nn", mnist, batch);
        row(machine, choice, "mnist_cnn", mnist, batch);
        row(machine, choice, "easgd_cifar", crop, batch);
        row(machine, choice, "resnet20", cifar, batch);
    }
    topology_close(machine);
    return 0;
}
