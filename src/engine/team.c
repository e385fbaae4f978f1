#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pulse.h"
#include "base/rng.h"
#include "comm/comm.h"
#include "devices/reach.h"
#include "engine/record.h"
#include "engine/team_waits.h"
#include "topology/pci.h"
#include "topology/topology.h"

/* What a worker is about, as far as the others are concerned. */
enum phase {
    RUNS,    /* computes, or is at an event and may proceed */
    ARRIVED, /* at a meeting, others are missing */
    PACED,   /* at a round's end, too far ahead */
    PARKED,  /* at a round's end, until all have gathered */
    LEFT
};

struct seat_of_team {
    pthread_cond_t wake;
    enum phase phase;
    long rounds;   /* finished */
    int gathered;  /* all had parked, and this worker does not know yet */
    int met;       /* was at a meeting in this round */
    double waited; /* seconds; this worker's thread, or who lets it go on, under the lock */
    double clock;  /* virtual seconds; written like `waited`, read by all under the lock */
    int stopped;   /* its clock: all have gathered; this worker's thread only */
};

struct team {
    struct team_settings set;
    struct comm *comm;
    struct device *device; /* whose pinned memory shared vectors are in; main thread only */
    int number[TEAM_MOST]; /* of each worker's device */
    struct device *home[TEAM_MOST]; /* opened for shared vectors that live there */
    struct reach reach;
    int reach_known; /* reach has been found out */
    atomic_int broken;
    atomic_ulong meetings; /* complete */
    atomic_ulong parted;   /* workers that were done, over all meetings */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t all_parted;
    int culprit, turn, arrived, gathering;
    int turn_at_gathering;
    double now;      /* virtual seconds, of the event that comes to pass */
    char apart[512]; /* how a replay came apart from its record */
    struct shared *shared, *last_shared;
    struct seat_of_team seat[TEAM_MOST];
};

/* ---- who is next ---------------------------------------------------------------------------- */

/* Of those who neither wait for another nor are gone, the one whose clock is the least. */
static int least_clock(const struct team *t) {
    int least = -1;
    for (int r = 0; r < t->set.size; r++) {
        if (t->seat[r].phase != RUNS) continue;
        if (least < 0 || t->seat[r].clock < t->seat[least].clock) least = r;
    }
    return least;
}

/* Whose event follows one of `after`. Fixed order: the next rank that is neither waiting for another
 * nor gone. There is always one, but when all have left: settle sees to that. A record ends with
 * nobody's, -1. */
static int team_next(const struct team *t, int after) {
    if (t->set.order == ORDER_VIRTUAL) return least_clock(t);
    if (t->set.order == ORDER_REPLAY) {
        const struct record_event *e = record_next(t->set.replay);
        return e ? e->rank : -1;
    }
    for (int i = 1; i <= t->set.size; i++) {
        int r = (after + i) % t->set.size;
        if (t->seat[r].phase == RUNS) return r;
    }
    return after;
}

static void wake(struct team *t, int rank) { pthread_cond_signal(&t->seat[rank].wake); }

/* Under the lock: virtual time passes for a worker until it is `until`. */
static void wait_until(struct seat_of_team *p, double until) {
    if (until <= p->clock) return;
    p->waited += until - p->clock;
    p->clock = until;
}

/* Virtual time: whoever is let go by an event goes on when it came to pass. */
static void let_run(struct team *t, int rank) {
    t->seat[rank].phase = RUNS;
    if (t->set.order == ORDER_VIRTUAL) wait_until(&t->seat[rank], t->now);
    wake(t, rank);
}

/* A wait that began at `start` is over. In virtual time it took what the clocks say. */
static void count_wait(struct team *t, int rank, double start) {
    if (t->set.order != ORDER_VIRTUAL) t->seat[rank].waited += clock_seconds() - start;
}

/* Past a record's end anybody may come, to be told. */
static int has_turn(const struct team *t, int rank) {
    return t->set.order == ORDER_FREE || t->turn == rank || t->turn < 0 || t->broken;
}

/* Under the lock: waits until it is this worker's turn. Free order: it always is. The clock is read
 * only by those who wait, here and below. */
static void wait_turn(struct team *t, int rank) {
    if (!has_turn(t, rank)) {
        double start = clock_seconds();
        pulse_begin(DOING_TURN);
        while (!has_turn(t, rank)) pthread_cond_wait(&t->seat[rank].wake, &t->lock);
        pulse_end();
        count_wait(t, rank, start);
    }
    t->now = t->seat[rank].clock;
}

