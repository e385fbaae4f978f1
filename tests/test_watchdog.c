/* The watchdog's judgment, with pulses and a clock of the test's own. */
#include <criterion/criterion.h>
#include <string.h>

#include "engine/watchdog.h"

TestSuite(watchdog, .timeout = 20);

enum { N = 3 };

static struct pulse pulse[N];
static struct watchdog dog;
static double now;
static int warned; /* whoever was warned of last */

static void start(double patience) {
    memset(pulse, 0, sizeof pulse);
    now = 1000;
    watchdog_start(&dog, patience, now);
    for (int r = 0; r < N; r++) pulse[r].doing = DOING_GRADIENT;
}

static int look_after(double seconds) {
    int warn;
    now += seconds;
    int found = watchdog_look(&dog, pulse, N, now, &warn);
    if (warn != WATCH_WELL) warned = warn;
    return found;
}

/* All but one beat, for so many looks, half a second apart; what the last look found. */
static int look_at_silence_of(int silent, int looks) {
    int found = WATCH_WELL;
    for (int i = 0; i < looks && found == WATCH_WELL; i++) {
        for (int r = 0; r < N; r++) pulse[r].beats += r != silent;
        found = look_after(0.5);
    }
    return found;
}

Test(watchdog, the_silent_one_is_found_after_the_patience_and_not_before) {
    start(10);
    cr_assert_eq(look_at_silence_of(1, 19), WATCH_WELL);
    cr_assert_eq(look_at_silence_of(1, 1), 1);
}

Test(watchdog, nobody_is_found_while_all_beat) {
    start(1);
    cr_assert_eq(look_at_silence_of(-1, 1000), WATCH_WELL);
}

Test(watchdog, a_beat_begins_the_silence_anew) {
    start(10);
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(look_at_silence_of(2, 18), WATCH_WELL);
        pulse[2].beats++;
    }
}

Test(watchdog, patience_0_watches_nobody) {
    start(0);
    cr_assert_eq(look_at_silence_of(0, 5000), WATCH_WELL);
}

Test(watchdog, there_is_one_warning_a_silence_at_half_of_it) {
    start(10);
    warned = -5;
    cr_assert_eq(look_at_silence_of(1, 9), WATCH_WELL);
    cr_assert_eq(warned, -5);
    cr_assert_eq(look_at_silence_of(1, 2), WATCH_WELL);
    cr_assert_eq(warned, 1);
    warned = -5;
    cr_assert_eq(look_at_silence_of(1, 7), WATCH_WELL);
    cr_assert_eq(warned, -5, "warned twice");
    pulse[1].beats++;
    cr_assert_eq(look_at_silence_of(1, 12), WATCH_WELL);
    cr_assert_eq(warned, 1, "not warned of the second silence");
}

/* The others wait as long, and a moment longer. */
Test(watchdog, who_waits_for_another_is_not_blamed) {
    const int waits[] = {DOING_MEET, DOING_PART, DOING_TURN, DOING_LOCK, DOING_ROUND_END};
    for (int i = 0; i < 5; i++) {
        start(2);
        pulse[0].doing = pulse[2].doing = waits[i];
        cr_assert_eq(look_after(0.9), WATCH_WELL);
        pulse[1].beats++;
        cr_assert_eq(look_after(0.9), WATCH_WELL);
        cr_assert_eq(look_after(0.9), WATCH_WELL);
        cr_assert_eq(look_after(0.9), WATCH_WELL);
        cr_assert_eq(look_after(0.9), 1);
    }
}

Test(watchdog, who_waits_for_one_that_works_is_not_blamed_however_long) {
    start(2);
    pulse[0].doing = pulse[2].doing = DOING_MEET;
    for (int i = 0; i < 100; i++) {
        pulse[1].beats++;
        cr_assert_eq(look_after(0.5), WATCH_WELL);
    }
}

Test(watchdog, of_several_the_one_that_is_silent_longest_is_blamed) {
    start(3);
    pulse[0].beats++;
    cr_assert_eq(look_after(0.9), WATCH_WELL);
    pulse[2].beats++;
    cr_assert_eq(look_after(0.9), WATCH_WELL);
    dog.of[0].seconds += 5;
    dog.of[1].seconds += 5;
    dog.of[2].seconds += 5;
    cr_assert_eq(look_after(0.1), 1);
}

