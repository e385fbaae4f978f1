/* test_resume.c -- a run that was stopped, killed or moved goes on as if it never had been; also the
 * program, $HUDDLE. */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <sys/resource.h>
#include <time.h>

#include "base/log.h"
#include "base/options.h"
#include "base/safetensors.h"
#include "program.h"
#include "runs.h"

/* Thousands of small files: in memory, where the system has such a folder. */
static void open_all(void) {
    static const char memory[] = "/dev/shm";
    if (access(memory, W_OK) == 0) setenv("TMPDIR", memory, 0);
    files_open();
    log_show(LOG_ERROR);
}

/* The program would train with plain loops under ThreadSanitizer, and is not built for it. */
#define STARTS_PROGRAM                                                                             \
    do {                                                                                           \
        if (UNDER_TSAN) cr_skip_test("it starts the program: make test runs it");                  \
    } while (0)

TestSuite(resume, .init = open_all, .fini = files_close, .timeout = 600);

/* ---- a strategy with something of everything that is saved ------------------------------------ */

struct keeper {
    struct strategy base;
    struct shared *pot;
    int turns;
    long sum;
    float slope;
    double share;
};

struct keeper_local {
    struct vec memory, scratch;
    int turns;
    long sum;
    float slope;
    double share;
};

/* A worker comes to the pot as often as it draws, and not once a round. */
static int keeper_is_uneven;
static enum vec_kind keeper_memory = STATE;

static const struct field keeper_fields[] = {
    {"turns", FIELD_INT, offsetof(struct keeper, turns)},
    {"sum", FIELD_LONG, offsetof(struct keeper, sum)},
    {"slope", FIELD_FLOAT, offsetof(struct keeper, slope)},
    {"share", FIELD_DOUBLE, offsetof(struct keeper, share)},
    {0},
};

static const struct field keeper_local_fields[] = {
    {"turns", FIELD_INT, offsetof(struct keeper_local, turns)},
    {"sum", FIELD_LONG, offsetof(struct keeper_local, sum)},
    {"slope", FIELD_FLOAT, offsetof(struct keeper_local, slope)},
    {"share", FIELD_DOUBLE, offsetof(struct keeper_local, share)},
    {0},
};

static enum status keeper_open(struct strategy *base, struct team *team, struct vec x0) {
    return shared_open(&((struct keeper *)base)->pot, team, "pot", HOME_HOST, x0);
}

static void keeper_close(struct strategy *base) { shared_close(((struct keeper *)base)->pot); }

static enum status keeper_join(struct strategy *base, struct worker *w) {
    (void)base;
    struct keeper_local *l = w->mine;
    TRY(worker_vec(w, "memory", &l->memory, w->x.n, keeper_memory));
    return worker_vec(w, "scratch", &l->scratch, w->x.n, SCRATCH);
}

/* x moves by a share that depends on every number there is: what is lost shows in x. */
static void keeper_meet(struct keeper *s, struct worker *w) {
    struct keeper_local *l = w->mine;
    shared_lock(w, s->pot);
    double *mass = shared_mass(s->pot);
    s->turns = (5 * s->turns + w->rank + 1) % 1009;
    s->sum = (3 * s->sum + s->turns) % 1000003;
    s->slope = 0.7f * s->slope + 0.1f * (float)(s->turns % 7);
    s->share = s->share / 3 + 0.1 * (double)(s->sum % 11);
    *mass = *mass / 2 + 0.1 * (w->rank + 1);
    l->turns = (7 * l->turns + s->turns) % 1013;
    l->sum = (5 * l->sum + l->turns) % 1000033;
    l->slope = 0.8f * l->slope + 0.1f * (float)(l->turns % 5);
    l->share = l->share / 5 + 0.1 * (double)(l->sum % 13);
    double all = 0.618 * s->turns + 0.414 * (double)s->sum + (double)s->slope + s->share +
                 0.732 * l->turns + 0.236 * (double)l->sum + (double)l->slope + l->share + *mass +
                 0.1 * worker_draw(w, 1000) + 0.1 * team_draw(w, 7, 1000);
    float pull = 0.1f * (float)(all - floor(all));
    shared_read(w, s->pot, l->scratch);
    vec_mix(w->q, l->memory, 0.9f, 0.1f, l->scratch);
    vec_mix(w->q, w->x, 1 - pull, pull, l->memory);
    shared_mix(w, s->pot, 0.8f, 0.2f, w->x);
    shared_unlock(w, s->pot);
}

static enum status keeper_round(struct strategy *base, struct worker *w) {
    int visits = keeper_is_uneven ? (int)worker_draw(w, 4) : 1;
    worker_grad(w);
    worker_step(w);
    for (int i = 0; i < visits; i++) keeper_meet((struct keeper *)base, w);
    return STATUS_OK;
}

static struct vec keeper_answer(struct strategy *base, struct worker *w) {
    worker_note(w, "version", shared_version(((struct keeper *)base)->pot), OVER_MEAN);
    return w->x;
}

static struct strategy_ops keeper = {
    .name = "keeper",
    .size = sizeof(struct keeper),
    .local_size = sizeof(struct keeper_local),
    .fields = keeper_fields,
    .local_fields = keeper_local_fields,
    .open = keeper_open,
    .join = keeper_join,
    .round = keeper_round,
    .answer = keeper_answer,
    .close = keeper_close,
};

/* ---- runs in this process --------------------------------------------------------------------- */

enum { STRATEGIES_MOST = 64, WORDS = 2048 };
static struct strategy_ops spy[STRATEGIES_MOST];
static const struct strategy_ops *real[STRATEGIES_MOST];
static atomic_int stop_now;
static long stop_at;                            /* interrupted in this round of rank 0; 0: never */
static void (*at_evaluation)(const char *name); /* on rank 0, before anything is saved */
static const char *name_now;

/* As a timer would, once somebody listens. */
static void ring_alarm(void) {
    struct sigaction now;
    sigaction(SIGALRM, NULL, &now);
    if (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN) raise(SIGALRM);
}

static enum status spied_round(struct strategy *s, struct worker *w) {
    if (w->rank == 0 && w->round + 1 == stop_at) {
        stop_now = 1;
        ring_alarm();
    }
    return real[s->ops - spy]->round(s, w);
}

static struct vec spied_answer(struct strategy *s, struct worker *w) {
    const struct strategy_ops *ops = real[s->ops - spy];
    if (w->rank == 0 && at_evaluation) at_evaluation(name_now);
    return ops->answer ? ops->answer(s, w) : w->x;
}

