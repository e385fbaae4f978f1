/* EASGD Tree: the oracle pulls one spring after the other, in double. */
#include "runs.h"

#include "check.h"

TestSuite(easgd_tree, .timeout = 120);

/* As in test_easgd.c. */
static const double TOLERANCE = 2e-5;

/* ---- the equations, in fixed order ----------------------------------------------------------- */

enum { GROUPS = 8 };

struct tree {
    int tau, tau_root, groups;
    double beta;
    struct replica a[TEAM_MOST];
    double center[GROUPS][BOWL_MOST], root[BOWL_MOST];
};

/* Ranks in as many runs as there are groups, the lengths as even as they can be. */
static int group_of(const struct tree *t, int p, int rank) {
    int k = 0;
    while ((k + 1) * p <= rank * t->groups) k++;
    return k;
}

static int group_size(const struct tree *t, int p, int group) {
    int n = 0;
    for (int r = 0; r < p; r++) n += group_of(t, p, r) == group;
    return n;
}

static void spring(double *x, double *y, int n, double alpha) {
    for (int i = 0; i < n; i++) {
        double d = alpha * (x[i] - y[i]);
        x[i] -= d;
        y[i] += d;
    }
}

/* Where a worker is in its round, and what it took along from its group's center. */
struct walk {
    int t, place;
    double taken[BOWL_MOST], pulled[BOWL_MOST];
};

enum { GRADIENT, TAKE, PULL, GIVE, STEP };

static void take(struct walk *w, const struct tree *t, int group) {
    memcpy(w->taken, t->center[group], sizeof w->taken);
    memcpy(w->pulled, t->center[group], sizeof w->pulled);
}

static void give(const struct walk *w, struct tree *t, int group, int n) {
    for (int i = 0; i < n; i++) t->center[group][i] += w->pulled[i] - w->taken[i];
}

/* Worker r goes on to its next act on what others see, and does it; 0: that was the round's end. */
static int walk_on(struct walk *w, struct tree *t, const struct problem *o, int r, int round) {
    int k = group_of(t, o->p, r), is_first = r == 0 || group_of(t, o->p, r - 1) != k;
    while (w->t < t->tau) {
        int step = round * t->tau + w->t, place = w->place++;
        if (place == GRADIENT) {
            replica_grad(&t->a[r], o);
            if (w->t > 0) continue;
            spring(t->a[r].x, t->center[k], o->n, t->beta / (group_size(t, o->p, k) + 1));
            return 1;
        }
        if (place == STEP) {
            replica_step(&t->a[r], o, problem_rate(o, step));
            w->t++;
            w->place = GRADIENT;
            continue;
        }
        if (!is_first || step % t->tau_root != 0) continue;
        if (place == TAKE) take(w, t, k);
        if (place == PULL) spring(w->pulled, t->root, o->n, t->beta / (t->groups + 1));
        if (place == GIVE) give(w, t, k, o->n);
        return 1;
    }
    return 0;
}

/* Rank after rank, each one act at a time, without those who have ended the round; the next begins
 * with the rank behind whoever ended this one. */
static int replay_round(struct tree *t, const struct problem *o, int turn, int round) {
    static struct walk walk[TEAM_MOST];
    int ended[TEAM_MOST] = {0}, left = o->p;
    memset(walk, 0, sizeof walk);
    while (left > 0) {
        if (!ended[turn] && !walk_on(&walk[turn], t, o, turn, round)) {
            ended[turn] = 1;
            left--;
        }
        turn = (turn + 1) % o->p;
    }
    return turn;
}

static void replay(struct tree *t, const struct problem *o, long steps) {
    for (int r = 0; r < o->p; r++) replica_start(&t->a[r], o, r);
    for (int i = 0; i < o->n; i++) {
        t->root[i] = o->start;
        for (int k = 0; k < t->groups; k++) t->center[k][i] = o->start;
    }
    int turn = 0;
    for (int k = 0; k * t->tau < steps; k++) turn = replay_round(t, o, turn, k);
}

/* ---- against the engine --------------------------------------------------------------------- */

/* The groups' centers as the run left them. */
struct centers {
    float at[GROUPS][BOWL_MOST];
};

static void keep_centers(void *with, const struct worker *w, struct vec answer) {
    struct centers *c = with;
    (void)answer;
    for (struct shared *s = team_shared(w->team); w->rank == 0 && s; s = shared_next(s)) {
        int k, end = 0;
        if (sscanf(shared_name(s), "center%d%n", &k, &end) != 1 || shared_name(s)[end]) continue;
        cr_assert(k >= 0 && k < GROUPS);
        runs_fetch(w->q, c->at[k], shared_vec(s));
    }
}

static void tree_words(const struct tree *t, char *text, size_t size) {
    snprintf(text, size,
        "run.strategy=easgd_tree easgd_tree.tau=%d easgd_tree.tau_root=%d easgd_tree.groups=%d "
        "easgd_tree.beta=%g",
        t->tau, t->tau_root, t->groups, t->beta);
}

