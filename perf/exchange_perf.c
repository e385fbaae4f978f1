/* exchange_perf.c -- what it costs workers to meet, beside the traffic that this needs.
 *
 * The engine's own parts on threads that sit as a run's workers do. On the host: elastic averaging
 * with one shared vector, by chunks and under one lock, and the mean over workers. On a GPU: elastic
 * averaging with a center in pinned host memory, by kernels and by copies, and the mean. Beside each,
 * in turn with it, plain loops, or copies, that move as many bytes, in memory that lies as its does,
 * and wait for nobody. The columns are derived in README.md.
 *
 * usage: exchange_perf [host|cuda] [-b BYTES] [-e BYTES] [-f FACTOR] [-t WORKERS] [-n SAMPLES]
 *                      [-c BYTES,...] [-d DEPTH,...] [-g BLOCKS,...]
 * -b, -e, -f: vectors of b, b f, b f f ... to e bytes, instead of one for inside the last-level
 * cache and one for outside, or on a GPU 1 MiB to 256 MiB; -t: so many workers instead of 1, 2, 4 ...
 * to the cores, at least 2, or on a GPU to 4. cuda: -c: chunks of a shared vector, -d: how many of a
 * worker are staged at a time, each combination of them instead of what a run takes; -g: also the
 * exchanging kernel alone, in one launch of so many blocks.
 */
#include <pthread.h>
#include <unistd.h>

#include "comm/comm.h"
#include "devices/openmp.h"
#include "engine/seat.h"
#include "perf.h"
#include "topology/topology.h"
#ifdef HAVE_CUDA
#include "kernels/cuda.h"
#endif

enum { WAYS_MOST = 16, TEAMS = 4, MOST_SAMPLES = 99, LIST_MOST = 16 };

/* What a command line says in a row, "1M,2M"; one 0: nothing. */
struct list {
    size_t at[LIST_MOST];
    int n;
};

struct options {
    const struct device_ops *ops;
    size_t from, to;
    double factor;
    int workers, samples;
    struct list chunk, depth, grid;
};

struct bench;

/* A worker with a seat in each team. */
struct member {
    struct bench *bench;
    pthread_t thread;
    int rank;
    struct device *device;
    struct stream *q, *in, *out; /* in, out: of copies, on a GPU */
    struct seat seat[TEAMS];
    struct learner learner;
    float *x, *c; /* a replica; a vector that nobody shares */
};

/* How much of a vector moves in one direction, or in and out of memory, at a time. */
enum traffic { EACH_WAY, MEMORY, RING };

struct way {
    const char *name;
    void (*run)(struct member *m);
    const struct way *bound; /* NULL: it is one */
    enum traffic traffic;
    int vectors; /* read and written, by each worker */
};

/* One row of circumstances. */
struct set {
    const struct machine *machine;
    const struct options *o;
    int workers, devices;
    size_t bytes, chunk, depth, grid;
};

struct bench {
    struct set set;
    struct place place[TEAM_MOST];
    int number[TEAM_MOST]; /* of each worker's device */
    size_t n;              /* floats of the vector */
    struct team *team[TEAMS];
    struct shared *center[TEAMS];
    struct device *device; /* the main thread's, of back */
    float *back;           /* (n), pinned: where plain copies go to */
    struct member member[TEAM_MOST];
    pthread_barrier_t barrier;
    const struct way *way[WAYS_MOST];
    int ways;
    long calls[WAYS_MOST];
    double seconds[WAYS_MOST][MOST_SAMPLES]; /* a call */
};

static void must(enum status end) {
    if (end == STATUS_OK) return;
    fprintf(stderr, "exchange_perf: %s\n", fail_message());
    exit(status_exit_code(end));
}

/* ---- the host's ways ------------------------------------------------------------------------- */

enum { FREE, FIXED };

static const float ALPHA = 0.1f;

static struct vec replica(const struct member *m) { return (struct vec){m->x, m->bench->n}; }

static void elastic_in(struct member *m, int team) {
    shared_elastic(&m->seat[team].w, m->bench->center[team], ALPHA, replica(m));
}

static void elastic_by_chunks(struct member *m) { elastic_in(m, FREE); }
static void elastic_locked(struct member *m) { elastic_in(m, FIXED); }

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

