/* evaluate.c -- between rounds, with all workers gathered and the training clock stopped: what is
 * the answer worth, what did it cost, and is that enough? */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "engine/run_inside.h"

enum { JUDGE_ANSWER, JUDGE_REPLICA };
enum { BATCHNORM_RECOMPUTE, BATCHNORM_AVERAGE, BATCHNORM_LOCAL };

static struct vec answer(struct run *run, struct worker *w) {
    const struct strategy_ops *ops = run->strategy->ops;
    if (!ops->answer) return w->x;
    pulse_begin(DOING_ANSWER);
    struct vec x = ops->answer(run->strategy, w);
    pulse_end();
    return x;
}

/* The answer, or rank 0's own x for those who want to see what a single replica is worth; how far
 * all are from the answer in either case. */
static enum status look_at_all(
    struct run *run, struct crew *c, struct health *health, struct vec *shown) {
    struct worker *w = &c->seat.w;
    *shown = answer(run, w);
    TRY(health_measure(c, *shown, health));
    if (run->set.judge == JUDGE_REPLICA) {
        *shown = c->shown;
        first_replica(w, *shown);
    }
    return STATUS_OK;
}

/* c->judged_b <- the buffers that go with what is judged, the same on all. The workers' own stay as
 * they are. */
static enum status judge_buffers(struct run *run, struct crew *c, struct vec shown) {
    struct worker *w = &c->seat.w;
    struct learner *l = c->seat.learner;
    struct vec b = c->judged_b;
    double counted = 0;
    l->b = b;
    if (b.n == 0) return STATUS_OK;
    if (run->set.batchnorm == BATCHNORM_RECOMPUTE) {
        int samples = run->set.batchnorm_samples;
        TRY(l->task->ops->statistics(l, shown, samples, w->rank, w->size, &counted));
        team_sum(w, b);
        vec_mix(w->q, b, (float)(1 / team_sum1(w, counted)), 0, b);
    } else if (run->set.batchnorm == BATCHNORM_AVERAGE) {
        vec_copy(w->q, b, w->b);
        team_mean(w, b);
    } else {
        vec_fill(w->q, b, 0);
        if (w->rank == 0) vec_copy(w->q, b, w->b);
        team_sum(w, b);
    }
    return STATUS_OK;
}

static int by_worker(struct worker *w, struct score *s) {
    s->loss = team_sum1(w, s->loss);
    s->right = team_sum1(w, s->right);
    s->samples = team_sum1(w, s->samples);
    return !team_broken(w->team);
}

/* Differences of clocks are off by their rounding, and time is never below 0 for all that. */
static double time_left(double all, double spent) { return all > spent ? all - spent : 0; }

/* Rank 0 reads what the others wrote before they met: means over the workers. */
static void gather_costs(struct run *run, struct run_result *r) {
    double losses = 0;
    r->computing = r->exchanging = r->waiting = r->loading = r->bytes = r->train_loss = 0;
    for (int i = 0; i < run->set.workers; i++) {
        struct crew *c = &run->crew[i];
        r->exchanging += c->spent.exchange - c->excluded_exchange;
        r->waiting += c->spent.lock_wait + c->waited - c->excluded_wait;
        r->loading += c->spent.data;
        r->bytes += c->spent.bytes;
        r->train_loss += c->loss_sum;
        losses += c->losses;
        c->loss_sum = c->losses = 0;
    }
    r->train_loss /= losses;
    r->exchanging = time_left(r->exchanging / run->set.workers, 0);
    r->waiting = time_left(r->waiting / run->set.workers, 0);
    r->loading /= run->set.workers;
    r->computing = time_left(r->seconds, r->exchanging + r->waiting + r->loading);
}

static double add_note(double sum, double value, enum over_workers over) {
    return over == OVER_LEAST ? fmin(sum, value) : sum + value;
}

static int gather_notes(const struct run *run, struct note *notes) {
    const struct seat *first = &run->crew[0].seat;
    for (int k = 0; k < first->notes; k++) {
        notes[k] = first->note[k];
        for (int i = 1; i < run->set.workers; i++) {
            const struct seat *s = &run->crew[i].seat;
            for (int j = 0; j < s->notes; j++) {
                if (strcmp(s->note[j].name, notes[k].name) != 0) continue;
                notes[k].value = add_note(notes[k].value, s->note[j].value, s->over[j]);
            }
        }
        if (first->over[k] == OVER_MEAN) notes[k].value /= run->set.workers;
    }
    return first->notes;
}

/* Beside the distances, what rank 0 reads of the others and what it knows itself. */
static void gather_health(struct run *run, const struct health *distances, float rate) {
    struct health *h = &run->result.health;
    *h = *distances;
    h->effective_step = health_step(run, rate);
    for (int i = 0; i < run->set.workers; i++) {
        staleness_join(&h->staleness, &run->crew[i].seat.staleness);
    }
    health_watch(run, rate);
}

