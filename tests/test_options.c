#include <criterion/criterion.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/options.h"
#include "base/rng.h"

TestSuite(options, .timeout = 60);

struct thing {
    int tau, mode;
    float beta, any, tiny;
    char name[16], layers[512];
};

static const struct option thing_options[] = {
    {"tau", OPTION_INT, offsetof(struct thing, tau), 10, 1, 1000, "steps", NULL},
    {"mode", OPTION_CHOICE, offsetof(struct thing, mode), 1, 0, 2, "sync|async|other: how", NULL},
    {"beta", OPTION_REAL, offsetof(struct thing, beta), 0.9, 0, 1, "strength", NULL},
    {"any", OPTION_REAL, offsetof(struct thing, any), 0, -1e39, 1e39, "any float", NULL},
    {"tiny", OPTION_REAL, offsetof(struct thing, tiny), 1e-6, 1e-6, 1, "a step", NULL},
    {"name", OPTION_TEXT, offsetof(struct thing, name), 0, 0, 16, "what it is called", "huddle"},
    {"layers", OPTION_TEXT, offsetof(struct thing, layers), 0, 0, 512, "what learns", NULL},
    {0},
};

struct run {
    int workers;
};

static const struct option run_table[] = {
    {"workers", OPTION_INT, offsetof(struct run, workers), 4, 1, 64, "replicas", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"thing", "things", thing_options},
    {"run", "runs", run_table},
    {"bare", "nothing to set", NULL},
    {0},
};

static struct settings *fresh(void) {
    struct settings *s;
    cr_assert(settings_open(&s) == STATUS_OK, "no settings");
    return s;
}

static struct thing applied(const struct settings *s) {
    struct thing t;
    memset(&t, 0xa5, sizeof t);
    cr_assert(settings_check(s, groups) == STATUS_OK, "%s", fail_message());
    cr_assert(settings_apply(s, "thing", thing_options, &t) == STATUS_OK, "%s", fail_message());
    return t;
}

static void say(struct settings *s, const char *argument) {
    cr_assert(settings_read_argument(s, argument) == STATUS_OK, "%s: %s", argument, fail_message());
}

static void read_text(struct settings *s, const char *text) {
    cr_assert(settings_read_text(s, text, "text.ini") == STATUS_OK, "%s", fail_message());
}

Test(options, the_table_gives_what_nobody_set) {
    struct settings *s = fresh();
    struct thing t = applied(s);
    cr_assert_eq(t.tau, 10);
    cr_assert_eq(t.mode, 1);
    cr_assert(t.beta == 0.9f && t.any == 0 && t.tiny == 1e-6f, "reals");
    cr_assert(!strcmp(t.name, "huddle") && !strcmp(t.layers, ""), "texts");
    settings_close(s);
    settings_close(NULL);
}

Test(options, the_command_line_beats_the_file_beats_the_table) {
    for (int first = 0; first < 2; first++) {
        struct settings *s = fresh();
        if (first) say(s, "thing.tau=30");
        read_text(s, "[thing]\ntau = 20\nbeta = 0.25\nmode = other\n");
        if (!first) say(s, "thing.tau=30");
        struct thing t = applied(s);
        cr_assert_eq(t.tau, 30);
        cr_assert(t.beta == 0.25f, "%g", (double)t.beta);
        cr_assert_eq(t.mode, 2);
        cr_assert(!strcmp(t.name, "huddle"), "%s", t.name);
        settings_close(s);
    }
}

Test(options, a_name_without_a_dot_is_the_runs) {
    struct settings *s = fresh();
    struct run r;
    say(s, "workers=7");
    cr_assert(settings_check(s, groups) == STATUS_OK, "%s", fail_message());
    cr_assert(settings_apply(s, "run", run_table, &r) == STATUS_OK, "%s", fail_message());
    cr_assert_eq(r.workers, 7);
    settings_close(s);
}