static void mean(struct member *m) { team_mean(&m->seat[0].w, replica(m)); }

/* Reads and writes a slice of everybody's vector, a different one each, as the mean does. */
static void mean_bound(struct member *m) {
    const struct bench *b = m->bench;
    size_t rank = (size_t)m->rank, p = (size_t)b->set.workers, lines = b->n / 16;
    size_t from = lines * rank / p * 16, to = rank + 1 == p ? b->n : lines * (rank + 1) / p * 16;
    for (size_t r = 0; r < p; r++) {
        float *restrict x = b->member[r].x;
        for (size_t i = from; i < to; i++) x[i] = 0.5f * x[i] + 0.5f;
    }
}

static const struct way elastic_bytes = {"elastic's bytes", elastic_bound, NULL, MEMORY, 2};
static const struct way mean_bytes = {"mean's bytes", mean_bound, NULL, MEMORY, 1};
static const struct way host_ways[] = {
    {"elastic, chunks", elastic_by_chunks, &elastic_bytes, MEMORY, 2},
    {"elastic, one lock", elastic_locked, &elastic_bytes, MEMORY, 2},
    {"mean", mean, &mean_bytes, MEMORY, 1},
};

/* ---- a GPU's ways ------------------------------------------------------------------------------ */

enum { ZERO_COPY, STAGED, NCCL, COPY };

static size_t bytes_of(const struct member *m) { return m->bench->n * sizeof(float); }

static void copy_in(struct member *m) {
    stream_copy(m->in, m->c, shared_vec(m->bench->center[0]).at, bytes_of(m));
}

static void copy_out(struct member *m) { stream_copy(m->out, m->bench->back, m->x, bytes_of(m)); }

static void copy_both(struct member *m) {
    copy_in(m);
    copy_out(m);
}

static void elastic_zero_copy(struct member *m) { elastic_in(m, ZERO_COPY); }
static void elastic_staged(struct member *m) { elastic_in(m, STAGED); }

/* Without chunks, locks and others' numbers: what a launch makes of the way to the host. */
static void elastic_kernel(struct member *m) {
#ifdef HAVE_CUDA
    cuda_elastic_by(m->q, m->x, m->bench->back, ALPHA, m->bench->n, (unsigned)m->bench->set.grid);
#else
    (void)m;
#endif
}

static void mean_by_nccl(struct member *m) { team_mean(&m->seat[NCCL].w, replica(m)); }
static void mean_by_copy(struct member *m) { team_mean(&m->seat[COPY].w, replica(m)); }

/* Reads and writes a vector of its own in the device's memory. */
static void device_bound(struct member *m) { vec_mix(m->q, replica(m), 1, 0, replica(m)); }

/* To the next worker's device, as many bytes as a ring of workers must. */
static void ring_bound(struct member *m) {
    const struct bench *b = m->bench;
    int p = b->set.workers;
    size_t part = b->n / (size_t)p * (size_t)(p - 1) * sizeof(float);
    for (int i = 0; i < 2; i++) stream_copy(m->q, b->member[(m->rank + 1) % p].c, m->x, part);
}

static const struct way both_copies = {"copies, both ways", copy_both, NULL, EACH_WAY, 1};
static const struct way in_copies = {"copies, to it", copy_in, NULL, EACH_WAY, 1};
static const struct way out_copies = {"copies, from it", copy_out, NULL, EACH_WAY, 1};
static const struct way by_zero_copy = {
    "elastic, zero_copy", elastic_zero_copy, &both_copies, EACH_WAY, 1};
static const struct way by_staged = {"elastic, staged", elastic_staged, &both_copies, EACH_WAY, 1};
static const struct way by_kernel = {"elastic, kernel", elastic_kernel, &both_copies, EACH_WAY, 1};
static const struct way device_bytes = {"memory, in place", device_bound, NULL, MEMORY, 1};
static const struct way mean_there = {"mean, one GPU", mean, &device_bytes, MEMORY, 1};
static const struct way ring_bytes = {"copies, ring", ring_bound, NULL, RING, 1};
static const struct way nccl_mean = {"mean, nccl", mean_by_nccl, &ring_bytes, RING, 1};
static const struct way copy_mean = {"mean, copy", mean_by_copy, &ring_bytes, RING, 1};
static const struct way host_mean = {"mean, host", mean, &ring_bytes, RING, 1};

