/* main.c -- from words to a command, from its status to an exit code. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "commands/commands.h"

static enum status unknown(const char *word) {
    const char *nearest = commands->name;
    for (const struct command *c = commands; c->name; c++) {
        if (text_distance(c->name, word) < text_distance(nearest, word)) nearest = c->name;
    }
    return fail(STATUS_BAD_CONFIG, "there is no command \"%s\"; did you mean \"huddle %s\"?", word,
        nearest);
}

static enum status run_command(int words, char **word) {
    if (words == 0) return command_help(0, word);
    for (const struct command *c = commands; c->name; c++) {
        if (!strcmp(c->name, word[0])) return c->run(words - 1, word + 1);
    }
    return unknown(word[0]);
}

int main(int argc, char **argv) {
    /* A file that becomes too large is an error like a full disk, told in words. */
    signal(SIGXFSZ, SIG_IGN);
    enum status end = run_command(argc - 1, argv + 1);
    if (end == STATUS_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        end = fail(STATUS_IO, "cannot write to stdout: %s", strerror(errno));
    }
    if (end != STATUS_OK) log_error("%s", fail_message());
    return status_exit_code(end);
}
