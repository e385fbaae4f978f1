/* test_plan.c -- who sits where: what must hold on every machine, and a few plans by hand. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "topology/topology.h"

enum { CORES_MOST = 1024, WORKERS_MOST = 1024 };

TestSuite(plan, .timeout = 120);

/* A machine of `nodes` nodes that have size[0], size[1], ... cores. */
static struct machine *machine_of(const int *size, int nodes) {
    static struct core core[CORES_MOST];
    static struct machine m;
    m = (struct machine){.nodes = nodes, .packages = 1, .core = core};
    for (int node = 0; node < nodes; node++)
        for (int i = 0; i < size[node]; i++, m.cores++)
            core[m.cores] = (struct core){.pu = 2 * m.cores, .node = node};
    return &m;
}

/* How many workers of t threads the nodes hold side by side; the largest node's cores. */
static int nodes_hold(const struct machine *m, int t, int *largest) {
    int size[CORES_MOST] = {0}, hold = 0;
    for (int i = 0; i < m->cores; i++) size[m->core[i].node]++;
    *largest = 0;
    for (int node = 0; node < m->nodes; node++) {
        hold += size[node] / t;
        if (size[node] > *largest) *largest = size[node];
    }
    return hold;
}

static int threads_wanted(const struct machine *m, int workers) {
    int best = 1, largest;
    for (int t = 2; (long)t * workers <= m->cores; t++) {
        int hold = nodes_hold(m, t, &largest);
        if (hold >= workers || t > largest) best = t;
    }
    return best;
}

static int straddles(const struct machine *m, const struct place *p) {
    return m->core[p->first].node != m->core[p->first + p->threads - 1].node;
}

static int overlap(const struct place *p, const struct place *q) {
    return p->first < q->first + q->threads && q->first < p->first + p->threads;
}

/* Each place by itself, and whether it says rightly that it shares. */
static const char *breach_of_places(
    const struct machine *m, int workers, int threads, const struct place *p) {
    for (int w = 0; w < workers; w++) {
        if (p[w].threads != threads) return "a worker has the wrong number of threads";
        if (p[w].first < 0 || p[w].first + threads > m->cores) return "a place is outside";
        if (p[w].node != m->core[p[w].first].node) return "a place names the wrong node";
        if (w > 0 && p[w].first < p[w - 1].first) return "workers are not in the cores' order";
        int shared = 0;
        for (int v = 0; v < workers; v++) shared |= v != w && overlap(p + v, p + w);
        if (p[w].shared != shared) return "a place says wrongly whether it shares";
    }
    return NULL;
}

/* How many workers a core has: none shared where there is room, else no more than must be. */
static const char *breach_of_sharing(
    const struct machine *m, int workers, int threads, const struct place *p) {
    int load[CORES_MOST] = {0}, least = WORKERS_MOST, most = 0, largest;
    for (int w = 0; w < workers; w++)
        for (int i = 0; i < threads; i++) load[p[w].first + i]++;
    for (int i = 0; i < m->cores; i++) {
        if (load[i] > most) most = load[i];
        if (load[i] > 0 && load[i] < least) least = load[i];
    }
    if (workers <= m->cores / threads)
        return most == 1 ? NULL : "a core is shared though there are enough";
    int hold = nodes_hold(m, threads, &largest);
    if (threads > largest) hold = m->cores / threads;
    if (most != (workers + hold - 1) / hold) return "a core is shared by more than must be";
    if (least < most - 1) return "shares differ by more than one";
    for (int i = 0; i < m->cores; i++)
        if (threads == 1 && load[i] == 0) return "a core is idle though others are shared";
    return NULL;
}

static const char *breach_of_nodes(
    const struct machine *m, int workers, int threads, const struct place *p) {
    int size[CORES_MOST] = {0}, seated[CORES_MOST] = {0}, largest, straddlers = 0;
    int hold = nodes_hold(m, threads, &largest);
    int split = threads > largest || (hold < workers && workers <= m->cores / threads);
    for (int i = 0; i < m->cores; i++) size[m->core[i].node]++;
    for (int w = 0; w < workers; w++) {
        straddlers += straddles(m, p + w);
        seated[p[w].node]++;
    }
    if (split) return threads > largest || straddlers < m->nodes ? NULL : "too many straddle nodes";
    if (straddlers) return "a worker straddles nodes that have enough cores";
    for (int a = 0; a < m->nodes; a++)
        for (int b = 0; b < m->nodes; b++) {
            int full = workers <= hold ? seated[b] >= size[b] / threads : size[a] != size[b];
            if (seated[a] > seated[b] + 1 && !full) return "the nodes are not filled evenly";
        }
    return NULL;
}

/* What is wrong with the plan for this machine, or NULL. */
static const char *breach(const struct machine *m, int workers, int threads) {
    static struct place p[WORKERS_MOST + 1];
    memset(p, 0x55, sizeof p);
    struct place guard = p[workers];
    enum status status = plan_places(m, workers, threads, p);
    if (memcmp(p + workers, &guard, sizeof guard) != 0) return "a place too many is written";
    if (threads > m->cores)
        return status == STATUS_BAD_CONFIG ? NULL : "more threads than cores are accepted";
    if (status != STATUS_OK) return fail_message();
    int t = threads ? threads : threads_wanted(m, workers);
    const char *wrong = breach_of_places(m, workers, t, p);
    if (!wrong) wrong = breach_of_sharing(m, workers, t, p);
    if (!wrong) wrong = breach_of_nodes(m, workers, t, p);
    return wrong;
}

