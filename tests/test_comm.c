/* test_comm.c -- sums over workers, by every way there is to take one, on any number of devices. The
 * oracle adds in rank order, one float after another, as fixed order promises. */
#include "runs.h"

#include <pthread.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"
#include "comm/comm.h"
#include "devices/reach.h"
#include "files.h"
#include "late.h"
#include "program.h"
#ifdef HAVE_NCCL
#include <nccl.h>
#endif

/* Some delay on each stream, so that what no event orders comes in another order now and then. */
static void open_all(void) {
    setenv("CUDASIM_JITTER_US", "100", 0);
    files_open();
    log_show(LOG_ERROR);
}

TestSuite(comm, .init = open_all, .fini = files_close, .timeout = 300);

#ifdef HAVE_CUDA
static const struct device_ops *const gpus = &device_cuda;
#else
static const struct device_ops *const gpus = NULL;
#endif

#define NEEDS_GPUS(n)                                                                              \
    do {                                                                                           \
        if (!gpus) cr_skip_test("built without CUDA; make sim tests sums between GPUs");           \
        int found_ = gpus->count();                                                                \
        if (found_ < (n)) cr_skip_test("needs %d GPUs, found %d", (n), found_);                    \
    } while (0)

#ifdef CUDASIM_NCCL_H
#define NEEDS_SIMULATION NEEDS_GPUS(4)
#else
#define NEEDS_SIMULATION cr_skip_test("needs the simulated CUDA: make sim")
static void cudasim_nccl_error(int error) { (void)error; }
static void cudasim_fault(int device) { (void)device; }
#ifndef NCCL_MAJOR
enum { ncclSuccess, ncclSystemError, ncclInProgress };
#endif
#endif

static const int SIZES[] = {1, 2, 3, 8}, SPREADS[] = {1, 2, 4};
static const char *const names[] = {"auto", "nccl", "copy", "host"};

/* ---- sums by themselves ----------------------------------------------------------------------- */

struct member {
    struct crowd *crowd;
    pthread_t thread;
    int rank;
    struct device *device;
    struct stream *q;
    float *brought, *got; /* (n); got after two sums */
    enum status end;
    char why[256];
};

struct crowd {
    struct team *team;
    struct member member[TEAM_MOST];
    const struct device_ops *ops;
    int size;
    int whole; /* numbers whose sums are exact in any order */
    int dealt; /* workers to devices like cards, so that those of one are no neighbors */
    int number[TEAM_MOST];
    size_t n;
    float scale;
};

static float number_of(const struct crowd *c, int rank, size_t i) {
    uint32_t word = rng_word((struct rng_key){7, (uint32_t)rank, 3}, i);
    return c->whole ? (float)(word % 64) : (float)(word >> 8) / 1e6f - 7;
}

static enum status sum_twice(struct member *m) {
    struct crowd *c = m->crowd;
    struct stream *q;
    struct comm *comm = team_comm(c->team);
    struct vec v = {NULL, c->n};
    struct ranks all = {0, c->size};
    TRY(device_open(&m->device, c->ops, c->number[m->rank], 1));
    TRY(stream_open(&m->q, m->device));
    q = m->q;
    TRY(team_join(c->team, m->rank, q));
    TRY(device_alloc(m->device, (void **)&v.at, (c->n + 1) * sizeof *v.at));
    stream_copy(q, v.at, m->brought, c->n * sizeof *v.at);
    comm_sum(comm, m->rank, q, v, c->scale, all);
    comm_sum(comm, m->rank, q, v, 0.25f, all);
    stream_copy(q, m->got, v.at, c->n * sizeof *v.at);
    TRY(stream_sync(q));
    double ranks = comm_sum1(comm, m->rank, q, m->rank);
    return ranks == c->size * (c->size - 1) / 2 ? STATUS_OK : fail(STATUS_FAILED, "%g", ranks);
}

static void *live(void *arg) {
    struct member *m = arg;
    m->end = sum_twice(m);
    if (m->end == STATUS_OK) return NULL;
    snprintf(m->why, sizeof m->why, "%s", fail_message());
    team_break(m->crowd->team, m->rank);
    if (m->q) (void)stream_sync(m->q);
    return NULL;
}

