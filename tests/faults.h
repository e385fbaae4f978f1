/* faults.h -- whole runs in which one call, of all those that the engine makes of a device, a task
 * or a strategy, fails or never comes back.
 *
 * Nothing in the product knows of it: a run is handed its lists, and these are the real ones with
 * a layer in between that counts every call by its point and the worker's rank. One run at a time
 * in a process. POINTS is the table: whatever a device, a task or a strategy learns to do and can fail
 * at, or a worker can freeze in, has a line there. Peers, graphs and streams that say what memory they
 * take have none: these devices are the host's, which knows nothing of the kind.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "runs.h"

/* How the injected failure shows. */
enum fault_by {
    BY_STATUS, /* the call returns STATUS_IO */
    BY_LATCH,  /* it latches in the stream, which gives STATUS_DEVICE */
    BY_NOTHING /* the call cannot fail; it can freeze */
};

/* Who makes the call. */
enum fault_on { ON_WORKER, ON_MAIN /* before there are workers */, UNUSED /* by nobody so far */ };

/* POINT(name, how it fails, who calls it, what the watchdog says of a worker that freezes there;
 * "": that depends on the caller) */
#define POINTS(POINT)                                                                              \
    POINT(device_open, BY_STATUS, ON_WORKER, "taking its seat")                                    \
    POINT(device_use, BY_STATUS, ON_MAIN, "")                                                      \
    POINT(device_free_bytes, BY_STATUS, UNUSED, "")                                                \
    POINT(device_alloc, BY_STATUS, ON_WORKER, "taking its seat")                                   \
    POINT(device_stream_open, BY_STATUS, ON_WORKER, "taking its seat")                             \
    POINT(device_event_open, BY_STATUS, ON_WORKER, "taking its seat")                              \
    POINT(device_pinned, BY_STATUS, ON_WORKER, "taking its seat")                                  \
    POINT(device_copy, BY_LATCH, ON_WORKER, "")                                                    \
    POINT(device_record, BY_LATCH, ON_WORKER, "")                                                  \
    POINT(device_wait, BY_LATCH, ON_WORKER, "")                                                    \
    POINT(device_event_sync, BY_NOTHING, ON_WORKER, "waiting for its device")                      \
    POINT(device_sync, BY_STATUS, ON_WORKER, "waiting for its device")                             \
    POINT(task_open, BY_STATUS, ON_MAIN, "")                                                       \
    POINT(task_learner_open, BY_STATUS, ON_WORKER, "taking its seat")                              \
    POINT(task_feed, BY_LATCH, ON_WORKER, "computing a gradient")                                  \
    POINT(task_grad, BY_LATCH, ON_WORKER, "computing a gradient")                                  \
    POINT(task_descend, BY_LATCH, ON_WORKER, "taking a step")                                      \
    POINT(task_loss, BY_STATUS, ON_WORKER, "between two rounds")                                   \
    POINT(task_evaluate, BY_STATUS, ON_WORKER, "judging the answer")                               \
    POINT(task_statistics, BY_STATUS, ON_WORKER, "judging the answer")                             \
    POINT(task_tensor, BY_NOTHING, ON_WORKER, "saving")                                            \
    POINT(task_drawn, BY_NOTHING, ON_WORKER, "saving")                                             \
    POINT(strategy_open, BY_STATUS, ON_MAIN, "")                                                   \
    POINT(strategy_join, BY_STATUS, ON_WORKER, "taking its seat")                                  \
    POINT(strategy_round, BY_STATUS, ON_WORKER, "in its strategy's round")                         \
    POINT(strategy_answer, BY_LATCH, ON_WORKER, "in its strategy's answer")

