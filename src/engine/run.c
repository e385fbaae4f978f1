#include "run.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "devices/openmp.h"
#include "engine/run_inside.h"
#include "engine/state.h"

const struct option run_options[] = {
    {"name", OPTION_TEXT, offsetof(struct run_settings, name), 0, 0, 64,
        "its folder; \"\": the strategy and a number", ""},
    {"folder", OPTION_TEXT, offsetof(struct run_settings, folder), 0, 0, 256, "where runs are kept",
        "runs"},
    {"task", OPTION_TEXT, offsetof(struct run_settings, task), 0, 0, 32,
        "where gradients come from: classify or quadratic", "classify"},
    {"strategy", OPTION_TEXT, offsetof(struct run_settings, strategy), 0, 0, 32,
        "who learns from whom; `huddle help strategies`", "easgd"},
    {"devices", OPTION_TEXT, offsetof(struct run_settings, devices), 0, 0, 64,
        "where workers compute: host", "host"},
    {"workers", OPTION_INT, offsetof(struct run_settings, workers), 4, 1, TEAM_MOST,
        "replicas that learn side by side", NULL},
    {"seed", OPTION_INT, offsetof(struct run_settings, seed), 1, 0, 2147483647,
        "names every random number of the run", NULL},
    {"order", OPTION_CHOICE, offsetof(struct run_settings, order), ORDER_FREE, 0, 1,
        "free|fixed: workers meet as they come, or in one order that gives the same bits again",
        NULL},
    {"max_lag", OPTION_INT, offsetof(struct run_settings, max_lag), 4, 0, 1e9,
        "rounds that the fastest may be ahead; 0: any number", NULL},
    {"epochs", OPTION_REAL, offsetof(struct run_settings, epochs), 40, 0, 1e9,
        "stop after; an epoch is samples drawn by all over the set's size; 0: no limit", NULL},
    {"steps", OPTION_INT, offsetof(struct run_settings, steps), 0, 0, 2e9,
        "stop after so many steps, mean over the workers; 0: no limit", NULL},
    {"seconds", OPTION_REAL, offsetof(struct run_settings, seconds), 0, 0, 1e9,
        "stop after so many seconds of training; 0: no limit", NULL},
    {"target", OPTION_REAL, offsetof(struct run_settings, target), 0, 0, 1,
        "stop at this accuracy; 0: no limit", NULL},
    {"eval_every", OPTION_REAL, offsetof(struct run_settings, eval_every), 5, 1e-6, 1e9,
        "epochs from evaluation to evaluation", NULL},
    {"save_every", OPTION_REAL, offsetof(struct run_settings, save_every), 0, 0, 1e9,
        "epochs from saved state to saved state, at the evaluation that follows; 0: each", NULL},
    {"keep", OPTION_INT, offsetof(struct run_settings, keep), 2, 1, 1000, "saved states to keep",
        NULL},
    {"judge", OPTION_CHOICE, offsetof(struct run_settings, judge), 0, 0, 1,
        "answer|replica: evaluate the strategy's answer, or the first worker's own replica", NULL},
    {"batchnorm", OPTION_CHOICE, offsetof(struct run_settings, batchnorm), 0, 0, 2,
        "recompute|average|local: what is judged has statistics of its own, taken anew; the mean "
        "of "
        "the workers'; or the first worker's",
        NULL},
    {"batchnorm_samples", OPTION_INT, offsetof(struct run_settings, batchnorm_samples), 2048, 1,
        1e9, "recompute: training samples that they are taken of, by all workers", NULL},
    {0},
};

const struct option topology_options[] = {
    {"threads", OPTION_INT, offsetof(struct run_settings, threads), 0, 0, 1024,
        "cores for each worker; 0: as many as there are for all", NULL},
    {"bind", OPTION_INT, offsetof(struct run_settings, bind), 1, 0, 1,
        "1 binds workers to cores, 0 leaves them to the system", NULL},
    {0},
};

