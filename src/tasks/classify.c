/* classify.c -- images and their classes: a data set, a model, softmax and cross entropy. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "datasets/dataset.h"
#include "datasets/loader.h"
#include "datasets/synthetic.h"
#include "nn/net.h"
#include "tasks/losses.h"

/* Groups "data" and "model"; "synthetic" is of datasets/synthetic.h. */
struct data_options {
    char set[32], path[256];
    int batch, sampling, reshuffle, normalize, threads, side, crop, flip;
    float holdout;
};

struct model_options {
    char layers[1024];
    float smoothing;
};

struct classify {
    struct task base;
    struct data_options data;
    struct model_options layers;
    struct synthetic_settings synthetic;
    struct task_setup setup;
    struct dataset *dataset;
    struct model *model;
    struct feeder *feeder;
};

/* A batch where the kernels can read it. */
struct staged {
    const float *in; /* (B, h, w, c) */
    const int *label;
};

/* Of a batch on the device: one may come while the other is read. */
enum { PLACES = 2 };

struct classifier { /* a learner */
    struct learner base;
    struct loader *loader;
    long given_back; /* batches, of those that the loader has handed out */
    struct net *net;
    struct arena arena;  /* the loader's batches */
    struct batch judge;  /* a batch of what is judged, pinned */
    struct staged fed;   /* what the next gradient is for */
    float *in[PLACES];   /* (B, h, w, c), device */
    int *label[PLACES];  /* (B) */
    float *dlogits;      /* (B, classes) */
    float *descent;      /* the same, times -rate */
    float *loss, *right; /* (B); (1) sums behind them */
    float *sums;         /* (2) */
    float *statistics;   /* (buffers) of one batch */
    struct losses losses;

    /* Where the kernels cannot read the host's memory: batches travel on a stream of their own. */
    struct stream *copies;
    struct event *arrived;      /* of copies: the batch that was sent last */
    struct event *left[PLACES]; /* of the base's stream: as it was when that place was fed last */
};

static const struct option data_options[] = {
    {"set", OPTION_TEXT, offsetof(struct data_options, set), 0, 0, 32,
        "digits, mnist, fashion, cifar10 or synthetic", "digits"},
    {"path", OPTION_TEXT, offsetof(struct data_options, path), 0, 0, 256,
        "its folder; \"\": $HUDDLE_DATA/<set>, data/<set>, then the installed one", ""},
    {"batch", OPTION_INT, offsetof(struct data_options, batch), 32, 1, 65536,
        "samples in a gradient, B, for each worker", NULL},
    {"sampling", OPTION_CHOICE, offsetof(struct data_options, sampling), SAMPLING_WHOLE, 0, 1,
        "whole|shards: each worker draws from the whole set, or from a share of its own", NULL},
    {"reshuffle", OPTION_INT, offsetof(struct data_options, reshuffle), 1, 0, 1,
        "shards: 1 cuts them anew at each pass, 0 keeps them", NULL},
    {"normalize", OPTION_CHOICE, offsetof(struct data_options, normalize), NORMALIZE_STANDARD, 0, 1,
        "standard|unit: each channel to mean 0 and deviation 1, or to 0 .. 1", NULL},
    {"holdout", OPTION_REAL, offsetof(struct data_options, holdout), 0, 0, 0.9,
        "share of the training part that is judged instead of the test part", NULL},
    {"side", OPTION_INT, offsetof(struct data_options, side), 0, 0, 4096,
        "learn from crops of side x side, at random places; the middle is judged; 0: whole images",
        NULL},
    {"crop", OPTION_INT, offsetof(struct data_options, crop), 0, 0, 64,
        "learn from random crops of images with so many pixels of zeros around them; 0: off", NULL},
    {"flip", OPTION_INT, offsetof(struct data_options, flip), 0, 0, 1,
        "1 mirrors every other sample that is learned from, left to right", NULL},
    {"threads", OPTION_INT, offsetof(struct data_options, threads), -1, -1, 64,
        "threads that load in the background; -1: one, where a core is spare", NULL},
    {0},
};

