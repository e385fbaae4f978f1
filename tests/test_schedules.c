#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/schedule.h"

TestSuite(schedules, .timeout = 20);

static struct schedules list;

/* Opens what the words say. */
static enum status open_words(const char *words) {
    char copy[1024], *rest = NULL;
    struct settings *set;
    snprintf(copy, sizeof copy, "%s", words);
    cr_assert(settings_open(&set) == STATUS_OK, "no settings");
    for (char *w = strtok_r(copy, "\n", &rest); w; w = strtok_r(NULL, "\n", &rest)) {
        cr_assert(settings_read_argument(set, w) == STATUS_OK, "%s", fail_message());
    }
    enum status end = schedules_open(&list, set, base_schedules);
    settings_close(set);
    return end;
}

static double rate_at(double epochs) {
    struct progress now = {.epochs = epochs};
    return (double)schedules_plan(&list, &now).rate;
}

struct point {
    double epochs, rate;
};

/* Rates are floats of a product or two: a few roundings of 2^-24. */
static void check_trace(const char *words, const struct point *at, int n) {
    cr_assert(open_words(words) == STATUS_OK, "%s: %s", words, fail_message());
    for (int i = 0; i < n; i++) {
        double got = rate_at(at[i].epochs);
        cr_assert(fabs(got - at[i].rate) <= 3e-7 * at[i].rate, "%s: %.9g at %.17g epochs, not %.9g",
            words, got, at[i].epochs, at[i].rate);
    }
    schedules_close(&list);
    schedules_close(&list); /* twice does no harm */
}

#define CHECK_TRACE(words, ...)                                                                    \
    do {                                                                                           \
        const struct point trace_[] = {__VA_ARGS__};                                               \
        check_trace((words), trace_, (int)(sizeof trace_ / sizeof *trace_));                       \
    } while (0)

Test(schedules, constant_leaves_the_rate_alone) {
    CHECK_TRACE("schedule.rate=0.3", {0, 0.3}, {0.5, 0.3}, {1e9, 0.3});
    CHECK_TRACE("schedule.rate=0.3\nschedule.use=constant", {0, 0.3}, {7, 0.3});
    CHECK_TRACE("schedule.rate=0.3\nschedule.use=", {0, 0.3}, {7, 0.3});
    CHECK_TRACE("schedule.rate=0", {0, 0}, {7, 0});
}

Test(schedules, step_drops_exactly_at_its_epochs) {
    const double before80 = nextafter(80, 0), before120 = nextafter(120, 0);
    CHECK_TRACE("schedule.rate=1\nschedule.use=step\nstep.at=80, 120", {0, 1}, {79, 1},
        {before80, 1}, {80, 0.1}, {100, 0.1}, {before120, 0.1}, {120, 0.01}, {1e6, 0.01});
    CHECK_TRACE("schedule.rate=0.8\nschedule.use=step\nstep.at=0.5\nstep.factor=0.25", {0, 0.8},
        {nextafter(0.5, 0), 0.8}, {0.5, 0.2}, {3, 0.2});
    CHECK_TRACE("schedule.rate=0.8\nschedule.use=step\nstep.at=1,2,3\nstep.factor=0", {0.9, 0.8},
        {1, 0}, {5, 0});
    CHECK_TRACE("schedule.rate=0.8\nschedule.use=step\nstep.at=0\nstep.factor=0.5", {0, 0.4});
    CHECK_TRACE("schedule.rate=1\nschedule.use=step\nstep.at=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
                "\nstep.factor=0.5",
        {0, 0.5}, {14.5, 0x1p-15}, {15, 0x1p-16}, {99, 0x1p-16});
}

Test(schedules, warmup_is_a_straight_line) {
    CHECK_TRACE("schedule.rate=0.4\nschedule.use=warmup\nwarmup.epochs=5", {0, 0}, {1, 0.08},
        {2.5, 0.2}, {4, 0.32}, {nextafter(5, 0), 0.4}, {5, 0.4}, {50, 0.4});
    CHECK_TRACE("schedule.rate=0.4\nschedule.use=warmup\nwarmup.epochs=4\nwarmup.from=0.25",
        {0, 0.1}, {1, 0.175}, {2, 0.25}, {4, 0.4}, {5, 0.4});
    CHECK_TRACE("schedule.rate=0.4\nschedule.use=warmup\nwarmup.from=1", {0, 0.4}, {0.3, 0.4});
    CHECK_TRACE("schedule.rate=0.4\nschedule.use=warmup\nwarmup.epochs=0", {0, 0.4}, {1, 0.4});
}

/* cos 60 degrees is 1/2, cos 45 degrees the root of 1/2. */
Test(schedules, cosine_is_half_a_wave) {
    const double root = 0.70710678118654752;
    CHECK_TRACE("schedule.rate=0.8\nschedule.use=cosine\ncosine.epochs=12", {0, 0.8},
        {3, 0.4 * (1 + root)}, {4, 0.6}, {6, 0.4}, {8, 0.2}, {9, 0.4 * (1 - root)}, {12, 0},
        {13, 0}, {1e9, 0});
    CHECK_TRACE("schedule.rate=2\nschedule.use=cosine\ncosine.epochs=3\ncosine.to=0.25", {0, 2},
        {1, 1.625}, {1.5, 1.25}, {2, 0.875}, {3, 0.5}, {nextafter(3, 0), 0.5}, {24, 0.5});
    CHECK_TRACE("schedule.rate=2\nschedule.use=cosine\ncosine.to=1", {0, 2}, {15, 2}, {99, 2});
    CHECK_TRACE(
        "schedule.rate=2\nschedule.use=cosine\ncosine.epochs=0\ncosine.to=0.5", {0, 1}, {1, 1});
}

