#include "run.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "comm/comm.h"
#include "engine/run_inside.h"
#include "engine/state.h"

static enum status check_settings(const struct run_settings *set) {
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

static enum status read_strategy(struct run *run, const struct strategy_ops *ops) {
    if (ops->workers_most && run->set.workers > ops->workers_most) {
        return fail(STATUS_BAD_CONFIG,
            "strategy %s is for %d worker%s, not for %d: set run.workers=%d", ops->name,
            ops->workers_most, ops->workers_most == 1 ? "" : "s", run->set.workers,
            ops->workers_most);
    }
    run->strategy = calloc(1, ops->size);
    if (!run->strategy) return fail(STATUS_FAILED, "no memory for strategy %s", ops->name);
    run->strategy->ops = ops;
    return settings_apply(run->setup->settings, ops->name, ops->options, run->strategy);
}

/* Orders that exclude one another, and what a run that goes on cannot do. */
static enum status check_order(const struct run *run) {
    const struct run_settings *set = &run->set;
    const char *what = *set->replay                ? "run.replay"
                       : *set->record              ? "run.record"
                       : run->emulation.is_virtual ? "emulate.time=virtual"
                                                   : NULL;
    if (what && set->order == ORDER_FIXED) {
        return fail(STATUS_BAD_CONFIG,
            "%s is for run.order=free: in fixed order all meet in the same order anyway", what);
    }
    if (*set->replay && run->emulation.is_virtual) {
        return fail(STATUS_BAD_CONFIG,
            "a replay meets in its record's order, not by virtual time: leave out "
            "emulate.time=virtual");
    }
    if (!run->setup->resume || (!*set->replay && !*set->record)) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG,
        "a run that goes on can be neither recorded nor replayed, a record begins with the run: "
        "say %s= to go on without",
        what);
}

/* Who measures what is faster, or sums in as many meetings as its devices like best, meets otherwise
 * than the next run may: a record is for any number of devices. */
static void choose_ways(struct run_settings *set) {
    if (!*set->record && !*set->replay) return;
    if (set->comm == COMM_AUTO) set->comm = COMM_HOST;
    if (set->center == CENTER_AUTO) set->center = CENTER_ZERO_COPY;
}

/* Who sits together decides who meets whom: a replay's workers sit as its record's did. */
static enum status choose_groups(struct run *run) {
    devices_group(&run->devices, run->place, run->set.workers, run->group);
    if (!*run->set.replay) return STATUS_OK;
    TRY(record_read(&run->replay, run->set.replay));
    return record_groups(run->replay, run->set.workers, run->group);
}

/* What decides the bits beside the settings stands behind them in the record. */
static char *record_config(const struct run *run) {
    char *all = NULL, *config = folder_config(run), groups[4 * TEAM_MOST];
    size_t at = 0;
    for (int r = 0; r < run->set.workers; r++) {
        at += (size_t)snprintf(groups + at, sizeof groups - at, " %d", run->group[r]);
    }
    if (config && asprintf(&all, "%s[compute]\nkind = %s\nthreads = %d\ngroup =%s\n", config,
                      run->devices.ops->kind, run->place[0].threads, groups) < 0) {
        all = NULL;
    }
    free(config);
    return all;
}

/* The record to follow has been read whole before one of the same name is begun. */
static enum status open_records(struct run *run) {
    const struct run_settings *set = &run->set;
    if (!*set->replay && !*set->record) return STATUS_OK;
    char *config = record_config(run);
    enum status end = config ? STATUS_OK : fail(STATUS_FAILED, "no memory for the settings");
    if (end == STATUS_OK && run->replay) end = record_check(run->replay, config);
    if (end == STATUS_OK && *set->record) end = record_create(&run->record, set->record, config);
    free(config);
    return end;
}

static int order_of(const struct run *run) {
    if (run->replay) return ORDER_REPLAY;
    return run->emulation.is_virtual ? ORDER_VIRTUAL : run->set.order;
}

