/* test_reach.c -- which devices reach one another: nothing that a driver claims is believed. The
 * simulated CUDA makes the trouble. */
#include "devices/reach.h"

#include <criterion/criterion.h>
#include <string.h>

#include "base/log.h"

#ifdef HAVE_CUDA
#include <cuda_runtime.h>
#endif

static const double LIMIT = 20; /* seconds: nothing but what hangs comes near */

static void quiet(void) { log_show(LOG_ERROR); }

TestSuite(reach, .timeout = 120, .init = quiet);

static void check_all(const struct reach *p) {
    for (int a = 0; a < p->count; a++) {
        for (int b = 0; b < p->count; b++) cr_assert(reach_between(p, a, b), "%d %d", a, b);
    }
    cr_assert(reach_all(p));
}

static void check_written(const struct reach *p, const char *expected) {
    char text[200];
    reach_write(p, text, sizeof text);
    cr_assert(strcmp(text, expected) == 0, "%s", text);
}

Test(reach, on_the_host_all_share_one_memory) {
    struct reach p;
    reach_verify(&p, &device_host, (const int[]){0, 0, 0}, 3, LIMIT);
    cr_assert(p.count == 3);
    check_all(&p);
    check_written(&p, "all devices reach one another");
    reach_verify(&p, &device_host, (const int[]){0}, 1, LIMIT);
    check_all(&p);
    check_written(&p, "one device");
}

static struct peer_claim no_claim(int from, int to) {
    (void)from;
    (void)to;
    return (struct peer_claim){0};
}

static enum status cannot_open(struct device **out, int index, int threads) {
    (void)out;
    (void)threads;
    return fail(STATUS_DEVICE, "device %d is broken", index);
}

static struct peer_claim claim(int from, int to) {
    (void)from;
    (void)to;
    return (struct peer_claim){.reaches = 1};
}

Test(reach, what_is_not_offered_is_not_tried) {
    struct device_ops ops = {.kind = "gpu", .peer_claim = no_claim};
    struct reach p;
    reach_verify(&p, &ops, (const int[]){4, 2, 4}, 3, LIMIT);
    cr_assert(!reach_all(&p));
    for (int a = 0; a < 3; a++) {
        for (int b = 0; b < 3; b++) {
            int same = a == b || (a != 1 && b != 1);
            cr_assert(p.claimed[a][b] == same && reach_between(&p, a, b) == same, "%d %d", a, b);
            cr_assert(p.state[a][b] == (same ? REACH_YES : REACH_DENIED));
        }
    }
    check_written(&p, "gpu:4 does not reach gpu:2: the driver offers no access, and 3 more pairs");
}

Test(reach, devices_that_cannot_be_opened_reach_nobody) {
    struct device_ops ops = {.kind = "gpu", .peer_claim = claim, .open = cannot_open};
    struct reach p;
    reach_verify(&p, &ops, (const int[]){0, 1}, 2, LIMIT);
    cr_assert(p.claimed[0][1] && p.state[0][1] == REACH_FAILED && p.state[1][0] == REACH_FAILED);
    cr_assert(reach_between(&p, 0, 0) && reach_between(&p, 1, 1));
    check_written(&p, "gpu:0 does not reach gpu:1: a call failed, and 1 more pair");
}

#ifndef CUDASIM

Test(reach, trouble_between_gpus) { cr_skip_test("needs the simulated CUDA: make sim"); }

#else

#define NEEDS(n)                                                                                   \
    do {                                                                                           \
        if (device_cuda.count() < (n)) cr_skip_test("needs %d GPUs", (n));                         \
    } while (0)

static const int numbers[] = {0, 1, 2};

/* Can a kernel of device a write into memory of device b now? The runtime's word on it. */
static int is_enabled(int a, int b) {
    cr_assert(cudaSetDevice(a) == cudaSuccess);
    cudaError_t error = cudaDeviceEnablePeerAccess(b, 0);
    if (error == cudaSuccess) (void)cudaDeviceDisablePeerAccess(b);
    (void)cudaGetLastError();
    return error == cudaErrorPeerAccessAlreadyEnabled;
}

