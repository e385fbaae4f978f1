/* collective.c -- the collectives of team.h: comm moves the bytes, the ledger keeps the time. */
#include "base/pulse.h"
#include "comm/comm.h"
#include "engine/seat.h"

static void sum_scaled(struct worker *w, struct vec v, float scale, struct ranks of) {
    struct ledger *l = &w->seat->ledger;
    double start = clock_seconds(), waited = team_waited(w->team, w->rank);
    pulse_begin(DOING_SUM);
    comm_sum(team_comm(w->team), w->rank, w->q, v, scale, of);
    pulse_end();
    l->exchange += clock_seconds() - start - (team_waited(w->team, w->rank) - waited);
    l->bytes += 2.0 * (of.count - 1) / of.count * (double)(v.n * sizeof *v.at);
}

void team_sum(struct worker *w, struct vec v) { sum_scaled(w, v, 1, (struct ranks){0, w->size}); }

void team_mean_of(struct worker *w, struct vec v, int first, int count) {
    sum_scaled(w, v, 1 / (float)count, (struct ranks){first, count});
}

void team_mean(struct worker *w, struct vec v) { team_mean_of(w, v, 0, w->size); }

void team_mix(struct worker *w, struct vec y, struct vec v, const float *weight) {
    struct ledger *l = &w->seat->ledger;
    double start = clock_seconds(), waited = team_waited(w->team, w->rank);
    pulse_begin(DOING_SUM);
    comm_mix(team_comm(w->team), w->rank, w->q, y, v, weight);
    pulse_end();
    l->exchange += clock_seconds() - start - (team_waited(w->team, w->rank) - waited);
    for (int r = 0; r < w->size; r++) {
        if (r != w->rank && weight[r] != 0) l->bytes += (double)(v.n * sizeof *v.at);
    }
}

void team_momentum(struct worker *w, enum momentum how, int first, int count) {
    const struct optimizer *o = &w->seat->optimizer;
    for (int i = 0; i < o->vecs && how != MOMENTUM_KEEP; i++) {
        if (!o->vec[i].state) continue;
        if (how == MOMENTUM_RESET) vec_fill(w->q, o->vec[i].v, 0);
        if (how == MOMENTUM_AVERAGE) team_mean_of(w, o->vec[i].v, first, count);
    }
}

double team_sum1(struct worker *w, double a) {
    pulse_begin(DOING_SUM);
    double sum = comm_sum1(team_comm(w->team), w->rank, w->q, a);
    pulse_end();
    return sum;
}
