/* test_center.c -- shared vectors and devices: exchanges by kernel and by copies do the same and lose
 * nothing, mailboxes live where they are read, and what is faster is found out. On devices that are
 * late, and on the simulated CUDA. */
#include "runs.h"

#include "base/log.h"
#include "engine/seat.h"
#include "files.h"
#include "late.h"
#include "program.h"

#ifdef HAVE_CUDA
#include <cuda_runtime.h>
#endif

static void open_all(void) {
    setenv("CUDASIM_JITTER_US", "50", 0);
    files_open();
    log_show(LOG_ERROR);
}

TestSuite(center, .init = open_all, .fini = files_close, .timeout = 300);

enum { PLAYERS = 3, PASSES = 4, CHUNKED = 1 << 18, LONG = 3 * CHUNKED + 17 };

/* ---- workers outside of any run --------------------------------------------------------------- */

struct game {
    const struct device_ops *kind;
    int center, order, depth;
    size_t n, chunk;
    float alpha;
    void (*play)(struct game *g, struct worker *w, struct vec x, struct vec y);
    struct team *team;
    struct shared *c, *box[PLAYERS]; /* boxes where there is a game with them */
    int boxes;
    float *x[PLAYERS], *end; /* before and after; the shared vector's */
};

struct player {
    struct game *game;
    struct seat seat;
    struct learner learner;
    struct vec x, y;
    pthread_t thread;
};

static int number_of(const struct game *g, int rank) { return rank % g->kind->count(); }

static enum status player_open(struct player *p) {
    struct game *g = p->game;
    struct worker *w = &p->seat.w;
    TRY(device_open(&p->seat.device, g->kind, number_of(g, w->rank), 1));
    TRY(stream_open(&w->q, p->seat.device));
    TRY(event_open(&p->learner.passed, p->seat.device));
    TRY(device_alloc(p->seat.device, (void **)&p->x.at, (g->n + 1) * sizeof(float)));
    TRY(device_alloc(p->seat.device, (void **)&p->y.at, (g->n + 1) * sizeof(float)));
    p->x.n = p->y.n = g->n;
    p->learner.q = w->q;
    p->seat.learner = &p->learner;
    return team_join(g->team, w->rank, w->q);
}

static void *player_main(void *arg) {
    struct player *p = arg;
    struct game *g = p->game;
    struct worker *w = &p->seat.w;
    if (player_open(p) != STATUS_OK) abort();
    stream_copy(w->q, p->x.at, g->x[w->rank], g->n * sizeof(float));
    if (stream_sync(w->q) != STATUS_OK) abort();
    if (!team_meet(g->team, w->rank)) abort();
    team_part(g->team, w->rank);
    for (int i = 0; i < PASSES; i++) g->play(g, w, p->x, p->y);
    stream_copy(w->q, g->x[w->rank], p->x.at, g->n * sizeof(float));
    if (stream_sync(w->q) != STATUS_OK) abort();
    team_leave(g->team, w->rank);
    return NULL;
}

static void player_close(struct player *p) {
    event_close(p->learner.passed, p->seat.device);
    stream_close(p->seat.w.q);
    device_close(p->seat.device);
}

/* Whole numbers, other ones in each vector. */
static float start_of(int rank, size_t i) { return (float)(1000 * (rank + 1)) + (float)(i % 997); }

