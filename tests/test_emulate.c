/* test_emulate.c -- machines that are not there: what the words say, and what time it gets. Times are
 * worked out by hand. */
#include <unistd.h>

#include "base/log.h"
#include "engine/emulate.h"
#include "engine/seat.h"
#include "files.h"
#include "program.h"
#include "runs.h"

/* Many small files: in memory, where the system has such a folder. */
static void open_all(void) {
    static const char memory[] = "/dev/shm";
    if (access(memory, W_OK) == 0) setenv("TMPDIR", memory, 0);
    files_open();
    log_show(LOG_ERROR);
    runs_resume = 0;
}

TestSuite(emulate, .init = open_all, .fini = files_close, .timeout = 120);

/* ---- words ---------------------------------------------------------------------------------- */

static enum status read_words(
    struct emulation *e, const char *slow, const char *freeze, const char *link) {
    struct emulate_settings set = {0};
    snprintf(set.slow, sizeof set.slow, "%s", slow);
    snprintf(set.freeze, sizeof set.freeze, "%s", freeze);
    snprintf(set.link, sizeof set.link, "%s", link);
    return emulation_open(e, &set, 4);
}

/* Sums of a few doubles: to some ulps. */
static int is_near(double a, double b) { return fabs(a - b) <= 1e-12 * fabs(b); }

Test(emulate, words_say_who_is_slow_who_stops_and_how_fast_links_are) {
    struct emulation e;
    cr_assert_eq(read_words(&e, "2:5x, 0:1.5x", "1@100+2s,1@100+500ms, 3@1+10us",
                     "*-*:1GB/s,0-1:8GB/s+5us,2-c:4MB/s,c-3:7ns"),
        STATUS_OK, "%s", fail_message());
    cr_assert(e.is_on && !e.is_virtual && e.has_links);
    cr_assert(e.slow[0] == 1.5 && e.slow[1] == 1 && e.slow[2] == 5 && e.slow[3] == 1);
    cr_assert(is_near(emulation_freeze(&e, 1, 100), 2.5));
    cr_assert(is_near(emulation_freeze(&e, 3, 1), 1e-5));
    cr_assert_eq(emulation_freeze(&e, 1, 99), 0);
    cr_assert_eq(emulation_freeze(&e, 0, 100), 0);
    cr_assert(is_near(emulation_message(&e, 0, 1, 8000), 6e-6));
    cr_assert(is_near(emulation_message(&e, 1, 0, 8000), 6e-6));
    cr_assert(is_near(emulation_message(&e, 3, 2, 1000), 1e-6));
    cr_assert(is_near(emulation_message(&e, 2, HOME_HOST, 1000), 2.5e-4));
    cr_assert(is_near(emulation_message(&e, 3, HOME_HOST, 1e9), 7e-9));
    cr_assert_eq(emulation_message(&e, 0, HOME_HOST, 1e9), 0, "others take no time");
    cr_assert_eq(emulation_message(&e, 2, 2, 1e9), 0, "at home");
}

/* Four ranks send 6 messages of 1000 bytes each at the pace of the slowest link, 2 to 3; ranks 1 and
 * 2 send 2 of 2000. */
Test(emulate, a_sum_goes_around_the_ring_at_the_pace_of_its_slowest_link) {
    struct emulation e;
    cr_assert_eq(read_words(&e, "", "", "*-*:1GB/s+1us,2-3:1MB/s+1ms,1-3:1s"), STATUS_OK);
    cr_assert(is_near(emulation_ring(&e, 0, 4, 4000), 6 * 2e-3));
    cr_assert(is_near(emulation_ring(&e, 1, 2, 4000), 2 * 3e-6));
    cr_assert(is_near(emulation_ring(&e, 3, 1, 4000), 0) || emulation_ring(&e, 3, 1, 4000) == 0);
    cr_assert(is_near(emulation_ring(&e, 1, 3, 3000), 4 * 1.000));
}