/* Every kernel that can fail, as kernels.h declares it. */
#define KERNELS(KERNEL)                                                                            \
    KERNEL(fill, (q, y, a, n), struct stream *q, float *y, float a, size_t n)                      \
    KERNEL(mix, (q, y, a, b, x, n), struct stream *q, float *y, float a, float b, const float *x,  \
        size_t n)                                                                                  \
    KERNEL(diff, (q, d, a, x, y, n), struct stream *q, float *d, float a, const float *x,          \
        const float *y, size_t n)                                                                  \
    KERNEL(                                                                                        \
        elastic, (q, x, c, alpha, n), struct stream *q, float *x, float *c, float alpha, size_t n) \
    KERNEL(sum, (q, v, count, scale, n), struct stream *q, float *const *v, int count,             \
        float scale, size_t n)                                                                     \
    KERNEL(sgd, (q, x, g, step, n), struct stream *q, float *x, const float *g,                    \
        const struct step *step, size_t n)                                                         \
    KERNEL(momentum, (q, x, v, g, delta, step, n), struct stream *q, float *x, float *v,           \
        const float *g, float delta, const struct step *step, size_t n)                            \
    KERNEL(look_ahead, (q, y, x, delta, v, n), struct stream *q, float *y, const float *x,         \
        float delta, const float *v, size_t n)                                                     \
    KERNEL(rmsprop, (q, x, s, g, rho, inside, outside, step, n), struct stream *q, float *x,       \
        float *s, const float *g, float rho, float inside, float outside, const struct step *step, \
        size_t n)                                                                                  \
    KERNEL(adam, (q, x, m, s, g, beta1, beta2, inside, outside, step, n), struct stream *q,        \
        float *x, float *m, float *s, const float *g, float beta1, float beta2, float inside,      \
        float outside, const struct step *step, size_t n)                                          \
    KERNEL(gemm,                                                                                   \
        (q, count, ta, tb, m, n, k, alpha, A, lda, stride_a, B, ldb, stride_b, beta, C, ldc,       \
            stride_c),                                                                             \
        struct stream *q, int count, int ta, int tb, int m, int n, int k, float alpha,             \
        const float *A, int lda, size_t stride_a, const float *B, int ldb, size_t stride_b,        \
        float beta, float *C, int ldc, size_t stride_c)                                            \
    KERNEL(bias_act, (q, y, bias, act, rows, c), struct stream *q, float *y, const float *bias,    \
        enum activation act, size_t rows, int c)                                                   \
    KERNEL(act_grad, (q, dz, dy, y, act, n), struct stream *q, float *dz, const float *dy,         \
        const float *y, enum activation act, size_t n)                                             \
    KERNEL(act, (q, y, x, act, n), struct stream *q, float *y, const float *x,                     \
        enum activation act, size_t n)                                                             \
    KERNEL(add_act, (q, y, a, b, act, n), struct stream *q, float *y, const float *a,              \
        const float *b, enum activation act, size_t n)                                             \
    KERNEL(bias_grad, (q, db, dz, beta, rows, c), struct stream *q, float *db, const float *dz,    \
        float beta, size_t rows, int c)                                                            \
    KERNEL(conv_forward, (q, s, y, x, W, bias, act, workspace), struct stream *q,                  \
        const struct conv_shape *s, float *y, const float *x, const float *W, const float *bias,   \
        enum activation act, float *workspace)                                                     \
    KERNEL(conv_grad_input, (q, s, dx, dz, W, workspace), struct stream *q,                        \
        const struct conv_shape *s, float *dx, const float *dz, const float *W, float *workspace)  \
    KERNEL(conv_grad_weight, (q, s, dW, beta, dz, x, workspace), struct stream *q,                 \
        const struct conv_shape *s, float *dW, float beta, const float *dz, const float *x,        \
        float *workspace)                                                                          \
    KERNEL(maxpool_forward, (q, s, y, where, x), struct stream *q, const struct pool_shape *s,     \
        float *y, uint8_t *where, const float *x)                                                  \
    KERNEL(maxpool_backward, (q, s, dx, dy, where), struct stream *q, const struct pool_shape *s,  \
        float *dx, const float *dy, const uint8_t *where)                                          \
    KERNEL(avgpool_forward, (q, s, y, x), struct stream *q, const struct pool_shape *s, float *y,  \
        const float *x)                                                                            \
    KERNEL(avgpool_backward, (q, s, dx, dy), struct stream *q, const struct pool_shape *s,         \
        float *dx, const float *dy)                                                                \
    KERNEL(globalavgpool_forward, (q, y, x, batch, pixels, c), struct stream *q, float *y,         \
        const float *x, int batch, size_t pixels, int c)                                           \
    KERNEL(globalavgpool_backward, (q, dx, dy, batch, pixels, c), struct stream *q, float *dx,     \
        const float *dy, int batch, size_t pixels, int c)                                          \
    KERNEL(batchnorm_statistics, (q, mean, var, x, rows, c), struct stream *q, float *mean,        \
        float *var, const float *x, size_t rows, int c)                                            \
    KERNEL(batchnorm_forward, (q, y, x, mean, var, eps, weight, bias, act, rows, c),               \
        struct stream *q, float *y, const float *x, const float *mean, const float *var,           \
        float eps, const float *weight, const float *bias, enum activation act, size_t rows,       \
        int c)                                                                                     \
    KERNEL(batchnorm_grad_sums, (q, dweight, dbias, dz, x, mean, var, eps, rows, c),               \
        struct stream *q, float *dweight, float *dbias, const float *dz, const float *x,           \
        const float *mean, const float *var, float eps, size_t rows, int c)                        \
    KERNEL(batchnorm_grad_input, (q, dx, dz, x, mean, var, eps, weight, dweight, dbias, rows, c),  \
        struct stream *q, float *dx, const float *dz, const float *x, const float *mean,           \
        const float *var, float eps, const float *weight, const float *dweight,                    \
        const float *dbias, size_t rows, int c)                                                    \
    KERNEL(dropout_mask, (q, mask, key, keep, step, n), struct stream *q, uint8_t *mask,           \
        struct rng_key key, float keep, const struct step *step, size_t n)                         \
    KERNEL(dropout, (q, y, x, mask, keep, n), struct stream *q, float *y, const float *x,          \
        const uint8_t *mask, float keep, size_t n)                                                 \
    KERNEL(softmax_cross_entropy, (q, loss, dlogits, logits, label, scale, smoothing, B, C),       \
        struct stream *q, float *loss, float *dlogits, const float *logits, const int *label,      \
        float scale, float smoothing, int B, int C)                                                \
    KERNEL(right, (q, right, logits, label, B, C), struct stream *q, float *right,                 \
        const float *logits, const int *label, int B, int C)                                       \
    KERNEL(distance, (q, out, x, y, n), struct stream *q, float *out, const float *x,              \
        const float *y, size_t n)                                                                  \
    KERNEL(total, (q, out, v, n), struct stream *q, float *out, const float *v, size_t n)          \
    KERNEL(quadratic, (q, g, loss, x, h, target, noise, n), struct stream *q, float *g,            \
        float *loss, const float *x, const float *h, const float *target, const float *noise,      \
        size_t n)

