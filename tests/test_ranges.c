/* What a tool that draws time is told, by one that counts: listener.c. */
#include "program.h"

#ifndef HAVE_NVTX

TestSuite(ranges, .timeout = 60);

Test(ranges, are_not_in_this_build) { cr_skip_test("built without NVTX"); }

#else

TestSuite(ranges, .timeout = 120, .init = files_open, .fini = files_close);

/* How often a range was begun on a thread. */
static long times(const char *told, const char *thread, const char *range) {
    char line[64];
    snprintf(line, sizeof line, "%s %s ", thread, range);
    const char *at = strstr(told, line);
    return at ? atol(at + strlen(line)) : 0;
}

static char *listen_to(const char *strategy, const char *more, int code) {
    setenv("NVTX_INJECTION64_PATH", LISTENER, 1);
    setenv("LISTENER_TOLD", files_path("told"), 1);
    struct program p = program("train", "folder=@/runs", "workers=2", "steps=6", "run.order=fixed",
        "model.layers=dense 64, dense 10", strategy, more);
    cr_assert(p.code == code, "%s", p.err);
    program_close(&p);
    char *told = program_load(files_path("told"), NULL);
    cr_assert(told != NULL, "nothing was told: is %s loaded?", LISTENER);
    return told;
}

Test(ranges, are_begun_by_each_worker_for_what_it_does) {
    static const char *const workers[] = {"worker 0", "worker 1"};
    char *told = listen_to("strategy=allreduce", "run.eval_every=1e6", 0);
    for (int r = 0; r < 2; r++) {
        cr_assert(times(told, workers[r], "round") == 6, "%s", told);
        cr_assert(times(told, workers[r], "gradient") == 6, "%s", told);
        cr_assert(times(told, workers[r], "data") == 6, "%s", told);
        cr_assert(times(told, workers[r], "step") == 6, "%s", told);
        cr_assert(times(told, workers[r], "exchange") >= 6, "%s", told);
        cr_assert(times(told, workers[r], "wait") > 0, "%s", told);
        cr_assert(times(told, workers[r], "evaluation") == 1, "%s", told);
    }
    cr_assert(times(told, "worker 0", "save") >= 1, "%s", told);
    cr_assert(strstr(told, "open 0\n"), "%s", told);
    free(told);
}

Test(ranges, of_elastic_averaging_are_told_too) {
    char *told = listen_to("strategy=easgd", "easgd.tau=3", 0);
    cr_assert(times(told, "worker 1", "round") == 2, "%s", told);
    cr_assert(times(told, "worker 1", "data") == 6, "%s", told);
    cr_assert(times(told, "worker 1", "step") == 6, "%s", told);
    cr_assert(times(told, "worker 1", "exchange") >= 2, "%s", told);
    cr_assert(times(told, "worker 1", "wait") > 0, "%s", told);
    cr_assert(times(told, "worker 1", "evaluation") > 0, "%s", told);
    cr_assert(strstr(told, "open 0\n"), "%s", told);
    free(told);
}

Test(ranges, end_where_a_run_fails) {
    char *told = listen_to("strategy=allreduce", "schedule.rate=1000", 7);
    cr_assert(strstr(told, "open 0\n"), "%s", told);
    free(told);
}

#endif
