/* crew.c -- one worker of a run, on its thread: takes its seat, trains round by round, stops. */
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "devices/openmp.h"
#include "engine/run_inside.h"
#include "engine/state.h"
#include "topology/pci.h"

/* Before anything is touched: memory belongs to the node of whoever writes first. */
static void settle_down(struct run *run, const struct crew *c) {
    const struct place *place = &run->place[c->seat.w.rank];
    log_name("worker %d", c->seat.w.rank);
    if (run->set.bind && topology_bind(run->machine, place) != STATUS_OK) {
        log_warn("%s; going on unbound", fail_message());
    }
    openmp_settle(place->threads);
}

/* What a model has beside its parameters; most have nothing. */
static enum status claim_buffers(struct run *run, struct crew *c) {
    struct worker *w = &c->seat.w;
    size_t n = run->task->buffers;
    if (n == 0) return STATUS_OK;
    TRY(worker_vec(w, "b", &w->b, n, STATE));
    TRY(worker_vec(w, "judged_b", &c->judged_b, n, SCRATCH));
    stream_copy(w->q, w->b.at, run->x0.at + run->x0.n, n * sizeof(float));
    c->seat.learner->b = w->b;
    return STATUS_OK;
}

static enum status claim_vectors(struct run *run, struct crew *c) {
    struct seat *s = &c->seat;
    struct worker *w = &s->w;
    size_t n = run->task->floats;
    TRY(worker_vec(w, "x", &w->x, n, STATE));
    TRY(worker_vec(w, "g", &w->g, n, SCRATCH));
    if (run->set.judge) TRY(worker_vec(w, "shown", &c->shown, n, SCRATCH));
    TRY(worker_vec(w, "measured", &c->measured, 3, SCRATCH));
    TRY(device_alloc(s->device, (void **)&s->step, sizeof *s->step));
    TRY(device_pinned(s->device, (void **)&s->steps, SEAT_STEPS * sizeof *s->steps));
    TRY(optimizer_open(&s->optimizer, run->optimizer, s->device, n));
    for (int i = 0; i < s->optimizer.vecs; i++) {
        const struct optimizer_vec *v = &s->optimizer.vec[i];
        s->claim[s->claims++] = (struct claim){v->name, v->state ? STATE : SCRATCH, v->v};
    }
    stream_copy(w->q, w->x.at, run->x0.at, n * sizeof(float));
    TRY(claim_buffers(run, c));
    return stream_sync(w->q);
}

/* What a device copies from and to is best on its own NUMA node, wherever the thread is bound. */
static void take_memory_near(const struct run *run, const struct device *d) {
    int node = *d->bus ? pci_node(pci_folder, d->bus) : -1;
    if (run->set.bind && node >= 0) topology_take_from(run->machine, node);
}

void crew_place(struct run *run, int rank) {
    struct crew *c = &run->crew[rank];
    c->run = run;
    c->seat.schedules = &run->schedules;
    c->seat.emulation = run->emulation.is_on ? &run->emulation : NULL;
    c->seat.w = (struct worker){
        .team = run->team, .rank = rank, .size = run->set.workers, .seat = &c->seat};
}

/* Bits depend on it: what the run says of itself holds for each worker. */
static enum status check_convolution(const struct run *run, const struct stream *q) {
    char words[160];
    if (run->set.cudnn != CUDNN_ON || stream_convolves(q, words) || !*words) return STATUS_OK;
    return fail(STATUS_DEVICE,
        "run.cudnn = 1, and there is none: convolutions by %s; say 0 or auto", words);
}

enum status crew_sit(struct run *run, struct crew *c) {
    struct seat *s = &c->seat;
    struct worker *w = &s->w;
    const struct strategy_ops *ops = run->strategy->ops;
    int number = run->devices.number[run->devices.of[w->rank]];
    TRY(device_open(&s->device, run->devices.ops, number, run->place[w->rank].threads));
    take_memory_near(run, s->device);
    s->device->tf32 = run->set.tf32;
    s->device->cudnn = run_wants_cudnn(&run->set);
    TRY(stream_open(&w->q, s->device));
    recorder_open(&s->recorder, w->q, run->set.graph);
    if (!run->devices.ops->host_memory) TRY(event_open(&s->passed, s->device));
    TRY(team_join(run->team, w->rank, w->q));
    TRY(run->task->ops->learner_open(
        run->task, &s->learner, w->rank, w->q, state_drawn(run, w->rank)));
    TRY(check_convolution(run, w->q));
    s->learner->passed = s->passed;
    TRY(claim_vectors(run, c));
    if (ops->local_size) {
        w->mine = calloc(1, ops->local_size);
        if (!w->mine) return fail(STATUS_FAILED, "no memory for worker %d", w->rank);
    }
    return ops->join ? ops->join(run->strategy, w) : STATUS_OK;
}