static void break_by(struct team *t, int rank) {
    if (!t->broken) t->culprit = rank;
    t->broken = 1;
    for (int r = 0; r < t->set.size; r++) wake(t, r);
}

/* Under the lock: the replay of this worker is not what the record says. */
static void come_apart(struct team *t, int rank, const char *does) {
    const struct record_event *was = record_next(t->set.replay);
    char did[160] = "it ends";
    if (was) record_tell(was, did, sizeof did);
    snprintf(t->apart, sizeof t->apart,
        "the replay came apart from its record at event %ld: here \"%s\", there \"%s\"",
        record_passed(t->set.replay) + 1, does, did);
    break_by(t, rank);
    comm_abort(t->comm);
}

/* Under the lock: only events let go on who waits, so that a record whose next is of such a worker
 * would keep all waiting. */
static void check_turn(struct team *t) {
    if (t->set.order != ORDER_REPLAY || t->turn < 0 || t->broken) return;
    enum phase phase = t->seat[t->turn].phase;
    if (phase == RUNS || phase == LEFT) return;
    come_apart(t, t->turn, "it waits for others");
}

/* Under the lock, at the end of each event, and when a clock has gone on. */
static void pass_turn(struct team *t, int rank) {
    if (t->set.order == ORDER_FREE) return;
    t->turn = team_next(t, rank);
    check_turn(t);
    for (int r = 0; r < t->set.size; r++) {
        if (r == t->turn || t->turn < 0) wake(t, r);
    }
}

void team_take_turn(struct team *t, int rank) {
    if (t->set.order == ORDER_FREE) return;
    pthread_mutex_lock(&t->lock);
    wait_turn(t, rank);
    pthread_mutex_unlock(&t->lock);
}

/* Under the lock: the record must have this event next. */
static void follow(struct team *t, const struct record_event *e) {
    const struct record_event *was = record_next(t->set.replay);
    char does[160], did[160];
    record_tell(e, does, sizeof does);
    if (was) record_tell(was, did, sizeof did);
    if (was && !strcmp(does, did)) {
        record_pass(t->set.replay);
    } else {
        come_apart(t, e->rank, does);
    }
}

/* Under the lock, when this event comes to pass. */
static void see(struct team *t, int rank, char kind, const struct shared *s) {
    if (t->broken || (!t->set.record && !t->set.replay)) return;
    struct record_event e = {.kind = kind, .rank = rank};
    if (s) {
        e.name = shared_name(s);
        e.version = shared_version(s);
    }
    if (t->set.replay) follow(t, &e);
    if (t->set.record) record_add(t->set.record, &e);
}

void team_has(struct team *t, int rank, const struct shared *s) {
    if (!t->set.record && !t->set.replay) return;
    pthread_mutex_lock(&t->lock);
    see(t, rank, RECORD_LOCK, s);
    pthread_mutex_unlock(&t->lock);
}

void team_give_turn(struct team *t, int rank) {
    if (t->set.order == ORDER_FREE) return;
    pthread_mutex_lock(&t->lock);
    pass_turn(t, rank);
    pthread_mutex_unlock(&t->lock);
}

/* ---- who may go on -------------------------------------------------------------------------- */

/* Somebody waits in a meeting of a round that this worker has yet to do: parked it could not come. */
static int is_awaited(const struct team *t, int rank) {
    for (int r = 0; r < t->set.size; r++) {
        if (t->seat[r].phase == ARRIVED && t->seat[r].rounds >= t->seat[rank].rounds) return 1;
    }
    return 0;
}

static int is_too_far(const struct team *t, int rank) {
    for (int r = 0; r < t->set.size && t->set.max_lag > 0; r++) {
        if (t->seat[r].phase == LEFT) continue;
        if (t->seat[rank].rounds - t->seat[r].rounds > t->set.max_lag) return 1;
    }
    return 0;
}

static int all_parked(const struct team *t) {
    int parked = 0;
    for (int r = 0; r < t->set.size; r++) {
        if (t->seat[r].phase == PARKED) parked++;
        if (t->seat[r].phase == RUNS || t->seat[r].phase == ARRIVED) return 0;
    }
    return parked > 0;
}

/* Under the lock, after anything changed: lets those go on whose reason to wait is gone. */
static void settle(struct team *t) {
    for (int r = 0; r < t->set.size; r++) {
        struct seat_of_team *p = &t->seat[r];
        if (p->phase == PACED && t->gathering) p->phase = PARKED;
        if (p->phase == PACED && !is_too_far(t, r)) let_run(t, r);
        if (p->phase == PARKED && is_awaited(t, r)) let_run(t, r);
    }
    if (!all_parked(t)) return;
    for (int r = 0; r < t->set.size; r++) {
        if (t->seat[r].phase != PARKED) continue;
        t->seat[r].gathered = t->gathering;
        let_run(t, r);
    }
    t->gathering = 0;
}

