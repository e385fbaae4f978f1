#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "commands.h"
#include "engine/schedule.h"
#include "nn/layer.h"
#include "strategies/strategies.h"

static void print_overview(void) {
    printf("huddle trains neural networks with many workers on one machine; one setting says how\n"
           "the workers huddle.\n\n");
    for (const struct command *c = commands; c->name; c++) {
        printf("  %s\n      %s\n", c->usage, c->help);
    }
    printf("\nA setting is group.name=value; the group \"run\" may be left out: strategy=easgd.\n"
           "`huddle help options` lists them all.\n");
}

static void print_train(void) {
    printf("huddle train [file.ini] [group.name=value ...]\n\n"
           "Settings come from the table, then from the file, then from the command line. The run\n"
           "leaves runs/<name>/ with config.ini (can be trained again), metrics.jsonl (a row an\n"
           "evaluation), checkpoint.safetensors (the answer) and summary.json.\n\n"
           "  huddle train                                  EASGD on the digits that ship\n"
           "  huddle train strategy=allreduce workers=2     the same net, synchronously\n"
           "  huddle train data.set=mnist model.layers=2nn  after `data/fetch mnist`\n\n"
           "Exit codes: 0 done, 1 failed, 2 settings, 3 a file or its data, 4 a device,\n"
           "5 a verification failed, 7 diverged, 75 stopped early: `huddle resume` goes on.\n");
}

static void print_topo(void) {
    printf(
        "huddle topo [--json] [--measure] [file.ini] [group.name=value ...]\n\n"
        "The machine as a tree of packages, NUMA nodes, caches and cores, with the workers that\n"
        "run.workers and topology.threads would put there; then the GPUs on the PCI bus, whether\n"
        "or not there is a driver for them: their NUMA node, and what their link runs at now and\n"
        "at most. Packages, nodes and units have the system's numbers, cores huddle's own. Of "
        "GPUs\n"
        "with a driver: what lies between each two, and whether one reaches the other's memory,\n"
        "which is tried; --measure adds how fast copies are.\n\n"
        "  huddle topo workers=2 topology.threads=4\n"
        "  huddle topo --json mine.ini\n"
        "  huddle topo --measure\n");
}

static void print_stability(void) {
    printf(
        "huddle stability [name=value ...]\n\n"
        "The largest absolute eigenvalue of one sweep of ADMM or of EASGD over p workers, for the\n"
        "loss x^2 / 2, over a grid of rates eta and penalties rho: over 1, the method diverges\n"
        "(Zhang, Choromanska, LeCun, arXiv:1412.6651, section 3). Another curvature h: eta h for\n"
        "eta, rho / h for rho.\n\n"
        "  huddle stability p=8 svg=admm.svg csv=admm.csv\n"
        "  huddle stability method=easgd p=8\n"
        "  huddle stability method=largest_eta\n\n");
    options_help(stdout, "stability", stability_options);
}

static void print_strategies(void) {
    for (int i = 0; strategies[i]; i++) {
        printf("  %-12s %s\n", strategies[i]->name, strategies[i]->summary);
    }
    printf("\n`huddle help <strategy>` says more: its rule, its source, its options.\n");
}

static void print_strategy(const struct strategy_ops *s) {
    printf("%s: %s\n\n%s\n\nsource: %s\n", s->name, s->summary, s->help, s->source);
    if (s->options) printf("\noptions, with default, meaning and range:\n");
    options_help(stdout, s->name, s->options);
}

/* Behind `indent` blanks, in lines of at most 96, broken at blanks. */
static void print_wrapped(const char *text, int indent) {
    int room = 96 - indent, n = (int)strlen(text);
    for (int from = 0, to; from < n; from = to + 1) {
        to = from + room < n ? from + room : n;
        while (to < n && to > from && text[to] != ' ') to--;
        printf("%*s%.*s\n", indent, "", to - from, text + from);
    }
}

static void print_models(void) {
    printf("model.layers is a preset:\n\n");
    for (const struct preset *p = presets; p->name; p++) {
        printf("  %-12s %s\n", p->name, p->help);
        print_wrapped(p->layers, 15);
    }
    printf("\nor layers, separated by commas; the last gives one number a class:\n\n");
    for (int i = 0; layer_kinds[i]; i++) printf("  %s\n", layer_kinds[i]->usage);
}

static void print_options(void) {
    for (const struct option_group *g = all_groups(); g->name; g++) {
        if (!g->options) continue;
        printf("[%s] %s\n", g->name, g->help);
        options_help(stdout, g->name, g->options);
        printf("\n");
    }
    printf("schedules, for schedule.use:\n");
    for (int i = 0; base_schedules[i]; i++) {
        printf("  %-12s %s\n", base_schedules[i]->name, base_schedules[i]->summary);
    }
}

static enum status no_topic(const char *word) {
    static const char *const topics[] = {
        "train", "evaluate", "stability", "topo", "strategies", "models", "options"};
    const char *nearest = topics[0];
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        if (text_distance(topics[i], word) < text_distance(nearest, word)) nearest = topics[i];
    }
    for (int i = 0; strategies[i]; i++) {
        const char *name = strategies[i]->name;
        if (text_distance(name, word) < text_distance(nearest, word)) nearest = name;
    }
    return fail(STATUS_BAD_CONFIG, "there is no help on \"%s\"; did you mean \"huddle help %s\"?",
        word, nearest);
}

/* What papers call a strategy that has another name here; any other word is itself. */
static const char *other_name(const char *word) {
    static const char *const names[][2] = {{"eamsgd", "easgd"}, {"gosgd", "gossip"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(names[i][0], word)) return names[i][1];
    }
    return word;
}

enum status command_help(int words, char **word) {
    static const struct {
        const char *topic;
        void (*print)(void);
    } topics[] = {{"train", print_train}, {"topo", print_topo}, {"stability", print_stability},
        {"strategies", print_strategies}, {"models", print_models}, {"options", print_options}};
    if (words == 0) {
        print_overview();
        return STATUS_OK;
    }
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        if (strcmp(topics[i].topic, word[0]) != 0) continue;
        topics[i].print();
        return STATUS_OK;
    }
    for (const struct command *c = commands; c->name; c++) {
        if (strcmp(c->name, word[0]) != 0) continue;
        printf("%s\n    %s\n", c->usage, c->help);
        return STATUS_OK;
    }
    for (int i = 0; strategies[i]; i++) {
        if (strcmp(strategies[i]->name, other_name(word[0])) != 0) continue;
        print_strategy(strategies[i]);
        return STATUS_OK;
    }
    return no_topic(word[0]);
}
