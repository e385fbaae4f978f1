/* shared.c -- the shared vectors of team.h. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pulse.h"
#include "engine/seat.h"

/* What a worker's device needs to exchange chunks by copies: streams of its own for each direction,
 * so that both run at once, beside the kernels. */
struct staging {
    struct stream *in, *out;
    int slots; /* chunks of the worker that are on their way at a time */
    struct slot {
        float *at;                    /* (a chunk), the device's */
        struct event *loaded, *mixed; /* on in, on the worker's stream */
        struct event *stored;         /* on out: of the chunk that was here last; NULL: none was */
    } slot[DEPTH_MOST];
};

/* Where work is done at once, on the host, there are no events: the lock orders everything. */
struct shared {
    struct team *team;
    struct shared *next; /* of the team's */
    const char *name;
    int home;
    struct device *where; /* whose memory v is in; NULL: the host's */
    struct vec v;
    double mass;
    double busy;   /* virtual seconds until which whoever had it last is moving bytes; under lock */
    size_t length; /* floats of a chunk */
    int chunks;
    struct chunk {
        _Alignas(64) pthread_mutex_t lock;
        atomic_int holder;   /* the rank that has the lock, for the watchdog; -1: nobody */
        atomic_long version; /* changes; written under the lock, read by anybody */
        struct event
            *freed; /* what the next holder's stream waits for; NULL: nothing; under lock */
    } * chunk;
    struct joined {
        struct device *device;   /* NULL: work is done at once */
        struct event *whole;     /* lets go of the whole vector */
        struct event **chunk;    /* [chunks] lets go of one */
        struct staging *staging; /* NULL: kernels reach the vector where it is */
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
    s->length = team_chunk(team, from.n);
    int chunks = from.n ? (int)((from.n + s->length - 1) / s->length) : 1;
    s->chunk = aligned_alloc(64, (size_t)chunks * sizeof *s->chunk);
    if (!s->chunk) return fail(STATUS_FAILED, "no memory for shared vector %s", name);
    for (; s->chunks < chunks; s->chunks++) {
        pthread_mutex_init(&s->chunk[s->chunks].lock, NULL);
        atomic_init(&s->chunk[s->chunks].version, 0);
        s->chunk[s->chunks].freed = NULL;
        atomic_init(&s->chunk[s->chunks].holder, -1);
    }
    TRY(team_alloc(team, home, &s->where, (void **)&s->v.at, from.n * sizeof *from.at));
    s->v.n = from.n;
    team_add_shared(team, s);
    return shared_fill(s, from.at);
}

static enum status fill_device(struct stream *q, struct vec v, const float *from) {
    TRY(device_use(q->device));
    stream_copy(q, v.at, from, v.n * sizeof *from);
    return stream_sync(q);
}

enum status shared_fill(struct shared *s, const float *from) {
    struct stream *q;
    if (!s->where) {
        memcpy(s->v.at, from, s->v.n * sizeof *from);
        return STATUS_OK;
    }
    TRY(stream_open_for_copies(&q, s->where));
    enum status end = fill_device(q, s->v, from);
    stream_close(q);
    return end;
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

static enum status slot_open(struct slot *slot, struct device *d, size_t bytes) {
    TRY(device_alloc(d, (void **)&slot->at, bytes));
    TRY(event_open(&slot->loaded, d));
    return event_open(&slot->mixed, d);
}

static enum status staging_open(struct staging **out, struct device *d, const struct shared *s) {
    size_t n = s->v.n < s->length ? s->v.n : s->length;
    struct staging *g = calloc(1, sizeof *g);
    if (!g) return fail(STATUS_FAILED, "no memory for an exchange by copies");
    *out = g;
    g->slots = team_depth(s->team);
    if (g->slots > s->chunks) g->slots = s->chunks;
    TRY(stream_open_for_copies(&g->in, d));
    TRY(stream_open_for_copies(&g->out, d));
    for (int i = 0; i < g->slots; i++) TRY(slot_open(&g->slot[i], d, n * sizeof(float)));
    return STATUS_OK;
}

/* After a failure a worker's own stream may not have waited for these. What they say of it has been
 * told, and does not take the place of the words that the run ends with. */
static void staging_close(struct staging *g, struct device *d) {
    char told[512];
    if (!g) return;
    snprintf(told, sizeof told, "%s", fail_message());
    if (g->in) (void)stream_sync(g->in);
    if (g->out) (void)stream_sync(g->out);
    fail_remember("%s", told);
    for (int i = 0; i < g->slots; i++) {
        event_close(g->slot[i].loaded, d);
        event_close(g->slot[i].mixed, d);
    }
    stream_close(g->in);
    stream_close(g->out);
    free(g);
}

enum status shared_join(struct shared *s, int rank, struct device *d) {
    struct joined *j = &s->joined[rank];
    if (d->ops->host_memory) return STATUS_OK;
    j->chunk = calloc((size_t)s->chunks, sizeof(struct event *));
    if (!j->chunk) return fail(STATUS_FAILED, "no memory for the events of %s", s->name);
    j->device = d;
    for (int k = 0; k < s->chunks; k++) TRY(event_open(&j->chunk[k], d));
    if (!s->where && team_center(s->team) != CENTER_ZERO_COPY) {
        TRY(staging_open(&j->staging, d, s));
    }
    return event_open(&j->whole, d);
}

static void joined_close(struct joined *j, int chunks) {
    staging_close(j->staging, j->device);
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
    team_has(s->team, w->rank, s);
}

/* An emulated link holds the vector for as long as it takes. In virtual time the next holder must
 * not be let come before that time is known. */
static void emulate_link(struct worker *w, struct shared *s) {
    const struct emulation *e = w->seat->emulation;
    double bytes = w->seat->ledger.bytes - w->seat->bytes_at_lock, from = s->busy;
    if (!e) return;
    double seconds = emulation_message(e, w->rank, s->home, bytes);
    s->busy = fmax(from, team_seconds(w->team, w->rank)) + seconds;
    team_spend(w->team, w->rank, from, seconds);
}

static void unlock_all(struct worker *w, struct shared *s) {
    const struct joined *j = &s->joined[w->rank];
    emulate_link(w, s);
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
    double start = team_seconds(w->team, w->rank), waited = team_waited(w->team, w->rank);
    pulse_begin_with(DOING_EXCHANGE, s->name, NULL);
    lock_all(w, s);
    double locked = team_seconds(w->team, w->rank), since = team_waited(w->team, w->rank);
    l->lock_wait += locked - start - (since - waited);
    l->exchange -= locked - since; /* until unlock */
    w->seat->bytes_at_lock = l->bytes;
}

void shared_unlock(struct worker *w, struct shared *s) {
    unlock_all(w, s);
    pulse_end();
    w->seat->ledger.exchange += team_seconds(w->team, w->rank) - team_waited(w->team, w->rank);
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

/* What stands in chunk k. */
static struct range chunk_range(const struct shared *s, int k) {
    size_t from = (size_t)k * s->length, left = s->v.n - from;
    return (struct range){from, left < s->length ? left : s->length};
}

/* A chunk comes to the device while what came before it is computed with, and goes back while the
 * next comes. freed is its last holder's event, done this one's. */
static void stage_chunk(struct worker *w, struct staging *g, struct slot *slot, struct event *freed,
    struct event *done, struct vec center, float alpha, struct vec x) {
    size_t bytes = center.n * sizeof *center.at;
    if (freed) stream_wait(g->in, freed);
    if (slot->stored) stream_wait(g->in, slot->stored);
    stream_copy(g->in, slot->at, center.at, bytes);
    stream_record(g->in, slot->loaded);
    stream_wait(w->q, slot->loaded);
    vec_elastic(w->q, x, (struct vec){slot->at, center.n}, alpha);
    stream_record(w->q, slot->mixed);
    stream_wait(g->out, slot->mixed);
    stream_copy(g->out, center.at, slot->at, bytes);
    stream_record(g->out, done);
    slot->stored = done;
}

/* What comes next on the worker's stream finds the vector whole, to the last chunk, and what failed
 * failed there. */
static void end_staging(struct worker *w, struct staging *g, struct event *last) {
    stream_wait(w->q, last);
    if (g->in->failed != STATUS_OK) stream_fail(w->q, "%s", g->in->why);
    if (g->out->failed != STATUS_OK) stream_fail(w->q, "%s", g->out->why);
}

/* Lets go of chunk k; a staged one has gone back with that event already. */
static void elastic_done(struct worker *w, struct shared *s, int k, struct staging *g) {
    const struct joined *j = &s->joined[w->rank];
    if (j->device) {
        if (!g) stream_record(w->q, j->chunk[k]);
        s->chunk[k].freed = j->chunk[k];
    }
    chunk_unlock(s, k);
}

/* The i-th chunk that this worker comes to in one exchange; it has the lock. */
static void elastic_chunk(struct worker *w, struct shared *s, int i, int k, struct staging *g,
    float alpha, struct vec x) {
    struct range part = chunk_range(s, k);
    struct vec mine = vec_part(x, part), center = vec_part(s->v, part);
    if (g) {
        struct event *done = s->joined[w->rank].chunk[k];
        stage_chunk(w, g, &g->slot[i % g->slots], s->chunk[k].freed, done, center, alpha, mine);
    } else {
        vec_elastic(w->q, mine, center, alpha);
    }
}

/* One chunk locked at a time, each worker beginning at another. Adds up the versions of chunks, as
 * they are met, and returns the seconds waited for locks. */
static double elastic_free(struct worker *w, struct shared *s, struct staging *g, float alpha,
    struct vec x, int counts, double *versions) {
    int first = (int)((long)s->chunks * w->rank / w->size);
    double waited = 0;
    *versions = 0;
    for (int i = 0; i < s->chunks; i++) {
        int k = (first + i) % s->chunks;
        waited += chunk_lock(w, s, k);
        if (!g) wait_freed(w, &s->chunk[k]);
        elastic_chunk(w, s, i, k, g, alpha, x);
        *versions += (double)s->chunk[k].version;
        s->chunk[k].version += counts;
        elastic_done(w, s, k, g);
    }
    int last = (first + s->chunks - 1) % s->chunks;
    if (g) end_staging(w, g, s->joined[w->rank].chunk[last]);
    return waited;
}

static double elastic_whole(
    struct worker *w, struct shared *s, struct staging *g, float alpha, struct vec x) {
    shared_lock(w, s);
    double met = shared_version(s);
    for (int k = 0; k < s->chunks; k++) {
        elastic_chunk(w, s, k, k, g, alpha, x);
        s->chunk[k].version++;
    }
    if (g) end_staging(w, g, s->joined[w->rank].chunk[s->chunks - 1]);
    w->seat->ledger.bytes += 2.0 * (double)(x.n * sizeof *x.at);
    shared_unlock(w, s);
    return met;
}

double shared_elastic(struct worker *w, struct shared *s, float alpha, struct vec x) {
    struct ledger *l = &w->seat->ledger;
    int staged = team_center(s->team) == CENTER_STAGED;
    struct staging *g = staged ? s->joined[w->rank].staging : NULL;
    ASSERT(x.n == s->v.n);
    if (team_locks_whole(s->team)) return elastic_whole(w, s, g, alpha, x);
    come_near(w, s);
    double start = clock_seconds(), versions;
    pulse_begin_with(DOING_EXCHANGE, s->name, NULL);
    double waited = elastic_free(w, s, g, alpha, x, 1, &versions);
    pulse_end();
    l->lock_wait += waited;
    l->exchange += clock_seconds() - start - waited;
    l->bytes += 2.0 * (double)(x.n * sizeof *x.at);
    return versions / s->chunks;
}

/* ---- which way is faster ---------------------------------------------------------------------- */

enum { PASSES = 3 };

static enum status measure_one(struct worker *w, struct shared *s, int way, double *seconds) {
    struct staging *g = way == CENTER_STAGED ? s->joined[w->rank].staging : NULL;
    double start = 0, versions;
    for (int i = 0; i <= PASSES; i++) {
        (void)elastic_free(w, s, g, 0, w->x, 0, &versions);
        if (i > 0 && i < PASSES) continue;
        TRY(stream_sync(w->q));
        if (i == 0) start = clock_seconds(); /* the first pass finds nothing warm */
    }
    *seconds += clock_seconds() - start;
    return STATUS_OK;
}

enum status shared_measure(struct worker *w, int way, double *seconds) {
    *seconds = 0;
    for (struct shared *s = team_shared(w->team); s; s = s->next) {
        if (!s->joined[w->rank].staging || s->v.n != w->x.n) continue;
        pulse_begin_with(DOING_EXCHANGE, s->name, NULL);
        enum status end = measure_one(w, s, way, seconds);
        pulse_end();
        TRY(end);
    }
    return STATUS_OK;
}
