#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/device.h"

#ifndef HAVE_CUDA

TestSuite(cuda, .timeout = 60);

Test(cuda, is_not_in_this_build) { cr_skip_test("built without CUDA; make sim tests the device"); }

#else

#include "check.h"
#include "engine/devices.h"
#include "kernels/cuda_stream.cuh"

/* Some delay on each stream, so that what no event orders comes in another order now and then. */
static void jitter(void) { setenv("CUDASIM_JITTER_US", "200", 0); }

TestSuite(cuda, .timeout = 120, .init = jitter);

#define NEEDS(n)                                                                                   \
    do {                                                                                           \
        int found_ = device_cuda.count();                                                          \
        if (found_ < (n))                                                                          \
            cr_skip_test(                                                                          \
                "needs %d GPUs, found %d: %s", (n), found_, found_ ? "too few" : fail_message());  \
    } while (0)

static const size_t sizes[] = {0, 1, 31, 33, 255, 65537};
enum { SIZES = sizeof sizes / sizeof *sizes, N = 65537 };

struct gpu {
    struct device *d;
    struct stream *q, *copies;
};

static struct gpu gpu_open(int index) {
    struct gpu g = {0};
    cr_assert(device_open(&g.d, &device_cuda, index, 0) == STATUS_OK, "%s", fail_message());
    cr_assert(stream_open(&g.q, g.d) == STATUS_OK, "%s", fail_message());
    cr_assert(stream_open_for_copies(&g.copies, g.d) == STATUS_OK, "%s", fail_message());
    return g;
}

static void gpu_close(struct gpu g) {
    stream_close(g.q);
    stream_close(g.copies);
    device_close(g.d);
}

static const char *connections_for(int workers) {
    struct devices d;
    cr_assert(devices_choose(&d, devices, "auto", workers) == STATUS_OK, "%s", fail_message());
    return getenv("CUDA_DEVICE_MAX_CONNECTIONS");
}

Test(cuda, streams_of_many_workers_have_connections_of_their_own) {
    unsetenv("CUDA_DEVICE_MAX_CONNECTIONS");
    cr_assert(connections_for(4) == NULL);
    const char *asked = connections_for(5);
    cr_assert(asked && !strcmp(asked, "32"), "%s", asked ? asked : "none");
}

Test(cuda, the_users_word_on_connections_counts) {
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "4", 1);
    cr_assert(!strcmp(connections_for(64), "4"));
}

static void *gpu_alloc(struct gpu g, size_t bytes) {
    void *at = NULL;
    cr_assert(device_alloc(g.d, &at, bytes) == STATUS_OK && at, "%s", fail_message());
    return at;
}

static void *gpu_pinned(struct gpu g, size_t bytes) {
    void *at = NULL;
    cr_assert(device_pinned(g.d, &at, bytes) == STATUS_OK && at, "%s", fail_message());
    return at;
}

static void synced(struct stream *q) {
    cr_assert(stream_sync(q) == STATUS_OK, "%s", fail_message());
}

static unsigned char byte_of(size_t i, size_t salt) {
    return (unsigned char)((i * 31 + salt * 17 + (i >> 8)) & 0xff);
}

static void pattern(unsigned char *at, size_t n, size_t salt) {
    for (size_t i = 0; i < n; i++) at[i] = byte_of(i, salt);
}

/* The first byte that is not the pattern's; n when all are. */
static size_t unlike(const unsigned char *at, size_t n, size_t salt) {
    size_t i = 0;
    while (i < n && at[i] == byte_of(i, salt)) i++;
    return i;
}

static size_t first_nonzero(const unsigned char *at, size_t n) {
    size_t i = 0;
    while (i < n && at[i] == 0) i++;
    return i;
}

Test(cuda, no_gpu_is_told_in_words_and_is_no_failure) {
    fail_remember("nothing yet");
    int count = device_cuda.count();
    cr_assert(count >= 0);
    if (count == 0) cr_assert(strstr(fail_message(), "cudaError"), "%s", fail_message());
    if (count > 0) cr_assert(strcmp(fail_message(), "nothing yet") == 0, "%s", fail_message());
}

Test(cuda, a_device_that_is_not_there_cannot_be_opened) {
    struct device *d = NULL;
    int index = device_cuda.count() + 90;
    char name[32];
    snprintf(name, sizeof name, "cuda:%d: ", index);
    cr_assert(device_open(&d, &device_cuda, index, 0) == STATUS_DEVICE);
    cr_assert(d == NULL);
    cr_assert(strstr(fail_message(), name), "%s", fail_message());
    cr_assert(strstr(fail_message(), "cudaSetDevice"), "%s", fail_message());
}