static void crowd_open(struct crowd *c, int order, enum comm_kind kind, int spread) {
    struct team_settings set = {
        .size = c->size, .order = order, .kind = c->ops, .number = c->number, .comm = (int)kind};
    for (int r = 0; r < c->size; r++) c->number[r] = c->dealt ? r % spread : r * spread / c->size;
    cr_assert(team_open(&c->team, &set) == STATUS_OK, "%s", fail_message());
    for (int r = 0; r < c->size; r++) {
        struct member *m = &c->member[r];
        *m = (struct member){.crowd = c, .rank = r};
        m->brought = malloc((c->n + 1) * sizeof *m->brought);
        m->got = malloc((c->n + 1) * sizeof *m->got);
        cr_assert(m->brought && m->got);
        for (size_t i = 0; i < c->n; i++) m->brought[i] = number_of(c, r, i);
    }
}

static void crowd_close(struct crowd *c) {
    team_close(c->team);
    for (int r = 0; r < c->size; r++) {
        stream_close(c->member[r].q);
        device_close(c->member[r].device);
        free(c->member[r].brought);
        free(c->member[r].got);
    }
}

/* The first element that is not the oracle's, bit for bit; n when all are. */
static size_t first_wrong(const struct crowd *c, const float *got) {
    for (size_t i = 0; i < c->n; i++) {
        float once = number_of(c, 0, i), twice;
        for (int r = 1; r < c->size; r++) once += number_of(c, r, i);
        once *= c->scale;
        twice = once;
        for (int r = 1; r < c->size; r++) twice += once;
        twice *= 0.25f;
        if (memcmp(&got[i], &twice, sizeof twice) != 0) return i;
    }
    return c->n;
}

static void check_sums(struct crowd *c, int order, enum comm_kind kind, int spread) {
    crowd_open(c, order, kind, spread);
    cr_assert(kind == COMM_AUTO || team_comm(c->team)->kind == kind);
    for (int r = 0; r < c->size; r++) {
        struct member *m = &c->member[r];
        cr_assert(pthread_create(&m->thread, NULL, live, m) == 0);
    }
    for (int r = 0; r < c->size; r++) pthread_join(c->member[r].thread, NULL);
    for (int r = 0; r < c->size; r++) {
        const struct member *m = &c->member[r];
        cr_assert(m->end == STATUS_OK, "%s", m->why);
        cr_assert(r == 0 || memcmp(m->got, c->member[0].got, c->n * sizeof *m->got) == 0,
            "worker %d has another sum than worker 0", r);
    }
    size_t wrong = first_wrong(c, c->member[0].got);
    cr_assert(wrong == c->n, "element %zu of %zu, %d workers on %d devices, %s, %s order", wrong,
        c->n, c->size, spread, names[kind], order == ORDER_FIXED ? "fixed" : "free");
    crowd_close(c);
}

static void check_both(
    const struct device_ops *ops, enum comm_kind kind, int size, int spread, size_t n) {
    static struct crowd c;
    c = (struct crowd){.ops = ops, .size = size, .n = n, .scale = 0.3f};
    check_sums(&c, ORDER_FIXED, kind, spread);
    c = (struct crowd){.ops = ops, .size = size, .n = n, .scale = 0.5f, .whole = 1};
    check_sums(&c, ORDER_FREE, kind, spread);
}

static void check_kind(const struct device_ops *ops, enum comm_kind kind) {
    static const size_t n[] = {0, 1, 31, 33, 255, 65537};
    for (int i = 0; i < 6; i++) check_both(ops, kind, 3, 2, n[i]);
    for (int i = 0; i < 12; i++) {
        int size = SIZES[i % 4], spread = SPREADS[i / 4];
        if (spread <= size) check_both(ops, kind, size, spread, 1001);
    }
}

Test(comm, the_host_adds_in_rank_order) { check_kind(&device_host, COMM_HOST); }
Test(comm, late_devices_that_reach_each_other_add_in_rank_order) {
    check_kind(&device_late, COMM_COPY);
}
Test(comm, late_devices_add_in_rank_order_on_the_host) { check_kind(&device_late, COMM_HOST); }
Test(comm, gpus_that_reach_each_other_add_in_rank_order) {
    NEEDS_GPUS(4);
    check_kind(gpus, COMM_COPY);
}
Test(comm, gpus_add_in_rank_order_on_the_host) {
    NEEDS_GPUS(4);
    check_kind(gpus, COMM_HOST);
}
Test(comm, nccl_gathers_and_gpus_add_in_rank_order) {
    NEEDS_GPUS(4);
    check_kind(gpus, COMM_NCCL);
}

