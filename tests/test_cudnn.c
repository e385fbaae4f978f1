/* Which way a run convolves on GPUs: what $HUDDLE says of it, what it keeps for a resume, and that bits
 * are the same again. The kernels by themselves: test_cuda_kernels.c. */
#include "program.h"
#include "runs.h"

#ifdef HAVE_CUDA
#include <cuda_runtime.h>
#endif

TestSuite(cudnn, .timeout = 300, .init = files_open, .fini = files_close);

#if !defined CUDASIM || !defined HAVE_CUDNN

Test(cudnn, convolves_in_runs) { cr_skip_test("needs the simulated CUDA with cuDNN: make sim"); }

#else
#include <cudnn.h>

/* ---- in words --------------------------------------------------------------------------------- */

/* A short run named "a"; steps counts from its beginning. */
static struct program train_by(
    const char *rounding, const char *command, const char *steps, const char *more) {
    const char *folder = strcmp(command, "resume") ? "folder=@/runs" : "@/runs/a";
    const char *name = strcmp(command, "resume") ? "name=a" : "run.keep=2";
    return program(command, folder, name, steps, "strategy=allreduce", "workers=2",
        "devices=cuda:0,cuda:1", rounding, more);
}

static struct program train(const char *command, const char *steps, const char *more) {
    return train_by("tf32=1", command, steps, more);
}

Test(cudnn, is_told_and_kept_in_the_resolved_settings) {
    program_says(train("train", "steps=2", "seed=1"), 0, "convolutions by cuDNN 9.1.0\n");
    program_left("runs/a/config.ini", "\ncudnn = 1\n");
    program_left("runs/a/summary.json", "\"convolution\":\t\"cuDNN 9.1.0\"");
}

Test(cudnn, tells_how_many_shapes_it_does_not_do) {
    program_says(train("train", "steps=2", "model.layers=conv 4 2 same, conv 4 3 same, dense 10"),
        0, "convolutions by cuDNN 9.1.0, 1 of 2 shapes by columns and products\n");
}

Test(cudnn, that_is_missing_is_done_without) {
    setenv("CUDASIM_CUDNN", "0", 1);
    program_says(train("train", "steps=2", "seed=1"), 0,
        "convolutions by columns and products; no cuDNN: there is no simulated cuDNN");
    program_left("runs/a/config.ini", "\ncudnn = 0\n");
    program_left("runs/a/summary.json", "\"convolution\":\t\"columns and products; no cuDNN: ");
}

Test(cudnn, that_is_not_wanted_is_not_asked_for) {
    program_says(train("train", "steps=2", "cudnn=0"), 0, "convolutions by columns and products\n");
    program_left("runs/a/config.ini", "\ncudnn = 0\n");
}

Test(cudnn, convolves_in_float32_only_where_the_user_says_so) {
    program_says(train_by("tf32=0", "train", "steps=2", "seed=1"), 0,
        "convolutions by columns and products\n");
    program_left("runs/a/config.ini", "\ncudnn = 0\n");
}

Test(cudnn, is_no_matter_where_nothing_convolves) {
    struct program p = train("train", "steps=2", "model.layers=dense 10");
    cr_assert(p.code == 0 && !strstr(p.err, "convolution"), "%s", p.err);
    program_close(&p);
    program_left("runs/a/config.ini", "\ncudnn = auto\n");
}

Test(cudnn, that_is_insisted_on_must_be_there) {
    setenv("CUDASIM_CUDNN", "0", 1);
    program_says(train("train", "steps=2", "cudnn=1"), 4,
        "run.cudnn = 1, and there is none: convolutions by columns and products; no cuDNN: there "
        "is no simulated cuDNN");
    cr_assert(access(files_path("runs"), F_OK) != 0, "a folder was made");
}

Test(cudnn, must_be_there_for_a_run_in_fixed_order_that_goes_on) {
    program_says(train("train", "steps=2", "order=fixed"), 0, "convolutions by cuDNN");
    setenv("CUDASIM_CUDNN", "0", 1);
    program_says(train("resume", "steps=4", "order=fixed"), 4, "say 0 or auto");
    program_says(
        train("resume", "steps=4", "cudnn=0"), 0, "convolutions by columns and products\n");
}

