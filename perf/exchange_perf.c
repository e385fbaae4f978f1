/* exchange_perf.c -- what it costs workers to meet, beside the memory traffic that this needs.
 *
 * The engine's own parts on threads that sit as a run's workers do: elastic averaging with one
 * shared vector, by chunks and under one lock, and the mean over workers. Beside each, in turn with
 * it, plain loops that read and write as many bytes, in memory that lies as its does, and wait for
 * nobody. The columns are derived in README.md.
 *
 * usage: exchange_perf [-b BYTES] [-e BYTES] [-f FACTOR] [-t WORKERS] [-n SAMPLES]
 * -b, -e, -f: vectors of b, b f, b f f ... to e bytes, instead of one for inside the last-level
 * cache and one for outside; -t: so many workers instead of 1, 2, 4 ... to the cores, at least 2.
 */
#include <pthread.h>
#include <unistd.h>

#include "devices/openmp.h"
#include "engine/seat.h"
#include "perf.h"
#include "topology/topology.h"

enum { WAYS = 5, MOST_SAMPLES = 99 };

struct options {
    size_t from, to;
    double factor;
    int workers, samples;
};

struct bench;

/* A worker with a seat in each of two teams, one in free and one in fixed order. */
struct member {
    struct bench *bench;
    pthread_t thread;
    struct seat free, fixed;
    float *x, *c; /* a replica; a center that nobody shares */
};

struct bench {
    const struct machine *machine;
    struct place place[TEAM_MOST];
    int workers, samples;
    size_t n; /* floats of the vector */
    struct team *free, *fixed;
    struct shared *center, *locked;
    struct member member[TEAM_MOST];
    pthread_barrier_t barrier;
    long calls[WAYS];
    double seconds[WAYS][MOST_SAMPLES]; /* a call */
};

static void must(enum status end) {
    if (end == STATUS_OK) return;
    fprintf(stderr, "exchange_perf: %s\n", fail_message());
    exit(status_exit_code(end));
}

/* ---- the ways ----------------------------------------------------------------------------------- */

static const float ALPHA = 0.1f;

static void elastic_by_chunks(struct member *m) {
    shared_elastic(&m->free.w, m->bench->center, ALPHA, (struct vec){m->x, m->bench->n});
}

static void elastic_locked(struct member *m) {
    shared_elastic(&m->fixed.w, m->bench->locked, ALPHA, (struct vec){m->x, m->bench->n});
}

/* Reads and writes two vectors, as an elastic exchange does; nobody else has this center. */
static void elastic_bound(struct member *m) {
    float *restrict x = m->x, *restrict c = m->c;
    size_t n = m->bench->n;
    for (size_t i = 0; i < n; i++) {
        float d = ALPHA * (x[i] - c[i]);
        x[i] = x[i] - d;
        c[i] = c[i] + d;
    }
}

static void mean(struct member *m) { team_mean(&m->free.w, (struct vec){m->x, m->bench->n}); }

/* Reads and writes a slice of everybody's vector, a different one each, as the mean does. */
static void mean_bound(struct member *m) {
    const struct bench *b = m->bench;
    size_t rank = (size_t)m->free.w.rank, p = (size_t)b->workers, lines = b->n / 16;
    size_t from = lines * rank / p * 16, to = rank + 1 == p ? b->n : lines * (rank + 1) / p * 16;
    for (size_t r = 0; r < p; r++) {
        float *restrict x = b->member[r].x;
        for (size_t i = from; i < to; i++) x[i] = 0.5f * x[i] + 0.5f;
    }
}

/* What is measured, and which way is its bound. */
static const struct way {
    const char *name;
    void (*run)(struct member *m);
    int bound;
    int vectors; /* read and written, by each worker */
} ways[WAYS] = {
    {"elastic, chunks", elastic_by_chunks, 2, 2},
    {"elastic, one lock", elastic_locked, 2, 2},
    {"elastic's bytes", elastic_bound, -1, 2},
    {"mean", mean, 4, 1},
    {"mean's bytes", mean_bound, -1, 1},
};

/* ---- taking turns ------------------------------------------------------------------------------- */