/* Longer than what is gathered, or lands on the host, at a time. */
Test(comm, long_sums_are_taken_piece_by_piece) {
    static struct crowd c;
    for (int i = 0; i < 6; i++) {
        enum comm_kind kind = i < 2 ? COMM_HOST : (enum comm_kind)(COMM_NCCL + (i - 2) % 3);
        if (i >= 2 && (!gpus || gpus->count() < 2)) break;
        c = (struct crowd){.ops = i < 2 ? &device_late : gpus, .n = (1 << 20) + 33, .scale = 0.3f};
        c.size = 3;
        check_sums(&c, i % 2 || i >= 2 ? ORDER_FIXED : ORDER_FREE, kind, 2);
    }
}

Test(comm, workers_may_sit_anywhere) {
    NEEDS_GPUS(4);
    static struct crowd c;
    for (int kind = COMM_NCCL; kind <= COMM_HOST; kind++) {
        for (int order = ORDER_FREE; order <= ORDER_FIXED; order++) {
            c = (struct crowd){.ops = gpus, .size = 7, .n = 1001, .scale = 0.5f, .whole = 1};
            c.dealt = 1;
            check_sums(&c, order, (enum comm_kind)kind, 3);
        }
    }
}

/* ---- whole runs ------------------------------------------------------------------------------- */

static const struct device_ops *list[] = {NULL, NULL};

/* "cuda:0,cuda:1", of as many as there are. */
static void name_devices(char *text, size_t n, int count) {
    size_t at = (size_t)snprintf(text, n, "cuda:0");
    for (int i = 1; i < count; i++) at += (size_t)snprintf(text + at, n - at, ",cuda:%d", i);
}

static void run_on(
    struct seen *seen, const char *words, int workers, int spread, enum comm_kind kind) {
    char where[64];
    list[0] = gpus;
    runs_devices = list;
    name_devices(where, sizeof where, spread);
    run_words(seen, NULL, "%s run.workers=%d run.devices=%s run.comm=%s run.steps=6", words,
        workers, where, names[kind]);
    cr_assert(seen->end == STATUS_OK, "%s", seen->why);
}

/* One answer, and as many bytes, whoever adds and wherever the workers sit. */
static void check_runs(const char *words, int workers) {
    char fixed[256];
    struct seen first, other;
    snprintf(fixed, sizeof fixed,
        "%s run.order=fixed quadratic.n=1001 quadratic.sigma=1 quadratic.spread=2", words);
    run_on(&first, fixed, workers, 1, COMM_COPY);
    for (int kind = COMM_NCCL; kind <= COMM_HOST; kind++) {
        int spread = kind == COMM_COPY ? 4 : workers < 3 ? workers : 3;
        run_on(&other, fixed, workers, spread, (enum comm_kind)kind);
        int differ = seen_differ(&first, &other);
        cr_assert(differ == -1, "worker %d of %d, %s, %s", differ, workers, names[kind], words);
        cr_assert(first.result.bytes == other.result.bytes, "%g bytes became %g, %s",
            first.result.bytes, other.result.bytes, names[kind]);
        seen_close(&other);
    }
    seen_close(&first);
}

Test(comm, runs_in_fixed_order_have_the_same_bits_by_any_way_on_any_devices) {
    NEEDS_GPUS(4);
    check_runs("run.strategy=allreduce", 3);
    check_runs("run.strategy=allreduce", 8);
    check_runs("run.strategy=easgd easgd.mode=sync easgd.tau=2", 3);
    check_runs("run.strategy=local_sgd local_sgd.H=2", 3);
    check_runs("run.strategy=dpsgd", 4);
}

/* ---- what is chosen, and what is refused ------------------------------------------------------ */