static const struct option model_options[] = {
    {"layers", OPTION_TEXT, offsetof(struct model_options, layers), 0, 0, 1024,
        "a preset, or layers: \"conv 16 3 same, relu, maxpool 2, dense 10\"", "digits_cnn"},
    {"smoothing", OPTION_REAL, offsetof(struct model_options, smoothing), 0, 0, 0.999,
        "share of each label that is spread over all classes in training; 0: none", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"data", "what is learned from", data_options},
    {"model", "what learns it; `huddle help models` lists layers and presets", model_options},
    {"synthetic", "images drawn from the seed, for data.set=synthetic", synthetic_options},
    {0},
};

/* ---- the task --------------------------------------------------------------------------------- */

static struct loader_settings loading(const struct classify *t, int rank) {
    return (struct loader_settings){
        .seed = t->setup.seed,
        .rank = rank,
        .workers = t->setup.workers,
        .batch = t->data.batch,
        .sampling = t->data.sampling,
        .reshuffle = t->data.reshuffle,
        .crop = t->data.crop,
        .flip = t->data.flip,
    };
}

static enum status classify_open(struct task *base, const struct task_setup *setup) {
    struct classify *t = (struct classify *)base;
    t->setup = *setup;
    t->setup.settings = NULL;
    TRY(settings_apply(setup->settings, "data", data_options, &t->data));
    TRY(settings_apply(setup->settings, "model", model_options, &t->layers));
    TRY(settings_apply(setup->settings, "synthetic", synthetic_options, &t->synthetic));
    struct dataset_settings set = {
        .name = t->data.set,
        .path = t->data.path,
        .normalize = t->data.normalize,
        .holdout = t->data.holdout,
        .side = t->data.side,
        .seed = setup->seed,
        .synthetic = t->synthetic,
    };
    TRY(dataset_open(&t->dataset, &set));
    const struct loader_settings each = loading(t, 0);
    TRY(loader_check(t->dataset, &each));
    const struct samples *train = &t->dataset->train;
    struct shape in = {dataset_h(t->dataset), dataset_w(t->dataset), train->c};
    TRY(model_open(&t->model, t->layers.layers, in, train->classes));
    if (t->data.threads < 0) t->data.threads = setup->spare_threads > 0;
    TRY(feeder_open(&t->feeder, t->data.threads));
    base->floats = t->model->floats;
    base->buffers = t->model->buffers;
    base->parameters = t->model->parameters;
    base->epoch = train->n;
    base->batch = t->data.batch;
    base->has_accuracy = 1;
    return STATUS_OK;
}

static void classify_close(struct task *base) {
    struct classify *t = (struct classify *)base;
    feeder_close(t->feeder);
    model_close(t->model);
    dataset_close(t->dataset);
}

static void classify_init(const struct task *base, float *x) {
    const struct classify *t = (const struct classify *)base;
    model_init(t->model, t->setup.seed, x);
    model_init_buffers(t->model, x + t->model->floats);
}

static int classify_tensor(const struct task *base, int i, struct tensor *out) {
    const struct model *m = ((const struct classify *)base)->model;
    if (i >= m->parts + m->buffer_parts) return 0;
    const struct part *part = i < m->parts ? &m->part[i] : &m->buffer[i - m->parts];
    *out = (struct tensor){.range = part->range, .dims = part->dims};
    if (i >= m->parts) out->range.offset += m->floats;
    memcpy(out->name, part->name, sizeof out->name);
    memcpy(out->dim, part->dim, sizeof out->dim);
    return 1;
}

static void classify_write_options(const struct task *base, FILE *f) {
    const struct classify *t = (const struct classify *)base;
    options_write(f, "data", data_options, &t->data);
    options_write(f, "model", model_options, &t->layers);
    if (strcmp(t->data.set, "synthetic") != 0) return;
    options_write(f, "synthetic", synthetic_options, &t->synthetic);
}