Test(options, what_was_set_is_known_by_group_and_name) {
    struct settings *s = fresh();
    cr_assert(settings_read_text(s, "[thing]\ntau = 10\n", "a text") == STATUS_OK);
    cr_assert(settings_read_argument(s, "workers=4") == STATUS_OK);
    cr_assert(settings_has(s, "thing", "tau") && settings_has(s, "run", "workers"));
    cr_assert(!settings_has(s, "run", "tau") && !settings_has(s, "thing", "workers"));
    cr_assert(!settings_has(s, "thing", "mode") && !settings_has(s, "bare", "tau"));
    settings_close(s);
}

Test(options, a_value_may_hold_equals_signs_dots_and_blanks) {
    struct settings *s = fresh();
    say(s, "thing.layers=a=b.c, d = e");
    say(s, "thing.name=");
    struct thing t = applied(s);
    cr_assert(!strcmp(t.layers, "a=b.c, d = e"), "%s", t.layers);
    cr_assert(!strcmp(t.name, ""), "%s", t.name);
    settings_close(s);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void must_say(enum status end, const char *what, const char *word) {
    cr_assert(end == STATUS_BAD_CONFIG, "%s: %d", what, (int)end);
    cr_assert(strstr(fail_message(), word) != NULL, "%s: %s", what, fail_message());
}

/* A mistake is found by the check, whichever way it came in. */
static void check_refused(
    const char *group, const char *name, const char *value, const char *first, const char *second) {
    char line[256];
    for (int file = 0; file < 2; file++) {
        struct settings *s = fresh();
        snprintf(line, sizeof line, file ? "\n[%s]\n%s=%s\n" : "%s.%s=%s", group, name, value);
        enum status end =
            file ? settings_read_text(s, line, "mine.ini") : settings_read_argument(s, line);
        cr_assert(end == STATUS_OK, "%s: %s", line, fail_message());
        must_say(settings_check(s, groups), line, first);
        must_say(settings_check(s, groups), line, second);
        must_say(settings_check(s, groups), line, file ? "mine.ini:3" : "command line");
        settings_close(s);
    }
}

Test(options, an_unknown_name_gets_the_nearest_one) {
    check_refused("thing", "tua", "1", "thing.tua", "thing.tau");
    check_refused("thing", "layer", "1", "thing.layer;", "thing.layers");
    check_refused("thng", "tau", "1", "\"thng\"", "\"thing\"");
    check_refused("runn", "workers", "1", "\"runn\"", "\"run\"");
    check_refused("run", "worker", "1", "run.worker;", "run.workers");
    check_refused("run", "tau", "1", "run.tau", "thing.tau");
    check_refused("bare", "tau", "1", "bare", "no options");
}

Test(options, values_out_of_range_are_refused) {
    const char *const values[][3] = {{"tau", "0", "1 .. 1000"}, {"tau", "1001", "1 .. 1000"},
        {"tau", "-5", "1 .. 1000"}, {"beta", "1.0001", "0 .. 1"}, {"beta", "-1e-9", "0 .. 1"},
        {"tiny", "9e-7", "1e-06 .. 1"}, {"beta", "inf", "0 .. 1"}, {"beta", "nan", "0 .. 1"},
        {"tau", "nan", "1 .. 1000"}, {"tau", "99999999999999999999", "1 .. 1000"}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        check_refused("thing", values[i][0], values[i][1], values[i][1], values[i][2]);
    }
}

Test(options, values_of_another_type_are_refused) {
    check_refused("thing", "tau", "ten", "thing.tau = ten", "whole number");
    check_refused("thing", "tau", "1.5", "thing.tau = 1.5", "whole number");
    check_refused("thing", "tau", "", "thing.tau", "whole number");
    check_refused("thing", "tau", "5x", "5x", "whole number");
    check_refused("thing", "tau", "5 6", "5 6", "whole number");
    check_refused("thing", "beta", "0,5", "0,5", "a number");
    check_refused("thing", "beta", "", "thing.beta", "a number");
    check_refused("thing", "mode", "Sync", "Sync", "sync|async|other");
    check_refused("thing", "mode", "asyn", "asyn", "sync|async|other");
    check_refused("thing", "mode", "", "thing.mode", "sync|async|other");
    check_refused("thing", "mode", "how", "how", "sync|async|other");
    check_refused("thing", "name", "sixteen letters!", "thing.name", "15 characters");
}

Test(options, the_longest_text_fits) {
    struct settings *s = fresh();
    say(s, "thing.name=fifteen letters");
    struct thing t = applied(s);
    cr_assert(!strcmp(t.name, "fifteen letters"), "%s", t.name);
    settings_close(s);
}

Test(options, apply_refuses_too) {
    struct settings *s = fresh();
    struct thing t;
    say(s, "thing.tau=0");
    must_say(settings_apply(s, "thing", thing_options, &t), "apply", "thing.tau = 0");
    settings_close(s);
}

Test(options, what_is_set_twice_is_refused) {
    struct settings *s = fresh();
    say(s, "thing.tau=3");
    must_say(settings_read_argument(s, "thing.tau=4"), "twice", "thing.tau is set twice: 3 and 4");
    must_say(settings_read_text(s, "[thing]\nbeta=0.1\n\nbeta=0.2\n", "mine.ini"), "twice",
        "mine.ini:4: thing.beta is set twice: 0.1 and 0.2");
    settings_close(s);
}

Test(options, an_argument_is_a_name_an_equals_sign_and_a_value) {
    const char *const bad[] = {"thing", "thing.tau", "=5", ""};
    for (int i = 0; i < 4; i++) {
        struct settings *s = fresh();
        must_say(settings_read_argument(s, bad[i]), bad[i], "is not group.name=value");
        settings_close(s);
    }
}

/* ---- ini ------------------------------------------------------------------------------------ */

Test(options, files_have_groups_comments_blanks_and_long_values) {
    struct settings *s = fresh();
    struct run r;
    read_text(s, "# a comment\n; another\nworkers = 9\n\n[thing]\n  ; indented\ntau=5\r\n"
                 "name =   a b  \nlayers = conv 16 3,\n   relu,\n\tdense 10\nbeta = 0.5 ; half");
    struct thing t = applied(s);
    cr_assert_eq(t.tau, 5);
    cr_assert(!strcmp(t.name, "a b"), "\"%s\"", t.name);
    cr_assert(!strcmp(t.layers, "conv 16 3, relu, dense 10"), "\"%s\"", t.layers);
    cr_assert(t.beta == 0.5f, "%g", (double)t.beta);
    cr_assert(settings_apply(s, "run", run_table, &r) == STATUS_OK, "%s", fail_message());
    cr_assert_eq(r.workers, 9);
    settings_close(s);
}

/* The first line of a group cannot go on with the value of the group before. */
Test(options, a_group_may_be_indented) {
    struct settings *s = fresh();
    struct run r;
    read_text(s, "[run]\nworkers = 3\n[thing]\n  tau = 7\n");
    struct thing t = applied(s);
    cr_assert_eq(t.tau, 7);
    cr_assert(settings_apply(s, "run", run_table, &r) == STATUS_OK, "%s", fail_message());
    cr_assert_eq(r.workers, 3);
    settings_close(s);
}

Test(options, a_bad_line_is_named) {
    const char *const bad[][2] = {{"[thing]\ntau = 5\nwhat is this\n", "mine.ini:3"},
        {"[thing\ntau = 5\n", "mine.ini:1"}, {"\n\nnothing", "mine.ini:3"}};
    for (int i = 0; i < 3; i++) {
        struct settings *s = fresh();
        must_say(settings_read_text(s, bad[i][0], "mine.ini"), bad[i][0], bad[i][1]);
        settings_close(s);
    }
}

Test(options, a_line_that_is_too_long_is_named_not_cut) {
    char text[2000] = "[thing]\ntau = 5\nlayers = ";
    size_t at = strlen(text);
    memset(text + at, 'x', 1000);
    memcpy(text + at + 1000, "\nbeta = 0.5\n", 13);
    struct settings *s = fresh();
    must_say(settings_read_text(s, text, "mine.ini"), "long", "mine.ini:3");
    must_say(settings_read_text(s, text + 16, "mine.ini"), "long", "too long");
    settings_close(s);
}

Test(options, files_that_cannot_be_read_say_why) {
    char folder[] = "options-XXXXXX";
    struct settings *s = fresh();
    cr_assert(mkdtemp(folder) != NULL, "no folder");
    enum status missing = settings_read_file(s, "no/such/file.ini");
    cr_assert(missing == STATUS_IO && strstr(fail_message(), "no/such/file.ini"), "%d: %s",
        (int)missing, fail_message());
    enum status directory = settings_read_file(s, folder);
    cr_assert(directory == STATUS_IO && strstr(fail_message(), folder), "%d: %s", (int)directory,
        fail_message());
    rmdir(folder);
    settings_close(s);
}

Test(options, a_file_is_read_like_a_text) {
    char path[] = "options-XXXXXX";
    int file = mkstemp(path);
    cr_assert(file >= 0, "no file");
    const char *text = "[thing]\ntau = 17\nlayers = a\n  b\n";
    cr_assert(write(file, text, strlen(text)) == (ssize_t)strlen(text), "not written");
    close(file);
    struct settings *s = fresh();
    enum status end = settings_read_file(s, path);
    unlink(path);
    cr_assert(end == STATUS_OK, "%s", fail_message());
    struct thing t = applied(s);
    cr_assert_eq(t.tau, 17);
    cr_assert(!strcmp(t.layers, "a b"), "%s", t.layers);
    settings_close(s);
}

/* ---- writing, and back ---------------------------------------------------------------------- */

static struct thing round_trip(const struct thing *t) {
    char text[4096] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    options_write(f, "thing", thing_options, t);
    fclose(f);
    struct settings *s = fresh();
    read_text(s, text);
    struct thing back = applied(s);
    settings_close(s);
    return back;
}

static const struct rng_key KEY = {7, 1, 2};

Test(options, any_float_reads_back_to_the_same_bits) {
    struct thing t = {.tau = 5, .mode = 2, .tiny = 1};
    const float special[] = {0, -0.0f, 1e-45f, -1e-45f, 1.17549435e-38f, 3.4028235e38f,
        -3.4028235e38f, 0.1f, 1.0f / 3, 16777216, 16777218, 0.9f, 1e-6f};
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t bits = rng_word(KEY, i);
        memcpy(&t.any, &bits, sizeof bits);
        if (i < sizeof special / sizeof *special) t.any = special[i];
        if (!isfinite(t.any)) continue;
        t.beta = rng_unit(rng_word(KEY, 1000000 + i));
        struct thing back = round_trip(&t);
        cr_assert(memcmp(&back.any, &t.any, sizeof t.any) == 0, "%.9g became %.9g", (double)t.any,
            (double)back.any);
        cr_assert(memcmp(&back.beta, &t.beta, sizeof t.beta) == 0, "%.9g became %.9g",
            (double)t.beta, (double)back.beta);
    }
}

