#include "metrics.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"

enum status metrics_open(struct metrics *m, const char *path) {
    m->file = fopen(path, m->bytes > 0 ? "r+" : "w");
    if (m->file && ftruncate(fileno(m->file), m->bytes) == 0 &&
        fseek(m->file, m->bytes, SEEK_SET) == 0) {
        return STATUS_OK;
    }
    return fail(STATUS_IO, "cannot write %s: %s", path, strerror(errno));
}

/* What was a float, 0.05 that is 0.0500000007 as a double, has no more digits than it had. */
static double float_digits(double v) {
    char text[32];
    if ((double)(float)v != v || v == floor(v)) return v; /* NaN is unequal too */
    return strtod(text_float(text, sizeof text, (float)v), NULL);
}

int metrics_add(cJSON *to, const struct note *numbers, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!cJSON_AddNumberToObject(to, numbers[i].name, float_digits(numbers[i].value))) return 0;
    }
    return 1;
}

/* Pushes, pulls or the like; nothing where nobody counts any. */
static int add_staleness(cJSON *to, const struct staleness *s) {
    const struct note numbers[] = {{"staleness", s->sum / s->counted}, {"staleness_most", s->most}};
    if (!(s->counted > 0)) return 1;
    return metrics_add(to, numbers, 2) && cJSON_AddItemToObject(to, "staleness_histogram",
                                              cJSON_CreateDoubleArray(s->bin, STALENESS_BINS));
}

static char *row_text(const struct run_result *r, long round, const struct note *notes, int n) {
    const struct note numbers[] = {
        {"round", (double)round},
        {"steps", (double)r->steps},
        {"samples", r->samples},
        {"epochs", r->epochs},
        {"seconds", r->seconds},
        {"rate", (double)r->rate},
        {"train_loss", r->train_loss},
        {"loss", r->score.loss / r->score.samples},
        {"accuracy", r->accuracy},
        {"consensus_distance", r->health.consensus_distance},
        {"center_distance", r->health.center_distance},
        {"effective_step", r->health.effective_step},
        {"samples_per_second", r->samples / r->seconds},
        {"computing", r->computing},
        {"exchanging", r->exchanging},
        {"waiting", r->waiting},
        {"loading", r->loading},
        {"bytes", r->bytes},
    };
    cJSON *row = cJSON_CreateObject();
    int whole = metrics_add(row, numbers, sizeof numbers / sizeof *numbers) &&
                add_staleness(row, &r->health.staleness) && metrics_add(row, notes, (size_t)n);
    char *text = whole ? cJSON_PrintUnformatted(row) : NULL;
    cJSON_Delete(row);
    return text;
}

static void accuracy_text(char *text, size_t n, double accuracy) {
    if (isnan(accuracy)) {
        snprintf(text, n, "-");
    } else {
        snprintf(text, n, "%.2f %%", 100 * accuracy);
    }
}

static void print_row(struct metrics *m, const struct run_result *r) {
    char accuracy[32];
    accuracy_text(accuracy, sizeof accuracy, r->accuracy);
    if (m->printed++ == 0) {
        log_numbers("%8s %10s %12s %12s %10s %12s\n", "epoch", "seconds", "train loss", "loss",
            "accuracy", "samples/s");
    }
    log_numbers("%8.2f %10.2f %12.5g %12.5g %10s %12.0f\n", r->epochs, r->seconds, r->train_loss,
        r->score.loss / r->score.samples, accuracy, r->samples / r->seconds);
}

enum status metrics_row(
    struct metrics *m, const struct run_result *r, long round, const struct note *notes, int n) {
    m->rows++;
    if (!m->quiet) print_row(m, r);
    if (!m->file) return STATUS_OK;
    char *text = row_text(r, round, notes, n);
    if (!text) return fail(STATUS_FAILED, "no memory for a row of metrics");
    int written = fprintf(m->file, "%s\n", text) > 0 && fflush(m->file) == 0;
    free(text);
    m->bytes = ftell(m->file);
    if (written) return STATUS_OK;
    return fail(STATUS_IO, "cannot write metrics.jsonl: %s", strerror(errno));
}

enum status metrics_sync(const struct metrics *m) {
    if (!m->file || fsync(fileno(m->file)) == 0) return STATUS_OK;
    return fail(STATUS_IO, "cannot write metrics.jsonl: %s", strerror(errno));
}

enum status metrics_close(struct metrics *m) {
    int bad = m->file && fclose(m->file) != 0;
    m->file = NULL;
    return bad ? fail(STATUS_IO, "cannot write metrics.jsonl: %s", strerror(errno)) : STATUS_OK;
}

void metrics_table(const struct run_result *r, const char *strategy, int workers) {
    char accuracy[32];
    accuracy_text(accuracy, sizeof accuracy, r->accuracy);
    log_numbers(
        "\n%-20s %s, %d worker%s\n", "strategy", strategy, workers, workers == 1 ? "" : "s");
    log_numbers("%-20s %s\n", "test accuracy", accuracy);
    log_numbers("%-20s %.5g\n", "test loss", r->score.loss / r->score.samples);
    log_numbers("%-20s %.0f\n", "samples/s", r->samples / r->seconds);
    log_numbers("%-20s %.2f\n", "seconds computing", r->computing);
    log_numbers("%-20s %.2f\n", "seconds exchanging", r->exchanging);
    log_numbers("%-20s %.2f\n", "seconds waiting", r->waiting);
    log_numbers("%-20s %.2f\n", "seconds loading", r->loading);
    if (*r->path) log_numbers("%-20s %s\n", "files", r->path);
}