int run_locks_whole(const struct run *run) {
    const struct run_settings *set = &run->set;
    return set->order == ORDER_FIXED || *set->record || *set->replay || run->emulation.is_virtual ||
           run->emulation.has_links;
}

static enum status open_team(struct run *run) {
    int number[TEAM_MOST];
    for (int r = 0; r < run->set.workers; r++) {
        number[r] = run->devices.number[run->devices.of[r]];
    }
    int crowded = run->set.workers > run->machine->cores;
    struct team_settings set = {
        .size = run->set.workers,
        .order = order_of(run),
        .max_lag = run->set.max_lag,
        .spin = crowded ? 0 : 2000,
        .seed = (uint32_t)run->set.seed,
        .kind = run->devices.ops,
        .number = number,
        .center = run->set.center,
        .comm = run->set.comm,
        .machine = run->machine,
        .places = run->place,
        .group = run->group,
        .record = run->record,
        .replay = run->replay,
        .whole = run->emulation.has_links,
        .round_ended = crew_round_ended,
        .with = run,
    };
    TRY(team_open(&run->team, &set));
    run->set.comm = (int)team_comm(run->team)->kind;
    return STATUS_OK;
}

enum status run_open_team(struct run *run, const struct strategy_ops *strategy) {
    TRY(read_strategy(run, strategy));
    TRY(open_records(run));
    TRY(open_team(run));
    return strategy->open ? strategy->open(run->strategy, run->team, run->x0) : STATUS_OK;
}

/* A run that goes on in free order was not promised the same bits. */
static enum status choose_convolution(struct run *run) {
    const char *words = run->budget.convolution;
    int *set = &run->set.cudnn, is_there = run->budget.cudnn;
    if (!*words) return STATUS_OK;
    if (*set == CUDNN_AUTO) *set = is_there ? CUDNN_ON : CUDNN_OFF;
    if (*set == CUDNN_OFF || is_there) return STATUS_OK;
    if (!run->setup->resume || run->set.order == ORDER_FIXED) {
        return fail(STATUS_DEVICE,
            "run.cudnn = 1, and there is none: convolutions by %s; say 0 or auto", words);
    }
    log_warn("this run convolved by cuDNN; from here on convolutions by %s", words);
    *set = CUDNN_OFF;
    return STATUS_OK;
}

static enum status run_open(struct run *run) {
    const struct settings *user = run->setup->settings;
    const struct task_ops *task;
    const struct strategy_ops *strategy;
    TRY(settings_apply(user, "run", run_options, &run->set));
    TRY(settings_apply(user, "topology", topology_options, &run->set));
    TRY(settings_apply(user, "optimizer", optimizer_options, &run->optimizer));
    TRY(settings_apply(user, "emulate", emulate_options, &run->emulate));
    TRY(emulation_open(&run->emulation, &run->emulate, run->set.workers));
    TRY(check_settings(&run->set));
    TRY(check_order(run));
    choose_ways(&run->set);
    TRY(find_task(run, &task));
    TRY(find_strategy(run, &strategy));
    if (!settings_has(user, "optimizer", "kind")) run->optimizer.kind = (int)strategy->optimizer;
    TRY(devices_choose(&run->devices, run->setup->devices, run->set.devices, run->set.workers));
    devices_write(&run->devices, run->set.devices, sizeof run->set.devices);
    TRY(topology_open(&run->machine, NULL));
    TRY(plan_places(run->machine, run->set.workers, run->set.threads, run->place));
    TRY(choose_groups(run));
    TRY(schedules_open(&run->schedules, user, run->setup->schedules));
    TRY(open_task(run, task));
    TRY(budget_plan(&run->budget, run, strategy));
    TRY(choose_convolution(run));
    run->result.device_bytes = (double)budget_total(&run->budget);
    run->result.pinned_bytes = (double)run->budget.pinned;
    TRY(run_open_team(run, strategy));
    run->pulse = arena_take(&run->arena, (size_t)run->set.workers * sizeof *run->pulse);
    if (!run->pulse) return fail(STATUS_FAILED, "no memory for %d workers", run->set.workers);
    run->next_evaluation = (double)run->set.eval_every * run->task->epoch;
    run->best = -DBL_MAX;
    run->metrics.quiet = run->setup->quiet;
    return run->setup->quiet && !*run->set.name ? STATUS_OK : folder_open(run);
}