/* Defaults that are not floats, and the ends of their ranges, must pass their own check. */
Test(options, defaults_and_ends_of_ranges_read_back) {
    struct settings *s = fresh();
    struct thing t = applied(s), back = round_trip(&t);
    cr_assert(back.tiny == t.tiny && back.beta == t.beta && back.tau == t.tau, "defaults");
    cr_assert(back.mode == t.mode && !strcmp(back.name, t.name), "defaults");
    t.tau = 1000;
    t.beta = 1;
    back = round_trip(&t);
    cr_assert(back.tau == 1000 && back.beta == 1, "%d %g", back.tau, (double)back.beta);
    settings_close(s);
}

Test(options, long_values_are_broken_and_read_back) {
    for (uint32_t i = 0; i < 400; i++) {
        struct thing t = {.tau = 1, .tiny = 1};
        size_t size = rng_below(rng_word(KEY, 3 * i), 512), at = 0;
        while (at < size) {
            size_t word = 1 + rng_below(rng_word(KEY, 100000 + 1000 * i + (uint32_t)at), 149);
            if (at + word > size) word = size - at;
            memset(t.layers + at, 'a' + (int)(at % 26), word);
            at += word;
            if (at + 1 < size) t.layers[at++] = ' ';
        }
        struct thing back = round_trip(&t);
        cr_assert(!strcmp(back.layers, t.layers), "\"%s\" became \"%s\"", t.layers, back.layers);
    }
}

