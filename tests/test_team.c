/* The team by itself, on threads of the test's own. */
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "devices/device.h"
#include "engine/seat.h"
#include "engine/team_waits.h"
#include "simulation.h"

TestSuite(team, .timeout = 60);

/* ---- threads that are workers --------------------------------------------------------------- */

struct crowd;

struct member {
    struct seat seat;
    struct crowd *crowd;
    pthread_t thread;
    uint64_t draws;
    uint32_t salt; /* of its delays: differs from run to run */
    int wrong;     /* checks that failed; asserts belong on the main thread */
    int number;    /* whatever the body counts */
};

struct crowd {
    struct team *team;
    struct member member[TEAM_MOST];
    void (*body)(struct crowd *c, struct worker *w, struct member *m);
    int size, delays; /* delays: up to so many microseconds; 0: none */
    long a, b;        /* whatever the body is told */
    void *with;
};

/* Sometimes nothing, sometimes a yield, sometimes a sleep. */
static void dawdle(struct member *m) {
    uint32_t word = rng_word((struct rng_key){m->salt, 99, (uint32_t)m->seat.w.rank}, m->draws++);
    if (m->crowd->delays == 0 || word % 4 == 0) return;
    if (word % 4 == 1) {
        sched_yield();
    } else {
        usleep((word >> 8) % (uint32_t)m->crowd->delays);
    }
}

static void *live(void *arg) {
    struct member *m = arg;
    struct crowd *c = m->crowd;
    struct seat *s = &m->seat;
    if (device_open(&s->device, &device_host, 0, 1) || stream_open(&s->w.q, s->device)) abort();
    c->body(c, &s->w, m);
    team_leave(c->team, s->w.rank);
    stream_close(s->w.q);
    device_close(s->device);
    return NULL;
}

static struct team_settings plain(int size, int order) {
    return (struct team_settings){.size = size, .order = order, .seed = 5};
}

static void crowd_open(struct crowd *c, const struct team_settings *set) {
    *c = (struct crowd){.size = set->size, .delays = 200};
    cr_assert(team_open(&c->team, set) == STATUS_OK, "%s", fail_message());
}

static void crowd_start(struct crowd *c, uint32_t salt) {
    for (int r = 0; r < c->size; r++) {
        struct member *m = &c->member[r];
        *m = (struct member){.crowd = c, .salt = salt};
        m->seat.w = (struct worker){.team = c->team, .rank = r, .size = c->size, .seat = &m->seat};
        cr_assert(pthread_create(&m->thread, NULL, live, m) == 0, "no thread");
    }
}

static void crowd_end(struct crowd *c, const char *what) {
    for (int r = 0; r < c->size; r++) pthread_join(c->member[r].thread, NULL);
    for (int r = 0; r < c->size; r++) {
        cr_assert_eq(c->member[r].wrong, 0, "worker %d of %d saw %d mistakes: %s", r, c->size,
            c->member[r].wrong, what);
    }
}

static void crowd_run(struct crowd *c, const char *what) {
    crowd_start(c, 1);
    crowd_end(c, what);
}

static const int SIZES[] = {1, 2, 3, 8, CROWD};
enum { SIZES_N = sizeof SIZES / sizeof *SIZES };

/* ---- meetings ------------------------------------------------------------------------------- */

static atomic_int said[TEAM_MOST];

static void body_meets(struct crowd *c, struct worker *w, struct member *m) {
    for (int k = 1; k <= c->a; k++) {
        dawdle(m);
        atomic_store(&said[w->rank], k);
        m->wrong += !team_meet(c->team, w->rank);
        for (int r = 0; r < w->size; r++) m->wrong += atomic_load(&said[r]) != k;
        dawdle(m);
        for (int r = 0; r < w->size; r++) m->wrong += atomic_load(&said[r]) != k;
        team_part(c->team, w->rank);
    }
}

Test(team, all_are_there_between_meet_and_part) {
    static struct crowd c;
    for (int i = 0; i < SIZES_N; i++) {
        for (int order = ORDER_FREE; order <= ORDER_FIXED; order++) {
            struct team_settings set = plain(SIZES[i], order);
            set.spin = i % 2 * 100;
            crowd_open(&c, &set);
            c.body = body_meets;
            c.a = SIZES[i] > 8 ? 10 : 100;
            memset(said, 0, sizeof said);
            crowd_run(&c, "meetings");
            cr_assert_eq(team_culprit(c.team), -1);
            cr_assert_eq(team_size(c.team), SIZES[i]);
            cr_assert_eq(team_is_fixed(c.team), order == ORDER_FIXED);
            team_close(c.team);
        }
    }
}

/* Small integers: floats hold the sums exactly, so there is no tolerance. */
static float whole(int rank, size_t i, int k) {
    return (float)((int)((i * 7 + (size_t)rank * 13 + (size_t)k * 5) % 201) - 100);
}