static void list_spies(const struct strategy_ops **list) {
    int n = 0;
    for (; strategies[n]; n++) real[n] = strategies[n];
    real[n++] = &keeper;
    for (int i = 0; i < n; i++) {
        spy[i] = *real[i];
        spy[i].round = spied_round;
        spy[i].answer = spied_answer;
        list[i] = &spy[i];
    }
    list[n] = NULL;
}

/* The run `name` in the test's folder; a small model where it classifies. */
static enum status go(
    struct seen *seen, const char *name, int resume, const char *common, const char *more) {
    char words[WORDS];
    const struct strategy_ops *list[STRATEGIES_MOST];
    static const char *const small = "[model]\nlayers = dense 10\n";
    snprintf(words, sizeof words, "run.name=%s run.folder=%s %s %s", name, files_folder, common,
        more ? more : "");
    struct settings *set = runs_settings(words);
    cr_assert(settings_read_text(set, small, "a model") == STATUS_OK, "%s", fail_message());
    *seen = (struct seen){0};
    name_now = name;
    stop_now = 0;
    list_spies(list);
    struct run_setup setup = {.settings = set,
        .strategies = list,
        .schedules = base_schedules,
        .tasks = tasks,
        .devices = devices,
        .finished = runs_finished,
        .with = seen,
        .quiet = 1,
        .resume = resume,
        .interrupt = &stop_now};
    seen->end = run_train(&setup, &seen->result);
    snprintf(seen->why, sizeof seen->why, "%s", seen->end == STATUS_OK ? "" : fail_message());
    settings_close(set);
    return seen->end;
}

/* The first worker that is not the same to the bit; -1: none. */
static int first_other(const struct seen *a, const struct seen *b) {
    if (a->size != b->size || a->n != b->n || a->n == 0) return 0;
    for (int r = 0; r < a->size; r++) {
        if (a->rounds[r] != b->rounds[r] || a->steps[r] != b->steps[r]) return r;
        if (memcmp(a->x[r], b->x[r], a->n * sizeof(float)) != 0) return r;
    }
    return -1;
}

static const char *run_path(const char *name, const char *file) {
    char both[256];
    snprintf(both, sizeof both, "%s/%s", name, file);
    return files_path(both);
}

/* The same tensors in the same file of two runs. */
static int has_same_tensors(const char *one, const char *other, const char *file) {
    struct safetensors a, b;
    cr_assert(safetensors_read(&a, run_path(one, file)) == STATUS_OK, "%s", fail_message());
    cr_assert(safetensors_read(&b, run_path(other, file)) == STATUS_OK, "%s", fail_message());
    int same = a.n == b.n && a.n > 0;
    for (int i = 0; i < a.n && same; i++) {
        const struct safetensor *t = &a.tensor[i], *u = safetensors_find(&b, t->name);
        size_t n = 1;
        for (int k = 0; k < t->dims; k++) n *= (size_t)t->dim[k];
        same = u && u->dims == t->dims && memcmp(u->dim, t->dim, sizeof t->dim) == 0 &&
               memcmp(u->data, t->data, n * sizeof(float)) == 0;
    }
    safetensors_close(&a);
    safetensors_close(&b);
    return same;
}

static char *load(const char *path, size_t *size) {
    *size = 0;
    char *text = program_load(path, size);
    cr_assert(text != NULL, "no %s", path);
    return text;
}

