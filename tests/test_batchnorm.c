/* test_batchnorm.c -- what becomes of running statistics in whole runs: each worker has its own, and
 * run.batchnorm says which are judged and saved. */
#include "base/safetensors.h"
#include "check.h"
#include "engine/judge.h"
#include "files.h"
#include "runs.h"

TestSuite(batchnorm, .init = files_open, .fini = files_close, .timeout = 120);

/* The workers' vectors at the end of a run, when the last judgment is over. */
struct ends {
    size_t n, buffers;
    float *x[TEAM_MOST], *b[TEAM_MOST];
};

static void look(void *with, const struct worker *w) {
    struct ends *e = with;
    e->x[w->rank] = runs_copy(w->q, NULL, w->x);
    e->b[w->rank] = runs_copy(w->q, NULL, w->b);
    if (w->rank != 0) return;
    e->n = w->x.n;
    e->buffers = w->b.n;
}

static void ends_close(struct ends *e) {
    for (int r = 0; r < TEAM_MOST; r++) {
        free(e->x[r]);
        free(e->b[r]);
    }
}

/* Batch norm right behind the samples: what it finds is known. The digits have 64 pixels. */
static const char base[] =
    "[run]\ntask = classify\nstrategy = allreduce\norder = fixed\nworkers = 3\nepochs = 0\n"
    "steps = 5\neval_every = 1e9\n[topology]\nthreads = 1\nbind = 0\n[data]\nthreads = 0\n"
    "batch = 30\n[model]\nlayers = batchnorm, conv 4 3, batchnorm, relu, dense 10\n";

static struct settings *settings_of(const char *words) {
    struct settings *set;
    char text[512], *rest = NULL, folder[512];
    snprintf(text, sizeof text, "%s", words);
    snprintf(folder, sizeof folder, "run.folder=%s", files_path("runs"));
    cr_assert(settings_open(&set) == STATUS_OK);
    cr_assert(settings_read_text(set, base, "base") == STATUS_OK, "%s", fail_message());
    cr_assert(settings_read_argument(set, folder) == STATUS_OK);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        cr_assert(settings_read_argument(set, word) == STATUS_OK, "%s", fail_message());
    cr_assert(settings_check(set, all_groups()) == STATUS_OK, "%s", fail_message());
    return set;
}

static struct run_result train(const char *words, struct ends *e) {
    struct settings *set = settings_of(words);
    struct run_result result;
    *e = (struct ends){0};
    struct run_setup setup = {.settings = set,
        .strategies = strategies,
        .schedules = base_schedules,
        .tasks = tasks,
        .devices = devices,
        .finished = look,
        .with = e};
    cr_assert(run_train(&setup, &result) == STATUS_OK, "%s", fail_message());
    settings_close(set);
    return result;
}

static void saved_open(struct safetensors *file, const struct run_result *result) {
    char path[512];
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", result->path);
    cr_assert(safetensors_read(file, path) == STATUS_OK, "%s", fail_message());
}

/* Where the tensors are in b: each starts on 64 floats. */
static const struct {
    const char *name;
    size_t offset, n;
} buffers[] = {{"1.batchnorm.mean", 0, 1}, {"1.batchnorm.var", 64, 1}, {"3.batchnorm.mean", 128, 4},
    {"3.batchnorm.var", 192, 4}};

static const float *saved(const struct safetensors *file, int i) {
    const struct safetensor *t = safetensors_find(file, buffers[i].name);
    cr_assert(t && t->dims == 1 && t->dim[0] == (int)buffers[i].n, "%s", buffers[i].name);
    return t->data;
}

Test(batchnorm, each_worker_keeps_its_own_and_judging_changes_nothing_that_trains) {
    static const char *const ways[] = {"batchnorm=recompute", "batchnorm=average",
        "batchnorm=local", "batchnorm=recompute eval_every=0.05",
        "batchnorm=average eval_every=0.05",
        "batchnorm=recompute batchnorm_samples=1 eval_every=0.05"};
    struct ends first, e;
    train("run.name=first", &first);
    cr_assert(first.buffers == 256);
    cr_assert(memcmp(first.b[0], first.b[1], 256 * sizeof(float)) != 0, "data are not alike");
    for (int i = 0; i < 6; i++) {
        train(ways[i], &e);
        for (int r = 0; r < 3; r++) {
            cr_assert(!memcmp(first.x[r], e.x[r], e.n * sizeof(float)), "%s: x", ways[i]);
            cr_assert(!memcmp(first.b[r], e.b[r], e.buffers * sizeof(float)), "%s: b", ways[i]);
        }
        ends_close(&e);
    }
    ends_close(&first);
}

Test(batchnorm, average_saves_the_mean_and_local_the_first_workers) {
    for (int local = 0; local < 2; local++) {
        struct ends e;
        struct safetensors file;
        struct run_result result = train(local ? "batchnorm=local" : "batchnorm=average", &e);
        saved_open(&file, &result);
        cr_assert(file.n == 12 && safetensors_find(&file, "3.batchnorm.weight"));
        for (int i = 0; i < 4; i++) {
            double want[4];
            for (size_t j = 0; j < buffers[i].n; j++) {
                size_t at = buffers[i].offset + j;
                double first = (double)e.b[0][at];
                double sum = first + (double)e.b[1][at] + (double)e.b[2][at];
                want[j] = local ? first : sum / 3;
            }
            check_close(
                saved(&file, i), want, buffers[i].n, 1e-7, local ? 0 : 4e-7, "%s", buffers[i].name);
        }
        safetensors_close(&file);
        ends_close(&e);
    }
}

/* Standardized samples have mean 0 and variance 1, if each is counted once; a batch's variance is
 * about its own mean, which takes off what means of 30 samples vary by: some hundredths. */
Test(batchnorm, recompute_counts_every_sample_once_for_any_number_of_workers) {
    static const char *const ways[] = {"batchnorm_samples=5000 workers=1 steps=3",
        "batchnorm_samples=5000 workers=3 steps=3", "batchnorm_samples=5000 workers=7 steps=3",
        "batchnorm_samples=5000 workers=4 steps=3 run.strategy=easgd data.batch=1000"};
    for (int i = 0; i < 4; i++) {
        struct ends e;
        struct safetensors file;
        char words[256];
        snprintf(words, sizeof words, "batchnorm=recompute %s", ways[i]);
        struct run_result result = train(words, &e);
        saved_open(&file, &result);
        const double zero = 0, one = 1;
        check_close(saved(&file, 0), &zero, 1, 2e-6, 0, "%s", ways[i]);
        check_close(saved(&file, 1), &one, 1, 0.05, 0, "%s", ways[i]);
        safetensors_close(&file);
        ends_close(&e);
    }
}

Test(batchnorm, a_checkpoint_is_judged_with_its_own_statistics) {
    struct ends e;
    struct judgment found;
    char path[512];
    struct run_result result = train("batchnorm=recompute steps=20", &e);
    struct settings *set = settings_of("batchnorm=recompute");
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", result.path);
    cr_assert(
        judge_checkpoint(path, set, tasks, devices, &found) == STATUS_OK, "%s", fail_message());
    cr_assert(found.score.samples == result.score.samples);
    float got = (float)(found.score.loss / found.score.samples);
    double want = result.score.loss / result.score.samples;
    check_close(&got, &want, 1, 1e-5, 1e-5, "loss");
    cr_assert(found.score.right == result.score.right);
    settings_close(set);
    ends_close(&e);
}
