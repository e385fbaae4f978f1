/* The oracles are the papers' matrices in double, entry by entry. */
#include "runs.h"

#include "check.h"

TestSuite(dpsgd, .timeout = 120);

/* As in test_easgd.c: roundings of 2^-23 in replicas of about 3, forgotten over tens of steps. */
static const double TOLERANCE = 2e-5;

enum { RING, EXPONENTIAL, HYPERCUBE, COMPLETE };
static const char *const graphs[] = {"ring", "exponential", "hypercube", "complete"};

/* The hops of a graph that is a circle's, ascending. */
static int find_hops(int graph, int p, int *hops) {
    int n = 0;
    for (int hop = 1; hop < p; hop++) {
        int power = (hop & (hop - 1)) == 0;
        if (graph == COMPLETE || (graph == EXPONENTIAL && power) ||
            (graph == RING && (hop == 1 || hop == p - 1))) {
            hops[n++] = hop;
        }
    }
    return n;
}

/* W[to][from], equal weights for a worker and its neighbors. */
static void fill_matrix(int graph, int p, double W[TEAM_MOST][TEAM_MOST]) {
    int hops[TEAM_MOST], n = find_hops(graph, p, hops), bits = 0;
    memset(W, 0, sizeof(double[TEAM_MOST][TEAM_MOST]));
    while ((1 << bits) < p) bits++;
    for (int i = 0; i < p; i++) {
        int count = graph == HYPERCUBE ? bits : n;
        W[i][i] = 1.0 / (count + 1);
        for (int k = 0; k < count; k++) {
            int to = graph == HYPERCUBE ? i ^ (1 << k) : (i + hops[k]) % p;
            W[to][i] = 1.0 / (count + 1);
        }
    }
}

/* sgp's step t: half stays, half goes to one peer, in the order that the head of peers.h says. */
static void fill_push(int graph, int p, int t, double W[TEAM_MOST][TEAM_MOST]) {
    int hops[TEAM_MOST], n = find_hops(graph, p, hops), bits = 0;
    memset(W, 0, sizeof(double[TEAM_MOST][TEAM_MOST]));
    while ((1 << bits) < p) bits++;
    for (int i = 0; i < p; i++) {
        W[i][i] = p > 1 ? 0.5 : 1;
        if (p == 1) continue;
        int to = graph == HYPERCUBE ? i ^ (1 << t % bits) : (i + hops[t % n]) % p;
        W[to][i] += 0.5;
    }
}

static void mix(struct replica *a, const struct problem *o, double W[TEAM_MOST][TEAM_MOST]) {
    for (int i = 0; i < o->n; i++) {
        double x[TEAM_MOST] = {0};
        for (int to = 0; to < o->p; to++) {
            for (int from = 0; from < o->p; from++) x[to] += W[to][from] * a[from].x[i];
        }
        for (int r = 0; r < o->p; r++) a[r].x[i] = x[r];
    }
}

static void replay_dpsgd(struct replica *a, const struct problem *o, int graph) {
    static double W[TEAM_MOST][TEAM_MOST];
    fill_matrix(graph, o->p, W);
    for (int t = 0; t < o->steps; t++) {
        for (int r = 0; r < o->p; r++) replica_grad(&a[r], o);
        mix(a, o, W);
        for (int r = 0; r < o->p; r++) replica_step(&a[r], o, problem_rate(o, t));
    }
}

/* With the push-sum weights: x is the numerator, the replica is z = x / weight. */
static void replay_sgp(struct replica *a, const struct problem *o, int graph) {
    static double W[TEAM_MOST][TEAM_MOST];
    double weight[TEAM_MOST];
    for (int r = 0; r < o->p; r++) weight[r] = 1;
    for (int t = 0; t < o->steps; t++) {
        double next[TEAM_MOST] = {0};
        for (int r = 0; r < o->p; r++) {
            replica_grad(&a[r], o);
            replica_step(&a[r], o, problem_rate(o, t));
            for (int i = 0; i < o->n; i++) a[r].x[i] *= weight[r];
        }
        fill_push(graph, o->p, t, W);
        mix(a, o, W);
        for (int to = 0; to < o->p; to++) {
            for (int from = 0; from < o->p; from++) next[to] += W[to][from] * weight[from];
        }
        for (int r = 0; r < o->p; r++) {
            weight[r] = next[r];
            for (int i = 0; i < o->n; i++) a[r].x[i] /= weight[r];
        }
    }
}

