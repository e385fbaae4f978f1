/* Any number of workers on any number of devices: where they sit changes no bit. */
#include "check.h"
#include "runs.h"

#ifdef HAVE_CUDA
#include <cuda_runtime.h>
#endif

#ifndef CUDASIM

TestSuite(any_devices, .timeout = 60);

Test(any_devices, needs_the_simulated_cuda) { cr_skip_test("make sim has several devices"); }

#else

TestSuite(any_devices, .timeout = 300);

enum { WORKERS = 8 };

/* On one, on two, on four, on one that is named four times. */
static const char *const places[] = {
    "cuda:2", "cuda:0,cuda:1", "cuda:0,cuda:1,cuda:2,cuda:3", "cuda:0,cuda:0,cuda:0,cuda:0"};
enum { PLACES = sizeof places / sizeof *places };

/* Groups of workers are part of these rules, and by themselves they are those of a device. */
static const char *groups_of(const struct strategy_ops *s) {
    if (!strcmp(s->name, "local_sgd")) return "local_sgd.groups=2";
    if (!strcmp(s->name, "gossip")) return "gossip.groups=2";
    return "";
}

static void train_on(
    struct seen *seen, const struct strategy_ops *s, const char *task, const char *place) {
    int workers = s->workers_most && s->workers_most < WORKERS ? s->workers_most : WORKERS;
    run_words(seen, NULL,
        "run.strategy=%s run.workers=%d run.devices=%s run.order=fixed run.seed=3 %s %s", s->name,
        workers, place, task, groups_of(s));
    cr_assert(seen->end == STATUS_OK, "%s on %s: %s", s->name, place, seen->why);
}

/* Sums on a GPU go by halves, on the host by rows; a few steps of a contraction keep what that
 * makes at its size: some units in the last place of numbers around 1. */
static void check_host(
    const struct seen *on, const struct seen *host, double tolerance, const char *name) {
    cr_assert(on->size == host->size && on->n == host->n);
    double *want = malloc(on->n * sizeof *want);
    cr_assert(want != NULL);
    for (int r = 0; r < on->size; r++) {
        for (size_t i = 0; i < on->n; i++) want[i] = (double)host->x[r][i];
        check_close(on->x[r], want, on->n, tolerance, 0, "%s, worker %d", name, r);
    }
    free(want);
}

static void check_places(const struct strategy_ops *s, const char *task, double tolerance) {
    struct seen first, other;
    int grouped = !strcmp(s->name, "easgd_tree"); /* always those of a device */
    train_on(&first, s, task, places[0]);
    for (int i = 1; i < PLACES && !grouped; i++) {
        train_on(&other, s, task, places[i]);
        int differs = seen_differ(&first, &other);
        cr_assert(differs == -1, "%s on %s: worker %d", s->name, places[i], differs);
        seen_close(&other);
    }
    train_on(&other, s, task, "host");
    check_host(&first, &other, tolerance, s->name);
    seen_close(&other);
    seen_close(&first);
}

Test(any_devices, every_strategy_gives_the_same_bits_wherever_its_workers_sit) {
    static const char task[] =
        "run.steps=12 quadratic.n=100 quadratic.h_min=0.5 quadratic.h_max=2 quadratic.spread=1 "
        "quadratic.sigma=0.1 schedule.rate=0.05";
    for (int i = 0; strategies[i]; i++) check_places(strategies[i], task, 1e-5);
}

Test(any_devices, classifiers_give_the_same_bits_wherever_their_workers_sit) {
    static const char *const names[] = {"allreduce", "easgd", "downpour"};
    runs_text =
        "[model]\nlayers = conv 4 3 same, batchnorm, relu, maxpool 2, dropout 0.2, dense 10\n";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int k = 0;
        while (strcmp(strategies[k]->name, names[i]) != 0) k++;
        check_places(strategies[k], "run.task=classify run.steps=4 schedule.rate=0.01", 1e-4);
    }
}

#endif
