#include "budget.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"
#include "comm/comm.h"
#include "engine/run_inside.h"

/* Addresses that a counting device can give away. Nobody may touch what is there. */
static const size_t SPACE = (size_t)1 << 42;

/* One device of the run's kind, open; what seats take is added up here. */
struct counted {
    struct device *real;
    struct budget_device *sum;
    size_t streams; /* of what is needed, what streams take by themselves */
};

/* All that counting holds open. A device's open is told no more than a number, so the thread that
 * counts remembers for whom. */
struct count {
    struct budget *budget;
    struct device_ops ops;
    const struct device_ops *kind;
    struct counted of[TEAM_MOST];
    char *space;
    size_t given; /* of the space */
};
static _Thread_local struct count *counting;

struct counting_device {
    struct device base;
    struct counted *counted;
    struct arena pinned; /* is what it says: the host reads and writes it */
};

struct event {
    struct device *device;
};

/* ---- a device that counts --------------------------------------------------------------------- */

static enum status counting_open(struct device **out, int index, int threads) {
    struct count *c = counting;
    struct counting_device *d = calloc(1, sizeof *d);
    if (!d) return fail(STATUS_FAILED, "no memory to count memory");
    int k = 0;
    while (c->budget->device[k].number != index) k++;
    d->base = (struct device){.ops = &c->ops, .index = index, .threads = threads};
    d->counted = &c->of[k];
    memcpy(d->base.name, d->counted->real->name, sizeof d->base.name);
    *out = &d->base;
    return STATUS_OK;
}

static void counting_close(struct device *base) {
    struct counting_device *d = (struct counting_device *)base;
    arena_close(&d->pinned);
    free(d);
}

static enum status counting_use(struct device *d) {
    (void)d;
    return STATUS_OK;
}

static enum status counting_alloc(struct device *base, void **at, size_t bytes) {
    struct count *c = counting;
    size_t size = bytes ? bytes : 1;
    ((struct counting_device *)base)->counted->sum->need += size;
    if (size > SPACE - c->given) {
        return fail(STATUS_DEVICE, "%s:%d: %.1f TB are more than any device has", base->ops->kind,
            base->index, (double)bytes / 1e12);
    }
    *at = c->space + c->given;
    c->given += (size + 255) / 256 * 256;
    return STATUS_OK;
}

static enum status counting_pinned(struct device *base, void **at, size_t bytes) {
    *at = arena_take(&((struct counting_device *)base)->pinned, bytes);
    if (!*at) return fail(STATUS_FAILED, "no memory for %.1f MB on the host", (double)bytes / 1e6);
    counting->budget->pinned += bytes;
    return STATUS_OK;
}

static enum status counting_free_bytes(struct device *d, size_t *left, size_t *total) {
    return device_free_bytes(((struct counting_device *)d)->counted->real, left, total);
}

/* The device's own stream, as its kernels ask it how much room they want. It has failed, so that
 * every call on it does nothing. */
static enum status counting_stream_open(struct device *base, struct stream **out, int kernels) {
    struct counted *at = ((struct counting_device *)base)->counted;
    at->real->tf32 = base->tf32;
    at->real->cudnn = base->cudnn;
    TRY(stream_open_for_copies(out, at->real));
    (*out)->device = base;
    stream_fail(*out, "only counts");
    if (!kernels) return STATUS_OK;
    at->streams += counting->kind->stream_bytes(at->real);
    at->sum->need += counting->kind->stream_bytes(at->real);
    return STATUS_OK;
}

static void counting_stream_close(struct stream *q) {
    q->device = ((struct counting_device *)q->device)->counted->real;
    stream_close(q);
}

static enum status counting_event_open(struct device *d, struct event **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) return fail(STATUS_FAILED, "no memory for an event");
    (*out)->device = d;
    return STATUS_OK;
}

static void counting_event_close(struct event *e) { free(e); }
static void counting_event_sync(struct event *e) { (void)e; }

static enum status counting_sync(struct stream *q) {
    (void)q;
    return STATUS_OK;
}