static void forget(const char *name) {
    nftw(files_path(name), files_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- states and rows -------------------------------------------------------------------------- */

enum { STATES_MOST = 256 };

static int by_number(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* The numbers of a run's states, rising. */
static int list_states(const char *name, int number[STATES_MOST]) {
    int n = 0;
    DIR *d = opendir(files_path(name));
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        int end = 0;
        cr_assert(n < STATES_MOST, "too many states");
        if (sscanf(e->d_name, "state-%d.safetensors%n", &number[n], &end) != 1) continue;
        if (end > 0 && e->d_name[end] == '\0') n++;
    }
    if (d) closedir(d);
    qsort(number, (size_t)n, sizeof *number, by_number);
    return n;
}

static int newest(const char *name) {
    int number[STATES_MOST], n = list_states(name, number);
    return n > 0 ? number[n - 1] : -1;
}

static const char *state_path(const char *name, int number) {
    char file[64];
    snprintf(file, sizeof file, "state-%06d.safetensors", number);
    return run_path(name, file);
}

enum { ROWS_MOST = 4096, SECONDS = 0, SAMPLES = 1, ACCURACY = 2, COLUMNS = 11 };

static const char *const columns[COLUMNS] = {"seconds", "samples", "accuracy", "round", "steps",
    "epochs", "rate", "train_loss", "loss", "bytes", "version"};

struct rows {
    int n, unfinished; /* the last line has no end: whoever wrote it was killed */
    double (*row)[COLUMNS];
};

static void read_row(double row[COLUMNS], const char *line) {
    cJSON *json = cJSON_Parse(line);
    cr_assert(json != NULL, "a row is no JSON: %s", line);
    for (int k = 0; k < COLUMNS; k++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, columns[k]);
        row[k] = cJSON_IsNumber(item) ? item->valuedouble : -1;
    }
    cJSON_Delete(json);
}

static struct rows read_rows(const char *name) {
    struct rows rows = {.row = calloc(ROWS_MOST, sizeof *rows.row)};
    char *text = program_load(run_path(name, "metrics.jsonl"), NULL), *line = text;
    cr_assert(rows.row != NULL, "no memory");
    for (char *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        cr_assert(rows.n < ROWS_MOST, "too many rows");
        read_row(rows.row[rows.n++], line);
    }
    rows.unfinished = line && *line;
    free(text);
    return rows;
}

static void check_rising(const struct rows *rows, const char *name) {
    for (int i = 1; i < rows->n; i++) {
        const double *a = rows->row[i - 1], *b = rows->row[i];
        cr_assert(b[SAMPLES] > a[SAMPLES], "%s: samples of row %d do not rise", name, i);
        cr_assert(b[SECONDS] > a[SECONDS], "%s: seconds of row %d do not rise", name, i);
    }
}

/* All but the seconds is the same. */
static void check_same_rows(const char *one, const char *other) {
    struct rows a = read_rows(one), b = read_rows(other);
    cr_assert(a.n == b.n && a.n > 1, "%s has %d rows, %s has %d", one, a.n, other, b.n);
    for (int i = 0; i < a.n; i++) {
        for (int k = SAMPLES; k < COLUMNS; k++) {
            int same = memcmp(&a.row[i][k], &b.row[i][k], sizeof(double)) == 0;
            cr_assert(same, "%s, row %d: %s is %.17g, not %.17g", other, i, columns[k], b.row[i][k],
                a.row[i][k]);
        }
    }
    check_rising(&b, other);
    free(a.row);
    free(b.row);
}

/* ---- the same bits, whatever is trained ------------------------------------------------------- */

/* Where E' and E are epochs: the schedules change the rate before, at and after the stop, and the
 * samplers come to the end of their passes. */
#define PART "run.epochs=0.6"
#define FULL "run.epochs=1.3"

static const char *const kinds_of_task[] = {
    "run.task=classify data.sampling=whole",
    "run.task=classify data.sampling=shards",
    "run.task=classify data.sampling=shards data.reshuffle=0",
    "quadratic.n=33 quadratic.samples=100 quadratic.sigma=0.3 quadratic.spread=1",
};

enum { SCHEDULES = 16 };

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

/* Runs it in one go, and in pieces: until a part of it is done and, `stops` times, until it is
 * interrupted in the middle of anything. */
static void check_pieces(const char *words, int stops, int choice) {
    struct seen whole, pieces;
    cr_assert(go(&whole, "whole", 0, words, FULL) == STATUS_OK, "%s: %s", words, whole.why);
    long rounds = whole.rounds[0];
    const char *until = stops == 1 ? FULL : PART;
    stop_at = stops > 0 ? 1 + choice % rounds : 0;
    for (int i = 0;; i++) {
        enum status end = go(&pieces, "pieces", i > 0, words, until);
        cr_assert(end == STATUS_OK || end == STATUS_INTERRUPTED, "%s: %s", words, pieces.why);
        if (end == STATUS_OK && !strcmp(until, FULL)) break;
        seen_close(&pieces);
        stop_at = i + 1 < stops ? stop_at + 1 : 0;
        until = FULL;
    }
    stop_at = 0;
    int r = first_other(&whole, &pieces);
    cr_assert(r < 0, "%s: worker %d is another after %d stops", words, r, stops);
    cr_assert(has_same_tensors("whole", "pieces", "checkpoint.safetensors"), "%s", words);
    seen_close(&whole);
    seen_close(&pieces);
    forget("whole");
    forget("pieces");
}

/* All base schedules, one alone at a time, and two at once. */
static int list_schedules(const char *use[SCHEDULES]) {
    int n = 0;
    for (; base_schedules[n]; n++) use[n] = base_schedules[n]->name;
    cr_assert(n < SCHEDULES, "too many schedules");
    use[n++] = "warmup,step";
    return n;
}

/* So many of all combinations that each way, kind, schedule and number of workers is met with each
 * of the others: the strides divide none of their counts. Each task begins with another. */
static void check_all_of(int task) {
    static const char *const ways[] = {"run.strategy=allreduce",
        "run.strategy=easgd easgd.tau=3 easgd.mode=sync",
        "run.strategy=easgd easgd.tau=3 easgd.mode=async"};
    static const int workers[] = {1, 2, 3, 5};
    const char *use[SCHEDULES];
    char words[WORDS / 2], kind[32];
    int schedules = list_schedules(use), kinds = 1 + (int)optimizer_options->hi;
    int by_kind = LENGTH(ways), by_schedule = by_kind * kinds, by_worker = by_schedule * schedules;
    int stride = SLOW ? 29 : 7;
    for (int i = 8 * task % stride; i < by_worker * LENGTH(workers); i += stride) {
        option_word(optimizer_options, i / by_kind % kinds, kind, sizeof kind);
        snprintf(words, sizeof words,
            "%s %s run.order=fixed run.workers=%d optimizer.kind=%s optimizer.decay=0.01 "
            "schedule.use=%s schedule.rate=0.05 step.at=0.4,0.9 step.factor=0.5 warmup.epochs=0.8 "
            "cosine.epochs=1 linear.epochs=1.2 linear.to=0.1",
            kinds_of_task[task], ways[i % LENGTH(ways)], workers[i / by_worker], kind,
            use[i / by_schedule % schedules]);
        check_pieces(words, (i + i / by_kind + i / by_schedule) % 3, i);
    }
}

Test(resume, gives_the_same_bits_when_all_draw_from_the_whole_set) { check_all_of(0); }

Test(resume, gives_the_same_bits_with_shards) { check_all_of(1); }

Test(resume, gives_the_same_bits_with_shards_that_stay) { check_all_of(2); }

Test(resume, gives_the_same_bits_with_noise) { check_all_of(3); }

/* Some are for one worker only, some for more, and say so. */
static int takes_workers(const char *words) {
    struct seen seen;
    enum status end = go(&seen, "tried", 0, words, "run.epochs=0.01");
    cr_assert(end == STATUS_OK || end == STATUS_BAD_CONFIG, "%s: %s", words, seen.why);
    seen_close(&seen);
    forget("tried");
    return end == STATUS_OK;
}

Test(resume, gives_the_same_bits_with_every_strategy) {
    char words[WORDS / 2];
    for (int i = 0; strategies[i]; i++) {
        int most = 0;
        for (int p = 1; p <= 3; p += 2) {
            const char *name = strategies[i]->name;
            snprintf(words, sizeof words,
                "run.strategy=%s %s %s run.order=fixed run.workers=%d schedule.rate=0.02 "
                "optimizer.kind=momentum optimizer.decay=0.01 run.eval_every=0.3",
                name, strategy_words(name), kinds_of_task[3], p);
            if (!takes_workers(words)) continue;
            for (int stops = 0; stops < 3; stops++) check_pieces(words, stops, 4 * i + stops);
            most = p;
        }
        cr_assert(most > 0, "%s takes no number of workers", strategies[i]->name);
    }
}

/* Intervals of a few periods in which the loss halves, and are stopped within: how long periods are
 * from then on depends on all losses since training, and since the interval, began. */
Test(resume, gives_the_same_bits_with_periods_that_follow_the_loss) {
    for (int i = 0; i < 12; i++) {
        char words[WORDS / 2];
        snprintf(words, sizeof words,
            "run.task=quadratic quadratic.n=33 quadratic.samples=900 quadratic.sigma=0.1 "
            "quadratic.spread=0.1 run.strategy=local_sgd local_sgd.H=40 local_sgd.adacomm=0.2 "
            "local_sgd.gamma=1 run.order=%s run.workers=3 schedule.rate=0.005 run.eval_every=0.1",
            i % 2 ? "fixed" : "free");
        check_pieces(words, i % 3, 5 * i);
    }
}

/* ---- a strategy's own numbers ----------------------------------------------------------------- */

#define KEEPER                                                                                     \
    "run.strategy=keeper run.order=fixed run.workers=3 run.eval_every=0.1 run.keep=100 "           \
    "quadratic.n=33 quadratic.samples=100 quadratic.sigma=0.3 quadratic.spread=1 "                 \
    "schedule.rate=0.05"

/* The first worker that is another when the run is stopped at an evaluation; -1: none. */
static int stop_keeper(void) {
    struct seen whole, pieces;
    cr_assert(go(&whole, "whole", 0, KEEPER, FULL) == STATUS_OK, "%s", whole.why);
    cr_assert(go(&pieces, "pieces", 0, KEEPER, PART) == STATUS_OK, "%s", pieces.why);
    seen_close(&pieces);
    cr_assert(go(&pieces, "pieces", 1, KEEPER, FULL) == STATUS_OK, "%s", pieces.why);
    int r = first_other(&whole, &pieces);
    if (r < 0) check_same_rows("whole", "pieces");
    seen_close(&whole);
    seen_close(&pieces);
    forget("whole");
    forget("pieces");
    return r;
}

Test(resume, restores_every_number_and_vector_that_a_strategy_names) {
    cr_assert(stop_keeper() == -1, "not the same bits");
    keeper_is_uneven = 1;
    cr_assert(stop_keeper() == -1, "not the same bits, when some meet more often than others");
}

Test(resume, a_stop_at_any_moment_changes_no_bit) {
    keeper_is_uneven = 1;
    for (int i = 0; i < 16; i++) check_pieces(KEEPER, i % 3, 3 * i);
}

Test(resume, cannot_restore_what_a_strategy_does_not_name) {
    keeper.fields = NULL;
    cr_assert(stop_keeper() >= 0, "the strategy's numbers do not count");
    keeper.fields = keeper_fields;
    for (int i = 0; i < 4; i++) {
        keeper.fields = keeper_fields + i + 1;
        cr_assert(stop_keeper() >= 0, "the strategy's first %d numbers do not count", i + 1);
    }
    keeper.fields = keeper_fields;
    for (int i = 0; i < 4; i++) {
        keeper.local_fields = keeper_local_fields + i + 1;
        cr_assert(stop_keeper() >= 0, "the workers' first %d numbers do not count", i + 1);
    }
    keeper.local_fields = keeper_local_fields;
    keeper_memory = SCRATCH;
    cr_assert(stop_keeper() >= 0, "the vector does not count");
    keeper_memory = STATE;
}

enum { NUMBERS_MOST = 16 };

/* The number, or the numbers, of a column in the last row of a run's metrics; how many there are. */
static int last_numbers(const char *name, const char *column, double value[NUMBERS_MOST]) {
    char *text = program_load(run_path(name, "metrics.jsonl"), NULL), *line = text;
    cr_assert(text != NULL && strlen(text) > 1, "%s has no metrics", name);
    text[strlen(text) - 1] = '\0';
    if (strrchr(text, '\n')) line = strrchr(text, '\n') + 1;
    cJSON *row = cJSON_Parse(line), *number = cJSON_GetObjectItem(row, column);
    int numbers = cJSON_IsArray(number) ? cJSON_GetArraySize(number) : 1;
    cr_assert(cJSON_IsNumber(number) || numbers > 1, "%s has no %s: %s", name, column, line);
    cr_assert(numbers <= NUMBERS_MOST);
    for (int i = 0; i < numbers; i++) {
        value[i] = cJSON_IsArray(number) ? cJSON_GetArrayItem(number, i)->valuedouble
                                         : number->valuedouble;
    }
    cJSON_Delete(row);
    free(text);
    return numbers;
}

/* At first all are less stale than later, so what was counted before the stop shows. */
Test(resume, goes_on_counting_how_stale_workers_are) {
    static const char *const names[] = {"downpour", "mdownpour", "easgd", "easgd_tree"};
    static const char *const columns_of_it[] = {
        "staleness", "staleness_most", "staleness_histogram"};
    for (int i = 0; i < 4; i++) {
        struct seen seen;
        char words[WORDS / 2];
        snprintf(words, sizeof words,
            "run.strategy=%s %s %s run.order=fixed run.workers=3 schedule.rate=0.001", names[i],
            strategy_words(names[i]), kinds_of_task[3]);
        cr_assert(go(&seen, "whole", 0, words, FULL) == STATUS_OK, "%s", seen.why);
        seen_close(&seen);
        cr_assert(go(&seen, "pieces", 0, words, PART) == STATUS_OK, "%s", seen.why);
        seen_close(&seen);
        cr_assert(go(&seen, "pieces", 1, words, FULL) == STATUS_OK, "%s", seen.why);
        seen_close(&seen);
        for (int k = 0; k < 3; k++) {
            double whole[NUMBERS_MOST], pieces[NUMBERS_MOST], all = 0;
            int n = last_numbers("whole", columns_of_it[k], whole);
            cr_assert_eq(n, k < 2 ? 1 : NUMBERS_MOST);
            cr_assert_eq(last_numbers("pieces", columns_of_it[k], pieces), n);
            for (int j = 0; j < n; j++) {
                all += whole[j];
                cr_assert(pieces[j] == whole[j], "%s: %s[%d] is %g, not %g", names[i],
                    columns_of_it[k], j, pieces[j], whole[j]);
            }
            cr_assert(all > 1, "%s: nothing in %s", names[i], columns_of_it[k]);
        }
        forget("whole");
        forget("pieces");
    }
}

/* ---- evaluations change nothing --------------------------------------------------------------- */

Test(resume, evaluating_more_often_changes_no_bit) {
    static const char *const ways[] = {"run.strategy=allreduce",
        "run.strategy=easgd easgd.tau=3 easgd.mode=sync",
        "run.strategy=easgd easgd.tau=3 easgd.mode=async", "run.strategy=keeper",
        "run.strategy=adownpour adownpour.tau=3 adownpour.scale=staleness schedule.rate=0.01",
        "run.strategy=mdownpour schedule.rate=0.001",
        "run.strategy=easgd_tree easgd_tree.groups=2 easgd_tree.tau=3",
        "run.strategy=local_sgd local_sgd.H=7 local_sgd.adacomm=0.3 local_sgd.gamma=0.9"};
    struct seen often, seldom;
    keeper_is_uneven = 1;
    char words[WORDS / 2];
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        snprintf(words, sizeof words,
            "%s run.task=classify run.order=fixed run.workers=3 schedule.use=warmup "
            "warmup.epochs=2 run.epochs=3",
            ways[i]);
        go(&often, "often", 0, words, "run.eval_every=1");
        go(&seldom, "seldom", 0, words, "run.eval_every=3");
        cr_assert(often.end == STATUS_OK && seldom.end == STATUS_OK, "%s", often.why);
        cr_assert(first_other(&often, &seldom) == -1, "%s: not the same bits", ways[i]);
        seen_close(&often);
        seen_close(&seldom);
        forget("often");
        forget("seldom");
    }
}