/* ---- which of them ----------------------------------------------------------------------------- */

static void add(struct bench *b, const struct way *way) { b->way[b->ways++] = way; }

static int is_host(const struct bench *b) { return b->set.o->ops->host_memory; }

static void choose_ways(struct bench *b) {
    if (is_host(b)) {
        for (int i = 0; i < 3; i++) add(b, &host_ways[i]);
        add(b, &elastic_bytes);
        add(b, &mean_bytes);
        return;
    }
    add(b, &by_zero_copy);
    add(b, &both_copies);
    add(b, &by_staged);
    if (b->set.grid) add(b, &by_kernel);
    add(b, &in_copies);
    add(b, &out_copies);
    if (b->set.devices == 1) {
        add(b, &mean_there);
        add(b, &device_bytes);
        return;
    }
    if (b->team[NCCL]) add(b, &nccl_mean);
    if (b->team[COPY]) add(b, &copy_mean);
    add(b, &host_mean);
    add(b, &ring_bytes);
}

/* ---- taking turns ------------------------------------------------------------------------------- */

static void finish(struct member *m) {
    if (m->in) must(stream_sync(m->in));
    if (m->out) must(stream_sync(m->out));
    must(stream_sync(m->q));
}

/* All workers, `calls` times; seconds a call until the last has done, and its device too. */
static double time_way(struct member *m, const struct way *way, long calls) {
    pthread_barrier_wait(&m->bench->barrier);
    double start = clock_seconds();
    for (long i = 0; i < calls; i++) way->run(m);
    finish(m);
    pthread_barrier_wait(&m->bench->barrier);
    return (clock_seconds() - start) / (double)calls;
}

static float *room(struct member *m, size_t n) {
    void *at;
    must(device_alloc(m->device, &at, n * sizeof(float)));
    return at;
}

/* Memory is first touched here, by the thread that will use it. */
static void member_settle(struct member *m) {
    struct bench *b = m->bench;
    const struct place *place = &b->place[m->rank];
    topology_bind(b->set.machine, place);
    openmp_settle(1);
    must(device_open(&m->device, b->set.o->ops, b->number[m->rank], 1));
    must(stream_open(&m->q, m->device));
    if (!is_host(b)) {
        must(stream_open_for_copies(&m->in, m->device));
        must(stream_open_for_copies(&m->out, m->device));
        must(event_open(&m->learner.passed, m->device));
    }
    m->learner.q = m->q;
    m->x = room(m, b->n);
    m->c = room(m, b->n);
    vec_fill(m->q, replica(m), (float)(m->rank + 1));
    vec_fill(m->q, (struct vec){m->c, b->n}, 1);
    for (int t = 0; t < TEAMS; t++) {
        struct seat *s = &m->seat[t];
        s->w = (struct worker){
            .team = b->team[t], .rank = m->rank, .size = b->set.workers, .seat = s, .q = m->q};
        s->learner = &m->learner;
        if (b->team[t]) must(team_join(b->team[t], m->rank, m->q));
    }
    must(stream_sync(m->q));
}

static void *member_main(void *arg) {
    struct member *m = arg;
    struct bench *b = m->bench;
    int first = m->rank == 0;
    member_settle(m);
    for (int k = 0; k < b->ways; k++) {
        time_way(m, b->way[k], 2);
        double once = time_way(m, b->way[k], 2);
        if (first) b->calls[k] = (long)(0.05 / once) + 1;
    }
    pthread_barrier_wait(&b->barrier);
    for (int s = 0; s < b->set.o->samples; s++) {
        for (int k = 0; k < b->ways; k++) {
            double seconds = time_way(m, b->way[k], b->calls[k]);
            if (first) b->seconds[k][s] = seconds;
        }
    }
    for (int t = 0; t < TEAMS; t++) {
        if (b->team[t]) team_leave(b->team[t], m->rank);
    }
    return NULL;
}

/* ---- teams ------------------------------------------------------------------------------------- */

