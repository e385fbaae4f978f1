/* cuda.c -- one GPU as a device, over the CUDA runtime. Nothing runs on the default stream. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/device.h"
#include "kernels/cuda.h"
#include "kernels/cuda_dnn.h"
#include "kernels/cuda_stream.cuh"

enum { MB = 1 << 20 };

/* What cuBLAS's manual recommends from Hopper on, and for what came before. */
enum { WORKSPACE = 32 * MB, WORKSPACE_BEFORE_HOPPER = 4 * MB };

/* So many share the connections that there are unless more are asked for. */
enum { WORKERS_BY_DEFAULT = 4 };

struct piece { /* memory that goes back at close */
    struct piece *next;
    void *at;
    int pinned;
};

struct cuda {
    struct device base;
    cudaStream_t setup; /* fresh memory is zeroed here */
    struct piece *pieces;
    size_t workspace; /* bytes that cuBLAS gets on each stream */
};

struct event {
    struct device *device;
    cudaEvent_t cuda;
};

struct capture {
    cudaGraphExec_t cuda;
};

/* What is told later is what this call said: the runtime remembers the last error for a thread. */
static enum status checked(int index, const char *call, cudaError_t error) {
    if (error == cudaSuccess) return STATUS_OK;
    (void)cudaGetLastError();
    return fail(STATUS_DEVICE, "cuda:%d: %s: %s: %s", index, call, cudaGetErrorName(error),
        cuda_meaning(error));
}

static enum status blas_checked(int index, const char *call, cublasStatus_t status) {
    if (status == CUBLAS_STATUS_SUCCESS) return STATUS_OK;
    return fail(STATUS_DEVICE, "cuda:%d: %s: %s", index, call, cublasGetStatusString(status));
}

/* Streams reach a GPU by connections, and what waits for an event in one of them holds up all streams
 * that share it. A worker has up to four streams; by default there are eight connections, and at most
 * 32, which every process beside has to share the GPU's channels with: for few workers the default
 * will do. The driver looks at its first call; what the user says counts. */
static void cuda_expect(int workers) {
    if (workers > WORKERS_BY_DEFAULT) (void)setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
}

static int cuda_count(void) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0) return count;
    (void)cudaGetLastError();
    fail_remember("%s: %s", cudaGetErrorName(error == cudaSuccess ? cudaErrorNoDevice : error),
        cuda_meaning(error == cudaSuccess ? cudaErrorNoDevice : error));
    return 0;
}

/* sysfs writes the letters small, the runtime large. */
static void cuda_address(int index, char text[32]) {
    text[0] = 0;
    if (cudaDeviceGetPCIBusId(text, 32, index) != cudaSuccess) (void)cudaGetLastError();
    for (char *c = text; *c; c++) *c = (char)tolower((unsigned char)*c);
}

static enum status cuda_use(struct device *d) {
    return checked(d->index, "cudaSetDevice", cudaSetDevice(d->index));
}

/* As sysfs writes it: in small letters. */
static void find_bus(struct device *d) {
    if (cudaDeviceGetPCIBusId(d->bus, sizeof d->bus, d->index) != cudaSuccess) {
        (void)cudaGetLastError();
        d->bus[0] = 0;
    }
    for (char *c = d->bus; *c; c++) *c = (char)tolower((unsigned char)*c);
}

static enum status cuda_prepare(struct cuda *c) {
    struct device *d = &c->base;
    struct cudaDeviceProp prop;
    TRY(cuda_use(d));
    TRY(checked(d->index, "cudaGetDeviceProperties", cudaGetDeviceProperties(&prop, d->index)));
    snprintf(d->name, sizeof d->name, "%.*s", (int)sizeof d->name - 1, prop.name);
    find_bus(d);
    c->workspace = prop.major >= 9 ? WORKSPACE : WORKSPACE_BEFORE_HOPPER;
    return checked(d->index, "cudaStreamCreateWithFlags",
        cudaStreamCreateWithFlags(&c->setup, cudaStreamNonBlocking));
}

static void cuda_close(struct device *d) {
    struct cuda *c = (struct cuda *)d;
    /* After a kernel's fault every call fails: what can be given back is. */
    (void)cudaSetDevice(d->index);
    while (c->pieces) {
        struct piece *piece = c->pieces;
        c->pieces = piece->next;
        (void)(piece->pinned ? cudaFreeHost(piece->at) : cudaFree(piece->at));
        free(piece);
    }
    if (c->setup) (void)cudaStreamDestroy(c->setup);
    (void)cudaGetLastError();
    free(c);
}

