#include "state.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/draft.h"
#include "base/log.h"

enum { NAME = 96, VECTORS_MOST = TEAM_MOST * SEAT_VECS + 64 };

static const char PATTERN[] = "state-%06d.safetensors";

/* ---- numbers: lines of name and value in one text --------------------------------------------- */

/* Written in hexadecimal, so that they read back to the same bits. */
static void put(FILE *f, const char *whose, const char *name, double value) {
    fprintf(f, "%s%s %a\n", whose, name, value);
}

static enum status get(const struct run *run, const char *whose, const char *name, double *value) {
    char line[NAME];
    int n = snprintf(line, sizeof line, "\n%s%s ", whose, name);
    const char *at = strstr(run->numbers, line);
    if (!at) {
        return fail(STATUS_IO, "%s: the saved state has no %s%s: it is of another version",
            run->result.path, whose, name);
    }
    *value = strtod(at + n, NULL);
    return STATUS_OK;
}

static void put_fields(FILE *f, const char *whose, const struct field *fields, const void *object) {
    for (; fields && fields->name; fields++) {
        const void *at = (const char *)object + fields->at;
        double value = 0;
        switch (fields->type) {
        case FIELD_INT:
            value = *(const int *)at;
            break;
        case FIELD_LONG:
            value = (double)*(const long *)at;
            break;
        case FIELD_FLOAT:
            value = (double)*(const float *)at;
            break;
        case FIELD_DOUBLE:
            value = *(const double *)at;
            break;
        }
        put(f, whose, fields->name, value);
    }
}

static enum status get_fields(
    const struct run *run, const char *whose, const struct field *fields, void *object) {
    for (; fields && fields->name; fields++) {
        void *at = (char *)object + fields->at;
        double value;
        TRY(get(run, whose, fields->name, &value));
        switch (fields->type) {
        case FIELD_INT:
            *(int *)at = (int)value;
            break;
        case FIELD_LONG:
            *(long *)at = (long)value;
            break;
        case FIELD_FLOAT:
            *(float *)at = (float)value;
            break;
        case FIELD_DOUBLE:
            *(double *)at = value;
            break;
        }
    }
    return STATUS_OK;
}

/* A worker's numbers; counts are exact up to 2^53. */
enum {
    ROUND,
    STEPS,
    SAMPLES,
    DRAWS,
    DRAWN,
    FIRST_LOSS,
    EXCHANGE,
    WAIT,
    DATA,
    BYTES,
    LOSS_SUM,
    LOSSES,
    NUMBERS
};

static const char *const number_names[NUMBERS] = {"round", "steps", "samples", "draws", "drawn",
    "first_loss", "exchange", "wait", "data", "bytes", "loss_sum", "losses"};

static const struct field run_fields[] = {
    {"samples", FIELD_DOUBLE, offsetof(struct run, samples)},
    {"steps", FIELD_LONG, offsetof(struct run, steps)},
    {"next_evaluation", FIELD_DOUBLE, offsetof(struct run, next_evaluation)},
    {"next_save", FIELD_DOUBLE, offsetof(struct run, next_save)},
    {"seconds", FIELD_DOUBLE, offsetof(struct run, result.seconds)},
    {"best", FIELD_DOUBLE, offsetof(struct run, best)},
    {"rows", FIELD_INT, offsetof(struct run, metrics.rows)},
    {"bytes", FIELD_LONG, offsetof(struct run, metrics.bytes)},
    {"turn", FIELD_INT, offsetof(struct run, turn)},
    {"workers", FIELD_INT, offsetof(struct run, set.workers)},
    {0},
};

static const struct field staleness_fields[] = {
    {"counted", FIELD_DOUBLE, offsetof(struct staleness, counted)},
    {"sum", FIELD_DOUBLE, offsetof(struct staleness, sum)},
    {"most", FIELD_DOUBLE, offsetof(struct staleness, most)},
    {0},
};

static void put_staleness(FILE *f, int rank, const struct staleness *s) {
    char whose[NAME], bin[NAME];
    snprintf(whose, sizeof whose, "worker%d.staleness.", rank);
    put_fields(f, whose, staleness_fields, s);
    for (int i = 0; i < STALENESS_BINS; i++) {
        snprintf(bin, sizeof bin, "bin%d", i);
        put(f, whose, bin, s->bin[i]);
    }
}