/* Only the pair (a, b) is in this state; a, b < 0: none is. */
static void check_state(const struct reach *p, int bad_a, int bad_b, enum reach_state state) {
    for (int a = 0; a < 3; a++) {
        for (int b = 0; b < 3; b++) {
            enum reach_state expected = a == bad_a && b == bad_b ? state : REACH_YES;
            cr_assert(p->state[a][b] == expected, "%d %d: %s", a, b,
                reach_words((enum reach_state)p->state[a][b]));
            cr_assert(p->claimed[a][b]);
            if (a != b) cr_assert(is_enabled(a, b) == (expected == REACH_YES), "%d %d", a, b);
        }
    }
}

Test(reach, gpus_that_reach_one_another_are_found_and_nothing_stays_behind) {
    NEEDS(3);
    struct reach p;
    setenv("CUDASIM_JITTER_US", "100", 0);
    long before = cudasim_live();
    reach_verify(&p, &device_cuda, numbers, 3, LIMIT);
    check_state(&p, -1, -1, REACH_YES);
    check_all(&p);
    check_written(&p, "all devices reach one another");
    cr_assert(cudasim_live() == before, "%ld became %ld", before, cudasim_live());
    reach_verify(&p, &device_cuda, numbers, 3, LIMIT); /* what is enabled already is no failure */
    check_state(&p, -1, -1, REACH_YES);
}

static void check_trouble(int trouble) {
    struct reach p;
    for (int a = 0; a < 3; a++) {
        for (int b = 0; b < 3; b++) {
            if (a == b) continue;
            cudasim_peer_trouble(a, b, trouble);
            reach_verify(&p, &device_cuda, numbers, 3, LIMIT);
            check_state(&p, a, b, REACH_CHANGES);
            cr_assert(!reach_all(&p));
            cudasim_peer_trouble(a, b, 0);
        }
    }
    cr_assert(cudasim_live() == 0);
}

Test(reach, a_pair_whose_kernels_read_wrong_is_vetoed) {
    NEEDS(3);
    check_trouble(CUDASIM_PEER_READS);
}

Test(reach, a_pair_whose_kernels_write_wrong_is_vetoed) {
    NEEDS(3);
    check_trouble(CUDASIM_PEER_WRITES);
}

Test(reach, a_pair_whose_copies_are_wrong_is_vetoed) {
    NEEDS(3);
    check_trouble(CUDASIM_PEER_COPIES);
    struct reach p;
    char text[200];
    cudasim_peer_trouble(2, 1, CUDASIM_PEER_COPIES);
    reach_verify(&p, &device_cuda, numbers, 3, LIMIT);
    check_written(&p, "cuda:2 does not reach cuda:1: bytes arrive changed");
    reach_write(&p, text, 12);
    cr_assert(strcmp(text, "cuda:2 does") == 0, "%s", text);
}

Test(reach, one_device_under_two_numbers_is_not_tried) {
    NEEDS(2);
    struct reach p;
    cudasim_peer_trouble(1, 0, CUDASIM_PEER_COPIES);
    reach_verify(&p, &device_cuda, (const int[]){1, 1, 0}, 3, LIMIT);
    cr_assert(reach_between(&p, 0, 1) && reach_between(&p, 1, 0));
    cr_assert(p.state[0][2] == REACH_CHANGES && p.state[1][2] == REACH_CHANGES);
    cr_assert(reach_between(&p, 2, 0) && reach_between(&p, 2, 1));
}

Test(reach, a_pair_that_hangs_is_not_waited_for) {
    NEEDS(3);
    struct reach p;
    cudasim_peer_trouble(1, 0, CUDASIM_PEER_HANGS);
    reach_verify(&p, &device_cuda, numbers, 3, 0.3);
    cr_assert(reach_between(&p, 0, 1) && reach_between(&p, 0, 2)); /* tried before it */
    cr_assert(p.state[1][0] == REACH_HANGS);
    cr_assert(p.state[1][2] == REACH_UNTRIED && p.state[2][0] == REACH_UNTRIED);
    check_written(&p, "cuda:1 does not reach cuda:0: a transfer does not end, and 3 more pairs");
    cudasim_peer_trouble(1, 0, 0); /* or this process would never end */
    _Exit(0);
}

Test(reach, a_lost_device_reaches_nobody) {
    NEEDS(3);
    struct reach p;
    cudasim_fault(1);
    reach_verify(&p, &device_cuda, numbers, 3, LIMIT);
    cr_assert(p.state[0][1] == REACH_FAILED && p.state[1][0] == REACH_FAILED);
}

#endif