enum {
#define POINT(name, by, on, says) POINT_##name,
#define KERNEL(name, arguments, ...) POINT_kernel_##name,
    POINTS(POINT) KERNELS(KERNEL)
#undef POINT
#undef KERNEL
        POINTS_N
};

struct point {
    const char *name;
    enum fault_by by;
    enum fault_on on;
    const char *says;
};

static const struct point points[POINTS_N] = {
#define POINT(name, by, on, says) {#name, by, on, says},
#define KERNEL(name, arguments, ...) {"kernel_" #name, BY_LATCH, ON_WORKER, ""},
    POINTS(POINT) KERNELS(KERNEL)
#undef POINT
#undef KERNEL
};

/* conv_workspace answers a question and enqueues nothing. A kernel that is missing here is new. */
#define KERNEL(name, arguments, ...) +1
_Static_assert(sizeof(struct kernels) / sizeof(void (*)(void)) == KERNELS(KERNEL) + 1,
    "struct kernels has others than KERNELS in tests/faults.h");
#undef KERNEL

/* So many members they have: what is new may need a line in POINTS. */
#define WORDS_OF(type) (sizeof(type) / sizeof(void (*)(void)))
_Static_assert(
    WORDS_OF(struct device_ops) == 30, "struct device_ops has others than tests/faults.h");
_Static_assert(WORDS_OF(struct task_ops) == 20, "struct task_ops has others than tests/faults.h");
_Static_assert(
    WORDS_OF(struct strategy_ops) == 18, "struct strategy_ops has others than tests/faults.h");
#undef WORDS_OF

/* What is to happen: at the nth call (from 1) of a point by a rank; -1: the main thread. */
struct fault {
    int point, rank, freezes;
    long nth; /* 0: nothing happens, calls are counted */
};

