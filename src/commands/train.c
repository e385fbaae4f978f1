#include "commands.h"
#include "engine/run.h"
#include "strategies/strategies.h"
#include "tasks/task.h"

enum status command_train(int words, char **word) {
    struct settings *settings;
    TRY(settings_open(&settings));
    struct run_setup setup = {
        .settings = settings,
        .strategies = strategies,
        .schedules = base_schedules,
        .tasks = tasks,
    };
    enum status end = read_settings(settings, words, word, 1);
    if (end == STATUS_OK) end = run_train(&setup, NULL);
    settings_close(settings);
    return end;
}
