/* perf.h -- what the measuring programs share: repetition, medians, the line that says where. */
#ifndef PERF_H
#define PERF_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "devices/device.h"

enum { PERF_WARMUP = 2, PERF_SAMPLES = 9 };

/* Seconds of one call of each of several bodies. They take turns, sample by sample, so that a
 * machine that gets slower for a while is slower for all of them. */
struct perf_body {
    void (*run)(void *with);
    void *with;
    double sample[PERF_SAMPLES]; /* seconds a call, sorted at the end */
    void (*finish)(void *with);  /* waits for what the calls of a sample enqueued; NULL: nothing */
};

static inline int perf_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double perf_time(const struct perf_body *b, long calls) {
    double start = clock_seconds();
    for (long i = 0; i < calls; i++) b->run(b->with);
    if (b->finish) b->finish(b->with);
    return (clock_seconds() - start) / (double)calls;
}

/* Each sample lasts about `least` seconds. */
static inline void perf_measure(struct perf_body *bodies, int n, double least) {
    long calls[16];
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < PERF_WARMUP; k++) bodies[i].run(bodies[i].with);
        double once = perf_time(&bodies[i], 1);
        calls[i] = once < least ? (long)(least / once) + 1 : 1;
    }
    for (int s = 0; s < PERF_SAMPLES; s++) {
        for (int i = 0; i < n; i++) bodies[i].sample[s] = perf_time(&bodies[i], calls[i]);
    }
    for (int i = 0; i < n; i++) {
        qsort(bodies[i].sample, PERF_SAMPLES, sizeof *bodies[i].sample, perf_order);
    }
}

static inline double perf_median(const struct perf_body *b) { return b->sample[PERF_SAMPLES / 2]; }

/* Bytes of the last-level cache, as the system describes it for the first processor. (glibc's
 * sysconf multiplies it by what it takes for the number of instances.) 32 MiB where it says
 * nothing. */
static inline size_t perf_last_cache(void) {
    size_t bytes = 0;
    for (int index = 0; index < 8; index++) {
        char path[96];
        size_t kib = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        FILE *f = fopen(path, "r");
        if (!f) break;
        if (fscanf(f, "%zuK", &kib) == 1 && kib << 10 > bytes) bytes = kib << 10;
        fclose(f);
    }
    return bytes ? bytes : (size_t)32 << 20;
}

/* "64K", "8M", "1G" or plain bytes, as nccl-tests read them. */
static inline size_t perf_bytes(const char *text) {
    char *rest;
    double n = strtod(text, &rest);
    int shift = *rest == 'K' ? 10 : *rest == 'M' ? 20 : *rest == 'G' ? 30 : 0;
    if (n > 0 && (*rest == 0 || (shift && rest[1] == 0)))
        return (size_t)(n * (double)(1ul << shift));
    fprintf(stderr, "%s is no size; 64K, 8M, 1G or bytes\n", text);
    exit(2);
}

/* The device kind that a command line begins with, taken off it; the host where it says none. */
static inline const struct device_ops *perf_kind(const char *program, int *argc, char ***argv) {
    const struct device_ops *const *kind = devices;
    const char *name = *argc > 1 ? (*argv)[1] : "";
    while (*kind && strcmp((*kind)->kind, name) != 0) kind++;
    if (!*kind && !strcmp(name, "cuda")) {
        fprintf(stderr, "%s: built without CUDA\n", program);
        exit(2);
    }
    if (!*kind) return &device_host;
    if ((*kind)->count() == 0) {
        fprintf(stderr, "%s: %s\n", program, fail_message());
        exit(status_exit_code(STATUS_DEVICE));
    }
    (*argc)--, (*argv)++;
    return *kind;
}

/* "# perf step  commit 1a2b3c4  AMD EPYC, 2 cores" */
static inline void perf_header(const char *name, int cores) {
    char line[256], cpu[128] = "unknown processor";
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "model name : %127[^\n]", cpu) == 1) break;
    }
    if (f) fclose(f);
    printf("# perf %s  commit %s  %s, %d cores  compiler %s\n", name, PERF_COMMIT, cpu, cores,
        __VERSION__);
}

#endif