void run_count(struct run *run) {
    run->result.samples = run->samples;
    run->result.epochs = run->samples / run->task->epoch;
    run->result.steps = run->steps;
}

const char *run_over_by(const struct run *run, const struct run_result *r) {
    const struct run_settings *set = &run->set;
    double seconds = run->replay ? 0 : (double)set->seconds; /* a replay takes its own time */
    if (set->target > 0 && r->accuracy >= (double)set->target) return "target";
    if (set->epochs > 0 && r->epochs >= (double)set->epochs) return "epochs";
    if (set->steps > 0 && r->steps >= (long)set->steps * set->workers) return "steps";
    return seconds > 0 && r->seconds >= seconds ? "seconds" : NULL;
}

/* What the record does not have cannot be replayed. */
static int is_replayed(const struct run *run) {
    if (!run->replay || record_rounds_left(run->replay) > 0) return 0;
    log_info("the record %s ends here, and so does its replay", run->set.replay);
    return 1;
}

static enum status record(struct run *run, struct crew *c, const struct score *score,
    const struct health *distances, struct vec shown, double gathered) {
    struct run_result *r = &run->result;
    struct note notes[SEAT_NOTES];
    r->score = *score;
    r->accuracy = run->task->has_accuracy ? score->right / score->samples : (double)NAN;
    run_count(run);
    r->seconds = gathered - run->started - run->paused;
    r->rate = c->seat.now.rate;
    gather_costs(run, r);
    gather_health(run, distances, r->rate);
    if (!isfinite(score->loss)) {
        char words[32];
        return fail(STATUS_DIVERGED,
            "the run diverges, the loss is %s after %.2f epochs: a lower schedule.rate may help",
            text_number(words, sizeof words, score->loss / score->samples), r->epochs);
    }
    TRY(metrics_row(&run->metrics, r, c->seat.w.round, notes, gather_notes(run, notes)));
    double every = (double)run->set.eval_every * run->task->epoch;
    run->next_evaluation = (floor(run->samples / every) + 1) * every;
    run->over_by = run_over_by(run, r);
    if (!run->over_by && is_replayed(run)) run->over_by = "record";
    if (run->record) TRY(record_write(run->record));
    run->interrupted = !run->over_by && run->setup->interrupt && *run->setup->interrupt;
    run->stop = run->over_by || run->interrupted;
    return folder_save(run, c->seat.w.q, shown, c->judged_b);
}

/* The next round's progress counts from here. Nobody is past the next meeting, so the run's counts
 * stand still and all read the same. */
void count_from_here(const struct run *run, struct seat *s) {
    s->samples_at_gather = s->samples;
    s->all_at_gather = run->samples;
    s->steps_at_gather = s->w.steps;
    s->all_steps_at_gather = run->steps;
}

/* What the evaluation cost is not training. */
static void exclude_costs(struct crew *c) {
    struct seat *s = &c->seat;
    c->excluded_exchange += s->ledger.exchange - c->spent.exchange;
    c->excluded_wait += s->ledger.lock_wait - c->spent.lock_wait;
    c->excluded_wait += team_waited(s->w.team, s->w.rank) - c->waited;
    s->ledger.bytes = c->spent.bytes;
}

enum status evaluate_answer(struct run *run, struct crew *c) {
    struct worker *w = &c->seat.w;
    struct learner *l = c->seat.learner;
    double gathered = team_seconds(run->team, w->rank);
    c->seat.ledger.data = team_is_virtual(run->team) ? 0 : l->waited;
    c->spent = c->seat.ledger;
    c->waited = team_waited(w->team, w->rank);
    struct vec shown;
    struct health distances = {0};
    struct score score = {0};
    pulse_begin(DOING_JUDGE);
    TRY(look_at_all(run, c, &distances, &shown));
    TRY(judge_buffers(run, c, shown));
    TRY(l->task->ops->evaluate(l, shown, w->rank, w->size, &score));
    l->b = w->b;
    pulse_end();
    if (!by_worker(w, &score)) return STATUS_STOPPED;
    if (w->rank == 0) {
        pulse_begin(DOING_SAVE);
        TRY(record(run, c, &score, &distances, shown, gathered));
        pulse_end();
        run->paused += team_seconds(run->team, w->rank) - gathered;
    }
    count_from_here(run, &c->seat);
    team_sum1(w, 0); /* nobody goes on before rank 0 has decided */
    if (team_broken(w->team)) return STATUS_STOPPED;
    exclude_costs(c);
    return STATUS_OK;
}