/* What the wrappers of device.h never call on a stream that has failed is not here. */
static struct device_ops counting_ops(const struct device_ops *kind) {
    return (struct device_ops){
        .kind = kind->kind,
        .host_memory = kind->host_memory,
        .count = kind->count,
        .open = counting_open,
        .close = counting_close,
        .use = counting_use,
        .alloc = counting_alloc,
        .pinned = counting_pinned,
        .free_bytes = counting_free_bytes,
        .stream_open = counting_stream_open,
        .stream_close = counting_stream_close,
        .convolves = kind->convolves,
        .event_open = counting_event_open,
        .event_close = counting_event_close,
        .event_sync = counting_event_sync,
        .sync = counting_sync,
    };
}

/* ---- counting --------------------------------------------------------------------------------- */

/* The different devices that the run names, and who sits on each. */
static enum status list_devices(struct budget *b, const struct run *run) {
    const struct devices *d = &run->devices;
    b->device = calloc((size_t)d->count, sizeof *b->device);
    if (!b->device) return fail(STATUS_FAILED, "no memory to plan memory");
    for (int r = 0; r < run->set.workers; r++) {
        int number = d->number[d->of[r]], k = 0;
        while (k < b->devices && b->device[k].number != number) k++;
        if (k == b->devices) b->device[b->devices++].number = number;
        b->device[k].workers++;
    }
    return STATUS_OK;
}

static enum status open_devices(struct count *c, struct run *run) {
    struct budget *b = c->budget;
    for (int k = 0; k < b->devices; k++) {
        struct budget_device *at = &b->device[k];
        TRY(device_open(&c->of[k].real, c->kind, at->number, 1));
        TRY(device_free_bytes(c->of[k].real, &at->left, &at->total));
        c->of[k].sum = at;
    }
    memcpy(run->devices.name, c->of[0].real->name, sizeof run->devices.name);
    c->space = mmap(NULL, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->space != MAP_FAILED) return STATUS_OK;
    c->space = NULL;
    return fail(STATUS_FAILED, "no addresses to plan memory with; see ulimit -v");
}

/* A run like this one, as far as its seats. */
static enum status take_seats(struct run *like, const struct strategy_ops *strategy) {
    TRY(run_open_team(like, strategy));
    for (int r = 0; r < like->set.workers; r++) {
        crew_place(like, r);
        TRY(crew_sit(like, &like->crew[r]));
    }
    return STATUS_OK;
}

/* A worker's own vectors do not grow with its batch; what its learner has does. */
static void tell_batches(struct count *c, const struct run *like) {
    for (int r = 0; r < like->set.workers; r++) {
        const struct seat *s = &like->crew[r].seat;
        struct counted *at = ((struct counting_device *)s->device)->counted;
        for (int i = 0; i < s->claims; i++) at->sum->batches -= s->claim[i].v.n * sizeof(float);
    }
    for (int k = 0; k < c->budget->devices; k++) {
        c->budget->device[k].batches += c->budget->device[k].need - c->of[k].streams;
    }
}

/* NCCL is between real devices only: the seats are counted without it, and what it adds is its
 * own to say. */
static void count_nccl(struct budget *b, const struct run *run) {
#ifdef HAVE_NCCL
    int most = 0, wanted = run->set.comm == COMM_AUTO || run->set.comm == COMM_NCCL;
    if (!wanted || run->devices.ops != &device_cuda || b->devices < 2) return;
    if (!run_locks_whole(run)) return;
    for (int k = 0; k < b->devices; k++) {
        if (b->device[k].workers > most) most = b->device[k].workers;
    }
    for (int k = 0; k < b->devices; k++) b->device[k].need += comm_nccl_bytes(b->devices, most);
#else
    (void)b;
    (void)run;
#endif
}

