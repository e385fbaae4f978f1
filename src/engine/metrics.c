#include "metrics.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

enum status metrics_open(struct metrics *m, const char *path) {
    m->file = fopen(path, m->bytes > 0 ? "r+" : "w");
    if (m->file && ftruncate(fileno(m->file), m->bytes) == 0 &&
        fseek(m->file, m->bytes, SEEK_SET) == 0) {
        return STATUS_OK;
    }
    return fail(STATUS_IO, "cannot write %s: %s", path, strerror(errno));
}

/* JSON has no NaN: cJSON writes null. */
static char *row_text(const struct run_result *r, long round, const struct note *notes, int n) {
    cJSON *row = cJSON_CreateObject();
    cJSON_AddNumberToObject(row, "round", (double)round);
    cJSON_AddNumberToObject(row, "steps", (double)r->steps);
    cJSON_AddNumberToObject(row, "samples", r->samples);
    cJSON_AddNumberToObject(row, "epochs", r->epochs);
    cJSON_AddNumberToObject(row, "seconds", r->seconds);
    cJSON_AddNumberToObject(row, "rate", (double)r->rate);
    cJSON_AddNumberToObject(row, "train_loss", r->train_loss);
    cJSON_AddNumberToObject(row, "loss", r->score.loss / r->score.samples);
    cJSON_AddNumberToObject(row, "accuracy", r->accuracy);
    cJSON_AddNumberToObject(row, "samples_per_second", r->samples / r->seconds);
    cJSON_AddNumberToObject(row, "computing", r->computing);
    cJSON_AddNumberToObject(row, "exchanging", r->exchanging);
    cJSON_AddNumberToObject(row, "waiting", r->waiting);
    cJSON_AddNumberToObject(row, "loading", r->loading);
    cJSON_AddNumberToObject(row, "bytes", r->bytes);
    for (int i = 0; i < n; i++) cJSON_AddNumberToObject(row, notes[i].name, notes[i].value);
    char *text = row ? cJSON_PrintUnformatted(row) : NULL;
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