/* All workers, `calls` times; seconds a call until the last has done. */
static double time_way(struct member *m, const struct way *way, long calls) {
    pthread_barrier_wait(&m->bench->barrier);
    double start = clock_seconds();
    for (long i = 0; i < calls; i++) way->run(m);
    pthread_barrier_wait(&m->bench->barrier);
    return (clock_seconds() - start) / (double)calls;
}

static float *room(struct member *m, size_t n) {
    void *at;
    must(device_alloc(m->free.device, &at, n * sizeof(float)));
    return at;
}

/* Memory is first touched here, by the thread that will use it. */
static void member_settle(struct member *m) {
    struct bench *b = m->bench;
    const struct place *place = &b->place[m->free.w.rank];
    topology_bind(b->machine, place);
    openmp_settle(1);
    must(device_open(&m->free.device, &device_host, 0, 1));
    must(stream_open(&m->free.w.q, m->free.device));
    m->fixed.w.q = m->free.w.q;
    m->x = room(m, b->n);
    m->c = room(m, b->n);
    for (size_t i = 0; i < b->n; i++) {
        m->x[i] = (float)(m->free.w.rank + 1);
        m->c[i] = 1;
    }
}

static void *member_main(void *arg) {
    struct member *m = arg;
    struct bench *b = m->bench;
    int first = m->free.w.rank == 0;
    member_settle(m);
    for (int k = 0; k < WAYS; k++) {
        time_way(m, &ways[k], 2);
        double once = time_way(m, &ways[k], 2);
        if (first) b->calls[k] = (long)(0.05 / once) + 1;
    }
    pthread_barrier_wait(&b->barrier);
    for (int s = 0; s < b->samples; s++) {
        for (int k = 0; k < WAYS; k++) {
            double seconds = time_way(m, &ways[k], b->calls[k]);
            if (first) b->seconds[k][s] = seconds;
        }
    }
    team_leave(b->free, m->free.w.rank);
    team_leave(b->fixed, m->fixed.w.rank);
    pthread_barrier_wait(&b->barrier);
    stream_close(m->free.w.q);
    device_close(m->free.device);
    return NULL;
}

static void open_teams(struct bench *b) {
    struct team_settings set = {.size = b->workers,
        .order = ORDER_FREE,
        .spin = b->workers > b->machine->cores ? 0 : 2000,
        .machine = b->machine,
        .places = b->place};
    must(team_open(&b->free, &set));
    set.order = ORDER_FIXED;
    must(team_open(&b->fixed, &set));
    struct vec start = {calloc(b->n, sizeof *start.at), b->n};
    if (!start.at) must(fail(STATUS_FAILED, "no memory for %zu floats", b->n));
    must(shared_open(&b->center, b->free, "center", HOME_HOST, start));
    must(shared_open(&b->locked, b->fixed, "locked", HOME_HOST, start));
    free(start.at);
}

static void seat_take(struct seat *s, struct team *team, int rank, int size) {
    s->w = (struct worker){.team = team, .rank = rank, .size = size, .seat = s};
}

static void bench_run(struct bench *b) {
    must(plan_places(b->machine, b->workers, 1, b->place));
    open_teams(b);
    pthread_barrier_init(&b->barrier, NULL, (unsigned)b->workers);
    for (int r = 0; r < b->workers; r++) {
        struct member *m = &b->member[r];
        m->bench = b;
        seat_take(&m->free, b->free, r, b->workers);
        seat_take(&m->fixed, b->fixed, r, b->workers);
        if (pthread_create(&m->thread, NULL, member_main, m))
            must(fail(STATUS_FAILED, "no thread"));
    }
    for (int r = 0; r < b->workers; r++) pthread_join(b->member[r].thread, NULL);
    pthread_barrier_destroy(&b->barrier);
    shared_close(b->center);
    shared_close(b->locked);
    team_close(b->free);
    team_close(b->fixed);
}

/* ---- the table ---------------------------------------------------------------------------------- */

static double median(const struct bench *b, int k) {
    double sorted[MOST_SAMPLES];
    memcpy(sorted, b->seconds[k], sizeof sorted);
    qsort(sorted, (size_t)b->samples, sizeof *sorted, perf_order);
    return sorted[b->samples / 2];
}

