/* folder.c -- runs/<name>/: what a run leaves behind. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/draft.h"
#include "base/replacement.h"
#include "comm/comm.h"
#include "engine/checkpoint.h"
#include "engine/run_inside.h"
#include "engine/state.h"

static void write_config(const struct run *run, FILE *f) {
    options_write(f, "run", run_options, &run->set);
    options_write(f, "topology", topology_options, &run->set);
    options_write(f, "optimizer", optimizer_options, &run->optimizer);
    options_write(f, "emulate", emulate_options, &run->emulate);
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

/* A run that is killed now can still go on with the old one. */
static enum status save_config(const struct run *run) {
    char path[512];
    struct replacement r;
    snprintf(path, sizeof path, "%s/config.ini", run->result.path);
    TRY(replacement_open(&r, path));
    write_config(run, r.file);
    return replacement_close(&r);
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

char *folder_config(const struct run *run) {
    struct draft d;
    draft_open(&d);
    if (d.file) write_config(run, d.file);
    return draft_close(&d);
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
    char *config = folder_config(run);
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

static int add_words(cJSON *top, const struct run *run) {
    const struct comm *comm = team_comm(run->team);
    char optimizer[16];
    option_word(&optimizer_options[0], run->optimizer.kind, optimizer, sizeof optimizer);
    const char *const words[][2] = {
        {"name", run->set.name}, {"ended", run->over_by ? run->over_by : "interrupted"},
        {"strategy", run->strategy->ops->name}, {"optimizer", optimizer},
        {"devices", run->set.devices}, {"comm", comm->ops->name}, {"comm_why", comm->why},
        {"convolution", run->budget.convolution}, /* "": there is none */
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (*words[i][1] && !cJSON_AddStringToObject(top, words[i][0], words[i][1])) return 0;
    }
    return 1;
}

/* NULL when there is no memory for all of it. */
static char *summary_text(const struct run *run) {
    const struct run_result *r = &run->result;
    const struct note numbers[] = {
        {"workers", run->set.workers},
        {"seed", run->set.seed},
        {"parameters", (double)run->task->parameters},
        {"accuracy", r->accuracy},
        {"loss", r->score.loss / r->score.samples},
        {"consensus_distance", r->health.consensus_distance},
        {"center_distance", r->health.center_distance},
        {"epochs", r->epochs},
        {"samples", r->samples},
        {"steps", (double)r->steps},
        {"seconds", r->seconds},
        {"samples_per_second", r->samples / r->seconds},
        {"computing", r->computing},
        {"exchanging", r->exchanging},
        {"waiting", r->waiting},
        {"loading", r->loading},
        {"bytes", r->bytes},
        {"device_bytes", r->device_bytes},
        {"pinned_bytes", r->pinned_bytes},
    };
    cJSON *top = cJSON_CreateObject();
    int whole = add_words(top, run) && metrics_add(top, numbers, sizeof numbers / sizeof *numbers);
    char *text = whole ? cJSON_Print(top) : NULL;
    cJSON_Delete(top);
    return text;
}

enum status folder_finish(const struct run *run) {
    char path[512];
    struct replacement r;
    if (!*run->result.path) return STATUS_OK;
    snprintf(path, sizeof path, "%s/summary.json", run->result.path);
    char *text = summary_text(run);
    if (!text) return fail(STATUS_FAILED, "no memory for %s", path);
    enum status end = replacement_open(&r, path);
    if (end == STATUS_OK) {
        fprintf(r.file, "%s\n", text);
        end = replacement_close(&r);
    }
    free(text);
    return end;
}