static void body_sums(struct crowd *c, struct worker *w, struct member *m) {
    size_t n = (size_t)c->a;
    float *v = calloc(n + 1, sizeof *v), *mean = calloc(n + 1, sizeof *mean);
    v[n] = mean[n] = 12345;
    for (int k = 0; k < 4; k++) {
        for (size_t i = 0; i < n; i++) v[i] = mean[i] = whole(w->rank, i, k);
        dawdle(m);
        team_sum(w, (struct vec){v, n});
        team_mean(w, (struct vec){mean, n});
        double one = team_sum1(w, w->rank + 0.5);
        m->wrong += one != w->size * (w->size - 1) / 2 + 0.5 * w->size;
        for (size_t i = 0; i < n; i++) {
            double want = 0;
            for (int r = 0; r < w->size; r++) want += (double)whole(r, i, k);
            m->wrong += (double)v[i] != want;
            m->wrong += !(fabs((double)mean[i] - want / w->size) <= 1e-5);
        }
        m->wrong += v[n] != 12345 || mean[n] != 12345;
        if (n > 0) { /* the mean has the same bits on all */
            float *all = c->with;
            if (w->rank == 0) memcpy(all, mean, n * sizeof *all);
            team_sum1(w, 0);
            m->wrong += memcmp(all, mean, n * sizeof *all) != 0;
            team_sum1(w, 0);
        }
    }
    free(v);
    free(mean);
}

Test(team, sums_are_exact_at_any_size) {
    static struct crowd c;
    const long floats[] = {0, 1, 31, 33, 1000, 65537};
    float *all = calloc(65537, sizeof *all);
    for (int i = 0; i < SIZES_N; i++) {
        for (int k = 0; k < 6; k++) {
            for (int order = ORDER_FREE; order <= ORDER_FIXED; order++) {
                struct team_settings set = plain(SIZES[i], order);
                if (SIZES[i] == CROWD && floats[k] > 1000) continue;
                crowd_open(&c, &set);
                c.body = body_sums;
                c.a = floats[k];
                c.with = all;
                crowd_run(&c, "sums");
                team_close(c.team);
            }
        }
    }
    free(all);
}

/* Group after group of 1, 2, 3, ... neighbors, as far as there are workers. */
static void find_group(const struct worker *w, int *first, int *count) {
    *first = 0;
    for (*count = 1; w->rank >= *first + *count; ++*count) *first += *count;
    if (*first + *count > w->size) *count = w->size - *first;
}

static void body_groups(struct crowd *c, struct worker *w, struct member *m) {
    size_t n = (size_t)c->a;
    float *v = calloc(n + 1, sizeof *v), *all = c->with;
    int first, count;
    v[n] = 12345;
    find_group(w, &first, &count);
    for (int k = 0; k < 4; k++) {
        for (size_t i = 0; i < n; i++) v[i] = whole(w->rank, i, k);
        dawdle(m);
        team_mean_of(w, (struct vec){v, n}, first, count);
        for (size_t i = 0; i < n; i++) {
            double want = 0;
            for (int r = first; r < first + count; r++) want += (double)whole(r, i, k);
            m->wrong += !(fabs((double)v[i] - want / count) <= 1e-5);
        }
        m->wrong += v[n] != 12345;
        if (w->rank == first) memcpy(all + n * (size_t)first, v, n * sizeof *v);
        team_sum1(w, 0);
        m->wrong += n > 0 && memcmp(all + n * (size_t)first, v, n * sizeof *v) != 0;
        team_sum1(w, 0);
    }
    double bytes = 4 * 2.0 * (count - 1) / count * (double)(n * sizeof *v);
    m->wrong += !(fabs(m->seat.ledger.bytes - bytes) <= 1e-9 * bytes);
    free(v);
}

/* Row r of the weights; nobody reads the last worker's v, though it has to come. */
static float mixing_weight(const struct worker *w, int r) {
    return r == w->size - 1 ? 0 : (float)((w->rank + 2 * r) % 4 - 1);
}

static void body_mixes(struct crowd *c, struct worker *w, struct member *m) {
    size_t n = (size_t)c->a;
    float *v = calloc(n + 1, sizeof *v), *y = calloc(n + 1, sizeof *y), weight[TEAM_MOST];
    double others = 0;
    for (int r = 0; r < w->size; r++) {
        weight[r] = mixing_weight(w, r);
        others += r != w->rank && weight[r] != 0;
    }
    for (int k = 0; k < 4; k++) {
        for (size_t i = 0; i < n; i++) {
            v[i] = w->rank == w->size - 1 ? NAN : whole(w->rank, i, k);
            y[i] = NAN;
        }
        y[n] = 12345;
        dawdle(m);
        team_mix(w, (struct vec){y, n}, (struct vec){v, n}, weight);
        for (size_t i = 0; i < n && w->size > 1; i++) {
            double want = 0;
            for (int r = 0; r + 1 < w->size; r++) {
                want += (double)(mixing_weight(w, r) * whole(r, i, k));
            }
            int any = others > 0 || weight[w->rank] != 0;
            m->wrong += any && (double)y[i] != want;
        }
        m->wrong += y[n] != 12345;
    }
    m->wrong += m->seat.ledger.bytes != 4 * others * (double)(n * sizeof *v);
    free(v);
    free(y);
}

