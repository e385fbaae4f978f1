/* collective.c -- the collectives of team.h: comm moves the bytes, the ledger keeps the time. */
#include "base/pulse.h"
#include "comm/comm.h"
#include "engine/seat.h"

/* Begins an exchange; what is returned goes to its end. */
static double exchange_begins(struct worker *w) {
    pulse_begin(DOING_SUM);
    return team_seconds(w->team, w->rank) - team_waited(w->team, w->rank);
}

/* An emulated machine needs `seconds` for it beside what it took. */
static void exchange_ends(struct worker *w, double start, double seconds) {
    if (w->seat->emulation) team_spend(w->team, w->rank, 0, seconds);
    pulse_end();
    double now = team_seconds(w->team, w->rank) - team_waited(w->team, w->rank);
    w->seat->ledger.exchange += now - start;
}

static void sum_scaled(struct worker *w, struct vec v, float scale, struct ranks of) {
    const struct emulation *e = w->seat->emulation;
    double start = exchange_begins(w), bytes = (double)(v.n * sizeof *v.at);
    comm_sum(team_comm(w->team), w->rank, w->q, v, scale, of);
    exchange_ends(w, start, e ? emulation_ring(e, of.first, of.count, bytes) : 0);
    w->seat->ledger.bytes += 2.0 * (of.count - 1) / of.count * bytes;
}

void team_sum(struct worker *w, struct vec v) { sum_scaled(w, v, 1, (struct ranks){0, w->size}); }

void team_mean_of(struct worker *w, struct vec v, int first, int count) {
    sum_scaled(w, v, 1 / (float)count, (struct ranks){first, count});
}

void team_mean(struct worker *w, struct vec v) { team_mean_of(w, v, 0, w->size); }

/* The others' vectors come one after another. */
void team_mix(struct worker *w, struct vec y, struct vec v, const float *weight) {
    const struct emulation *e = w->seat->emulation;
    double start = exchange_begins(w), bytes = (double)(v.n * sizeof *v.at), seconds = 0;
    comm_mix(team_comm(w->team), w->rank, w->q, y, v, weight);
    for (int r = 0; r < w->size; r++) {
        if (r == w->rank || weight[r] == 0) continue;
        w->seat->ledger.bytes += bytes;
        if (e) seconds += emulation_message(e, w->rank, r, bytes);
    }
    exchange_ends(w, start, seconds);
}

void team_momentum(struct worker *w, enum momentum how, int first, int count) {
    const struct optimizer *o = &w->seat->optimizer;
    for (int i = 0; i < o->vecs && how != MOMENTUM_KEEP; i++) {
        if (!o->vec[i].state) continue;
        if (how == MOMENTUM_RESET) vec_fill(w->q, o->vec[i].v, 0);
        if (how == MOMENTUM_AVERAGE) team_mean_of(w, o->vec[i].v, first, count);
    }
}

double team_losses(struct worker *w, double *count) {
    const struct learner *l = w->seat->learner;
    if (seat_read_losses(w->seat) != STATUS_OK) stream_fail(w->q, "%s", fail_message());
    *count = team_sum1(w, l->losses);
    return team_sum1(w, l->loss_sum / l->task->batch);
}

double team_sum1(struct worker *w, double a) {
    pulse_begin(DOING_SUM);
    double sum = comm_sum1(team_comm(w->team), w->rank, w->q, a);
    pulse_end();
    return sum;
}