/* A line is broken at a single blank only: of two, the reader would give one back. */
Test(options, several_blanks_in_a_long_value_read_back) {
    for (uint32_t i = 0; i < 400; i++) {
        struct thing t = {.tau = 1, .tiny = 1};
        size_t size = 100 + rng_below(rng_word(KEY, 5 * i), 400), word = 0;
        for (size_t at = 0; at < size; at++) {
            uint32_t draw = rng_below(rng_word(KEY, 900000 + 1000 * i + (uint32_t)at), 8);
            int inside = at > 0 && at + 1 < size;
            t.layers[at] = inside && (draw < 3 || word > 20) ? ' ' : 'a';
            word = t.layers[at] == ' ' ? 0 : word + 1;
        }
        struct thing back = round_trip(&t);
        cr_assert(!strcmp(back.layers, t.layers), "\"%s\" became \"%s\"", t.layers, back.layers);
    }
}

Test(options, blanks_at_the_ends_are_no_part_of_a_text) {
    struct settings *s = fresh();
    cr_assert(settings_read_argument(s, "thing.name= \t a  b \t") == STATUS_OK);
    cr_assert(settings_read_argument(s, "thing.layers=  ") == STATUS_OK);
    struct thing t = applied(s);
    cr_assert(!strcmp(t.name, "a  b") && !strcmp(t.layers, ""), "\"%s\"", t.name);
    settings_close(s);
}