static void check_all_sizes(
    void (*body)(struct crowd *, struct worker *, struct member *), const char *what) {
    static struct crowd c;
    const long floats[] = {0, 1, 31, 33, 1000};
    float *all = calloc(TEAM_MOST * 1000, sizeof *all);
    for (int i = 0; i < SIZES_N * 5 * 2; i++) {
        struct team_settings set = plain(SIZES[i / 10], i % 2);
        crowd_open(&c, &set);
        c.body = body;
        c.a = floats[i / 2 % 5];
        c.with = all;
        crowd_run(&c, what);
        team_close(c.team);
    }
    free(all);
}

Test(team, groups_take_means_of_their_own) { check_all_sizes(body_groups, "groups"); }
Test(team, mixes_are_exact_and_read_only_what_has_weight) { check_all_sizes(body_mixes, "mixes"); }

/* ---- a broken team -------------------------------------------------------------------------- */

enum { CALLS = 24 };

static struct shared *one_shared;
static atomic_int inside;

/* Every sort of event in turn. What the meetings said is kept: it must be the same for all. */
static void body_calls(struct crowd *c, struct worker *w, struct member *m) {
    signed char *met = (signed char *)c->with + w->rank * CALLS;
    float x[33] = {0};
    for (int k = 0; k < CALLS; k++) {
        dawdle(m);
        if (w->rank == c->a && k == c->b) {
            team_break(c->team, w->rank);
            return;
        }
        switch (k % 6) {
        case 0:
        case 3:
            met[k] = (signed char)team_meet(c->team, w->rank);
            if (met[k]) team_part(c->team, w->rank);
            break;
        case 1:
            team_take_turn(c->team, w->rank);
            m->number++;
            team_give_turn(c->team, w->rank);
            break;
        case 2:
            team_sum(w, (struct vec){x, 33});
            break;
        case 4:
            shared_lock(w, one_shared);
            m->wrong += atomic_fetch_add(&inside, 1) != 0; /* a lock is never broken */
            shared_mix(w, one_shared, 1, 1, (struct vec){x, 33});
            m->wrong += atomic_fetch_sub(&inside, 1) != 1;
            shared_unlock(w, one_shared);
            break;
        default:
            team_end_round(c->team, w->rank);
        }
    }
}

static void check_broken(struct crowd *c, const struct team_settings *set, int culprit, int call) {
    static signed char met[TEAM_MOST][CALLS];
    float zeros[33] = {0};
    crowd_open(c, set);
    c->body = body_calls;
    c->a = culprit;
    c->b = call;
    c->with = met;
    c->delays = call % 2 ? 100 : 0;
    memset(met, -1, sizeof met);
    cr_assert(
        shared_open(&one_shared, c->team, "one", HOME_HOST, (struct vec){zeros, 33}) == STATUS_OK,
        "%s", fail_message());
    crowd_run(c, "a broken team");
    cr_assert(team_broken(c->team), "the team is not broken");
    cr_assert_eq(team_culprit(c->team), culprit);
    for (int k = 0; k < CALLS; k++) {
        for (int r = 0; r < set->size && k % 3 == 0; r++) {
            if (r == culprit && k >= call) continue;
            cr_assert_eq(met[r][k], k < call, "worker %d of %d, meeting %d: %d; %d broke at %d", r,
                set->size, k, met[r][k], culprit, call);
        }
    }
    shared_close(one_shared);
    team_close(c->team);
}

Test(team, who_breaks_it_frees_all_others) {
    static struct crowd c;
    for (int size = 2; size <= 5; size += 3) {
        for (int order = ORDER_FREE; order <= ORDER_FIXED; order++) {
            for (int call = 0; call < CALLS; call++) {
                struct team_settings set = plain(size, order);
                set.max_lag = call % 3;
                set.spin = call % 2 * 50;
                check_broken(&c, &set, call % size, call);
                if (call < 8) check_broken(&c, &set, (call + 1) % size, call);
            }
        }
    }
}

Test(team, the_first_to_break_is_remembered) {
    struct team_settings set = plain(3, ORDER_FREE);
    struct team *t;
    cr_assert(team_open(&t, &set) == STATUS_OK, "%s", fail_message());
    cr_assert(!team_broken(t) && team_culprit(t) == -1, "broken from the start");
    team_break(t, 2);
    team_break(t, 1);
    cr_assert_eq(team_culprit(t), 2);
    cr_assert(!team_meet(t, 0), "a meeting of a broken team");
    team_close(t);
    team_close(NULL);
}

