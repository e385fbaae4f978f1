#include <criterion/criterion.h>

TestSuite(simulated, .timeout = 120);

#ifdef HAVE_CUDA
#include <cuda_runtime.h>
#endif

#ifndef CUDASIM

Test(simulated, cuda_is_not_in_this_build) { cr_skip_test("make sim builds with it"); }

#else

#include <cublas_v2.h>
#include <cudnn.h>
#include <nccl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "simulated.h"

/* Every call of CUDA, cuBLAS or NCCL that has to go well. */
#define OK(call) cr_assert((call) == 0, "%s", cudaGetErrorString(cudaPeekAtLastError()))

enum { N = 1000, BYTES = N * sizeof(float) };

/* A device with a stream, memory that holds zeros, and pinned memory. */
struct bench {
    cudaStream_t q;
    float *x, *pinned;
};

static struct bench bench_open(int device) {
    struct bench b;
    OK(cudaSetDevice(device));
    OK(cudaStreamCreateWithFlags(&b.q, cudaStreamNonBlocking));
    OK(cudaMalloc((void **)&b.x, BYTES));
    OK(cudaHostAlloc((void **)&b.pinned, BYTES, cudaHostAllocPortable | cudaHostAllocMapped));
    memset(b.pinned, 0, BYTES);
    OK(cudaMemsetAsync(b.x, 0, BYTES, b.q));
    OK(cudaStreamSynchronize(b.q));
    return b;
}

static void bench_close(struct bench b, int device) {
    OK(cudaSetDevice(device));
    OK(cudaFree(b.x));
    OK(cudaFreeHost(b.pinned));
    OK(cudaStreamDestroy(b.q));
}

/* Copies x to pinned memory, waits, and wants n times the value there. */
static void holds(struct bench b, size_t n, float value) {
    OK(cudaMemcpyAsync(b.pinned, b.x, BYTES, cudaMemcpyDeviceToHost, b.q));
    OK(cudaStreamSynchronize(b.q));
    for (size_t i = 0; i < n; i++)
        cr_assert(b.pinned[i] == value, "%zu: %g, not %g", i, (double)b.pinned[i], (double)value);
}

/* ---- what must work ---- */

Test(simulated, fresh_memory_is_not_a_number) {
    float *x, host[100];
    cudaStream_t q;
    OK(cudaStreamCreateWithFlags(&q, cudaStreamNonBlocking));
    OK(cudaMalloc((void **)&x, sizeof host));
    OK(cudaMemcpyAsync(host, x, sizeof host, cudaMemcpyDefault, q));
    for (int i = 0; i < 100; i++) cr_assert(isnan(host[i]));
    OK(cudaFree(x));
    OK(cudaStreamDestroy(q));
}

/* Of large memory whole pages are lent and zeroed at once. */
Test(simulated, large_memory_is_not_a_number_but_where_it_was_zeroed) {
    enum { LARGE = 800001, FROM = 1024, ZEROS = 700001 };
    struct bench b = bench_open(1);
    float *x, *host = malloc(LARGE * sizeof *host);
    cr_assert(host != NULL);
    OK(cudaMalloc((void **)&x, LARGE * sizeof *x));
    OK(cudaMemcpyAsync(host, x, LARGE * sizeof *x, cudaMemcpyDefault, b.q));
    for (int i = 0; i < LARGE; i++) cr_assert(isnan(host[i]), "%d: %g", i, (double)host[i]);
    OK(cudaMemsetAsync(x + FROM, 0, ZEROS * sizeof *x, b.q));
    OK(cudaMemcpyAsync(host, x, LARGE * sizeof *x, cudaMemcpyDefault, b.q));
    for (int i = 0; i < LARGE; i++) {
        int zeroed = i >= FROM && i < FROM + ZEROS;
        cr_assert(zeroed ? host[i] == 0 : isnan(host[i]), "%d: %g", i, (double)host[i]);
    }
    OK(cudaFree(x));
    free(host);
    bench_close(b, 1);
}

