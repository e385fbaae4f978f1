/* runs.h -- whole runs for the tests: settings in words, and what every worker had in the end.
 *
 * Everything goes through run_train. The strategies in the list are the real ones behind a spy
 * that looks at a round's end and at what is to be judged; it computes nothing. One run at a time.
 */
#ifndef RUNS_H
#define RUNS_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "commands/commands.h"
#include "devices/device.h"
#include "engine/run.h"
#include "engine/team_waits.h"
#include "simulation.h"
#include "strategies/strategies.h"

/* Who wants to look while a run goes on. Host memory; on the worker's own thread. */
struct watch {
    /* Optional. Before each round. */
    void (*begins)(void *with, const struct worker *w);

    /* Optional. After each round; with the strategy's answer where `answers` is set, which is for
     * workers that all go through the same rounds: an answer may take collectives. */
    void (*rounded)(void *with, const struct worker *w, struct vec answer);
    int answers;

    /* Optional. At each evaluation, while all have gathered. */
    void (*judged)(void *with, const struct worker *w, struct vec answer);
    void *with;

    const struct task_ops *const *tasks; /* instead of the real ones; NULL: those */
    const struct strategy_ops *strategy; /* beside the real ones; NULL: none */
};

/* What a run leaves. */
struct seen {
    enum status end;
    char why[512];
    struct run_result result;
    int size;
    size_t n;
    float *x[TEAM_MOST];      /* the replicas */
    float *answer[TEAM_MOST]; /* what was judged last, as each worker had it */
    long rounds[TEAM_MOST], steps[TEAM_MOST];
    const struct watch *watch;
};

/* What the next run is told beside its words. */
static const struct device_ops *const *runs_devices = devices;
static const char *runs_text = ""; /* ini lines, for values with blanks */
static int runs_resume;

enum { RUNS_MOST = 64 };
static struct seen *runs_seen;
static struct strategy_ops runs_spy[RUNS_MOST];
static const struct strategy_ops *runs_real[RUNS_MOST];

/* to <- v, which may be a device's memory: who looks at a vector takes it by this. */
static inline void runs_fetch(struct stream *q, float *to, struct vec v) {
    stream_copy(q, to, v.at, v.n * sizeof *to);
    if (stream_sync(q) != STATUS_OK) stream_fail(q, "%s", fail_message());
}

static inline float *runs_copy(struct stream *q, float *old, struct vec v) {
    float *to = realloc(old, (v.n ? v.n : 1) * sizeof *to);
    if (!to) abort();
    runs_fetch(q, to, v);
    return to;
}

/* Whoever looks at a vector waits for it first. */
static inline struct vec runs_answer(struct strategy *s, struct worker *w) {
    const struct strategy_ops *real = runs_real[s->ops - runs_spy];
    struct vec v = real->answer ? real->answer(s, w) : w->x;
    if (stream_sync(w->q) != STATUS_OK) stream_fail(w->q, "%s", fail_message());
    return v;
}

static inline struct vec runs_judged(struct strategy *s, struct worker *w) {
    struct vec v = runs_answer(s, w);
    const struct watch *watch = runs_seen->watch;
    if (watch && watch->judged) {
        (void)team_sum1(w, 0); /* the others have waited for theirs too */
        watch->judged(watch->with, w, v);
    }
    runs_seen->answer[w->rank] = runs_copy(w->q, runs_seen->answer[w->rank], v);
    return v;
}

static inline enum status runs_round(struct strategy *s, struct worker *w) {
    const struct watch *watch = runs_seen->watch;
    if (watch && watch->begins) watch->begins(watch->with, w);
    TRY(runs_real[s->ops - runs_spy]->round(s, w));
    if (watch && watch->rounded) {
        struct vec none = {NULL, 0};
        watch->rounded(watch->with, w, watch->answers ? runs_answer(s, w) : none);
    }
    return STATUS_OK;
}

static inline void runs_finished(void *with, const struct worker *w) {
    struct seen *seen = with;
    seen->x[w->rank] = runs_copy(w->q, NULL, w->x);
    seen->rounds[w->rank] = w->round;
    seen->steps[w->rank] = w->steps;
    if (w->rank == 0) {
        seen->size = w->size;
        seen->n = w->x.n;
    }
}

/* A strategy that is none: each worker for itself, one step a round. */
static inline enum status runs_alone_round(struct strategy *s, struct worker *w) {
    (void)s;
    worker_grad(w);
    worker_step(w);
    return STATUS_OK;
}

static const struct strategy_ops runs_alone = {
    .name = "alone", .size = sizeof(struct strategy), .round = runs_alone_round};

