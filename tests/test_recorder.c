/* Gradient and step as recordings of the device: the same bits as kernel by kernel. With them, what
 * else a run asks of a GPU: how often its host waits, in which precision products are. */
#include "engine/recorder.h"

#include "base/log.h"
#include "check.h"
#include "runs.h"

#ifdef HAVE_CUDA
#include <cuda_runtime.h>
#endif

TestSuite(recorder, .timeout = 300);

static const struct recording_key key = {RECORD_GRAD, 0, {0, 0}};

static struct range count(void *with) {
    ++*(int *)with;
    return (struct range){3, 4};
}

Test(recorder, a_device_that_records_nothing_is_called_each_time) {
    struct device *d;
    struct stream *q;
    struct recorder r;
    int calls = 0;
    cr_assert(device_open(&d, &device_host, 0, 1) == STATUS_OK && stream_open(&q, d) == STATUS_OK);
    cr_assert(!stream_can_replay(q));
    recorder_open(&r, q, 1);
    for (int i = 1; i <= 5; i++) {
        struct range range = recorder_run(&r, key, count, &calls);
        cr_assert(calls == i && range.offset == 3 && range.n == 4);
    }
    recorder_close(&r);
    stream_close(q);
    device_close(d);
}

#ifndef CUDASIM

Test(recorder, runs_on_a_gpu) { cr_skip_test("needs the simulated CUDA: make sim"); }

#else

/* ---- the recorder by itself ------------------------------------------------------------------- */

/* A sum on a device, to which each call adds what b holds then. */
struct adder {
    struct device *d;
    struct stream *q;
    struct recorder r;
    float *a, *b, *host; /* (33); host is pinned */
    int calls;
    long live; /* what was open before */
};

static void adder_open(struct adder *s, int on) {
    *s = (struct adder){.live = cudasim_live()};
    cr_assert(device_open(&s->d, &device_cuda, 1, 0) == STATUS_OK, "%s", fail_message());
    cr_assert(stream_open(&s->q, s->d) == STATUS_OK);
    cr_assert(device_alloc(s->d, (void **)&s->a, 33 * sizeof(float)) == STATUS_OK);
    cr_assert(device_alloc(s->d, (void **)&s->b, 33 * sizeof(float)) == STATUS_OK);
    cr_assert(device_pinned(s->d, (void **)&s->host, 33 * sizeof(float)) == STATUS_OK);
    recorder_open(&s->r, s->q, on);
}

static void adder_close(struct adder *s) {
    cr_assert(stream_sync(s->q) == STATUS_OK, "%s", fail_message());
    recorder_close(&s->r);
    stream_close(s->q);
    device_close(s->d);
    cr_assert(cudasim_live() == s->live, "%ld not given back", cudasim_live() - s->live);
}

static struct range add(void *with) {
    struct adder *s = with;
    s->calls++;
    s->q->kernels->mix(s->q, s->a, 1, 1, s->b, 33);
    return (struct range){0, (size_t)s->calls};
}

static void adder_check(struct adder *s, double want) {
    double all[33];
    for (int i = 0; i < 33; i++) all[i] = want;
    stream_copy(s->q, s->host, s->a, 33 * sizeof(float));
    cr_assert(stream_sync(s->q) == STATUS_OK, "%s", fail_message());
    check_close(s->host, all, 33, 0, 0, "the sum");
}

Test(recorder, the_first_call_is_made_the_second_is_recorded_the_rest_are_replays) {
    struct adder s;
    double want = 0;
    adder_open(&s, 1);
    long launches = cudasim_graph_launches();
    for (int i = 1; i <= 6; i++) {
        s.q->kernels->fill(s.q, s.b, (float)i, 33); /* what a replay reads is what is there then */
        struct range range = recorder_run(&s.r, key, add, &s);
        want += i;
        adder_check(&s, want);
        cr_assert(s.calls == (i < 2 ? i : 2) && range.n == (size_t)s.calls);
    }
    cr_assert(cudasim_graph_launches() - launches == 5);
    adder_close(&s);
}

