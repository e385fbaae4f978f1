/* train.c -- huddle train and huddle resume. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "engine/run.h"
#include "strategies/strategies.h"
#include "tasks/task.h"

/* Set by the first SIGINT or SIGTERM; the second ends the process at once. */
static atomic_int interrupted;

static void on_signal(int number) {
    (void)number;
    interrupted = 1;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

static enum status run_with(const struct settings *settings, int resume) {
    struct run_setup setup = {
        .settings = settings,
        .strategies = strategies,
        .schedules = base_schedules,
        .tasks = tasks,
        .devices = devices,
        .resume = resume,
        .interrupt = &interrupted,
    };
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    return run_train(&setup, NULL);
}

enum status command_train(int words, char **word) {
    struct settings *settings;
    TRY(settings_open(&settings));
    enum status end = read_settings(settings, words, word, 1);
    if (end == STATUS_OK) end = run_with(settings, 0);
    settings_close(settings);
    return end;
}

/* "before" followed by n bytes of `text` and "behind", malloc-ed; NULL: no memory. */
static char *joined(const char *before, const char *text, size_t n, const char *behind) {
    char *all = NULL;
    return asprintf(&all, "%s%.*s%s", before, (int)n, text, behind) < 0 ? NULL : all;
}

static enum status read_argument(struct settings *s, char *argument) {
    if (!argument) return fail(STATUS_FAILED, "no memory for the settings");
    enum status end = settings_read_argument(s, argument);
    free(argument);
    return end;
}

/* The folder may have been moved: where it is now beats where config.ini says it was. */
static enum status read_place(struct settings *s, const char *path) {
    size_t n = strlen(path);
    if (n >= PATH_MAX) return fail(STATUS_BAD_CONFIG, "a path of %zu bytes is too long", n);
    while (n > 1 && path[n - 1] == '/') n--;
    const char *slash = memrchr(path, '/', n), *name = slash ? slash + 1 : path;
    char *config = joined("", path, n, "/config.ini");
    if (!config) return fail(STATUS_FAILED, "no memory for the settings");
    enum status end = settings_read_file(s, config);
    free(config);
    TRY(end);
    TRY(read_argument(s, joined("run.name=", name, n - (size_t)(name - path), "")));
    if (!slash) return read_argument(s, joined("run.folder=", ".", 1, ""));
    return read_argument(s, joined("run.folder=", path, (size_t)(slash - path), ""));
}

enum status command_resume(int words, char **word) {
    if (words < 1) return fail(STATUS_BAD_CONFIG, "say which run: huddle resume runs/<name>");
    struct settings *settings;
    TRY(settings_open(&settings));
    enum status end = read_place(settings, word[0]);
    if (end == STATUS_OK) end = read_settings(settings, words - 1, word + 1, 0);
    if (end == STATUS_OK) end = run_with(settings, 1);
    settings_close(settings);
    return end;
}
