/* test_late.c -- whole runs on a device that does its work late and at random: every wait that the
 * engine owes it. The oracle is the host, where there is nothing to wait for. */
#include "runs.h"

#include <semaphore.h>

#include "base/log.h"
#include "engine/seat.h"
#include "files.h"
#include "late.h"

static const struct device_ops *const late_devices[] = {&device_late, NULL};
static const struct device_ops *const host_devices[] = {&device_host, NULL};

/* Dropout draws on the device, batch norm keeps statistics there, and the last batch that is judged
 * is a small one. */
static const char small_model[] =
    "[model]\nlayers = conv 4 3, batchnorm, relu, maxpool 2, dropout 0.3, dense 16, tanh, dense 3\n"
    "[data]\nset = synthetic\nbatch = 8\nthreads = 1\n[synthetic]\nsamples = 100\nheight = 6\n"
    "width = 6\nclasses = 3\n";

static const char classify[] = "run.task=classify schedule.rate=0.05 run.eval_every=1.5 "
                               "run.batchnorm_samples=30 optimizer.kind=momentum";
static const char quadratic[] = "quadratic.n=1001 quadratic.sigma=1 quadratic.spread=2 "
                                "quadratic.samples=50 run.eval_every=0.7 schedule.use=warmup "
                                "warmup.epochs=10 schedule.rate=0.05 optimizer.kind=nesterov";

static void open_all(void) {
    files_open();
    log_show(LOG_ERROR);
    runs_text = small_model;
}

TestSuite(late, .init = open_all, .fini = files_close, .timeout = 300);

static void on_host(void) { runs_devices = host_devices; }

static void on_late(uint32_t seed) {
    runs_devices = late_devices;
    late.seed = seed;
    atomic_store(&late.waits, 0);
}

/* ---- the same bits ---------------------------------------------------------------------------- */

static void check_like_host(
    const char *strategy, const char *task, int workers, int steps, int seeds) {
    struct seen host, other;
    char words[1024];
    snprintf(words, sizeof words, "run.strategy=%s %s run.order=fixed run.workers=%d run.steps=%d",
        strategy, task, workers, steps);
    on_host();
    run_words(&host, NULL, "%s", words);
    cr_assert(host.end == STATUS_OK, "%s: %s", words, host.why);
    for (int seed = 1; seed <= seeds; seed++) {
        on_late((uint32_t)seed);
        run_words(&other, NULL, "%s", words);
        cr_assert(other.end == STATUS_OK, "%s: %s", words, other.why);
        int differ = seen_differ(&host, &other);
        cr_assert(differ == -1, "worker %d of %d, seed %d, %s", differ, workers, seed, words);
        cr_assert(host.result.score.loss == other.result.score.loss, "%.17g became %.17g, %s",
            host.result.score.loss, other.result.score.loss, words);
        double loss = host.result.train_loss; /* the host sums it in smaller groups */
        cr_assert(fabs(other.result.train_loss - loss) <= 1e-12 * fabs(loss),
            "a training loss of %.17g became %.17g, %s", loss, other.result.train_loss, words);
        seen_close(&other);
    }
    seen_close(&host);
}

static const int SIZES[] = {1, 2, 3, 8};

static void check_strategies(const char *task) {
    for (int i = 0; i < 4; i++) {
        for (int k = 0; strategies[k]; k++) {
            if (runs_workers(strategies[k], SIZES[i]) != SIZES[i]) continue;
            char words[64]; /* groups follow the devices, of which the host is one */
            snprintf(words, sizeof words, "%s easgd_tree.groups=1", strategies[k]->name);
            check_like_host(words, task, SIZES[i], 24, 2);
        }
        check_like_host("easgd easgd.mode=sync easgd.tau=2", task, SIZES[i], 24, 1);
        check_like_host("easgd easgd.tau=1", task, SIZES[i], 24, 1);
    }
}

Test(late, quadratics_end_as_on_the_host) {
    NOT_SIMULATED;
    check_strategies(quadratic);
}