static enum status cuda_open(struct device **out, int index, int threads) {
    (void)threads;
    struct cuda *c = calloc(1, sizeof *c);
    if (!c) return fail(STATUS_FAILED, "no memory for a CUDA device");
    c->base.ops = &device_cuda;
    c->base.index = index;
    enum status failed = cuda_prepare(c);
    if (failed != STATUS_OK) {
        cuda_close(&c->base);
        return failed;
    }
    *out = &c->base;
    return STATUS_OK;
}

static enum status cuda_free_bytes(struct device *d, size_t *left, size_t *total) {
    TRY(cuda_use(d));
    return checked(d->index, "cudaMemGetInfo", cudaMemGetInfo(left, total));
}

static enum status out_of_memory(struct device *d, size_t bytes) {
    size_t left = 0, total = 0;
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&left, &total);
    return fail(STATUS_DEVICE, "cuda:%d: no memory for %.1f MB; %.1f of its %.1f MB are left: %s",
        d->index, (double)bytes / 1e6, (double)left / 1e6, (double)total / 1e6,
        cuda_meaning(cudaErrorMemoryAllocation));
}

static enum status cuda_zero(struct cuda *c, void *at, size_t bytes) {
    int index = c->base.index;
    TRY(checked(index, "cudaMemsetAsync", cudaMemsetAsync(at, 0, bytes, c->setup)));
    return checked(index, "cudaStreamSynchronize", cudaStreamSynchronize(c->setup));
}

static enum status cuda_alloc(struct device *d, void **at, size_t bytes) {
    struct cuda *c = (struct cuda *)d;
    size_t size = bytes ? bytes : 1; /* none has an address too */
    TRY(cuda_use(d));
    struct piece *piece = calloc(1, sizeof *piece);
    if (!piece) return fail(STATUS_FAILED, "no memory to remember memory of a GPU");
    cudaError_t error = cudaMalloc(&piece->at, size);
    if (error != cudaSuccess) {
        free(piece);
        if (error == cudaErrorMemoryAllocation) return out_of_memory(d, bytes);
        return checked(d->index, "cudaMalloc", error);
    }
    piece->next = c->pieces;
    c->pieces = piece;
    *at = piece->at;
    return cuda_zero(c, piece->at, size);
}

static enum status cuda_pinned(struct device *d, void **at, size_t bytes) {
    struct cuda *c = (struct cuda *)d;
    size_t size = bytes ? bytes : 1;
    TRY(cuda_use(d));
    struct piece *piece = calloc(1, sizeof *piece);
    if (!piece) return fail(STATUS_FAILED, "no memory to remember pinned memory");
    piece->pinned = 1;
    cudaError_t error =
        cudaHostAlloc(&piece->at, size, cudaHostAllocPortable | cudaHostAllocMapped);
    if (error != cudaSuccess) {
        free(piece);
        if (error != cudaErrorMemoryAllocation) return checked(d->index, "cudaHostAlloc", error);
        (void)cudaGetLastError();
        return fail(STATUS_FAILED,
            "no pinned memory for %.1f MB on the host; use fewer workers, a "
            "smaller model or a smaller batch, or see ulimit -l",
            (double)bytes / 1e6);
    }
    memset(piece->at, 0, size);
    piece->next = c->pieces;
    c->pieces = piece;
    *at = piece->at;
    return STATUS_OK;
}

/* ---- other devices ---- */

static int peer_attribute(enum cudaDeviceP2PAttr attribute, int from, int to) {
    int value = 0;
    if (cudaDeviceGetP2PAttribute(&value, attribute, from, to) == cudaSuccess) return value;
    (void)cudaGetLastError();
    return 0;
}

/* The runtime refuses to be asked about a device and itself. */
static struct peer_claim cuda_peer_claim(int from, int to) {
    struct peer_claim claim = {.reaches = 1, .atomics = 1};
    if (from == to) return claim;
    claim.reaches = 0;
    if (cudaDeviceCanAccessPeer(&claim.reaches, from, to) != cudaSuccess) (void)cudaGetLastError();
    claim.atomics = peer_attribute(cudaDevP2PAttrNativeAtomicSupported, from, to);
    claim.rank = peer_attribute(cudaDevP2PAttrPerformanceRank, from, to);
    return claim;
}