const struct option optimizer_options[] = {
    {"kind", OPTION_CHOICE, offsetof(struct optimizer_settings, kind), OPTIMIZER_SGD, 0, 4,
        "sgd|momentum|nesterov|rmsprop|adam: Nesterov's takes the gradient at x + momentum v",
        NULL},
    {"momentum", OPTION_REAL, offsetof(struct optimizer_settings, momentum), 0.9, 0, 1,
        "delta, of momentum and nesterov", NULL},
    {"decay", OPTION_REAL, offsetof(struct optimizer_settings, decay), 0, 0, 1e3,
        "lambda: weight decay, lambda x added to the gradient", NULL},
    {"rho", OPTION_REAL, offsetof(struct optimizer_settings, rho), 0.99, 0, 0.999999,
        "of rmsprop: how much of the mean square is kept at each step", NULL},
    {"beta1", OPTION_REAL, offsetof(struct optimizer_settings, beta1), 0.9, 0, 0.999999,
        "of adam: how much of the mean gradient is kept at each step", NULL},
    {"beta2", OPTION_REAL, offsetof(struct optimizer_settings, beta2), 0.999, 0, 0.999999,
        "of adam: how much of the mean square is kept at each step", NULL},
    {"epsilon", OPTION_REAL, offsetof(struct optimizer_settings, epsilon), 1e-8, 1e-20, 1e3,
        "of rmsprop and adam: keeps the divisor from 0", NULL},
    {"epsilon_form", OPTION_CHOICE, offsetof(struct optimizer_settings, epsilon_form),
        EPSILON_OUTSIDE, 0, 1,
        "outside|inside: rmsprop and adam divide by sqrt(s) + epsilon, or by sqrt(s + epsilon)",
        NULL},
    {0},
};

/* ---- a worker --------------------------------------------------------------------------------- */

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
    TRY(device_alloc(s->device, (void **)&s->step, sizeof *s->step));
    TRY(optimizer_open(&s->optimizer, run->optimizer, s->device, n));
    for (int i = 0; i < s->optimizer.vecs; i++) {
        const struct optimizer_vec *v = &s->optimizer.vec[i];
        s->claim[s->claims++] = (struct claim){v->name, v->state ? STATE : SCRATCH, v->v};
    }
    stream_copy(w->q, w->x.at, run->x0.at, n * sizeof(float));
    TRY(claim_buffers(run, c));
    return stream_sync(w->q);
}

static enum status take_seat(struct run *run, struct crew *c) {
    struct seat *s = &c->seat;
    struct worker *w = &s->w;
    const struct strategy_ops *ops = run->strategy->ops;
    settle_down(run, c);
    TRY(device_open(&s->device, &device_host, 0, run->place[w->rank].threads));
    TRY(stream_open(&w->q, s->device));
    TRY(run->task->ops->learner_open(
        run->task, &s->learner, w->rank, w->q, state_drawn(run, w->rank)));
    TRY(claim_vectors(run, c));
    if (ops->local_size) {
        w->mine = calloc(1, ops->local_size);
        if (!w->mine) return fail(STATUS_FAILED, "no memory for worker %d", w->rank);
    }
    if (ops->join) TRY(ops->join(run->strategy, w));
    if (run->numbers) TRY(state_restore(run, c));
    return STATUS_OK;
}

/* A loss this many times the first (or 1, if that was less) does not come back. */
static const double EXPLODED = 1e6;

/* The mean training loss of the round; training on from one that is lost is no use. */
static enum status watch_loss(struct run *run, struct crew *c, double before) {
    struct seat *s = &c->seat;
    double loss = s->learner->task->ops->loss(s->learner), samples = s->samples - before;
    if (!(samples > 0)) return STATUS_OK;
    c->loss_sum += loss * samples;
    c->losses += samples;
    atomic_store_explicit(&run->shown_loss, loss, memory_order_relaxed);
    if (!(c->first_loss > 0)) c->first_loss = loss;
    if (loss <= EXPLODED * fmax(c->first_loss, 1)) return STATUS_OK; /* false for NaN */
    return fail(STATUS_DIVERGED,
        "the run diverges, its training loss is %g after %ld steps: a lower schedule.rate may help",
        loss, s->w.steps);
}

static enum status train(struct run *run, struct crew *c) {
    struct worker *w = &c->seat.w;
    count_from_here(run, &c->seat);
    if (!team_meet(run->team, w->rank)) return STATUS_STOPPED;
    enum status begun = w->rank == 0 ? folder_begin(run) : STATUS_OK;
    if (w->rank == 0) run->started = clock_seconds() - run->result.seconds;
    team_part(run->team, w->rank);
    TRY(begun);
    while (!run->stop) {
        double before = c->seat.samples;
        team_start_round(run->team, w->rank);
        TRY(run->strategy->ops->round(run->strategy, w));
        TRY(stream_sync(w->q));
        if (team_broken(run->team)) return STATUS_STOPPED;
        TRY(watch_loss(run, c, before));
        w->round++;
        if (team_end_round(run->team, w->rank)) TRY(evaluate_answer(run, c));
        if (team_broken(run->team)) return STATUS_STOPPED;
    }
    if (run->setup->finished) run->setup->finished(run->setup->with, w);
    return STATUS_OK;
}