Test(resume, evaluating_more_often_changes_no_bit_of_any_strategy) {
    struct seen often, seldom;
    char words[WORDS / 2];
    for (int i = 0; strategies[i]; i++) {
        const char *name = strategies[i]->name;
        snprintf(words, sizeof words,
            "run.strategy=%s %s %s run.order=fixed run.workers=%d schedule.rate=0.02", name,
            strategy_words(name), kinds_of_task[3], runs_workers(strategies[i], 3));
        go(&often, "often", 0, words, "run.eval_every=0.1 run.epochs=1.3");
        go(&seldom, "seldom", 0, words, "run.eval_every=1.3 run.epochs=1.3");
        cr_assert(often.end == STATUS_OK && seldom.end == STATUS_OK, "%s", often.why);
        cr_assert(first_other(&often, &seldom) == -1, "%s: not the same bits", name);
        cr_assert(has_same_tensors("often", "seldom", "checkpoint.safetensors"), "%s", name);
        seen_close(&often);
        seen_close(&seldom);
        forget("often");
        forget("seldom");
    }
}

/* ---- metrics ---------------------------------------------------------------------------------- */

#define ROWS "run.eval_every=0.25 run.save_every=0.9 run.keep=100 run.epochs=4.3"

/* A kill between a row and the next state leaves the folder as it is without the states after. */
Test(resume, drops_the_rows_that_came_after_the_state) {
    struct seen whole, other;
    static const char *const words = "run.task=classify run.strategy=easgd easgd.tau=2 "
                                     "run.order=fixed run.workers=3 optimizer.kind=momentum";
    int want[STATES_MOST], got[STATES_MOST];
    cr_assert(go(&whole, "whole", 0, words, ROWS) == STATUS_OK, "%s", whole.why);
    int n = list_states("whole", want);
    cr_assert(n >= 5, "only %d states", n);
    cr_assert(go(&other, "killed", 0, words, ROWS) == STATUS_OK, "%s", other.why);
    for (int k = n - 2; k >= 0; k -= 2) {
        for (int i = k + 1; i < n; i++) unlink(state_path("killed", want[i]));
        FILE *f = fopen(run_path("killed", "metrics.jsonl"), "a");
        fprintf(f, "{\"half\":");
        fclose(f);
        seen_close(&other);
        cr_assert(go(&other, "killed", 1, words, ROWS) == STATUS_OK, "%s", other.why);
        check_same_rows("whole", "killed");
        cr_assert(list_states("killed", got) == n, "other states");
        cr_assert(memcmp(want, got, (size_t)n * sizeof *want) == 0, "other states");
        cr_assert(first_other(&whole, &other) == -1, "not the same bits");
    }
    seen_close(&whole);
    seen_close(&other);
}