/* Meets until it breaks; counts how often it came true. */
static void body_until(struct crowd *c, struct worker *w, struct member *m) {
    while (team_meet(c->team, w->rank)) {
        m->number++;
        team_part(c->team, w->rank);
        dawdle(m);
    }
}

/* Broken from outside, at a moment that no worker knows: a meeting is true for all or for none. */
Test(team, a_meeting_is_true_for_all_or_for_none) {
    static struct crowd c;
    for (int i = 0; i < 150; i++) {
        struct team_settings set = plain(2 + i % 4, i % 2);
        set.spin = i % 3 * 100;
        crowd_open(&c, &set);
        c.body = body_until;
        c.delays = i % 5 * 20;
        crowd_start(&c, (uint32_t)i);
        usleep((unsigned)(i * 37 % 900));
        team_break(c.team, i % 2);
        crowd_end(&c, "broken from outside");
        for (int r = 1; r < c.size; r++) cr_assert_eq(c.member[r].number, c.member[0].number);
        team_close(c.team);
    }
}

/* ---- who sits together ---------------------------------------------------------------------- */

Test(team, groups_are_what_the_run_says_and_one_where_it_says_nothing) {
    const int groups[] = {0, 1, 1, 0, 2};
    struct team_settings set = plain(5, ORDER_FREE);
    for (int told = 0; told < 2; told++) {
        struct team *team;
        set.group = told ? groups : NULL;
        cr_assert(team_open(&team, &set) == STATUS_OK, "%s", fail_message());
        for (int r = 0; r < 5; r++) cr_assert_eq(team_group(team, r), told ? groups[r] : 0);
        team_close(team);
    }
}

/* ---- fixed order ---------------------------------------------------------------------------- */

enum { LOG_MOST = 20000 };

/* What happened, in order; a turn is for one at a time, and so is this. */
struct events {
    atomic_int n;
    int at[LOG_MOST];
};

static void note_event(struct events *e, int what) {
    int i = atomic_fetch_add(&e->n, 1);
    if (i < LOG_MOST) e->at[i] = what;
}

static uint32_t whim(const struct worker *w, int k, uint32_t below) {
    return rng_below(rng_word((struct rng_key){3, 98, (uint32_t)w->rank}, (uint64_t)k), below);
}

/* Turns as many as each likes, some meetings, ends of rounds; workers leave at different times. */
static void body_events(struct crowd *c, struct worker *w, struct member *m) {
    int rounds = 6 + (c->b ? 0 : w->rank);
    for (int k = 0; k < rounds; k++) {
        for (uint32_t i = whim(w, k, 4); i > 0; i--) {
            dawdle(m);
            team_take_turn(c->team, w->rank);
            m->wrong += atomic_fetch_add(&inside, 1) != 0;
            note_event(c->with, w->rank);
            if (i % 2) dawdle(m);
            m->wrong += atomic_fetch_sub(&inside, 1) != 1;
            team_give_turn(c->team, w->rank);
        }
        dawdle(m);
        if (c->b) {
            m->wrong += !team_meet(c->team, w->rank);
            team_part(c->team, w->rank);
        }
        m->wrong += team_end_round(c->team, w->rank) != 0;
    }
}

static int log_round(void *with, int rank, int met) {
    (void)met;
    note_event(with, 1000 + rank);
    return 0;
}

static void check_order(int size, int meetings, int lag) {
    static struct crowd c;
    static struct events first, now;
    for (uint32_t i = 0; i < 10; i++) {
        struct team_settings set = plain(size, ORDER_FIXED);
        now.n = 0;
        set.max_lag = lag;
        set.round_ended = log_round;
        set.with = &now;
        crowd_open(&c, &set);
        c.body = body_events;
        c.b = meetings;
        c.with = &now;
        c.delays = i == 0 ? 0 : 150;
        crowd_start(&c, i);
        crowd_end(&c, "order");
        team_close(c.team);
        cr_assert(now.n > size && now.n < LOG_MOST, "%d events", now.n);
        if (i == 0) {
            first.n = now.n;
            memcpy(first.at, now.at, sizeof now.at);
        }
        cr_assert_eq(now.n, first.n);
        for (int k = 0; k < now.n; k++) {
            cr_assert_eq(now.at[k], first.at[k], "event %d was %d's, now %d's; %d workers, lag %d",
                k, first.at[k], now.at[k], size, lag);
        }
    }
}

Test(team, fixed_order_is_the_same_each_time) {
    const int sizes[] = {1, 2, 3, 8};
    for (int i = 0; i < 4; i++) {
        for (int lag = 0; lag < 3; lag++) {
            check_order(sizes[i], 0, lag);
            check_order(sizes[i], 1, lag);
        }
    }
    check_order(40, 1, 2);
}