static void *work(void *arg) {
    struct crew *c = arg;
    struct run *run = c->run;
    c->end = take_seat(run, c);
    if (c->end == STATUS_OK) c->end = train(run, c);
    if (c->end != STATUS_OK) {
        snprintf(c->why, sizeof c->why, "%s", fail_message());
        if (c->end != STATUS_STOPPED) team_break(run->team, c->seat.w.rank);
    }
    team_leave(run->team, c->seat.w.rank);
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

/* At each round's end, under the team's lock: is it time to gather? In fixed order nobody
 * begins a round before all have ended theirs: asking when the last one does stops all at the same
 * round, and no gathering, asked for or not, changes who meets whom when. */
static int round_ended(void *with, int rank, int met) {
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
               clock_seconds() - run->started - run->paused >= (double)set->seconds);
}

/* ---- the run ---------------------------------------------------------------------------------- */

static enum status check_settings(const struct run_settings *set) {
    if (strcmp(set->devices, "host") != 0) {
        return fail(STATUS_BAD_CONFIG,
            "run.devices = %s: this huddle computes on the host only, run.devices=host",
            set->devices);
    }
    if (set->epochs > 0 || set->steps > 0 || set->seconds > 0 || set->target > 0) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG,
        "nothing ends this run: set run.epochs, run.steps, run.seconds or run.target");
}

static enum status find_task(const struct run *run, const struct task_ops **out) {
    const struct task_ops *const *list = run->setup->tasks;
    const char *nearest = list[0]->name, *name = run->set.task;
    *out = task_find(list, name);
    for (; *list; list++) {
        if (text_distance((*list)->name, name) < text_distance(nearest, name)) {
            nearest = (*list)->name;
        }
    }
    if (*out) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG, "there is no task \"%s\"; did you mean \"%s\"?", name, nearest);
}

static enum status find_strategy(const struct run *run, const struct strategy_ops **out) {
    const struct strategy_ops *const *list = run->setup->strategies;
    const char *nearest = list[0]->name, *name = run->set.strategy;
    for (*out = NULL; *list; list++) {
        if (!strcmp((*list)->name, name)) *out = *list;
        if (text_distance((*list)->name, name) < text_distance(nearest, name)) {
            nearest = (*list)->name;
        }
    }
    if (*out) return STATUS_OK;
    return fail(
        STATUS_BAD_CONFIG, "there is no strategy \"%s\"; did you mean \"%s\"?", name, nearest);
}

static enum status open_task(struct run *run, const struct task_ops *kind) {
    int busy = 0;
    for (int r = 0; r < run->set.workers; r++) busy += run->place[r].threads;
    struct task_setup setup = {
        .seed = (uint32_t)run->set.seed,
        .workers = run->set.workers,
        .spare_threads = run->machine->cores > busy ? run->machine->cores - busy : 0,
        .settings = run->setup->settings,
    };
    TRY(task_open(&run->task, kind, &setup));
    run->x0.n = run->task->floats;
    run->x0.at = arena_take(&run->arena, (run->x0.n + run->task->buffers) * sizeof *run->x0.at);
    if (!run->x0.at) return fail(STATUS_FAILED, "no memory for %zu parameters", run->x0.n);
    run->task->ops->init(run->task, run->x0.at);
    return STATUS_OK;
}

static enum status open_strategy(struct run *run, const struct strategy_ops *ops) {
    run->strategy = calloc(1, ops->size);
    if (!run->strategy) return fail(STATUS_FAILED, "no memory for strategy %s", ops->name);
    run->strategy->ops = ops;
    TRY(settings_apply(run->setup->settings, ops->name, ops->options, run->strategy));
    return ops->open ? ops->open(run->strategy, run->team, run->x0) : STATUS_OK;
}

static enum status open_team(struct run *run) {
    int crowded = run->set.workers > run->machine->cores;
    struct team_settings set = {
        .size = run->set.workers,
        .order = run->set.order,
        .max_lag = run->set.max_lag,
        .spin = crowded ? 0 : 2000,
        .seed = (uint32_t)run->set.seed,
        .machine = run->machine,
        .places = run->place,
        .round_ended = round_ended,
        .with = run,
    };
    return team_open(&run->team, &set);
}

static enum status run_open(struct run *run) {
    const struct settings *user = run->setup->settings;
    const struct task_ops *task;
    const struct strategy_ops *strategy;
    TRY(settings_apply(user, "run", run_options, &run->set));
    TRY(settings_apply(user, "topology", topology_options, &run->set));
    TRY(settings_apply(user, "optimizer", optimizer_options, &run->optimizer));
    TRY(check_settings(&run->set));
    TRY(find_task(run, &task));
    TRY(find_strategy(run, &strategy));
    TRY(topology_open(&run->machine, NULL));
    TRY(plan_places(run->machine, run->set.workers, run->set.threads, run->place));
    TRY(schedules_open(&run->schedules, user, run->setup->schedules));
    TRY(open_task(run, task));
    TRY(open_team(run));
    TRY(open_strategy(run, strategy));
    run->next_evaluation = (double)run->set.eval_every * run->task->epoch;
    run->best = -DBL_MAX;
    run->metrics.quiet = run->setup->quiet;
    return run->setup->quiet && !*run->set.name ? STATUS_OK : folder_open(run);
}

