/* test_topology.c -- machines from a line of text, and the one we are on. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "topology/topology.h"

TestSuite(topology, .timeout = 60);

static cpu_set_t affinity(void) {
    cpu_set_t set;
    cr_assert_eq(sched_getaffinity(0, sizeof set, &set), 0);
    return set;
}

static struct machine *open_here(void) {
    struct machine *m;
    cr_assert_eq(topology_open(&m, NULL), STATUS_OK, "%s", fail_message());
    return m;
}

Test(topology, finds_this_machine) {
    struct machine *m = open_here();
    cpu_set_t allowed = affinity();
    cr_assert(m->cores >= 1 && m->cores <= CPU_COUNT(&allowed), "%d cores", m->cores);
    cr_assert(m->nodes >= 1 && m->packages >= 1, "%d nodes, %d packages", m->nodes, m->packages);
    for (int i = 0; i < m->cores; i++) {
        const struct core *c = m->core + i;
        cr_assert(CPU_ISSET((size_t)c->pu, &allowed), "core %d's unit %d is forbidden", i, c->pu);
        cr_assert(c->node >= 0 && c->node < m->nodes, "core %d is on node %d", i, c->node);
        cr_assert(c->package >= 0 && c->package < m->packages, "core %d", i);
        for (int k = 0; k < i; k++) cr_assert(m->core[k].pu != c->pu, "cores %d, %d", i, k);
    }
    topology_close(m);
}

Test(topology, leaves_out_what_this_process_may_not_use) {
    cpu_set_t allowed = affinity(), one;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
        struct machine *m = open_here();
        cr_assert_eq(m->cores, 1, "%d cores on one unit", m->cores);
        cr_assert_eq(m->core[0].pu, (int)cpu, "unit %d, not %zu", m->core[0].pu, cpu);
        cr_assert_eq(m->core[0].node, 0);
        cr_assert_eq(m->nodes, 1);
        topology_close(m);
        cr_assert_eq(sched_setaffinity(0, sizeof allowed, &allowed), 0);
    }
}

Test(topology, describes_a_machine_in_words) {
    char text[64];
    topology_describe(&(struct machine){.packages = 2, .nodes = 4, .cores = 64}, text, sizeof text);
    cr_assert_eq(strcmp(text, "2 packages, 4 nodes, 64 cores"), 0, "%s", text);
    topology_describe(&(struct machine){.packages = 1, .nodes = 1, .cores = 1}, text, sizeof text);
    cr_assert_eq(strcmp(text, "1 package, 1 node, 1 core"), 0, "%s", text);
    memset(text, '!', sizeof text);
    topology_describe(&(struct machine){.packages = 2, .nodes = 4, .cores = 64}, text, 8);
    cr_assert_eq(strcmp(text, "2 packa"), 0, "%s", text);
    cr_assert_eq(text[8], '!');
}

Test(topology, closes_what_is_not_open) { topology_close(NULL); }

#ifdef HAVE_HWLOC

struct synthetic {
    const char *text;
    int packages, nodes, cores, threads; /* threads: units of one core */
};

Test(topology, reads_machines_from_a_line_of_text) {
    static const struct synthetic all[] = {
        {"pack:2 numa:2 core:4 pu:2", 2, 4, 16, 2}, {"pack:2 numa:1 core:4 pu:2", 2, 2, 8, 2},
        {"pack:1 core:6 pu:1", 1, 1, 6, 1}, {"pack:3 numa:1 l3:2 core:5 pu:4", 3, 3, 30, 4},
        {"numa:3 core:1 pu:2", 1, 3, 3, 2},
        {"numa:2 pu:3", 1, 2, 6, 1}, /* no cores are shown: the units stand for them */
    };
    for (const struct synthetic *s = all; s < all + sizeof all / sizeof *all; s++) {
        struct machine *m;
        cr_assert_eq(topology_open(&m, s->text), STATUS_OK, "%s", fail_message());
        cr_assert_eq(m->packages, s->packages, "%s: %d packages", s->text, m->packages);
        cr_assert_eq(m->nodes, s->nodes, "%s: %d nodes", s->text, m->nodes);
        cr_assert_eq(m->cores, s->cores, "%s: %d cores", s->text, m->cores);
        cr_assert_eq(m->bindable, 0, "%s can be bound", s->text);
        for (int i = 0; i < m->cores; i++) {
            const struct core *c = m->core + i;
            cr_assert_eq(c->pu, i * s->threads, "%s: core %d has unit %d", s->text, i, c->pu);
            cr_assert_eq(c->node, i / (s->cores / s->nodes), "%s: core %d", s->text, i);
            cr_assert_eq(c->package, i / (s->cores / s->packages), "%s: core %d", s->text, i);
        }
        topology_close(m);
    }
}

