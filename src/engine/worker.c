/* worker.c -- what a worker does by itself: gradient, step, claims, notes, draws. */
#include <math.h>
#include <string.h>

#include "base/pulse.h"
#include "base/rng.h"
#include "engine/seat.h"

/* Since all gathered last, the others are assumed to have drawn as much as this worker: exact for
 * synchronous strategies, whose replicas so get the same rate, and the same in each fixed-order
 * run. */
static double epochs_now(const struct seat *s) {
    double mine = s->samples - s->samples_at_gather;
    return (s->all_at_gather + mine * s->w.size) / s->learner->task->epoch;
}

double team_epochs(const struct worker *w) { return epochs_now(w->seat); }

float worker_rate(const struct worker *w) {
    struct progress progress = {.epochs = epochs_now(w->seat)};
    return schedules_plan(w->seat->schedules, &progress).rate;
}

/* The numbers that change from step to step, to where the kernels read them. */
static void set_step(struct seat *s) {
    struct learner *l = s->learner;
    learner_ring(l, SEAT_STEPS);
    struct step *sent = &s->steps[l->taken % SEAT_STEPS];
    s->now.rate = worker_rate(&s->w);
    s->now.number = (uint32_t)s->w.steps;
    l->now = *sent = s->now;
    stream_copy(s->w.q, s->step, sent, sizeof *sent);
}

static struct range enqueue_grad(void *with) {
    struct seat *s = with;
    struct worker *w = &s->w;
    struct vec point = optimizer_point(&s->optimizer, w->q, w->x);
    struct range r = s->learner->task->ops->grad(s->learner, point, w->g, s->step);
    optimizer_decay(&s->optimizer, w->q, w->g, point, r);
    return r;
}

static struct range enqueue_step(void *with) {
    struct seat *s = with;
    optimizer_step(&s->optimizer, s->w.q, s->w.x, s->w.g, s->range, s->step);
    return s->range;
}

static struct range enqueue_descent(void *with) {
    struct seat *s = with;
    return s->learner->task->ops->descend(s->learner, s->w.x, s->step);
}

/* A gradient with its batch: by `call`, which is one of those above, or by its recording. */
static void take_gradient(
    struct seat *s, enum recorded_call which, struct range (*call)(void *with)) {
    struct learner *l = s->learner;
    set_step(s);
    struct recording_key key = {which, l->task->ops->feed(l), {0, 0}};
    s->range = recorder_run(&s->recorder, key, call, s);
    l->taken++;
    s->samples += l->task->batch;
}

/* ---- what an emulated machine makes of it ------------------------------------------------------ */

/* Virtual: the clock goes on before the work is done, so that others whose clocks are behind may
 * have their events meanwhile. Real: when did it begin? */
static double work_begins(struct seat *s, int is_gradient) {
    const struct emulation *e = s->emulation;
    if (!e) return 0;
    if (!e->is_virtual) return e->slow[s->w.rank] > 1 ? clock_seconds() : 0;
    if (is_gradient) team_spend(s->w.team, s->w.rank, 0, e->compute * e->slow[s->w.rank]);
    return 0;
}

static void work_ends(struct seat *s, double start) {
    if (!(start > 0)) return;
    learner_wait(s->learner);
    double longer = s->emulation->slow[s->w.rank] - 1;
    team_spend(s->w.team, s->w.rank, 0, longer * (clock_seconds() - start));
}

static void step_ends(struct seat *s) {
    struct worker *w = &s->w;
    w->steps++;
    pulse_count(w->steps, w->round);
    if (!s->emulation || s->emulation->freezes == 0) return;
    team_spend(w->team, w->rank, 0, emulation_freeze(s->emulation, w->rank, w->steps));
}

enum status seat_read_losses(struct seat *s) {
    double loss, samples = s->samples - s->samples_read;
    TRY(s->learner->task->ops->loss(s->learner, &loss));
    s->samples_read = s->samples;
    if (samples > 0) s->read += loss * samples;
    s->read_of += samples;
    return STATUS_OK;
}

/* ---- local work -------------------------------------------------------------------------------- */

struct range worker_grad(struct worker *w) {
    struct seat *s = w->seat;
    if (team_broken(w->team)) return s->range;
    double start = work_begins(s, 1);
    pulse_begin(DOING_GRADIENT);
    take_gradient(s, RECORD_GRAD, enqueue_grad);
    work_ends(s, start);
    pulse_end();
    return s->range;
}

void worker_step(struct worker *w) {
    struct seat *s = w->seat;
    if (team_broken(w->team)) return;
    double start = work_begins(s, 0);
    pulse_begin(DOING_STEP);
    recorder_run(&s->recorder, (struct recording_key){RECORD_STEP, 0, s->range}, enqueue_step, s);
    work_ends(s, start);
    step_ends(s);
    pulse_end();
}

void worker_descend(struct worker *w) {
    struct seat *s = w->seat;
    const struct task *task = s->learner->task;
    if (!task->ops->descend || !optimizer_is_plain(&s->optimizer)) {
        worker_grad(w);
        worker_step(w);
        return;
    }
    if (team_broken(w->team)) return;
    double start = work_begins(s, 1);
    pulse_begin(DOING_STEP);
    take_gradient(s, RECORD_DESCEND, enqueue_descent);
    work_ends(s, start);
    step_ends(s);
    pulse_end();
}

enum status worker_vec(
    struct worker *w, const char *name, struct vec *v, size_t n, enum vec_kind kind) {
    struct seat *s = w->seat;
    ASSERT(s->claims < SEAT_VECS);
    for (int i = 0; i < s->claims; i++) ASSERT(strcmp(s->claim[i].name, name) != 0);
    v->n = n;
    TRY(device_alloc(s->device, (void **)&v->at, n * sizeof *v->at));
    s->claim[s->claims++] = (struct claim){name, kind, *v};
    return STATUS_OK;
}

void worker_note(struct worker *w, const char *name, double value, enum over_workers over) {
    struct seat *s = w->seat;
    int i = 0;
    while (i < s->notes && strcmp(s->note[i].name, name) != 0) i++;
    ASSERT(i < SEAT_NOTES);
    if (i == s->notes) s->notes++;
    s->note[i] = (struct note){name, value};
    s->over[i] = over;
}

/* Versions are means over chunks: a difference that is whole but for rounding is whole. */
void worker_staleness(struct worker *w, double value) {
    double whole = rint(value);
    staleness_add(&w->seat->staleness, fabs(value - whole) < 1e-6 ? whole : value);
}

uint32_t worker_draw(struct worker *w, uint32_t below) {
    struct rng_key key = {team_seed(w->team), RNG_STRATEGY, (uint32_t)w->rank};
    return rng_below(rng_word(key, w->seat->draws++), below);
}

int worker_chance(struct worker *w, float p) {
    return (float)worker_draw(w, 1u << 24) < p * (float)(1u << 24);
}