static enum status cuda_peer_enable(struct device *d, int to) {
    if (d->index == to) return STATUS_OK;
    TRY(cuda_use(d));
    cudaError_t error = cudaDeviceEnablePeerAccess(to, 0);
    if (error != cudaErrorPeerAccessAlreadyEnabled) {
        return checked(d->index, "cudaDeviceEnablePeerAccess", error);
    }
    (void)cudaGetLastError();
    return STATUS_OK;
}

static void cuda_peer_disable(struct device *d, int to) {
    if (d->index == to || cuda_use(d) != STATUS_OK) return;
    (void)cudaDeviceDisablePeerAccess(to);
    (void)cudaGetLastError();
}

/* ---- streams ---- */

static void cuda_stream_close(struct stream *base) {
    struct cuda_stream *q = (struct cuda_stream *)base;
    dnn_close(q->dnn);
    if (q->blas) (void)cublasDestroy(q->blas);
    if (q->cuda) (void)cudaStreamDestroy(q->cuda);
    (void)cudaGetLastError();
    free(q);
}

/* cuBLAS forgets its workspace when the stream changes, so the stream comes first. A workspace of
 * the stream's own makes its bits the same each time, and nothing is allocated later. */
static enum status blas_open(struct cuda *c, struct cuda_stream *q) {
    struct device *d = &c->base;
    void *workspace = NULL, *scratch = NULL;
    TRY(cuda_alloc(d, &workspace, c->workspace));
    TRY(cuda_alloc(d, &scratch, CUDA_SCRATCH));
    q->scratch = scratch;
    TRY(blas_checked(d->index, "cublasCreate", cublasCreate(&q->blas)));
    TRY(blas_checked(d->index, "cublasSetStream", cublasSetStream(q->blas, q->cuda)));
    TRY(blas_checked(d->index, "cublasSetMathMode",
        cublasSetMathMode(q->blas, d->tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH)));
    return blas_checked(
        d->index, "cublasSetWorkspace", cublasSetWorkspace(q->blas, workspace, c->workspace));
}

static enum status stream_prepare(struct device *d, struct cuda_stream *q, int kernels) {
    TRY(cuda_use(d));
    q->dnn = dnn_open(d->cudnn, d->tf32);
    if (!q->dnn) return fail(STATUS_FAILED, "no memory for a stream");
    TRY(checked(d->index, "cudaStreamCreateWithFlags",
        cudaStreamCreateWithFlags(&q->cuda, cudaStreamNonBlocking)));
    return kernels ? blas_open((struct cuda *)d, q) : STATUS_OK;
}

static size_t cuda_stream_bytes(const struct device *d) {
    return ((const struct cuda *)d)->workspace + CUDA_SCRATCH;
}

static enum status cuda_stream_open(struct device *d, struct stream **out, int kernels) {
    struct cuda_stream *q = calloc(1, sizeof *q);
    if (!q) return fail(STATUS_FAILED, "no memory for a stream");
    q->base.device = d;
    q->base.kernels = &kernels_cuda;
    q->base.threads = 1;
    enum status failed = stream_prepare(d, q, kernels);
    if (failed != STATUS_OK) {
        cuda_stream_close(&q->base);
        return failed;
    }
    *out = &q->base;
    return STATUS_OK;
}

static void cuda_copy(struct stream *base, void *to, const void *from, size_t bytes) {
    struct cuda_stream *q = (struct cuda_stream *)base;
    if (!bytes) return;
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, q->cuda);
    if (error != cudaSuccess) cuda_latch(base, "cudaMemcpyAsync", error);
}

static enum status cuda_sync(struct stream *base) {
    struct cuda_stream *q = (struct cuda_stream *)base;
    cudaError_t error = cudaStreamSynchronize(q->cuda);
    if (error != cudaSuccess) cuda_latch(base, "cudaStreamSynchronize", error);
    enum status failed = base->failed;
    base->failed = STATUS_OK;
    if (failed == STATUS_OK) return STATUS_OK;
    (void)cudaGetLastError();
    return fail(failed, "cuda:%d: %s", base->device->index, base->why);
}

/* ---- events ---- */

static enum status cuda_event_open(struct device *d, struct event **out) {
    TRY(cuda_use(d));
    struct event *e = calloc(1, sizeof *e);
    if (!e) return fail(STATUS_FAILED, "no memory for an event");
    e->device = d;
    cudaError_t error = cudaEventCreateWithFlags(&e->cuda, cudaEventDisableTiming);
    if (error != cudaSuccess) {
        free(e);
        return checked(d->index, "cudaEventCreateWithFlags", error);
    }
    *out = e;
    return STATUS_OK;
}