static void classify_describe(const struct task *base, char *text, size_t n) {
    const struct classify *t = (const struct classify *)base;
    snprintf(text, n, "%zu parameters in %s", t->model->parameters, t->model->line);
}

/* ---- learners --------------------------------------------------------------------------------- */

static enum status open_loader(struct classifier *l, struct classify *t, uint64_t drawn) {
    struct loader_settings set = loading(t, l->base.rank);
    struct device *d = l->base.q->device;
    if (!d->ops->host_memory) set.device = d;
    TRY(loader_open(&l->loader, t->dataset, &set, &l->arena));
    loader_seek(l->loader, drawn);
    return feeder_add(t->feeder, l->loader);
}

static enum status open_copies(struct classifier *l) {
    struct device *d = l->base.q->device;
    if (d->ops->host_memory) return STATUS_OK;
    TRY(stream_open_for_copies(&l->copies, d));
    for (int i = 0; i < PLACES; i++) TRY(event_open(&l->left[i], d));
    return event_open(&l->arrived, d);
}

static enum status open_buffers(struct classifier *l, struct classify *t) {
    struct device *d = l->base.q->device;
    size_t B = (size_t)t->data.batch, size = shape_size(t->model->in);
    TRY(device_pinned(d, (void **)&l->judge.x, B * size * sizeof(float)));
    TRY(device_pinned(d, (void **)&l->judge.label, B * sizeof(int)));
    for (int i = 0; i < PLACES && !d->ops->host_memory; i++) {
        TRY(device_alloc(d, (void **)&l->in[i], B * size * sizeof **l->in));
        TRY(device_alloc(d, (void **)&l->label[i], B * sizeof **l->label));
    }
    size_t logits = B * (size_t)t->model->classes;
    TRY(device_alloc(d, (void **)&l->dlogits, logits * sizeof *l->dlogits));
    TRY(device_alloc(d, (void **)&l->descent, logits * sizeof *l->descent));
    TRY(device_alloc(d, (void **)&l->loss, B * sizeof *l->loss));
    TRY(device_alloc(d, (void **)&l->right, B * sizeof *l->right));
    if (t->model->buffers) {
        TRY(device_alloc(d, (void **)&l->statistics, t->model->buffers * sizeof *l->statistics));
    }
    TRY(losses_open(&l->losses, &l->base));
    return device_alloc(d, (void **)&l->sums, 2 * sizeof *l->sums);
}

static enum status classify_learner_open(
    struct task *base, struct learner **out, int rank, struct stream *q, uint64_t drawn) {
    struct classify *t = (struct classify *)base;
    struct classifier *l = calloc(1, sizeof *l);
    *out = (struct learner *)l;
    if (!l) return fail(STATUS_FAILED, "no memory for a learner");
    l->base = (struct learner){.task = base, .rank = rank, .q = q};
    TRY(open_loader(l, t, drawn));
    TRY(net_open(&l->net, t->model, q, t->data.batch, t->setup.seed, rank));
    TRY(open_copies(l));
    return open_buffers(l, t);
}

static uint64_t classify_drawn(const struct learner *l) {
    return loader_drawn(((const struct classifier *)l)->loader);
}

/* A run that fails may end before its batches have come. An event's wait, because that leaves what
 * the run says of its failure as it is. */
static void close_copies(struct classifier *l) {
    struct device *d = l->base.q->device;
    if (l->arrived) event_sync(l->arrived, d);
    for (int i = 0; i < PLACES; i++) event_close(l->left[i], d);
    event_close(l->arrived, d);
    stream_close(l->copies);
}

