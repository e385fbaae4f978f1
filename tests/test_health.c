/* test_health.c -- what stands beside the loss: distances, staleness, the effective step, and the
 * warning that it is too long. The oracles are in double and know nothing of the engine. */
#include "runs.h"

#include "check.h"
#include "engine/health.h"
#include "engine/seat.h"
#include "theory/stability.h"

TestSuite(health, .timeout = 120);

/* ---- staleness ------------------------------------------------------------------------------ */

Test(health, a_staleness_goes_to_the_bin_of_its_power_of_two) {
    static const struct {
        double value;
        int bin;
    } all[] = {{0, 0}, {0.99, 0}, {1, 1}, {1.99, 1}, {2, 2}, {3, 2}, {3.5, 2}, {4, 3}, {7, 3},
        {8, 4}, {16383, 14}, {16384, 15}, {1e9, 15}};
    struct staleness sum = {0};
    double values = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct staleness one = {0};
        staleness_add(&one, all[i].value);
        staleness_add(&sum, all[i].value);
        values += all[i].value;
        for (int k = 0; k < STALENESS_BINS; k++) {
            cr_assert(one.bin[k] == (k == all[i].bin), "%g in bin %d", all[i].value, k);
        }
        cr_assert(one.counted == 1 && one.sum == all[i].value && one.most == all[i].value);
    }
    cr_assert(sum.counted == 13 && sum.sum == values && sum.most == 1e9);
    cr_assert(sum.bin[0] == 2 && sum.bin[2] == 3 && sum.bin[15] == 2);
}

Test(health, what_two_counted_is_counted_together) {
    struct staleness a = {0}, b = {0};
    for (int i = 0; i < 5; i++) staleness_add(&a, i);
    for (int i = 3; i < 9; i++) staleness_add(&b, i);
    staleness_join(&a, &b);
    cr_assert(a.counted == 11 && a.sum == 10 + 33 && a.most == 8);
    static const double bins[] = {1, 1, 3, 5, 1};
    for (int i = 0; i < 5; i++) cr_assert(a.bin[i] == bins[i], "bin %d: %g", i, a.bin[i]);
    staleness_join(&b, &(struct staleness){0});
    cr_assert(b.counted == 6 && b.most == 8);
}

/* ---- distances ------------------------------------------------------------------------------ */

/* Replicas and answer, as the last evaluation had them: from the run's end, where all still stand. */
static void check_distances(const struct seen *s, const char *words) {
    double consensus = 0, center = 0;
    cr_assert(s->end == STATUS_OK, "%s", s->why);
    for (size_t i = 0; i < s->n; i++) {
        double mean = 0;
        for (int r = 0; r < s->size; r++) mean += (double)s->x[r][i] / s->size;
        for (int r = 0; r < s->size; r++) {
            double x = (double)s->x[r][i], answer = (double)s->answer[r][i];
            consensus += (x - mean) * (x - mean) / s->size;
            center += (x - answer) * (x - answer) / s->size;
        }
    }
    /* Squares are floats, of replicas that may be p times as far from the first as from their mean. */
    double tolerance = 2e-7 * (s->size + 1);
    const struct health *h = &s->result.health;
    cr_assert(fabs(h->consensus_distance - sqrt(consensus)) <= tolerance * sqrt(consensus) + 1e-12,
        "%.9g, not %.9g: %s", h->consensus_distance, sqrt(consensus), words);
    cr_assert(fabs(h->center_distance - sqrt(center)) <= tolerance * sqrt(center) + 1e-12,
        "%.9g, not %.9g: %s", h->center_distance, sqrt(center), words);
}

#define TASK                                                                                       \
    "quadratic.n=33 quadratic.spread=2 quadratic.sigma=0.5 quadratic.h_max=2 "                     \
    "quadratic.samples=30 "                                                                        \
    "schedule.rate=0.02 run.steps=60 run.eval_every=3"

Test(health, distances_are_of_the_replicas_from_their_mean_and_from_the_answer) {
    char words[512];
    for (int i = 0; strategies[i]; i++) {
        for (int p = 1; p <= 3; p++) {
            struct seen seen;
            if (runs_workers(strategies[i], p) != p) continue;
            snprintf(words, sizeof words, "run.strategy=%s run.workers=%d %s " TASK,
                strategies[i]->name, p, strcmp(strategies[i]->name, "diloco") ? "" : "diloco.H=20");
            run_words(&seen, NULL, "%s", words);
            check_distances(&seen, words);
            if (p == 1) cr_assert(seen.result.health.consensus_distance == 0, "%s", words);
            seen_close(&seen);
        }
    }
}

