#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "commands.h"
#include "engine/checkpoint.h"
#include "engine/judge.h"

/* It need not be judged where it was trained, that may be another machine: what was resolved there
 * is as if nobody had said it. What the user says here counts. */
static enum status forget_devices(struct settings *settings, int words, char **word) {
    struct settings *said;
    char everything[] = "run.devices=auto";
    TRY(settings_open(&said));
    enum status end = read_settings(said, words, word, 0);
    int says = settings_has(said, "run", "devices");
    settings_close(said);
    return end == STATUS_OK && !says ? settings_read_argument(settings, everything) : end;
}

/* A run's folder stands for its answer. */
static void find_weights(const char *word, char *path, size_t n) {
    int whole = snprintf(path, n, "%s/checkpoint.safetensors", word) < (int)n;
    if (!whole || access(path, F_OK) != 0) snprintf(path, n, "%s", word);
}

enum status command_evaluate(int words, char **word) {
    char path[4096];
    if (words < 1) return fail(STATUS_BAD_CONFIG, "say which: huddle evaluate runs/<name>");
    find_weights(word[0], path, sizeof path);
    struct settings *settings;
    struct judgment found;
    char *config = NULL;
    TRY(settings_open(&settings));
    enum status end = checkpoint_config(path, &config);
    if (end == STATUS_OK) end = settings_read_text(settings, config, path);
    if (end == STATUS_OK) end = forget_devices(settings, words - 1, word + 1);
    if (end == STATUS_OK) end = read_settings(settings, words - 1, word + 1, 0);
    if (end == STATUS_OK) end = judge_checkpoint(path, settings, tasks, devices, &found);
    if (end == STATUS_OK) {
        const struct score *score = &found.score;
        printf("%-20s %.0f\n", "samples", score->samples);
        printf("%-20s %.5g\n", "loss", score->loss / score->samples);
        if (found.has_accuracy) {
            printf("%-20s %.2f %%\n", "accuracy", 100 * score->right / score->samples);
        }
    }
    free(config);
    settings_close(settings);
    return end;
}