static enum status take_seat(struct run *run, struct crew *c) {
    settle_down(run, c);
    TRY(crew_sit(run, c));
    return run->numbers ? state_restore(run, c) : STATUS_OK;
}

void crew_close(struct run *run) {
    for (int r = 0; r < TEAM_MOST; r++) {
        struct seat *s = &run->crew[r].seat;
        if (s->learner) run->task->ops->learner_close(s->learner);
        free(s->w.mine);
    }
    if (run->strategy && run->strategy->ops->close) run->strategy->ops->close(run->strategy);
    free(run->strategy);
    team_close(run->team);
    for (int r = 0; r < TEAM_MOST; r++) {
        struct seat *s = &run->crew[r].seat;
        recorder_close(&s->recorder);
        event_close(s->passed, s->device);
        stream_close(s->w.q);
        device_close(s->device);
    }
}

/* A loss this many times the first (or 1, if that was less) does not come back. */
static const double EXPLODED = 1e6;

/* Waits for the stream: has all gone well, and what is the mean training loss since the last look?
 * Training on from one that is lost is no use. */
static enum status look(struct run *run, struct crew *c) {
    struct seat *s = &c->seat;
    TRY(seat_read_losses(s));
    double samples = s->read_of, loss = s->read / samples;
    c->unseen = 0;
    if (!(samples > 0)) return STATUS_OK;
    c->loss_sum += s->read;
    c->losses += samples;
    s->read = s->read_of = 0;
    atomic_store_explicit(&run->shown_loss, loss, memory_order_relaxed);
    if (!(c->first_loss > 0)) c->first_loss = loss;
    if (loss <= EXPLODED * fmax(c->first_loss, 1)) return STATUS_OK; /* false for NaN */
    char words[32];
    return fail(STATUS_DIVERGED,
        "the run diverges, its training loss is %s after %ld steps: a lower schedule.rate may help",
        text_number(words, sizeof words, loss), s->w.steps);
}

/* Looking at each round costs nothing where work is done at once. Elsewhere it would let the device
 * run dry: there the host runs ahead of it for some rounds. */
static int is_time_to_look(const struct run *run, struct crew *c) {
    return ++c->unseen >= run->set.ahead || run->devices.ops->host_memory;
}

/* Both ways are tried by all workers at once: they share the bus. */
static enum status measure_center(struct run *run, struct crew *c) {
    const struct worker *w = &c->seat.w;
    if (run->set.center != CENTER_AUTO || run->devices.ops->host_memory) return STATUS_OK;
    for (int way = 0; way < 2; way++) {
        if (!team_meet(run->team, w->rank)) return STATUS_STOPPED;
        enum status end = shared_measure(&c->seat.w, way, &c->center_seconds[way]);
        team_part(run->team, w->rank);
        TRY(end);
    }
    return STATUS_OK;
}

/* Rank 0, when all have measured. Where no vector can be exchanged both ways there is no choice. */
static void choose_center(struct run *run) {
    double seconds[2] = {0, 0};
    for (int r = 0; r < run->set.workers; r++) {
        for (int way = 0; way < 2; way++) seconds[way] += run->crew[r].center_seconds[way];
    }
    if (!(seconds[CENTER_ZERO_COPY] > 0)) return;
    int staged = seconds[CENTER_STAGED] < seconds[CENTER_ZERO_COPY];
    run->set.center = staged ? CENTER_STAGED : CENTER_ZERO_COPY;
    team_set_center(run->team, run->set.center);
    if (run->setup->quiet) return;
    log_info("center = %s: exchanges by kernels took %.3g ms a worker, by copies %.3g ms",
        staged ? "staged" : "zero_copy", 1e3 * seconds[CENTER_ZERO_COPY] / run->set.workers,
        1e3 * seconds[CENTER_STAGED] / run->set.workers);
}

static double now(const struct run *run, int rank) { return team_seconds(run->team, rank); }