static struct team_settings team_set(const struct bench *b) {
    const struct machine *machine = b->set.machine;
    return (struct team_settings){.size = b->set.workers,
        .order = ORDER_FREE,
        .spin = b->set.workers > machine->cores ? 0 : 2000,
        .kind = b->set.o->ops,
        .number = b->number,
        .machine = machine,
        .places = b->place,
        .chunk = b->set.chunk / sizeof(float),
        .depth = (int)b->set.depth};
}

static void open_centers(struct bench *b) {
    struct vec start = {calloc(b->n, sizeof *start.at), b->n};
    if (!start.at) must(fail(STATUS_FAILED, "no memory for %zu floats", b->n));
    must(shared_open(&b->center[0], b->team[0], "center", HOME_HOST, start));
    must(shared_open(&b->center[1], b->team[1], "center", HOME_HOST, start));
    free(start.at);
}

/* A way to take sums that is not there is a line that says why. */
static void open_for_sums(struct bench *b, int team, int kind) {
    struct team_settings set = team_set(b);
    set.comm = kind;
    if (team_open(&b->team[team], &set) == STATUS_OK) return;
    printf("# %s\n", fail_message());
    team_close(b->team[team]);
    b->team[team] = NULL;
}

static void open_teams(struct bench *b) {
    struct team_settings set = team_set(b);
    if (b->set.devices > 1) set.comm = COMM_HOST;
    must(team_open(&b->team[0], &set));
    set.order = is_host(b) ? ORDER_FIXED : ORDER_FREE;
    set.center = is_host(b) ? 0 : CENTER_STAGED;
    must(team_open(&b->team[1], &set));
    open_centers(b);
    if (is_host(b)) return;
    must(device_open(&b->device, b->set.o->ops, b->number[0], 1));
    must(device_pinned(b->device, (void **)&b->back, b->n * sizeof *b->back));
    if (b->set.devices == 1) return;
    open_for_sums(b, NCCL, COMM_NCCL);
    open_for_sums(b, COPY, COMM_COPY);
}

static void bench_close(struct bench *b) {
    pthread_barrier_destroy(&b->barrier);
    for (int t = 0; t < TEAMS; t++) shared_close(b->center[t]);
    for (int t = 0; t < TEAMS; t++) team_close(b->team[t]);
    for (int r = 0; r < b->set.workers; r++) {
        struct member *m = &b->member[r];
        event_close(m->learner.passed, m->device);
        stream_close(m->in);
        stream_close(m->out);
        stream_close(m->q);
        device_close(m->device);
    }
    device_close(b->device);
}

static void bench_run(struct bench *b) {
    int p = b->set.workers;
    must(plan_places(b->set.machine, p, 1, b->place));
    for (int r = 0; r < p; r++) b->number[r] = r * b->set.devices / p;
    open_teams(b);
    choose_ways(b);
    pthread_barrier_init(&b->barrier, NULL, (unsigned)p);
    for (int r = 0; r < p; r++) {
        struct member *m = &b->member[r];
        m->bench = b;
        m->rank = r;
        if (pthread_create(&m->thread, NULL, member_main, m))
            must(fail(STATUS_FAILED, "no thread"));
    }
    for (int r = 0; r < p; r++) pthread_join(b->member[r].thread, NULL);
}

/* ---- the tables ---------------------------------------------------------------------------------- */

static double median(const struct bench *b, int k) {
    double sorted[MOST_SAMPLES];
    memcpy(sorted, b->seconds[k], sizeof sorted);
    qsort(sorted, (size_t)b->set.o->samples, sizeof *sorted, perf_order);
    return sorted[b->set.o->samples / 2];
}

/* The median of the ratios of neighbors in time, which a machine that slows down leaves alone. */
static double ratio(const struct bench *b, int k, int bound) {
    double sorted[MOST_SAMPLES];
    int samples = b->set.o->samples;
    for (int s = 0; s < samples; s++) sorted[s] = b->seconds[k][s] / b->seconds[bound][s];
    qsort(sorted, (size_t)samples, sizeof *sorted, perf_order);
    return sorted[samples / 2];
}

static int index_of(const struct bench *b, const struct way *way) {
    int k = 0;
    while (b->way[k] != way) k++;
    return k;
}