Test(watchdog, all_that_wait_for_one_another_are_a_defect) {
    start(2);
    pulse[0].doing = DOING_MEET;
    pulse[1].doing = DOING_LOCK;
    pulse[2].doing = DOING_ENDED;
    for (int i = 0; i < 3; i++) cr_assert_eq(look_after(0.6), WATCH_WELL);
    pulse[1].beats++;
    for (int i = 0; i < 4; i++) cr_assert_eq(look_after(0.6), WATCH_WELL);
    cr_assert_eq(look_after(0.6), WATCH_ALL_WAIT);
}

Test(watchdog, those_at_their_end_are_not_missed) {
    start(2);
    for (int r = 0; r < N; r++) pulse[r].doing = DOING_ENDED;
    for (int i = 0; i < 20; i++) cr_assert_eq(look_after(0.9), WATCH_WELL);
}

/* A process that was stopped, by Ctrl-Z say, has not looked: its workers stood still with it. */
Test(watchdog, a_stopped_process_blames_nobody) {
    start(10);
    cr_assert_eq(look_after(0.5), WATCH_WELL);
    cr_assert_eq(look_after(86400), WATCH_WELL);
    cr_assert_eq(look_after(3600), WATCH_WELL);
}

/* Four times as long as anything else. */
Test(watchdog, a_slow_disk_is_waited_for) {
    start(2);
    pulse[1].doing = DOING_SAVE;
    cr_assert_eq(look_at_silence_of(1, 15), WATCH_WELL);
    cr_assert_eq(look_at_silence_of(1, 1), 1);
}

Test(watchdog, it_tells_in_what_since_when_and_for_whom) {
    static atomic_int holder = 2;
    char text[200];
    start(10);
    dog.of[0].seconds = 3000;
    dog.of[1].seconds = 1.3;
    watchdog_tell(&dog, pulse, 0, text, sizeof text);
    cr_assert(!strcmp(text, "computing a gradient for 3000.0 s"), "%s", text);
    pulse[1].name = "center";
    pulse[1].holder = &holder;
    pulse[1].doing = DOING_LOCK;
    watchdog_tell(&dog, pulse, 1, text, sizeof text);
    cr_assert(
        !strcmp(text, "waiting for the lock of shared vector center, held by worker 2, for 1.3 s"),
        "%s", text);
    holder = -1;
    watchdog_tell(&dog, pulse, 1, text, sizeof text);
    cr_assert(!strcmp(text, "waiting for the lock of shared vector center for 1.3 s"), "%s", text);
    pulse[1].doing = DOING_EXCHANGE;
    watchdog_tell(&dog, pulse, 1, text, sizeof text);
    cr_assert(!strcmp(text, "exchanging with shared vector center for 1.3 s"), "%s", text);
    pulse[1].doing = DOING_ENDED;
    watchdog_tell(&dog, pulse, 1, text, sizeof text);
    cr_assert(!strcmp(text, "at its end"), "%s", text);
    pulse[0].holder = &holder;
    for (int doing = 0; doing < DOINGS; doing++) {
        pulse[0].doing = doing;
        watchdog_tell(&dog, pulse, 0, text, sizeof text);
        cr_assert(strlen(text) > 9 && *text != '(', "%d is \"%s\"", doing, text);
    }
}

/* ---- pulses ----------------------------------------------------------------------------------- */

Test(watchdog, a_pulse_goes_back_to_what_it_was_in) {
    static struct pulse p;
    pulse_begin(DOING_STEP); /* nobody watches: nothing happens */
    pulse_end();
    pulse_attach(&p);
    cr_assert_eq(p.doing, DOING_SEAT);
    pulse_begin(DOING_ROUND);
    cr_assert(p.beats > 0, "the beginning of a call is a sign of life");
    pulse_begin(DOING_GRADIENT);
    pulse_begin(DOING_DEVICE);
    cr_assert_eq(p.doing, DOING_DEVICE);
    pulse_end();
    cr_assert_eq(p.doing, DOING_GRADIENT);
    unsigned long beats = p.beats;
    pulse_end();
    cr_assert_eq(p.doing, DOING_ROUND);
    cr_assert(p.beats > beats, "the end of a call is a sign of life");
    beats = p.beats;
    pulse_beat();
    cr_assert(p.beats > beats, "no beat");
    pulse_count(7, 3);
    cr_assert(p.steps == 7 && p.rounds == 3);
    pulse_stop();
    cr_assert_eq(p.doing, DOING_ENDED);
    beats = p.beats;
    pulse_beat();
    cr_assert_eq(p.beats, beats, "a beat after the end");
}
