/* test_lost.c -- a GPU that is lost in the middle of a run ends it in words, whatever the strategy, and
 * hangs nobody. The GPUs are simulated. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "runs.h"

TestSuite(lost, .timeout = 120);

#ifndef CUDASIM

Test(lost, needs_the_simulated_cuda) { cr_skip_test("built without it: make sim"); }

#else

enum { WORKERS = 4, PATIENCE = 20 /* seconds for a run of milliseconds, on a crowded machine */ };

/* The last worker's GPU is lost: after a round of its own, or while it does whatever it does. */
struct loss {
    int device, in_passing;
};

static void lose(void *with, const struct worker *w, struct vec answer) {
    const struct loss *loss = with;
    (void)answer;
    if (w->rank == (loss->in_passing ? 0 : w->size - 1) && w->round == 3) {
        cudasim_fault(loss->device);
    }
}

/* Ends the process: 0 where the run failed in words that name the GPU. */
static void lose_one(const char *words, struct loss *loss) {
    static const struct device_ops *const gpus[] = {&device_cuda, NULL};
    struct watch watch = {.rounded = lose, .with = loss};
    struct seen seen;
    char want[32];
    runs_devices = gpus;
    alarm(PATIENCE);
    run_words(&seen, &watch, "%s", words);
    snprintf(want, sizeof want, "worker %d: cuda:%d: ", loss->device, loss->device);
    int right = seen.end == STATUS_DEVICE && !strncmp(seen.why, want, strlen(want));
    if (!right) fprintf(stderr, "%s: %d: %s\n", words, (int)seen.end, seen.why);
    seen_close(&seen);
    if (cudasim_live() != 0) fprintf(stderr, "%s: %ld are open\n", words, cudasim_live());
    _exit(right && cudasim_live() == 0 ? 0 : 1);
}

/* In a process of its own: what is lost stays lost. */
static void check_loss(const char *words, struct loss loss) {
    int status = -1;
    fflush(NULL);
    pid_t child = fork();
    cr_assert(child >= 0, "no child");
    if (child == 0) lose_one(words, &loss);
    cr_assert(waitpid(child, &status, 0) == child, "no child");
    cr_assert(!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM, "this run hangs: %s", words);
    cr_assert_eq(status, 0, "%s: status %x", words, (unsigned)status);
}

static void check_all(int fixed) {
    static const char *const ways[] = {"run.order=free run.comm=nccl run.center=zero_copy",
        "run.order=fixed run.comm=copy run.center=staged"};
    char words[512];
    for (int i = 0; strategies[i]; i++) {
        const char *name = strategies[i]->name;
        int workers = runs_workers(strategies[i], WORKERS);
        snprintf(words, sizeof words,
            "run.strategy=%s %s run.workers=%d run.devices=cuda quadratic.n=3000 run.steps=1e6 "
            "schedule.rate=0.001 %s",
            name, strategy_words(name), workers, ways[fixed]);
        for (int k = 0; k < 2; k++) check_loss(words, (struct loss){workers - 1, k});
    }
}

#define NEEDS_GPUS                                                                                 \
    if (device_cuda.count() < WORKERS) cr_skip_test("needs %d GPUs", WORKERS)

Test(lost, a_gpu_ends_every_strategy_in_free_order) {
    NEEDS_GPUS;
    check_all(0);
}

Test(lost, a_gpu_ends_every_strategy_in_fixed_order) {
    NEEDS_GPUS;
    check_all(1);
}

#endif
