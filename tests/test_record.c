/* test_record.c -- what a run in free order did is written down, and done again to the bit. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/log.h"
#include "engine/record.h"
#include "engine/seat.h"
#include "files.h"
#include "late.h"
#include "program.h"
#include "runs.h"

static const char usual[] = "quadratic.n=33 quadratic.samples=40 quadratic.sigma=0.3 "
                            "quadratic.spread=1 run.eval_every=1.1 schedule.rate=0.02";
static const char warmup[] = "[schedule]\nuse = warmup\n[warmup]\nepochs = 2\n";
static const char *common;

/* Many small files: in memory, where the system has such a folder. */
static void open_all(void) {
    static const char memory[] = "/dev/shm";
    if (access(memory, W_OK) == 0) setenv("TMPDIR", memory, 0);
    files_open();
    log_show(LOG_ERROR);
    common = usual;
    runs_text = warmup;
    runs_devices = devices;
    runs_resume = 0;
}

TestSuite(record, .init = open_all, .fini = files_close, .timeout = 120);

/* ---- runs that come as they come ------------------------------------------------------------ */

static uint32_t salt; /* of the delays: differs from run to run */

/* Before a round a worker does nothing, or sleeps. */
static void dawdle(void *with, const struct worker *w) {
    (void)with;
    uint32_t word = rng_word((struct rng_key){salt, 98, (uint32_t)w->rank}, (uint64_t)w->round);
    if (word % 3) usleep((word >> 8) % 400);
}

static const struct watch dawdling = {.begins = dawdle};

/* A run `name` with other delays than any before. */
static enum status go(
    struct seen *seen, const char *name, const char *words, const char *option, const char *file) {
    salt++;
    run_words(seen, &dawdling, "run.name=%s run.folder=%s %s %s run.%s=%s", name, files_folder,
        common, words, option, files_path(file));
    return seen->end;
}

static char *load(const char *path) {
    size_t size = 0;
    char *text = program_load(path, &size);
    cr_assert(text != NULL, "no %s", path);
    return text;
}

static char *load_rows(const char *name) {
    char both[128];
    snprintf(both, sizeof both, "%s/metrics.jsonl", name);
    return load(files_path(both));
}

static int is_time(const char *column) {
    static const char *const times[] = {
        "seconds", "samples_per_second", "computing", "exchanging", "waiting", "loading"};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        if (!strcmp(column, times[i])) return 1;
    }
    return 0;
}

/* All columns but those that are a matter of time; how many rows there are. */
static int check_same_rows(const char *one, const char *other, const char *words) {
    char *a = load_rows(one), *b = load_rows(other), *rest_a = NULL, *rest_b = NULL;
    char *row_a = strtok_r(a, "\n", &rest_a), *row_b = strtok_r(b, "\n", &rest_b);
    int rows = 0;
    for (; row_a && row_b; rows++) {
        cJSON *json_a = cJSON_Parse(row_a), *json_b = cJSON_Parse(row_b);
        cr_assert(json_a && json_b, "a row is no JSON");
        const cJSON *y = json_b->child;
        for (const cJSON *x = json_a->child; x; x = x->next, y = y->next) {
            cr_assert(y && !strcmp(x->string, y->string), "%s: other columns", words);
            int same = memcmp(&x->valuedouble, &y->valuedouble, sizeof(double)) == 0;
            cr_assert(same || is_time(x->string), "%s: %s of row %d is %.17g, not %.17g", words,
                x->string, rows, y->valuedouble, x->valuedouble);
        }
        cJSON_Delete(json_a);
        cJSON_Delete(json_b);
        row_a = strtok_r(NULL, "\n", &rest_a);
        row_b = strtok_r(NULL, "\n", &rest_b);
    }
    cr_assert(!row_a && !row_b, "%s: not as many rows", words);
    free(a);
    free(b);
    return rows;
}