Test(emulate, other_words_are_refused_and_quoted) {
    static const char *const slow[] = {"2", "2:", "2:5", "2:x", "2:0.5x", "2:5xx", "4:5x", "-1:5x",
        "a:5x", "2:nanx", "2:infx", "2:1e999x", ",", "2:5x,", "2:5x;1:2x", "2 :5x", ":5x"};
    static const char *const freeze[] = {"1", "1@5", "1@5+", "1@5+2", "1@0+2s", "4@5+2s", "1@5+2h",
        "1@5-2s", "1@5+2s+3s", "1@99999999999999999999+2s", "1@5.5+2s", "1@5+-2s"};
    static const char *const link[] = {"0-1", "0-1:", "0-1:8", "0-1:8GB", "0-1:8GB/s+", "0-4:1s",
        "0-1:0GB/s", "0-0:1s", "c-c:1s", "0-1:8GB/s+9GB/s", "01:1s", "0-1:5us,,", "d-1:5us",
        "0-1:5us 1-2:5us"};
    struct emulation e;
    for (size_t i = 0; i < sizeof slow / sizeof *slow; i++) {
        cr_assert_eq(read_words(&e, slow[i], "", ""), STATUS_BAD_CONFIG, "%s", slow[i]);
        cr_assert(strstr(fail_message(), "emulate.slow"), "%s", fail_message());
    }
    for (size_t i = 0; i < sizeof freeze / sizeof *freeze; i++) {
        cr_assert_eq(read_words(&e, "", freeze[i], ""), STATUS_BAD_CONFIG, "%s", freeze[i]);
        cr_assert(strstr(fail_message(), "emulate.freeze"), "%s", fail_message());
    }
    for (size_t i = 0; i < sizeof link / sizeof *link; i++) {
        cr_assert_eq(read_words(&e, "", "", link[i]), STATUS_BAD_CONFIG, "%s", link[i]);
        cr_assert(strstr(fail_message(), "emulate.link"), "%s", fail_message());
    }
    read_words(&e, "1:2x,3:-1x", "", "");
    cr_assert(strstr(fail_message(), "\"3:-1x\""), "%s", fail_message());
}

Test(emulate, a_worker_that_is_not_there_is_named) {
    struct emulation e;
    static const char *const all[][3] = {
        {"1:2x,7:5x", "", ""}, {"", "7@5+2s", ""}, {"", "", "0-7:1s"}, {"", "", "7-c:1s"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cr_assert_eq(read_words(&e, all[i][0], all[i][1], all[i][2]), STATUS_BAD_CONFIG);
        cr_assert(strstr(fail_message(), "no worker 7; with run.workers=4 the last is 3"),
            "%zu: %s", i, fail_message());
    }
    cr_assert_eq(read_words(&e, "3:5y", "", ""), STATUS_BAD_CONFIG);
    cr_assert(!strstr(fail_message(), "no worker"), "%s", fail_message());
}

Test(emulate, virtual_time_needs_to_be_told_what_a_step_takes) {
    static const char *const words[] = {"emulate.compute=10", "emulate.compute=0s",
        "emulate.compute=-1ms", "emulate.compute=1ms,", "emulate.time=virtual"};
    struct seen seen;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        run_words(&seen, NULL, "run.steps=3 %s", words[i]);
        cr_assert_eq(seen.end, STATUS_BAD_CONFIG, "%s", words[i]);
        cr_assert(strstr(seen.why, "emulate.compute"), "%s", seen.why);
        seen_close(&seen);
    }
}

/* ---- virtual time --------------------------------------------------------------------------- */

static uint32_t salt; /* of the real delays: differs from run to run */

static void dawdle(void *with, const struct worker *w) {
    (void)with;
    uint32_t word = rng_word((struct rng_key){salt, 97, (uint32_t)w->rank}, (uint64_t)w->round);
    if (word % 3) usleep((word >> 8) % 300);
}

static const struct watch dawdling = {.begins = dawdle};

#define VIRTUAL "emulate.time=virtual emulate.compute=10ms "

static void go(struct seen *seen, const char *words) {
    salt++;
    run_words(seen, &dawdling, VIRTUAL "quadratic.n=100 quadratic.samples=40 %s", words);
    cr_assert_eq(seen->end, STATUS_OK, "%s: %s", words, seen->why);
}