Test(recorder, each_key_has_a_recording_of_its_own) {
    const struct recording_key keys[] = {{RECORD_GRAD, 0, {0, 0}}, {RECORD_GRAD, 1, {0, 0}},
        {RECORD_DESCEND, 0, {0, 0}}, {RECORD_STEP, 0, {0, 7}}, {RECORD_STEP, 0, {1, 7}}};
    struct adder s;
    adder_open(&s, 1);
    s.q->kernels->fill(s.q, s.b, 1, 33);
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 5; k++) {
            int calls = s.calls;
            struct range range = recorder_run(&s.r, keys[k], add, &s);
            cr_assert(s.calls == calls + (i < 2), "key %d, time %d", k, i);
            if (i == 2) cr_assert(range.n == (size_t)(5 + k + 1), "what it returned, key %d", k);
        }
    }
    adder_check(&s, 15);
    adder_close(&s);
}

/* More keys than there is room for are called each time, and the others are replayed. */
Test(recorder, keys_without_room_are_called) {
    struct adder s;
    adder_open(&s, 1);
    s.q->kernels->fill(s.q, s.b, 1, 33);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < RECORDINGS + 3; k++) {
            recorder_run(&s.r, (struct recording_key){RECORD_STEP, k, {0, 0}}, add, &s);
        }
    }
    cr_assert(s.calls == 2 * RECORDINGS + 4 * 3, "%d", s.calls);
    adder_check(&s, 4 * (RECORDINGS + 3));
    adder_close(&s);
}

Test(recorder, where_nothing_is_to_be_recorded_each_call_is_made) {
    struct adder s;
    adder_open(&s, 0);
    s.q->kernels->fill(s.q, s.b, 1, 33);
    for (int i = 0; i < 4; i++) recorder_run(&s.r, key, add, &s);
    cr_assert(s.calls == 4);
    adder_check(&s, 4);
    adder_close(&s);
}

/* The call whose recording failed is made after all; what was recorded before is not used either. */
Test(recorder, a_recording_that_fails_is_told_and_calls_are_made_from_then_on) {
    struct adder s;
    adder_open(&s, 1);
    log_show(LOG_ERROR);
    s.q->kernels->fill(s.q, s.b, 1, 33);
    for (int i = 0; i < 2; i++) recorder_run(&s.r, key, add, &s);
    const struct recording_key other = {RECORD_STEP, 0, {0, 0}};
    recorder_run(&s.r, other, add, &s);
    cudasim_fail_capture(1);
    long live = cudasim_live();
    for (int i = 0; i < 3; i++) recorder_run(&s.r, other, add, &s);
    cr_assert(strstr(fail_message(), "cuda:1: cudaStreamEndCapture: cudaErrorStreamCaptureInvalid"),
        "%s", fail_message());
    recorder_run(&s.r, key, add, &s);
    cr_assert(s.calls == 2 + 1 + 1 + 3 + 1, "%d", s.calls);
    cr_assert(cudasim_live() == live);
    adder_check(&s, 2 + 1 + 3 + 1);
    adder_close(&s);
}

/* A failure that was latched while the device recorded is why, and is gone from the stream. */
static struct range fail_inside(void *with) {
    struct adder *s = with;
    if (s->calls == 1) stream_fail(s->q, "no room for columns");
    return add(with);
}

Test(recorder, what_fails_inside_a_recording_is_what_is_told) {
    struct adder s;
    adder_open(&s, 1);
    log_show(LOG_ERROR);
    s.q->kernels->fill(s.q, s.b, 1, 33);
    for (int i = 0; i < 3; i++) recorder_run(&s.r, key, fail_inside, &s);
    cr_assert(strcmp(fail_message(), "cuda:1: no room for columns") == 0, "%s", fail_message());
    cr_assert(s.q->failed == STATUS_OK && s.calls == 4);
    adder_check(&s, 3);
    adder_close(&s);
}

/* ---- whole runs ------------------------------------------------------------------------------- */

static const struct device_ops *const gpus[] = {&device_cuda, NULL};

/* What draws and what keeps statistics, in a model and among the layers that a GPU has kernels for;
 * the data has more samples than one pass of batches. */
