#include "health.h"

#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "engine/run_inside.h"

/* ---- distances -------------------------------------------------------------------------------- */

enum { FROM_FIRST, OF_MEAN, FROM_ANSWER };

void first_replica(struct worker *w, struct vec to) {
    vec_fill(w->q, to, 0);
    if (w->rank == 0) vec_copy(w->q, to, w->x);
    team_sum(w, to);
}

/* With y_i = x_i - x_0, mean ||x_i - mean x||^2 is mean ||y_i||^2 - ||mean y||^2. The second is a
 * part of the first that grows no larger than the workers are many, so little is lost; and where
 * all replicas are equal nothing is left, not even of rounding. */
enum status health_measure(struct crew *c, struct vec answer, struct health *out) {
    struct worker *w = &c->seat.w;
    float *at = c->measured.at, squares[3];
    first_replica(w, w->g);
    vec_distance(w->q, at + FROM_FIRST, w->x, w->g);
    vec_diff(w->q, w->g, 1, w->x, w->g);
    team_mean(w, w->g);
    vec_square(w->q, at + OF_MEAN, w->g);
    vec_distance(w->q, at + FROM_ANSWER, w->x, answer);
    vec_fill(w->q, w->g, 0);
    stream_copy(w->q, squares, at, sizeof squares);
    TRY(stream_sync(w->q));
    double from_first = team_sum1(w, (double)squares[FROM_FIRST]) / w->size;
    double from_answer = team_sum1(w, (double)squares[FROM_ANSWER]) / w->size;
    double apart = from_first - (double)squares[OF_MEAN];
    out->consensus_distance = sqrt(apart < 0 ? 0 : apart); /* NaN stays */
    out->center_distance = sqrt(from_answer);
    return STATUS_OK;
}

/* ---- is the step too long? -------------------------------------------------------------------- */

static int descends(const struct optimizer_settings *o) {
    return o->kind == OPTIMIZER_SGD || o->kind == OPTIMIZER_MOMENTUM ||
           o->kind == OPTIMIZER_NESTEROV;
}

static double momentum_of(const struct optimizer_settings *o) {
    return o->kind == OPTIMIZER_SGD ? 0 : (double)o->momentum;
}

static struct curvature curvature_of(const struct run *run) {
    double assumed = (double)run->set.curvature, decay = (double)run->optimizer.decay;
    if (!(assumed > 0)) return (struct curvature){0, ""};
    if (!(run->task->curvature > 0)) {
        return (struct curvature){assumed, "which is what run.curvature assumes"};
    }
    return (struct curvature){run->task->curvature + decay,
        decay > 0 ? "the task's largest and optimizer.decay" : "the task's largest"};
}

static struct forecast forecast(const struct run *run, double eta, double h) {
    const struct strategy *s = run->strategy;
    if (s->ops->forecast) return s->ops->forecast(s, eta, run->set.workers, h);
    return (struct forecast){.step = eta};
}

double health_step(const struct run *run, float rate) {
    if (!descends(&run->optimizer)) return (double)NAN;
    double eta = (double)rate / (1 - momentum_of(&run->optimizer));
    return forecast(run, eta, curvature_of(run).h).step;
}

int health_warning(char *text, size_t n, const struct forecast *f, double eta, struct curvature c) {
    double value = eta, bound = 2 / c.h;
    const char *name = "the rate", *formula = "2 / h", *verdict = "is";
    if (!(c.h > 0)) return 0;
    if (f->name && f->value > f->bound) {
        value = f->value;
        bound = f->bound;
        name = f->name;
        formula = f->formula;
        verdict = f->rough ? "may be" : "is";
    }
    if (!(value > bound)) return 0;
    snprintf(text, n,
        "%s is %g, above %s = %g: that %s unstable where the loss has the curvature h = %g, %s",
        name, value, formula, bound, verdict, c.h, c.whence);
    return 1;
}

/* What is known is known of plain descent. */
void health_watch(struct run *run, float rate) {
    char words[512];
    struct curvature c = curvature_of(run);
    if (run->warned || !descends(&run->optimizer) || momentum_of(&run->optimizer) > 0) return;
    struct forecast f = forecast(run, (double)rate, c.h);
    run->warned = health_warning(words, sizeof words, &f, (double)rate, c);
    if (run->warned && !run->setup->quiet) log_warn("%s: %s", run->set.strategy, words);
}