/* The feeder may still be filling this loader's batches. */
static void classify_learner_close(struct learner *base) {
    struct classifier *l = (struct classifier *)base;
    if (!l) return;
    struct classify *t = (struct classify *)base->task;
    if (l->loader) feeder_remove(t->feeder, l->loader);
    close_copies(l);
    loader_close(l->loader);
    net_close(l->net);
    arena_close(&l->arena);
    free(l);
}

/* Has q copy the batch to a place of its device; the host's kernels read it where it is. */
static struct staged stage(
    struct classifier *l, struct stream *q, const struct batch *b, int place) {
    size_t size = shape_size(((struct classify *)l->base.task)->model->in);
    if (q->device->ops->host_memory) return (struct staged){b->x, b->label};
    stream_copy(q, l->in[place], b->x, (size_t)b->n * size * sizeof **l->in);
    stream_copy(q, l->label[place], b->label, (size_t)b->n * sizeof **l->label);
    return (struct staged){l->in[place], l->label[place]};
}

/* The batch goes to the place that the gradient before the last one read: that one is done when
 * the kernels' stream is where it was as the last was fed. So the copy runs beside the last. */
static void send(struct classifier *l, const struct batch *b, int place) {
    struct stream *q = l->base.q;
    stream_record(q, l->left[place]);
    stream_wait(l->copies, l->left[(place + 1) % PLACES]);
    l->fed = stage(l, l->copies, b, place);
    stream_record(l->copies, l->arrived);
    stream_wait(q, l->arrived);
    if (l->copies->failed != STATUS_OK) stream_fail(q, "%s", l->copies->why);
}

/* Batches that the device has copied go back to the loader. */
static const struct batch *draw(struct classifier *l) {
    struct learner *base = &l->base;
    if (!base->q->device->ops->host_memory) {
        learner_ring(base, LOADER_RING_DEVICE);
        loader_give_back(l->loader, base->reached - l->given_back);
        l->given_back = base->reached;
    }
    return loader_next(l->loader, &base->waited);
}

static int classify_feed(struct learner *base) {
    struct classifier *l = (struct classifier *)base;
    int place = (int)(base->taken % PLACES);
    losses_next(&l->losses);
    const struct batch *b = draw(l);
    if (!l->copies) {
        l->fed = (struct staged){b->x, b->label};
        return 0;
    }
    send(l, b, place);
    return place;
}

/* Forward at x, then dlogits <- the gradient of the batch's mean loss. */
static void learn_batch(struct classifier *l, struct vec x, const struct step *step) {
    const struct classify *t = (const struct classify *)l->base.task;
    struct stream *q = l->base.q;
    int B = t->data.batch;
    const float *logits = net_forward(l->net, x, l->base.b, l->fed.in, B, step);
    q->kernels->softmax_cross_entropy(q, l->loss, l->dlogits, logits, l->fed.label, 1 / (float)B,
        t->layers.smoothing, B, t->model->classes);
    q->kernels->total(q, l->losses.now, l->loss, (size_t)B);
}

static struct range classify_grad(
    struct learner *base, struct vec x, struct vec g, const struct step *step) {
    struct classifier *l = (struct classifier *)base;
    learn_batch(l, x, step);
    net_backward(l->net, g, 0, l->dlogits, NULL);
    return (struct range){0, x.n};
}

/* The rate goes in where the gradient is smallest; what comes out of the layers is added to x. */
static struct range classify_descend(struct learner *base, struct vec x, const struct step *step) {
    struct classifier *l = (struct classifier *)base;
    struct stream *q = base->q;
    const struct classify *t = (const struct classify *)base->task;
    size_t n = (size_t)t->data.batch * (size_t)t->model->classes;
    learn_batch(l, x, step);
    q->kernels->fill(q, l->descent, 0, n);
    q->kernels->sgd(q, l->descent, l->dlogits, step, n);
    net_backward(l->net, x, 1, l->descent, NULL);
    return (struct range){0, x.n};
}

static enum status classify_loss(struct learner *base, double *mean) {
    TRY(losses_mean(&((struct classifier *)base)->losses, mean));
    *mean /= base->task->batch;
    return STATUS_OK;
}