static void body_turns(struct crowd *c, struct worker *w, struct member *m) {
    int turns = w->rank == 1 ? 3 : 6;
    for (int k = 0; k < turns; k++) {
        dawdle(m);
        team_take_turn(c->team, w->rank);
        note_event(c->with, w->rank);
        team_give_turn(c->team, w->rank);
    }
}

/* Rank after rank; who has left is passed over. */
Test(team, fixed_order_is_rank_after_rank) {
    static struct crowd c;
    static struct events e;
    struct team_settings set = plain(4, ORDER_FIXED);
    const int want[] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 2, 3, 0, 2, 3, 0, 2, 3};
    e.n = 0;
    crowd_open(&c, &set);
    c.body = body_turns;
    c.with = &e;
    crowd_run(&c, "turns");
    cr_assert_eq(e.n, 21);
    for (int k = 0; k < 21; k++) cr_assert_eq(e.at[k], want[k], "event %d was %d's", k, e.at[k]);
    team_close(c.team);
}

/* ---- shared vectors ------------------------------------------------------------------------- */

enum { PUSHED = 1000 };
static struct shared *mailbox[TEAM_MOST];

/* The gossip pattern: push to a peer at random, read what came, a mass beside it. */
static void body_gossips(struct crowd *c, struct worker *w, struct member *m) {
    float *x = (float *)c->with + (size_t)w->rank * PUSHED;
    struct vec v = {x, PUSHED};
    for (int k = 0; k < c->a; k++) {
        dawdle(m);
        for (int i = 0; i < PUSHED; i++) x[i] = x[i] * 0.9f + (float)w->rank * 0.01f;
        struct shared *to = mailbox[worker_draw(w, (uint32_t)w->size)];
        shared_lock(w, to);
        shared_mix(w, to, 0.5f, 0.5f, v);
        *shared_mass(to) += 1;
        shared_unlock(w, to);
        dawdle(m);
        shared_lock(w, mailbox[w->rank]);
        shared_read(w, mailbox[w->rank], v);
        shared_unlock(w, mailbox[w->rank]);
        shared_elastic(w, mailbox[0], 0.1f, v);
        if (k % 4 == 3) team_end_round(c->team, w->rank);
    }
}

static void check_gossip(int size, int order, int lag, float *x, uint32_t salt) {
    static struct crowd c;
    struct team_settings set = plain(size, order);
    double mass = 0, changes = 0;
    set.max_lag = lag;
    for (int i = 0; i < size * PUSHED; i++) x[i] = (float)(i % 97) * 0.1f;
    crowd_open(&c, &set);
    for (int r = 0; r < size; r++) {
        struct vec from = {x + r * PUSHED, PUSHED};
        cr_assert(
            shared_open(&mailbox[r], c.team, "box", r, from) == STATUS_OK, "%s", fail_message());
        *shared_mass(mailbox[r]) = 0;
    }
    c.body = body_gossips;
    c.a = 24;
    c.with = x;
    crowd_start(&c, salt);
    crowd_end(&c, "gossip");
    for (int r = 0; r < size; r++) {
        mass += *shared_mass(mailbox[r]);
        changes += shared_version(mailbox[r]);
        shared_close(mailbox[r]);
    }
    cr_assert(mass == 24.0 * size, "a mass of %g for %d pushes", mass, 24 * size);
    cr_assert(changes == 48.0 * size, "%g changes for %d", changes, 48 * size);
    team_close(c.team);
}

Test(team, pushes_at_random_peers_repeat_in_fixed_order) {
    const int sizes[] = {1, 2, 3, 8};
    float *first = calloc(TEAM_MOST * PUSHED, sizeof *first);
    float *again = calloc(TEAM_MOST * PUSHED, sizeof *again);
    for (int i = 0; i < 4; i++) {
        size_t bytes = (size_t)sizes[i] * PUSHED * sizeof *first;
        check_gossip(sizes[i], ORDER_FIXED, i % 3, first, 0);
        for (uint32_t k = 1; k < 10; k++) {
            check_gossip(sizes[i], ORDER_FIXED, i % 3, again, k);
            cr_assert(memcmp(first, again, bytes) == 0, "%d workers, run %u", sizes[i], k);
        }
        check_gossip(sizes[i], ORDER_FREE, i % 3, again, 77);
    }
    free(first);
    free(again);
}

enum { LONG = 500000 };

/* Integers in floats and a factor of a half: x, c and their sum are exact. */
static void body_elastic(struct crowd *c, struct worker *w, struct member *m) {
    float *x = c->with, *center = x + (size_t)w->size * LONG;
    struct vec v = {x + (size_t)w->rank * LONG, LONG};
    m->wrong += !team_meet(c->team, w->rank);
    team_part(c->team, w->rank);
    for (int k = 0; k < c->a; k++) shared_elastic(w, one_shared, 0.5f, v);
    team_sum1(w, 0);
    if (w->rank > 0) return;
    shared_lock(w, one_shared);
    shared_read(w, one_shared, (struct vec){center, LONG});
    shared_unlock(w, one_shared);
}