static enum status get_staleness(const struct run *run, int rank, struct staleness *s) {
    char whose[NAME], bin[NAME];
    snprintf(whose, sizeof whose, "worker%d.staleness.", rank);
    TRY(get_fields(run, whose, staleness_fields, s));
    for (int i = 0; i < STALENESS_BINS; i++) {
        snprintf(bin, sizeof bin, "bin%d", i);
        TRY(get(run, whose, bin, &s->bin[i]));
    }
    return STATUS_OK;
}

static void put_worker(FILE *f, const struct run *run, const struct crew *c) {
    const struct seat *s = &c->seat;
    const double numbers[NUMBERS] = {
        [ROUND] = (double)s->w.round,
        [STEPS] = (double)s->w.steps,
        [SAMPLES] = s->samples,
        [DRAWS] = (double)s->draws,
        [DRAWN] = (double)s->learner->task->ops->drawn(s->learner),
        [FIRST_LOSS] = c->first_loss,
        [EXCHANGE] = c->spent.exchange - c->excluded_exchange,
        [WAIT] = c->spent.lock_wait + c->waited - c->excluded_wait,
        [DATA] = c->spent.data,
        [BYTES] = c->spent.bytes,
        [LOSS_SUM] = s->learner->loss_sum,
        [LOSSES] = s->learner->losses,
    };
    char whose[NAME];
    snprintf(whose, sizeof whose, "worker%d.", s->w.rank);
    for (int i = 0; i < NUMBERS; i++) put(f, whose, number_names[i], numbers[i]);
    put_staleness(f, s->w.rank, &s->staleness);
    snprintf(whose, sizeof whose, "worker%d.mine.", s->w.rank);
    put_fields(f, whose, run->strategy->ops->local_fields, s->w.mine);
}

/* NULL when there is no memory. */
static char *all_numbers(struct run *run) {
    char whose[NAME];
    struct draft d;
    draft_open(&d);
    if (!d.file) return NULL;
    FILE *f = d.file;
    fputc('\n', f);
    run->turn = team_turn_at_gathering(run->team);
    put_fields(f, "run.", run_fields, run);
    put_fields(f, "strategy.", run->strategy->ops->fields, run->strategy);
    for (int r = 0; r < run->set.workers; r++) put_worker(f, run, &run->crew[r]);
    for (struct shared *s = team_shared(run->team); s; s = shared_next(s)) {
        snprintf(whose, sizeof whose, "shared.%s.", shared_name(s));
        put(f, whose, "mass", *shared_mass(s));
        put(f, whose, "version", shared_version(s));
    }
    return draft_close(&d);
}

/* ---- vectors ---------------------------------------------------------------------------------- */

struct collected {
    struct safetensor tensor[VECTORS_MOST];
    char name[VECTORS_MOST][NAME];
    int n;
    struct arena arena; /* copies of what lives on devices */
};

static enum status collect(struct collected *all, struct stream *q, struct vec v) {
    float *copy = arena_take(&all->arena, v.n * sizeof *copy);
    if (!copy) return fail(STATUS_FAILED, "no memory to save a vector of %zu", v.n);
    stream_copy(q, copy, v.at, v.n * sizeof *copy);
    all->tensor[all->n] =
        (struct safetensor){.name = all->name[all->n], .dims = 1, .dim = {(int)v.n}, .data = copy};
    all->n++;
    return STATUS_OK;
}

static enum status collect_all(struct collected *all, struct run *run, struct stream *q) {
    for (int r = 0; r < run->set.workers; r++) {
        const struct seat *s = &run->crew[r].seat;
        for (int i = 0; i < s->claims; i++) {
            if (s->claim[i].kind != STATE) continue;
            snprintf(all->name[all->n], NAME, "worker%d.%s", r, s->claim[i].name);
            TRY(collect(all, q, s->claim[i].v));
        }
    }
    for (struct shared *s = team_shared(run->team); s; s = shared_next(s)) {
        snprintf(all->name[all->n], NAME, "shared.%s", shared_name(s));
        TRY(collect(all, q, shared_vec(s)));
    }
    return stream_sync(q);
}

static enum status find_vec(
    const struct run *run, const char *name, size_t n, const struct safetensor **out) {
    *out = safetensors_find(&run->state, name);
    if (*out && (*out)->dims == 1 && (size_t)(*out)->dim[0] == n) return STATUS_OK;
    return fail(STATUS_IO, "%s: the saved state has no vector %s of %zu: it is of another run",
        run->result.path, name, n);
}