static void check_choice(
    struct reach *reach, enum comm_kind wanted, enum comm_kind got, const char *words) {
    struct comm_setup setup = {
        .size = reach->count, .kind = wanted, .reach = reach, .patience = 0.2};
    struct comm *c = NULL;
    cr_assert(comm_open(&c, &setup) == STATUS_OK, "%s", fail_message());
    cr_assert(c->kind == got, "%s", c->why);
    cr_assert(!strcmp(c->why, words), "%s", c->why);
    comm_close(c);
}

static void check_refused(
    struct reach *reach, enum comm_kind wanted, enum status end, const char *words) {
    struct comm_setup setup = {
        .size = reach->count, .kind = wanted, .reach = reach, .patience = 0.2};
    struct comm *c = NULL;
    enum status got = comm_open(&c, &setup);
    cr_assert(got == end, "%d: %s", (int)got, fail_message());
    cr_assert(strstr(fail_message(), words) != NULL, "%s", fail_message());
}

Test(comm, workers_on_the_host_add_in_its_memory) {
    struct reach host = {.ops = &device_host, .count = 3};
    check_choice(&host, COMM_AUTO, COMM_HOST, "sums in host memory, where all workers are");
    check_refused(&host, COMM_NCCL, STATUS_BAD_CONFIG, "run.comm = nccl is between GPUs");
    check_refused(&host, COMM_COPY, STATUS_BAD_CONFIG, "run.comm = copy is between GPUs");
}

Test(comm, the_choice_falls_back_in_words) {
    static const int number[] = {0, 0, 1}, one[] = {2, 2};
    static struct reach reach;
    NEEDS_SIMULATION;
    reach_verify(&reach, gpus, one, 2, 10);
    check_choice(&reach, COMM_AUTO, COMM_COPY, "sums on cuda:2, which all workers share");
    reach_verify(&reach, gpus, number, 3, 10);
    check_choice(&reach, COMM_AUTO, COMM_NCCL, "sums by NCCL, one rank each on cuda:0..1");
    check_choice(&reach, COMM_HOST, COMM_HOST, "sums through host memory");
    cudasim_nccl_error(ncclSystemError);
    check_choice(&reach, COMM_AUTO, COMM_COPY,
        "sums over the peer access between cuda:0..1; no NCCL: NCCL on cuda:0: unhandled system "
        "error, at its start");
    check_refused(&reach, COMM_NCCL, STATUS_DEVICE, "run.comm = nccl: NCCL on cuda:0");
    cudasim_nccl_error(ncclInProgress);
    check_refused(&reach, COMM_NCCL, STATUS_DEVICE, "no answer");
}

Test(comm, without_peer_access_sums_go_through_the_host) {
    static const int number[] = {0, 1};
    static struct reach reach;
    NEEDS_SIMULATION;
    setenv("CUDASIM_PEER", "0", 1);
    reach_verify(&reach, gpus, number, 2, 10);
    check_choice(&reach, COMM_AUTO, COMM_NCCL, "sums by NCCL, one rank each on cuda:0..1");
    check_refused(
        &reach, COMM_COPY, STATUS_DEVICE, "run.comm = copy: cuda:0 does not reach cuda:1");
    cudasim_nccl_error(ncclSystemError);
    check_choice(&reach, COMM_AUTO, COMM_HOST,
        "sums through host memory: cuda:0 does not reach cuda:1: the driver offers no access, and "
        "1 "
        "more pair; no NCCL: NCCL on cuda:0: unhandled system error, at its start");
}

/* ---- what a user is told ---------------------------------------------------------------------- */

static void check_told(const char *more, const char *comm, const char *kind, const char *why) {
    char words[256];
    struct program p =
        program("train", "folder=@/runs", "name=a", "strategy=allreduce", "workers=2", "steps=2",
            "model.layers=dense 10", "run.eval_every=1e6", "devices=cuda:0,cuda:1", comm, more);
    snprintf(words, sizeof words, "info   %s\n", why);
    program_says(p, 0, words);
    snprintf(words, sizeof words, "\ncomm = %s\n", kind);
    program_left("runs/a/config.ini", words);
    snprintf(words, sizeof words, "\"comm\":\t\"%s\"", kind);
    program_left("runs/a/summary.json", words);
    snprintf(words, sizeof words, "\"comm_why\":\t\"%s\"", why);
    program_left("runs/a/summary.json", words);
}