static double column(const float *x, int rows, size_t i) {
    double sum = 0;
    for (int r = 0; r < rows; r++) sum += (double)x[(size_t)r * LONG + i];
    return sum;
}

/* Multiples of 2^12 bear twelve halvings. Whatever chunk meets whatever worker when, c + sum x is
 * what it was, with no tolerance. */
Test(team, elastic_exchanges_lose_nothing_whoever_is_faster) {
    static struct crowd c;
    enum { SIZE = 4, EACH = 3, ALL = (SIZE + 1) * LONG };
    float *x = calloc(ALL, sizeof *x);
    double *before = calloc(LONG, sizeof *before);
    for (int repeat = 0; repeat < 12; repeat++) {
        struct team_settings set = plain(SIZE, repeat % 4 == 3 ? ORDER_FIXED : ORDER_FREE);
        for (size_t i = 0; i < ALL; i++) x[i] = (float)((i * 31 + i / LONG * 17) % 50) * 4096;
        for (size_t i = 0; i < LONG; i++) before[i] = column(x, SIZE + 1, i);
        struct vec center = {x + (size_t)SIZE * LONG, LONG};
        crowd_open(&c, &set);
        cr_assert(shared_open(&one_shared, c.team, "c", HOME_HOST, center) == STATUS_OK, "%s",
            fail_message());
        c.body = body_elastic;
        c.a = EACH;
        c.with = x;
        crowd_run(&c, "elastic");
        double version = shared_version(one_shared);
        cr_assert(version == SIZE * EACH, "version %g", version);
        for (size_t i = 0; i < LONG; i++) {
            double after = column(x, SIZE + 1, i);
            cr_assert(after == before[i], "element %zu: %.9g became %.9g", i, before[i], after);
        }
        shared_close(one_shared);
        team_close(c.team);
    }
    free(before);
    free(x);
}

/* One looks twice while it holds the vector; the others pass over it chunk by chunk. */
static void body_whole(struct crowd *c, struct worker *w, struct member *m) {
    float *x = (float *)c->with + (size_t)2 * (size_t)w->rank * LONG, *again = x + LONG;
    struct vec v = {x, LONG};
    for (int k = 0; k < c->a; k++) {
        if (w->rank == 0) {
            shared_lock(w, one_shared);
            shared_read(w, one_shared, v);
            usleep(1000);
            shared_read(w, one_shared, (struct vec){again, LONG});
            shared_unlock(w, one_shared);
            m->wrong += memcmp(x, again, LONG * sizeof *x) != 0;
            usleep(200);
        } else {
            for (size_t i = 0; i < LONG; i++) x[i] = (float)(k * w->rank);
            shared_elastic(w, one_shared, 0.5f, v);
        }
    }
}

Test(team, a_lock_is_for_the_whole_vector) {
    static struct crowd c;
    float *x = calloc(2 * 3 * LONG, sizeof *x);
    struct team_settings set = plain(3, ORDER_FREE);
    crowd_open(&c, &set);
    cr_assert(shared_open(&one_shared, c.team, "c", 0, (struct vec){x, LONG}) == STATUS_OK, "%s",
        fail_message());
    c.body = body_whole;
    c.a = 60;
    c.with = x;
    crowd_run(&c, "torn vectors");
    shared_close(one_shared);
    team_close(c.team);
    free(x);
}

/* One after the other swaps its vector, which holds its rank + 1, for the shared one. */
static void body_swaps(struct crowd *c, struct worker *w, struct member *m) {
    size_t n = (size_t)c->a;
    float *x = calloc(n + 1, sizeof *x);
    for (size_t i = 0; i <= n; i++) x[i] = (float)(w->rank + 1);
    for (int r = 0; r < w->size; r++) {
        if (r == w->rank) shared_elastic(w, one_shared, 1, (struct vec){x, n});
        team_sum1(w, 0);
    }
    for (size_t i = 0; i < n; i++) m->wrong += x[i] != (float)w->rank;
    m->wrong += x[n] != (float)(w->rank + 1);
    shared_lock(w, one_shared);
    shared_read(w, one_shared, (struct vec){x, n});
    shared_unlock(w, one_shared);
    for (size_t i = 0; i < n; i++) m->wrong += x[i] != (float)w->size;
    free(x);
}

Test(team, an_exchange_reaches_every_element) {
    static struct crowd c;
    const long floats[] = {0, 1, 33, 65537, 262144, 262145, 800001};
    float *zeros = calloc(800001, sizeof *zeros);
    for (int k = 0; k < 7; k++) {
        for (int order = ORDER_FREE; order <= ORDER_FIXED; order++) {
            struct team_settings set = plain(3, order);
            struct vec from = {zeros, (size_t)floats[k]};
            crowd_open(&c, &set);
            cr_assert(shared_open(&one_shared, c.team, "c", HOME_HOST, from) == STATUS_OK, "%s",
                fail_message());
            c.body = body_swaps;
            c.a = floats[k];
            crowd_run(&c, "swaps");
            shared_close(one_shared);
            team_close(c.team);
        }
    }
    free(zeros);
}