Test(late, classifiers_end_as_on_the_host) {
    NOT_SIMULATED;
    check_strategies(classify);
}

/* Long vectors take long to sum, and an exchange has several chunks. */
Test(late, long_vectors_end_as_on_the_host) {
    static const char task[] = "quadratic.n=600001 quadratic.spread=2 schedule.rate=0.1";
    check_like_host("allreduce", task, 3, 24, 1);
    check_like_host("easgd easgd.tau=3 run.center=zero_copy", task, 3, 24, 1);
    check_like_host("easgd easgd.tau=3 run.center=staged", task, 3, 24, 1);
}

/* More gradients in a round than a device's batches, or the host's steps on their way, have room. */
Test(late, long_rounds_end_as_on_the_host) {
    check_like_host("easgd easgd.tau=40", classify, 2, 80, 1);
    late.slow_kernel = "quadratic"; /* so that the host comes as far ahead as it may */
    check_like_host("easgd easgd.tau=1500",
        "quadratic.n=3 schedule.use=warmup warmup.epochs=3 schedule.rate=0.01", 2, 1500, 1);
    late.slow_kernel = NULL;
}

/* Where nothing moves each gradient has the loss of the start, n / 2; all 2500 of the round count. */
Test(late, the_mean_training_loss_is_that_of_every_gradient) {
    for (int i = 0; i < 2; i++) {
        struct seen seen;
        on_late(1);
        if (i) on_host();
        run_words(&seen, NULL,
            "run.strategy=easgd easgd.tau=2500 quadratic.n=3 schedule.rate=1e-30 run.workers=1 "
            "run.steps=2500");
        cr_assert(seen.end == STATUS_OK, "%s", seen.why);
        cr_assert(fabs(seen.result.train_loss - 1.5) <= 1e-12, "%.17g", seen.result.train_loss);
        seen_close(&seen);
    }
}

static void check_judged(const char *how) {
    char strategy[128];
    snprintf(strategy, sizeof strategy, "easgd easgd.tau=2 %s", how);
    check_like_host(strategy, classify, 3, 24, 1);
}

Test(late, whatever_is_judged_is_what_the_host_judges) {
    check_judged("run.judge=replica");
    check_judged("run.batchnorm=average");
    check_judged("run.batchnorm=local");
}

/* ---- going on --------------------------------------------------------------------------------- */

static void check_resumed(const char *strategy, const char *task, int workers) {
    struct seen straight, half, rest;
    char words[1024];
    snprintf(words, sizeof words, "run.folder=%s run.strategy=%s %s run.order=fixed run.workers=%d",
        files_folder, strategy, task, workers);
    on_late(5);
    run_words(&straight, NULL, "%s run.steps=32", words);
    cr_assert(straight.end == STATUS_OK, "%s: %s", words, straight.why);
    run_words(&half, NULL, "%s run.name=half%d run.steps=16", words, workers);
    cr_assert(half.end == STATUS_OK, "%s: %s", words, half.why);
    runs_resume = 1;
    run_words(&rest, NULL, "%s run.name=half%d run.steps=32", words, workers);
    runs_resume = 0;
    cr_assert(rest.end == STATUS_OK, "%s: %s", words, rest.why);
    cr_assert(seen_differ(&straight, &rest) == -1, "%s", words);
    nftw(files_path("half2"), files_remove_one, 8, FTW_DEPTH | FTW_PHYS);
    nftw(files_path("half3"), files_remove_one, 8, FTW_DEPTH | FTW_PHYS);
    seen_close(&straight);
    seen_close(&half);
    seen_close(&rest);
}

Test(late, a_resumed_run_ends_as_one_that_never_stopped) {
    for (int workers = 2; workers <= 3; workers++) {
        check_resumed("easgd easgd.tau=2", classify, workers);
        check_resumed("easgd easgd.mode=sync easgd.tau=2", quadratic, workers);
        check_resumed("allreduce", quadratic, workers);
    }
}

/* ---- free order ------------------------------------------------------------------------------- */

enum { KEPT = 700001, LOOKS = 3 };

