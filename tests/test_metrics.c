/* test_metrics.c -- a run's numbers: a line of JSON an evaluation, and a table for people. */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>

#include "engine/metrics.h"
#include "files.h"

TestSuite(metrics, .init = files_open, .fini = files_close, .timeout = 60);

/* Each number another, so that none can stand in another's place. */
static const struct run_result result = {
    .score = {.loss = 30, .right = 90, .samples = 120},
    .accuracy = 0.75,
    .train_loss = 0.5,
    .samples = 4096,
    .epochs = 2.5,
    .seconds = 8,
    .computing = 5,
    .exchanging = 1.5,
    .waiting = 1.25,
    .loading = 0.125,
    .bytes = 123456789012.0,
    .steps = 128,
    .rate = 0.0625f,
    .health = {.consensus_distance = 0.3125, .center_distance = 0.4375, .effective_step = 0.1875},
    .path = "runs/a-1",
};

static const struct {
    const char *name;
    double value;
} fields[] = {{"round", 12}, {"steps", 128}, {"samples", 4096}, {"epochs", 2.5}, {"seconds", 8},
    {"rate", 0.0625}, {"train_loss", 0.5}, {"loss", 0.25}, {"accuracy", 0.75},
    {"consensus_distance", 0.3125}, {"center_distance", 0.4375}, {"effective_step", 0.1875},
    {"samples_per_second", 512}, {"computing", 5}, {"exchanging", 1.5}, {"waiting", 1.25},
    {"loading", 0.125}, {"bytes", 123456789012.0}};

enum { FIELDS = sizeof fields / sizeof *fields };

static char text[65536];

static const char *load(const char *name) {
    FILE *f = fopen(files_path(name), "r");
    cr_assert(f != NULL, "there is no %s", name);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

/* The i-th line as JSON; NULL past the last. */
static cJSON *row(const char *lines, int i) {
    for (; i > 0 && lines; i--) lines = strchr(lines, '\n') ? strchr(lines, '\n') + 1 : NULL;
    if (!lines || !*lines) return NULL;
    size_t n = strcspn(lines, "\n");
    cr_assert(lines[n] == '\n', "the line has no end: %s", lines);
    cJSON *object = cJSON_ParseWithLength(lines, n);
    cr_assert(cJSON_IsObject(object), "%s", lines);
    return object;
}

static struct metrics open_quiet(void) {
    struct metrics m = {.quiet = 1};
    enum status end = metrics_open(&m, files_path("m"));
    cr_assert(end == STATUS_OK, "%s", fail_message());
    return m;
}

Test(metrics, a_row_holds_every_number_under_its_name) {
    static const struct note notes[] = {{"spread", 0.375}, {"lag", -2}};
    struct metrics m = open_quiet();
    cr_assert(metrics_row(&m, &result, 12, notes, 2) == STATUS_OK);
    cr_assert(metrics_row(&m, &result, 13, NULL, 0) == STATUS_OK);
    cJSON *first = row(load("m"), 0); /* flushed: it is there before the file is closed */
    cr_assert(first != NULL);
    cr_assert_eq(cJSON_GetArraySize(first), FIELDS + 2);
    for (int i = 0; i < FIELDS; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(first, fields[i].name);
        cr_assert(cJSON_IsNumber(item), "%s", fields[i].name);
        cr_assert(item->valuedouble == fields[i].value, "%s", fields[i].name);
    }
    for (int i = 0; i < 2; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(first, notes[i].name);
        cr_assert(cJSON_IsNumber(item) && item->valuedouble == notes[i].value);
    }
    cJSON *second = row(text, 1);
    cr_assert(cJSON_GetObjectItemCaseSensitive(second, "round")->valuedouble == 13);
    cr_assert_eq(cJSON_GetArraySize(second), FIELDS);
    cr_assert(row(text, 2) == NULL);
    cJSON_Delete(first);
    cJSON_Delete(second);
    cr_assert(metrics_close(&m) == STATUS_OK && m.file == NULL);
    cr_assert(metrics_close(&m) == STATUS_OK, "closing twice");
}

Test(metrics, a_row_holds_how_stale_what_was_counted_is) {
    struct metrics m = open_quiet();
    struct run_result r = result;
    struct staleness *s = &r.health.staleness;
    *s = (struct staleness){.counted = 8, .sum = 20, .most = 9, .bin = {1, 2, 3, 0, 2}};
    s->bin[STALENESS_BINS - 1] = 7;
    cr_assert(metrics_row(&m, &r, 12, NULL, 0) == STATUS_OK);
    cJSON *only = row(load("m"), 0);
    cr_assert_eq(cJSON_GetArraySize(only), FIELDS + 3);
    cr_assert(cJSON_GetObjectItemCaseSensitive(only, "staleness")->valuedouble == 2.5);
    cr_assert(cJSON_GetObjectItemCaseSensitive(only, "staleness_most")->valuedouble == 9);
    const cJSON *bins = cJSON_GetObjectItemCaseSensitive(only, "staleness_histogram");
    cr_assert_eq(cJSON_GetArraySize(bins), STALENESS_BINS);
    for (int i = 0; i < STALENESS_BINS; i++) {
        cr_assert(cJSON_GetArrayItem(bins, i)->valuedouble == s->bin[i], "bin %d", i);
    }
    cJSON_Delete(only);
    metrics_close(&m);
}

Test(metrics, a_float_has_no_more_digits_than_it_was_set_with) {
    static const struct note notes[] = {{"alpha", 0.3f}, {"bytes_more", 16777217.0}};
    struct metrics m = open_quiet();
    struct run_result r = result;
    r.rate = 0.05f;
    cr_assert(metrics_row(&m, &r, 1, notes, 2) == STATUS_OK);
    cr_assert(strstr(load("m"), "\"rate\":0.05,") != NULL, "%s", text);
    cr_assert(strstr(text, "\"alpha\":0.3,") != NULL, "%s", text);
    cr_assert(strstr(text, "\"bytes_more\":16777217}") != NULL, "%s", text);
    metrics_close(&m);
}

/* JSON knows neither NaN nor infinity. */
Test(metrics, what_is_no_number_is_null) {
    static const char *const nulls[] = {"accuracy", "train_loss", "samples_per_second", "loss",
        "consensus_distance", "center_distance", "effective_step"};
    struct metrics m = open_quiet();
    struct run_result r = result;
    r.accuracy = r.train_loss = r.health.consensus_distance = (double)NAN;
    r.health.center_distance = r.health.effective_step = (double)INFINITY;
    r.seconds = 0;
    r.score = (struct score){0, 0, 0};
    cr_assert(metrics_row(&m, &r, 1, NULL, 0) == STATUS_OK);
    cJSON *only = row(load("m"), 0);
    cr_assert(only && cJSON_GetArraySize(only) == FIELDS);
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++) {
        cr_assert(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(only, nulls[i])), "%s", nulls[i]);
    }
    cJSON_Delete(only);
    metrics_close(&m);
}