Test(options, a_group_without_options_is_not_written) {
    char text[64] = "";
    const struct option none[] = {{0}};
    FILE *f = fmemopen(text, sizeof text, "w");
    options_write(f, "bare", NULL, NULL);
    options_write(f, "bare", none, NULL);
    fclose(f);
    cr_assert(!strcmp(text, ""), "%s", text);
}

Test(options, words_of_a_choice) {
    char word[32];
    const char *want[] = {"sync", "async", "other", "", ""};
    for (int i = 0; i < 5; i++) {
        option_word(&thing_options[1], i, word, sizeof word);
        cr_assert(!strcmp(word, want[i]), "%d is \"%s\"", i, word);
    }
    option_word(&thing_options[1], 1, word, 4);
    cr_assert(!strcmp(word, "asy"), "%s", word);
}

Test(options, a_list_has_what_was_set_in_a_group) {
    char list[32] = "", little[12] = "";
    struct settings *s = fresh();
    cr_assert(settings_read_text(s, "[thing]\ntau = 4\n[run]\nworkers = 2\n", "file") == STATUS_OK);
    cr_assert(settings_read_argument(s, "thing.beta=0.5") == STATUS_OK);
    settings_list(s, "thing", 0, little, sizeof little);
    cr_assert_str_eq(little, "thing.tau"); /* the other does not fit */
    settings_list(s, "thing", 0, list, sizeof list);
    cr_assert_str_eq(list, "thing.tau, thing.beta");
    *list = '\0';
    settings_list(s, "thing", 1, list, sizeof list);
    cr_assert_str_eq(list, "thing.beta");
    settings_list(s, "bare", 0, list, sizeof list);
    cr_assert_str_eq(list, "thing.beta");
    settings_close(s);
}

Test(options, the_help_has_a_line_for_each) {
    char text[4096] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    options_help(f, "thing", thing_options);
    fclose(f);
    const char *must[] = {"thing.tau", "10", "(1 .. 1000)", "thing.mode", "async", "thing.beta",
        "0.9", "thing.name", "huddle", "thing.layers", "what learns"};
    for (size_t i = 0; i < sizeof must / sizeof *must; i++) {
        cr_assert(strstr(text, must[i]) != NULL, "no %s in\n%s", must[i], text);
    }
}