/* ---- meetings ------------------------------------------------------------------------------- */

/* Looks for a change a while before the caller sleeps: a sleep costs more than a short wait. */
static void spin_while_equal(const struct team *t, const atomic_ulong *count, unsigned long old) {
    for (int i = 0; i < t->set.spin; i++) {
        if (atomic_load_explicit(count, memory_order_acquire) != old || t->broken) return;
        if (i % 64 == 63) sched_yield();
    }
}

static void wait_for_meeting(struct team *t, int rank, unsigned long meeting) {
    double start = clock_seconds();
    pulse_begin(DOING_MEET);
    pthread_mutex_unlock(&t->lock);
    spin_while_equal(t, &t->meetings, meeting);
    pthread_mutex_lock(&t->lock);
    while (t->meetings == meeting && !t->broken) {
        pthread_cond_wait(&t->seat[rank].wake, &t->lock);
    }
    pulse_end();
    count_wait(t, rank, start);
}

int team_meet(struct team *t, int rank) {
    pthread_mutex_lock(&t->lock);
    wait_turn(t, rank);
    see(t, rank, RECORD_MEETING, NULL);
    unsigned long meeting = t->meetings;
    if (t->broken) {
        pthread_mutex_unlock(&t->lock);
        return 0;
    }
    if (++t->arrived == t->set.size) {
        t->arrived = 0;
        atomic_store_explicit(&t->meetings, meeting + 1, memory_order_release);
        for (int r = 0; r < t->set.size; r++) let_run(t, r);
        pass_turn(t, rank);
    } else {
        t->seat[rank].phase = ARRIVED;
        settle(t);
        pass_turn(t, rank);
        wait_for_meeting(t, rank, meeting);
    }
    int came = t->meetings != meeting;
    t->seat[rank].met = 1;
    pthread_mutex_unlock(&t->lock);
    return came;
}

/* Everyone who met is on the way here and waits for nobody, so this needs no way out. */
void team_part(struct team *t, int rank) {
    unsigned long size = (unsigned long)t->set.size, all;
    unsigned long mine = atomic_fetch_add_explicit(&t->parted, 1, memory_order_acq_rel);
    all = (mine / size + 1) * size;
    if (mine + 1 == all) {
        pthread_mutex_lock(&t->lock);
        pthread_cond_broadcast(&t->all_parted);
        pthread_mutex_unlock(&t->lock);
        return;
    }
    if (atomic_load_explicit(&t->parted, memory_order_acquire) >= all) return;
    double start = clock_seconds();
    pulse_begin(DOING_PART);
    for (int i = 0; i < t->set.spin && t->parted < all; i++) {
        if (i % 64 == 63) sched_yield();
    }
    pthread_mutex_lock(&t->lock);
    while (t->parted < all) pthread_cond_wait(&t->all_parted, &t->lock);
    pthread_mutex_unlock(&t->lock);
    pulse_end();
    count_wait(t, rank, start);
}

/* ---- rounds --------------------------------------------------------------------------------- */

static void wait_to_run(struct team *t, int rank) {
    struct seat_of_team *p = &t->seat[rank];
    double start = clock_seconds();
    pulse_begin(DOING_ROUND_END);
    while (p->phase != RUNS && !t->broken) pthread_cond_wait(&p->wake, &t->lock);
    pulse_end();
    count_wait(t, rank, start);
}

void team_start_round(struct team *t, int rank) {
    t->seat[rank].met = 0;
    t->seat[rank].stopped = 0;
}

/* Under the lock: whether all are to gather. A replay gathers where the record did. */
static int asks_to_gather(struct team *t, int rank) {
    int asks = t->set.round_ended && t->set.round_ended(t->set.with, rank, t->seat[rank].met);
    if (t->set.order == ORDER_REPLAY) {
        const struct record_event *e = record_next(t->set.replay);
        asks = e && e->kind == RECORD_GATHER;
    }
    see(t, rank, asks ? RECORD_GATHER : RECORD_ROUND, NULL);
    return asks;
}

int team_end_round(struct team *t, int rank) {
    struct seat_of_team *p = &t->seat[rank];
    pthread_mutex_lock(&t->lock);
    wait_turn(t, rank);
    p->rounds++;
    if (asks_to_gather(t, rank)) t->gathering = 1;
    p->phase = t->gathering || t->set.order == ORDER_FIXED ? PARKED : PACED;
    settle(t);
    pass_turn(t, rank);
    if (p->gathered) t->turn_at_gathering = t->turn; /* this was the last to come */
    if (p->phase != RUNS) wait_to_run(t, rank);
    int gathered = p->gathered && !t->broken;
    p->gathered = 0;
    p->stopped = gathered;
    pthread_mutex_unlock(&t->lock);
    return gathered;
}