Test(topology, refuses_a_line_that_is_no_machine) {
    struct machine *m;
    cr_assert_eq(topology_open(&m, "pack:2 sofa:3"), STATUS_BAD_CONFIG);
    cr_assert(!m, "a machine was made");
    cr_assert(strstr(fail_message(), "sofa"), "%s", fail_message());
}

Test(topology, binds_nothing_on_a_machine_that_is_not_here) {
    struct machine *m;
    cpu_set_t before = affinity();
    char page[64] = "as it was";
    cr_assert_eq(topology_open(&m, "core:1 pu:1"), STATUS_OK, "%s", fail_message());
    cr_assert_eq(topology_bind(m, &(struct place){.threads = 1}), STATUS_OK);
    topology_interleave(m, &(struct place){.threads = 1}, 1, page, sizeof page);
    cpu_set_t after = affinity();
    cr_assert(CPU_EQUAL(&before, &after), "the thread is bound");
    topology_close(m);
}

/* Runs f on a thread of its own, so that what it binds stays bound for nobody else. */
static void on_a_thread(void *(*f)(void *), void *arg) {
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, f, arg), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

static void *report_affinity(void *set) {
    *(cpu_set_t *)set = affinity();
    return NULL;
}

struct binding {
    const struct machine *m;
    struct place place;
    cpu_set_t own, child;
};

static void *bind_and_start(void *arg) {
    struct binding *b = arg;
    cr_assert_eq(topology_bind(b->m, &b->place), STATUS_OK, "%s", fail_message());
    b->own = affinity();
    on_a_thread(report_affinity, &b->child);
    return NULL;
}

Test(topology, binds_a_thread_and_those_it_starts_to_whole_cores) {
    struct machine *m = open_here();
    cpu_set_t allowed = affinity(), seen, both;
    CPU_ZERO(&seen);
    cr_assert_eq(m->bindable, 1, "this machine cannot be bound");
    for (int i = 0; i < m->cores; i++) {
        struct binding b = {.m = m, .place = {.first = i, .threads = 1}};
        on_a_thread(bind_and_start, &b);
        cr_assert(CPU_ISSET((size_t)m->core[i].pu, &b.own), "core %d is without its unit", i);
        cr_assert(CPU_EQUAL(&b.own, &b.child), "a thread started on core %d is elsewhere", i);
        CPU_AND(&both, &b.own, &seen);
        cr_assert_eq(CPU_COUNT(&both), 0, "core %d has units of another", i);
        CPU_OR(&seen, &seen, &b.own);
    }
    cr_assert(CPU_EQUAL(&seen, &allowed), "some unit belongs to no core");
    cpu_set_t after = affinity();
    cr_assert(CPU_EQUAL(&after, &allowed), "the thread that asked for nothing is bound");
    topology_close(m);
}

Test(topology, binds_to_all_cores_of_a_place) {
    struct machine *m = open_here();
    cpu_set_t allowed = affinity();
    struct binding b = {.m = m, .place = {.first = 0, .threads = m->cores}};
    on_a_thread(bind_and_start, &b);
    cr_assert(CPU_EQUAL(&b.own, &allowed), "bound to %d units", CPU_COUNT(&b.own));
    cr_assert(CPU_EQUAL(&b.child, &allowed), "bound to %d units", CPU_COUNT(&b.child));
    topology_close(m);
}

/* hwloc is told that two units of this machine are one core, so that any machine will do. */
Test(topology, binds_to_all_units_of_a_core) {
    cpu_set_t two;
    struct machine *m;
    CPU_ZERO(&two);
    CPU_SET(0, &two);
    CPU_SET(1, &two);
    cpu_set_t allowed = affinity();
    if (!CPU_ISSET(0, &allowed) || !CPU_ISSET(1, &allowed)) {
        fprintf(stderr, "skipped: needs units 0 and 1\n");
        return;
    }
    setenv("HWLOC_SYNTHETIC", "core:1 pu:2", 1);
    setenv("HWLOC_THISSYSTEM", "1", 1);
    cr_assert_eq(topology_open(&m, NULL), STATUS_OK, "%s", fail_message());
    unsetenv("HWLOC_SYNTHETIC");
    unsetenv("HWLOC_THISSYSTEM");
    cr_assert_eq(m->cores, 1);
    cr_assert_eq(m->bindable, 1);
    struct binding b = {.m = m, .place = {.first = 0, .threads = 1}};
    on_a_thread(bind_and_start, &b);
    cr_assert(CPU_EQUAL(&b.own, &two), "bound to %d units, not to 0 and 1", CPU_COUNT(&b.own));
    topology_close(m);
}