enum { FAULT_STREAMS = 4 * TEAM_MOST, MAIN = TEAM_MOST };

static struct {
    struct fault plan;
    atomic_long seen[POINTS_N][TEAM_MOST + 1]; /* the main thread's last */
    atomic_int open;                           /* what was opened and not closed again */
    atomic_int streams;
    struct {
        _Atomic(const struct stream *) q; /* written behind the rank */
        int rank;
    } stream[FAULT_STREAMS];
} faults;

/* The engine names its threads. */
static inline int fault_rank(void) {
    char name[16] = "";
    int rank = MAIN;
    if (pthread_getname_np(pthread_self(), name, sizeof name) == 0) {
        if (!strncmp(name, "worker ", 7)) rank = atoi(name + 7);
    }
    return rank;
}

/* A stream's work may be done by another thread than the one that opened it. */
static inline int fault_rank_of(const struct stream *q) {
    for (int i = atomic_load(&faults.streams); i-- > 0;) {
        if (faults.stream[i].q == q) return faults.stream[i].rank;
    }
    return MAIN;
}

/* Counts the call; true where this is the one that fails. */
static inline int fault_hits(int point, int rank) {
    const struct fault *f = &faults.plan;
    long nth = atomic_fetch_add(&faults.seen[point][rank], 1) + 1;
    if (point != f->point || rank != f->rank || nth != f->nth) return 0;
    while (f->freezes) pause();
    return 1;
}

