/* commands.h -- what `huddle` can be told to do. Each takes the words after its own. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "base/options.h"

struct strategy_ops;

struct command {
    const char *name, *usage, *help;
    enum status (*run)(int words, char **word);
};

extern const struct command commands[]; /* until a NULL name; commands.c */

enum status command_train(int words, char **word);
enum status command_resume(int words, char **word);
enum status command_verify_resume(int words, char **word);
enum status command_evaluate(int words, char **word);
enum status command_stability(int words, char **word);
enum status command_topo(int words, char **word);
enum status command_help(int words, char **word);

/* Of huddle stability, whose settings are no run's. */
extern const struct option stability_options[];

/* Every group of options there is, until a NULL name, made once. */
const struct option_group *all_groups(void);

/* Reads the words that are "group.name=value" and refuses unknown ones; a leading word without
 * "=" is a file when `file` allows it. */
enum status read_settings(struct settings *s, int words, char **word, int file);

/* Trains what the settings say by one of these strategies, in one go and in pieces that are kept in
 * the folder: STATUS_VERIFY where they do not end with the same bits. */
enum status verify_resume(
    struct settings *settings, const struct strategy_ops *const *list, const char *folder);

#endif