static const char model[] =
    "[run]\ndevices = cuda:0\n[model]\nlayers = conv 4 3, batchnorm, relu, maxpool 2, dropout 0.3, "
    "residual(conv 4 3 same), "
    "globalavgpool, dense 16, tanh, dense 3\nsmoothing = 0.1\n"
    "[data]\nset = synthetic\nbatch = 8\nthreads = 1\n[synthetic]\nsamples = 100\nheight = 6\n"
    "width = 6\nclasses = 3\n";

static const char classify[] = "run.task=classify schedule.rate=0.05 run.eval_every=1.5 "
                               "run.batchnorm_samples=30";
static const char quadratic[] = "quadratic.n=1001 quadratic.sigma=1 quadratic.spread=2 "
                                "quadratic.samples=50 run.eval_every=0.7 schedule.use=warmup "
                                "warmup.epochs=10 schedule.rate=0.05";

static void on_gpus(void) {
    log_show(LOG_ERROR);
    runs_text = model;
    runs_devices = gpus;
}

TestSuite(graphs, .timeout = 300, .init = on_gpus);

/* As the words say, and that many graphs were launched. */
static long run_graphs(struct seen *seen, const char *words, int graph) {
    long launches = cudasim_graph_launches();
    run_words(seen, NULL, "%s run.graph=%d", words, graph);
    cr_assert(seen->end == STATUS_OK, "%s: %s", words, seen->why);
    return cudasim_graph_launches() - launches;
}

static void check_same_bits(const char *strategy, int workers, const char *task, int steps) {
    struct seen with, without;
    char words[1024];
    snprintf(words, sizeof words, "run.strategy=%s %s run.order=fixed run.workers=%d run.steps=%d",
        strategy, task, workers, steps);
    cr_assert(run_graphs(&without, words, 0) == 0, "%s", words);
    long launches = run_graphs(&with, words, 1);
    cr_assert(launches > 0, "nothing is replayed: %s", words);
    cr_assert(seen_differ(&without, &with) == -1, "%s", words);
    cr_assert(with.result.score.loss == without.result.score.loss, "%s", words);
    cr_assert(with.result.train_loss == without.result.train_loss, "%.17g became %.17g, %s",
        without.result.train_loss, with.result.train_loss, words);
    seen_close(&with);
    seen_close(&without);
}

static void check_strategies(const char *task) {
    for (int k = 0; strategies[k]; k++) {
        check_same_bits(strategies[k]->name, runs_workers(strategies[k], 4), task, 24);
    }
    check_same_bits("easgd easgd.mode=sync easgd.tau=2", 3, task, 24);
}

Test(graphs, every_strategy_has_the_same_bits_on_classes) { check_strategies(classify); }
Test(graphs, every_strategy_has_the_same_bits_on_quadratics) { check_strategies(quadratic); }

Test(graphs, every_optimizer_has_the_same_bits) {
    static const char *const kinds[] = {
        "momentum", "nesterov optimizer.decay=0.01", "rmsprop", "adam"};
    char task[1024];
    for (int i = 0; i < 4; i++) {
        snprintf(task, sizeof task, "%s optimizer.kind=%s", classify, kinds[i]);
        check_same_bits("allreduce", 2, task, 24);
        check_same_bits("easgd easgd.tau=3", 2, task, 24);
    }
}

/* Two places for batches, each seen once and recorded at its second turn: of 40 gradients of a worker
 * alone, 38 are replays, and of 40 steps 39. */
Test(graphs, all_but_the_first_gradients_and_steps_are_replays) {
    struct seen seen;
    cr_assert(run_graphs(&seen,
                  "run.strategy=alone run.workers=1 run.steps=40 run.task=classify "
                  "schedule.rate=0.01",
                  1) == 38 + 39);
    seen_close(&seen);
    cr_assert(run_graphs(&seen,
                  "run.strategy=descending run.workers=1 run.steps=40 run.task=classify "
                  "schedule.rate=0.01",
                  1) == 38);
    seen_close(&seen);
}