/* Two bowls, no noise, one step of eta = 0.5 from 0: each goes half of the way to its target. */
Test(health, two_workers_are_as_far_apart_as_their_targets_say) {
    struct problem o = {.p = 2, .n = 5, .h_min = 1, .h_max = 1, .spread = 3};
    double a[BOWL_MOST], b[BOWL_MOST], apart = 0;
    struct seen seen;
    bowl_target(&o, 0, a);
    bowl_target(&o, 1, b);
    for (int i = 0; i < o.n; i++) apart += (a[i] - b[i]) * (a[i] - b[i]);
    run_words(&seen, NULL,
        "run.strategy=gossip gossip.p=0 run.workers=2 run.steps=1 quadratic.n=5 quadratic.spread=3 "
        "quadratic.start=0 schedule.rate=0.5 run.order=fixed");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    /* x_0 - x_1 = (a - b) / 2, and each is half of that from the mean, which is judged. */
    double want = sqrt(apart) / 4;
    cr_assert(fabs(seen.result.health.consensus_distance - want) <= 1e-6 * want);
    cr_assert(fabs(seen.result.health.center_distance - want) <= 1e-6 * want);
    seen_close(&seen);
}

/* Three floats that are equal have a mean that is not, by rounding. */
Test(health, replicas_that_are_equal_are_not_apart) {
    static const char *const ways[] = {"allreduce", "local_sgd", "bmuf"};
    for (int i = 0; i < 3; i++) {
        struct seen seen;
        run_words(&seen, NULL, "run.strategy=%s run.workers=3 " TASK, ways[i]);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert(seen.result.health.consensus_distance == 0, "%s: %g", ways[i],
            seen.result.health.consensus_distance);
        if (i < 2) cr_assert(seen.result.health.center_distance == 0);
        seen_close(&seen);
    }
}

/* The answer, and not the replica that is judged in its place. */
Test(health, judging_a_replica_leaves_the_distances_as_they_are) {
    struct seen a, b;
    static const char *const words = "run.strategy=easgd run.workers=3 run.order=fixed " TASK;
    run_words(&a, NULL, "%s", words);
    run_words(&b, NULL, "%s run.judge=replica", words);
    cr_assert(a.end == STATUS_OK && b.end == STATUS_OK, "%s%s", a.why, b.why);
    cr_assert(a.result.health.center_distance > 0.1);
    cr_assert(a.result.health.center_distance == b.result.health.center_distance);
    cr_assert(a.result.health.consensus_distance == b.result.health.consensus_distance);
    cr_assert(a.result.score.loss != b.result.score.loss);
    seen_close(&a);
    seen_close(&b);
}

/* ---- costs ---------------------------------------------------------------------------------- */

Test(health, costs_no_bytes_of_training) {
    struct seen often, seldom;
    static const char *const words =
        "run.strategy=easgd easgd.tau=5 run.workers=3 run.order=fixed run.steps=60 "
        "quadratic.n=1000 quadratic.samples=30";
    run_words(&often, NULL, "%s run.eval_every=1", words);
    run_words(&seldom, NULL, "%s run.eval_every=6", words);
    cr_assert(often.end == STATUS_OK && seldom.end == STATUS_OK, "%s%s", often.why, seldom.why);
    cr_assert(often.result.bytes == seldom.result.bytes && often.result.bytes > 0);
    cr_assert(seen_differ(&often, &seldom) == -1, "other bits");
    seen_close(&often);
    seen_close(&seldom);
}

/* ---- what strategies count ------------------------------------------------------------------ */

struct counted {
    struct staleness of[TEAM_MOST];
};

static void keep_counts(void *with, const struct worker *w, struct vec answer) {
    (void)answer;
    ((struct counted *)with)->of[w->rank] = w->seat->staleness;
}