Test(cuda, a_device_has_a_name_and_says_how_much_memory_is_left) {
    NEEDS(1);
    struct gpu g = gpu_open(0);
    cr_assert(g.d->ops == &device_cuda && g.d->index == 0 && strlen(g.d->name) > 3);
    cr_assert(strlen(g.d->bus) == 12 && g.d->bus[4] == ':', "%s", g.d->bus);
    for (char *c = g.d->bus; *c; c++) cr_assert(*c < 'A' || *c > 'F', "%s", g.d->bus);
    size_t before = 0, after = 0, total = 0;
    cr_assert(device_free_bytes(g.d, &before, &total) == STATUS_OK);
    cr_assert(before > 0 && before <= total);
    gpu_alloc(g, (size_t)64 << 20);
    cr_assert(device_free_bytes(g.d, &after, &total) == STATUS_OK);
    cr_assert(before - after >= (size_t)64 << 20, "%zu of %zu", before - after, total);
    gpu_close(g);
}

Test(cuda, fresh_memory_is_zero_aligned_and_nobody_elses) {
    NEEDS(1);
    struct gpu g = gpu_open(0);
    unsigned char *host = gpu_pinned(g, N), *last = NULL;
    for (int s = 0; s < SIZES; s++) {
        size_t n = sizes[s];
        unsigned char *at = gpu_alloc(g, n);
        cr_assert((size_t)at % 256 == 0 && at != last, "%zu", n);
        last = at;
        memset(host, 7, n);
        stream_copy(g.q, host, at, n);
        synced(g.q);
        cr_assert(first_nonzero(host, n) == n, "%zu of %zu", first_nonzero(host, n), n);
    }
    gpu_close(g);
}

Test(cuda, copies_go_there_across_and_back) {
    NEEDS(1);
    int there = device_cuda.count() > 1 ? 1 : 0;
    struct gpu a = gpu_open(0), b = gpu_open(there);
    unsigned char *from = malloc(N), *to = calloc(N, 1);
    unsigned char *x = gpu_alloc(a, N), *y = gpu_alloc(b, N), *pinned = gpu_pinned(a, N);
    for (size_t s = 0; s < SIZES; s++) {
        size_t n = sizes[s];
        pattern(from, n, s);
        memset(to, 0, N);
        stream_copy(a.q, x, from, n); /* from and to plain host memory, across, from pinned */
        synced(a.q);
        stream_copy(b.q, y, x, n);
        stream_copy(b.q, pinned, y, n);
        synced(b.q);
        stream_copy(a.copies, to, pinned, n);
        synced(a.copies);
        cr_assert(unlike(to, n, s) == n, "byte %zu of %zu", unlike(to, n, s), n);
        cr_assert(first_nonzero(to + n, N - n) == N - n, "%zu copied too much", n);
    }
    free(from);
    free(to);
    gpu_close(a);
    gpu_close(b);
}

Test(cuda, a_copy_from_plain_memory_has_read_it_on_return) {
    NEEDS(1);
    struct gpu g = gpu_open(0);
    unsigned char *plain = malloc(N), *back = malloc(N), *x = gpu_alloc(g, N);
    for (size_t s = 0; s < 10; s++) {
        pattern(plain, N, s);
        stream_copy(g.q, x, plain, N);
        memset(plain, 0xee, N);
        stream_copy(g.q, back, x, N); /* and one to plain memory has ended */
        cr_assert(unlike(back, N, s) == N);
    }
    synced(g.q);
    free(plain);
    free(back);
    gpu_close(g);
}

/* What one device writes another one reads when an event says so, and never before; then the first
 * writes again only after it was read. */
