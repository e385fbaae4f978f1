/* Any number of workers on any number of devices: where they sit changes no bit. */
#include "check.h"
#include "runs.h"

TestSuite(any_devices, .timeout = 300);

#ifndef HAVE_CUDA

Test(any_devices, need_cuda) { cr_skip_test("built without CUDA"); }

#else

#define NEEDS_A_GPU                                                                                \
    if (device_cuda.count() == 0) cr_skip_test("there is no GPU: %s", fail_message())

/* A simulated GPU is slow, and eight workers on it tell most. */
#ifdef CUDASIM
static const int teams[] = {8};
#else
static const int teams[] = {8, 4, 2, 1};
#endif
enum { TEAMS = sizeof teams / sizeof *teams };

static const char quadratic[] =
    "run.steps=12 quadratic.n=100 quadratic.h_min=0.5 quadratic.h_max=2 quadratic.spread=1 "
    "quadratic.sigma=0.1 schedule.rate=0.05";

/* One device by itself, and then as many as there are in lists of 2, 4 and 8 that begin anew where
 * they end: with a GPU or two, a device is named several times, and opened as often. */
enum { PLACES = 4 };

static void place_of(int i, char text[128]) {
    int count = device_cuda.count(), length = 1 << i;
    size_t at = 0;
    for (int k = 0; k < length; k++) {
        int device = (length == 1 ? 2 : k) % count;
        at += (size_t)snprintf(text + at, 128 - at, "%scuda:%d", k ? "," : "", device);
    }
}

/* Groups of workers are part of these rules, and by themselves they are those of a device. */
static const char *groups_of(const struct strategy_ops *s, int workers) {
    if (!strcmp(s->name, "easgd_tree")) {
        return workers < 4 ? "easgd_tree.groups=1 easgd_tree.tau=3 easgd_tree.tau_root=4"
                           : "easgd_tree.groups=2 easgd_tree.tau=3 easgd_tree.tau_root=4";
    }
    if (workers < 4) return "";
    if (!strcmp(s->name, "local_sgd")) return "local_sgd.groups=2 local_sgd.blocks=2";
    if (!strcmp(s->name, "gossip")) return "gossip.groups=2 gossip.peers=near";
    return "";
}

static void train_on(struct seen *seen, const struct strategy_ops *s, int workers, const char *task,
    const char *place) {
    run_words(seen, NULL,
        "run.strategy=%s run.workers=%d run.devices=%s run.order=fixed run.seed=3 %s %s", s->name,
        workers, place, task, groups_of(s, workers));
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

static void check_places(
    const struct strategy_ops *s, int workers, const char *task, double tolerance) {
    struct seen first, other;
    char place[128];
    place_of(0, place);
    train_on(&first, s, workers, task, place);
    for (int i = 1; i < PLACES && 1 << i <= workers; i++) {
        place_of(i, place);
        train_on(&other, s, workers, task, place);
        int differs = seen_differ(&first, &other);
        cr_assert(
            differs == -1, "%s, %d workers on %s: worker %d", s->name, workers, place, differs);
        seen_close(&other);
    }
    train_on(&other, s, workers, task, "host");
    check_host(&first, &other, tolerance, s->name);
    seen_close(&other);
    seen_close(&first);
}

static void check_teams(const struct strategy_ops *s, const char *task, double tolerance) {
    for (int i = 0; i < TEAMS; i++) {
        if (i > 0 && runs_workers(s, teams[i - 1]) == runs_workers(s, teams[i])) continue;
        check_places(s, runs_workers(s, teams[i]), task, tolerance);
    }
}

Test(any_devices, every_strategy_gives_the_same_bits_wherever_its_workers_sit) {
    NEEDS_A_GPU;
    for (int i = 0; strategies[i]; i++) check_teams(strategies[i], quadratic, 1e-5);
}

/* On four devices, in so many groups; 0: in those of a device. */
static void train_grouped(struct seen *seen, int workers, const char *words, int groups) {
    char place[128];
    place_of(2, place);
    run_words(seen, NULL, "run.workers=%d run.devices=%s run.order=fixed %s run.strategy=%s=%d",
        workers, place, quadratic, words, groups);
    cr_assert(seen->end == STATUS_OK, "%s: %s", words, seen->why);
}

Test(any_devices, workers_of_a_device_are_a_group_where_nothing_else_is_said) {
    static const char *const ways[] = {
        "easgd_tree easgd_tree.tau=2 easgd_tree.tau_root=4 easgd_tree.groups",
        "gossip gossip.p=0.7 gossip.peers=near gossip.groups",
        "local_sgd local_sgd.H=2 local_sgd.blocks=2 local_sgd.groups"};
    NEEDS_A_GPU;
    for (int i = 0; i < 2 * 3; i++) {
        int workers = i % 2 ? 8 : 6; /* two on each, or one or two */
        struct seen by_itself, four, one = {0};
        train_grouped(&by_itself, workers, ways[i / 2], 0);
        train_grouped(&four, workers, ways[i / 2], 4);
        if (i % 2 == 0) train_grouped(&one, workers, ways[i / 2], 1);
        cr_assert_eq(seen_differ(&by_itself, &four), -1, "%d workers, %s", workers, ways[i / 2]);
        cr_assert(seen_differ(&one, &four) >= 0, "%s: groups change nothing", ways[i / 2]);
        seen_close(&by_itself);
        seen_close(&four);
        seen_close(&one);
    }
}

static void check_classifiers(
    const char *layers, const char *rate, const char *const *names, int n) {
    char text[256], task[128];
    snprintf(task, sizeof task, "run.task=classify run.steps=4 schedule.rate=%s", rate);
    snprintf(text, sizeof text, "[model]\nlayers = %s\n", layers);
    runs_text = text;
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (strcmp(strategies[k]->name, names[i]) != 0) k++;
        check_teams(strategies[k], task, 1e-4);
    }
    runs_text = "";
}

/* Each kind of layer is in one of the two; what has no kinks may learn fast. */
Test(any_devices, classifiers_give_the_same_bits_wherever_their_workers_sit) {
    static const char *const names[] = {"allreduce", "easgd", "downpour"};
    NEEDS_A_GPU;
    check_classifiers("conv 4 3 same, batchnorm, relu, maxpool 2, flatten, dropout 0.2, dense 10",
        "0.01", names, 3);
    check_classifiers("residual(conv 4 3 same, tanh), avgpool 2, sigmoid, globalavgpool, dense 10",
        "0.1", names, 1);
}

#endif
