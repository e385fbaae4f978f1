/* shared.c -- the shared vectors of team.h. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/pulse.h"
#include "engine/seat.h"

/* In free order an exchange holds one chunk at a time, so that workers pass through a large vector
 * side by side; small enough for that, large enough that a lock costs nothing beside it. */
enum { CHUNK = 1 << 18 }; /* floats: 1 MiB */

/* Where work is done at once, on the host, there are no events: the lock orders everything. */
struct shared {
    struct team *team;
    struct shared *next; /* of the team's */
    const char *name;
    int home;
    struct vec v;
    double mass;
    int chunks;
    struct chunk {
        _Alignas(64) pthread_mutex_t lock;
        atomic_int holder;   /* the rank that has the lock, for the watchdog; -1: nobody */
        atomic_long version; /* changes; written under the lock, read by anybody */
        struct event *freed; /* what the next holder's stream waits for; NULL: nothing; under lock */
    } * chunk;
    struct joined {
        struct device *device; /* NULL: work is done at once */
        struct event *whole;   /* lets go of the whole vector */
        struct event **chunk;  /* [chunks] lets go of one */
    } joined[TEAM_MOST];
};

enum status shared_open(
    struct shared **out, struct team *team, const char *name, int home, struct vec from) {
    ASSERT(home == HOME_HOST || (home >= 0 && home < team_size(team)));
    struct shared *s = calloc(1, sizeof *s);
    *out = s;
    if (!s) return fail(STATUS_FAILED, "no memory for shared vector %s", name);
    s->team = team;
    s->name = name;
    s->home = home;
    int chunks = from.n ? (int)((from.n + CHUNK - 1) / CHUNK) : 1;
    s->chunk = aligned_alloc(64, (size_t)chunks * sizeof *s->chunk);
    if (!s->chunk) return fail(STATUS_FAILED, "no memory for shared vector %s", name);
    for (; s->chunks < chunks; s->chunks++) {
        pthread_mutex_init(&s->chunk[s->chunks].lock, NULL);
        atomic_init(&s->chunk[s->chunks].version, 0);
        s->chunk[s->chunks].freed = NULL;
        atomic_init(&s->chunk[s->chunks].holder, -1);
    }
    TRY(team_alloc(team, (void **)&s->v.at, from.n * sizeof *from.at));
    s->v.n = from.n;
    memcpy(s->v.at, from.at, from.n * sizeof *from.at);
    team_add_shared(team, s);
    return STATUS_OK;
}

struct shared *shared_next(const struct shared *s) {
    return s->next;
}
const char *shared_name(const struct shared *s) { return s->name; }
struct vec shared_vec(const struct shared *s) {
    return s->v;
}
void shared_set_next(struct shared *s, struct shared *next) { s->next = next; }

void shared_set_version(struct shared *s, double version) {
    for (int k = 0; k < s->chunks; k++) s->chunk[k].version = (long)version;
}

enum status shared_join(struct shared *s, int rank, struct device *d) {
    struct joined *j = &s->joined[rank];
    if (d->ops->host_memory) return STATUS_OK;
    j->chunk = calloc((size_t)s->chunks, sizeof(struct event *));
    if (!j->chunk) return fail(STATUS_FAILED, "no memory for the events of %s", s->name);
    j->device = d;
    for (int k = 0; k < s->chunks; k++) TRY(event_open(&j->chunk[k], d));
    return event_open(&j->whole, d);
}

static void joined_close(struct joined *j, int chunks) {
    for (int k = 0; j->chunk && k < chunks; k++) event_close(j->chunk[k], j->device);
    event_close(j->whole, j->device);
    free(j->chunk);
}

void shared_close(struct shared *s) {
    if (!s) return;
    for (int r = 0; r < TEAM_MOST; r++) joined_close(&s->joined[r], s->chunks);
    for (int k = 0; k < s->chunks; k++) pthread_mutex_destroy(&s->chunk[k].lock);
    free(s->chunk);
    free(s);
}

/* ---- locks ------------------------------------------------------------------------------------ */

/* Seconds waited. The lock is tried first: the clock is read only where somebody else holds it. */
static double chunk_lock(struct worker *w, struct shared *s, int k) {
    struct chunk *c = &s->chunk[k];
    double waited = 0;
    if (pthread_mutex_trylock(&c->lock) != 0) {
        double start = clock_seconds();
        pulse_begin_with(DOING_LOCK, s->name, &c->holder);
        pthread_mutex_lock(&c->lock);
        pulse_end();
        waited = clock_seconds() - start;
    }
    atomic_store_explicit(&c->holder, w->rank, memory_order_relaxed);
    return waited;
}

static void chunk_unlock(struct shared *s, int k) {
    atomic_store_explicit(&s->chunk[k].holder, -1, memory_order_relaxed);
    pthread_mutex_unlock(&s->chunk[k].lock);
}

