/* main.c -- from words to a command, from its status to an exit code. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static int asks_for_help(const char *word) {
    return !strcmp(word, "--help") || !strcmp(word, "-h");
}

static enum status run_command(int words, char **word) {
    if (words == 0 || asks_for_help(word[0])) return command_help(0, word);
    if (!strcmp(word[0], "--version")) {
        puts("huddle, unreleased");
        return STATUS_OK;
    }
    for (const struct command *c = commands; c->name; c++) {
        if (strcmp(c->name, word[0]) != 0) continue;
        if (words > 1 && asks_for_help(word[1])) return command_help(c->run != command_help, word);
        return c->run(words - 1, word + 1);
    }
    return unknown(word[0]);
}

/* libgomp's threads spin for milliseconds wherever they wait for one another. On cores of their own
 * they seldom have to; where other programs want the cores too, they burn what the thread that they
 * wait for needs, and two threads become many times slower than one. A thousand turns, some ten
 * microseconds, are enough on a quiet machine, and on a busy one the waiting thread soon sleeps.
 * libgomp reads its environment before main, hence the second start, as the same process; the
 * user's own word stands, and where there can be no second start all goes on as it was. */
static void spin_briefly(char **argv) {
#if defined _OPENMP && defined __linux__
    char self[PATH_MAX];
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return;
    self[n] = '\0';
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv(self, argv);
#else
    (void)argv;
#endif
}

int main(int argc, char **argv) {
    spin_briefly(argv);
    /* A file that becomes too large is an error like a full disk, told in words. */
    signal(SIGXFSZ, SIG_IGN);
    enum status end = run_command(argc - 1, argv + 1);
    if (end == STATUS_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        end = fail(STATUS_IO, "cannot write to stdout: %s", strerror(errno));
    }
    if (end != STATUS_OK) log_error("%s", fail_message());
    return status_exit_code(end);
}
