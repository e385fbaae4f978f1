/* verify_resume.c -- huddle verify-resume: the same training, once in one go and once stopped and
 * resumed at moments that chance picks, must end with the same bits on every worker. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "commands.h"
#include "devices/device.h"
#include "engine/run.h"
#include "strategies/strategies.h"
#include "tasks/task.h"

enum { WORKERS_MOST = 64, STOPS = 5 };

/* Every worker's parameters at the end; each worker writes its own entry. */
struct ends {
    float *x[WORKERS_MOST];
    size_t n[WORKERS_MOST];
};

static atomic_int interrupted;

static void on_alarm(int number) {
    (void)number;
    interrupted = 1;
}

static void stop_after(double seconds) {
    struct itimerval timer = {.it_value = {(time_t)seconds,
                                  (suseconds_t)(1e6 * (seconds - (double)(time_t)seconds)) + 1}};
    interrupted = 0;
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void keep_end(void *with, const struct worker *w) {
    struct ends *ends = with;
    free(ends->x[w->rank]); /* of the piece before */
    ends->n[w->rank] = w->x.n;
    float *x = malloc(w->x.n * sizeof *x);
    if (x) stream_copy(w->q, x, w->x.at, w->x.n * sizeof *x);
    if (x && stream_sync(w->q) != STATUS_OK) {
        free(x);
        x = NULL;
    }
    ends->x[w->rank] = x;
}

static void forget(struct ends *ends) {
    for (int r = 0; r < WORKERS_MOST; r++) free(ends->x[r]);
    *ends = (struct ends){0};
}

/* NaN is unlike itself, and its bits are not. */
static uint32_t bits_of(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static enum status compare(const struct ends *a, const struct ends *b) {
    for (int r = 0; r < WORKERS_MOST; r++) {
        if (a->n[r] != b->n[r] || (a->n[r] && (!a->x[r] || !b->x[r]))) {
            return fail(STATUS_VERIFY, "worker %d did not come to its end in both runs", r);
        }
        for (size_t i = 0; i < a->n[r]; i++) {
            if (bits_of(a->x[r][i]) == bits_of(b->x[r][i])) continue;
            return fail(STATUS_VERIFY,
                "the resumed run is another: parameter %zu of worker %d is %.9g, was %.9g", i, r,
                (double)b->x[r][i], (double)a->x[r][i]);
        }
    }
    return STATUS_OK;
}

static void remove_folder(const char *path) {
    char file[1024];
    DIR *d = opendir(path);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.') unlink(file);
    }
    if (d) closedir(d);
    rmdir(path);
}

/* The second run: stopped again and again, after a third of the time that the first took or, where
 * that is up before training begins, after a round. */
static enum status run_in_pieces(struct run_setup *setup, double seconds, int *stops) {
    struct run_result result;
    setup->interrupt = &interrupted;
    enum status end;
    do {
        interrupted = 0;
        if (*stops < STOPS) stop_after(seconds / 3);
        end = run_train(setup, &result);
        setup->resume = 1;
        *stops += end == STATUS_INTERRUPTED;
    } while (end == STATUS_INTERRUPTED);
    signal(SIGALRM, SIG_IGN);
    return end;
}

enum status verify_resume(
    struct settings *settings, const struct strategy_ops *const *list, const char *folder) {
    struct ends whole = {0}, pieces = {0};
    struct run_result result;
    int stops = 0;
    char argument[600], run[600];
    struct run_setup setup = {
        .settings = settings,
        .strategies = list,
        .schedules = base_schedules,
        .tasks = tasks,
        .devices = devices,
        .finished = keep_end,
        .with = &whole,
        .quiet = 1,
    };
    TRY(run_train(&setup, &result));
    snprintf(argument, sizeof argument, "run.folder=%s", folder);
    TRY(settings_read_argument(settings, argument));
    TRY(settings_read_argument(settings, "run.name=pieces"));
    setup.with = &pieces;
    enum status end = run_in_pieces(&setup, result.seconds, &stops);
    if (end == STATUS_OK) end = compare(&whole, &pieces);
    if (end == STATUS_OK) log_numbers("%-20s yes, after %d stops\n", "the same bits", stops);
    forget(&whole);
    forget(&pieces);
    snprintf(run, sizeof run, "%s/pieces", folder);
    remove_folder(run);
    return end;
}

enum status command_verify_resume(int words, char **word) {
    char folder[] = "verify-resume-XXXXXX";
    struct settings *settings;
    TRY(settings_open(&settings));
    enum status end = settings_read_argument(settings, "run.order=fixed");
    if (end == STATUS_OK) end = read_settings(settings, words, word, 1);
    if (end == STATUS_OK && !mkdtemp(folder)) {
        end = fail(STATUS_IO, "cannot make a folder here: %s", strerror(errno));
    } else if (end == STATUS_OK) {
        end = verify_resume(settings, strategies, folder);
        rmdir(folder);
    }
    settings_close(settings);
    return end;
}