static void *bind_to_a_unit_that_is_not_there(void *arg) {
    struct binding *b = arg;
    cr_assert_eq(topology_bind(b->m, &b->place), STATUS_FAILED);
    cr_assert(strstr(fail_message(), "cores 0 to 0"), "%s", fail_message());
    return NULL;
}

Test(topology, says_so_when_the_system_does_not_bind) {
    struct machine *m;
    setenv("HWLOC_SYNTHETIC", "core:1 pu:1(indexes=1023)", 1);
    setenv("HWLOC_THISSYSTEM", "1", 1);
    cr_assert_eq(topology_open(&m, NULL), STATUS_OK, "%s", fail_message());
    unsetenv("HWLOC_SYNTHETIC");
    unsetenv("HWLOC_THISSYSTEM");
    struct binding b = {.m = m, .place = {.first = 0, .threads = 1}};
    on_a_thread(bind_to_a_unit_that_is_not_there, &b);
    topology_close(m);
}

/* The system's own word on how pages at `at` are spread: 3 is MPOL_INTERLEAVE, -1 no answer. */
static int policy_at(void *at) {
    const unsigned long by_address = 2; /* MPOL_F_ADDR */
    int policy = -1;
    long rc = syscall(SYS_get_mempolicy, &policy, NULL, 0UL, at, by_address);
    return rc == 0 ? policy : -1;
}

/* The same for what the calling thread takes next. */
static int policy_now(void) {
    int policy = -1;
    return syscall(SYS_get_mempolicy, &policy, NULL, 0UL, NULL, 0UL) == 0 ? policy : -1;
}

/* The node is preferred (1, or 5 of several), or is all there is (2); 0 is the system's way. */
Test(topology, takes_memory_of_a_thread_from_a_node_and_again_from_anywhere) {
    struct machine *m = open_here();
    int before = policy_now();
    topology_take_from(m, 1 << 20);
    cr_assert_eq(policy_now(), before, "there is no such node");
    topology_take_from(m, m->core[0].node);
    int bound = policy_now();
    topology_take_from(m, -1);
    if (before == 0) {
        cr_assert(bound == 1 || bound == 2 || bound == 5, "policy %d", bound);
        cr_assert_eq(policy_now(), 0);
    }
    topology_close(m);
}

Test(topology, interleaves_memory_and_leaves_it_usable) {
    const size_t bytes = 1 << 20;
    struct machine *m = open_here();
    struct place all = {.first = 0, .threads = m->cores};
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(at != MAP_FAILED, "no memory");
    int before = policy_at(at);
    topology_interleave(m, &all, 1, at, 0);
    cr_assert_eq(policy_at(at), before, "nothing was to be spread");
    topology_interleave(m, &all, 1, at, bytes);
    if (before == 0) {
        cr_assert_eq(policy_at(at), 3, "the first page is not interleaved");
        cr_assert_eq(policy_at(at + bytes - 1), 3, "the last page is not interleaved");
    }
    for (size_t i = 0; i < bytes; i += 4096) cr_assert(at[i]++ == 0, "byte %zu", i);
    munmap(at, bytes);
    topology_close(m);
}

#else

Test(topology, counts_the_units_where_there_is_no_hwloc) {
    struct machine *m = open_here();
    cpu_set_t before = affinity();
    cr_assert_eq(m->cores, CPU_COUNT(&before));
    cr_assert_eq(m->nodes, 1);
    cr_assert_eq(m->bindable, 0);
    cr_assert_eq(topology_bind(m, &(struct place){.threads = 1}), STATUS_OK);
    cpu_set_t after = affinity();
    cr_assert(CPU_EQUAL(&before, &after), "the thread is bound");
    topology_close(m);
}

Test(topology, refuses_a_line_of_text_where_there_is_no_hwloc) {
    struct machine *m;
    cr_assert_eq(topology_open(&m, "core:1 pu:1"), STATUS_BAD_CONFIG);
    cr_assert(strstr(fail_message(), "hwloc"), "%s", fail_message());
}

#endif