Test(cuda, events_order_the_streams_of_two_devices) {
    NEEDS(1);
    struct gpu a = gpu_open(0), b = gpu_open(device_cuda.count() > 1 ? 1 : 0);
    struct event *written = NULL, *was_read = NULL;
    cr_assert(event_open(&written, a.d) == STATUS_OK && event_open(&was_read, b.d) == STATUS_OK);
    enum { ROUNDS = 40, BYTES = 4096 };
    unsigned char *source = gpu_pinned(a, ROUNDS * BYTES), *x = gpu_alloc(a, BYTES);
    unsigned char *y = gpu_alloc(b, BYTES), *result = gpu_pinned(b, ROUNDS * BYTES);
    for (size_t r = 0; r < ROUNDS; r++) pattern(source + r * BYTES, BYTES, r);
    for (size_t r = 0; r < ROUNDS; r++) {
        if (r) stream_wait(a.q, was_read);
        stream_copy(a.q, x, source + r * BYTES, BYTES);
        stream_record(a.q, written);
        stream_wait(b.copies, written);
        stream_copy(b.copies, y, x, BYTES);
        stream_record(b.copies, was_read);
        stream_copy(b.copies, result + r * BYTES, y, BYTES);
    }
    synced(b.copies);
    for (size_t r = 0; r < ROUNDS; r++)
        cr_assert(unlike(result + r * BYTES, BYTES, r) == BYTES, "round %zu", r);
    synced(a.q);
    event_close(written, a.d);
    event_close(was_read, b.d);
    gpu_close(a);
    gpu_close(b);
}

Test(cuda, every_device_reaches_pinned_memory_under_its_one_address) {
    NEEDS(1);
    struct gpu a = gpu_open(0), b = gpu_open(device_cuda.count() > 1 ? 1 : 0);
    float *c = gpu_pinned(a, 1000 * sizeof *c);
    double want[1000] = {0};
    check_close(c, want, 1000, 0, 0, "fresh");
    cr_assert(device_use(a.d) == STATUS_OK);
    a.q->kernels->fill(a.q, c, 3, 1000);
    synced(a.q);
    cr_assert(device_use(b.d) == STATUS_OK);
    b.q->kernels->mix(b.q, c, 2, 1, c, 1000);
    synced(b.q);
    for (int i = 0; i < 1000; i++) want[i] = 9;
    check_close(c, want, 1000, 0, 0, "filled by one, tripled by the other");
    gpu_close(a);
    gpu_close(b);
}

Test(cuda, only_streams_for_kernels_have_a_workspace) {
    NEEDS(1);
    struct gpu g = gpu_open(0);
    struct cuda_stream *q = (struct cuda_stream *)g.q, *copies = (struct cuda_stream *)g.copies;
    cr_assert(q->blas && q->scratch && !copies->blas && !copies->scratch);
    cr_assert(q->cuda && copies->cuda && q->cuda != copies->cuda);
    cr_assert(g.q->kernels == g.copies->kernels && g.q->threads == 1);
    struct cuda_stream *more = NULL;
    cr_assert(stream_open((struct stream **)&more, g.d) == STATUS_OK);
    cr_assert(more->scratch != q->scratch && more->blas != q->blas);
    stream_close(&more->base);
    gpu_close(g);
}

Test(cuda, the_first_failure_latches_until_it_is_told) {
    NEEDS(1);
    struct gpu g = gpu_open(0);
    unsigned char *x = gpu_alloc(g, 8), seven[8], got[8] = {0};
    memset(seven, 7, sizeof seven);
    stream_fail(g.q, "the first");
    stream_fail(g.q, "the second");
    stream_copy(g.q, x, seven, 8);
    g.q->kernels->fill(g.q, (float *)x, 1, 2);
    cr_assert(stream_sync(g.q) == STATUS_DEVICE);
    cr_assert(strcmp(fail_message(), "cuda:0: the first") == 0, "%s", fail_message());
    stream_copy(g.q, got, x, 8);
    synced(g.q);
    cr_assert(first_nonzero(got, 8) == 8, "what follows a failure is not done");
    gpu_close(g);
}

Test(cuda, too_much_memory_is_refused_in_words_and_harms_nothing) {
    NEEDS(1);
    struct gpu g = gpu_open(0);
    void *at = NULL;
    cr_assert(device_alloc(g.d, &at, (size_t)1 << 46) == STATUS_DEVICE);
    cr_assert(strstr(fail_message(), "cuda:0: no memory for 70368744.2 MB; ") &&
                  strstr(fail_message(), "fewer workers"),
        "%s", fail_message());
    cr_assert(at == NULL);
    gpu_alloc(g, 100);
    g.q->kernels->fill(g.q, gpu_alloc(g, 400), 1, 100);
    synced(g.q);
    gpu_close(g);
}

#ifdef CUDASIM

/* A machine with this many GPUs is a process of its own. */
Test(cuda, gpus_are_counted_and_none_has_a_reason) {
    for (int n = 0; n < 4; n++) {
        pid_t child = fork();
        if (child == 0) {
            setenv("CUDASIM_DEVICES", (const char *[]){"0", "1", "2", "3"}[n], 1);
            fail_remember("nothing");
            int right = device_cuda.count() == n;
            if (n == 0) right = right && strstr(fail_message(), "there is no GPU");
            _exit(right ? 0 : 1);
        }
        int status = -1;
        cr_assert(waitpid(child, &status, 0) == child && status == 0, "%d GPUs", n);
    }
}

