#include "commands.h"

#include <string.h>
#include <unistd.h>

#include "engine/emulate.h"
#include "engine/run.h"
#include "strategies/strategies.h"
#include "tasks/task.h"

const struct command commands[] = {
    {"train", "huddle train [file.ini] [group.name=value ...]",
        "train; no settings: a demonstration", command_train},
    {"resume", "huddle resume runs/<name> [group.name=value ...]",
        "go on with a run that was stopped, from its newest state", command_resume},
    {"verify-resume", "huddle verify-resume [file.ini] [group.name=value ...]",
        "check that a stopped and resumed run gives the bits of one that never stopped",
        command_verify_resume},
    {"evaluate", "huddle evaluate runs/<name>[/best.safetensors] [group.name=value ...]",
        "judge saved weights", command_evaluate},
    {"stability", "huddle stability [name=value ...]",
        "where ADMM, EASGD and DOWNPOUR come to rest: a table, a CSV file, a picture",
        command_stability},
    {"topo", "huddle topo [--json] [--measure] [file.ini] [group.name=value ...]",
        "show the machine, who would sit where on it, and its GPUs", command_topo},
    {"help", "huddle help [train|evaluate|stability|topo|strategies|<strategy>|models|options]",
        "say more", command_help},
    {0},
};

enum { GROUPS_MOST = 64 };

static struct option_group groups[GROUPS_MOST + 1];
static int count;

static void add(const char *name, const char *help, const struct option *options) {
    ASSERT(count < GROUPS_MOST);
    groups[count++] = (struct option_group){name, help, options};
}

const struct option_group *all_groups(void) {
    if (count > 0) return groups;
    add("run", "what is run, by how many, until when", run_options);
    add("optimizer", "how a gradient moves a replica", optimizer_options);
    add("schedule", "how long a step is", schedules_options);
    for (int i = 0; base_schedules[i]; i++) {
        add(base_schedules[i]->name, base_schedules[i]->summary, base_schedules[i]->options);
    }
    for (int i = 0; tasks[i]; i++) {
        if (tasks[i]->options) add(tasks[i]->name, tasks[i]->summary, tasks[i]->options);
        for (const struct option_group *g = tasks[i]->groups; g && g->name; g++) {
            add(g->name, g->help, g->options);
        }
    }
    for (int i = 0; strategies[i]; i++) {
        add(strategies[i]->name, strategies[i]->summary, strategies[i]->options);
    }
    add("topology", "who sits where", topology_options);
    add("emulate", "a machine that is not there: slow workers, links, virtual time",
        emulate_options);
    return groups;
}

static int is_strategy(const char *word) {
    int n = 0;
    for (int i = 0; strategies[i]; i++) n += strcmp(strategies[i]->name, word) == 0;
    return n > 0;
}

/* What was probably meant by the words that cannot be read from the i-th on. */
static enum status check_words(int words, char **word, int i) {
    int has_sign = i + 1 < words && *word[i + 1] == '=';
    if (has_sign && !strchr(word[i], '=')) {
        const char *value = word[i + 1][1] || i + 2 == words ? word[i + 1] + 1 : word[i + 2];
        return fail(
            STATUS_BAD_CONFIG, "there are blanks around a \"=\": write %s=%s", word[i], value);
    }
    if (!is_strategy(word[i])) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG, "\"%s\" is a strategy: write strategy=%s", word[i], word[i]);
}

enum status read_settings(struct settings *s, int words, char **word, int file) {
    if (file && words > 0 && !strchr(word[0], '=')) {
        if (access(word[0], F_OK) != 0) TRY(check_words(words, word, 0));
        TRY(settings_read_file(s, word[0]));
        words--;
        word++;
    }
    for (int i = 0; i < words; i++) {
        TRY(check_words(words, word, i));
        TRY(settings_read_argument(s, word[i]));
    }
    return settings_check(s, all_groups());
}