Test(metrics, without_a_file_nothing_is_written_and_nothing_fails) {
    struct metrics m = {.quiet = 1};
    cr_assert(metrics_row(&m, &result, 1, NULL, 0) == STATUS_OK);
    cr_assert(metrics_close(&m) == STATUS_OK);
}

Test(metrics, what_cannot_be_written_is_told_in_words) {
    struct metrics m = {.quiet = 1};
    cr_assert(metrics_open(&m, files_path("none/m")) == STATUS_IO);
    cr_assert(strstr(fail_message(), files_path("none/m")), "'%s'", fail_message());
    cr_assert(strstr(fail_message(), "No such file"), "'%s'", fail_message());
    m.file = fopen("/dev/full", "w");
    if (!m.file) cr_skip_test("there is no /dev/full here");
    cr_assert(metrics_row(&m, &result, 1, NULL, 0) == STATUS_IO);
    cr_assert(strstr(fail_message(), "No space left"), "'%s'", fail_message());
    metrics_close(&m);
}

/* What stdout gets meanwhile goes into the file "out". */
static int stdout_kept;

static void stdout_take(void) {
    fflush(stdout);
    stdout_kept = dup(STDOUT_FILENO);
    int to = open(files_path("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert(to >= 0 && dup2(to, STDOUT_FILENO) >= 0);
    close(to);
}

static const char *stdout_give_back(void) {
    fflush(stdout);
    dup2(stdout_kept, STDOUT_FILENO);
    close(stdout_kept);
    return load("out");
}

static int count(const char *in, const char *what) {
    int n = 0;
    for (; (in = strstr(in, what)); in += strlen(what)) n++;
    return n;
}

Test(metrics, people_get_one_heading_and_a_row_an_evaluation) {
    struct metrics m = {0};
    struct run_result r = result;
    stdout_take();
    metrics_row(&m, &r, 1, NULL, 0);
    r.accuracy = (double)NAN;
    metrics_row(&m, &r, 2, NULL, 0);
    const char *out = stdout_give_back();
    cr_assert_eq(count(out, "accuracy"), 1, "%s", out);
    cr_assert_eq(count(out, "\n"), 3, "%s", out);
    cr_assert_eq(count(out, " 75.00 % "), 1, "%s", out);
    cr_assert_eq(count(out, " - "), 1, "%s", out);
    cr_assert_eq(count(out, "nan"), 0, "%s", out);
    cr_assert_eq(count(out, " 512\n"), 2, "%s", out);
    m.quiet = 1;
    stdout_take();
    metrics_row(&m, &r, 3, NULL, 0);
    cr_assert_eq(strlen(stdout_give_back()), 0u, "a quiet run prints");
}

Test(metrics, the_last_table_says_what_it_was_worth_and_what_it_cost) {
    static const char *const want[] = {"easgd, 4 workers\n", " 75.00 %\n", " 0.25\n", " 512\n",
        "seconds computing    5.00\n", "seconds exchanging   1.50\n", "seconds waiting      1.25\n",
        "runs/a-1\n"};
    struct run_result r = result;
    stdout_take();
    metrics_table(&r, "easgd", 4);
    const char *out = stdout_give_back();
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        cr_assert_eq(count(out, want[i]), 1, "%s lacks '%s'", out, want[i]);
    }
    r.accuracy = (double)NAN;
    *r.path = '\0';
    stdout_take();
    metrics_table(&r, "easgd", 4);
    out = stdout_give_back();
    cr_assert(
        count(out, " -\n") == 1 && count(out, "nan") == 0 && count(out, "files") == 0, "%s", out);
}