/* ---- what is kept ----------------------------------------------------------------------------- */

static int states_most;

static void count_states(const char *name) {
    int number[STATES_MOST], n = list_states(name, number);
    if (n > states_most) states_most = n;
}

Test(resume, keeps_so_many_states_and_no_more) {
    struct seen seen;
    static const char *const words = "run.epochs=1 run.eval_every=0.1 run.strategy=allreduce";
    at_evaluation = count_states;
    for (int keep = 1; keep <= 4; keep++) {
        char more[64];
        int number[STATES_MOST];
        snprintf(more, sizeof more, "run.keep=%d", keep);
        states_most = 0;
        cr_assert(go(&seen, "kept", 0, words, more) == STATUS_OK, "%s", seen.why);
        cr_assert(states_most == keep, "there were %d states of %d", states_most, keep);
        cr_assert(list_states("kept", number) == keep, "other states than %d are left", keep);
        for (int i = 0; i < keep; i++) {
            cr_assert(number[i] == 11 - keep + i, "state %d is left", number[i]);
        }
        seen_close(&seen);
        forget("kept");
    }
}

/* The accuracy that huddle evaluate says, in hundredths of a percent. */
static long judged(const char *checkpoint) {
    struct program p = program("evaluate", checkpoint);
    cr_assert(p.code == 0, "%s", p.err);
    const char *at = strstr(p.out, "accuracy");
    cr_assert(at != NULL, "no accuracy: %s", p.out);
    double accuracy = strtod(at + strlen("accuracy"), NULL);
    program_close(&p);
    return lround(100 * accuracy);
}

static long best_of(const char *name) {
    struct rows rows = read_rows(name);
    double best = 0;
    for (int i = 0; i < rows.n; i++) {
        if (rows.row[i][ACCURACY] > best) best = rows.row[i][ACCURACY];
    }
    free(rows.row);
    return lround(1e4 * best);
}

Test(resume, the_best_answer_stays_the_best) {
    STARTS_PROGRAM;
    struct seen seen;
    size_t size, again;
    static const char *const words = "run.task=classify run.strategy=allreduce run.workers=2 "
                                     "run.order=fixed run.eval_every=0.5";
    go(&seen, "best", 0, words, "run.epochs=3 schedule.rate=0.2");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
    cr_assert(judged("@/best/best.safetensors") == best_of("best"), "not the best row's");
    char *before = load(run_path("best", "best.safetensors"), &size);
    go(&seen, "best", 1, words, "run.epochs=5 schedule.rate=1 optimizer.decay=1");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
    char *after = load(run_path("best", "best.safetensors"), &again);
    cr_assert(judged("@/best/checkpoint.safetensors") < best_of("best"), "it became no worse");
    cr_assert(judged("@/best/best.safetensors") == best_of("best"), "not the best row's any more");
    cr_assert(size == again && memcmp(before, after, size) == 0, "a worse answer is the best");
    free(before);
    free(after);
}

/* ---- states that are broken ------------------------------------------------------------------- */

#define BROKEN "run.strategy=easgd run.order=fixed run.workers=2 run.eval_every=0.2 run.keep=100"

static void overwrite(const char *path, size_t n, int noise) {
    FILE *f = fopen(path, "r+b");
    cr_assert(f && ftruncate(fileno(f), (off_t)n) == 0, "cannot break %s", path);
    for (size_t i = 0; noise && i < n; i++) fputc((int)(i * i * 2654435761u >> 13) & 0xff, f);
    fclose(f);
}