static void host_line(const struct bench *b, int k) {
    const struct way *way = b->way[k];
    size_t bytes = b->set.bytes;
    int p = b->set.workers, bound = way->bound ? index_of(b, way->bound) : -1;
    if (bound < 0) return;
    double time = median(b, k), moved = 2.0 * way->vectors * p * (double)bytes;
    printf("%-18s %8d %12zu %8.2f %10.1f %10.1f %8.2f %8.2f %8.2f\n", way->name, p, bytes,
        2.0 * p * (double)bytes / (double)perf_last_cache(), 1e6 * time, 1e6 * median(b, bound),
        ratio(b, k, bound), 1e-9 * (double)bytes / time, 1e-9 * moved / time);
}

static double gpu_bytes(const struct bench *b, const struct way *way) {
    double p = b->set.workers, bytes = (double)b->set.bytes;
    if (way->traffic == RING) return 2 * (p - 1) / p * bytes;
    return (way->traffic == MEMORY ? 2 : 1) * p * bytes / b->set.devices;
}

static void gpu_line(const struct bench *b, int k) {
    const struct way *way = b->way[k];
    const struct set *set = &b->set;
    int is_elastic = way->bound == &both_copies, bound = way->bound ? index_of(b, way->bound) : -1;
    double time = median(b, k);
    printf("%-18s %4d %8d %12zu", way->name, set->devices, set->workers, set->bytes);
    if (way == &by_kernel) {
        printf(" %8s %6zu", "whole", set->grid);
    } else if (is_elastic) {
        size_t chunk = team_chunk(b->team[0], b->n) * sizeof(float);
        printf(" %8zu %6d", chunk >> 10, way == &by_staged ? team_depth(b->team[1]) : 1);
    } else {
        printf(" %8s %6s", "-", "-");
    }
    printf(" %10.1f", 1e6 * time);
    if (bound < 0) {
        printf(" %10s %8s", "-", "-");
    } else {
        printf(" %10.1f %8.2f", 1e6 * median(b, bound), 1 / ratio(b, k, bound));
    }
    printf(" %8.2f\n", 1e-9 * gpu_bytes(b, way) / time);
}

static void rows(const struct set *set) {
    struct bench *b = calloc(1, sizeof *b);
    if (!b) must(fail(STATUS_FAILED, "no memory"));
    b->set = *set;
    b->n = set->bytes / sizeof(float);
    bench_run(b);
    for (int k = 0; k < b->ways; k++) (is_host(b) ? host_line : gpu_line)(b, k);
    fflush(stdout);
    bench_close(b);
    free(b);
}

static void variants(struct set set) {
    const struct options *o = set.o;
    for (int c = 0; c < o->chunk.n; c++) {
        for (int d = 0; d < o->depth.n; d++) {
            for (int g = 0; g < o->grid.n; g++) {
                set.chunk = o->chunk.at[c];
                set.depth = o->depth.at[d];
                set.grid = o->grid.at[g];
                rows(&set);
            }
        }
    }
}

/* Vectors as the user says, or: on a GPU one that latency rules, mnist_cnn's, and two large ones; on
 * the host one so that all that is touched is half of the last-level cache, a replica and a center
 * of one's own for each worker, and one so that it is eight times that cache. */
static void sizes(struct set set) {
    static const size_t gpu[] = {1 << 20, 6653440, 64 << 20, 256 << 20};
    const struct options *o = set.o;
    size_t each = perf_last_cache() / 2 / (size_t)set.workers / 64 * 64;
    const size_t host[] = {each / 2, each * 8};
    const size_t *list = o->ops->host_memory ? host : gpu;
    for (int i = 0; i < (o->ops->host_memory ? 2 : 4) && !o->from; i++) {
        set.bytes = list[i];
        variants(set);
    }
    for (double bytes = (double)o->from; o->from && bytes <= (double)o->to; bytes *= o->factor) {
        set.bytes = (size_t)bytes;
        variants(set);
    }
}