Test(cuda, a_lost_device_fails_every_sync_and_still_closes) {
    struct gpu g = gpu_open(3), other = gpu_open(2);
    unsigned char *x = gpu_alloc(g, 8), zero[8] = {0};
    struct event *e = NULL;
    cr_assert(event_open(&e, g.d) == STATUS_OK);
    cudasim_fault(3);
    stream_copy(g.q, x, zero, 8);
    cr_assert(g.q->failed == STATUS_DEVICE);
    stream_record(g.q, e);
    cr_assert(stream_sync(g.q) == STATUS_DEVICE && g.q->failed == STATUS_OK);
    cr_assert(strstr(fail_message(), "cuda:3: cudaMemcpyAsync: cudaErrorIllegalAddress: a kernel"),
        "%s", fail_message());
    struct {
        void (*call)(struct stream *, struct event *);
        const char *name;
    } calls[] = {{stream_record, "cudaEventRecord"}, {stream_wait, "cudaStreamWaitEvent"}};
    for (int i = 0; i < 2; i++) {
        calls[i].call(g.q, e);
        cr_assert(stream_sync(g.q) == STATUS_DEVICE);
        cr_assert(strstr(fail_message(), calls[i].name), "%s", fail_message());
    }
    g.q->kernels->fill(g.q, (float *)x, 1, 2);
    cr_assert(stream_sync(g.q) == STATUS_DEVICE);
    cr_assert(strstr(fail_message(), "launch of fill_kernel"), "%s", fail_message());
    cr_assert(stream_sync(g.q) == STATUS_DEVICE);
    cr_assert(strstr(fail_message(), "cudaStreamSynchronize"), "%s", fail_message());
    synced(other.q);
    event_close(e, g.d);
    gpu_close(g);
    gpu_close(other);
}

/* Each allocation in turn fails while a device and a stream are opened and memory is taken. */
Test(cuda, no_memory_at_any_point_is_told_and_nothing_leaks) {
    int failed = 0;
    for (long nth = 1;; nth++) {
        long before = cudasim_live();
        struct device *d = NULL;
        struct stream *q = NULL;
        void *at = NULL;
        cudasim_fail_malloc(nth);
        fail_remember("nothing");
        enum status s = device_open(&d, &device_cuda, 1, 0);
        if (s == STATUS_OK) s = stream_open(&q, d);
        if (s == STATUS_OK) s = device_alloc(d, &at, 100);
        if (s == STATUS_OK) s = device_pinned(d, &at, 100);
        cudasim_fail_malloc(0);
        if (s != STATUS_OK) cr_assert(strstr(fail_message(), "no "), "%s", fail_message());
        failed += s != STATUS_OK;
        stream_close(q);
        device_close(d);
        cr_assert(cudasim_live() == before, "%ld not given back", cudasim_live() - before);
        if (s == STATUS_OK) break;
    }
    cr_assert(failed == 4, "workspace, scratch, device and pinned memory, not %d", failed);
}

Test(cuda, all_is_given_back) {
    long before = cudasim_live();
    struct gpu g = gpu_open(1);
    struct event *e = NULL;
    cr_assert(event_open(&e, g.d) == STATUS_OK);
    gpu_alloc(g, 100);
    gpu_pinned(g, 100);
    cr_assert(cudasim_live() >= before + 8);
    event_close(e, g.d);
    gpu_close(g);
    cr_assert(cudasim_live() == before, "%ld not given back", cudasim_live() - before);
    device_close(NULL);
    stream_close(NULL);
}

/* Copies between pinned memory and a device run without the host; huddle's own never stage. */
Test(cuda, pinned_memory_is_known_as_pinned) {
    struct gpu g = gpu_open(0);
    long before = cudasim_unpinned_count();
    unsigned char *pinned = gpu_pinned(g, 100), plain[100], *x = gpu_alloc(g, 100);
    stream_copy(g.q, x, pinned, 100);
    stream_copy(g.q, pinned, x, 100);
    synced(g.q);
    cr_assert(cudasim_unpinned_count() == before);
    stream_copy(g.q, plain, x, 100);
    cr_assert(cudasim_unpinned_count() == before + 1);
    synced(g.q);
    gpu_close(g);
}

#endif
#endif