static void game_play(struct game *g) {
    static struct player player[PLAYERS];
    int number[PLAYERS];
    for (int r = 0; r < PLAYERS; r++) number[r] = number_of(g, r);
    struct team_settings set = {.size = PLAYERS,
        .order = g->order,
        .kind = g->kind,
        .number = number,
        .center = g->center,
        .chunk = g->chunk,
        .depth = g->depth};
    g->end = malloc((g->n + 1) * sizeof(float));
    for (size_t i = 0; i < g->n; i++) g->end[i] = start_of(PLAYERS, i);
    cr_assert(team_open(&g->team, &set) == STATUS_OK, "%s", fail_message());
    cr_assert(shared_open(&g->c, g->team, "c", HOME_HOST, (struct vec){g->end, g->n}) == STATUS_OK);
    for (int r = 0; r < PLAYERS && g->boxes; r++) {
        cr_assert(
            shared_open(&g->box[r], g->team, "box", r, (struct vec){g->end, g->n}) == STATUS_OK);
    }
    memset(player, 0, sizeof player);
    for (int r = 0; r < PLAYERS; r++) {
        struct player *p = &player[r];
        g->x[r] = malloc((g->n + 1) * sizeof(float));
        for (size_t i = 0; i < g->n; i++) g->x[r][i] = start_of(r, i);
        p->game = g;
        p->seat.w = (struct worker){.team = g->team, .rank = r, .size = PLAYERS, .seat = &p->seat};
        cr_assert(pthread_create(&p->thread, NULL, player_main, p) == 0);
    }
    for (int r = 0; r < PLAYERS; r++) pthread_join(player[r].thread, NULL);
    memcpy(g->end, shared_vec(g->c).at, g->n * sizeof(float));
    for (int r = 0; r < PLAYERS; r++) shared_close(g->box[r]);
    shared_close(g->c);
    team_close(g->team);
    for (int r = 0; r < PLAYERS; r++) player_close(&player[r]);
}

static void game_close(struct game *g) {
    for (int r = 0; r < PLAYERS; r++) free(g->x[r]);
    free(g->end);
}