/* ---- the checksum ----------------------------------------------------------------------------- */

enum { CHECKSUM = 17 }; /* hexadecimal digits and a 0 */

/* Of all that is restored; tensors in any order. */
static void sum_up(char text[CHECKSUM], const struct safetensor *tensor, int n,
    const char *strategy, const char *numbers) {
    uint64_t sum = checksum(checksum(0, strategy, strlen(strategy)), numbers, strlen(numbers));
    for (int i = 0; i < n; i++) {
        const struct safetensor *t = &tensor[i];
        size_t floats = 1;
        for (int k = 0; k < t->dims; k++) floats *= (size_t)t->dim[k];
        sum += checksum(checksum(0, t->name, strlen(t->name)), t->data, floats * sizeof *t->data);
    }
    snprintf(text, CHECKSUM, "%016" PRIx64, sum);
}

/* ---- files ------------------------------------------------------------------------------------ */

static int state_number(const char *name) {
    char again[NAME];
    const char *digits = strpbrk(name, "0123456789");
    long number = digits ? strtol(digits, NULL, 10) : -1;
    if (number < 0 || number > INT_MAX) return -1;
    snprintf(again, sizeof again, PATTERN, (int)number);
    return strcmp(name, again) == 0 ? (int)number : -1;
}

/* The largest number below `below` that a state in the folder has; -1: none. */
static int newest_state(const char *folder, int below) {
    int newest = -1;
    DIR *d = opendir(folder);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        int number = state_number(e->d_name);
        if (number > newest && number < below) newest = number;
    }
    if (d) closedir(d);
    return newest;
}

static void state_path(const struct run *run, int number, char *path, size_t n) {
    char name[NAME];
    snprintf(name, sizeof name, PATTERN, number);
    snprintf(path, n, "%s/%s", run->result.path, name);
}

int state_newest(const struct run *run, char *path, size_t n) {
    int number = newest_state(run->result.path, 1 << 30);
    if (number >= 0) state_path(run, number, path, n);
    return number >= 0;
}

static void remove_old(const struct run *run) {
    char path[512];
    int number = 1 << 30;
    for (int kept = 0; (number = newest_state(run->result.path, number)) >= 0; kept++) {
        if (kept < run->set.keep) continue;
        state_path(run, number, path, sizeof path);
        unlink(path);
    }
}

static enum status write_state(struct run *run, const struct collected *all, const char *numbers) {
    char path[512], sum[CHECKSUM];
    const char *strategy = run->strategy->ops->name;
    const struct safetensors_text texts[] = {{"format", "huddle state"}, {"strategy", strategy},
        {"numbers", numbers}, {"checksum", sum}};
    sum_up(sum, all->tensor, all->n, strategy, numbers);
    state_path(run, run->metrics.rows, path, sizeof path);
    return safetensors_write(path, all->tensor, all->n, texts, sizeof texts / sizeof *texts);
}

enum status state_save(struct run *run, struct stream *q) {
    TRY(metrics_sync(&run->metrics));
    struct collected *all = calloc(1, sizeof *all);
    char *numbers = all_numbers(run);
    enum status end = fail(STATUS_FAILED, "no memory to save the state");
    if (all && numbers) {
        end = collect_all(all, run, q);
        if (end == STATUS_OK) end = write_state(run, all, numbers);
        arena_close(&all->arena);
    }
    free(all);
    free(numbers);
    if (end == STATUS_OK) remove_old(run);
    return end;
}

/* ---- going on --------------------------------------------------------------------------------- */

/* A state whose bytes are those that were written. */
static enum status read_state(struct run *run, const char *path) {
    char sum[CHECKSUM];
    struct safetensors *file = &run->state;
    TRY(safetensors_read(file, path));
    const char *numbers = safetensors_find_text(file, "numbers");
    const char *strategy = safetensors_find_text(file, "strategy");
    const char *wrote = safetensors_find_text(file, "checksum");
    if (!numbers || !strategy || !wrote) return fail(STATUS_IO, "%s is no saved state", path);
    sum_up(sum, file->tensor, file->n, strategy, numbers);
    if (strcmp(sum, wrote) != 0) {
        return fail(
            STATUS_IO, "%s is damaged: its checksum is %s, its bytes give %s", path, wrote, sum);
    }
    run->numbers = numbers;
    return STATUS_OK;
}