static enum status judge_batch(struct classifier *l, struct vec x, struct score *score) {
    const struct model *m = ((struct classify *)l->base.task)->model;
    struct stream *q = l->base.q;
    int n = l->judge.n;
    float sums[2] = {0, 0};
    struct staged at = stage(l, q, &l->judge, 0);
    const float *logits = net_forward(l->net, x, l->base.b, at.in, n, NULL);
    q->kernels->softmax_cross_entropy(q, l->loss, NULL, logits, at.label, 1, 0, n, m->classes);
    q->kernels->right(q, l->right, logits, at.label, n, m->classes);
    q->kernels->total(q, l->sums, l->loss, (size_t)n);
    q->kernels->total(q, l->sums + 1, l->right, (size_t)n);
    stream_copy(q, sums, l->sums, sizeof sums);
    TRY(stream_sync(q));
    score->loss += (double)sums[0];
    score->right += (double)sums[1];
    score->samples += n;
    return STATUS_OK;
}

static enum status classify_evaluate(
    struct learner *base, struct vec x, int part, int parts, struct score *score) {
    struct classifier *l = (struct classifier *)base;
    const struct classify *t = (const struct classify *)base->task;
    const struct samples *test = &t->dataset->test;
    int to = (int)((long)test->n * (part + 1) / parts);
    for (int from = (int)((long)test->n * part / parts); from < to; from += t->data.batch) {
        int n = to - from < t->data.batch ? to - from : t->data.batch;
        dataset_batch(t->dataset, test, from, n, &l->judge);
        TRY(judge_batch(l, x, score));
    }
    return STATUS_OK;
}

/* The i-th sample of those that statistics are taken of: a shuffle, as files may be sorted. */
static uint32_t statistics_pick(const struct classify *t, int i) {
    const struct rng_key key = {t->setup.seed, RNG_STATISTICS, 0};
    return rng_permute(key, 0, (uint32_t)i, (uint32_t)t->dataset->train.n);
}

/* The last batch may be smaller: statistics are weighted by samples. */
static enum status classify_statistics(
    struct learner *base, struct vec x, int samples, int part, int parts, double *counted) {
    struct classifier *l = (struct classifier *)base;
    const struct classify *t = (const struct classify *)base->task;
    const struct samples *train = &t->dataset->train;
    struct vec one = {l->statistics, t->model->buffers};
    if (samples > train->n) samples = train->n;
    int from = (int)((long)samples * part / parts), to = (int)((long)samples * (part + 1) / parts);
    vec_fill(base->q, base->b, 0);
    *counted = to - from;
    for (int n; from < to; from += n) {
        n = to - from < t->data.batch ? to - from : t->data.batch;
        for (int i = 0; i < n; i++) {
            dataset_sample(t->dataset, train, (int)statistics_pick(t, from + i), i, &l->judge);
        }
        l->judge.n = n;
        net_statistics(l->net, x, one, stage(l, base->q, &l->judge, 0).in, n);
        vec_mix(base->q, base->b, 1, (float)n, one);
        TRY(stream_sync(base->q)); /* the next batch takes this one's room */
    }
    return STATUS_OK;
}

extern const struct task_ops task_classify;

const struct task_ops task_classify = {
    .name = "classify",
    .summary = "images and their classes: a data set, a model, cross entropy",
    .size = sizeof(struct classify),
    .groups = groups,
    .open = classify_open,
    .close = classify_close,
    .init = classify_init,
    .tensor = classify_tensor,
    .write_options = classify_write_options,
    .learner_open = classify_learner_open,
    .drawn = classify_drawn,
    .learner_close = classify_learner_close,
    .feed = classify_feed,
    .grad = classify_grad,
    .descend = classify_descend,
    .loss = classify_loss,
    .evaluate = classify_evaluate,
    .statistics = classify_statistics,
    .describe = classify_describe,
};