Test(comm, between_gpus_is_told) {
    NEEDS_SIMULATION;
    check_told("order=free", "comm=auto", "nccl", "sums by NCCL, one rank each on cuda:0..1");
}

Test(comm, in_rank_order_is_told) {
    NEEDS_SIMULATION;
    check_told("order=fixed", "comm=nccl", "nccl",
        "sums by NCCL, one rank each on cuda:0..1, added in rank order");
}

Test(comm, that_is_asked_for_is_told) {
    NEEDS_SIMULATION;
    check_told("order=free", "comm=copy", "copy", "sums over the peer access between cuda:0..1");
}

/* ---- how it ends otherwise -------------------------------------------------------------------- */

static int meet_first(void *with, int rank) {
    (void)with;
    return rank == 0;
}

static void part_alone(void *with, int rank) { (void)with, (void)rank; }

static void *await_sum(void *arg) {
    struct member *m = arg;
    m->end = stream_sync(m->q);
    return NULL;
}

/* A sum of two ranks: the other brings its vector and then does not come to NCCL. */
static void half_open(struct comm **c, struct member *m, struct reach *reach, double patience) {
    static const int number[] = {0, 1};
    struct vec v = {NULL, 1001};
    reach_verify(reach, gpus, number, 2, 10);
    struct comm_setup setup = {.size = 2, .kind = COMM_NCCL, .reach = reach, .patience = patience};
    setup.waits = (struct comm_waits){meet_first, part_alone, NULL};
    cr_assert(comm_open(c, &setup) == STATUS_OK, "%s", fail_message());
    cr_assert(device_open(&m->device, gpus, 0, 1) == STATUS_OK);
    cr_assert(stream_open(&m->q, m->device) == STATUS_OK);
    cr_assert(device_alloc(m->device, (void **)&v.at, v.n * sizeof *v.at) == STATUS_OK);
    cr_assert(comm_join(*c, 0, m->q) == STATUS_OK);
    comm_sum(*c, 1, m->q, v, 1, (struct ranks){0, 2});
    cudasim_nccl_error(patience > 0 ? ncclInProgress : ncclSuccess);
    comm_sum(*c, 0, m->q, v, 1, (struct ranks){0, 2});
}

static void half_close(struct comm *c, struct member *m) {
    comm_close(c);
    stream_close(m->q);
    device_close(m->device);
}

Test(comm, an_abort_ends_a_sum_to_which_one_never_comes, .timeout = 30) {
    static struct reach reach;
    struct member m = {.rank = 0};
    struct comm *c;
    NEEDS_SIMULATION;
    half_open(&c, &m, &reach, 0);
    cr_assert(pthread_create(&m.thread, NULL, await_sum, &m) == 0);
    usleep(50000);
    comm_abort(c);
    pthread_join(m.thread, NULL);
    cr_assert(m.end == STATUS_OK, "%s", fail_message());
    cr_assert(comm_check(c) == STATUS_OK, "%s", fail_message());
    half_close(c, &m);
}

/* NCCL takes a sum on and says for good that it is at it. */
Test(comm, a_sum_that_nccl_does_not_begin_fails_after_a_while, .timeout = 30) {
    static struct reach reach;
    struct member m = {.rank = 0};
    struct comm *c;
    NEEDS_SIMULATION;
    half_open(&c, &m, &reach, 0.2);
    cr_assert(stream_sync(m.q) == STATUS_DEVICE);
    cr_assert(strstr(fail_message(), "NCCL on cuda:0: no answer"), "%s", fail_message());
    cr_assert(comm_check(c) == STATUS_DEVICE);
    cr_assert(strstr(fail_message(), "NCCL on cuda:0: no answer"), "%s", fail_message());
    half_close(c, &m);
}

static void break_nccl(void *with, const struct worker *w, struct vec answer) {
    (void)with, (void)answer;
    if (w->rank == 1 && w->round == 3) cudasim_nccl_error(ncclSystemError);
}

/* NCCL fails while none is in a call to it: worker 1 is busy, and worker 0 waits for it. */
static void break_nccl_and_work(void *with, const struct worker *w, struct vec answer) {
    break_nccl(with, w, answer);
    while (w->rank == 1 && w->round == 3 && !team_broken(w->team)) usleep(1000);
}