static const struct device_ops *const kinds[] = {
    &device_late,
#ifdef CUDASIM
    &device_cuda,
#endif
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* ---- nothing is lost -------------------------------------------------------------------------- */

static void play_elastic(struct game *g, struct worker *w, struct vec x, struct vec y) {
    (void)y;
    shared_elastic(w, g->c, g->alpha, x);
}

static void check_sum(const struct game *g, double tolerance) {
    for (size_t i = 0; i < g->n; i++) {
        double before = (double)start_of(PLAYERS, i), after = (double)g->end[i];
        for (int r = 0; r < PLAYERS; r++) {
            before += (double)start_of(r, i);
            after += (double)g->x[r][i];
        }
        cr_assert(fabs(after - before) <= tolerance, "%s, %zu of %zu: %.9g became %.9g",
            g->kind->kind, i, g->n, before, after);
    }
}

/* Each exchange rounds twice, by half a unit in the last place of what is below 5000. */
static void check_conserved(int center, float alpha, double tolerance) {
    static const size_t lengths[] = {1, 33, CHUNKED, LONG};
    for (int k = 0; k < KINDS; k++) {
        for (int l = 0; l < 4; l++) {
            struct game g = {.kind = kinds[k],
                .center = center,
                .order = ORDER_FREE,
                .n = lengths[l],
                .alpha = alpha,
                .play = play_elastic};
            if (kinds[k]->count() == 0) continue;
            game_play(&g);
            check_sum(&g, tolerance);
            game_close(&g);
        }
    }
}

static const double ROUNDED = PASSES * PLAYERS * 2 * 5000 * 0x1p-24;

/* With alpha = 1 the two swap whole numbers: not a bit may be lost. */
Test(center, exchanges_by_kernel_conserve_the_sum) {
    check_conserved(CENTER_ZERO_COPY, 1, 0);
    check_conserved(CENTER_ZERO_COPY, 0.3f, ROUNDED);
}

Test(center, exchanges_by_copies_conserve_the_sum) {
    check_conserved(CENTER_STAGED, 1, 0);
    check_conserved(CENTER_STAGED, 0.3f, ROUNDED);
}

/* Chunks that are many for the places where they are staged, and one that is short. */
Test(center, chunks_of_any_length_and_number_conserve_the_sum) {
    static const size_t lengths[] = {1, 1000, 20000};
    for (int k = 0; k < KINDS; k++) {
        for (int depth = 1; depth <= 5; depth += 2) {
            for (int l = depth < 3 ? 1 : 0; l < 3 && kinds[k]->count(); l++) {
                struct game g = {.kind = kinds[k],
                    .center = depth == 5 ? CENTER_ZERO_COPY : CENTER_STAGED,
                    .order = ORDER_FREE,
                    .chunk = lengths[l],
                    .depth = depth,
                    .n = lengths[l] * 7 + lengths[l] / 2,
                    .alpha = 1,
                    .play = play_elastic};
                game_play(&g);
                check_sum(&g, 0);
                game_close(&g);
            }
        }
    }
}

/* ---- the same bits ---------------------------------------------------------------------------- */

/* All that may be done with a shared vector, and work on x before and after. */
static void play_all(struct game *g, struct worker *w, struct vec x, struct vec y) {
    vec_mix(w->q, x, 0.875f, 0.125f, y);
    shared_elastic(w, g->c, g->alpha, x);
    vec_mix(w->q, y, 0.5f, 0.25f, x);
    shared_elastic(w, g->c, 0.5f, x);
    shared_lock(w, g->c);
    shared_mix(w, g->c, 0.75f, 0.25f, y);
    shared_read(w, g->c, y);
    shared_unlock(w, g->c);
}

/* One worker after the other at each event, as fixed order has it. */
static void oracle(const struct game *g, size_t i, double x[PLAYERS], double *c) {
    double y[PLAYERS] = {0}, alpha[2] = {(double)g->alpha, 0.5};
    *c = (double)start_of(PLAYERS, i);
    for (int r = 0; r < PLAYERS; r++) x[r] = (double)start_of(r, i);
    for (int pass = 0; pass < PASSES; pass++) {
        for (int part = 0; part < 2; part++) {
            for (int r = 0; r < PLAYERS; r++) {
                if (part == 0) x[r] = 0.875 * x[r] + 0.125 * y[r];
                double d = alpha[part] * (x[r] - *c);
                if (part == 1) y[r] = 0.5 * y[r] + 0.25 * x[r];
                if (part == 1) d = alpha[part] * (x[r] - *c);
                x[r] -= d;
                *c += d;
            }
        }
        for (int r = 0; r < PLAYERS; r++) y[r] = *c = 0.75 * *c + 0.25 * y[r];
    }
}

static void check_oracle(const struct game *g) {
    for (size_t i = 0; i < g->n; i += 1009) {
        double x[PLAYERS], c;
        oracle(g, i, x, &c);
        cr_assert(fabs((double)g->end[i] - c) <= 1e-5 * fabs(c), "%zu: %g", i, (double)g->end[i]);
        for (int r = 0; r < PLAYERS; r++) {
            double is = (double)g->x[r][i];
            cr_assert(fabs(is - x[r]) <= 1e-5 * fabs(x[r]), "%d %zu: %g", r, i, is);
        }
    }
}

Test(center, in_fixed_order_both_ways_give_the_same_bits) {
    for (int k = 0; k < KINDS; k++) {
        struct game g[2];
        if (kinds[k]->count() == 0) continue;
        for (int way = 0; way < 2; way++) {
            g[way] = (struct game){.kind = kinds[k],
                .center = way,
                .order = ORDER_FIXED,
                .n = LONG,
                .alpha = 0.3f,
                .play = play_all};
            game_play(&g[way]);
        }
        check_oracle(&g[CENTER_ZERO_COPY]);
        cr_assert(memcmp(g[0].end, g[1].end, LONG * sizeof(float)) == 0);
        for (int r = 0; r < PLAYERS; r++) {
            cr_assert(memcmp(g[0].x[r], g[1].x[r], LONG * sizeof(float)) == 0, "%d", r);
        }
        game_close(&g[0]);
        game_close(&g[1]);
    }
}

/* ---- what is faster --------------------------------------------------------------------------- */

static const struct device_ops *const late_devices[] = {&device_late, NULL};
static const struct device_ops *const host_devices[] = {&device_host, NULL};

/* The run's resolved setting, as a resume reads it. */
static void setting_of(const char *name, char *value, size_t n) {
    char path[256], line[256];
    snprintf(path, sizeof path, "%s/config.ini", name);
    snprintf(value, n, "nothing");
    FILE *f = fopen(files_path(path), "r");
    cr_assert(f != NULL, "%s", path);
    while (fgets(line, sizeof line, f)) {
        if (!strncmp(line, "center = ", 9))
            snprintf(value, n, "%.*s", (int)strcspn(line + 9, "\n"), line + 9);
    }
    fclose(f);
}

static int way_taken; /* by the run's last round */

static void note_way(void *with, const struct worker *w) {
    (void)with;
    if (w->rank == 0) way_taken = team_center(w->team);
}

static void check_chosen(const char *name, const char *words, const char *expected) {
    static const char *const ways[] = {"zero_copy", "staged", "auto"};
    const struct watch watch = {.begins = note_way};
    char value[64];
    struct seen seen;
    run_words(&seen, &watch,
        "run.folder=%s run.name=%s run.workers=3 run.steps=8 quadratic.n=300001 %s", files_folder,
        name, words);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    setting_of(name, value, sizeof value);
    cr_assert(strcmp(value, expected) == 0, "%s: %s", words, value);
    cr_assert(strcmp(ways[way_taken], expected) == 0, "%s: it is %s", words, ways[way_taken]);
    seen_close(&seen);
}

Test(center, the_faster_way_is_chosen_at_start_and_written_into_the_config) {
    runs_devices = late_devices;
    late.slow_copies = 5000;
    check_chosen("measured", "run.strategy=easgd easgd.tau=2", "zero_copy");
    late.slow_copies = 0;
    check_chosen("insisted", "run.strategy=easgd easgd.tau=2 run.center=staged", "staged");
    check_chosen("no_center", "run.strategy=allreduce", "auto");
    runs_devices = host_devices;
    check_chosen("host", "run.strategy=easgd easgd.tau=2", "auto");
}

/* Versions, turns and values are as if nobody had measured: adownpour's mean is weighed by the
 * version. */
Test(center, measuring_leaves_no_trace) {
    static const char *const ways[] = {"auto", "zero_copy", "staged"};
    static const char *const strategy[] = {
        "easgd easgd.tau=3", "downpour", "adownpour adownpour.tau=2", "easgd_tree"};
    runs_devices = late_devices;
    for (int s = 0; s < 4; s++) {
        struct seen seen[3];
        for (int i = 0; i < 3; i++) {
            run_words(&seen[i], NULL,
                "run.strategy=%s run.order=fixed run.center=%s run.workers=3 run.steps=12 "
                "quadratic.n=300001 quadratic.spread=2 schedule.rate=0.1",
                strategy[s], ways[i]);
            cr_assert(seen[i].end == STATUS_OK, "%s", seen[i].why);
            cr_assert(seen_differ(&seen[0], &seen[i]) == -1, "%s, %s", strategy[s], ways[i]);
            cr_assert(seen[i].result.bytes == seen[0].result.bytes, "%g, %g", seen[i].result.bytes,
                seen[0].result.bytes);
        }
        for (int i = 0; i < 3; i++) seen_close(&seen[i]);
    }
}

#ifdef CUDASIM

/* On GPUs where what is slow is slower than anything else by far. */
static void check_told(const char *slow, const char *expected) {
    char words[96];
    setenv(slow, "10000", 1);
    struct program p =
        program("train", "folder=@/runs", "name=a", "strategy=easgd", "easgd.tau=2", "workers=2",
            "devices=cuda:0,cuda:1", "steps=4", "model.layers=dense 10", "run.eval_every=1e6");
    unsetenv(slow);
    snprintf(words, sizeof words, "center = %s: exchanges by kernels took ", expected);
    program_says(p, 0, words);
    snprintf(words, sizeof words, "\ncenter = %s\n", expected);
    program_left("runs/a/config.ini", words);
}

Test(center, is_staged_where_kernels_are_slow_on_memory_of_the_host) {
    if (device_cuda.count() < 2) cr_skip_test("needs 2 GPUs");
    check_told("CUDASIM_HOST_KERNEL_US", "staged");
}

Test(center, stays_where_it_is_where_copies_are_slow) {
    if (device_cuda.count() < 2) cr_skip_test("needs 2 GPUs");
    check_told("CUDASIM_HOST_COPY_US", "zero_copy");
}

#endif

/* ---- mailboxes -------------------------------------------------------------------------------- */

#ifndef CUDASIM

Test(center, mailboxes_of_gpus) { cr_skip_test("needs the simulated CUDA: make sim"); }

#else

#define NEEDS(n)                                                                                   \
    do {                                                                                           \
        if (device_cuda.count() < (n)) cr_skip_test("needs %d GPUs", (n));                         \
    } while (0)

/* The device whose memory this is; -1: the host's. */
static int lives_on(const struct shared *s) {
    struct cudaPointerAttributes at;
    cr_assert(cudaPointerGetAttributes(&at, shared_vec(s).at) == cudaSuccess);
    return at.type == cudaMemoryTypeDevice ? at.device : -1;
}

static void check_homes(const int *number, const int *expected) {
    struct team_settings set = {
        .size = 3, .order = ORDER_FREE, .kind = &device_cuda, .number = number};
    float x[33];
    struct team *team;
    struct shared *s[4];
    for (int i = 0; i < 33; i++) x[i] = (float)i;
    cr_assert(team_open(&team, &set) == STATUS_OK, "%s", fail_message());
    for (int i = 0; i < 4; i++) {
        cr_assert(shared_open(&s[i], team, "s", i - 1, (struct vec){x, 33}) == STATUS_OK);
        cr_assert(lives_on(s[i]) == expected[i], "home %d: %d", i - 1, lives_on(s[i]));
    }
    for (int i = 0; i < 4; i++) shared_close(s[i]);
    team_close(team);
}

Test(center, a_mailbox_lives_on_its_workers_device_where_all_reach_it) {
    NEEDS(3);
    const int three[] = {0, 1, 2}, same[] = {2, 2, 2}, two[] = {1, 1, 2};
    check_homes(three, (const int[]){-1, 0, 1, 2});
    check_homes(same, (const int[]){-1, 2, 2, 2});
    cudasim_peer_trouble(2, 1, CUDASIM_PEER_WRITES);
    check_homes(three, (const int[]){-1, 0, -1, 2});
    check_homes(two, (const int[]){-1, -1, -1, 2});
    cr_assert(cudasim_live() == 0);
}

static void gossip(struct seen *seen, const char *words) {
    static const struct device_ops *const cuda_devices[] = {&device_cuda, NULL};
    runs_devices = cuda_devices;
    run_words(seen, NULL,
        "run.strategy=gossip run.order=fixed run.workers=3 quadratic.n=1001 "
        "quadratic.spread=2 "
        "schedule.rate=0.1 %s",
        words);
    cr_assert(seen->end == STATUS_OK, "%s", seen->why);
}

/* Pushes to the next, reads what came. */
static void play_boxes(struct game *g, struct worker *w, struct vec x, struct vec y) {
    struct shared *to = g->box[(w->rank + 1) % PLAYERS], *mine = g->box[w->rank];
    shared_lock(w, to);
    shared_mix(w, to, 0.75f, 0.25f, x);
    shared_unlock(w, to);
    shared_lock(w, mine);
    shared_read(w, mine, y);
    shared_unlock(w, mine);
    vec_mix(w->q, x, 0.3f, 0.7f, y);
}

Test(center, where_mailboxes_live_changes_no_bit) {
    NEEDS(3);
    static const struct device_ops *const places[] = {&device_cuda, &device_cuda, &device_late};
    struct game g[3];
    for (int i = 0; i < 3; i++) {
        g[i] = (struct game){
            .kind = places[i], .order = ORDER_FIXED, .n = 65537, .boxes = 1, .play = play_boxes};
        game_play(&g[i]);
        cudasim_peer_trouble(2, 1, CUDASIM_PEER_WRITES);
        cudasim_peer_trouble(0, 2, CUDASIM_PEER_COPIES);
    }
    for (int i = 1; i < 3; i++) {
        for (int r = 0; r < PLAYERS; r++) {
            cr_assert(memcmp(g[0].x[r], g[i].x[r], g[0].n * sizeof(float)) == 0, "%d %d", i, r);
        }
    }
    for (int i = 0; i < 3; i++) game_close(&g[i]);
}

Test(center, mailboxes_on_devices_are_saved_and_restored) {
    NEEDS(3);
    struct seen straight, half, rest;
    char words[512];
    gossip(&straight, "run.steps=24");
    snprintf(words, sizeof words, "run.folder=%s run.name=half run.steps=12", files_folder);
    gossip(&half, words);
    snprintf(words, sizeof words, "run.folder=%s run.name=half run.steps=24", files_folder);
    runs_resume = 1;
    gossip(&rest, words);
    cr_assert(seen_differ(&straight, &rest) == -1);
    seen_close(&straight);
    seen_close(&half);
    seen_close(&rest);
}

#endif