Test(cudnn, need_not_be_there_for_a_run_in_free_order_that_goes_on) {
    program_says(train("train", "steps=2", "seed=1"), 0, "convolutions by cuDNN");
    setenv("CUDASIM_CUDNN", "0", 1);
    program_says(train("resume", "steps=4", "seed=1"), 0,
        "this run convolved by cuDNN; from here on convolutions by columns and products");
    program_left("runs/a/config.ini", "\ncudnn = 0\n");
    setenv("CUDASIM_CUDNN", "1", 1);
    program_says(train("resume", "steps=6", "seed=1"), 0, "convolutions by columns and products\n");
}

/* ---- another answer for a worker than for the plan ---- */

static int learners; /* that were opened: the plan's come first */

static enum status open_without(
    struct task *t, struct learner **out, int rank, struct stream *q, uint64_t drawn) {
    if (learners++ == 1) setenv("CUDASIM_CUDNN", "0", 1);
    return tasks[0]->learner_open(t, out, rank, q, drawn);
}

Test(cudnn, that_was_planned_with_must_be_there_for_each_worker) {
    struct task_ops without = *tasks[0]; /* classify */
    const struct task_ops *const list[] = {&without, NULL};
    const struct watch watch = {.tasks = list};
    struct seen seen;
    without.learner_open = open_without;
    run_words(&seen, &watch,
        "run.strategy=alone run.task=classify run.steps=2 run.workers=1 run.cudnn=1");
    cr_assert(learners == 2 && seen.end == STATUS_DEVICE, "%d: %s", learners, seen.why);
    cr_assert(strstr(seen.why, "run.cudnn = 1, and there is none"), "%s", seen.why);
    seen_close(&seen);
}

/* ---- in bits ---------------------------------------------------------------------------------- */

static struct seen learned_by(const char *cudnn, const char *more) {
    struct seen seen;
    run_words(&seen, NULL,
        "run.strategy=easgd run.task=classify run.order=fixed run.steps=12 run.workers=3 "
        "schedule.rate=0.01 run.cudnn=%s %s",
        cudnn, more);
    cr_assert(seen.end == STATUS_OK, "%s: %s", more, seen.why);
    return seen;
}

static struct seen learned(const char *more) { return learned_by("1", more); }

Test(cudnn, gives_the_same_bits_again_on_any_devices) {
    static const char *const cases[] = {"run.devices=cuda:0", "run.devices=cuda:0,cuda:1,cuda:2",
        "run.devices=cuda:2,cuda:2,cuda:3", "run.devices=cuda:0 run.graph=0"};
    struct seen first = learned(cases[0]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        long before = cudasim_cudnn_calls();
        struct seen again = learned(cases[i]);
        cr_assert(cudasim_cudnn_calls() > before);
        cr_assert(seen_differ(&first, &again) == -1, "%s", cases[i]);
        seen_close(&again);
    }
    seen_close(&first);
}

Test(cudnn, convolves_as_often_as_the_settings_say) {
    for (int on = 0; on < 2; on++) {
        long before = cudasim_cudnn_calls();
        struct seen seen = learned_by(on ? "1" : "0", "");
        cr_assert((cudasim_cudnn_calls() > before) == on, "run.cudnn=%d", on);
        seen_close(&seen);
    }
}

Test(cudnn, rounds_to_tf32_on_request_only) {
    for (int on = 0; on < 2; on++) {
        long before = cudasim_cudnn_tf32_calls();
        struct seen seen = learned(on ? "run.tf32=1" : "run.tf32=0");
        cr_assert((cudasim_cudnn_tf32_calls() > before) == on, "run.tf32=%d", on);
        seen_close(&seen);
    }
}

Test(cudnn, leaves_nothing) {
    long before = cudasim_live();
    struct seen seen = learned("run.devices=cuda:0,cuda:1");
    seen_close(&seen);
    cr_assert(cudasim_live() == before, "%ld more", cudasim_live() - before);
}

#endif