static enum status count_seats(
    struct count *c, const struct run *run, const struct strategy_ops *strategy) {
    struct run *like = calloc(1, sizeof *like);
    if (!like) return fail(STATUS_FAILED, "no memory to plan memory");
    like->setup = run->setup;
    like->set = run->set;
    *like->set.record = *like->set.replay = 0; /* the run's own to open */
    if (like->set.comm == COMM_NCCL) like->set.comm = COMM_AUTO;
    like->set.cudnn =
        run_wants_cudnn(&run->set) ? CUDNN_TRY : CUDNN_OFF; /* the run's to insist on */
    like->optimizer = run->optimizer;
    like->machine = run->machine;
    like->devices = run->devices;
    like->devices.ops = &c->ops;
    memcpy(like->place, run->place, sizeof like->place);
    memcpy(like->group, run->group, sizeof like->group);
    like->task = run->task;
    like->schedules = run->schedules;
    like->x0 = run->x0;
    enum status end = take_seats(like, strategy);
    if (end == STATUS_OK) tell_batches(c, like);
    if (end == STATUS_OK) {
        c->budget->cudnn = stream_convolves(like->crew[0].seat.w.q, c->budget->convolution);
    }
    crew_close(like);
    free(like);
    return end;
}

static void count_close(struct count *c) {
    for (int k = 0; k < c->budget->devices; k++) device_close(c->of[k].real);
    if (c->space) munmap(c->space, SPACE);
    free(c);
    counting = NULL;
}

/* ---- is it enough? ---------------------------------------------------------------------------- */

static const char *size_text(char text[32], size_t bytes) {
    if (bytes < 1000000000) {
        snprintf(text, 32, "%.1f MB", (double)bytes / 1e6);
    } else {
        snprintf(text, 32, "%.1f GB", (double)bytes / 1e9);
    }
    return text;
}

/* The batch for which the memory is enough, about; 0: none. */
static int batch_that_fits(const struct budget_device *d, int batch) {
    size_t fixed = d->need - d->batches;
    if (fixed >= d->left || d->batches == 0) return 0;
    return (int)((double)batch * (double)(d->left - fixed) / (double)d->batches);
}

static enum status compare(const struct budget_device *d, const struct run *run) {
    char need[32], left[32], total[32], batch[64] = "";
    if (d->need <= d->left) return STATUS_OK;
    int fits = batch_that_fits(d, run->task->batch);
    if (fits > 0) snprintf(batch, sizeof batch, "data.batch to about %d, or ", fits);
    return fail(STATUS_DEVICE,
        "%d worker%s on %s:%d (%s) need%s %s, %s of its %s are free: lower %s%s, or use more or "
        "larger devices",
        d->workers, d->workers == 1 ? "" : "s", run->devices.ops->kind, d->number,
        run->devices.name, d->workers == 1 ? "s" : "", size_text(need, d->need),
        size_text(left, d->left), size_text(total, d->total), batch,
        d->workers == 1 ? "the size of the model" : "run.workers");
}

/* What the machine has free is not told well by anybody: files that it keeps in memory give way. */
static enum status compare_pinned(const struct budget *b) {
    char need[32], all[32];
    struct device *host;
    size_t left, total;
    TRY(device_open(&host, &device_host, 0, 1));
    enum status end = device_free_bytes(host, &left, &total);
    device_close(host);
    TRY(end);
    if (b->pinned <= total) return STATUS_OK;
    return fail(STATUS_DEVICE,
        "this run needs %s of the host's memory, page-locked, and there are %s in all: lower "
        "data.batch or run.workers",
        size_text(need, b->pinned), size_text(all, total));
}

enum status budget_plan(struct budget *b, struct run *run, const struct strategy_ops *strategy) {
    *b = (struct budget){0};
    if (!run->devices.ops->stream_bytes) return STATUS_OK;
    struct count *c = calloc(1, sizeof *c);
    if (!c) return fail(STATUS_FAILED, "no memory to plan memory");
    *c = (struct count){.budget = b, .kind = run->devices.ops};
    c->ops = counting_ops(c->kind);
    counting = c;
    enum status end = list_devices(b, run);
    if (end == STATUS_OK) end = open_devices(c, run);
    if (end == STATUS_OK) end = count_seats(c, run, strategy);
    if (end == STATUS_OK) count_nccl(b, run);
    count_close(c);
    TRY(end);
    for (int k = 0; k < b->devices; k++) TRY(compare(&b->device[k], run));
    return compare_pinned(b);
}

void budget_close(struct budget *b) { free(b->device); }

size_t budget_total(const struct budget *b) {
    size_t sum = 0;
    for (int k = 0; k < b->devices; k++) sum += b->device[k].need;
    return sum;
}
