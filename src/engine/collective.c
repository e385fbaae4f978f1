/* collective.c -- the collectives of team.h: comm moves the bytes, the ledger keeps the time. */
#include "base/pulse.h"
#include "comm/comm.h"
#include "engine/seat.h"

static void sum_scaled(struct worker *w, struct vec v, float scale) {
    struct ledger *l = &w->seat->ledger;
    double start = clock_seconds(), waited = team_waited(w->team, w->rank);
    pulse_begin(DOING_SUM);
    comm_sum(team_comm(w->team), w->rank, w->q, v, scale);
    pulse_end();
    l->exchange += clock_seconds() - start - (team_waited(w->team, w->rank) - waited);
    l->bytes += 2.0 * (w->size - 1) / w->size * (double)(v.n * sizeof *v.at);
}

void team_sum(struct worker *w, struct vec v) { sum_scaled(w, v, 1); }

void team_mean(struct worker *w, struct vec v) { sum_scaled(w, v, 1 / (float)w->size); }

double team_sum1(struct worker *w, double a) {
    pulse_begin(DOING_SUM);
    double sum = comm_sum1(team_comm(w->team), w->rank, w->q, a);
    pulse_end();
    return sum;
}