static void say_what(const struct run *run) {
    char machine[128], task[512] = "";
    topology_describe(run->machine, machine, sizeof machine);
    if (run->task->ops->describe) run->task->ops->describe(run->task, task, sizeof task);
    log_info("%s", task);
    log_info("%s, %d workers of %d thread%s on %s, %s order, max_lag %d", run->set.strategy,
        run->set.workers, run->place[0].threads, run->place[0].threads == 1 ? "" : "s", machine,
        run->set.order == ORDER_FIXED ? "fixed" : "free", run->set.max_lag);
    log_info("files: %s", run->result.path);
}

static enum status start_workers(struct run *run) {
    for (int r = 0; r < run->set.workers; r++) {
        struct crew *c = &run->crew[r];
        c->run = run;
        c->seat.schedules = &run->schedules;
        c->seat.w = (struct worker){
            .team = run->team, .rank = r, .size = run->set.workers, .seat = &c->seat};
        c->started = pthread_create(&c->thread, NULL, work, c) == 0;
        if (c->started) continue;
        team_break(run->team, r);
        return fail(STATUS_FAILED, "cannot start a thread for worker %d", r);
    }
    return STATUS_OK;
}

static void show_progress(const struct run *run, double seconds) {
    double samples = (double)atomic_load_explicit(&run->shown_samples, memory_order_relaxed);
    double loss = atomic_load_explicit(&run->shown_loss, memory_order_relaxed);
    char goal[32] = "";
    if (run->set.epochs > 0) snprintf(goal, sizeof goal, " of %g", (double)run->set.epochs);
    log_progress("%s  epoch %.2f%s  loss %.4g  %.0f samples/s", run->set.strategy,
        samples / run->task->epoch, goal, loss, samples / seconds);
}

/* Waits for the workers, with a sign of life on a terminal. */
static void join_workers(struct run *run) {
    double start = clock_seconds();
    for (int r = 0; r < run->set.workers && run->crew[r].started; r++) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        do {
            if (!run->setup->quiet) show_progress(run, clock_seconds() - start);
            until.tv_nsec += 200000000;
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
        } while (pthread_timedjoin_np(run->crew[r].thread, NULL, &until) != 0);
    }
    log_progress("%s", "");
}

/* The run ends as the worker that failed first did, in its words. */
static enum status verdict(const struct run *run) {
    int culprit = team_culprit(run->team);
    if (culprit < 0) return STATUS_OK;
    const struct crew *c = &run->crew[culprit];
    return fail(c->end, "worker %d: %s", culprit, c->why);
}

static void run_close(struct run *run) {
    for (int r = 0; r < TEAM_MOST; r++) {
        struct seat *s = &run->crew[r].seat;
        if (s->learner) run->task->ops->learner_close(s->learner);
        stream_close(s->w.q);
        device_close(s->device);
        free(s->w.mine);
    }
    if (run->strategy && run->strategy->ops->close) run->strategy->ops->close(run->strategy);
    free(run->strategy);
    safetensors_close(&run->state);
    team_close(run->team);
    task_close(run->task);
    schedules_close(&run->schedules);
    topology_close(run->machine);
    arena_close(&run->arena);
}

/* The state of a run that goes on is its end already. */
static int was_finished(struct run *run) {
    struct run_result *r = &run->result;
    if (!run->setup->resume) return 0;
    r->samples = run->samples;
    r->epochs = run->samples / run->task->epoch;
    r->steps = run->steps;
    r->accuracy = run->best;
    return run_is_over(run, r);
}

static enum status run_go(struct run *run) {
    TRY(run_open(run));
    if (was_finished(run)) {
        log_info("%s is finished; a larger run.epochs goes on", run->result.path);
        return STATUS_OK;
    }
    if (!run->setup->quiet) say_what(run);
    enum status started = start_workers(run);
    join_workers(run);
    TRY(started);
    TRY(verdict(run));
    TRY(metrics_close(&run->metrics));
    TRY(folder_finish(run));
    if (run->interrupted) {
        return fail(
            STATUS_INTERRUPTED, "stopped early; `huddle resume %s` goes on", run->result.path);
    }
    if (!run->setup->quiet) metrics_table(&run->result, run->set.strategy, run->set.workers);
    return STATUS_OK;
}

enum status run_train(const struct run_setup *setup, struct run_result *out) {
    struct run *run = calloc(1, sizeof *run);
    if (!run) return fail(STATUS_FAILED, "no memory for a run");
    run->setup = setup;
    enum status end = run_go(run);
    if (run->metrics.file) metrics_close(&run->metrics);
    if (out) *out = run->result;
    run_close(run);
    free(run);
    return end;
}
