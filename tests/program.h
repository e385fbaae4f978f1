/* program.h -- runs the program as a user would, in its own process, and keeps what it printed.
 *
 * The program is $HUDDLE, or build/huddle. It runs in the test's own folder, so that it finds
 * data/digits; "@" in an argument is the test's folder for files (files.h). A test that dies takes
 * the program with it.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "files.h"

enum { PROGRAM_WORDS = 24, PROGRAM_WORD = 512 };

struct program {
    int code;        /* of the exit; -1: ended by a signal */
    int signal;      /* that ended it; 0: none */
    char *out, *err; /* malloc-ed, 0 behind the last byte */
    size_t out_size, err_size;
};

/* The whole file, malloc-ed, with a 0 behind it; NULL where there is none. */
static inline char *program_load(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    size_t room = 1 << 16, n = 0, got;
    char *text = malloc(room);
    while (text && (got = fread(text + n, 1, room - n - 1, f)) > 0) {
        n += got;
        if (n == room - 1) text = realloc(text, room *= 2);
    }
    fclose(f);
    cr_assert(text != NULL, "no memory for %s", path);
    text[n] = '\0';
    if (size) *size = n;
    return text;
}

/* word <- the argument with the folder put in for each "@". */
static inline void program_word(char word[PROGRAM_WORD], const char *argument) {
    size_t n = 0;
    for (; *argument; argument++) {
        int at = *argument == '@';
        n += (size_t)snprintf(word + n, PROGRAM_WORD - n, "%.*s", at ? (int)sizeof files_folder : 1,
            at ? files_folder : argument);
        cr_assert(n < PROGRAM_WORD, "an argument is too long");
    }
    word[n] = '\0';
}

static inline const char *program_path(void) {
    const char *path = getenv("HUDDLE");
    return path ? path : "build/huddle";
}

/* In the child: becomes the program. */
static inline void program_become(const char *const *argument) {
    static char words[PROGRAM_WORDS][PROGRAM_WORD];
    static char *list[PROGRAM_WORDS + 2];
    const char *path = program_path();
    snprintf(words[0], sizeof words[0], "%s", path);
    list[0] = words[0];
    for (int i = 0; argument[i]; i++) {
        cr_assert(i + 1 < PROGRAM_WORDS, "too many arguments");
        program_word(words[i + 1], argument[i]);
        list[i + 1] = words[i + 1];
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execv(path, list);
    fprintf(stderr, "cannot run %s; is HUDDLE set, and is it built?\n", path);
    _exit(127);
}

static inline void program_end(struct program *p, pid_t child) {
    int status = 0;
    cr_assert(waitpid(child, &status, 0) == child, "the program cannot be waited for");
    p->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    p->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    p->out = program_load(files_path("stdout"), &p->out_size);
    cr_assert(p->out != NULL, "the program left no stdout");
}

static inline void program_redirect(int fd, const char *name) {
    int to = open(files_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (to < 0 || dup2(to, fd) < 0) _exit(126);
    close(to);
}

/* Runs it with these arguments, until NULL, stdout and stderr each into a file. */
static inline struct program program_run(const char *const *argument) {
    struct program p = {0};
    fflush(NULL);
    pid_t child = fork();
    cr_assert(child >= 0, "no child");
    if (child == 0) {
        program_redirect(STDOUT_FILENO, "stdout");
        program_redirect(STDERR_FILENO, "stderr");
        program_become(argument);
    }
    program_end(&p, child);
    p.err = program_load(files_path("stderr"), &p.err_size);
    return p;
}

/* False in a container without /dev/pts, say. */
static inline int program_has_terminals(void) {
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal >= 0) close(terminal);
    return terminal >= 0;
}

/* The same with stderr on a terminal; stdout goes into a file. */
static inline struct program program_run_on_terminal(const char *const *argument) {
    struct program p = {0};
    int terminal;
    size_t room = 1 << 20;
    ssize_t got;
    fflush(NULL);
    pid_t child = forkpty(&terminal, NULL, NULL, NULL);
    cr_assert(child >= 0, "no child on a terminal");
    if (child == 0) {
        program_redirect(STDOUT_FILENO, "stdout");
        program_become(argument);
    }
    p.err = malloc(room);
    while ((got = read(terminal, p.err + p.err_size, room - p.err_size - 1)) > 0) {
        p.err_size += (size_t)got;
    }
    p.err[p.err_size] = '\0';
    close(terminal);
    program_end(&p, child);
    return p;
}

static inline void program_close(struct program *p) {
    free(p->out);
    free(p->err);
}

/* It ended so, and its log has these words. */
static inline void program_says(struct program p, int code, const char *words) {
    cr_assert(p.code == code, "exit %d: %s", p.code, p.err);
    cr_assert(strstr(p.err, words), "\"%s\" is not in: %s", words, p.err);
    program_close(&p);
}

/* A file that it left has these words. */
static inline void program_left(const char *file, const char *words) {
    char *text = program_load(files_path(file), NULL);
    cr_assert(text != NULL, "no %s", file);
    cr_assert(strstr(text, words), "%s has no \"%s\": %s", file, words, text);
    free(text);
}

#define program(...) program_run((const char *const[]){__VA_ARGS__, NULL})
#define program_on_terminal(...) program_run_on_terminal((const char *const[]){__VA_ARGS__, NULL})

#endif