static void check_times(const char *words, double seconds, double waiting, double exchanging) {
    struct seen seen;
    go(&seen, words);
    const struct run_result *r = &seen.result;
    cr_assert(fabs(r->seconds - seconds) <= 1e-9, "%s: %.9g s", words, r->seconds);
    cr_assert(fabs(r->waiting - waiting) <= 1e-9, "%s: waiting %.9g s", words, r->waiting);
    cr_assert(
        fabs(r->exchanging - exchanging) <= 1e-9, "%s: exchanging %.9g s", words, r->exchanging);
    cr_assert_eq(r->loading, 0);
    cr_assert(r->exchanging >= 0 && r->waiting >= 0 && r->loading >= 0 && r->computing >= 0,
        "%s: a time below 0: %.3g, %.3g, %.3g, %.3g", words, r->exchanging, r->waiting, r->loading,
        r->computing);
    double rest = seconds - waiting - exchanging;
    cr_assert(fabs(r->computing - rest) <= 1e-9, "%s: computing %.9g s", words, r->computing);
    seen_close(&seen);
}

Test(emulate, who_computes_alone_takes_what_a_step_takes) {
    check_times("run.strategy=alone run.workers=1 run.steps=7", 0.07, 0, 0);
    check_times("run.strategy=descending run.workers=1 run.steps=7", 0.07, 0, 0);
    check_times("run.strategy=alone run.workers=1 run.steps=7 emulate.slow=0:3x", 0.21, 0, 0);
}

/* The first two are in their eighth round when the third ends the seventh, and with it the run: it
 * waits 10 ms for them. */
Test(emulate, who_has_begun_a_round_ends_it) {
    check_times("run.strategy=alone run.workers=3 run.steps=7", 0.08, 0.01 / 3, 0);
}

/* All wait for the slow one: 4 workers, of whom 3 wait 40 ms a step. */
Test(emulate, a_straggler_holds_up_all_of_an_allreduce) {
    check_times("run.strategy=allreduce run.steps=10", 0.1, 0, 0);
    check_times("run.strategy=allreduce run.steps=10 emulate.slow=2:5x", 0.5, 0.3, 0);
}

/* One is frozen for 370 ms, for which three wait. No link takes time, and what is left of the clocks'
 * differences is their rounding. */
Test(emulate, no_time_is_below_0) {
    check_times(
        "run.strategy=allreduce run.steps=400 emulate.freeze=1@3+0.37s", 4.37, 3 * 0.37 / 4, 0);
}

/* 6 messages of 100 bytes, 1 us each and 1 us of latency. */
Test(emulate, an_allreduce_takes_the_time_of_its_ring) {
    check_times(
        "run.strategy=allreduce run.steps=10 emulate.link=*-*:100MB/s+1us", 0.1 + 12e-5, 0, 12e-5);
}

/* Both come to the center after 10 ms. The first has it until 12, is back at 22 and done at 24 ms. The
 * second has it from 12 to 14, which is the end of the run: it waits for the first until 24. */
Test(emulate, the_center_is_held_for_as_long_as_a_link_takes) {
    check_times("run.strategy=easgd easgd.tau=1 run.workers=2 run.steps=1 emulate.link=*-c:2ms",
        0.024, (0.002 + 0.01) / 2, 0.006 / 2);
    check_times("run.strategy=easgd easgd.tau=1 run.workers=2 run.steps=1 "
                "emulate.link=*-c:2ms,1-c:800KB/s+1ms",
        0.024, (0.002 + 0.01) / 2, 0.006 / 2);
    check_times("run.strategy=easgd easgd.tau=1 run.workers=2 run.steps=1 emulate.link=0-1:1s",
        0.02, 0.01 / 2, 0);
}

/* The first has the center from 10 to 25, the second from 25 to 40; the first is back at 35, has it
 * from 40 to 55, and the second waits for the end until then. */
Test(emulate, whoever_comes_while_a_link_is_busy_waits_for_it) {
    check_times("run.strategy=easgd easgd.tau=1 run.workers=2 run.steps=1 emulate.link=*-c:15ms",
        0.055, (0.005 + 0.015 + 0.015) / 2, 0.045 / 2);
}

/* Worker 0 may be a round ahead. It ends rounds after 10, 20 (waits until 50), 60 (until 100), 110
 * (until 150) and 160 ms, which is the eighth of both and the end, for which it waits until 200. */