#define FAULT_TRY(name, rank)                                                                      \
    do {                                                                                           \
        if (fault_hits(POINT_##name, rank)) return fail(STATUS_IO, "injected at %s", #name);       \
    } while (0)

static inline int fault_latches(int point, struct stream *q) {
    if (!fault_hits(point, fault_rank_of(q))) return 0;
    stream_fail(q, "injected at %s", points[point].name);
    return 1;
}

/* ---- kernels and devices ---------------------------------------------------------------------- */

#define KERNEL(name, arguments, ...)                                                               \
    static void faulty_##name(__VA_ARGS__) {                                                       \
        if (!fault_latches(POINT_kernel_##name, q)) kernels_host.name arguments;                   \
    }
KERNELS(KERNEL)
#undef KERNEL

static struct kernels faulty_kernels;
static struct device_ops faulty_device;

static inline enum status faulty_open(struct device **out, int index, int threads) {
    FAULT_TRY(device_open, fault_rank());
    TRY(device_host.open(out, index, threads));
    (*out)->ops = &faulty_device;
    faults.open++;
    return STATUS_OK;
}

static inline void faulty_close(struct device *d) {
    faults.open--;
    device_host.close(d);
}

static inline enum status faulty_use(struct device *d) {
    FAULT_TRY(device_use, fault_rank());
    return device_host.use(d);
}

static inline enum status faulty_free_bytes(struct device *d, size_t *left, size_t *total) {
    FAULT_TRY(device_free_bytes, fault_rank());
    return device_host.free_bytes(d, left, total);
}

static inline enum status faulty_alloc(struct device *d, void **at, size_t bytes) {
    FAULT_TRY(device_alloc, fault_rank());
    return device_host.alloc(d, at, bytes);
}

static inline enum status faulty_stream_open(struct device *d, struct stream **q, int kernels) {
    FAULT_TRY(device_stream_open, fault_rank());
    TRY(device_host.stream_open(d, q, kernels));
    (*q)->kernels = &faulty_kernels;
    faults.open++;
    int i = atomic_fetch_add(&faults.streams, 1);
    cr_assert(i < FAULT_STREAMS, "too many streams");
    faults.stream[i].rank = fault_rank();
    faults.stream[i].q = *q;
    return STATUS_OK;
}

static inline void faulty_stream_close(struct stream *q) {
    faults.open--;
    device_host.stream_close(q);
}

static inline enum status faulty_event_open(struct device *d, struct event **e) {
    FAULT_TRY(device_event_open, fault_rank());
    faults.open++;
    return device_host.event_open(d, e);
}

static inline void faulty_event_close(struct event *e) {
    faults.open--;
    device_host.event_close(e);
}

static inline void faulty_copy(struct stream *q, void *to, const void *from, size_t bytes) {
    if (!fault_latches(POINT_device_copy, q)) device_host.copy(q, to, from, bytes);
}

static inline void faulty_record(struct stream *q, struct event *e) {
    if (!fault_latches(POINT_device_record, q)) device_host.record(q, e);
}

static inline void faulty_wait(struct stream *q, struct event *e) {
    if (!fault_latches(POINT_device_wait, q)) device_host.wait(q, e);
}

static inline enum status faulty_pinned(struct device *d, void **at, size_t bytes) {
    FAULT_TRY(device_pinned, fault_rank());
    return device_host.pinned(d, at, bytes);
}

static inline void faulty_event_sync(struct event *e) {
    fault_hits(POINT_device_event_sync, fault_rank());
    device_host.event_sync(e);
}

static inline enum status faulty_sync(struct stream *q) {
    FAULT_TRY(device_sync, fault_rank_of(q));
    return device_host.sync(q);
}

/* ---- tasks ------------------------------------------------------------------------------------ */

enum { FAULTY_TASKS = 8 };
static struct task_ops faulty_task[FAULTY_TASKS];

static inline const struct task_ops *real_task(const struct task *t) {
    return tasks[t->ops - faulty_task];
}

static inline enum status faulty_task_open(struct task *t, const struct task_setup *setup) {
    FAULT_TRY(task_open, fault_rank());
    return real_task(t)->open(t, setup);
}

static inline enum status faulty_learner_open(
    struct task *t, struct learner **out, int rank, struct stream *q, uint64_t drawn) {
    FAULT_TRY(task_learner_open, rank);
    enum status end = real_task(t)->learner_open(t, out, rank, q, drawn);
    if (*out) faults.open++;
    return end;
}

static inline void faulty_learner_close(struct learner *l) {
    if (l) faults.open--;
    real_task(l->task)->learner_close(l);
}

static inline int faulty_feed(struct learner *l) {
    fault_latches(POINT_task_feed, l->q);
    return real_task(l->task)->feed(l);
}

static inline struct range faulty_grad(
    struct learner *l, struct vec x, struct vec g, const struct step *step) {
    fault_latches(POINT_task_grad, l->q);
    return real_task(l->task)->grad(l, x, g, step);
}

static inline struct range faulty_descend(
    struct learner *l, struct vec x, const struct step *step) {
    fault_latches(POINT_task_descend, l->q);
    return real_task(l->task)->descend(l, x, step);
}

static inline enum status faulty_loss(struct learner *l, double *mean) {
    FAULT_TRY(task_loss, l->rank);
    return real_task(l->task)->loss(l, mean);
}

static inline enum status faulty_evaluate(
    struct learner *l, struct vec x, int part, int parts, struct score *score) {
    FAULT_TRY(task_evaluate, l->rank);
    return real_task(l->task)->evaluate(l, x, part, parts, score);
}

static inline enum status faulty_statistics(
    struct learner *l, struct vec x, int samples, int part, int parts, double *counted) {
    FAULT_TRY(task_statistics, l->rank);
    return real_task(l->task)->statistics(l, x, samples, part, parts, counted);
}

static inline int faulty_tensor(const struct task *t, int i, struct tensor *out) {
    fault_hits(POINT_task_tensor, fault_rank());
    return real_task(t)->tensor(t, i, out);
}

static inline uint64_t faulty_drawn(const struct learner *l) {
    fault_hits(POINT_task_drawn, fault_rank());
    return real_task(l->task)->drawn(l);
}

/* ---- strategies ------------------------------------------------------------------------------- */

static struct strategy_ops faulty_strategy[RUNS_MOST];

static inline const struct strategy_ops *real_strategy(const struct strategy *s) {
    return strategies[s->ops - faulty_strategy];
}

static inline enum status faulty_strategy_open(
    struct strategy *s, struct team *team, struct vec x0) {
    FAULT_TRY(strategy_open, fault_rank());
    return real_strategy(s)->open ? real_strategy(s)->open(s, team, x0) : STATUS_OK;
}

static inline enum status faulty_join(struct strategy *s, struct worker *w) {
    FAULT_TRY(strategy_join, w->rank);
    return real_strategy(s)->join ? real_strategy(s)->join(s, w) : STATUS_OK;
}

static inline enum status faulty_round(struct strategy *s, struct worker *w) {
    FAULT_TRY(strategy_round, w->rank);
    return real_strategy(s)->round(s, w);
}

static inline struct vec faulty_answer(struct strategy *s, struct worker *w) {
    fault_latches(POINT_strategy_answer, w->q);
    return real_strategy(s)->answer ? real_strategy(s)->answer(s, w) : w->x;
}

/* ---- runs ------------------------------------------------------------------------------------- */

/* The faulty lists, each until NULL. */
struct fault_lists {
    const struct device_ops *devices[2];
    const struct task_ops *tasks[FAULTY_TASKS + 1];
    const struct strategy_ops *strategies[RUNS_MOST + 1];
};

static inline void fault_list_devices(struct fault_lists *lists) {
    faulty_kernels = kernels_host;
#define KERNEL(name, arguments, ...) faulty_kernels.name = faulty_##name;
    KERNELS(KERNEL)
#undef KERNEL
    faulty_device = device_host;
    faulty_device.kind = "faulty";
    faulty_device.host_memory = 0; /* so that it is asked for events and copies, as a GPU is */
    faulty_device.pinned = faulty_pinned;
    faulty_device.event_sync = faulty_event_sync;
    faulty_device.open = faulty_open;
    faulty_device.close = faulty_close;
    faulty_device.use = faulty_use;
    faulty_device.free_bytes = faulty_free_bytes;
    faulty_device.alloc = faulty_alloc;
    faulty_device.stream_open = faulty_stream_open;
    faulty_device.stream_close = faulty_stream_close;
    faulty_device.event_open = faulty_event_open;
    faulty_device.event_close = faulty_event_close;
    faulty_device.copy = faulty_copy;
    faulty_device.record = faulty_record;
    faulty_device.wait = faulty_wait;
    faulty_device.sync = faulty_sync;
    lists->devices[0] = &faulty_device;
}

static inline void fault_list_tasks(struct fault_lists *lists) {
    for (int i = 0; tasks[i]; i++) {
        struct task_ops *ops = &faulty_task[i];
        cr_assert(i < FAULTY_TASKS, "more tasks than expected");
        *ops = *tasks[i];
        ops->open = faulty_task_open;
        ops->learner_open = faulty_learner_open;
        ops->learner_close = faulty_learner_close;
        ops->feed = faulty_feed;
        ops->grad = faulty_grad;
        if (ops->descend) ops->descend = faulty_descend;
        ops->loss = faulty_loss;
        ops->evaluate = faulty_evaluate;
        ops->statistics = faulty_statistics;
        ops->tensor = faulty_tensor;
        ops->drawn = faulty_drawn;
        lists->tasks[i] = ops;
    }
}

static inline void fault_list_strategies(struct fault_lists *lists) {
    for (int i = 0; strategies[i]; i++) {
        struct strategy_ops *ops = &faulty_strategy[i];
        cr_assert(i < RUNS_MOST, "more strategies than expected");
        *ops = *strategies[i];
        ops->open = faulty_strategy_open;
        ops->join = faulty_join;
        ops->round = faulty_round;
        ops->answer = faulty_answer;
        lists->strategies[i] = ops;
    }
}

/* Runs what the words say with that fault, quietly. why: 512 bytes, what the run said. */
static inline enum status fault_run(
    const struct fault *plan, const char *text, int resume, char *why) {
    char words[2048];
    struct fault_lists lists = {0};
    snprintf(words, sizeof words, "%s", text);
    struct settings *set = runs_settings(words);
    memset(&faults, 0, sizeof faults);
    faults.plan = *plan;
    fault_list_devices(&lists);
    fault_list_tasks(&lists);
    fault_list_strategies(&lists);
    struct run_setup setup = {.settings = set,
        .strategies = lists.strategies,
        .schedules = base_schedules,
        .tasks = lists.tasks,
        .devices = lists.devices,
        .resume = resume,
        .quiet = 1};
    enum status end = run_train(&setup, NULL);
    snprintf(why, 512, "%s", end == STATUS_OK ? "" : fail_message());
    settings_close(set);
    return end;
}

#endif