static void compare(const struct problem *o, int groups, int tau, int tau_root, double beta) {
    static struct tree t;
    char words[1024], more[256];
    struct seen seen;
    struct centers centers;
    struct watch watch = {.judged = keep_centers, .with = &centers};
    t = (struct tree){.tau = tau, .tau_root = tau_root, .groups = groups, .beta = beta};
    problem_words(o, words, sizeof words);
    tree_words(&t, more, sizeof more);
    run_words(&seen, &watch, "%s %s run.order=fixed", words, more);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int r = 0; r < o->p; r++) {
        cr_assert(seen.steps[r] == seen.steps[0] && seen.steps[r] == seen.rounds[r] * tau);
        cr_assert(seen.steps[r] >= o->steps && seen.steps[r] <= o->steps + tau);
    }
    replay(&t, o, seen.steps[0]);
    for (int r = 0; r < o->p; r++) {
        check_close(seen.x[r], t.a[r].x, (size_t)o->n, TOLERANCE, 0, "x of worker %d of %d, %s", r,
            o->p, more);
        check_close(
            seen.answer[r], t.root, (size_t)o->n, TOLERANCE, 0, "the root at %d, %s", r, more);
    }
    for (int k = 0; k < groups; k++) {
        check_close(
            centers.at[k], t.center[k], (size_t)o->n, TOLERANCE, 0, "center %d, %s", k, more);
    }
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

/* tau_root may be shorter than tau, longer, or out of step with it. */
Test(easgd_tree, in_fixed_order_follows_its_equations) {
    static const int shapes[][2] = {
        {1, 1}, {2, 1}, {2, 2}, {3, 1}, {3, 2}, {5, 2}, {8, 1}, {8, 2}, {8, 3}, {8, 8}};
    static const int taus[][2] = {{1, 1}, {1, 5}, {3, 6}, {4, 3}, {10, 4}};
    for (int i = 0; i < 10 * 5; i++) {
        struct problem o = problem(shapes[i % 10][0]);
        compare(&o, shapes[i % 10][1], taus[i / 10][0], taus[i / 10][1], 0.9);
    }
}

Test(easgd_tree, springs_are_as_strong_as_asked) {
    static const double betas[] = {0, 0.1, 0.45, 1.2};
    for (int i = 0; i < 4; i++) {
        struct problem o = problem(5);
        compare(&o, 2, 3, 4, betas[i]);
    }
}

Test(easgd_tree, takes_its_gradient_before_the_springs_pull) {
    struct problem o = problem(5);
    o.kind = KIND_NESTEROV;
    o.lambda = 0.3;
    o.warm = 2.5, o.from = 0.125;
    compare(&o, 2, 3, 3, 0.9);
    compare(&o, 3, 3, 4, 0.9);
}

/* ---- what pulls keep ------------------------------------------------------------------------- */

enum { KEPT = SLOW ? 270001 : 700001, LOOKS = 4 };

/* root + centers + replicas, at each evaluation; and the root. */
struct sums {
    double *part[TEAM_MOST];
    float *root;
    int looks[TEAM_MOST];
};

static void keep_sum(void *with, const struct worker *w, struct vec answer) {
    struct sums *s = with;
    int k = s->looks[w->rank]++;
    if (k >= LOOKS) return;
    double *sum = s->part[w->rank] + (size_t)k * KEPT;
    float *v = runs_copy(w->q, NULL, w->x);
    for (size_t i = 0; i < KEPT; i++) sum[i] = (double)v[i];
    if (w->rank == 0) runs_fetch(w->q, s->root + (size_t)k * KEPT, answer);
    for (struct shared *c = team_shared(w->team); c && w->rank == 0; c = shared_next(c)) {
        v = runs_copy(w->q, v, shared_vec(c));
        for (size_t i = 0; i < KEPT; i++) sum[i] += (double)v[i];
    }
    free(v);
}

/* As in test_easgd.c: workers come to their targets with next to no spring, then the rate is 0 and
 * all that happens is pulls. The sum of seven floats of size 10 to 40 may err by some of their last
 * bits a pull: 1e-4 is far more than that, and a lost pull is far more than 1e-4. */
static void check_kept(const char *how, int p) {
    static struct sums s;
    s = (struct sums){.root = malloc(LOOKS * KEPT * sizeof(float))};
    for (int r = 0; r < p; r++) s.part[r] = malloc(LOOKS * KEPT * sizeof(double));
    struct seen seen;
    struct watch watch = {.judged = keep_sum, .with = &s};
    run_words(&seen, &watch,
        "run.strategy=easgd_tree easgd_tree.tau=1 easgd_tree.tau_root=2 easgd_tree.groups=2 "
        "easgd_tree.beta=0.4 run.workers=%d quadratic.n=%d quadratic.samples=%d "
        "quadratic.spread=10 schedule.rate=0.9 schedule.use=step step.at=6 step.factor=0 "
        "run.eval_every=6 run.epochs=%d %s",
        p, KEPT, p, 6 * LOOKS, how);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(s.looks[0] == LOOKS, "%d evaluations", s.looks[0]);
    for (size_t k = 1; k < LOOKS; k++) {
        double moved = 0;
        for (size_t i = 0; i < KEPT; i++) {
            double change = 0;
            for (int r = 0; r < p; r++)
                change += s.part[r][k * KEPT + i] - s.part[r][(k - 1) * KEPT + i];
            cr_assert(fabs(change) <= 1e-4, "element %zu changed by %.9g, %s", i, change, how);
            moved += fabs((double)s.root[k * KEPT + i] - (double)s.root[(k - 1) * KEPT + i]);
        }
        cr_assert(k > 1 || moved / KEPT >= 0.1, "only %g moved", moved / KEPT);
    }
    for (int r = 0; r < p; r++) free(s.part[r]);
    free(s.root);
    seen_close(&seen);
}