/* ---- the whole vector ------------------------------------------------------------------------- */

/* In free order a lock is not taken before the caller's device has come to it: what holds the lock
 * would otherwise wait for all that this device has yet to do. In fixed order the turn says who is
 * next, however late. */
static void come_near(struct worker *w, const struct shared *s) {
    if (s->joined[w->rank].device && !team_is_fixed(s->team)) learner_wait(w->seat->learner);
}

/* The holder's stream goes on when the last holder's has let go. Under the lock. */
static void wait_freed(struct worker *w, const struct chunk *c) {
    if (c->freed) stream_wait(w->q, c->freed);
}

/* All chunks, in order: who holds one chunk never waits for another, so this cannot deadlock. */
static void lock_all(struct worker *w, struct shared *s) {
    team_take_turn(s->team, w->rank);
    for (int k = 0; k < s->chunks; k++) {
        chunk_lock(w, s, k);
        if (k == 0 || s->chunk[k].freed != s->chunk[k - 1].freed) wait_freed(w, &s->chunk[k]);
    }
}

static void unlock_all(struct worker *w, struct shared *s) {
    const struct joined *j = &s->joined[w->rank];
    if (j->device) stream_record(w->q, j->whole);
    for (int k = 0; k < s->chunks; k++) {
        s->chunk[k].freed = j->whole;
        chunk_unlock(s, k);
    }
    team_give_turn(s->team, w->rank);
}

void shared_lock(struct worker *w, struct shared *s) {
    struct ledger *l = &w->seat->ledger;
    come_near(w, s);
    double start = clock_seconds(), waited = team_waited(w->team, w->rank);
    pulse_begin_with(DOING_EXCHANGE, s->name, NULL);
    lock_all(w, s);
    double locked = clock_seconds();
    l->lock_wait += locked - start - (team_waited(w->team, w->rank) - waited);
    l->exchange -= locked; /* until unlock */
}

void shared_unlock(struct worker *w, struct shared *s) {
    unlock_all(w, s);
    pulse_end();
    w->seat->ledger.exchange += clock_seconds();
}

void shared_read(struct worker *w, struct shared *s, struct vec y) {
    vec_copy(w->q, y, s->v);
    w->seat->ledger.bytes += (double)(y.n * sizeof *y.at);
}

void shared_mix(struct worker *w, struct shared *s, float a, float b, struct vec x) {
    vec_mix(w->q, s->v, a, b, x);
    for (int k = 0; k < s->chunks; k++) s->chunk[k].version++;
    w->seat->ledger.bytes += (double)(x.n * sizeof *x.at) * (a != 0 ? 2 : 1);
}

double *shared_mass(struct shared *s) { return &s->mass; }

double shared_version(const struct shared *s) {
    double sum = 0;
    for (int k = 0; k < s->chunks; k++) sum += (double)s->chunk[k].version;
    return sum / s->chunks;
}

/* ---- chunk by chunk --------------------------------------------------------------------------- */

static void elastic_chunk(struct worker *w, struct shared *s, int k, float alpha, struct vec x) {
    size_t from = (size_t)k * CHUNK, left = s->v.n - from;
    struct range part = {from, left < CHUNK ? left : CHUNK};
    vec_elastic(w->q, vec_part(x, part), vec_part(s->v, part), alpha);
    s->chunk[k].version++;
}

static void elastic_done(struct worker *w, struct shared *s, int k) {
    const struct joined *j = &s->joined[w->rank];
    if (j->device) {
        stream_record(w->q, j->chunk[k]);
        s->chunk[k].freed = j->chunk[k];
    }
    chunk_unlock(s, k);
}

void shared_elastic(struct worker *w, struct shared *s, float alpha, struct vec x) {
    struct ledger *l = &w->seat->ledger;
    ASSERT(x.n == s->v.n);
    if (team_is_fixed(s->team)) {
        shared_lock(w, s);
        for (int k = 0; k < s->chunks; k++) elastic_chunk(w, s, k, alpha, x);
        shared_unlock(w, s);
    } else {
        come_near(w, s);
        double start = clock_seconds(), waited = l->lock_wait;
        int first = (int)((long)s->chunks * w->rank / w->size);
        pulse_begin_with(DOING_EXCHANGE, s->name, NULL);
        for (int i = 0; i < s->chunks; i++) {
            int k = (first + i) % s->chunks;
            l->lock_wait += chunk_lock(w, s, k);
            wait_freed(w, &s->chunk[k]);
            elastic_chunk(w, s, k, alpha, x);
            elastic_done(w, s, k);
        }
        pulse_end();
        l->exchange += clock_seconds() - start - (l->lock_wait - waited);
    }
    l->bytes += 2.0 * (double)(x.n * sizeof *x.at);
}