Test(schedules, linear_falls_in_a_straight_line) {
    CHECK_TRACE("schedule.rate=0.8\nschedule.use=linear\nlinear.epochs=8", {0, 0.8}, {1, 0.7},
        {2, 0.6}, {4, 0.4}, {7, 0.1}, {8, 0}, {9, 0}, {1e9, 0});
    CHECK_TRACE("schedule.rate=2\nschedule.use=linear\nlinear.epochs=5\nlinear.to=0.1", {0, 2},
        {1, 1.64}, {2.5, 1.1}, {5, 0.2}, {nextafter(5, 0), 0.2}, {50, 0.2});
    CHECK_TRACE(
        "schedule.rate=2\nschedule.use=linear\nlinear.epochs=0\nlinear.to=0.5", {0, 1}, {1, 1});
}

Test(schedules, schedules_compose) {
    const char *settings = "schedule.rate=2\nwarmup.epochs=4\nwarmup.from=0.5\nstep.at=2,6\n"
                           "step.factor=0.5\nschedule.use=";
    const char *uses[] = {"warmup, step", "step,warmup", " warmup step ", "constant warmup,,step"};
    for (int i = 0; i < 4; i++) {
        char words[256];
        snprintf(words, sizeof words, "%s%s", settings, uses[i]);
        CHECK_TRACE(words, {0, 1}, {1, 1.25}, {2, 0.75}, {3, 0.875}, {4, 1}, {6, 0.5}, {7, 0.5});
    }
    CHECK_TRACE("schedule.rate=2\nschedule.use=warmup,cosine\nwarmup.epochs=4\ncosine.epochs=12",
        {0, 0}, {3, 1.5 * 0.85355339059327376}, {4, 1.5}, {8, 0.5}, {12, 0});
    CHECK_TRACE("schedule.rate=1\nschedule.use=step,step\nstep.at=1", {0, 1}, {1, 0.01});
}

static void check_refused(const char *words, const char *must_say) {
    enum status end = open_words(words);
    cr_assert(end == STATUS_BAD_CONFIG, "%s: %d", words, (int)end);
    cr_assert(strstr(fail_message(), must_say) != NULL, "%s: %s", words, fail_message());
    schedules_close(&list);
}

Test(schedules, mistakes_are_refused_in_words) {
    check_refused("schedule.use=cosin", "\"cosin\"");
    check_refused("schedule.use=warmup,stepp", "\"stepp\"");
    check_refused("schedule.use=warmupwarmupwarmupwarmupwarmupwarmup", "warmupwarmup");
    check_refused("schedule.use=constant constant constant constant constant constant constant "
                  "constant constant",
        "more than 8");
    check_refused("schedule.use=step", "step.at");
    check_refused("schedule.use=step\nstep.at=80,80", "80,80");
    check_refused("schedule.use=step\nstep.at=80,40", "80,40");
    check_refused("schedule.use=step\nstep.at=-1", "-1");
    check_refused("schedule.use=step\nstep.at=ten", "ten");
    check_refused("schedule.use=step\nstep.at=10x", "10x");
    check_refused("schedule.use=step\nstep.at=nan", "nan");
    check_refused(
        "schedule.use=step\nstep.at=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", "more than 16");
    check_refused("schedule.use=step\nstep.at=10\nstep.factor=1.5", "step.factor");
    check_refused("schedule.use=warmup\nwarmup.from=-0.5", "warmup.from");
    check_refused("schedule.use=warmup\nwarmup.epochs=-1", "warmup.epochs");
    check_refused("schedule.use=cosine\ncosine.epochs=-1", "cosine.epochs");
    check_refused("schedule.use=cosine\ncosine.to=1.5", "cosine.to");
    check_refused("schedule.use=linear\nlinear.to=-0.1", "linear.to");
    check_refused("schedule.rate=-1", "schedule.rate");
    check_refused("schedule.rate=fast", "fast");
}

/* What is written opens to the same plan. */
Test(schedules, what_is_written_reads_back) {
    struct settings *set;
    char text[4096] = "";
    cr_assert(open_words("schedule.rate=0.3\nschedule.use=warmup, step\nwarmup.epochs=3\n"
                         "warmup.from=0.1\nstep.at=2, 5\nstep.factor=0.7") == STATUS_OK,
        "%s", fail_message());
    double want[8], got;
    for (int i = 0; i < 8; i++) want[i] = rate_at(i);
    FILE *f = fmemopen(text, sizeof text, "w");
    schedules_write(&list, f);
    fclose(f);
    schedules_close(&list);
    cr_assert(settings_open(&set) == STATUS_OK, "no settings");
    cr_assert(settings_read_text(set, text, "text") == STATUS_OK, "%s", fail_message());
    cr_assert(schedules_open(&list, set, base_schedules) == STATUS_OK, "%s", fail_message());
    for (int i = 0; i < 8; i++) {
        got = rate_at(i);
        cr_assert(got == want[i], "%.9g at %d epochs, not %.9g", got, i, want[i]);
    }
    schedules_close(&list);
    settings_close(set);
}