Test(emulate, who_is_too_far_ahead_waits_in_virtual_time) {
    const char *words = "run.strategy=alone run.workers=2 run.steps=4 run.max_lag=1 "
                        "emulate.slow=1:5x";
    struct seen seen;
    check_times(words, 0.2, 0.075, 0);
    go(&seen, words);
    cr_assert_eq(seen.rounds[0], 5);
    cr_assert_eq(seen.rounds[1], 4);
    seen_close(&seen);
}

Test(emulate, who_stops_once_stops_all_who_wait_for_it) {
    check_times("run.strategy=allreduce run.steps=10 emulate.freeze=1@3+2s", 2.1, 1.5, 0);
    check_times("run.strategy=alone run.workers=1 run.steps=10 emulate.freeze=0@10+1s", 1.1, 0, 0);
    check_times("run.strategy=alone run.workers=1 run.steps=10 emulate.freeze=0@11+1s", 0.1, 0, 0);
}

/* Evaluations are no training: as many as there are, the clock stands. */
Test(emulate, evaluations_take_no_virtual_time) {
    check_times("run.strategy=easgd easgd.mode=sync easgd.tau=1 run.steps=20 run.eval_every=0.3 "
                "emulate.link=*-*:1ms",
        0.2 + 20 * 6e-3, 0, 20 * 6e-3);
}

/* Without a pace the other three do what the slow one does not: 400 steps at 3.2 steps in 10 ms. */
Test(emulate, a_straggler_holds_up_nobody_of_an_asynchronous_easgd) {
    struct seen even, uneven;
    go(&even, "run.strategy=easgd easgd.tau=2 run.max_lag=0 run.steps=100");
    go(&uneven, "run.strategy=easgd easgd.tau=2 run.max_lag=0 run.steps=100 emulate.slow=2:5x");
    cr_assert(fabs(even.result.seconds - 1) <= 0.021, "%g s", even.result.seconds);
    cr_assert(fabs(uneven.result.seconds - 1.25) <= 0.101, "%g s", uneven.result.seconds);
    cr_assert(uneven.steps[0] > 4 * uneven.steps[2], "the slow one keeps up");
    seen_close(&even);
    seen_close(&uneven);
}

/* ---- the same again ------------------------------------------------------------------------- */

static void check_twice(const char *words) {
    struct seen a, b;
    salt++;
    run_words(&a, &dawdling, "%s", words);
    cr_assert(a.rounds[0] > 2, "%s: only %ld rounds", words, a.rounds[0]);
    for (int i = 0; i < 3; i++) {
        salt++;
        run_words(&b, &dawdling, "%s", words);
        cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s: %s%s", words, a.why, b.why);
        cr_assert_eq(seen_differ(&a, &b), -1, "%s: other bits", words);
        cr_assert_eq(a.result.seconds, b.result.seconds, "%s: other times", words);
        cr_assert_eq(a.result.waiting, b.result.waiting, "%s: other waits", words);
        cr_assert_eq(a.result.exchanging, b.result.exchanging, "%s: other exchanges", words);
        seen_close(&b);
    }
    seen_close(&a);
}

Test(emulate, every_strategy_repeats_exactly_in_virtual_time) {
    for (int i = 0; strategies[i]; i++) {
        char words[1024];
        snprintf(words, sizeof words,
            VIRTUAL "run.strategy=%s %s run.workers=%d run.epochs=4 run.eval_every=1.1 "
                    "quadratic.n=33 quadratic.samples=40 quadratic.sigma=0.3 schedule.rate=0.02 "
                    "emulate.slow=0:1.7x emulate.freeze=0@5+40ms "
                    "emulate.link=*-c:1MB/s+1ms,*-*:1MB/s",
            strategies[i]->name, strategy_words(strategies[i]->name),
            runs_workers(strategies[i], 4));
        check_twice(words);
    }
}

Test(emulate, a_virtual_run_can_be_recorded_and_its_replay_has_the_same_bits) {
    const char *words = "run.strategy=downpour run.workers=4 run.epochs=4 run.eval_every=1.1 "
                        "quadratic.n=33 quadratic.samples=40 schedule.rate=0.02";
    struct seen a, b;
    run_words(&a, &dawdling, VIRTUAL "%s emulate.slow=1:3x run.record=%s", words, files_path("r"));
    run_words(&b, &dawdling, "%s run.replay=%s", words, files_path("r"));
    cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
    cr_assert_eq(seen_differ(&a, &b), -1);
    seen_close(&a);
    seen_close(&b);
}