Test(simulated, what_nobody_waits_for_is_done_soon) {
    struct bench b = bench_open(0);
    launch_fill(b.x, N, 5, 64, b.q);
    OK(cudaMemcpyAsync(b.pinned, b.x, BYTES, cudaMemcpyDefault, b.q));
    const volatile float *last = &b.pinned[N - 1];
    for (int ms = 0; ms < 60000 && *last != 5; ms++) usleep(1000);
    cr_assert(*last == 5, "%g", (double)*last);
    bench_close(b, 0);
}

static void kernels_compute(const char *order) {
    setenv("CUDASIM_ORDER", order, 1);
    struct bench b = bench_open(0);
    float *y;
    int *lanes, got[128];
    OK(cudaMalloc((void **)&y, BYTES));
    OK(cudaMalloc((void **)&lanes, sizeof got));
    launch_fill(b.x, N, 2, 64, b.q);
    launch_fill(y, N, 3, 1024, b.q);
    launch_add(b.x, y, N - 1, b.q);
    holds(b, N - 1, 5);
    cr_assert(b.pinned[N - 1] == 2);
    launch_sum(y, b.x, N, b.q);
    OK(cudaMemcpyAsync(b.pinned, y, sizeof *y, cudaMemcpyDeviceToHost, b.q));
    launch_warp(lanes, b.q);
    OK(cudaMemcpyAsync(got, lanes, sizeof got, cudaMemcpyDeviceToHost, b.q));
    cr_assert(b.pinned[0] == 5 * (N - 1) + 2, "order %s: %g", order, (double)b.pinned[0]);
    for (int i = 0; i < 24; i++) {
        cr_assert(got[i] == (i + 1) % 24 && got[32 + i] == 0x249249);
        cr_assert(got[64 + i] == (i % 8 < 6 ? i + 2 : i) && got[96 + i] == (i ^ 1));
    }
    for (int i = 0; i < N; i++) b.pinned[i] = (float)i;
    OK(cudaMemcpyAsync(b.x, b.pinned, BYTES, cudaMemcpyHostToDevice, b.q));
    launch_reverse(y, b.x, N, 1, b.q);
    OK(cudaMemcpyAsync(b.pinned, y, BYTES, cudaMemcpyDeviceToHost, b.q));
    OK(cudaStreamSynchronize(b.q));
    for (int i = 0; i < N; i++) cr_assert(b.pinned[i] == (float)(N - 1 - i));
    OK(cudaFree(y));
    OK(cudaFree(lanes));
    bench_close(b, 0);
}

Test(simulated, kernels_compute_in_the_natural_order) { kernels_compute("0"); }
Test(simulated, kernels_compute_backward) { kernels_compute("1"); }
Test(simulated, kernels_compute_in_any_order) { kernels_compute("2"); }

Test(simulated, launches_that_a_gpu_refuses_are_refused) {
    struct bench b = bench_open(0);
    launch_fill(b.x, N, 1, 1025, b.q);
    cr_assert(cudaPeekAtLastError() == cudaErrorInvalidConfiguration);
    cr_assert(cudaGetLastError() == cudaErrorInvalidConfiguration);
    cr_assert(cudaGetLastError() == cudaSuccess);
    holds(b, N, 0);
    bench_close(b, 0);
}

Test(simulated, devices_are_told_apart) {
    int count = 0, device = 9, value = 0;
    char bus[2][32];
    OK(cudaGetDeviceCount(&count));
    cr_assert(count == 4);
    for (int d = 0; d < 2; d++) OK(cudaDeviceGetPCIBusId(bus[d], sizeof bus[d], d));
    cr_assert(strcmp(bus[0], bus[1]));
    cr_assert(cudaSetDevice(count) == cudaErrorInvalidDevice);
    cr_assert(cudaGetLastError() == cudaErrorInvalidDevice);
    OK(cudaGetDevice(&device));
    OK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 1));
    cr_assert(device == 0 && value > 0);
}

