/* worker_descend beside worker_grad and worker_step, which the tests of strategies judge. */
#include "runs.h"

#include <unistd.h>

#include "check.h"

TestSuite(worker, .timeout = 120);

enum { STEPS = 6 };

/* On the host: how far other devices' products may differ is not known as well. */
static void run_way(struct seen *seen, const char *strategy, int steps, const char *words) {
    run_words(seen, NULL,
        "run.strategy=%s run.workers=2 run.devices=host run.order=fixed run.steps=%d %s", strategy,
        steps, words);
    cr_assert(seen->end == STATUS_OK, "%s: %s", words, seen->why);
}

static void check_counts(const struct seen *a, const struct seen *b, int steps, const char *words) {
    cr_assert_eq(a->size, 2);
    cr_assert_eq(b->size, 2);
    cr_assert_eq(a->n, b->n);
    cr_assert(a->result.samples == b->result.samples, "%s: %g samples, not %g", words,
        b->result.samples, a->result.samples);
    for (int r = 0; r < 2; r++) {
        cr_assert_eq(a->steps[r], steps);
        cr_assert_eq(b->steps[r], steps);
    }
}

/* Six steps on weights below 1 and batches of at most 32 images, each of which may be added apart:
 * 6 x 32 roundings of 2^-24 are 1.15e-5. */
static const double TOLERANCE = 1.2e-5;

static void check_near(int steps, const char *words) {
    struct seen apart, at_once;
    run_way(&apart, "alone", steps, words);
    run_way(&at_once, "descending", steps, words);
    check_counts(&apart, &at_once, steps, words);
    for (int r = 0; r < 2; r++) {
        double *want = calloc(apart.n, sizeof *want);
        for (size_t i = 0; i < apart.n; i++) want[i] = (double)apart.x[r][i];
        check_close(at_once.x[r], want, apart.n, TOLERANCE, 0, "worker %d, %s", r, words);
        free(want);
    }
    cr_assert(fabs(apart.result.train_loss - at_once.result.train_loss) <= 1e-4,
        "%s: loss %g, not %g", words, at_once.result.train_loss, apart.result.train_loss);
    seen_close(&apart);
    seen_close(&at_once);
}

#define CLASSIFY "run.task=classify data.set=digits model.layers="

/* Settings are split at blanks, so a model of several words is a preset. A rounding that takes one unit
 * of a deep net over the edge of its relu is no longer a rounding in the next gradient: one step. */
Test(worker, plain_descent_at_once_is_a_gradient_and_a_step_but_for_rounding) {
    check_near(STEPS, CLASSIFY "digits_cnn data.batch=32");
    check_near(STEPS, CLASSIFY "2nn");
    check_near(1, CLASSIFY "resnet20");
    check_near(STEPS, CLASSIFY "2nn data.batch=1 model.smoothing=0.1");
    check_near(STEPS, CLASSIFY "2nn optimizer.kind=nesterov optimizer.momentum=0");
    check_near(STEPS, CLASSIFY "2nn schedule.use=step step.at=0.05 step.factor=0.25");
}

static void check_same(const char *words) {
    struct seen apart, at_once;
    run_way(&apart, "alone", STEPS, words);
    run_way(&at_once, "descending", STEPS, words);
    check_counts(&apart, &at_once, STEPS, words);
    cr_assert_eq(seen_differ(&apart, &at_once), -1, "%s", words);
    seen_close(&apart);
    seen_close(&at_once);
}

Test(worker, any_other_step_is_the_same_to_the_bit) {
    check_same(CLASSIFY "2nn optimizer.decay=0.01");
    check_same(CLASSIFY "2nn optimizer.kind=momentum");
    check_same(CLASSIFY "2nn optimizer.kind=nesterov optimizer.decay=0.01");
    check_same(CLASSIFY "2nn optimizer.kind=rmsprop");
    check_same(CLASSIFY "2nn optimizer.kind=adam");
    check_same("quadratic.n=33 quadratic.sigma=1 quadratic.spread=1");
}

/* ---- what training cost ----------------------------------------------------------------------- */

enum { LATE_MS = 1500 };

static enum status sit_late(
    struct task *t, struct learner **out, int rank, struct stream *q, uint64_t drawn) {
    if (rank == 1) usleep(LATE_MS * 1000);
    return task_find(tasks, "quadratic")->learner_open(t, out, rank, q, drawn);
}

/* Of a training of some milliseconds, so that there is next to nothing else to wait for. */
Test(worker, that_sits_down_late_costs_the_others_no_training_time) {
    struct task_ops late = *task_find(tasks, "quadratic");
    const struct task_ops *const list[] = {&late, NULL};
    const struct watch watch = {.tasks = list};
    struct seen seen;
    late.learner_open = sit_late;
    run_words(&seen, &watch, "run.strategy=allreduce run.workers=2 run.steps=10 quadratic.n=8");
    const struct run_result *r = &seen.result;
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(r->waiting >= 0 && r->waiting < LATE_MS / 2e3, "%g s", r->waiting);
    cr_assert(r->computing >= 0, "%g s", r->computing);
    seen_close(&seen);
}