static void train(struct seen *seen, const char *name, int epochs) {
    run_words(seen, &dawdling,
        VIRTUAL "run.strategy=easgd easgd.tau=2 run.workers=3 run.eval_every=2 quadratic.n=33 "
                "quadratic.samples=40 quadratic.sigma=0.3 schedule.rate=0.02 emulate.slow=1:3x "
                "emulate.link=*-c:1ms run.folder=%s run.name=%s run.epochs=%d",
        files_folder, name, epochs);
}

/* Both gather after 2 epochs: going on there is what the other does. */
Test(emulate, a_virtual_run_that_goes_on_has_the_same_bits_and_the_same_time) {
    struct seen whole, part;
    train(&whole, "whole", 4);
    train(&part, "part", 2);
    cr_assert(whole.end == STATUS_OK && part.end == STATUS_OK, "%s%s", whole.why, part.why);
    seen_close(&part);
    runs_resume = 1;
    train(&part, "part", 4);
    cr_assert_eq(part.end, STATUS_OK, "%s", part.why);
    cr_assert_eq(seen_differ(&whole, &part), -1);
    cr_assert_eq(whole.result.seconds, part.result.seconds);
    cr_assert(is_near(whole.result.waiting, part.result.waiting));
    seen_close(&whole);
    seen_close(&part);
}

/* A failure ends a virtual run as it ends any. */
static void overflow(void *with, const struct worker *w) {
    (void)with;
    if (w->rank == 1 && w->round == 3) stream_fail(w->q, "the test wants it");
}

Test(emulate, a_worker_that_fails_ends_a_virtual_run) {
    static const char *const ways[] = {"allreduce", "easgd", "downpour"};
    const struct watch failing = {.begins = overflow};
    for (int i = 0; i < 3; i++) {
        struct seen seen;
        run_words(&seen, &failing, VIRTUAL "run.strategy=%s run.steps=100 quadratic.n=33", ways[i]);
        cr_assert(seen.end != STATUS_OK && strstr(seen.why, "the test wants it"), "%s", seen.why);
        seen_close(&seen);
    }
}

/* ---- real time ------------------------------------------------------------------------------ */

/* Only that it takes at least as long: how much longer is the machine's business. */
static void check_at_least(const char *words, double seconds) {
    struct seen seen;
    run_words(&seen, NULL, "quadratic.n=1000 run.workers=2 %s", words);
    cr_assert_eq(seen.end, STATUS_OK, "%s", seen.why);
    cr_assert(seen.result.seconds >= seconds, "%s: %g s", words, seen.result.seconds);
    seen_close(&seen);
}

Test(emulate, in_real_time_workers_sleep) {
    check_at_least("run.strategy=allreduce run.steps=5 emulate.freeze=1@3+200ms", 0.2);
    check_at_least("run.strategy=allreduce run.steps=5 emulate.link=0-1:20ms", 5 * 2 * 0.02);
    check_at_least("run.strategy=easgd easgd.tau=1 run.steps=5 emulate.link=*-c:20ms", 0.2);
}

/* Who may be a round ahead at most waits for the slow one four fifths of the time, so two fifths in
 * the mean; a fifth is far from both that and nothing. */
Test(emulate, in_real_time_a_slow_worker_takes_longer) {
    struct seen seen;
    run_words(&seen, NULL,
        "run.strategy=alone run.workers=2 run.max_lag=1 run.steps=20 quadratic.n=1000000 "
        "emulate.slow=1:5x");
    cr_assert_eq(seen.end, STATUS_OK, "%s", seen.why);
    cr_assert(seen.result.waiting > 0.2 * seen.result.seconds, "%g of %g s waited",
        seen.result.waiting, seen.result.seconds);
    seen_close(&seen);
}

/* ---- mixing with neighbors, and boxes ------------------------------------------------------- */

/* Messages of 400 bytes, 4 ms each: one a step of sgp, one of each neighbor a step of dpsgd, one after
 * the other. A ring of two has one neighbor. */
