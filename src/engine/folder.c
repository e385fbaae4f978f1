/* folder.c -- runs/<name>/: what a run leaves behind. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/checkpoint.h"
#include "engine/run_inside.h"
#include "engine/state.h"

static void write_config(const struct run *run, FILE *f) {
    options_write(f, "run", run_options, &run->set);
    options_write(f, "topology", topology_options, &run->set);
    options_write(f, "optimizer", optimizer_options, &run->optimizer);
    schedules_write(&run->schedules, f);
    run->task->ops->write_options(run->task, f);
    options_write(f, run->strategy->ops->name, run->strategy->ops->options, run->strategy);
}

static enum status make_folder(const char *path) {
    if (mkdir(path, 0777) == 0 || errno == EEXIST) return STATUS_OK;
    return fail(STATUS_IO, "cannot make the folder %s: %s", path, strerror(errno));
}

/* A name of its own for a run that was given none: easgd-1, easgd-2, ... */
static enum status name_folder(struct run *run) {
    struct run_settings *set = &run->set;
    char *path = run->result.path;
    size_t n = sizeof run->result.path;
    if (*set->name) {
        snprintf(path, n, "%s/%s", set->folder, set->name);
        if (mkdir(path, 0777) == 0) return STATUS_OK;
        if (errno == EEXIST) {
            return fail(STATUS_BAD_CONFIG,
                "there is a run in %s already: choose another run.name, or remove it", path);
        }
        return fail(STATUS_IO, "cannot make the folder %s: %s", path, strerror(errno));
    }
    for (int i = 1; i < 100000; i++) {
        snprintf(set->name, sizeof set->name, "%s-%d", set->strategy, i);
        snprintf(path, n, "%s/%s", set->folder, set->name);
        if (mkdir(path, 0777) == 0) return STATUS_OK;
        if (errno != EEXIST) break;
    }
    return fail(STATUS_IO, "cannot make the folder %s: %s", path, strerror(errno));
}

/* Written beside its place: a run that is killed now can still go on with the old one. */
static enum status save_config(const struct run *run) {
    char path[512], beside[520];
    snprintf(path, sizeof path, "%s/config.ini", run->result.path);
    snprintf(beside, sizeof beside, "%s.part", path);
    FILE *f = fopen(beside, "w");
    if (f) {
        write_config(run, f);
        int good = fflush(f) == 0 && ferror(f) == 0 && fsync(fileno(f)) == 0;
        if (fclose(f) == 0 && good && rename(beside, path) == 0) return STATUS_OK;
    }
    return fail(STATUS_IO, "cannot write %s: %s", path, strerror(errno));
}

enum status folder_open(struct run *run) {
    if (run->setup->resume) {
        snprintf(
            run->result.path, sizeof run->result.path, "%s/%s", run->set.folder, run->set.name);
        return state_open(run);
    }
    TRY(make_folder(run->set.folder));
    return name_folder(run);
}

enum status folder_begin(struct run *run) {
    char path[512];
    if (!*run->result.path) return STATUS_OK;
    TRY(save_config(run));
    snprintf(path, sizeof path, "%s/metrics.jsonl", run->result.path);
    return metrics_open(&run->metrics, path);
}

static char *config_text(const struct run *run) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    write_config(run, f);
    fclose(f);
    return text;
}

/* The answer of this evaluation, and once more under another name while none was better. */
static enum status save_answer(struct run *run, const float *x, const char *config) {
    const struct run_result *r = &run->result;
    double worth = isnan(r->accuracy) ? -r->score.loss : r->accuracy;
    char path[512];
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", r->path);
    TRY(checkpoint_write(path, run->task, x, config));
    if (worth <= run->best) return STATUS_OK;
    run->best = worth;
    snprintf(path, sizeof path, "%s/best.safetensors", r->path);
    return checkpoint_write(path, run->task, x, config);
}

enum status folder_save(struct run *run, struct stream *q, struct vec answer, struct vec b) {
    if (!*run->result.path) return STATUS_OK;
    float *x = malloc((answer.n + b.n) * sizeof *x);
    char *config = config_text(run);
    enum status end = fail(STATUS_FAILED, "no memory to save the answer");
    if (x && config) {
        stream_copy(q, x, answer.at, answer.n * sizeof *x);
        if (b.n) stream_copy(q, x + answer.n, b.at, b.n * sizeof *x);
        end = stream_sync(q);
        if (end == STATUS_OK) end = save_answer(run, x, config);
    }
    free(x);
    free(config);
    if (end != STATUS_OK || (run->samples < run->next_save && !run->stop)) return end;
    run->next_save = run->samples + (double)run->set.save_every * run->task->epoch;
    return state_save(run, q);
}

enum status folder_finish(const struct run *run) {
    const struct run_result *r = &run->result;
    char path[512];
    if (!*r->path) return STATUS_OK;
    snprintf(path, sizeof path, "%s/summary.json", r->path);
    cJSON *top = cJSON_CreateObject();
    cJSON_AddStringToObject(top, "strategy", run->strategy->ops->name);
    cJSON_AddNumberToObject(top, "workers", run->set.workers);
    cJSON_AddNumberToObject(top, "parameters", (double)run->task->parameters);
    cJSON_AddNumberToObject(top, "accuracy", r->accuracy);
    cJSON_AddNumberToObject(top, "loss", r->score.loss / r->score.samples);
    cJSON_AddNumberToObject(top, "epochs", r->epochs);
    cJSON_AddNumberToObject(top, "samples", r->samples);
    cJSON_AddNumberToObject(top, "steps", (double)r->steps);
    cJSON_AddNumberToObject(top, "seconds", r->seconds);
    cJSON_AddNumberToObject(top, "samples_per_second", r->samples / r->seconds);
    cJSON_AddNumberToObject(top, "computing", r->computing);
    cJSON_AddNumberToObject(top, "exchanging", r->exchanging);
    cJSON_AddNumberToObject(top, "waiting", r->waiting);
    cJSON_AddNumberToObject(top, "loading", r->loading);
    cJSON_AddNumberToObject(top, "bytes", r->bytes);
    char *text = top ? cJSON_Print(top) : NULL;
    cJSON_Delete(top);
    FILE *f = text ? fopen(path, "w") : NULL;
    int written = f && fprintf(f, "%s\n", text) > 0;
    if (f && fclose(f) != 0) written = 0;
    free(text);
    return written ? STATUS_OK : fail(STATUS_IO, "cannot write %s: %s", path, strerror(errno));
}