/* The same, gradient and step in one call. */
static inline enum status runs_descending_round(struct strategy *s, struct worker *w) {
    (void)s;
    worker_descend(w);
    return STATUS_OK;
}

static const struct strategy_ops runs_descending = {
    .name = "descending", .size = sizeof(struct strategy), .round = runs_descending_round};

static inline void runs_list(const struct strategy_ops **list) {
    int n = 0;
    for (; strategies[n]; n++) runs_real[n] = strategies[n];
    runs_real[n++] = &runs_alone;
    runs_real[n++] = &runs_descending;
    const struct watch *watch = runs_seen->watch;
    if (watch && watch->strategy) runs_real[n++] = watch->strategy;
    for (int i = 0; i < n; i++) {
        runs_spy[i] = *runs_real[i];
        runs_spy[i].round = runs_round;
        runs_spy[i].answer = runs_judged;
        list[i] = &runs_spy[i];
    }
    list[n] = NULL;
}

/* As many workers, or as many as the strategy takes. */
static inline int runs_workers(const struct strategy_ops *s, int workers) {
    return s->workers_most && workers > s->workers_most ? s->workers_most : workers;
}

/* What a strategy needs to show all that it does, and all of its state, within a few steps. */
static inline const char *strategy_words(const char *name) {
    static const char *const more[][2] = {{"easgd", "easgd.tau=3 easgd.when=after"},
        {"easgd_tree", "easgd_tree.tau=3 easgd_tree.tau_root=2 easgd_tree.groups=2"},
        {"downpour", "downpour.tau=3 downpour.scale=staleness"},
        {"mvadownpour", "mvadownpour.alpha=0.2"}, {"mvasgd", "mvasgd.alpha=0.2"},
        {"gossip", "gossip.p=0.7 gossip.peers=complete"}, {"dpsgd", "dpsgd.peers=exponential"},
        {"local_sgd", "local_sgd.H=3 local_sgd.post=drop schedule.use=step step.at=0.4"},
        {"bmuf", "bmuf.H=3 bmuf.momentum=average"}, {"slowmo", "slowmo.H=3"},
        {"diloco", "diloco.H=4 diloco.fragments=2 diloco.delay=1 diloco.mix=0.5"},
        {"lookahead", "lookahead.k=3"}};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        if (!strcmp(more[i][0], name)) return more[i][1];
    }
    return "";
}

/* Settings from words with a blank between: "run.workers=4 easgd.tau=10". */
static inline struct settings *runs_settings(char *words) {
    static const char *const base = "[run]\ntask = quadratic\nepochs = 0\neval_every = 1e9\n"
                                    "[topology]\nthreads = 1\nbind = 0\n";
    struct settings *set;
    char *rest = NULL;
    cr_assert(settings_open(&set) == STATUS_OK, "no settings");
    cr_assert(settings_read_text(set, base, "runs.h") == STATUS_OK, "%s", fail_message());
    cr_assert(settings_read_text(set, runs_text, "a test") == STATUS_OK, "%s", fail_message());
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        cr_assert(settings_read_argument(set, word) == STATUS_OK, "%s", fail_message());
    }
    cr_assert(settings_check(set, all_groups()) == STATUS_OK, "%s", fail_message());
    return set;
}

/* Runs what the words say, quietly; how it ended is in the result. seen_close gives it back. */
__attribute__((format(printf, 3, 4))) static inline void run_words(
    struct seen *seen, const struct watch *watch, const char *format, ...) {
    char words[2048];
    va_list more;
    va_start(more, format);
    vsnprintf(words, sizeof words, format, more);
    va_end(more);
    const struct strategy_ops *list[RUNS_MOST];
    struct settings *set = runs_settings(words);
    *seen = (struct seen){.watch = watch};
    runs_seen = seen;
    runs_list(list);
    struct run_setup setup = {.settings = set,
        .strategies = list,
        .schedules = base_schedules,
        .tasks = watch && watch->tasks ? watch->tasks : tasks,
        .devices = runs_devices,
        .resume = runs_resume,
        .finished = runs_finished,
        .with = seen,
        .quiet = 1};
    seen->end = run_train(&setup, &seen->result);
    snprintf(seen->why, sizeof seen->why, "%s", seen->end == STATUS_OK ? "" : fail_message());
    settings_close(set);
}

static inline void seen_close(struct seen *seen) {
    for (int r = 0; r < TEAM_MOST; r++) {
        free(seen->x[r]);
        free(seen->answer[r]);
    }
    *seen = (struct seen){0};
}