static double bytes_of(const struct problem *o, const char *name, int graph) {
    int hops[TEAM_MOST], each = find_hops(graph, o->p, hops);
    if (graph == HYPERCUBE) {
        for (each = 0; (1 << each) < o->p; each++) continue;
    }
    if (!strcmp(name, "sgp") && each > 0) each = 1;
    return (double)each * o->p * o->steps * o->n * (double)sizeof(float);
}

static void compare(const struct problem *o, const char *name, int graph, const char *order) {
    static struct replica a[TEAM_MOST];
    double mean[BOWL_MOST] = {0};
    char words[1024];
    struct seen seen;
    problem_words(o, words, sizeof words);
    run_words(&seen, NULL, "%s run.order=%s run.strategy=%s %s.peers=%s", words, order, name, name,
        graphs[graph]);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int r = 0; r < o->p; r++) replica_start(&a[r], o, r);
    (strcmp(name, "sgp") ? replay_dpsgd : replay_sgp)(a, o, graph);
    for (int r = 0; r < o->p; r++) {
        for (int i = 0; i < o->n; i++) mean[i] += a[r].x[i] / o->p;
    }
    for (int r = 0; r < o->p; r++) {
        cr_assert_eq(seen.steps[r], o->steps);
        check_close(seen.x[r], a[r].x, (size_t)o->n, TOLERANCE, 0, "x of worker %d of %d, %s %s %s",
            r, o->p, name, graphs[graph], words);
        check_close(seen.answer[r], mean, (size_t)o->n, TOLERANCE, 0, "the mean, %s %s %s", name,
            graphs[graph], words);
    }
    double bytes = bytes_of(o, name, graph);
    cr_assert(fabs(seen.result.bytes - bytes) <= 1e-9 * bytes, "%g bytes, not %g, %s %s",
        seen.result.bytes, bytes, name, graphs[graph]);
    seen_close(&seen);
}

static struct problem problem(int p) {
    return (struct problem){.p = p,
        .n = 33,
        .steps = 60,
        .samples = 10 * p,
        .rate = 0.1,
        .delta = 0.9,
        .h_min = 0.25,
        .h_max = 2,
        .spread = 1.5,
        .start = 1};
}

static void compare_all(const char *name) {
    static const int sizes[] = {1, 2, 3, 5, 8};
    for (int i = 0; i < 5 * 4; i++) {
        int graph = i % 4;
        struct problem o = problem(sizes[i / 4]);
        if (graph == HYPERCUBE && (o.p & (o.p - 1)) != 0) continue;
        o.kind = i % 3;
        o.lambda = i % 2 ? 0.1 : 0;
        o.drop = 3, o.factor = 0.5;
        compare(&o, name, graph, "free");
        compare(&o, name, graph, "fixed");
    }
}

Test(dpsgd, is_its_papers) { compare_all("dpsgd"); }
Test(dpsgd, sgp_is_its_papers) { compare_all("sgp"); }

/* ---- what mixing does ----------------------------------------------------------------------- */

enum { N = 33, MOVES = 10, ROUNDS = 20 };

/* Every worker's x after each round. */
struct trail {
    float x[TEAM_MOST][ROUNDS][N];
};

static void keep_round(void *with, const struct worker *w, struct vec answer) {
    struct trail *t = with;
    (void)answer;
    if (w->round < ROUNDS) runs_fetch(w->q, t->x[w->rank][w->round], w->x);
}

/* Workers go to their own targets in ten steps; then the rate is 0 and they only mix. */
static void run_trail(struct trail *t, int p, const char *strategy) {
    struct seen seen;
    struct watch watch = {.rounded = keep_round, .with = t};
    run_words(&seen, &watch,
        "run.strategy=%s run.workers=%d run.steps=%d quadratic.n=%d quadratic.spread=3 "
        "quadratic.samples=%d schedule.rate=0.5 schedule.use=step step.at=%d step.factor=0",
        strategy, p, ROUNDS, N, p, MOVES);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
}