Test(resume, a_broken_state_is_passed_over_for_the_one_before) {
    struct seen whole, other;
    cr_assert(go(&whole, "whole", 0, BROKEN, FULL) == STATUS_OK, "%s", whole.why);
    cr_assert(go(&other, "broken", 0, BROKEN, FULL) == STATUS_OK, "%s", other.why);
    size_t size;
    free(load(state_path("broken", newest("broken")), &size));
    size_t cuts[] = {0, 1, 7, 8, 9, size / 2, size - 1, size};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        overwrite(state_path("broken", newest("broken")), cuts[i], i == 7);
        seen_close(&other);
        cr_assert(go(&other, "broken", 1, BROKEN, FULL) == STATUS_OK, "%s", other.why);
        cr_assert(first_other(&whole, &other) == -1, "not the same bits, cut at %zu", cuts[i]);
    }
    seen_close(&whole);
    seen_close(&other);
}

/* A bit anywhere: in the header, in what is restored, in what says how it was trained. */
Test(resume, a_state_with_a_bit_that_changed_is_passed_over) {
    struct seen whole, other;
    size_t size;
    cr_assert(go(&whole, "whole", 0, BROKEN, FULL) == STATUS_OK, "%s", whole.why);
    cr_assert(go(&other, "broken", 0, BROKEN, FULL) == STATUS_OK, "%s", other.why);
    char *state = load(state_path("broken", newest("broken")), &size);
    const char *numbers = memmem(state, size, "worker1.samples", 15);
    const char *strategy = memmem(state, size, "easgd", 5),
               *name = memmem(state, size, "worker1.x\"", 10);
    cr_assert(numbers && strategy && name, "it looks otherwise");
    uint64_t header; /* behind its own size; then come the tensors */
    memcpy(&header, state, sizeof header);
    const size_t at[] = {(size_t)(numbers - state) + 20, (size_t)(strategy - state),
        (size_t)(name - state) + 8, size - 1, sizeof header + (size_t)header};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        struct safetensors read;
        state[at[i]] ^= 1;
        FILE *f = fopen(state_path("broken", newest("broken")), "wb");
        cr_assert(f && fwrite(state, 1, size, f) == size && fclose(f) == 0);
        cr_assert(safetensors_read(&read, state_path("broken", newest("broken"))) == STATUS_OK,
            "byte %zu: only the checksum is to find it: %s", at[i], fail_message());
        safetensors_close(&read);
        state[at[i]] ^= 1;
        seen_close(&other);
        cr_assert(go(&other, "broken", 1, BROKEN, FULL) == STATUS_OK, "%s", other.why);
        cr_assert(first_other(&whole, &other) == -1, "not the same bits, byte %zu", at[i]);
    }
    free(state);
    seen_close(&whole);
    seen_close(&other);
}

/* ---- the program from outside ----------------------------------------------------------------- */

#define SMALL "model.layers=dense 10", "topology.threads=1", "topology.bind=0"
#define LONG "train", "folder=@", "workers=2", "epochs=1e6", "eval_every=0.2", SMALL

/* Begins the program; files may have so many bytes, 0: any number. */
static pid_t begin(const char *const *argument, size_t limit) {
    fflush(NULL);
    pid_t child = fork();
    cr_assert(child >= 0, "no child");
    if (child > 0) return child;
    if (limit > 0) {
        const struct rlimit most = {limit, limit};
        setrlimit(RLIMIT_FSIZE, &most);
    }
    program_redirect(STDOUT_FILENO, "stdout");
    program_redirect(STDERR_FILENO, "stderr");
    program_become(argument);
    return 0;
}

#define begin(...) begin((const char *const[]){__VA_ARGS__, NULL}, 0)
#define begin_within(limit, ...) (begin)((const char *const[]){__VA_ARGS__, NULL}, limit)

static struct program finish(pid_t child) {
    struct program p = {0};
    program_end(&p, child);
    p.err = program_load(files_path("stderr"), &p.err_size);
    return p;
}