void team_leave(struct team *t, int rank) {
    pthread_mutex_lock(&t->lock);
    if (t->set.order != ORDER_REPLAY) wait_turn(t, rank); /* a record may go on for longer */
    t->seat[rank].phase = LEFT;
    settle(t);
    pass_turn(t, rank);
    pthread_mutex_unlock(&t->lock);
}

void team_break(struct team *t, int rank) {
    pthread_mutex_lock(&t->lock);
    break_by(t, rank);
    pthread_mutex_unlock(&t->lock);
    comm_abort(t->comm);
}

int team_broken(const struct team *t) {
    return atomic_load_explicit(&t->broken, memory_order_relaxed);
}

int team_culprit(const struct team *t) { return t->culprit; }
const char *team_apart(const struct team *t) { return t->apart; }

/* ---- time ----------------------------------------------------------------------------------- */

int team_is_virtual(const struct team *t) { return t->set.order == ORDER_VIRTUAL; }

double team_seconds(const struct team *t, int rank) {
    return team_is_virtual(t) ? t->seat[rank].clock : clock_seconds();
}

void team_restore_seconds(struct team *t, int rank, double seconds) {
    t->seat[rank].clock = seconds;
}

/* In naps, so that a team that breaks is not waited for. */
static void sleep_for(const struct team *t, double seconds) {
    const double nap = 0.05;
    for (double end = clock_seconds() + seconds; !t->broken;) {
        double left = end - clock_seconds();
        if (left <= 0) return;
        struct timespec pause = {.tv_nsec = (long)(1e9 * (left < nap ? left : nap))};
        nanosleep(&pause, NULL);
    }
}

void team_spend(struct team *t, int rank, double from, double seconds) {
    struct seat_of_team *p = &t->seat[rank];
    if (p->stopped || t->broken) return;
    if (!team_is_virtual(t)) {
        if (seconds > 0) sleep_for(t, seconds);
        return;
    }
    pthread_mutex_lock(&t->lock);
    wait_until(p, from);
    p->clock += seconds;
    pass_turn(t, rank);
    pthread_mutex_unlock(&t->lock);
}

/* ---- start and end -------------------------------------------------------------------------- */

static int comm_meets(void *with, int rank) { return team_meet(with, rank); }
static void comm_parts(void *with, int rank) { team_part(with, rank); }

enum status team_open(struct team **out, const struct team_settings *set) {
    ASSERT(set->size >= 1 && set->size <= TEAM_MOST);
    ASSERT(set->depth >= 0 && set->depth <= DEPTH_MOST);
    struct team *t = calloc(1, sizeof *t);
    if (!t) return fail(STATUS_FAILED, "no memory for a team");
    t->set = *set;
    t->culprit = -1;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->all_parted, NULL);
    for (int r = 0; r < set->size; r++) pthread_cond_init(&t->seat[r].wake, NULL);
    t->turn = team_next(t, set->size - 1);
    *out = t;
    for (int r = 0; r < set->size && set->number; r++) t->number[r] = set->number[r];
    t->set.number = t->number;
    TRY(device_open(&t->device, set->kind ? set->kind : &device_host, t->number[0], 1));
    struct comm_setup comm = {
        .size = set->size,
        .waits = {comm_meets, comm_parts, t},
        .kind = (enum comm_kind)set->comm,
        .ordered = team_locks_whole(t),
        .reach = team_reach(t),
    };
    return comm_open(&t->comm, &comm);
}