/* ---- pace ----------------------------------------------------------------------------------- */

static atomic_int done[TEAM_MOST];

static int count_round(void *with, int rank, int met) {
    (void)with;
    (void)met;
    atomic_fetch_add(&done[rank], 1);
    return 0;
}

static int slowest(int size) {
    int least = atomic_load(&done[0]);
    for (int r = 1; r < size; r++) {
        int of = atomic_load(&done[r]);
        if (of < least) least = of;
    }
    return least;
}

/* Worker b is slow. Number: how far ahead this one has ever gone on. */
static void body_paced(struct crowd *c, struct worker *w, struct member *m) {
    for (int k = 1; k <= c->a; k++) {
        if (w->rank == c->b) usleep(2000);
        m->wrong += team_end_round(c->team, w->rank) != 0;
        int ahead = k - slowest(w->size);
        if (ahead > m->number) m->number = ahead;
    }
}

static int most_ahead(int order, int lag, int slow) {
    static struct crowd c;
    struct team_settings set = plain(4, order);
    int most = 0;
    set.max_lag = lag;
    set.round_ended = count_round;
    memset(done, 0, sizeof done);
    crowd_open(&c, &set);
    c.body = body_paced;
    c.a = 30;
    c.b = slow;
    crowd_run(&c, "pace");
    for (int r = 0; r < 4; r++) {
        cr_assert_eq(atomic_load(&done[r]), 30);
        if (c.member[r].number > most) most = c.member[r].number;
    }
    team_close(c.team);
    return most;
}

Test(team, nobody_is_further_ahead_than_allowed) {
    for (int lag = 1; lag <= 4; lag++) {
        for (int slow = 0; slow < 4; slow += 3) {
            int free_order = most_ahead(ORDER_FREE, lag, slow);
            cr_assert_eq(free_order, lag, "%d rounds ahead, not %d", free_order, lag);
            int fixed = most_ahead(ORDER_FIXED, lag, slow);
            cr_assert(fixed <= lag, "%d rounds ahead, not %d, in fixed order", fixed, lag);
        }
    }
    int any = most_ahead(ORDER_FREE, 0, 1);
    cr_assert(any >= 10, "only %d rounds ahead though nothing held them", any);
}

/* ---- gathering ------------------------------------------------------------------------------ */

/* Asks for all whenever `every` further rounds have ended, as a run does for its evaluations: all
 * together, or where answers are alike, of each. */
struct asking {
    int every, alike, total, next;
    int mine[TEAM_MOST];
};

static int ask(void *with, int rank, int met) {
    struct asking *a = with;
    (void)met;
    a->total++;
    a->mine[rank]++;
    return a->alike ? a->mine[rank] % a->every == 0 : a->total >= a->next;
}

enum { GATHERINGS = 8 };
static atomic_int gathered[TEAM_MOST], gather_round[TEAM_MOST], in_round[TEAM_MOST];

/* What a run does with all of them there: nobody is in a round. */
static void together(struct crowd *c, struct worker *w, struct member *m, int k) {
    struct asking *a = c->with;
    m->number++;
    atomic_store(&gathered[w->rank], m->number);
    atomic_store(&gather_round[w->rank], k);
    m->wrong += !team_meet(c->team, w->rank);
    for (int r = 0; r < w->size; r++) {
        m->wrong += atomic_load(&in_round[r]) != 0;
        m->wrong += atomic_load(&gathered[r]) != m->number;
        m->wrong += c->b == 1 && atomic_load(&gather_round[r]) != k;
    }
    if (a->alike) m->wrong += k != m->number * a->every;
    if (w->rank == 0 && !a->alike) {
        /* Who was asked first did its round; with meetings another one, if somebody was ahead. */
        int late = a->total - a->next;
        m->wrong += late < 0 || (c->b <= 1 && late >= w->size * (c->b ? 2 : 1));
        a->next = a->total + a->every;
    }
    team_part(c->team, w->rank);
    dawdle(m);
    team_sum1(w, 0);
}

/* b: a meeting in every b-th round; 0: none. As in a run, all end after the same gathering. */
static void body_gathers(struct crowd *c, struct worker *w, struct member *m) {
    for (int k = 1; m->number < GATHERINGS; k++) {
        atomic_store(&in_round[w->rank], 1);
        dawdle(m);
        if (c->b && k % c->b == 0) {
            m->wrong += !team_meet(c->team, w->rank);
            team_part(c->team, w->rank);
            dawdle(m);
        }
        atomic_store(&in_round[w->rank], 0);
        if (team_end_round(c->team, w->rank)) together(c, w, m, k);
    }
}