Test(graphs, a_run_whose_recordings_fail_ends_with_the_same_bits) {
    static const char words[] = "run.strategy=allreduce run.workers=3 run.steps=24 "
                                "run.order=fixed run.task=classify schedule.rate=0.05";
    struct seen without, with;
    run_graphs(&without, words, 0);
    for (long nth = 1; nth <= 4; nth++) {
        cudasim_fail_capture(nth);
        run_graphs(&with, words, 1);
        cr_assert(seen_differ(&without, &with) == -1, "capture %ld", nth);
        seen_close(&with);
    }
    seen_close(&without);
}

/* ---- how often the host waits ----------------------------------------------------------------- */

struct costs {
    double waits;  /* of the host, for one worker, on average */
    long unpinned; /* copies from or to memory that is not pinned, of all workers */
};

static struct costs costs_of(const char *words, int workers, int steps) {
    struct seen seen;
    long waits = cudasim_host_waits(), unpinned = cudasim_unpinned_count();
    run_words(&seen, NULL, "run.strategy=%s run.workers=%d run.steps=%d run.eval_every=1e9", words,
        workers, steps);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
    return (struct costs){
        (double)(cudasim_host_waits() - waits) / workers, cudasim_unpinned_count() - unpinned};
}

/* Between 80 steps and 400 lies what opening, judging and closing have in common. Steps and exchanges
 * copy from and to pinned memory only: else no copy would go on beside what is computed. */
static void check_waits(const char *words, double expected) {
    struct costs few = costs_of(words, 2, 80), many = costs_of(words, 2, 400);
    double waits = many.waits - few.waits;
    cr_assert(
        fabs(waits - expected) <= 2, "%s: %g waits in 320 steps, not %g", words, waits, expected);
    cr_assert(many.unpinned == few.unpinned, "%s: %ld copies of unpinned memory became %ld", words,
        few.unpinned, many.unpinned);
}

Test(graphs, a_synchronous_round_waits_once_in_run_ahead) {
    check_waits("allreduce run.task=classify schedule.rate=0.01", 320 / 8);
    check_waits("allreduce run.task=classify schedule.rate=0.01 run.graph=0", 320 / 8);
    check_waits("allreduce run.ahead=16", 320 / 16);
    check_waits("easgd easgd.mode=sync easgd.tau=2", 160 / 8);
}

Test(graphs, a_synchronous_round_of_several_gpus_waits_as_seldom) {
    static const char *const comms[] = {"nccl", "copy", "host"};
    if (device_cuda.count() < 2) cr_skip_test("needs 2 GPUs");
    for (int i = 0; i < 3; i++) {
        char words[128];
        snprintf(words, sizeof words,
            "allreduce run.devices=cuda:0,cuda:1 run.comm=%s run.order=%s", comms[i],
            i == 0 ? "free" : "fixed");
        check_waits(words, 320 / 8);
    }
    check_waits("allreduce run.devices=cuda:0,cuda:1 run.comm=nccl run.order=fixed run.ahead=16 "
                "run.task=classify schedule.rate=0.01",
        320 / 16);
}

/* And the look at the loss every 8 rounds. */
Test(graphs, an_exchange_waits_once) {
    check_waits("easgd easgd.tau=10 run.task=classify schedule.rate=0.01", 32 + 32 / 8);
    check_waits("easgd easgd.tau=10 run.center=staged", 32 + 32 / 8);
    check_waits("easgd easgd.tau=10 run.center=zero_copy", 32 + 32 / 8);
    check_waits("downpour downpour.tau=10", 32 + 32 / 8);
}

/* ---- precision -------------------------------------------------------------------------------- */

Test(graphs, products_are_in_tf32_on_request_only) {
    for (int on = 0; on < 2; on++) {
        struct seen seen;
        long before = cudasim_tf32_products();
        run_words(&seen, NULL,
            "run.strategy=allreduce run.task=classify run.workers=2 run.steps=4 "
            "schedule.rate=0.01 run.tf32=%d",
            on);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert((cudasim_tf32_products() > before) == on, "run.tf32=%d", on);
        seen_close(&seen);
    }
}

#endif