static void break_device(void *with, const struct worker *w, struct vec answer) {
    (void)with, (void)answer;
    if (w->rank == 1 && w->round == 3) cudasim_fault(1);
}

static void check_ends(const struct watch *watch, const char *words) {
    struct seen seen;
    list[0] = gpus;
    runs_devices = list;
    run_words(&seen, watch,
        "run.strategy=allreduce run.workers=2 run.devices=cuda:0,cuda:1 run.comm=nccl "
        "run.steps=1e6");
    cr_assert(seen.end == STATUS_DEVICE, "%d: %s", (int)seen.end, seen.why);
    cr_assert(strstr(seen.why, words) != NULL, "%s", seen.why);
    seen_close(&seen);
}

Test(comm, an_error_of_nccl_ends_the_run_in_its_words, .timeout = 60) {
    struct watch watch = {.rounded = break_nccl};
    NEEDS_SIMULATION;
    check_ends(&watch, "NCCL on cuda:");
}

Test(comm, an_error_of_nccl_is_seen_while_all_are_busy, .timeout = 60) {
    struct watch watch = {.rounded = break_nccl_and_work};
    NEEDS_SIMULATION;
    check_ends(&watch, "NCCL on cuda:");
}

Test(comm, a_gpu_that_is_lost_ends_the_run_and_hangs_nobody, .timeout = 60) {
    struct watch watch = {.rounded = break_device};
    NEEDS_SIMULATION;
    check_ends(&watch, "cuda:1");
}

/* ---- asynchronous strategies ------------------------------------------------------------------ */

static _Thread_local int in_round;
static atomic_long collectives;
static pthread_mutex_t spy_lock = PTHREAD_MUTEX_INITIALIZER;
static struct comm_ops spy;
static const struct comm_ops *real;

static void spy_sum(
    struct comm *c, int rank, struct stream *q, struct vec v, float scale, struct ranks of) {
    atomic_fetch_add(&collectives, in_round);
    real->sum(c, rank, q, v, scale, of);
}

static void spy_mix(
    struct comm *c, int rank, struct stream *q, struct vec y, struct vec v, const float *weight) {
    atomic_fetch_add(&collectives, in_round);
    real->mix(c, rank, q, y, v, weight);
}

static double spy_sum1(struct comm *c, int rank, struct stream *q, double a) {
    atomic_fetch_add(&collectives, in_round);
    return real->sum1(c, rank, q, a);
}

/* Before a worker's first round the spy takes its seat. */
static void spy_begins(void *with, const struct worker *w) {
    (void)with;
    in_round = 1;
    if (w->round > 0) return;
    pthread_mutex_lock(&spy_lock);
    struct comm *c = team_comm(w->team);
    if (c->ops != &spy) {
        real = c->ops;
        spy = *real;
        spy.sum = spy_sum;
        spy.mix = spy_mix;
        spy.sum1 = spy_sum1;
        c->ops = &spy;
    }
    pthread_mutex_unlock(&spy_lock);
}

static void spy_rounded(void *with, const struct worker *w, struct vec answer) {
    (void)with, (void)w, (void)answer;
    in_round = 0;
}

static long collectives_of(const char *strategy) {
    static const struct device_ops *const on_host[] = {&device_host, NULL};
    struct watch watch = {.begins = spy_begins, .rounded = spy_rounded};
    struct seen seen;
    runs_devices = on_host;
    atomic_store(&collectives, 0);
    run_words(
        &seen, &watch, "run.strategy=%s run.workers=3 run.steps=40 run.eval_every=50", strategy);
    cr_assert(seen.end == STATUS_OK, "%s: %s", strategy, seen.why);
    seen_close(&seen);
    return atomic_load(&collectives);
}

Test(comm, asynchronous_rounds_have_no_collective) {
#ifdef __SANITIZE_THREAD__
    cr_skip_test(
        "the spy sits down while the main thread looks at the seat: a race, of the test's");
#endif
    static const char *const alone[] = {
        "easgd", "easgd_tree", "downpour", "adownpour", "mvadownpour", "mdownpour", "gossip"};
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        cr_assert(collectives_of(alone[i]) == 0, "%s has collectives", alone[i]);
    }
    cr_assert(collectives_of("allreduce") > 0);
}