/* What the user set of strategies and schedules that this run does not have. Of a run that goes on,
 * config.ini is no word of the user's. */
static void tell_unused(const struct run *run) {
    const struct run_setup *setup = run->setup;
    char list[512] = "";
    for (int i = 0; setup->strategies[i]; i++) {
        if (setup->strategies[i] == run->strategy->ops) continue;
        settings_list(
            setup->settings, setup->strategies[i]->name, setup->resume, list, sizeof list);
    }
    if (*list) log_warn("nothing reads %s: run.strategy is %s", list, run->set.strategy);
    *list = '\0';
    for (int i = 0; setup->schedules[i]; i++) {
        if (schedules_have(&run->schedules, setup->schedules[i])) continue;
        settings_list(setup->settings, setup->schedules[i]->name, setup->resume, list, sizeof list);
    }
    if (*list) log_warn("nothing reads %s: schedule.use is \"%s\"", list, run->schedules.use);
}

static const char *const order_words[] = {
    [ORDER_FREE] = "free",
    [ORDER_FIXED] = "fixed",
    [ORDER_REPLAY] = "a record's",
    [ORDER_VIRTUAL] = "virtual time's",
};

static void say_what(const struct run *run) {
    char machine[128], who[640], task[512] = "";
    if (run->devices.ops->host_memory) {
        topology_describe(run->machine, machine, sizeof machine);
        snprintf(who, sizeof who, "%d worker%s of %d thread%s on %s", run->set.workers,
            run->set.workers == 1 ? "" : "s", run->place[0].threads,
            run->place[0].threads == 1 ? "" : "s", machine);
    } else {
        devices_describe(&run->devices, run->set.workers, who, sizeof who);
    }
    if (*run->devices.instead) log_info("computing on the host: %s", run->devices.instead);
    if (run->task->ops->describe) run->task->ops->describe(run->task, task, sizeof task);
    log_info("%s", task);
    log_info("%s, %s, %s order, max_lag %d", run->set.strategy, who, order_words[order_of(run)],
        run->set.max_lag);
    log_info("%s", team_comm(run->team)->why);
    if (*run->budget.convolution) log_info("convolutions by %s", run->budget.convolution);
    const struct strategy_ops *ops = run->strategy->ops;
    if (ops->describe) {
        ops->describe(run->strategy, run->team, task, sizeof task);
        log_info("%s: %s", ops->name, task);
    }
    log_info("files: %s", run->result.path);
}