Test(emulate, a_mixing_takes_a_message_of_each_neighbor) {
    check_times("run.strategy=sgp run.steps=10 emulate.link=*-*:100KB/s", 0.14, 0, 0.04);
    check_times(
        "run.strategy=sgp sgp.peers=complete run.steps=10 emulate.link=*-*:100KB/s", 0.14, 0, 0.04);
    check_times("run.strategy=dpsgd run.steps=10 emulate.link=*-*:100KB/s", 0.18, 0, 0.08);
    check_times("run.strategy=dpsgd dpsgd.peers=complete run.steps=10 emulate.link=*-*:100KB/s",
        0.22, 0, 0.12);
    check_times(
        "run.strategy=dpsgd run.workers=2 run.steps=10 emulate.link=*-*:100KB/s", 0.14, 0, 0.04);
}

/* Three wait 40 ms a step for the slow one, as at an allreduce. */
Test(emulate, a_straggler_holds_up_all_who_mix) {
    check_times("run.strategy=dpsgd run.steps=10 emulate.slow=2:5x", 0.5, 0.3, 0);
    check_times("run.strategy=sgp run.steps=10 emulate.slow=2:5x", 0.5, 0.3, 0);
}

/* All meet at 10 ms. From the one before: 0 has 2's until 11, 1 has 0's until 20, 2 has 1's until 11.
 * They meet at 30, for which 0 and 2 waited 9. From the one behind: 0 has 1's until 40, 1 has 2's and 2
 * has 0's until 31, and these two wait for the end until 40. */
Test(emulate, whoever_receives_over_a_slow_link_is_later_than_the_others) {
    check_times("run.strategy=sgp sgp.peers=ring run.workers=3 run.steps=2 "
                "emulate.link=*-*:1ms,0-1:10ms",
        0.04, (0.009 + 0.009 + 0.018) / 3, (0.011 + 0.011 + 0.002) / 3);
}

/* 1 and 2 have the slow link. All meet at 10 ms; each takes both others', in any order. 0 is done at
 * 12, the others at 21; they meet again at 31, for which 0 waited 9, and 0 waits as long for the end,
 * at 42. */
Test(emulate, a_mixing_waits_for_the_slowest_of_its_links) {
    check_times("run.strategy=dpsgd run.workers=3 run.steps=2 emulate.link=*-*:1ms,1-2:10ms", 0.042,
        0.018 / 3, (0.004 + 0.022 + 0.022) / 3);
}

/* Each has a message for the other's box from 10 to 12 ms, and takes what is in its own at once: that is
 * at home. The second rounds end at 24, when the first is in a third, with a message until 36. */
Test(emulate, a_message_takes_its_link_and_a_box_is_at_home) {
    check_times("run.strategy=gossip gossip.p=1 run.workers=2 run.steps=2 emulate.link=0-1:2ms",
        0.036, 0.012 / 2, (0.006 + 0.004) / 2);
    check_times("run.strategy=gossip gossip.p=1 run.workers=2 run.steps=2 emulate.link=*-c:2ms",
        0.03, 0.01 / 2, 0);
}

/* The second's message is in the first's box from 11 to 13 ms; the first, back from its own at 12, waits
 * 1 ms to look there, computes until 23 and sends until 25, for which the second waits since 13. */
Test(emulate, whoever_looks_into_a_box_waits_for_the_message_that_comes) {
    check_times("run.strategy=gossip gossip.p=1 run.workers=2 run.steps=1 emulate.link=0-1:2ms "
                "emulate.slow=1:1.1x",
        0.025, (0.001 + 0.012) / 2, (0.004 + 0.002) / 2);
}

/* The first sends 400 bytes from 10 to 14 ms and, since the other has not looked since, 800 to be added
 * from 24 to 32: two steps of one are one of each. The other sends 400 from 50 to 54. */
Test(emulate, a_message_is_added_to_what_lies_in_a_box_for_twice_the_bytes) {
    check_times("run.strategy=gossip gossip.p=1 run.workers=2 run.steps=1 "
                "emulate.link=0-1:100KB/s emulate.slow=1:5x",
        0.054, 0.022 / 2, (0.004 + 0.008 + 0.004) / 2);
}