/* The first worker whose replica, answer or count of rounds is not the same to the bit; -1: none. */
static inline int seen_differ(const struct seen *a, const struct seen *b) {
    if (a->end != STATUS_OK || b->end != STATUS_OK || a->size != b->size || a->n != b->n) return 0;
    for (int r = 0; r < a->size; r++) {
        if (a->rounds[r] != b->rounds[r] || a->steps[r] != b->steps[r]) return r;
        if (memcmp(a->x[r], b->x[r], a->n * sizeof(float)) != 0) return r;
        if (!a->answer[r] != !b->answer[r]) return r; /* a replica was judged */
        if (a->answer[r] && memcmp(a->answer[r], b->answer[r], a->n * sizeof(float)) != 0) return r;
    }
    return -1;
}

/* ---- the quadratic's data, and the plainest trainer of it ------------------------------------ */

enum { KIND_SGD, KIND_MOMENTUM, KIND_NESTEROV, BOWL_MOST = 40 };

/* A problem, how it is trained, and the words for that. Rates: warm-up to `warm` epochs from
 * `from`, and a drop by `factor` at `drop` epochs; 0: none. An epoch is `samples` gradients of all
 * workers together. */
struct problem {
    int p, n, steps, samples, kind;
    double rate, delta, lambda;
    double h_min, h_max, spread, start;
    double warm, from, drop, factor;
};

static inline void problem_words(const struct problem *o, char *text, size_t size) {
    static const char *const kinds[] = {"sgd", "momentum", "nesterov"};
    static const char *const uses[] = {"constant", "warmup", "step", "warmup,step"};
    int n = snprintf(text, size,
        "run.workers=%d run.steps=%d quadratic.n=%d quadratic.samples=%d quadratic.h_min=%g "
        "quadratic.h_max=%g quadratic.spread=%g quadratic.start=%g schedule.rate=%g "
        "optimizer.kind=%s optimizer.momentum=%g optimizer.decay=%g schedule.use=%s",
        o->p, o->steps, o->n, o->samples, o->h_min, o->h_max, o->spread, o->start, o->rate,
        kinds[o->kind], o->delta, o->lambda, uses[(o->warm > 0) + 2 * (o->drop > 0)]);
    text += n;
    size -= (size_t)n;
    if (o->warm > 0) {
        n = snprintf(text, size, " warmup.epochs=%g warmup.from=%g", o->warm, o->from);
        text += n;
        size -= (size_t)n;
    }
    if (o->drop > 0) snprintf(text, size, " step.at=%g step.factor=%g", o->drop, o->factor);
}

/* The rate of each worker's step t, when all have made t before it. */
static inline double problem_rate(const struct problem *o, int t) {
    double epochs = (double)t * o->p / o->samples, rate = o->rate;
    if (o->warm > 0 && epochs < o->warm) rate *= o->from + (1 - o->from) * epochs / o->warm;
    if (o->drop > 0 && epochs >= o->drop) rate *= o->factor;
    return rate;
}

/* Data, as quadratic.c's head says: the curvatures, and worker r's target. */
static inline double bowl_h(const struct problem *o, int i) {
    return o->n == 1 ? o->h_min : o->h_min * pow(o->h_max / o->h_min, i / (o->n - 1.0));
}

static inline void bowl_target(const struct problem *o, int rank, double *target) {
    float normal[BOWL_MOST];
    rng_normals((struct rng_key){1, RNG_TARGET, (uint32_t)rank}, 0, normal, (uint64_t)o->n);
    for (int i = 0; i < o->n; i++) target[i] = o->spread * (double)normal[i];
}

/* A replica in double. */
struct replica {
    double x[BOWL_MOST], v[BOWL_MOST], g[BOWL_MOST], target[BOWL_MOST];
};

static inline void replica_start(struct replica *a, const struct problem *o, int rank) {
    bowl_target(o, rank, a->target);
    for (int i = 0; i < o->n; i++) {
        a->x[i] = o->start;
        a->v[i] = 0;
    }
}

static inline void replica_grad(struct replica *a, const struct problem *o) {
    for (int i = 0; i < o->n; i++) {
        double point = a->x[i] + (o->kind == KIND_NESTEROV ? o->delta * a->v[i] : 0);
        a->g[i] = bowl_h(o, i) * (point - a->target[i]) + o->lambda * point;
    }
}

static inline void replica_step(struct replica *a, const struct problem *o, double rate) {
    for (int i = 0; i < o->n; i++) {
        a->v[i] = (o->kind == KIND_SGD ? 0 : o->delta * a->v[i]) - rate * a->g[i];
        a->x[i] += a->v[i];
    }
}

#endif