struct sums {
    double *part[8][LOOKS];
    int looks[8];
};

/* At an evaluation: the replica, and on rank 0 also the center. */
static void keep_sum(void *with, const struct worker *w, struct vec answer) {
    struct sums *s = with;
    int k = s->looks[w->rank]++;
    if (k >= LOOKS) return;
    double *part = s->part[w->rank][k] = malloc(KEPT * sizeof *part);
    if (!part) abort();
    for (size_t i = 0; i < KEPT; i++) {
        part[i] = (double)w->x.at[i] + (w->rank == 0 ? (double)answer.at[i] : 0);
    }
}

static double sum_kept(const struct sums *s, int workers, int look, size_t i) {
    double sum = 0;
    for (int r = 0; r < workers; r++) sum += s->part[r][look][i];
    return sum;
}

/* From the first evaluation on the rate is 0: all that happens is exchanges, which keep the sum of
 * center and replicas but for roundings of numbers of size 10 to 40, some of their last bits an
 * exchange; an exchange that is lost or counted twice moves it by tenths. */
Test(late, exchanges_in_free_order_lose_nothing) {
    static struct sums s;
    struct watch watch = {.judged = keep_sum, .with = &s};
    struct seen seen;
    on_late(9);
    run_words(&seen, &watch,
        "run.strategy=easgd easgd.tau=1 easgd.beta=0.4 run.workers=4 quadratic.n=%d "
        "quadratic.samples=4 quadratic.spread=10 schedule.rate=0.9 schedule.use=step step.at=10 "
        "step.factor=0 run.eval_every=10 run.epochs=%d run.max_lag=0",
        KEPT, 10 * LOOKS);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    for (int k = 1; k < LOOKS; k++) {
        for (size_t i = 0; i < KEPT; i++) {
            double before = sum_kept(&s, 4, k - 1, i), after = sum_kept(&s, 4, k, i);
            cr_assert(
                fabs(after - before) <= 1e-4, "element %zu: %.9g became %.9g", i, before, after);
        }
    }
    for (int r = 0; r < 4; r++) {
        for (int k = 0; k < LOOKS; k++) free(s.part[r][k]);
    }
    seen_close(&seen);
}

Test(late, free_order_ends_for_any_number_of_workers) {
    NOT_SIMULATED;
    for (int i = 0; i < 4; i++) {
        for (int k = 0; strategies[k]; k++) {
            struct seen seen;
            on_late((uint32_t)i);
            run_words(&seen, NULL,
                "run.strategy=%s run.workers=%d %s run.steps=30 run.ahead=3 run.max_lag=%d",
                strategies[k]->name, runs_workers(strategies[k], SIZES[i]),
                i % 2 ? classify : quadratic, i);
            cr_assert(seen.end == STATUS_OK, "%s", seen.why);
            cr_assert(isfinite(seen.result.score.loss));
            seen_close(&seen);
        }
    }
}

/* ---- how it ends otherwise -------------------------------------------------------------------- */

Test(late, a_run_that_diverges_says_so) {
    for (int k = 0; strategies[k]; k++) {
        struct seen seen;
        on_late(3);
        run_words(&seen, NULL, "run.strategy=%s run.workers=%d schedule.rate=30 run.steps=3000",
            strategies[k]->name, runs_workers(strategies[k], 3));
        cr_assert(seen.end == STATUS_DIVERGED, "%d: %s", (int)seen.end, seen.why);
        cr_assert(strstr(seen.why, "diverges, its training loss") != NULL, "%s", seen.why);
        seen_close(&seen);
    }
}

Test(late, a_kernel_that_fails_ends_the_run_in_its_words) {
    static const long when[] = {1, 50, 120};
    for (int k = 0; strategies[k]; k++) {
        for (int i = 0; i < 3; i++) {
            struct seen seen;
            on_late(3);
            late.fail_kernel = "quadratic";
            atomic_store(&late.fails_in, when[i]);
            run_words(&seen, NULL,
                "run.strategy=%s run.workers=%d run.steps=200 quadratic.spread=1",
                strategies[k]->name, runs_workers(strategies[k], 3));
            late.fail_kernel = NULL;
            cr_assert(seen.end == STATUS_DEVICE, "%d: %s", (int)seen.end, seen.why);
            cr_assert(strstr(seen.why, "quadratic has failed late") != NULL, "%s", seen.why);
            seen_close(&seen);
        }
    }
}