static void cuda_event_close(struct event *e) {
    (void)cudaEventDestroy(e->cuda);
    (void)cudaGetLastError();
    free(e);
}

static void cuda_record(struct stream *base, struct event *e) {
    cudaError_t error = cudaEventRecord(e->cuda, ((struct cuda_stream *)base)->cuda);
    if (error != cudaSuccess) cuda_latch(base, "cudaEventRecord", error);
}

static void cuda_wait(struct stream *base, struct event *e) {
    cudaError_t error =
        cudaStreamWaitEvent(((struct cuda_stream *)base)->cuda, e->cuda, cudaEventWaitDefault);
    if (error != cudaSuccess) cuda_latch(base, "cudaStreamWaitEvent", error);
}

/* What it says, the stream's next call says again: a fault on a GPU stays. */
static void cuda_event_sync(struct event *e) {
    (void)cudaEventSynchronize(e->cuda);
    (void)cudaGetLastError();
}

static int cuda_event_passed(struct event *e) {
    cudaError_t error = cudaEventQuery(e->cuda);
    (void)cudaGetLastError();
    return error != cudaErrorNotReady;
}

/* ---- graphs ---- */

/* Thread-local: what other workers do meanwhile, on this device or another, is not recorded and
 * harms nothing. */
static enum status cuda_capture_begin(struct stream *base) {
    cudaStream_t q = ((struct cuda_stream *)base)->cuda;
    return checked(base->device->index, "cudaStreamBeginCapture",
        cudaStreamBeginCapture(q, cudaStreamCaptureModeThreadLocal));
}

static enum status capture_open(struct device *d, struct capture **out, cudaGraph_t recorded) {
    struct capture *g = calloc(1, sizeof *g);
    if (!g) return fail(STATUS_FAILED, "no memory for a graph");
    enum status failed =
        checked(d->index, "cudaGraphInstantiate", cudaGraphInstantiate(&g->cuda, recorded, 0));
    if (failed == STATUS_OK) {
        *out = g;
    } else {
        free(g);
    }
    return failed;
}

/* What a call said while it was being recorded says more than that the recording is void. */
static enum status cuda_capture_end(struct stream *base, struct capture **out) {
    struct device *d = base->device;
    cudaGraph_t recorded = NULL;
    enum status ended = checked(d->index, "cudaStreamEndCapture",
        cudaStreamEndCapture(((struct cuda_stream *)base)->cuda, &recorded));
    enum status failed = base->failed;
    base->failed = STATUS_OK;
    if (failed != STATUS_OK) {
        ended = fail(failed, "cuda:%d: %s", d->index, base->why);
    } else if (ended == STATUS_OK) {
        ended = capture_open(d, out, recorded);
    }
    if (recorded) (void)cudaGraphDestroy(recorded);
    (void)cudaGetLastError();
    return ended;
}

static void cuda_replay(struct stream *base, struct capture *g) {
    cudaError_t error = cudaGraphLaunch(g->cuda, ((struct cuda_stream *)base)->cuda);
    if (error != cudaSuccess) cuda_latch(base, "cudaGraphLaunch", error);
}

static void cuda_capture_close(struct capture *g) {
    (void)cudaGraphExecDestroy(g->cuda);
    (void)cudaGetLastError();
    free(g);
}

const struct device_ops device_cuda = {
    .kind = "cuda",
    .host_memory = 0,
    .expect = cuda_expect,
    .count = cuda_count,
    .address = cuda_address,
    .open = cuda_open,
    .close = cuda_close,
    .use = cuda_use,
    .alloc = cuda_alloc,
    .pinned = cuda_pinned,
    .free_bytes = cuda_free_bytes,
    .peer_claim = cuda_peer_claim,
    .peer_enable = cuda_peer_enable,
    .peer_disable = cuda_peer_disable,
    .stream_open = cuda_stream_open,
    .stream_close = cuda_stream_close,
    .stream_bytes = cuda_stream_bytes,
    .convolves = dnn_tell,
    .event_open = cuda_event_open,
    .event_close = cuda_event_close,
    .copy = cuda_copy,
    .record = cuda_record,
    .wait = cuda_wait,
    .event_sync = cuda_event_sync,
    .event_passed = cuda_event_passed,
    .sync = cuda_sync,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .replay = cuda_replay,
    .capture_close = cuda_capture_close,
};