/* The median of the ratios of neighbors in time, which a machine that slows down leaves alone. */
static double ratio(const struct bench *b, int k, int bound) {
    double sorted[MOST_SAMPLES];
    for (int s = 0; s < b->samples; s++) sorted[s] = b->seconds[k][s] / b->seconds[bound][s];
    qsort(sorted, (size_t)b->samples, sizeof *sorted, perf_order);
    return sorted[b->samples / 2];
}

static void rows(
    const struct machine *machine, const struct options *o, int workers, size_t bytes) {
    struct bench *b = calloc(1, sizeof *b);
    if (!b) must(fail(STATUS_FAILED, "no memory"));
    b->machine = machine;
    b->workers = workers;
    b->samples = o->samples;
    b->n = bytes / sizeof(float);
    bench_run(b);
    for (int k = 0; k < WAYS; k++) {
        const struct way *way = &ways[k];
        if (way->bound < 0) continue;
        double time = median(b, k), moved = 2.0 * way->vectors * workers * (double)bytes;
        printf("%-18s %8d %12zu %8.2f %10.1f %10.1f %8.2f %8.2f %8.2f\n", way->name, workers, bytes,
            2.0 * workers * (double)bytes / (double)perf_last_cache(), 1e6 * time,
            1e6 * median(b, way->bound), ratio(b, k, way->bound), 1e-9 * (double)bytes / time,
            1e-9 * moved / time);
    }
    fflush(stdout);
    free(b);
}

/* A vector so that all that is touched is half of the last-level cache, or eight times that cache:
 * a replica and a center of one's own for each worker. */
static void rows_of(const struct machine *machine, const struct options *o, int workers) {
    size_t each = perf_last_cache() / 2 / (size_t)workers / 64 * 64;
    if (!o->from) {
        rows(machine, o, workers, each / 2);
        rows(machine, o, workers, each * 8);
        return;
    }
    for (double bytes = (double)o->from; bytes <= (double)o->to; bytes *= o->factor) {
        rows(machine, o, workers, (size_t)bytes);
    }
}

static void usage(void) {
    fprintf(stderr, "usage: exchange_perf [-b BYTES] [-e BYTES] [-f FACTOR] [-t WORKERS] "
                    "[-n SAMPLES]\n");
    exit(2);
}

static struct options read_options(int argc, char **argv) {
    struct options o = {.factor = 4, .samples = PERF_SAMPLES};
    for (int letter; (letter = getopt(argc, argv, "b:e:f:t:n:")) != -1;) {
        if (letter == '?') usage();
        if (letter == 'b') o.from = perf_bytes(optarg);
        if (letter == 'e') o.to = perf_bytes(optarg);
        if (letter == 'f') o.factor = strtod(optarg, NULL);
        if (letter == 't') o.workers = (int)strtol(optarg, NULL, 10);
        if (letter == 'n') o.samples = (int)strtol(optarg, NULL, 10);
    }
    if (o.to && !o.from) o.from = o.to;
    if (o.to < o.from) o.to = o.from;
    if (o.factor <= 1 || o.workers < 0 || o.workers > TEAM_MOST || o.samples < 1 ||
        o.samples > MOST_SAMPLES || optind != argc) {
        usage();
    }
    return o;
}

int main(int argc, char **argv) {
    struct options o = read_options(argc, argv);
    struct machine *machine;
    must(topology_open(&machine, NULL));
    perf_header("exchange", machine->cores);
    printf("# float32, one thread a worker; last-level cache %zu KiB; median of %d\n",
        perf_last_cache() >> 10, o.samples);
    printf("#%-17s %8s %12s %8s %10s %10s %8s %8s %8s\n", "exchange", "workers", "bytes", "touched",
        "time", "bound", "time /", "algbw", "moved");
    printf("#%-17s %8s %12s %8s %10s %10s %8s %8s %8s\n", "", "", "(B)", "/ cache", "(us)", "(us)",
        "bound", "(GB/s)", "(GB/s)");
    for (int p = o.workers ? o.workers : 1; p <= (o.workers ? o.workers : 2) || p <= machine->cores;
         p *= 2) {
        rows_of(machine, &o, p);
        if (o.workers) break;
    }
    topology_close(machine);
    return 0;
}
