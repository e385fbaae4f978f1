/* The plan of memory, against what runs then take. A simulated GPU counts to the byte. */
#include "program.h"
#include "runs.h"

#ifdef HAVE_CUDA
#include <cuda_runtime.h>
#endif

#ifndef CUDASIM

TestSuite(budget, .timeout = 60);

Test(budget, needs_the_simulated_cuda) { cr_skip_test("make sim tests what is planned"); }

#else

TestSuite(budget, .timeout = 300, .init = files_open, .fini = files_close);

enum { GPUS = 4 };

/* What is free on each GPU while a run goes on. */
struct gauge {
    struct device *device[GPUS];
    size_t before[GPUS], during[GPUS];
};

static void gauge_read(struct gauge *g, size_t *left) {
    for (int i = 0; i < GPUS; i++) {
        size_t total;
        if (device_free_bytes(g->device[i], &left[i], &total) != STATUS_OK) abort();
    }
}

/* The first worker looks, and gives its thread its own device back. */
static void look(void *with, const struct worker *w, struct vec answer) {
    struct gauge *g = with;
    (void)answer;
    if (w->rank != 0) return;
    gauge_read(g, g->during);
    if (device_use(w->q->device) != STATUS_OK) abort();
}

static void check_plan(const char *words) {
    struct gauge g;
    struct seen seen;
    struct watch watch = {.rounded = look, .with = &g};
    size_t taken = 0;
    for (int i = 0; i < GPUS; i++) {
        cr_assert(device_open(&g.device[i], &device_cuda, i, 0) == STATUS_OK);
    }
    gauge_read(&g, g.before);
    run_words(&seen, &watch, "%s run.steps=2 run.order=fixed", words);
    cr_assert(seen.end == STATUS_OK, "%s: %s", words, seen.why);
    for (int i = 0; i < GPUS; i++) {
        taken += g.before[i] - g.during[i];
        device_close(g.device[i]);
    }
    cr_assert(taken > 0 && (double)taken == seen.result.device_bytes, "%s: %zu taken, %.0f planned",
        words, taken, seen.result.device_bytes);
    seen_close(&seen);
}

Test(budget, what_is_planned_is_what_is_taken) {
    char words[512];
    for (int i = 0; strategies[i]; i++) {
        int workers = strategies[i]->workers_most == 1 ? 1 : 4;
        snprintf(words, sizeof words,
            "run.strategy=%s run.workers=%d run.devices=cuda:0,cuda:2 quadratic.n=1000 "
            "quadratic.sigma=0.1 run.judge=replica",
            strategies[i]->name, workers);
        check_plan(words);
    }
}

Test(budget, holds_for_layers_optimizers_and_devices_that_are_named_twice) {
    static const struct {
        const char *words, *text;
    } cases[] = {
        {"run.workers=3 run.devices=cuda:0,cuda:0,cuda:1", ""},
        {"run.workers=1 run.devices=cuda:3 data.batch=100 optimizer.kind=adam", ""},
        {"run.workers=2 run.devices=cuda:1 data.batch=7 optimizer.kind=nesterov",
            "[model]\nlayers = conv 3 3 same, batchnorm, relu, dropout 0.5, dense 10\n"},
        /* Here the weights are most of a convolution's workspace by cuDNN. */
        {"run.workers=2 run.devices=cuda:1 data.batch=1",
            "[model]\nlayers = conv 500 1, relu, dense 10\n"},
        {"run.workers=2 run.devices=cuda:0,cuda:1 data.batch=1 run.cudnn=0",
            "[model]\nlayers = conv 500 1, relu, dense 10\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char words[256];
        snprintf(words, sizeof words, "run.task=classify run.strategy=easgd %s", cases[i].words);
        runs_text = cases[i].text;
        check_plan(words);
    }
}

/* ---- a run that does not fit ------------------------------------------------------------------ */

static struct program try_batch(int batch, const char *workers) {
    char text[32];
    snprintf(text, sizeof text, "data.batch=%d", batch);
    return program(
        "train", "folder=@/runs", "strategy=easgd", "steps=1", "devices=cuda:0", workers, text);
}

Test(budget, what_does_not_fit_says_what_to_lower_and_leaves_nothing) {
    setenv("CUDASIM_MEM_MB", "40", 1);
    struct program p = try_batch(400, "workers=2");
    cr_assert(p.code == 4, "exit %d: %s", p.code, p.err);
    cr_assert(strstr(p.err, "2 workers on cuda:0 (Simulated GPU 0) need "), "%s", p.err);
    cr_assert(strstr(p.err, " of its 41.9 MB are free: lower data.batch to about "), "%s", p.err);
    cr_assert(strstr(p.err, "run.workers, or use more or larger devices"), "%s", p.err);
    cr_assert(access(files_path("runs"), F_OK) != 0, "a folder was made");
    int fits = atoi(strstr(p.err, "to about ") + strlen("to about "));
    program_close(&p);
    cr_assert(fits > 1 && fits < 400, "%d", fits);
    p = try_batch(fits - fits / 50, "workers=2");
    cr_assert(p.code == 0, "%s", p.err);
    program_close(&p);
    p = try_batch(fits + fits / 20, "workers=2");
    cr_assert(p.code == 4, "%s", p.err);
    program_close(&p);
}

Test(budget, a_model_that_no_batch_makes_fit_is_told_as_that) {
    setenv("CUDASIM_MEM_MB", "10", 1);
    struct program p = try_batch(32, "workers=2");
    cr_assert(p.code == 4 && !strstr(p.err, "data.batch"), "%s", p.err);
    cr_assert(strstr(p.err, "free: lower run.workers"), "%s", p.err);
    program_close(&p);
    p = try_batch(32, "workers=1");
    cr_assert(p.code == 0, "%s", p.err);
    program_close(&p);
    setenv("CUDASIM_MEM_MB", "5", 1);
    p = try_batch(32, "workers=1");
    cr_assert(p.code == 4, "%s", p.err);
    cr_assert(strstr(p.err, "1 worker on cuda:0 (Simulated GPU 0) needs "), "%s", p.err);
    cr_assert(strstr(p.err, "free: lower the size of the model"), "%s", p.err);
    program_close(&p);
}

Test(budget, page_locked_memory_is_counted_too) {
    struct seen seen;
    enum { N = 100000 };
    /* A center, and noise on its way eight times over. */
    double least = 9.0 * N * sizeof(float);
    run_words(&seen, NULL,
        "run.strategy=easgd run.workers=1 run.devices=cuda run.steps=1 quadratic.n=%d", N);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(seen.result.pinned_bytes >= least && seen.result.pinned_bytes < 1.5 * least, "%.0f",
        seen.result.pinned_bytes);
    seen_close(&seen);
}

#endif