static enum status start_workers(struct run *run) {
    for (int r = 0; r < run->set.workers; r++) {
        struct crew *c = &run->crew[r];
        crew_place(run, r);
        c->started = pthread_create(&c->thread, NULL, crew_work, c) == 0;
        if (c->started) continue;
        team_break(run->team, r);
        for (int k = r; k < run->set.workers; k++) run->pulse[k].doing = DOING_ENDED;
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

/* A sum between devices may fail while all workers are busy with something else. */
static void watch_comm(struct run *run) {
    if (run->comm_end != STATUS_OK) return;
    run->comm_end = comm_check(team_comm(run->team));
    if (run->comm_end == STATUS_OK) return;
    snprintf(run->comm_why, sizeof run->comm_why, "%s", fail_message());
    team_break(run->team, -1);
}

/* Waits for the workers, with a sign of life on a terminal and an eye on theirs. */
static void join_workers(struct run *run) {
    double start = clock_seconds();
    watchdog_start(&run->watchdog, (double)run->set.watchdog, start);
    for (int r = 0; r < run->set.workers && run->crew[r].started; r++) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        do {
            if (!run->setup->quiet) show_progress(run, clock_seconds() - start);
            watch_workers(run);
            watch_comm(run);
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
    if (culprit < 0 && run->comm_end != STATUS_OK) return fail(run->comm_end, "%s", run->comm_why);
    if (culprit < 0) return STATUS_OK;
    if (*team_apart(run->team)) {
        return fail(STATUS_VERIFY, "%s: %s", run->set.replay, team_apart(run->team));
    }
    const struct crew *c = &run->crew[culprit];
    return fail(c->end, "worker %d: %s", culprit, c->why);
}

static void run_close(struct run *run) {
    crew_close(run);
    safetensors_close(&run->state);
    record_close(run->record);
    record_close(run->replay);
    budget_close(&run->budget);
    task_close(run->task);
    schedules_close(&run->schedules);
    topology_close(run->machine);
    arena_close(&run->arena);
}

/* More than a quarter beyond what was asked for, which a long round makes of a short run. */
static void tell_overshoot(const struct run *run) {
    const struct run_settings *set = &run->set;
    const struct run_result *r = &run->result;
    double steps = (double)r->steps / set->workers, epochs = (double)set->epochs;
    int by_epochs = epochs > 0 && r->epochs > 1.25 * epochs;
    int by_steps = set->steps > 0 && steps > 1.25 * set->steps;
    if (!by_epochs && !by_steps) return;
    log_warn(
        "asked for run.%s = %g, made %.6g: a run ends between rounds, and the last round of %s "
        "was %ld step%s of each worker",
        by_epochs ? "epochs" : "steps", by_epochs ? epochs : set->steps,
        by_epochs ? r->epochs : steps, set->strategy, run->crew[0].round_steps,
        run->crew[0].round_steps == 1 ? "" : "s");
}

/* The state of a run that goes on is its end already. */
static int was_finished(struct run *run) {
    if (!run->setup->resume) return 0;
    run_count(run);
    run->result.accuracy = run->best;
    return run_over_by(run, &run->result) != NULL;
}

/* That it diverged is a result too; and what is told, whatever becomes of this file. */
static void finish_diverged(struct run *run) {
    run->over_by = "diverged";
    run_count(run);
    run->result.accuracy = run->result.score.loss = (double)NAN;
    folder_finish(run);
}

static enum status run_go(struct run *run) {
    TRY(run_open(run));
    if (was_finished(run)) {
        log_info("%s is finished; a larger run.epochs goes on", run->result.path);
        return STATUS_OK;
    }
    if (!run->setup->quiet) say_what(run);
    if (!run->setup->quiet) tell_unused(run);
    struct progress now = {.epochs = run->samples / run->task->epoch};
    health_watch(run, schedules_plan(&run->schedules, &now).rate);
    enum status started = start_workers(run);
    join_workers(run);
    TRY(started);
    if (verdict(run) == STATUS_DIVERGED) finish_diverged(run);
    TRY(verdict(run));
    if (run->record) TRY(record_finish(run->record));
    TRY(metrics_close(&run->metrics));
    TRY(folder_finish(run));
    if (run->interrupted) {
        return fail(
            STATUS_INTERRUPTED, "stopped early; `huddle resume %s` goes on", run->result.path);
    }
    if (!run->setup->quiet) tell_overshoot(run);
    if (!run->setup->quiet) metrics_table(&run->result, run->set.strategy, run->set.workers);
    return STATUS_OK;
}

enum status run_train(const struct run_setup *setup, struct run_result *out) {
    struct run *run = calloc(1, sizeof *run);
    if (!run) return fail(STATUS_FAILED, "no memory for a run");
    run->setup = setup;
    enum status end = run_go(run);
    /* After a failure, which is what is told, and not what becomes of this file. */
    if (run->metrics.file) fclose(run->metrics.file);
    if (out) *out = run->result;
    run_close(run);
    free(run);
    return end;
}