/* What came before the training clock started is no part of what training cost. */
static void exclude_start(struct crew *c, const struct ledger *before) {
    const struct worker *w = &c->seat.w;
    c->seat.ledger = *before;
    c->excluded_wait += team_waited(w->team, w->rank);
}

static enum status train(struct run *run, struct crew *c) {
    struct worker *w = &c->seat.w;
    const struct ledger before = c->seat.ledger;
    pulse_begin(DOING_PLAN);
    c->seat.samples_read = c->seat.samples;
    count_from_here(run, &c->seat);
    TRY(measure_center(run, c));
    if (!team_meet(run->team, w->rank)) return STATUS_STOPPED;
    pulse_begin(DOING_SAVE);
    if (w->rank == 0) choose_center(run);
    enum status begun = w->rank == 0 ? folder_begin(run) : STATUS_OK;
    pulse_end();
    if (w->rank == 0) run->started = now(run, 0) - run->result.seconds;
    team_part(run->team, w->rank);
    exclude_start(c, &before);
    TRY(begun);
    while (!run->stop) {
        team_start_round(run->team, w->rank);
        pulse_begin(DOING_ROUND);
        long steps = w->steps;
        TRY(run->strategy->ops->round(run->strategy, w));
        pulse_end();
        if (team_broken(run->team)) return STATUS_STOPPED;
        if (is_time_to_look(run, c)) TRY(look(run, c));
        c->round_steps = w->steps - steps;
        w->round++;
        pulse_count(w->steps, w->round);
        if (team_end_round(run->team, w->rank)) {
            TRY(look(run, c));
            TRY(evaluate_answer(run, c));
        }
        if (team_broken(run->team)) return STATUS_STOPPED;
    }
    TRY(stream_sync(w->q));
    if (run->setup->finished) run->setup->finished(run->setup->with, w);
    return STATUS_OK;
}

void *crew_work(void *arg) {
    struct crew *c = arg;
    struct run *run = c->run;
    pulse_attach(&run->pulse[c->seat.w.rank]);
    c->end = take_seat(run, c);
    if (c->seat.device && *c->seat.device->bus) topology_take_from(run->machine, -1);
    if (c->end == STATUS_OK) c->end = train(run, c);
    if (c->end != STATUS_OK) {
        snprintf(c->why, sizeof c->why, "%s", fail_message());
        if (c->end != STATUS_STOPPED) team_break(run->team, c->seat.w.rank);
    }
    /* Nothing may be closed while a stream has work to do on it; how that ends does not matter. */
    if (c->seat.w.q) (void)stream_sync(c->seat.w.q);
    team_leave(run->team, c->seat.w.rank);
    pulse_stop();
    return NULL;
}

/* What has been done so far, as far as it decides when to gather. Workers that meet do the same
 * rounds: what one did, all do by the end of it, and whoever comes first stops all at this round. */
struct tally {
    double samples, steps;
};

static struct tally take_tally(const struct run *run, const struct seat *s, int met) {
    if (!met) return (struct tally){run->samples, (double)run->steps};
    double since = (s->samples - s->samples_at_gather) * run->set.workers;
    double steps = (double)(s->w.steps - s->steps_at_gather) * run->set.workers;
    return (struct tally){s->all_at_gather + since, (double)s->all_steps_at_gather + steps};
}

static int is_interrupted(const struct run *run) {
    return run->setup->interrupt && *run->setup->interrupt;
}

/* Is it time to gather? In fixed order nobody
 * begins a round before all have ended theirs: asking when the last one does stops all at the same
 * round, and no gathering, asked for or not, changes who meets whom when. */
int crew_round_ended(void *with, int rank, int met) {
    struct run *run = with;
    struct seat *s = &run->crew[rank].seat;
    const struct run_settings *set = &run->set;
    run->samples += s->samples - s->samples_told;
    run->steps += s->w.steps - s->steps_told;
    s->samples_told = s->samples;
    s->steps_told = s->w.steps;
    atomic_store_explicit(&run->shown_samples, (long)run->samples, memory_order_relaxed);
    if (set->order == ORDER_FIXED && ++run->ended % set->workers != 0) return 0;
    struct tally done = take_tally(run, s, met);
    return is_interrupted(run) || done.samples >= run->next_evaluation ||
           (set->epochs > 0 && done.samples >= (double)set->epochs * run->task->epoch) ||
           (set->steps > 0 && done.steps >= (double)set->steps * set->workers) ||
           (set->seconds > 0 &&
               now(run, rank) - run->started - run->paused >= (double)set->seconds);
}