Test(easgd_tree, pulls_in_free_order_lose_nothing) { check_kept("run.max_lag=0", 4); }
Test(easgd_tree, pulls_in_fixed_order_lose_nothing) { check_kept("run.order=fixed", 4); }

/* ---- groups ---------------------------------------------------------------------------------- */

Test(easgd_tree, more_groups_than_workers_are_refused_in_words) {
    struct seen seen;
    run_words(
        &seen, NULL, "run.strategy=easgd_tree easgd_tree.groups=4 run.workers=3 run.steps=10");
    cr_assert(seen.end == STATUS_BAD_CONFIG, "%d", (int)seen.end);
    cr_assert(
        strstr(seen.why, "easgd_tree.groups = 4") && strstr(seen.why, "3 workers"), "%s", seen.why);
    seen_close(&seen);
}

static void keep_groups(void *with, const struct worker *w, struct vec answer) {
    int *groups = with;
    (void)answer;
    if (w->rank != 0) return;
    groups[0] = -1; /* the root */
    for (struct shared *s = team_shared(w->team); s; s = shared_next(s)) groups[0]++;
    groups[1] = 0;
    for (int r = 0; r < w->size; r++) {
        if (team_group(w->team, r) >= groups[1]) groups[1] = team_group(w->team, r) + 1;
    }
}

/* However many nodes this machine has. */
Test(easgd_tree, groups_are_where_workers_sit_unless_the_user_says_otherwise) {
    struct seen seen;
    int groups[2];
    struct watch watch = {.judged = keep_groups, .with = groups};
    run_words(&seen, &watch, "run.strategy=easgd_tree run.workers=6 run.steps=10");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(groups[0] == groups[1] && groups[1] >= 1, "%d, not %d", groups[0], groups[1]);
    seen_close(&seen);
}

/* ---- what it costs, the same bits, and an end ------------------------------------------------ */

/* Five workers in groups of three and two, of which two go to the root at every third step. */
Test(easgd_tree, moves_what_its_help_says) {
    struct seen seen;
    double vectors = 0;
    run_words(&seen, NULL,
        "run.strategy=easgd_tree easgd_tree.groups=2 easgd_tree.tau=2 easgd_tree.tau_root=3 "
        "run.workers=5 quadratic.n=100 run.steps=20");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int r = 0; r < 5; r++) {
        vectors += 2 * (double)seen.rounds[r];
        if (r == 0 || r == 3) vectors += 5 * (double)((seen.steps[r] + 2) / 3);
    }
    cr_assert(seen.result.bytes == vectors * 100 * sizeof(float), "%g bytes", seen.result.bytes);
    seen_close(&seen);
}

static const int MANY[] = {1, 2, 3, 8, CROWD};

Test(easgd_tree, fixed_order_gives_the_same_bits_again) {
    for (int i = 0; i < 5 * 2; i++) {
        struct seen a, b;
        char words[512];
        snprintf(words, sizeof words,
            "run.strategy=easgd_tree easgd_tree.groups=%d easgd_tree.tau=3 easgd_tree.tau_root=4 "
            "run.workers=%d run.order=fixed quadratic.n=1001 quadratic.sigma=1 "
            "quadratic.spread=2 optimizer.kind=nesterov run.steps=12 quadratic.samples=100 "
            "run.eval_every=0.7",
            i / 5 ? (MANY[i % 5] + 1) / 2 : 1, MANY[i % 5]);
        run_words(&a, NULL, "%s", words);
        run_words(&b, NULL, "%s", words);
        cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
        cr_assert_eq(seen_differ(&a, &b), -1, "%s", words);
        seen_close(&a);
        seen_close(&b);
    }
}

Test(easgd_tree, free_order_ends_for_any_number_of_workers) {
    for (int i = 0; i < 5 * 3; i++) {
        int p = MANY[i % 5];
        struct seen seen;
        run_words(&seen, NULL,
            "run.strategy=easgd_tree easgd_tree.groups=%d easgd_tree.tau=3 easgd_tree.tau_root=4 "
            "run.workers=%d quadratic.n=255 quadratic.sigma=1 run.steps=20 quadratic.samples=70 "
            "run.eval_every=1 run.max_lag=%d",
            (p + 1) / 2, p, i / 5);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert(seen.result.steps >= 20L * p, "%ld steps", seen.result.steps);
        seen_close(&seen);
    }
}
