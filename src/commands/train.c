/* train.c -- huddle train and huddle resume. */
#include <signal.h>
#include <string.h>

#include "commands.h"
#include "engine/run.h"
#include "strategies/strategies.h"
#include "tasks/task.h"

/* Set by the first SIGINT or SIGTERM; the second ends the process at once. */
static volatile sig_atomic_t interrupted;

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

/* The folder may have been moved: where it is now beats where config.ini says it was. */
static enum status read_place(struct settings *s, const char *path) {
    char config[512], folder[512], argument[600];
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    snprintf(config, sizeof config, "%.*s/config.ini", (int)n, path);
    snprintf(folder, sizeof folder, "%.*s", (int)n, path);
    TRY(settings_read_file(s, config));
    char *name = strrchr(folder, '/');
    snprintf(argument, sizeof argument, "run.name=%s", name ? name + 1 : folder);
    TRY(settings_read_argument(s, argument));
    if (name) *name = '\0';
    snprintf(argument, sizeof argument, "run.folder=%s", name ? folder : ".");
    return settings_read_argument(s, argument);
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