static double apart(const struct trail *t, int p, int round) {
    double most = 0;
    for (int r = 1; r < p; r++) {
        for (int i = 0; i < N; i++) {
            most = fmax(most, fabs((double)t->x[r][round][i] - (double)t->x[0][round][i]));
        }
    }
    return most;
}

static double mean_of(const struct trail *t, int p, int round, int i) {
    double sum = 0;
    for (int r = 0; r < p; r++) sum += (double)t->x[r][round][i];
    return sum / p;
}

/* The step of round 9 is the last that moves; its push is the first of the k, the cycle may begin
 * with any hop. Floats of size 4: each halving sum rounds to 2^-22 at most. */
Test(dpsgd, sgp_makes_a_mean_of_two_to_the_k_in_k_pushes) {
    static struct trail t;
    for (int k = 1, p = 2; k <= 4; k++, p *= 2) {
        run_trail(&t, p, "sgp");
        int after = MOVES - 2 + k;
        cr_assert(apart(&t, p, after) <= 1e-6, "%d workers: %g", p, apart(&t, p, after));
        cr_assert(k == 1 || apart(&t, p, after - 1) >= 0.1, "%d workers agree already", p);
        run_trail(&t, p, "sgp sgp.peers=hypercube");
        cr_assert(apart(&t, p, after) <= 1e-6, "%d workers: %g", p, apart(&t, p, after));
    }
}

Test(dpsgd, mixing_keeps_the_mean) {
    static const char *const ways[] = {"dpsgd", "dpsgd dpsgd.peers=exponential",
        "dpsgd dpsgd.peers=complete", "sgp", "sgp sgp.peers=ring", "sgp sgp.peers=complete"};
    static struct trail t;
    for (int k = 0; k < 6; k++) {
        run_trail(&t, 6, ways[k]);
        for (int i = 0; i < N; i++) {
            double before = mean_of(&t, 6, MOVES - 1, i), after = mean_of(&t, 6, ROUNDS - 1, i);
            cr_assert(fabs(after - before) <= 3e-6, "%s: %.9g became %.9g", ways[k], before, after);
        }
    }
}

/* The part of the disagreement that goes last goes by 1 - gap a mixing; the ring's and the
 * hypercube's matrices are symmetric, so no mixing takes less. */
Test(dpsgd, disagreement_falls_by_the_spectral_gap) {
    static const struct {
        const char *words;
        double gap;
    } ways[] = {{"dpsgd dpsgd.peers=hypercube", 0.5}, {"dpsgd dpsgd.peers=ring", 0.195262}};
    static struct trail t;
    for (int k = 0; k < 2; k++) {
        run_trail(&t, 8, ways[k].words);
        double before = 0, after = 0;
        for (int i = 0; i < N; i++) {
            double mean = mean_of(&t, 8, ROUNDS - 1, i);
            for (int r = 0; r < 8; r++) {
                before += pow((double)t.x[r][MOVES][i] - mean, 2);
                after += pow((double)t.x[r][MOVES + 5][i] - mean, 2);
            }
        }
        double factor = pow(after / before, 0.1); /* a mixing's, of five */
        cr_assert(factor <= 1 - ways[k].gap + 1e-4, "%s: %g", ways[k].words, factor);
        cr_assert(factor >= 0.5 * (1 - ways[k].gap), "%s: %g", ways[k].words, factor);
    }
}

Test(dpsgd, a_graph_that_does_not_fit_is_refused) {
    struct seen seen;
    run_words(&seen, NULL, "run.strategy=dpsgd dpsgd.peers=hypercube run.workers=6 run.steps=1");
    cr_assert_eq(seen.end, STATUS_BAD_CONFIG);
    cr_assert(strstr(seen.why, "dpsgd.peers") && strstr(seen.why, "not 6"), "%s", seen.why);
    run_words(&seen, NULL, "run.strategy=sgp sgp.peers=hypercube run.workers=6 run.steps=1");
    cr_assert_eq(seen.end, STATUS_BAD_CONFIG);
    cr_assert(strstr(seen.why, "sgp.peers") && strstr(seen.why, "not 6"), "%s", seen.why);
}