/* The first of 21 workers has none of 20 samples to judge, and so no other reason to wait. */
static void fail_first(void *with, const struct worker *w, struct vec answer) {
    (void)with, (void)answer;
    if (w->rank == 0) stream_fail(w->q, "failed while judging");
}

Test(late, a_failure_while_judging_ends_the_run_too) {
    struct watch watch = {.judged = fail_first};
    struct seen seen;
    on_host();
    run_words(&seen, &watch, "run.task=classify run.workers=21 run.steps=2 run.batchnorm=local");
    cr_assert(seen.end == STATUS_DEVICE, "%d: %s", (int)seen.end, seen.why);
    cr_assert(strstr(seen.why, "failed while judging") != NULL, "%s", seen.why);
    seen_close(&seen);
}

/* ---- who waits for whom ----------------------------------------------------------------------- */

static sem_t gate;
static atomic_int is_busy;

/* A worker outside of any run. */
struct loner {
    struct seat seat;
    struct learner learner;
    struct device *device;
    struct shared *c;
    struct vec x;
};

static void loner_open(struct loner *l, struct team *team, struct shared *c, int rank) {
    *l = (struct loner){.c = c};
    l->seat.w = (struct worker){.team = team, .rank = rank, .size = 2, .seat = &l->seat};
    l->seat.learner = &l->learner;
    l->x.n = shared_vec(c).n;
    if (device_open(&l->device, &device_late, rank, 1) || stream_open(&l->seat.w.q, l->device) ||
        event_open(&l->learner.passed, l->device) || team_join(team, rank, l->seat.w.q) ||
        device_alloc(l->device, (void **)&l->x.at, l->x.n * sizeof(float))) {
        abort();
    }
    l->learner.q = l->seat.w.q;
}

static void loner_close(struct loner *l) {
    event_close(l->learner.passed, l->device);
    stream_close(l->seat.w.q);
    device_close(l->device);
}

static void pass_gate(struct stream *q, const void *arguments) {
    (void)q, (void)arguments;
    while (sem_wait(&gate) != 0) continue;
}

static void *exchange_slowly(void *arg) {
    struct loner *l = arg;
    shared_elastic(&l->seat.w, l->c, 0.5f, l->x);
    atomic_store(&is_busy, 1);
    if (stream_sync(l->seat.w.q) != STATUS_OK) abort();
    return NULL;
}

/* The exchange of eight chunks is under way when the whole vector is read: that waits for all. */
static void check_reading(int center) {
    struct team_settings set = {
        .size = 2, .order = ORDER_FREE, .kind = &device_late, .center = center};
    static struct loner slow, other;
    struct team *team;
    struct shared *c;
    size_t n = 8 << 18;
    float *from = malloc(n * sizeof *from);
    pthread_t thread;
    cr_assert(from != NULL);
    for (size_t i = 0; i < n; i++) from[i] = 1;
    cr_assert(team_open(&team, &set) == STATUS_OK);
    cr_assert(shared_open(&c, team, "c", HOME_HOST, (struct vec){from, n}) == STATUS_OK);
    loner_open(&slow, team, c, 0);
    loner_open(&other, team, c, 1);
    late.slow_kernel = "elastic";
    atomic_store(&is_busy, 0);
    pthread_create(&thread, NULL, exchange_slowly, &slow);
    while (!atomic_load(&is_busy)) usleep(10);
    shared_lock(&other.seat.w, c);
    shared_read(&other.seat.w, c, other.x);
    shared_unlock(&other.seat.w, c);
    cr_assert(stream_sync(other.seat.w.q) == STATUS_OK);
    for (size_t i = 0; i < n; i++) cr_assert(other.x.at[i] == 0.5f, "element %zu", i);
    pthread_join(thread, NULL);
    late.slow_kernel = NULL;
    shared_close(c);
    team_close(team);
    loner_close(&slow);
    loner_close(&other);
    free(from);
}