/* In lock step of three, two others come between, and before a worker's first only lower ranks. */
Test(health, in_lock_step_all_others_come_between) {
    static const struct {
        const char *words;
        int first; /* the first time counts: it met what others had changed */
    } all[] = {{"run.strategy=easgd easgd.tau=1", 1}, {"run.strategy=easgd easgd.tau=3", 1},
        {"run.strategy=downpour", 0}, {"run.strategy=mdownpour schedule.rate=0.001", 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct seen seen;
        struct counted c;
        struct watch watch = {.judged = keep_counts, .with = &c};
        run_words(&seen, &watch, "run.workers=3 run.steps=30 run.order=fixed %s", all[i].words);
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        for (int r = 0; r < 3; r++) {
            double times = (double)seen.rounds[r] - 1, most = times > 1 ? 2 : r;
            const struct staleness *s = &c.of[r];
            double zero = all[i].first && r == 0, one = all[i].first && r == 1;
            double two = times + (all[i].first && r == 2);
            /* DOWNPOUR's first push is of what it pulled when only lower ranks had pushed: none. */
            if (!all[i].first) {
                zero = r == 0;
                one = r == 1;
                two = times - (r < 2);
            }
            cr_assert(s->bin[0] == zero && s->bin[1] == one && s->bin[2] == two,
                "worker %d: %g %g %g, %s", r, s->bin[0], s->bin[1], s->bin[2], all[i].words);
            cr_assert(s->most == most);
        }
        seen_close(&seen);
    }
}

/* The root moves a group's center by its first worker, whose own move is none of others'. */
Test(health, a_worker_that_moves_its_groups_center_does_not_wait_for_itself) {
    struct seen seen;
    struct counted c;
    struct watch watch = {.judged = keep_counts, .with = &c};
    run_words(&seen, &watch,
        "run.workers=1 run.steps=30 run.order=fixed run.strategy=easgd_tree easgd_tree.tau=2 "
        "easgd_tree.tau_root=2");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(c.of[0].counted == 15 && c.of[0].bin[0] == 15, "%g", c.of[0].sum);
    seen_close(&seen);
}

/* In the first round of two, the even rank reads, the odd one averages with it, and then it adds its
 * step; from then on the odd one's turn is before both. */
Test(health, an_even_rank_counts_who_averaged_meanwhile) {
    struct seen seen;
    struct counted c;
    struct watch watch = {.judged = keep_counts, .with = &c};
    run_words(&seen, &watch, "run.strategy=adpsgd run.workers=2 run.steps=20 run.order=fixed");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(c.of[0].bin[0] == 19 && c.of[0].bin[1] == 1, "%g", c.of[0].sum);
    cr_assert(c.of[1].counted == 0);
    seen_close(&seen);
}

/* ---- weights -------------------------------------------------------------------------------- */

struct weights {
    double all[TEAM_MOST], least[TEAM_MOST], in_flight[TEAM_MOST];
};

static void keep_weights(void *with, const struct worker *w, struct vec answer) {
    struct weights *k = with;
    const struct seat *s = w->seat;
    (void)answer;
    for (int i = 0; i < s->notes; i++) {
        if (!strcmp(s->note[i].name, "weight")) k->all[w->rank] = s->note[i].value;
        if (!strcmp(s->note[i].name, "weight_least")) k->least[w->rank] = s->note[i].value;
        if (!strcmp(s->note[i].name, "in_flight")) k->in_flight[w->rank] = s->note[i].value;
    }
}

Test(health, the_weights_of_gossip_are_one_in_all) {
    struct seen seen;
    struct weights k = {{0}, {0}, {0}};
    struct watch watch = {.judged = keep_weights, .with = &k};
    run_words(&seen, &watch,
        "run.strategy=gossip gossip.p=0.9 run.workers=3 run.steps=57 run.order=fixed");
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(k.in_flight[0] + k.in_flight[1] + k.in_flight[2] > 0, "all boxes are empty");
    cr_assert(fabs(k.all[0] + k.all[1] + k.all[2] - 1) <= 1e-12);
    for (int r = 0; r < 3; r++) {
        cr_assert(k.least[r] > 0 && fabs(k.least[r] + k.in_flight[r] - k.all[r]) <= 1e-15);
    }
    seen_close(&seen);
}

/* ---- effective steps and bounds -------------------------------------------------------------- */

static const struct strategy_ops *strategy_of(const char *name) {
    for (int i = 0; strategies[i]; i++) {
        if (!strcmp(strategies[i]->name, name)) return strategies[i];
    }
    cr_assert(0, "no strategy %s", name);
    return NULL;
}

/* What a strategy says of itself with the settings in words. */
static struct forecast forecast_of(
    const char *name, const char *words, double eta, int p, double h) {
    char copy[512];
    const struct strategy_ops *ops = strategy_of(name);
    snprintf(copy, sizeof copy, "%s", words);
    struct settings *set = runs_settings(copy);
    struct strategy *s = calloc(1, ops->size);
    s->ops = ops;
    cr_assert(settings_apply(set, name, ops->options, s) == STATUS_OK, "%s", fail_message());
    struct forecast f = ops->forecast(s, eta, p, h);
    free(s);
    settings_close(set);
    return f;
}

static int warns(const struct forecast *f, double eta, double h) {
    char words[512] = "";
    int warned = health_warning(words, sizeof words, f, eta, (struct curvature){h, "as we say"});
    cr_assert(warned == (*words != '\0'));
    return warned;
}

Test(health, downpour_warns_above_2_over_workers_tau_and_curvature) {
    static const struct {
        int p, tau;
        double h, bound;
    } all[] = {{8, 16, 1, 0.015625}, {8, 16, 4, 0.00390625}, {4, 1, 1, 0.5}, {4, 64, 1, 0.0078125},
        {16, 4, 1, 0.03125}, {2, 1, 0.5, 2}, {1, 16, 1, 2}, {1, 1, 10, 0.2}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        for (int side = -1; side <= 1; side += 2) {
            char words[64];
            double eta = all[i].bound * (1 + 1e-9 * side);
            snprintf(words, sizeof words, "downpour.tau=%d", all[i].tau);
            struct forecast f = forecast_of("downpour", words, eta, all[i].p, all[i].h);
            cr_assert(warns(&f, eta, all[i].h) == (side > 0), "p %d tau %d", all[i].p, all[i].tau);
            cr_assert(fabs(f.step - eta * all[i].p * all[i].tau) <= 1e-12 * f.step);
        }
    }
    struct forecast f = forecast_of("downpour", "downpour.scale=staleness", 1, 8, 1);
    cr_assert(f.step == 1 && !warns(&f, 1, 1) && warns(&f, 2.1, 1));
}

/* In lock step, from the eigenvalues of a period. */
Test(health, what_downpour_warns_of_is_about_what_is_unstable) {
    static const int sizes[] = {3, 4, 8, 16}, taus[] = {1, 2, 4, 16};
    for (int i = 0; i < 4 * 4; i++) {
        struct stability s = {.method = STABILITY_DOWNPOUR, .p = sizes[i % 4], .tau = taus[i / 4]};
        double least;
        if (stability_bound(s, &least) != STATUS_OK) cr_skip_test("%s", fail_message());
        char words[64];
        snprintf(words, sizeof words, "downpour.tau=%d", s.tau);
        double bound = forecast_of("downpour", words, 1, s.p, 1).bound;
        cr_assert(least > 0.75 * bound && least < 1.5 * bound, "p %d tau %d: %g, we say %g", s.p,
            s.tau, least, bound);
    }
    struct forecast two = forecast_of("downpour", "downpour.tau=2", 1.9, 2, 1);
    cr_assert(!warns(&two, 1.9, 1) && warns(&two, 2.1, 1), "two in lock step bear more");
}

/* The paper's section 3.1: (4 - 2 eta h) / (4 - eta h), at most 1, less as the rate grows. */
Test(health, easgd_warns_above_the_papers_alpha) {
    static const double steps[][2] = {
        {1e-9, 1}, {0.1, 3.8 / 3.9}, {0.5, 3 / 3.5}, {1, 2 / 3.0}, {1.5, 0.4}, {1.9, 0.2 / 2.1}};
    for (int i = 0; i < 6 * 2; i++) {
        double bound = steps[i / 2][1], beta = bound * (i % 2 ? 1.00001 : 0.99999) * 4;
        char words[64];
        snprintf(words, sizeof words, "easgd.tau=1 easgd.beta=%.9g", beta);
        struct forecast f = forecast_of("easgd", words, steps[i / 2][0] / 5, 4, 5);
        cr_assert(fabs(f.bound - bound) <= 1e-6, "%g, not %g", f.bound, bound);
        cr_assert(warns(&f, steps[i / 2][0] / 5, 5) == i % 2, "eta h = %g", steps[i / 2][0]);
        cr_assert(f.step == steps[i / 2][0] / 5);
    }
    struct forecast f = forecast_of("easgd", "easgd.tau=1 easgd.beta=0", 0.41, 4, 5);
    cr_assert(f.name == NULL && warns(&f, 0.41, 5), "eta h above 2 is unstable without a spring");
}

/* (2 - eh) (2 - beta) > 2 beta / p and (2 - eh) + (2 - beta) > beta / p, on a grid. */
Test(health, synchronous_easgd_warns_where_either_inequality_fails) {
    static const int sizes[] = {1, 2, 3, 8};
    int stable = 0, unstable = 0;
    for (int i = 0; i < 4 * 20 * 20; i++) {
        int p = sizes[i % 4];
        double eh = 0.0513 + 0.1 * (i / 4 % 20), beta = 0.0271 + 0.17 * (i / 80);
        char words[96];
        snprintf(words, sizeof words, "easgd.tau=1 easgd.mode=sync easgd.beta=%.9g", beta);
        struct forecast f = forecast_of("easgd", words, eh, p, 1);
        int rests = (2 - eh) * (2 - beta) > 2 * beta / p && (2 - eh) + (2 - beta) > beta / p;
        cr_assert(warns(&f, eh, 1) == !rests, "p %d eh %g beta %g: %g of %g", p, eh, beta, f.value,
            f.bound);
        stable += rests;
        unstable += !rests;
    }
    cr_assert(stable > 300 && unstable > 300, "%d and %d", stable, unstable);
}

/* when=after, tau = 1: a < (4 - 2e) / (4 - 3e) for e <= 1, a < e / (2 (e - 1)) for larger, also no
 * more than the first. */
Test(health, pulling_after_the_step_has_a_bound_of_its_own) {
    for (int i = 1; i < 20; i++) {
        double e = 0.1 * i + 0.003;
        double first = 4 - 3 * e > 0 ? (4 - 2 * e) / (4 - 3 * e) : (double)INFINITY;
        double second = e > 1 ? e / (2 * (e - 1)) : (double)INFINITY;
        struct forecast f =
            forecast_of("easgd", "easgd.tau=1 easgd.when=after easgd.mode=async", e, 4, 1);
        double want = fmin(first, second);
        cr_assert(fabs(f.bound - want) <= 1e-9 * want, "%g: %g, not %g", e, f.bound, want);
    }
}

/* A period of one worker and the center as numbers, stepped until it grows or shrinks. */
static int rests(double e, double alpha, int tau, int after) {
    double size[2] = {0, 0};
    for (int start = 0; start < 2; start++) {
        double x = start, c = 1 - start;
        for (int t = 0; t < 4000; t++) {
            double d = 0;
            if (!after) d = alpha * (x - c);
            x = x - e * x - d;
            c += d;
            for (int k = 1; k < tau; k++) x -= e * x;
            if (after) d = alpha * (x - c);
            if (after) x -= d, c += d;
            size[start] = hypot(x, c);
            if (!(size[start] < 1e30)) return 0;
        }
    }
    return fmax(size[0], size[1]) < 1;
}

Test(health, the_bound_holds_for_longer_periods) {
    for (int i = 0; i < 2 * 4 * 9; i++) {
        int after = i % 2, tau = 1 + i / 2 % 4;
        double e = 0.2 * (i / 8 + 1) - 0.01;
        char words[96];
        snprintf(
            words, sizeof words, "easgd.tau=%d easgd.when=%s", tau, after ? "after" : "before");
        double bound = forecast_of("easgd", words, e, 4, 1).bound;
        cr_assert(isfinite(bound) && bound > 0);
        cr_assert(rests(e, 0.98 * bound, tau, after), "%s, eta h %g, %g", words, e, bound);
        cr_assert(!rests(e, 1.02 * bound, tau, after), "%s, eta h %g, %g", words, e, bound);
    }
}

/* k = (1 - eta h)^(tau - 1): above 0 the bound of one worker holds for any number in turn, as the head
 * of easgd.c says; below it does not. */
Test(health, one_workers_bound_holds_for_more_where_k_is_not_below_0) {
    static const int sizes[] = {1, 2, 3, 8, 16};
    int unstable = 0;
    for (int i = 0; i < 5 * 4 * 19; i++) {
        struct stability s = {
            .method = STABILITY_EASGD_TAU, .p = sizes[i % 5], .tau = i / 5 % 4 + 1};
        s.eta = 0.1 * (i / 20 + 1) + 0.003;
        double radius;
        char words[64];
        snprintf(words, sizeof words, "easgd.tau=%d", s.tau);
        struct forecast f = forecast_of("easgd", words, s.eta, s.p, 1);
        s.beta = 0.999 * f.bound * s.p;
        if (stability_radius(&s, &radius) != STATUS_OK) cr_skip_test("%s", fail_message());
        int below_0 = s.eta > 1 && s.tau % 2 == 0;
        cr_assert(radius <= 1 + 1e-9 || (below_0 && s.p > 1), "%d workers, tau %d, eta h %g: %.9g",
            s.p, s.tau, s.eta, radius);
        cr_assert_eq(f.rough, s.p > 1);
        unstable += radius > 1 + 1e-9;
    }
    cr_assert(unstable > 40, "only %d are unstable", unstable);
}

Test(health, without_a_bound_of_its_own_2_over_h_is_too_long) {
    struct forecast f = {.step = 1};
    cr_assert(!warns(&f, 1.999, 1) && warns(&f, 2.001, 1));
    cr_assert(!warns(&f, 0.199, 10) && warns(&f, 0.201, 10));
}

Test(health, nothing_is_warned_of_that_is_no_number_or_that_nobody_asked_for) {
    struct forecast f = {.name = "alpha", .value = (double)NAN, .bound = 1, .formula = "1"};
    cr_assert(!warns(&f, (double)NAN, 1));
    f.value = 2;
    f.bound = (double)NAN;
    cr_assert(!warns(&f, 1, 1));
    f.bound = 1;
    cr_assert(warns(&f, 1, 1) && !warns(&f, 1, 0), "run.curvature = 0");
    cr_assert(!warns(&f, 1, (double)NAN));
}

Test(health, a_warning_names_the_bound_the_number_and_the_curvature) {
    static const char *const want[] = {
        "the rate is 0.05, above about", "2 / (workers tau h) = 0.015625", "h = 1,", "as we say"};
    char words[512];
    struct forecast f = forecast_of("downpour", "downpour.tau=16", 0.05, 8, 1);
    cr_assert(health_warning(words, sizeof words, &f, 0.05, (struct curvature){1, "as we say"}));
    for (int i = 0; i < 4; i++) cr_assert(strstr(words, want[i]), "%s lacks %s", words, want[i]);
}

/* ---- through the engine ---------------------------------------------------------------------- */

static double step_of(const char *words) {
    struct seen seen;
    run_words(&seen, NULL, "run.steps=4 quadratic.n=3 schedule.rate=0.0625 %s", words);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    double step = seen.result.health.effective_step;
    seen_close(&seen);
    return step;
}

Test(health, the_effective_step_is_the_rates_momentums_and_strategys) {
    cr_assert(step_of("run.strategy=allreduce") == 0.0625);
    cr_assert(step_of("run.strategy=easgd run.workers=3") == 0.0625);
    cr_assert(step_of("run.strategy=downpour downpour.tau=2 run.workers=3") == 0.375);
    cr_assert(
        step_of("run.strategy=allreduce optimizer.kind=momentum optimizer.momentum=0.5") == 0.125);
    cr_assert(step_of("run.strategy=sgd run.workers=1 optimizer.momentum=0.5") == 0.0625);
    cr_assert(step_of("run.strategy=mdownpour mdownpour.momentum=0.5 run.workers=3") == 0.375);
    cr_assert(step_of("run.strategy=admm admm.rho=16") == 0.03125);
    cr_assert(step_of("run.strategy=lookahead lookahead.k=1 lookahead.alpha=0.5") == 0.03125);
    cr_assert(step_of("run.strategy=bmuf bmuf.H=1 bmuf.mu=0.5 bmuf.zeta=0.25") == 0.03125);
    cr_assert(step_of("run.strategy=bmuf bmuf.H=1 bmuf.nesterov=0 bmuf.mu=0.5") == 0.125);
    cr_assert(step_of("run.strategy=slowmo slowmo.H=1 slowmo.alpha=0.5 slowmo.beta=0.75") == 0.125);
    cr_assert(step_of("run.strategy=diloco diloco.H=1 diloco.rate=0.5 diloco.mu=0.5") == 0.0625);
    cr_assert(isnan(step_of("run.strategy=allreduce optimizer.kind=adam")));
    cr_assert(isnan(step_of("run.strategy=downpour optimizer.kind=rmsprop")));
}
