/* options.h -- settings: tables that say what there is, and the user's lines that set it.
 *
 * A table row reads "tau = 10" under [easgd] in a file and "easgd.tau=10" on the command line,
 * checks the range, and writes the help and the resolved configuration. A name without a dot on
 * the command line belongs to group "run". The command line beats the file, the file the table.
 * All mistakes are STATUS_BAD_CONFIG, in words, with the nearest known name.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stddef.h>
#include <stdio.h>

#include "base/status.h"

enum option_type { OPTION_END, OPTION_INT, OPTION_REAL, OPTION_CHOICE, OPTION_TEXT };

struct option {
    const char *name;
    enum option_type type;
    size_t at;     /* offsetof the field: int for INT and CHOICE, float for REAL, char[] for TEXT */
    double init;   /* default; for CHOICE an index into help's words */
    double lo, hi; /* closed range; TEXT: hi is the size of the field */
    const char *help; /* for CHOICE "sync|async: what it means" */
    const char *text; /* TEXT: default; NULL is "" */
};

/* A table and its name. */
struct option_group {
    const char *name, *help;
    const struct option *options; /* until OPTION_END; NULL for none */
};

/* What the user set: lines of group, name, value, in order. */
struct settings;

enum status settings_open(struct settings **out);
void settings_close(struct settings *s);

/* An ini file's lines, or those of a text; where: what messages call it. STATUS_IO when a file
 * cannot be read. A name that is set twice in one file, or twice on the command line, is refused. */
enum status settings_read_file(struct settings *s, const char *path);
enum status settings_read_text(struct settings *s, const char *text, const char *where);

/* One "group.name=value" of the command line. */
enum status settings_read_argument(struct settings *s, const char *argument);

/* Refuses any line whose group or name no group knows, or whose value is out of range. `groups`
 * ends with a NULL name. */
enum status settings_check(const struct settings *s, const struct option_group *groups);

/* Fills the struct at `into` with the table's defaults and then the lines of its group. */
enum status settings_apply(
    const struct settings *s, const char *group, const struct option *options, void *into);

/* Whether there is a line for it at all. */
int settings_has(const struct settings *s, const char *group, const char *name);

/* Adds "group.name" of each line of the group to a list of at most n bytes, with ", " between; of
 * the command line only, where `spoken`. What does not fit is left out. */
void settings_list(const struct settings *s, const char *group, int spoken, char *list, size_t n);

/* "[group]" and a "name = value" line an option, as the struct at `from` has them; they read back
 * to the same bits. Nothing for an empty table. */
void options_write(FILE *f, const char *group, const struct option *options, const void *from);

/* A line an option for the help: name, default, range, meaning. */
void options_help(FILE *f, const char *group, const struct option *options);

/* The i-th word of a CHOICE's help, into a buffer of n bytes; "" past the last. */
void option_word(const struct option *o, int i, char *word, size_t n);

#endif