static void forget(const char *name) {
    nftw(files_path(name), files_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* The events of a record, without its settings; malloc-ed. */
static char *load_events(const char *file) {
    char *text = load(files_path(file)), *at = strstr(text, "\nevents\n");
    cr_assert(at != NULL, "no events in %s", file);
    memmove(text, at + 8, strlen(at + 8) + 1);
    char *end = strstr(text, "\nend ");
    cr_assert(end != NULL, "no end in %s", file);
    *end = '\0';
    return text;
}

/* A record of these lines, with a last line as if huddle had written it. */
static void write_sealed(const char *file, const char *lines) {
    uint64_t sum = 0;
    long events = -1;
    FILE *f = fopen(files_path(file), "w");
    cr_assert(f != NULL, "cannot write %s", file);
    for (const char *end; *lines; lines = end + 1) {
        end = strchr(lines, '\n');
        sum = checksum(sum, lines, (size_t)(end - lines));
        if (events >= 0 || !strncmp(lines, "events\n", 7)) events++;
        fprintf(f, "%.*s\n", (int)(end - lines), lines);
    }
    fprintf(f, "end %ld %016" PRIx64 "\n", events, sum);
    fclose(f);
}

/* All lines of a record but the last; malloc-ed. */
static char *load_lines(const char *file) {
    char *text = load(files_path(file)), *end = strstr(text, "\nend ");
    cr_assert(end != NULL, "no end in %s", file);
    end[1] = '\0';
    return text;
}

/* Records a run and replays it, three times. */
static void check_replays(const char *words) {
    struct seen first, again;
    cr_assert(go(&first, "first", words, "record", "r") == STATUS_OK, "%s: %s", words, first.why);
    cr_assert(first.rounds[0] > 2, "%s: only %ld rounds", words, first.rounds[0]);
    char *events = load_events("r");
    for (int i = 0; i < 3; i++) {
        char more[1024];
        snprintf(more, sizeof more, "%s run.record=%s", words, files_path("r2"));
        cr_assert(
            go(&again, "again", more, "replay", "r") == STATUS_OK, "%s: %s", words, again.why);
        cr_assert_eq(seen_differ(&first, &again), -1, "%s: replay %d is another run", words, i);
        cr_assert(check_same_rows("first", "again", words) > 0, "%s: no rows", words);
        char *events_again = load_events("r2");
        cr_assert(strcmp(events, events_again) == 0, "%s: the replay's record is another", words);
        free(events_again);
        seen_close(&again);
        forget("again");
    }
    free(events);
    seen_close(&first);
    forget("first");
}

Test(record, a_replay_has_the_same_bits_and_rows_with_every_strategy) {
    char words[512];
    for (int i = 0; strategies[i]; i++) {
        const char *name = strategies[i]->name;
        snprintf(words, sizeof words, "run.strategy=%s %s run.workers=%d run.epochs=4", name,
            strategy_words(name), runs_workers(strategies[i], 4));
        check_replays(words);
    }
}

Test(record, a_replay_has_the_same_bits_with_springs_of_all_kinds) {
    check_replays("run.strategy=easgd easgd.tau=2 run.workers=5 run.epochs=5");
    check_replays("run.strategy=easgd easgd.tau=1 run.workers=8 run.max_lag=0 "
                  "run.epochs=5 optimizer.kind=nesterov");
    check_replays("run.strategy=easgd easgd.mode=sync easgd.tau=3 run.epochs=5");
    check_replays("run.strategy=downpour downpour.tau=2 downpour.scale=staleness "
                  "run.max_lag=1 run.epochs=5");
    check_replays("run.strategy=easgd run.judge=replica run.workers=3 run.epochs=5");
}

/* Were it not so, the tests above would show nothing. */
Test(record, without_a_record_the_bits_are_others) {
    struct seen a, b;
    int differed = 0;
    for (int i = 0; i < 10 && !differed; i++) {
        const char *words = "run.strategy=easgd easgd.tau=1 run.workers=4 run.epochs=4";
        cr_assert(go(&a, "a", words, "record", "a.txt") == STATUS_OK, "%s", a.why);
        cr_assert(go(&b, "b", words, "record", "b.txt") == STATUS_OK, "%s", b.why);
        differed = seen_differ(&a, &b) >= 0;
        seen_close(&a);
        seen_close(&b);
        forget("a");
        forget("b");
    }
    cr_assert(differed, "ten pairs of runs in free order had the same bits");
}

/* ---- on devices ----------------------------------------------------------------------------- */

static const struct device_ops *const late_devices[] = {&device_late, NULL};

/* What depends on who sits where, or on what was computed last; groups are those of a device. */
static const char *const ways[] = {"run.strategy=easgd easgd.tau=2", "run.strategy=downpour",
    "run.strategy=mdownpour", "run.strategy=easgd easgd.mode=sync easgd.tau=2",
    "run.strategy=easgd_tree easgd_tree.tau=2 easgd_tree.tau_root=4",
    "run.strategy=gossip gossip.p=0.7 gossip.peers=near",
    "run.strategy=local_sgd local_sgd.H=2 local_sgd.blocks=2", "run.strategy=adpsgd",
    "run.strategy=admm"};
enum { WAYS = sizeof ways / sizeof *ways };

static void train_on(
    struct seen *seen, const char *name, const char *way, const char *which, const char *option) {
    char words[512];
    late.seed++;
    snprintf(words, sizeof words, "%s run.workers=4 run.epochs=3 run.devices=%s", way, which);
    cr_assert(go(seen, name, words, option, "r") == STATUS_OK, "%s: %s", words, seen->why);
}

/* On some devices, and again on others of the kind. */
static void check_elsewhere(const char *way, const char *which, const char *other) {
    struct seen first, again;
    train_on(&first, "first", way, which, "record");
    train_on(&again, "again", way, other, "replay");
    cr_assert_eq(seen_differ(&first, &again), -1, "%s on %s and on %s", way, which, other);
    check_same_rows("first", "again", way);
    seen_close(&first);
    seen_close(&again);
    forget("first");
    forget("again");
}

Test(record, a_replay_has_the_same_bits_on_any_number_of_late_devices) {
    static const char *const on[] = {"late:0", "late:0,late:1", "late:0,late:1,late:2,late:3"};
    runs_devices = late_devices;
    for (int i = 0; i < WAYS * 3; i += 2) {
        check_elsewhere(ways[i / 3], on[i % 3], on[(i + 1) % 3]);
    }
}

static void check_has_groups(const char *file, const char *line) {
    char *text = load(files_path(file));
    cr_assert(strstr(text, line), "no \"%s\" in %.900s", line, text);
    free(text);
}

Test(record, of_a_replay_has_the_groups_of_the_record_it_follows) {
    struct seen seen;
    char words[256];
    runs_devices = late_devices;
    train_on(&seen, "first", ways[0], "late:0,late:1,late:1", "record");
    seen_close(&seen);
    check_has_groups("r", "\ngroup = 0 0 1 2\nevents\n");
    snprintf(words, sizeof words, "%s run.record=%s", ways[0], files_path("r2"));
    train_on(&seen, "again", words, "late:0", "replay");
    seen_close(&seen);
    check_has_groups("r2", "\ngroup = 0 0 1 2\nevents\n");
}

#ifdef CUDASIM
static const struct device_ops *const gpus[] = {&device_cuda, NULL};

Test(record, a_replay_has_the_same_bits_on_any_number_of_gpus) {
    static const char one[] = "cuda:0", four[] = "cuda:0,cuda:1,cuda:2,cuda:3";
    if (device_cuda.count() < 4) cr_skip_test("needs 4 GPUs");
    runs_devices = gpus;
    for (int i = 0; i < WAYS; i++) {
        check_elsewhere(ways[i], i % 2 ? one : four, i % 2 ? four : one);
    }
}
#endif

/* ---- what is in it -------------------------------------------------------------------------- */

Test(record, says_who_had_the_center_at_which_version_and_whose_round_ended) {
    struct seen seen;
    const char *words = "run.strategy=easgd easgd.tau=1 run.workers=3 run.steps=20";
    common = "quadratic.n=33"; /* one evaluation, at the end */
    long locks[3] = {0}, rounds[3] = {0}, meetings[3] = {0}, version = 0, gathers = 0;
    cr_assert(go(&seen, "run", words, "record", "r") == STATUS_OK, "%s", seen.why);
    char *events = load_events("r"), *rest = NULL;
    for (char *line = strtok_r(events, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        int rank = line[2] - '0';
        char expected[64];
        cr_assert(rank >= 0 && rank < 3, "%s", line);
        if (line[0] == 'm') meetings[rank]++;
        if (line[0] == 'r' || line[0] == 'g') rounds[rank]++;
        if (line[0] == 'g') gathers++;
        if (line[0] != 'l') continue;
        snprintf(expected, sizeof expected, "l %d center %ld", rank, version);
        cr_assert(strcmp(line, expected) == 0, "%s, not %s", line, expected);
        if (++locks[rank] <= seen.rounds[rank]) version++; /* the last one only looks */
    }
    for (int r = 0; r < 3; r++) {
        cr_assert_eq(rounds[r], seen.rounds[r], "worker %d", r);
        cr_assert_eq(locks[r], seen.rounds[r] + 1, "worker %d: an exchange a round, one look", r);
        cr_assert(meetings[r] > 0, "worker %d", r);
    }
    cr_assert(gathers >= 1);
    free(events);
    seen_close(&seen);
}

/* ---- where it ends -------------------------------------------------------------------------- */

Test(record, a_replay_ends_where_its_record_does_or_sooner) {
    struct seen first, again;
    cr_assert(go(&first, "first", "run.epochs=5", "record", "r") == STATUS_OK, "%s", first.why);
    cr_assert(go(&again, "again", "run.epochs=50", "replay", "r") == STATUS_OK, "%s", again.why);
    cr_assert_eq(seen_differ(&first, &again), -1, "the record's end is no end");
    seen_close(&again);
    cr_assert(go(&again, "half", "run.epochs=2", "replay", "r") == STATUS_OK, "%s", again.why);
    cr_assert(again.result.epochs >= 2 && again.result.epochs < 5, "%g", again.result.epochs);
    seen_close(&again);
    seen_close(&first);
}

Test(record, a_run_that_ended_by_the_clock_is_replayed_to_its_end) {
    struct seen first, again;
    const char *words = "run.strategy=easgd easgd.tau=1 run.seconds=0.05";
    cr_assert(go(&first, "first", words, "record", "r") == STATUS_OK, "%s", first.why);
    cr_assert(go(&again, "again", "run.strategy=easgd easgd.tau=1 run.seconds=0.0001", "replay",
                  "r") == STATUS_OK,
        "%s", again.why);
    cr_assert_eq(seen_differ(&first, &again), -1);
    seen_close(&first);
    seen_close(&again);
}

Test(record, of_a_run_that_fails_there_is_none_and_the_one_before_stays) {
    struct seen seen;
    cr_assert(go(&seen, "good", "run.steps=9", "record", "r") == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
    char *before = load(files_path("r"));
    const char *bad = "run.steps=900 quadratic.h_max=1e6";
    cr_assert(go(&seen, "bad", bad, "record", "r") == STATUS_DIVERGED, "%d", seen.end);
    seen_close(&seen);
    char *after = load(files_path("r"));
    cr_assert(strcmp(before, after) == 0, "another record is there");
    cr_assert(access(files_path("r.part"), F_OK) != 0, "a piece is left");
    free(before);
    free(after);
}

/* ---- what is refused ------------------------------------------------------------------------ */

Test(record, a_file_that_is_cut_short_or_changed_anywhere_is_refused) {
    struct seen seen;
    struct record *r;
    cr_assert(
        go(&seen, "run", "run.workers=2 run.steps=3", "record", "r") == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
    char *text = load(files_path("r"));
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        files_write("cut", text, i);
        cr_assert_eq(record_read(&r, files_path("cut")), STATUS_IO, "%zu of %zu bytes", i, n);
        cr_assert(strstr(fail_message(), files_path("cut")), "%s", fail_message());
        record_close(r);
    }
    for (size_t i = 0; i < n; i++) {
        char was = text[i];
        text[i] = (char)(was ^ 1);
        files_write("changed", text, n);
        text[i] = was;
        cr_assert_eq(record_read(&r, files_path("changed")), STATUS_IO, "byte %zu: %c", i, was);
        record_close(r);
    }
    cr_assert_eq(record_read(&r, files_path("r")), STATUS_OK, "%s", fail_message());
    record_close(r);
    free(text);
}

Test(record, no_file_no_record_and_no_place_are_said_in_words) {
    struct seen seen;
    cr_assert_eq(go(&seen, "a", "run.steps=3", "replay", "nothing"), STATUS_IO);
    cr_assert(strstr(seen.why, "cannot read"), "%s", seen.why);
    files_write("other", "PK\3\4\n", 5);
    cr_assert_eq(go(&seen, "b", "run.steps=3", "replay", "other"), STATUS_IO);
    cr_assert(strstr(seen.why, "no record of a run"), "%s", seen.why);
    cr_assert_eq(go(&seen, "c", "run.steps=3", "record", "no/where"), STATUS_IO);
    cr_assert(strstr(seen.why, "cannot write"), "%s", seen.why);
}

Test(record, another_runs_settings_are_refused_by_name) {
    static const char *const table[][2] = {{"run.seed=2", "seed = 1"},
        {"run.workers=3", "workers = 4"}, {"run.max_lag=3", "max_lag = 4"},
        {"easgd.tau=3", "[easgd] tau = 10"}, {"run.strategy=downpour", "strategy = easgd"},
        {"quadratic.h_max=2", "[quadratic] h_max = "}, {"optimizer.kind=momentum", "kind = sgd"},
        {"run.judge=replica", "judge = answer"}};
    struct seen seen;
    cr_assert(go(&seen, "first", "run.steps=9", "record", "r") == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char words[128];
        snprintf(words, sizeof words, "run.steps=9 %s", table[i][0]);
        cr_assert_eq(go(&seen, "other", words, "replay", "r"), STATUS_BAD_CONFIG, "%s", words);
        cr_assert(strstr(seen.why, table[i][1]), "%s: %s", words, seen.why);
    }
    runs_devices = late_devices;
    cr_assert_eq(go(&seen, "other", "run.steps=9", "replay", "r"), STATUS_BAD_CONFIG);
    cr_assert(strstr(seen.why, "[compute] kind = late"), "%s", seen.why);
}

/* The group's line, of a record that is whole in all else. */
static enum status replay_with_group(const char *line, char *why) {
    struct seen seen;
    char *text = load_lines("r"), *at = strstr(text, "\ngroup ="), edited[8192];
    cr_assert(at != NULL, "no group in %s", text);
    snprintf(edited, sizeof edited, "%.*s%s%s", (int)(at + 1 - text), text, line,
        strchr(at + 1, '\n') + 1);
    free(text);
    write_sealed("edited", edited);
    enum status end = go(&seen, "other", "run.steps=2", "replay", "edited");
    snprintf(why, sizeof seen.why, "%s", seen.why);
    seen_close(&seen);
    forget("other");
    return end;
}

Test(record, groups_that_are_missing_damaged_or_too_few_are_refused) {
    static const char *const damaged[] = {"group = 1 1 1 1\n", "group = 0 0 2 1\n",
        "group = 0 0 -1 0\n", "group = 0 0 99999999999999999999 0\n", "group = 0 0 0 x\n"};
    struct seen seen;
    char why[512], many[256] = "group =";
    cr_assert(go(&seen, "first", "run.steps=2", "record", "r") == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
    cr_assert_eq(replay_with_group("group = 0 0 0 0\n", why), STATUS_OK, "%s", why);
    cr_assert_eq(replay_with_group("", why), STATUS_BAD_CONFIG, "%s", why);
    cr_assert(strstr(why, "does not say who sat together"), "%s", why);
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        cr_assert_eq(replay_with_group(damaged[i], why), STATUS_IO, "%s: %s", damaged[i], why);
        cr_assert(strstr(why, "damaged"), "%s: %s", damaged[i], why);
    }
    for (int r = 0; r <= TEAM_MOST; r++) strcat(many, " 0");
    strcat(many, "\n");
    cr_assert_eq(replay_with_group(many, why), STATUS_IO, "%s", why);
    cr_assert_eq(replay_with_group("group = 0 0 0\n", why), STATUS_BAD_CONFIG, "%s", why);
    cr_assert(strstr(why, "has [compute] group = 0 0 0 where"), "%s", why);
}

Test(record, orders_that_exclude_one_another_are_refused) {
    struct seen seen;
    cr_assert_eq(go(&seen, "a", "run.steps=9 run.order=fixed", "record", "r"), STATUS_BAD_CONFIG);
    cr_assert_eq(go(&seen, "b", "run.steps=9 run.order=fixed", "replay", "r"), STATUS_BAD_CONFIG);
    const char *clocks = "run.steps=9 emulate.time=virtual emulate.compute=1ms";
    cr_assert_eq(go(&seen, "c", clocks, "replay", "r"), STATUS_BAD_CONFIG);
    cr_assert(strstr(seen.why, "virtual"), "%s", seen.why);
    runs_resume = 1;
    cr_assert_eq(go(&seen, "d", "run.steps=9", "record", "r"), STATUS_BAD_CONFIG);
    cr_assert(strstr(seen.why, "goes on"), "%s", seen.why);
}

/* ---- apart ---------------------------------------------------------------------------------- */

static void meet_once_more(void *with, const struct worker *w) {
    struct worker *me = ((struct worker **)with)[w->rank] = &w->seat->w;
    if (w->round == 2) team_sum1(me, 0);
}

Test(record, a_replay_that_comes_apart_says_where_and_ends_all) {
    struct seen seen;
    struct worker *me[TEAM_MOST];
    const struct watch other = {.begins = meet_once_more, .with = me};
    const char *words = "run.strategy=easgd easgd.tau=1 run.workers=4 run.steps=20";
    cr_assert(go(&seen, "first", words, "record", "r") == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
    run_words(&seen, &other, "%s %s run.replay=%s", common, words, files_path("r"));
    cr_assert_eq(seen.end, STATUS_VERIFY, "%d: %s", seen.end, seen.why);
    cr_assert(strstr(seen.why, "came apart from its record at event"), "%s", seen.why);
    cr_assert(strstr(seen.why, "here \"m "), "%s", seen.why);
    seen_close(&seen);
}

/* The first meeting's first to come comes again at once: it waits for the others, who wait for it. */
Test(record, that_nobody_can_follow_ends_the_replay) {
    struct seen seen;
    const char *words = "run.strategy=allreduce run.workers=3 run.steps=20";
    cr_assert(go(&seen, "first", words, "record", "r") == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
    char *lines = load_lines("r"), *first = strstr(lines, "\nm "), *doubled;
    cr_assert(first != NULL, "there is no meeting in %s", lines);
    int size = (int)(strchr(first + 1, '\n') - first);
    cr_assert(asprintf(&doubled, "%.*s%.*s%s", (int)(first - lines) + size, lines, size, first,
                  first + size) > 0);
    write_sealed("doubled", doubled);
    cr_assert_eq(go(&seen, "again", words, "replay", "doubled"), STATUS_VERIFY, "%s", seen.why);
    cr_assert(strstr(seen.why, "here \"it waits for others\", there \"m "), "%s", seen.why);
    seen_close(&seen);
    free(doubled);
    free(lines);
}

/* ---- another order -------------------------------------------------------------------------- */

enum { LINES_MOST = 20000, SWAPS = 4 };

/* Where the events of a record begin; how many there are. */
static int list_events(char *lines, char **event) {
    int n = 0;
    char *at = strstr(lines, "\nevents\n");
    cr_assert(at != NULL, "no events");
    for (at += 8; *at && n < LINES_MOST; at = strchr(at, '\n') + 1) event[n++] = at;
    return n;
}

struct lock {
    int rank, at; /* the number of its event */
    char name[32];
    double version;
};

static int read_lock(char *const *event, int at, struct lock *l) {
    l->at = at;
    return sscanf(event[at], "l %d %31s %lf", &l->rank, l->name, &l->version) == 3;
}

/* The next lock of the same vector, where the first has changed that and another worker comes, who does
 * nothing in between and waits for nobody: he might as well have come first. */
static int find_next(char *const *event, int n, const struct lock *first, struct lock *next) {
    int at = first->at + 1;
    while (at < n && !(read_lock(event, at, next) && !strcmp(next->name, first->name))) at++;
    if (at == n || next->rank == first->rank || !(next->version > first->version)) return 0;
    for (int i = first->at + 1; i < at; i++) {
        if (atoi(event[i] + 2) == next->rank || strchr("mg", event[i][0])) return 0;
    }
    return 1;
}

/* The record, with the second lock before the first. */
static void write_swapped(
    const char *lines, char *const *event, const struct lock *a, const struct lock *b) {
    size_t size = strlen(lines) + 64, at = (size_t)(event[a->at] - lines);
    const char *between = event[a->at + 1], *behind = strchr(event[b->at], '\n') + 1;
    char *text = malloc(size);
    cr_assert(text != NULL);
    snprintf(text, size, "%.*sl %d %s %.17g\nl %d %s %.17g\n%.*s%s", (int)at, lines, b->rank,
        b->name, a->version, a->rank, a->name, b->version, (int)(event[b->at] - between), between,
        behind);
    write_sealed("swapped", text);
    free(text);
}

/* Some pairs of locks in the middle, each by itself. One swap may change nothing, as that of two
 * messages of the same weight into one box. */
static void check_swaps(const char *strategy) {
    static char *event[LINES_MOST];
    struct seen first, again;
    struct lock a, b;
    char words[128];
    int swaps = 0, others = 0;
    snprintf(
        words, sizeof words, "run.strategy=%s run.workers=4 run.epochs=4 run.max_lag=0", strategy);
    cr_assert(go(&first, "first", words, "record", "r") == STATUS_OK, "%s", first.why);
    char *lines = load_lines("r");
    int n = list_events(lines, event);
    for (int i = n / 4; i < n && swaps < SWAPS; i++) {
        if (!read_lock(event, i, &a) || !find_next(event, n, &a, &b)) continue;
        write_swapped(lines, event, &a, &b);
        enum status end = go(&again, "again", words, "replay", "swapped");
        others += end == STATUS_VERIFY || seen_differ(&first, &again) >= 0;
        cr_assert(end == STATUS_VERIFY || end == STATUS_OK, "%s: %s", words, again.why);
        seen_close(&again);
        forget("again");
        swaps++;
    }
    cr_assert_eq(swaps, SWAPS, "%s: only %d pairs of locks to swap", words, swaps);
    cr_assert(others > 0, "%s: the same with any two locks swapped", words);
    free(lines);
    seen_close(&first);
    forget("first");
}

/* Were it not so, records of these strategies would hold nothing. */
Test(record, with_two_locks_swapped_is_another_run_or_comes_apart) {
    check_swaps("easgd easgd.tau=1");
    check_swaps("gossip gossip.p=1");
    check_swaps("adpsgd");
}
