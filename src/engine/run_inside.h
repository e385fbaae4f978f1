/* run_inside.h -- a run's own parts, for the files of the engine that share them. */
#ifndef RUN_INSIDE_H
#define RUN_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/safetensors.h"
#include "engine/budget.h"
#include "engine/devices.h"
#include "engine/metrics.h"
#include "engine/record.h"
#include "engine/run.h"
#include "engine/seat.h"
#include "engine/watchdog.h"
#include "topology/topology.h"

/* One worker and what becomes of it. */
struct crew {
    struct run *run;
    struct seat seat;
    pthread_t thread;
    int started;
    enum status end;
    char why[512];                           /* fail_message of a worker that failed */
    struct vec judged_b;                     /* scratch: the buffers that are judged with it */
    struct vec shown;                        /* scratch: what is judged where that is one replica */
    struct vec measured;                     /* scratch: squares of distances */
    struct ledger spent;                     /* as it stood when all had gathered last */
    double waited;                           /* the same */
    double excluded_exchange, excluded_wait; /* of these, spent on evaluations */
    double center_seconds[2];                /* of exchanges, by enum center_way */
    int unseen;                              /* rounds since the stream was last waited for */
    long round_steps;                        /* of the round that ended last */
    double loss_sum, losses; /* training loss since the last evaluation, by samples */
    double first_loss;       /* of the first round that had any */
};

struct run {
    const struct run_setup *setup;
    struct run_settings set;
    struct optimizer_settings optimizer;
    struct machine *machine;
    struct devices devices;
    struct budget budget;
    struct place place[TEAM_MOST];
    int group[TEAM_MOST]; /* who sits together, for team_group */
    struct task *task;
    struct schedules schedules;
    struct emulate_settings emulate;
    struct emulation emulation;
    struct record *record, *replay; /* NULL: none */
    struct strategy *strategy;
    struct team *team;
    struct arena arena;
    struct vec x0;
    struct metrics metrics;
    struct crew crew[TEAM_MOST];
    struct pulse *pulse; /* of each; the watchdog reads what the workers write */
    struct watchdog watchdog;

    /* A sum that failed while no worker waited for it; the main thread's. */
    enum status comm_end;
    char comm_why[512];

    /* Told at each round's end, under the team's lock. */
    double samples;         /* drawn by all workers */
    double next_evaluation; /* in samples */
    double next_save;       /* the same */
    long steps;
    long ended;                /* rounds of all workers, in fixed order */
    atomic_long shown_samples; /* the same as samples, for the progress line */
    _Atomic double shown_loss; /* of whichever round ended last, likewise */

    /* The training clock; rank 0's while all have gathered. */
    double started, paused; /* clock_seconds at start; seconds spent on evaluations */
    int stop;               /* this was the last evaluation */
    int interrupted;        /* and it came because somebody asked */
    const char *over_by;    /* of a run that is over: epochs, steps, ..., record, diverged */
    double best;            /* accuracy so far, or minus the loss */
    int turn;               /* whose it was when all had gathered */
    int warned;             /* that a bound is crossed: once is enough */

    /* A run that goes on: the saved state, and the numbers in it; NULL otherwise. */
    struct safetensors state;
    const char *numbers;
    struct run_result result;
};

/* Whether team_locks_whole will be true, before there is a team. */
int run_locks_whole(const struct run *run);

/* Its records, its team, and its strategy with what workers share. */
enum status run_open_team(struct run *run, const struct strategy_ops *strategy);

/* A worker's place in the team; and its seat: all the memory that it takes, on the thread that will
 * use it. crew_close closes all seats, and the team and the strategy with them. */
void crew_place(struct run *run, int rank);
enum status crew_sit(struct run *run, struct crew *c);
void crew_close(struct run *run);

/* A worker's thread, from its seat to the run's end; arg is its struct crew. */
void *crew_work(void *arg);

/* At each round's end, under the team's lock: true when it is time to gather. */
int crew_round_ended(void *with, int rank, int met);

/* After all have gathered, on every worker: the answer is judged, rank 0 records and decides
 * whether to go on. */
enum status evaluate_answer(struct run *run, struct crew *c);

/* `to` <- x of rank 0, on all workers. */
void first_replica(struct worker *w, struct vec to);

/* The distances of out, the same on all workers, who all call while they have gathered; w->g ends
 * as it began the run, zeros. */
enum status health_measure(struct crew *c, struct vec answer, struct health *out);

/* The effective step of a rate; and, on rank 0 or before there are workers, a warning the first time
 * that it is too long. */
double health_step(const struct run *run, float rate);
void health_watch(struct run *run, float rate);

/* The result's samples, epochs and steps. */
void run_count(struct run *run);

/* The setting by which nothing is left to do for a run that has come to this; NULL: it goes on. */
const char *run_over_by(const struct run *run, const struct run_result *r);

/* The next round's progress counts from here, on the worker's own thread. */
void count_from_here(const struct run *run, struct seat *s);

/* Folder, config.ini, checkpoint, summary. Nothing of a run that goes on is touched before
 * folder_begin, when all workers have found their part of the state. */
enum status folder_open(struct run *run);
enum status folder_begin(struct run *run);
enum status folder_save(struct run *run, struct stream *q, struct vec answer, struct vec b);
enum status folder_finish(const struct run *run);

/* All settings as config.ini has them, malloc-ed; NULL: no memory. */
char *folder_config(const struct run *run);

#endif