Test(late, reading_a_whole_vector_waits_for_each_chunk_of_an_exchange) {
    check_reading(CENTER_ZERO_COPY);
    check_reading(CENTER_STAGED);
}

static void *exchange_busy(void *arg) {
    struct loner *l = arg;
    late_call(l->seat.w.q, "gate", pass_gate, &l, sizeof l);
    atomic_store(&is_busy, 1);
    shared_elastic(&l->seat.w, l->c, 0.5f, l->x);
    if (stream_sync(l->seat.w.q) != STATUS_OK) abort();
    return NULL;
}

/* One worker comes to exchange while its device is far from that; the other is not held up. The
 * pause lets the first do what it should not: take the lock. */
Test(late, in_free_order_no_one_waits_for_work_that_comes_before_an_exchange, .timeout = 20) {
    struct team_settings set = {.size = 2, .order = ORDER_FREE, .kind = &device_late};
    static struct loner busy, other;
    struct team *team;
    struct shared *c;
    float from[33] = {1, 1};
    pthread_t thread;
    sem_init(&gate, 0, 0);
    cr_assert(team_open(&team, &set) == STATUS_OK);
    cr_assert(shared_open(&c, team, "c", HOME_HOST, (struct vec){from, 33}) == STATUS_OK);
    loner_open(&busy, team, c, 0);
    loner_open(&other, team, c, 1);
    pthread_create(&thread, NULL, exchange_busy, &busy);
    while (!atomic_load(&is_busy)) usleep(100);
    usleep(50000);
    shared_elastic(&other.seat.w, c, 0.5f, other.x);
    cr_assert(stream_sync(other.seat.w.q) == STATUS_OK);
    cr_assert(other.x.at[0] == 0.5f && shared_vec(c).at[0] == 0.5f);
    sem_post(&gate);
    pthread_join(thread, NULL);
    cr_assert(busy.x.at[1] == 0.25f && shared_vec(c).at[1] == 0.25f);
    shared_close(c);
    team_close(team);
    loner_close(&busy);
    loner_close(&other);
}

/* ---- how often the host waits ----------------------------------------------------------------- */

/* Of one worker, on average. */
static double waits_of(const char *strategy, const char *task, int workers, int steps) {
    struct seen seen;
    on_late(1);
    run_words(&seen, NULL, "run.strategy=%s %s run.workers=%d run.steps=%d run.eval_every=1e9",
        strategy, task, workers, steps);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    seen_close(&seen);
    return (double)atomic_load(&late.waits) / workers;
}

/* From 80 steps to 400 the waits for opening, judging and closing are the same. Fewer waits would
 * mean that the host runs ahead without bound, and sees too late that something is lost. */
static void check_waits(const char *strategy, const char *task, double expected) {
    double few = waits_of(strategy, task, 2, 80), many = waits_of(strategy, task, 2, 400);
    cr_assert(fabs(many - few - expected) <= 2, "%s %s: %g waits in 320 steps, not %g", strategy,
        task, many - few, expected);
}

static const char counted_classify[] = "run.task=classify schedule.rate=0.01";

Test(late, a_synchronous_round_waits_once_in_a_while) {
    check_waits("allreduce", "", 320 / 8);
    check_waits("allreduce", counted_classify, 320 / 8);
    check_waits("easgd easgd.mode=sync easgd.tau=2", counted_classify, 160 / 8);
    check_waits("allreduce run.ahead=40", "", 320 / 40);
}

/* An exchange waits for its stream; and so does the look at the loss, every 8 rounds. */
Test(late, an_exchange_waits_once) {
    check_waits("easgd easgd.tau=10", "", 32 + 32 / 8);
    check_waits("easgd easgd.tau=10", counted_classify, 32 + 32 / 8);
    check_waits("easgd easgd.tau=10 run.order=fixed", "", 32 / 8);
}