Test(simulated, peers_are_reached_when_access_was_enabled) {
    struct bench a = bench_open(0), b = bench_open(1);
    launch_fill(b.x, N, 4, 64, b.q);
    holds(b, N, 4);
    int can = 0;
    OK(cudaDeviceCanAccessPeer(&can, 0, 1));
    cr_assert(can == 1);
    OK(cudaSetDevice(0));
    OK(cudaMemcpyPeerAsync(a.x, 0, b.x, 1, BYTES, a.q));
    OK(cudaDeviceEnablePeerAccess(1, 0));
    cr_assert(cudaDeviceEnablePeerAccess(1, 0) == cudaErrorPeerAccessAlreadyEnabled);
    (void)cudaGetLastError();
    launch_add(a.x, b.x, N, a.q);
    holds(a, N, 8);
    OK(cudaDeviceDisablePeerAccess(1));
    bench_close(a, 0);
    bench_close(b, 1);
}

/* A fork and a join within a capture, replayed ten times. */
Test(simulated, captures_are_replayed) {
    struct bench a = bench_open(0), b = bench_open(0);
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    OK(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    OK(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
    launch_fill(a.x, N, 1, 64, a.q);
    OK(cudaStreamBeginCapture(a.q, cudaStreamCaptureModeThreadLocal));
    cr_assert(cudaDeviceSynchronize() == cudaErrorStreamCaptureUnsupported);
    (void)cudaGetLastError();
    OK(cudaEventRecord(fork, a.q));
    OK(cudaStreamWaitEvent(b.q, fork, 0));
    launch_add(b.x, a.x, N, b.q);
    OK(cudaEventRecord(join, b.q));
    OK(cudaStreamWaitEvent(a.q, join, 0));
    launch_add(b.x, a.x, N, a.q);
    OK(cudaStreamEndCapture(a.q, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    for (int i = 0; i < 10; i++) OK(cudaGraphLaunch(exec, a.q));
    OK(cudaStreamSynchronize(a.q));
    holds(b, N, 20);
    OK(cudaGraphExecDestroy(exec));
    OK(cudaEventDestroy(fork));
    OK(cudaEventDestroy(join));
    bench_close(a, 0);
    bench_close(b, 0);
}

Test(simulated, sgemm_multiplies_every_way) {
    enum { M = 7, K = 13, COLS = 5, COUNT = 2 };
    struct bench b = bench_open(0);
    cublasHandle_t h;
    float alpha = 2, beta = -1, *workspace;
    OK(cublasCreate(&h));
    OK(cublasSetStream(h, b.q));
    OK(cudaMalloc((void **)&workspace, 1024));
    OK(cublasSetWorkspace(h, workspace, 1024));
    float *A = b.x, *B = b.x + 300, *C = b.x + 600;
    for (int way = 0; way < 4; way++) {
        int ta = way & 1, tb = way >> 1, lda = ta ? K : M, ldb = tb ? COLS : K;
        float start[N];
        for (int i = 0; i < N; i++) start[i] = b.pinned[i] = (float)(i * 7 % 11 - 5);
        OK(cudaMemcpyAsync(b.x, b.pinned, BYTES, cudaMemcpyDefault, b.q));
        OK(cublasSgemmStridedBatched(h, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
            tb ? CUBLAS_OP_T : CUBLAS_OP_N, M, COLS, K, &alpha, A, lda, M * K, B, ldb, K * COLS,
            &beta, C, M, M * COLS, COUNT));
        OK(cudaMemcpyAsync(b.pinned, b.x, BYTES, cudaMemcpyDefault, b.q));
        OK(cudaStreamSynchronize(b.q));
        for (int i = 0; i < COUNT * M * COLS; i++) {
            int one = i / (M * COLS), row = i % M, col = i / M % COLS;
            const float *a = start + one * M * K, *c = start + 300 + one * K * COLS;
            double want = -(double)start[600 + i];
            for (int k = 0; k < K; k++)
                want += 2.0 * (double)(ta ? a[k + row * lda] : a[row + k * lda]) *
                        (double)(tb ? c[col + k * ldb] : c[k + col * ldb]);
            check_close(&b.pinned[600 + i], &want, 1, 0, 0, "way %d element %d", way, i);
        }
    }
    OK(cublasDestroy(h));
    OK(cudaFree(workspace));
    bench_close(b, 0);
}

static ncclUniqueId id;

static int waits_for(ncclComm_t comm) {
    ncclResult_t state = ncclInProgress;
    while (state == ncclInProgress)
        if (ncclCommGetAsyncError(comm, &state) != ncclSuccess) return 1;
    return state != ncclSuccess;
}

/* One of three ranks, without waiting for the others in any call. */
static void *rank_run(void *arg) {
    int rank = (int)(intptr_t)arg;
    struct bench b = bench_open(rank);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm;
    float *all;
    cr_assert(ncclCommInitRankConfig(&comm, 3, id, rank, &config) == ncclInProgress);
    OK(waits_for(comm));
    OK(cudaMalloc((void **)&all, 3 * BYTES));
    for (int round = 0; round < 4; round++) {
        launch_fill(b.x, N, (float)(rank + round), 64, b.q);
        cr_assert(ncclAllReduce(b.x, b.x, N, ncclFloat, ncclSum, comm, b.q) == ncclInProgress);
        cr_assert(ncclAllReduce(b.x, b.x, N, ncclFloat, ncclSum, comm, b.q) == ncclInvalidArgument);
        OK(waits_for(comm));
        holds(b, N, (float)(3 + 3 * round));
    }
    launch_fill(b.x, N, (float)rank, 64, b.q);
    cr_assert(ncclAllGather(b.x, all, N, ncclFloat, comm, b.q) == ncclInProgress);
    OK(waits_for(comm));
    for (int r = 0; r < 3; r++) {
        OK(cudaMemcpyAsync(b.x, all + r * N, BYTES, cudaMemcpyDefault, b.q));
        holds(b, N, (float)r);
    }
    cr_assert(ncclBroadcast(all + 2 * N * (rank == 1), b.x, N, ncclFloat, 1, comm, b.q) ==
              ncclInProgress);
    OK(waits_for(comm));
    holds(b, N, 2);
    OK(ncclCommDestroy(comm));
    OK(cudaFree(all));
    bench_close(b, rank);
    return NULL;
}

Test(simulated, ranks_meet_in_collectives) {
    pthread_t thread[3];
    OK(ncclGetUniqueId(&id));
    for (intptr_t r = 0; r < 3; r++) OK(pthread_create(&thread[r], NULL, rank_run, (void *)r));
    for (int r = 0; r < 3; r++) OK(pthread_join(thread[r], NULL));
}

Test(simulated, two_ranks_on_one_device_are_refused) {
    ncclComm_t comms[2];
    cr_assert(ncclCommInitAll(comms, 2, (const int[]){1, 1}) == ncclInvalidUsage);
}

/* One rank never comes; the other's stream stands until its communicator is aborted. */
Test(simulated, an_abort_frees_the_stream_that_waits) {
    struct bench b = bench_open(0);
    ncclComm_t comms[2];
    OK(ncclCommInitAll(comms, 2, NULL));
    OK(cudaSetDevice(0));
    OK(ncclAllReduce(b.x, b.x, N, ncclFloat, ncclSum, comms[0], b.q));
    usleep(20000);
    cr_assert(cudaStreamQuery(b.q) == cudaErrorNotReady);
    OK(ncclCommAbort(comms[0]));
    OK(cudaStreamSynchronize(b.q));
    OK(ncclCommAbort(comms[1]));
    bench_close(b, 0);
}

/* ---- what must be caught ---- */

static void free_then_copy(struct bench b) {
    cudaFree(b.x);
    cudaMemcpyAsync(b.x, b.pinned, BYTES, cudaMemcpyDefault, b.q);
}
static void wrong_direction(struct bench b) {
    cudaMemcpyAsync(b.x, b.pinned, BYTES, cudaMemcpyDeviceToDevice, b.q);
}
static void copy_past_the_end(struct bench b) {
    cudaMemcpyAsync(b.x + 1, b.pinned, BYTES, cudaMemcpyDefault, b.q);
}
static void freed_argument(struct bench b) {
    cudaFree(b.x);
    launch_fill(b.x, N, 1, 64, b.q);
}
static void freed_in_kernel(struct bench b) {
    float **table;
    cudaHostAlloc((void **)&table, sizeof *table, 0);
    table[0] = b.x;
    cudaFree(b.x);
    launch_follow(table, b.q);
    cudaStreamSynchronize(b.q);
}
static void peer_in_kernel(struct bench b) {
    struct bench other = bench_open(1);
    float **table;
    cudaHostAlloc((void **)&table, sizeof *table, 0);
    table[0] = b.x;
    launch_follow(table, other.q);
    cudaStreamSynchronize(other.q);
}
static void freed_twice(struct bench b) {
    cudaFree(b.x);
    cudaFree(b.x);
}
static void host_argument(struct bench b) {
    static float host[N];
    launch_fill(host, N, 1, 64, b.q);
}
static void peer_argument(struct bench b) {
    struct bench other = bench_open(1);
    launch_fill(b.x, N, 1, 64, other.q);
}
static void overrun(struct bench b) {
    launch_write(b.x, N + 3, b.q);
    cudaFree(b.x);
}
static void overrun_far(struct bench b) {
    launch_write(b.x, N + 1000, b.q);
    cudaStreamSynchronize(b.q);
}
static void overrun_shared(struct bench b) {
    launch_write_shared(b.x, b.q);
    cudaStreamSynchronize(b.q);
}
static void missed_barrier(struct bench b) {
    launch_diverged(b.x, 40, b.q);
    cudaStreamSynchronize(b.q);
}
static void other_device_current(struct bench b) {
    cudaSetDevice(1);
    launch_fill(b.x, N, 1, 64, b.q);
}
static void event_of_another_device(struct bench b) {
    cudaEvent_t e;
    cudaSetDevice(1);
    cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
    cudaEventRecord(e, b.q);
}
static void destroyed_stream(struct bench b) {
    cudaStreamDestroy(b.q);
    launch_fill(b.x, N, 1, 64, b.q);
}
static void default_stream(struct bench b) { launch_fill(b.x, N, 1, 64, NULL); }
static void host_touches(struct bench b) { b.x[0] = 1; }
static void called(void *at) { cudaMemsetAsync(at, 0, 4, NULL); }
static void call_in_host_function(struct bench b) {
    cudaLaunchHostFunc(b.q, called, b.x);
    cudaStreamSynchronize(b.q);
}
static void no_workspace(struct bench b) {
    cublasHandle_t h;
    float one = 1;
    cublasCreate(&h);
    cublasSetWorkspace(h, b.x, BYTES);
    cublasSetStream(h, b.q); /* forgets it */
    cublasSgemm(h, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, b.x, 2, b.x, 2, &one, b.x, 2);
}
static void gemm_past_the_end(struct bench b) {
    cublasHandle_t h;
    float one = 1;
    cublasCreate(&h);
    cublasSetStream(h, b.q);
    cublasSgemm(h, CUBLAS_OP_N, CUBLAS_OP_N, 9, 9, 9, &one, b.x, 9, b.x, 124, &one, b.x, 9);
}
/* An image of (side, 8, 8) by a filter of 3 x 3, all in b.x; so many descriptors are set, of four. */
static void convolve(struct bench b, int side, int out, int set) {
    cudnnHandle_t h;
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    size_t bytes = 0;
    float one = 1, zero = 0;
    cudnnCreate(&h);
    cudnnSetStream(h, b.q);
    cudnnCreateTensorDescriptor(&x);
    cudnnCreateTensorDescriptor(&y);
    cudnnCreateFilterDescriptor(&w);
    cudnnCreateConvolutionDescriptor(&conv);
    if (set > 0) cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 1, 8, side, 8);
    if (set > 1) cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 1, 1, out, 6);
    if (set > 2) cudnnSetFilter4dDescriptor(w, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, 1, 8, 3, 3);
    if (set > 3)
        cudnnSetConvolution2dDescriptor(
            conv, 0, 0, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
    cudnnGetConvolutionForwardWorkspaceSize(
        h, x, w, conv, y, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, &bytes);
    cudnnConvolutionForward(h, &one, x, b.x, w, b.x, conv,
        CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, b.x, bytes, &zero, y, b.x);
}
static void convolution_past_the_end(struct bench b) { convolve(b, 16, 14, 4); }
static void convolution_of_nothing(struct bench b) { convolve(b, 8, 6, 3); }
static void convolution_of_another_size(struct bench b) { convolve(b, 8, 7, 4); }
static void rank_missing(struct bench b) {
    ncclComm_t comms[2];
    ncclCommInitAll(comms, 2, NULL);
    ncclAllReduce(b.x, b.x, N, ncclFloat, ncclSum, comms[0], b.q);
    cudaStreamSynchronize(b.q);
}
static void rank_on_a_wrong_stream(struct bench b) {
    ncclComm_t comms[2];
    ncclCommInitAll(comms, 2, NULL);
    ncclAllReduce(b.x, b.x, N, ncclFloat, ncclSum, comms[1], b.q);
}
static void ranks_at_odds(struct bench b) {
    struct bench other = bench_open(1);
    ncclComm_t comms[2];
    ncclCommInitAll(comms, 2, NULL);
    ncclAllReduce(b.x, b.x, N, ncclFloat, ncclSum, comms[0], b.q);
    ncclAllReduce(other.x, other.x, N - 1, ncclFloat, ncclSum, comms[1], other.q);
    cudaStreamSynchronize(b.q);
}
static void leak(struct bench b) {
    (void)b;
    exit(0);
}

/* Two that only show as wrong numbers: then they say so themselves. */
static void missing_event(struct bench b) {
    struct bench other = bench_open(0);
    for (int round = 1; round < 200; round++) {
        launch_fill(b.x, N, (float)round, 64, b.q);
        cudaMemcpyAsync(b.pinned, b.x, BYTES, cudaMemcpyDefault, other.q);
        cudaStreamSynchronize(other.q);
        if (b.pinned[0] != (float)round) {
            fprintf(stderr, "stale\n");
            abort();
        }
        cudaStreamSynchronize(b.q);
    }
}
static void missing_barrier(struct bench b) {
    struct bench out = bench_open(0);
    for (int i = 0; i < N; i++) b.pinned[i] = (float)i;
    cudaMemcpyAsync(b.x, b.pinned, BYTES, cudaMemcpyDefault, b.q);
    launch_reverse(out.x, b.x, N, 0, b.q);
    cudaMemcpyAsync(b.pinned, out.x, BYTES, cudaMemcpyDefault, b.q);
    cudaStreamSynchronize(b.q);
    for (int i = 0; i < N; i++) {
        if (b.pinned[i] == (float)(N - 1 - i)) continue;
        fprintf(stderr, "not reversed\n");
        abort();
    }
}

static const struct mistake {
    void (*make)(struct bench b);
    const char *setting, *said; /* an environment variable, NULL: none */
} mistakes[] = {
    {free_then_copy, NULL, "cudaMemcpyAsync: use of freed device memory"},
    {wrong_direction, NULL, "source is host memory but the direction is DeviceToDevice"},
    {copy_past_the_end, NULL, "4000 bytes at offset 4 run past the end of device memory"},
    {freed_argument, NULL, "kernel fill: argument 0 points to freed device memory"},
    {freed_in_kernel, NULL, "use of freed device memory"},
    {freed_twice, NULL, "cudaFree: freed twice"},
    {host_argument, NULL, "points to no device or pinned memory"},
    {peer_argument, NULL, "kernel fill on device 1: argument 0 points to"},
    {overrun, NULL, "cudaFree: byte 12 after the end of device memory"},
    {overrun_far, NULL, "in kernel write, block (0,0,0), thread (0,0,0): access past the end of"},
    {overrun_shared, NULL, "write past the end of dynamic shared memory in kernel write_shared"},
    {missed_barrier, NULL, "barrier deadlock (40 threads wait at __syncthreads"},
    {other_device_current, NULL, "stream of device 0 used while device 1 is current"},
    {event_of_another_device, NULL, "event of device 1 recorded on a stream of device 0"},
    {destroyed_stream, NULL, "kernel fill: stream was destroyed"},
    {default_stream, NULL, "the default stream is not simulated"},
    {call_in_host_function, NULL, "called on a stream thread, inside \"host function\""},
    {no_workspace, NULL, "cublasSgemm: no workspace was set after the stream"},
    {gemm_past_the_end, NULL, "cublasSgemm: 4004 bytes at offset 0 run past the end"},
    {convolution_past_the_end, NULL, "cudnnConvolutionForward: 4096 bytes at offset 0 run past"},
    {convolution_of_nothing, NULL, "a descriptor that was not set"},
    {convolution_of_another_size, NULL, "descriptors that do not agree"},
    {rank_missing, "CUDASIM_TIMEOUT_S=1", "rank 0 of 2 waited 1 s for ranks 1"},
    {rank_on_a_wrong_stream, NULL, "stream of device 0 given to a communicator of device 1"},
    {ranks_at_odds, NULL, "count 1000, type 7"},
    {leak, "CUDASIM_LEAKS=2", "leak: device memory #1 (4000 bytes, device 0)"},
    {missing_event, "CUDASIM_JITTER_US=0", "stale"},
    {missing_event, "CUDASIM_JITTER_US=500", "stale"},
    {missing_barrier, "CUDASIM_ORDER=0", "not reversed"},
    {missing_barrier, "CUDASIM_ORDER=1", "not reversed"},
    {missing_barrier, "CUDASIM_ORDER=2", "not reversed"},
};

/* Only where the processor has protection keys. */
static const struct mistake touches[] = {
    {host_touches, NULL, "host code touches device memory #1"},
    {peer_in_kernel, NULL, "access without peer access"},
};

/* Makes the mistake in a process of its own, which must die and say what it was. */
static void dies(const struct mistake *m, int at) {
    int said[2];
    char text[4096];
    size_t n = 0;
    ssize_t got = 0;
    cr_assert(pipe(said) == 0);
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        dup2(said[1], 2);
        setenv("CUDASIM_LEAKS", "0", 1);
        if (m->setting) putenv((char *)(uintptr_t)m->setting);
        m->make(bench_open(0));
        _exit(0);
    }
    close(said[1]);
    while (n < sizeof text - 1 && (got = read(said[0], text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = 0;
    int status = 0;
    cr_assert(waitpid(child, &status, 0) == child);
    close(said[0]);
    cr_assert(status != 0 && strstr(text, m->said), "mistake %d, status %d: %s", at, status, text);
}

Test(simulated, every_mistake_is_caught_and_named) {
    for (int i = 0; i < (int)(sizeof mistakes / sizeof *mistakes); i++) dies(&mistakes[i], i);
}

Test(simulated, nobody_touches_device_memory_but_its_own_kernels) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[4096];
    int keys = 0;
    while (f && fgets(line, sizeof line, f)) keys = keys || strstr(line, " ospke");
    if (f) fclose(f);
    if (!keys) cr_skip_test("needs a processor with memory protection keys");
    for (int i = 0; i < 2; i++) dies(&touches[i], i);
}

#endif