static void sleep_ms(long ms) {
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Until a state of that number or a later one is there. */
static void await_state(const char *name, int number) {
    for (int i = 0; newest(name) < number; i++) {
        cr_assert(i < 30000, "%s never came to its state %d", name, number);
        sleep_ms(2);
    }
}

static void await_file(const char *name, const char *file) {
    for (int i = 0; access(run_path(name, file), R_OK) != 0; i++) {
        cr_assert(i < 30000, "%s never had %s", name, file);
        sleep_ms(2);
    }
}

static double last_samples(const char *name) {
    struct rows rows = read_rows(name);
    cr_assert(rows.n > 0, "%s has no rows", name);
    double samples = rows.row[rows.n - 1][SAMPLES];
    free(rows.row);
    return samples;
}

/* No state was torn, so none is passed over by whoever goes on. */
static void check_passes_over_none(const struct program *p) {
    cr_assert(strstr(p->err, "trying the state before") == NULL, "%s", p->err);
}

/* Resumes it for a little more than it has. */
static void check_goes_on(const char *name) {
    char run[300], epochs[64];
    double before = last_samples(name);
    snprintf(run, sizeof run, "@/%s", name);
    snprintf(epochs, sizeof epochs, "epochs=%g", before / 1000 + 0.5);
    struct program p = program("resume", run, epochs);
    cr_assert(p.code == 0, "%s cannot go on: %s", name, p.err);
    check_passes_over_none(&p);
    cr_assert(last_samples(name) > before, "%s did not go on", name);
    struct rows rows = read_rows(name);
    check_rising(&rows, name);
    cr_assert(!rows.unfinished, "%s: half a row is left", name);
    cr_assert(newest(name) == rows.n, "%s: no state at the end", name);
    free(rows.row);
    program_close(&p);
}

static void check_signal(int number, const char *name, const char *strategy, int state) {
    char words[2][64];
    snprintf(words[0], sizeof words[0], "name=%s", name);
    snprintf(words[1], sizeof words[1], "strategy=%s", strategy);
    pid_t child = begin(LONG, words[0], words[1]);
    if (state > 0) {
        await_state(name, state);
    } else {
        await_file(name, "config.ini");
    }
    kill(child, number);
    struct program p = finish(child);
    cr_assert(p.code == 75, "exit %d, signal %d: %s", p.code, p.signal, p.err);
    char *hint = strstr(p.err, "huddle resume ");
    cr_assert(hint && strstr(hint, files_path(name)), "no word on how to go on: %s", p.err);
    struct rows rows = read_rows(name);
    cr_assert(newest(name) == rows.n && rows.n > 0, "%s was not saved", name);
    free(rows.row);
    program_close(&p);
    check_goes_on(name);
}

Test(resume, a_signal_saves_the_run_and_ends_it) {
    STARTS_PROGRAM;
    check_signal(SIGINT, "int", "allreduce", 3);
    check_signal(SIGTERM, "term", "easgd", 3);
    check_signal(SIGINT, "early", "easgd", 0);
    check_signal(SIGTERM, "soon", "allreduce", 0);
}

/* A round that takes for ever does not come to its end, where the run would be saved. */
Test(resume, a_second_signal_ends_the_program_at_once) {
    STARTS_PROGRAM;
    static const int signals[][2] = {
        {SIGINT, SIGINT}, {SIGTERM, SIGTERM}, {SIGINT, SIGTERM}, {SIGTERM, SIGINT}};
    for (int i = 0; i < 4; i++) {
        char name[] = "again-0", word[32];
        name[6] = (char)('0' + i);
        snprintf(word, sizeof word, "name=%s", name);
        pid_t child = begin(LONG, word, "easgd.tau=1000000");
        await_file(name, "metrics.jsonl");
        kill(child, signals[i][0]);
        sleep_ms(100);
        cr_assert(waitpid(child, NULL, WNOHANG) == 0, "the first signal did not wait");
        kill(child, signals[i][1]);
        struct program p = finish(child);
        cr_assert(p.signal == signals[i][1], "%d: exit %d, signal %d", i, p.code, p.signal);
        program_close(&p);
    }
}

static void train_short(const char *name) {
    char word[64];
    snprintf(word, sizeof word, "name=%s", name);
    struct program p = program("train", "folder=@", word, "workers=2", "epochs=1", "eval_every=0.2",
        "strategy=allreduce", SMALL);
    cr_assert(p.code == 0, "%s", p.err);
    program_close(&p);
}

static void check_refused(const struct program *p, int code, const char *says) {
    cr_assert(p->code == code, "exit %d: %s", p->code, p->err);
    cr_assert(strstr(p->err, says) != NULL, "nothing of \"%s\": %s", says, p->err);
}

Test(resume, refuses_in_words_what_it_cannot_go_on_with) {
    STARTS_PROGRAM;
    struct program p;
    train_short("done");
    files_make_folder("empty");
    files_make_folder("other");
    files_write("other/config.ini", "", 0);
    p = program("resume", "@/done", "workers=3", "epochs=2");
    check_refused(&p, 2, "2 workers");
    cr_assert(strstr(p.err, "with 3") != NULL, "%s", p.err);
    program_close(&p);
    p = program("resume", "@/missing");
    check_refused(&p, 3, "missing/config.ini");
    program_close(&p);
    p = program("resume", "@/empty");
    check_refused(&p, 3, "empty/config.ini");
    program_close(&p);
    p = program("resume", "@/other");
    check_refused(&p, 3, "no state");
    program_close(&p);
    p = program("resume");
    check_refused(&p, 2, "huddle resume runs/<name>");
    program_close(&p);
    p = program("resume", "@/done", "run.wrokers=2");
    check_refused(&p, 2, "did you mean run.workers");
    program_close(&p);
    p = program("resume", "@/done", "epochs=2", "model.layers=dense 20, dense 10");
    check_refused(&p, 3, "another run");
    program_close(&p);
    p = program("resume", "@/done", "epochs=2", "strategy=easgd");
    check_refused(&p, 2, "was trained by allreduce and cannot go on with easgd");
    program_close(&p);
    check_goes_on("done");
}

Test(resume, a_run_that_is_over_stays_as_it_is) {
    STARTS_PROGRAM;
    static const char *const files[] = {"checkpoint.safetensors", "best.safetensors",
        "metrics.jsonl", "summary.json", "config.ini"};
    enum { FILES = sizeof files / sizeof *files };
    char *before[FILES], *after;
    size_t size[FILES], again;
    train_short("done");
    int last = newest("done");
    for (int i = 0; i < FILES; i++) before[i] = load(run_path("done", files[i]), &size[i]);
    struct program p = program("resume", "@/done");
    cr_assert(p.code == 0, "exit %d: %s", p.code, p.err);
    cr_assert(strstr(p.err, "is finished") != NULL, "no word of it: %s", p.err);
    program_close(&p);
    for (int i = 0; i < FILES; i++) {
        after = load(run_path("done", files[i]), &again);
        cr_assert(size[i] == again && !memcmp(before[i], after, again), "another %s", files[i]);
        free(before[i]);
        free(after);
    }
    cr_assert(newest("done") == last, "another state");
    check_goes_on("done");
}

Test(resume, goes_on_where_the_folder_was_moved) {
    STARTS_PROGRAM;
    train_short("here");
    files_make_folder("there");
    cr_assert(rename(files_path("here"), files_path("there/moved")) == 0, "cannot move");
    check_goes_on("there/moved");
    cr_assert(access(files_path("here"), F_OK) != 0, "the old folder is there again");
    struct program p = program("resume", "@/there/moved/", "epochs=5");
    cr_assert(p.code == 0, "%s", p.err);
    program_close(&p);
}

/* Not cut: what stands at the end of a long path may be another run. */
Test(resume, takes_long_paths_whole_or_refuses_them_in_words) {
    STARTS_PROGRAM;
    struct program p;
    char path[400] = "@/", up[4200] = "";
    train_short("done");
    for (int i = 0; i < 60; i++) strcat(path, "./");
    strcat(path, "done");
    p = program("resume", path, "epochs=1.5");
    cr_assert(p.code == 0, "%s", p.err);
    program_close(&p);
    path[2] = '\0';
    for (int i = 0; i < 150; i++) strcat(path, "./");
    strcat(path, "done");
    p = program("resume", path, "epochs=2");
    check_refused(&p, 2, "run.folder");
    program_close(&p);
    memset(up, '/', sizeof up - 1);
    cr_assert(command_resume(1, (char *[]){up}) == STATUS_BAD_CONFIG);
    cr_assert(strstr(fail_message(), "too long"), "%s", fail_message());
}

Test(resume, warns_of_a_broken_state_and_gives_up_without_any) {
    STARTS_PROGRAM;
    train_short("run");
    int number[STATES_MOST], n = list_states("run", number);
    cr_assert(n == 2, "%d states", n);
    files_write("run/state-000099.safetensors.part", "half", 4);
    overwrite(state_path("run", number[1]), 100, 1);
    struct program p = program("resume", "@/run", "epochs=1.5");
    cr_assert(p.code == 0, "%s", p.err);
    cr_assert(strstr(p.err, "trying the state before") != NULL, "no warning: %s", p.err);
    cr_assert(strstr(p.err, "state-000099") == NULL, "a part is taken for a state: %s", p.err);
    program_close(&p);
    size_t size;
    char *weights = load(run_path("run", "checkpoint.safetensors"), &size);
    files_write("run/state-000099.safetensors", weights, size);
    free(weights);
    p = program("resume", "@/run", "epochs=2");
    cr_assert(p.code == 0, "%s", p.err);
    cr_assert(strstr(p.err, "state-000099.safetensors is no saved state"), "%s", p.err);
    program_close(&p);
    n = list_states("run", number);
    for (int i = 0; i < n; i++) overwrite(state_path("run", number[i]), 1000, i % 2);
    p = program("resume", "@/run", "epochs=3");
    check_refused(&p, 3, "no state");
    program_close(&p);
}

/* ---- a full disk ------------------------------------------------------------------------------ */

/* Files end before the weights do, or between them and the state. */
Test(resume, a_full_disk_leaves_what_was_saved_before) {
    STARTS_PROGRAM;
    struct program p;
    struct safetensors read;
    size_t sizes[2], again;
    train_short("full");
    int last = newest("full");
    char *weights = load(run_path("full", "checkpoint.safetensors"), &sizes[0]);
    char *state = load(state_path("full", last), &sizes[1]);
    cr_assert(sizes[0] + 1024 < sizes[1], "the state is not larger");
    for (int i = 0; i < 2; i++) {
        size_t limit = i ? sizes[1] - 512 : sizes[0] - 512;
        p = finish(begin_within(limit, "resume", "@/full", "epochs=2"));
        check_refused(&p, 3, "cannot write");
        cr_assert(newest("full") == last, "half a state is left");
        char *now = load(state_path("full", last), &again);
        cr_assert(again == sizes[1] && memcmp(now, state, again) == 0, "the state is another");
        free(now);
        now = load(run_path("full", "checkpoint.safetensors"), &again);
        cr_assert(i > 0 || (again == sizes[0] && memcmp(now, weights, again) == 0), "weights");
        free(now);
        cr_assert(safetensors_read(&read, run_path("full", "checkpoint.safetensors")) == STATUS_OK);
        safetensors_close(&read);
        program_close(&p);
    }
    free(weights);
    free(state);
    p = program("resume", "@/full", "epochs=2");
    cr_assert(p.code == 0, "%s", p.err);
    program_close(&p);
}

/* ---- kill -9 ---------------------------------------------------------------------------------- */

enum { KILLS = 20, RANDOM_KILLS_IN = 4 };

/* The state is there, or later ones have pushed it out, and the newest is whole. */
static void check_newest(const char *name, int least) {
    struct safetensors read;
    int number = newest(name);
    cr_assert(number >= least, "%s: state %d is lost, the newest is %d", name, least, number);
    if (number < 0) return;
    enum status end = safetensors_read(&read, state_path(name, number));
    cr_assert(end == STATUS_OK, "the newest state does not read: %s", fail_message());
    safetensors_close(&read);
}

/* Begins or resumes it and kills it: some time after its next state, or at any time at all. */
static void kill_once(const char *name, int anywhen) {
    char words[2][300];
    int before = newest(name), least = anywhen ? before : before + 1;
    snprintf(words[0], sizeof words[0], "name=%s", name);
    snprintf(words[1], sizeof words[1], "@/%s", name);
    pid_t child = before < 0 ? begin(LONG, words[0], "save_every=0.3") : begin("resume", words[1]);
    if (!anywhen) await_state(name, least);
    sleep_ms(rand() % (anywhen ? 80 : 20));
    kill(child, SIGKILL);
    struct program p = finish(child);
    cr_assert(p.signal == SIGKILL, "it ended by itself, exit %d: %s", p.code, p.err);
    check_passes_over_none(&p);
    program_close(&p);
    check_newest(name, least);
}

static void check_killed(const char *name) {
    struct safetensors read;
    struct rows rows = read_rows(name);
    const char *weights = run_path(name, "checkpoint.safetensors");
    cr_assert(access(weights, F_OK) != 0 || safetensors_read(&read, weights) == STATUS_OK,
        "the weights do not read: %s", fail_message());
    if (access(weights, F_OK) == 0) safetensors_close(&read);
    cr_assert(rows.n >= newest(name), "rows of before the state are lost");
    check_rising(&rows, name);
    free(rows.row);
}

Test(resume, survives_kills_at_any_moment) {
    STARTS_PROGRAM;
    const char *many = getenv("KILLS");
    int kills = many ? atoi(many) : KILLS, runs = 0;
    char name[32] = "killed-0";
    srand(7);
    for (int i = 0; i < kills; i++) {
        kill_once(name, i % RANDOM_KILLS_IN == 1);
        if (access(run_path(name, "metrics.jsonl"), F_OK) == 0) check_killed(name);
        if (newest(name) >= 0 && i % 10 < 9) continue;
        if (newest(name) >= 0) check_goes_on(name);
        snprintf(name, sizeof name, "killed-%d", ++runs);
    }
}

/* ---- huddle verify-resume --------------------------------------------------------------------- */

/* Long training and training that is over before a second run has begun. */
Test(resume, the_program_can_check_itself) {
    STARTS_PROGRAM;
    static const char *const settings[][2] = {{"strategy=allreduce", "epochs=10"},
        {"strategy=easgd", "epochs=10"}, {"easgd.mode=sync", "epochs=10"},
        {"task=quadratic", "epochs=1"}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        struct program p = program("verify-resume", settings[i][0], settings[i][1], "workers=2",
            "eval_every=0.5", "optimizer.kind=nesterov", SMALL);
        cr_assert(p.code == 0, "%s: exit %d: %s", settings[i][0], p.code, p.err);
        cr_assert(strstr(p.out, "the same bits") && strstr(p.out, "yes, after"), "%s", p.out);
        cr_assert(strstr(p.out, "yes, after 0") == NULL, "it never stopped: %s", p.out);
        program_close(&p);
    }
}

/* Of the strategy above, stopped in its tenth round. */
static enum status verify_keeper(void) {
    char words[] = KEEPER " " FULL;
    const struct strategy_ops *list[STRATEGIES_MOST];
    struct settings *set = runs_settings(words);
    list_spies(list);
    files_make_folder("verified");
    stop_at = 10;
    enum status end = verify_resume(set, list, files_path("verified"));
    stop_at = 0;
    settings_close(set);
    forget("verified");
    return end;
}

Test(resume, what_checks_it_finds_what_is_not_restored) {
    cr_assert(verify_keeper() == STATUS_OK, "%s", fail_message());
    keeper_memory = SCRATCH;
    cr_assert(verify_keeper() == STATUS_VERIFY, "a vector that is lost is not found");
    cr_assert(
        strstr(fail_message(), "the resumed run is another: parameter"), "%s", fail_message());
    keeper_memory = STATE;
    cr_assert(status_exit_code(STATUS_VERIFY) == 5);
}