static void check_gathering(int size, int order, int lag, int every_meets, struct asking asking) {
    static struct crowd c;
    struct team_settings set = plain(size, order);
    set.max_lag = lag;
    set.spin = lag * 20;
    set.round_ended = ask;
    set.with = &asking;
    asking.next = asking.every;
    crowd_open(&c, &set);
    c.body = body_gathers;
    c.b = every_meets;
    c.with = &asking;
    c.delays = size > 8 ? 20 : 100;
    memset(in_round, 0, sizeof in_round);
    memset(gathered, 0, sizeof gathered);
    crowd_run(&c, every_meets ? "gathering, with meetings" : "gathering");
    team_close(c.team);
}

static void check_gatherings(int every_meets, struct asking asking) {
    for (int i = 0; i < SIZES_N; i++) {
        for (int order = ORDER_FREE; order <= ORDER_FIXED; order++) {
            for (int lag = 0; lag < 3; lag++) {
                struct asking a = asking;
                if (!a.alike) a.every *= SIZES[i];
                check_gathering(SIZES[i], order, lag, every_meets, a);
            }
        }
    }
}

/* Synchronous strategies: whoever is asked says the same, and nobody goes a round too far. */
Test(team, answers_alike_gather_all_in_that_round) {
    check_gatherings(1, (struct asking){.every = 4, .alike = 1});
    check_gatherings(1, (struct asking){.every = 1, .alike = 1});
}

/* The last to end a round asks while others wait for it in the next one's meeting. */
Test(team, workers_with_meetings_gather_though_one_is_ahead) {
    check_gatherings(1, (struct asking){.every = 4});
    check_gatherings(1, (struct asking){.every = 1});
}

Test(team, workers_on_their_own_gather) {
    check_gatherings(0, (struct asking){.every = 4});
    check_gatherings(0, (struct asking){.every = 1});
}

Test(team, workers_with_some_meetings_gather) {
    check_gatherings(3, (struct asking){.every = 4});
    check_gatherings(2, (struct asking){.every = 5});
}

/* ---- what a round's end is told ------------------------------------------------------------- */

static int tell_met(void *with, int rank, int met) {
    ((int *)with)[rank] = met;
    return 0;
}

static void body_tells(struct crowd *c, struct worker *w, struct member *m) {
    for (int k = 0; k < 30; k++) {
        int meets = k % 3 == 0;
        if (k % 2) team_sum1(w, 1); /* between rounds: none of the round's */
        team_start_round(c->team, w->rank);
        if (meets) team_sum1(w, 1);
        dawdle(m);
        team_end_round(c->team, w->rank);
        m->wrong += ((int *)c->with)[w->rank] != meets;
    }
}

Test(team, a_rounds_end_is_told_of_meetings) {
    static struct crowd c;
    int met[4];
    struct team_settings set = plain(4, ORDER_FREE);
    set.round_ended = tell_met;
    set.with = met;
    crowd_open(&c, &set);
    c.body = body_tells;
    c.with = met;
    crowd_run(&c, "met");
    team_close(c.team);
}

/* ---- draws ---------------------------------------------------------------------------------- */

static void body_draws(struct crowd *c, struct worker *w, struct member *m) {
    uint32_t *drawn = (uint32_t *)c->with + w->rank * 300;
    (void)m;
    for (int k = 0; k < 100; k++, w->round++) {
        drawn[3 * k] = team_draw(w, 1, 1000);
        drawn[3 * k + 1] = team_draw(w, 2, 1000);
        drawn[3 * k + 2] = worker_draw(w, 1000);
    }
}

Test(team, all_draw_alike_with_team_draw_and_not_with_worker_draw) {
    static struct crowd c;
    static uint32_t drawn[4][100][3];
    struct team_settings set = plain(4, ORDER_FREE);
    int repeated = 0, stuck = 0, like_salt = 0, like_peer = 0;
    crowd_open(&c, &set);
    c.body = body_draws;
    c.with = drawn;
    crowd_run(&c, "draws");
    for (int k = 0; k < 100; k++) {
        for (int r = 0; r < 4; r++) {
            cr_assert_eq(drawn[r][k][0], drawn[0][k][0]);
            cr_assert_eq(drawn[r][k][1], drawn[0][k][1]);
            cr_assert(drawn[r][k][2] < 1000, "%u", drawn[r][k][2]);
        }
        repeated += k > 0 && drawn[0][k][0] == drawn[0][k - 1][0];
        stuck += k > 0 && drawn[0][k][2] == drawn[0][k - 1][2];
        like_salt += drawn[0][k][0] == drawn[0][k][1];
        like_peer += drawn[0][k][2] == drawn[1][k][2];
    }
    cr_assert(repeated <= 3 && stuck <= 3, "%d, %d repeated", repeated, stuck);
    cr_assert(like_salt <= 3 && like_peer <= 3, "%d, %d alike", like_salt, like_peer);
    team_close(c.team);
}