static void check_machine(const struct machine *m, const char *name) {
    static const int workers[] = {1, 2, 3, 4, 5, 7, 8, 31, 33, 64, 255};
    for (size_t i = 0; i < sizeof workers / sizeof *workers; i++)
        for (int t = 0; t <= m->cores + 1; t++) {
            const char *wrong = breach(m, workers[i], t);
            cr_assert(!wrong, "%s, %d workers of %d threads: %s", name, workers[i], t, wrong);
        }
}

Test(plan, holds_on_machines_of_equal_nodes) {
    static const int cores[] = {1, 2, 3, 4, 5, 8, 12};
    for (int nodes = 1; nodes <= 5; nodes++)
        for (size_t i = 0; i < sizeof cores / sizeof *cores; i++) {
            int size[5];
            char name[64];
            for (int k = 0; k < nodes; k++) size[k] = cores[i];
            snprintf(name, sizeof name, "%d nodes of %d cores", nodes, cores[i]);
            check_machine(machine_of(size, nodes), name);
        }
}

Test(plan, holds_on_machines_of_unequal_nodes) {
    static const int size[][6] = {{7, 1}, {1, 7}, {3, 4}, {5, 1, 5}, {9, 1, 9}, {1, 1, 30},
        {2, 3, 5}, {16, 3, 16, 3}, {6, 6, 5, 1, 6, 6}, {33, 31}};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        int nodes = 0;
        char name[64];
        while (nodes < 6 && size[i][nodes]) nodes++;
        snprintf(name, sizeof name, "unequal machine %zu", i);
        check_machine(machine_of(size[i], nodes), name);
    }
}

Test(plan, holds_on_big_machines) {
    static const int size[] = {64, 64, 64, 64, 64, 64, 64, 64};
    static const int workers[] = {1, 3, 8, 9, 64, 511, 512, 513, 1024};
    static const int threads[] = {0, 1, 2, 3, 31, 33, 64, 65, 512, 513};
    const struct machine *m = machine_of(size, 8);
    for (size_t i = 0; i < sizeof workers / sizeof *workers; i++)
        for (size_t k = 0; k < sizeof threads / sizeof *threads; k++) {
            const char *wrong = breach(m, workers[i], threads[k]);
            cr_assert(!wrong, "%d workers of %d threads: %s", workers[i], threads[k], wrong);
        }
}

#ifdef HAVE_HWLOC
Test(plan, holds_on_machines_from_a_line_of_text) {
    static const char *const text[] = {"core:1 pu:1", "core:1 pu:2", "core:3 pu:1", "numa:1 pu:7",
        "pack:1 core:8 pu:2", "pack:2 numa:1 core:4 pu:2", "pack:2 numa:2 core:4 pu:2",
        "pack:2 numa:3 l2:4 core:5 pu:6", "pack:3 core:3 pu:1", "pack:2 l3:4 core:8 pu:2"};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        struct machine *m;
        cr_assert_eq(topology_open(&m, text[i]), STATUS_OK, "%s", fail_message());
        check_machine(m, text[i]);
        topology_close(m);
    }
}
#endif

/* first[0 .. workers-1] by hand. */
static void check_by_hand(
    const int *size, int nodes, int workers, int ask, int threads, const int *first) {
    struct place p[8];
    cr_assert_eq(plan_places(machine_of(size, nodes), workers, ask, p), STATUS_OK);
    for (int w = 0; w < workers; w++) {
        cr_assert_eq(p[w].first, first[w], "worker %d sits at %d, not %d", w, p[w].first, first[w]);
        cr_assert_eq(p[w].threads, threads, "worker %d has %d threads", w, p[w].threads);
    }
}

Test(plan, agrees_with_plans_by_hand) {
    static const int four[] = {8, 8, 8, 8};
    check_by_hand(four, 4, 1, 0, 32, (const int[]){0});
    check_by_hand(four, 4, 2, 0, 16, (const int[]){0, 16});
    check_by_hand(four, 4, 4, 0, 8, (const int[]){0, 8, 16, 24});
    check_by_hand(four, 4, 8, 0, 4, (const int[]){0, 4, 8, 12, 16, 20, 24, 28});
    check_by_hand(four, 4, 2, 4, 4, (const int[]){0, 16}); /* on different packages */
    check_by_hand(four, 1, 2, 2, 2, (const int[]){0, 4});  /* on different caches */
    check_by_hand(four, 2, 3, 0, 4, (const int[]){0, 4, 8});
    check_by_hand(four, 2, 5, 3, 3, (const int[]){0, 3, 6, 9, 12}); /* one must straddle */
    check_by_hand((const int[]){3, 1}, 2, 6, 0, 1, (const int[]){0, 0, 1, 2, 3, 3});
}

Test(plan, says_how_many_cores_there_are_when_asked_for_too_many_threads) {
    struct place p[1];
    cr_assert_eq(plan_places(machine_of((const int[]){4, 3}, 2), 1, 8, p), STATUS_BAD_CONFIG);
    cr_assert(strstr(fail_message(), "8 threads"), "%s", fail_message());
    cr_assert(strstr(fail_message(), "7 cores"), "%s", fail_message());
}