static enum status read_newest(struct run *run) {
    char path[512];
    int number = 1 << 30;
    while ((number = newest_state(run->result.path, number)) >= 0) {
        state_path(run, number, path, sizeof path);
        enum status end = read_state(run, path);
        if (end == STATUS_OK) return end;
        safetensors_close(&run->state);
        if (end != STATUS_IO) return end;
        log_warn("%s; trying the state before", fail_message());
    }
    return fail(STATUS_IO, "%s holds no state to go on from", run->result.path);
}

/* What one strategy saved means nothing to another, even where the names are the same. */
static enum status check_strategy(const struct run *run) {
    const char *saved = safetensors_find_text(&run->state, "strategy");
    if (!strcmp(saved, run->strategy->ops->name)) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG,
        "%s was trained by %s and cannot go on with %s; leave out run.strategy", run->result.path,
        saved, run->strategy->ops->name);
}

static enum status restore_shared(struct run *run) {
    char whose[NAME];
    const struct safetensor *saved;
    double version;
    for (struct shared *s = team_shared(run->team); s; s = shared_next(s)) {
        struct vec v = shared_vec(s);
        snprintf(whose, sizeof whose, "shared.%s", shared_name(s));
        TRY(find_vec(run, whose, v.n, &saved));
        TRY(shared_fill(s, saved->data));
        snprintf(whose, sizeof whose, "shared.%s.", shared_name(s));
        TRY(get(run, whose, "mass", shared_mass(s)));
        TRY(get(run, whose, "version", &version));
        shared_set_version(s, version);
    }
    return STATUS_OK;
}

enum status state_open(struct run *run) {
    int workers = run->set.workers;
    TRY(read_newest(run));
    TRY(check_strategy(run));
    TRY(get_fields(run, "run.", run_fields, run));
    if (run->set.workers != workers) {
        return fail(STATUS_BAD_CONFIG, "%s was saved with %d workers and cannot go on with %d",
            run->result.path, run->set.workers, workers);
    }
    TRY(get_fields(run, "strategy.", run->strategy->ops->fields, run->strategy));
    team_restore_turn(run->team, run->turn);
    for (int r = 0; r < workers; r++) team_restore_seconds(run->team, r, run->result.seconds);
    return restore_shared(run);
}

static enum status restore_numbers(struct run *run, struct crew *c) {
    struct seat *s = &c->seat;
    double n[NUMBERS];
    char whose[NAME];
    snprintf(whose, sizeof whose, "worker%d.", s->w.rank);
    for (int i = 0; i < NUMBERS; i++) TRY(get(run, whose, number_names[i], &n[i]));
    TRY(get_staleness(run, s->w.rank, &s->staleness));
    snprintf(whose, sizeof whose, "worker%d.mine.", s->w.rank);
    TRY(get_fields(run, whose, run->strategy->ops->local_fields, s->w.mine));
    s->w.round = (long)n[ROUND];
    s->w.steps = s->steps_told = (long)n[STEPS];
    s->samples = s->samples_told = n[SAMPLES];
    s->draws = (uint64_t)n[DRAWS];
    c->first_loss = n[FIRST_LOSS];
    s->ledger = (struct ledger){.exchange = n[EXCHANGE], .lock_wait = n[WAIT], .bytes = n[BYTES]};
    s->learner->waited = n[DATA];
    s->learner->loss_sum = n[LOSS_SUM];
    s->learner->losses = n[LOSSES];
    team_restore_rounds(run->team, s->w.rank, s->w.round);
    return STATUS_OK;
}

enum status state_restore(struct run *run, struct crew *c) {
    struct seat *s = &c->seat;
    char name[NAME];
    const struct safetensor *saved;
    TRY(restore_numbers(run, c));
    for (int i = 0; i < s->claims; i++) {
        if (s->claim[i].kind != STATE) continue;
        struct vec v = s->claim[i].v;
        snprintf(name, sizeof name, "worker%d.%s", s->w.rank, s->claim[i].name);
        TRY(find_vec(run, name, v.n, &saved));
        stream_copy(s->w.q, v.at, saved->data, v.n * sizeof *v.at);
    }
    return stream_sync(s->w.q);
}

uint64_t state_drawn(const struct run *run, int rank) {
    char whose[NAME];
    double drawn;
    if (!run->numbers) return 0;
    snprintf(whose, sizeof whose, "worker%d.", rank);
    return get(run, whose, "drawn", &drawn) == STATUS_OK ? (uint64_t)drawn : 0;
}
