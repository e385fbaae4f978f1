#include "topology.h"

#include <stdlib.h>

/* A run of cores on one node, cut into slots of as many cores as a worker has threads. */
struct stretch {
    int first, cores;
    int slots;   /* workers that fit side by side */
    int extra;   /* workers here beyond as many in every slot of the machine */
    int workers; /* all workers here */
};

static int stretches_find(const struct machine *m, struct stretch *s) {
    int n = 0;
    for (int i = 0; i < m->cores; i++) {
        if (i == 0 || m->core[i].node != m->core[i - 1].node) s[n++] = (struct stretch){.first = i};
        s[n - 1].cores++;
    }
    return n;
}

/* Cuts the stretches for workers of `threads` cores; how many workers fit without sharing. */
static int stretches_cut(struct stretch *s, int n, int threads) {
    int slots = 0;
    for (int i = 0; i < n; i++) slots += s[i].slots = s[i].cores / threads;
    return slots;
}

/* As many threads as leave no core to two workers. Where a node has that many cores, they are
 * lowered until nobody straddles: in a team that waits for its slowest, a worker with half of its
 * cores far from its memory costs more than a few idle cores. */
static int threads_choose(const struct machine *m, int workers, struct stretch *s, int n) {
    int largest = 0, threads = m->cores / workers;
    for (int i = 0; i < n; i++) largest = s[i].cores > largest ? s[i].cores : largest;
    if (threads > largest) return threads;
    while (threads > 1 && stretches_cut(s, n, threads) < workers) threads--;
    return threads > 1 ? threads : 1;
}

static struct stretch *stretches_emptiest(struct stretch *s, int n) {
    struct stretch *best = NULL;
    for (int i = 0; i < n; i++) {
        if (s[i].extra < s[i].slots && (!best || s[i].extra < best->extra)) best = s + i;
    }
    return best;
}

/* Every slot takes as many workers as go round. Those that remain are spread over the stretches:
 * with gaps where they are few, so that they use all packages, and evenly while there is room. */
static void workers_deal(struct stretch *s, int n, int slots, int workers) {
    ASSERT(slots > 0);
    int remain = workers % slots, seated = 0;
    for (int k = 0; k < remain; k++) {
        int i = (int)((long long)k * n / remain);
        if (s[i].extra == s[i].slots) continue;
        s[i].extra++;
        seated++;
    }
    for (; seated < remain; seated++) stretches_emptiest(s, n)->extra++;
    for (int i = 0; i < n; i++) s[i].workers = workers / slots * s[i].slots + s[i].extra;
}

/* Slots rather than any first core: runs that start at multiples of their length share caches,
 * and no other choice of runs on a line leaves the busiest core with less. */
static struct place *workers_seat(
    const struct machine *m, const struct stretch *s, int threads, struct place *p) {
    for (int k = 0; k < s->workers; k++, p++) {
        int first = s->first + (int)((long long)k * s->slots / s->workers) * threads;
        *p = (struct place){.first = first, .threads = threads, .node = m->core[first].node};
        if (k > 0 && p[-1].first == first) p->shared = p[-1].shared = 1;
    }
    return p;
}

enum status plan_places(const struct machine *m, int workers, int threads, struct place *places) {
    ASSERT(m->cores >= 1 && workers >= 1 && threads >= 0);
    if (threads > m->cores) {
        return fail(STATUS_BAD_CONFIG,
            "%d threads for each worker, but this process has %d cores: ask for fewer, or for 0 "
            "to let them be chosen",
            threads, m->cores);
    }
    struct stretch *s = calloc((size_t)m->cores, sizeof *s);
    if (!s) return fail(STATUS_FAILED, "no memory to place %d workers", workers);
    int n = stretches_find(m, s);
    if (threads == 0) threads = threads_choose(m, workers, s, n);
    int slots = stretches_cut(s, n, threads);
    /* To straddle nodes is bad, to share cores is worse. */
    if (slots == 0 || (slots < workers && workers <= m->cores / threads)) {
        s[0] = (struct stretch){.cores = m->cores};
        n = 1;
        slots = stretches_cut(s, n, threads);
    }
    workers_deal(s, n, slots, workers);
    for (int i = 0; i < n; i++) places = workers_seat(m, s + i, threads, places);
    free(s);
    return STATUS_OK;
}