static void host_rows(const struct options *o, const struct machine *machine) {
    struct set set = {.machine = machine, .o = o, .devices = 1};
    printf("# float32, one thread a worker; last-level cache %zu KiB; median of %d\n",
        perf_last_cache() >> 10, o->samples);
    printf("#%-17s %8s %12s %8s %10s %10s %8s %8s %8s\n", "exchange", "workers", "bytes", "touched",
        "time", "bound", "time /", "algbw", "moved");
    printf("#%-17s %8s %12s %8s %10s %10s %8s %8s %8s\n", "", "", "(B)", "/ cache", "(us)", "(us)",
        "bound", "(GB/s)", "(GB/s)");
    int first = o->workers ? o->workers : 1, last = o->workers ? o->workers : 2;
    for (set.workers = first; set.workers <= last || set.workers <= machine->cores;
         set.workers *= 2) {
        sizes(set);
        if (o->workers) break;
    }
}

/* On one GPU, then one worker on each of all. */
static void gpu_rows(const struct options *o, const struct machine *machine) {
    struct set set = {.machine = machine, .o = o, .devices = 1};
    struct device *d;
    int count = o->ops->count();
    if (count > TEAM_MOST) count = TEAM_MOST;
    must(device_open(&d, o->ops, 0, 1));
    printf("# float32, the center in pinned host memory; %d x %s; median of %d\n", count, d->name,
        o->samples);
    device_close(d);
    printf("#%-17s %4s %8s %12s %8s %6s %10s %10s %8s %8s\n", "exchange", "GPUs", "workers",
        "bytes", "chunk", "depth,", "time", "bound", "bound /", "rate");
    printf("#%-17s %4s %8s %12s %8s %6s %10s %10s %8s %8s\n", "", "", "", "(B)", "(KiB)", "blocks",
        "(us)", "(us)", "time", "(GB/s)");
    int first = o->workers ? o->workers : 1, last = o->workers ? o->workers : 4;
    for (set.workers = first; set.workers <= last; set.workers *= 2) sizes(set);
    set.workers = set.devices = count;
    if (count > 1) sizes(set);
}

/* ---- options ----------------------------------------------------------------------------------- */

static void usage(void) {
    fprintf(stderr, "usage: exchange_perf [host|cuda] [-b BYTES] [-e BYTES] [-f FACTOR] "
                    "[-t WORKERS] [-n SAMPLES] [-c BYTES,...] [-d DEPTH,...] [-g BLOCKS,...]\n");
    exit(2);
}

static void read_list(struct list *l, char *text) {
    l->n = 0;
    for (char *rest, *one = strtok_r(text, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
        if (l->n == LIST_MOST) usage();
        l->at[l->n++] = perf_bytes(one);
    }
    if (l->n == 0) usage();
}

static struct options read_options(int argc, char **argv) {
    struct options o = {.factor = 4, .samples = PERF_SAMPLES};
    o.chunk.n = o.depth.n = o.grid.n = 1;
    for (int letter; (letter = getopt(argc, argv, "b:e:f:t:n:c:d:g:")) != -1;) {
        if (letter == '?') usage();
        if (letter == 'b') o.from = perf_bytes(optarg);
        if (letter == 'e') o.to = perf_bytes(optarg);
        if (letter == 'f') o.factor = strtod(optarg, NULL);
        if (letter == 't') o.workers = (int)strtol(optarg, NULL, 10);
        if (letter == 'n') o.samples = (int)strtol(optarg, NULL, 10);
        if (letter == 'c') read_list(&o.chunk, optarg);
        if (letter == 'd') read_list(&o.depth, optarg);
        if (letter == 'g') read_list(&o.grid, optarg);
    }
    if (o.to && !o.from) o.from = o.to;
    if (o.to < o.from) o.to = o.from;
    for (int i = 0; i < o.depth.n; i++) {
        if (o.depth.at[i] > DEPTH_MOST) usage();
    }
    if (o.factor <= 1 || o.workers < 0 || o.workers > TEAM_MOST || o.samples < 1 ||
        o.samples > MOST_SAMPLES || optind != argc) {
        usage();
    }
    return o;
}

int main(int argc, char **argv) {
    const struct device_ops *ops = perf_kind("exchange_perf", &argc, &argv);
    struct options o = read_options(argc, argv);
    struct machine *machine;
    o.ops = ops;
    if (ops->host_memory && (o.chunk.at[0] || o.depth.at[0] || o.grid.at[0])) usage();
    must(topology_open(&machine, NULL));
    perf_header("exchange", machine->cores);
    (ops->host_memory ? host_rows : gpu_rows)(&o, machine);
    topology_close(machine);
    return 0;
}