void team_close(struct team *t) {
    if (!t) return;
    comm_close(t->comm);
    for (int r = 0; r < t->set.size; r++) device_close(t->home[r]);
    device_close(t->device);
    for (int r = 0; r < t->set.size; r++) pthread_cond_destroy(&t->seat[r].wake);
    pthread_cond_destroy(&t->all_parted);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

enum status team_join(struct team *t, int rank, struct stream *q) {
    TRY(comm_join(t->comm, rank, q));
    for (struct shared *s = t->shared; s; s = shared_next(s)) {
        TRY(shared_join(s, rank, q->device));
    }
    return STATUS_OK;
}

int team_size(const struct team *t) { return t->set.size; }

int team_group(const struct team *t, int rank) {
    ASSERT(rank >= 0 && rank < t->set.size);
    return t->set.group ? t->set.group[rank] : 0;
}

struct comm *team_comm(struct team *t) {
    return t->comm;
}
int team_turn_at_gathering(const struct team *t) { return t->turn_at_gathering; }
void team_restore_turn(struct team *t, int turn) {
    if (t->set.order == ORDER_FIXED) t->turn = turn;
}
void team_restore_rounds(struct team *t, int rank, long rounds) { t->seat[rank].rounds = rounds; }

void team_add_shared(struct team *t, struct shared *s) {
    if (t->last_shared) shared_set_next(t->last_shared, s);
    if (!t->shared) t->shared = s;
    t->last_shared = s;
}

struct shared *team_shared(const struct team *t) {
    return t->shared;
}
double team_waited(const struct team *t, int rank) { return t->seat[rank].waited; }
uint32_t team_seed(const struct team *t) { return t->set.seed; }
int team_is_fixed(const struct team *t) { return t->set.order != ORDER_FREE; }

int team_locks_whole(const struct team *t) {
    return team_is_fixed(t) || t->set.record || t->set.whole;
}

/* In free order an exchange holds one chunk at a time, so that workers pass through a large vector
 * side by side. On the host a MiB is small enough for that, and large enough that a lock costs nothing
 * beside it. To a GPU a chunk is a launch, or two copies and a launch that events join: microseconds,
 * where a MiB on PCIe takes about twenty. So there chunks are of up to 4 MiB, if that leaves each
 * worker some to overlap. */
enum { CHUNKS_EACH = 4, DEPTH = 4 };
static const size_t CHUNK = 1 << 18, CHUNK_MOST = 1 << 20; /* floats */

size_t team_chunk(const struct team *t, size_t n) {
    size_t each = n / CHUNKS_EACH / (size_t)t->set.size / 1024 * 1024;
    if (t->set.chunk) return t->set.chunk;
    if (t->device->ops->host_memory || each < CHUNK) return CHUNK;
    return each < CHUNK_MOST ? each : CHUNK_MOST;
}

int team_depth(const struct team *t) { return t->set.depth ? t->set.depth : DEPTH; }

int team_center(const struct team *t) { return t->set.center; }
void team_set_center(struct team *t, int way) { t->set.center = way; }

/* ---- memory that all reach -------------------------------------------------------------------- */

/* A transfer between two devices takes milliseconds; what takes this long has come to nothing. */
static const double PEER_SECONDS = 10;

const struct reach *team_reach(struct team *t) {
    char text[200];
    if (t->reach_known) return &t->reach;
    reach_verify(&t->reach, t->device->ops, t->number, t->set.size, PEER_SECONDS);
    t->reach_known = 1;
    reach_write(&t->reach, text, sizeof text);
    if (!t->device->ops->host_memory) log_debug("%s", text);
    return &t->reach;
}

static int all_reach(struct team *t, int home) {
    const struct reach *reach = team_reach(t);
    for (int r = 0; r < t->set.size; r++) {
        if (!reach_between(reach, r, home)) return 0;
    }
    return 1;
}

static enum status alloc_at_home(struct team *t, int home, void **at, size_t bytes) {
    if (!t->home[home]) TRY(device_open(&t->home[home], t->device->ops, t->number[home], 1));
    return device_alloc(t->home[home], at, bytes);
}

/* GPUs reach page-locked memory best on their own NUMA node: the first worker's decides. */
static enum status alloc_pinned(struct team *t, void **at, size_t bytes) {
    const struct device *d = t->device;
    int node = t->set.machine && *d->bus ? pci_node(pci_folder, d->bus) : -1;
    if (node >= 0) topology_take_from(t->set.machine, node);
    enum status end = device_pinned(t->device, at, bytes);
    if (node >= 0) topology_take_from(t->set.machine, -1);
    return end;
}

enum status team_alloc(struct team *t, int home, struct device **where, void **at, size_t bytes) {
    *where = NULL;
    if (home != HOME_HOST && !t->device->ops->host_memory && all_reach(t, home)) {
        TRY(alloc_at_home(t, home, at, bytes));
        *where = t->home[home];
        return STATUS_OK;
    }
    TRY(alloc_pinned(t, at, bytes));
    if (t->set.machine && t->device->ops->host_memory) {
        topology_interleave(t->set.machine, t->set.places, t->set.size, *at, bytes);
    }
    return STATUS_OK;
}

uint32_t team_draw(const struct worker *w, uint32_t salt, uint32_t below) {
    struct rng_key key = {team_seed(w->team), RNG_TEAM, salt};
    return rng_below(rng_word(key, (uint64_t)w->round), below);
}
