#include "commands.h"

#include <string.h>

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
    {"evaluate", "huddle evaluate runs/<name>/checkpoint.safetensors [group.name=value ...]",
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

enum status read_settings(struct settings *s, int words, char **word, int file) {
    if (file && words > 0 && !strchr(word[0], '=')) {
        TRY(settings_read_file(s, word[0]));
        words--;
        word++;
    }
    for (int i = 0; i < words; i++) TRY(settings_read_argument(s, word[i]));
    return settings_check(s, all_groups());
}
