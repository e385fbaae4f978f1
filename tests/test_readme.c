/* test_readme.c -- the README's example of a strategy is compiled as it stands, and is right. */
#include <criterion/criterion.h>

#include "devices/device.h"
#include "engine/run.h"
#include "tasks/task.h"

/* periodic.c, as the Makefile cuts it out of the README. */
#include "readme_strategy.c"

static const struct strategy_ops *const list[] = {&strategy_periodic, NULL};

enum { N = 5, WORKERS = 3 };

static float answers[WORKERS][N];

static void keep(void *with, const struct worker *w) {
    (void)with;
    stream_copy(w->q, answers[w->rank], w->x.at, sizeof answers[0]);
    cr_assert_eq(stream_sync(w->q), STATUS_OK, "%s", fail_message());
}

TestSuite(readme, .timeout = 60);

/* A bowl of curvature 1 around 0, from 1, without noise: each step multiplies x by 1 - eta. */
Test(readme, the_example_strategy_is_local_sgd) {
    static const char *const user[] = {"task=quadratic", "strategy=periodic", "workers=3",
        "quadratic.n=5", "periodic.H=4", "schedule.rate=0.25", "steps=8", "epochs=0"};
    struct settings *settings;
    struct run_result result;
    cr_assert_eq(settings_open(&settings), STATUS_OK);
    for (size_t i = 0; i < sizeof user / sizeof *user; i++) {
        cr_assert_eq(settings_read_argument(settings, user[i]), STATUS_OK);
    }
    struct run_setup setup = {.settings = settings,
        .strategies = list,
        .schedules = base_schedules,
        .tasks = tasks,
        .devices = devices,
        .finished = keep,
        .quiet = 1};
    cr_assert_eq(run_train(&setup, &result), STATUS_OK, "%s", fail_message());
    cr_assert_eq(result.steps, 8 * WORKERS);
    double want = 1;
    for (int t = 0; t < 8; t++) want *= 0.75;
    for (int r = 0; r < WORKERS; r++) {
        for (int i = 0; i < N; i++) cr_assert_float_eq(answers[r][i], want, 1e-6);
    }
    settings_close(settings);
}

/* "How to add a strategy in under 60 lines" is a promise. */
Test(readme, the_example_is_under_sixty_lines) {
    FILE *f = fopen(README_STRATEGY, "r");
    int lines = 0;
    cr_assert(f != NULL);
    for (int c = fgetc(f); c != EOF; c = fgetc(f)) lines += c == '\n';
    fclose(f);
    cr_assert(lines > 20 && lines < 60, "%d lines", lines);
}
