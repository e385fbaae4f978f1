#include "topology.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef HAVE_HWLOC
#include <errno.h>
#include <hwloc.h>
#include <string.h>
#else
#include <sched.h>
#include <unistd.h>
#endif

static enum status cores_take(struct machine *m, int cores) {
    m->core = calloc((size_t)cores, sizeof *m->core);
    if (!m->core) return fail(STATUS_FAILED, "no memory for the list of %d cores", cores);
    m->cores = cores;
    return STATUS_OK;
}

#ifdef HAVE_HWLOC

/* Some virtual machines show processing units and no cores. */
static hwloc_obj_t core_object(const struct machine *m, int i) {
    hwloc_topology_t t = m->hwloc;
    int cores = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_CORE);
    return hwloc_get_obj_by_type(t, cores > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU, (unsigned)i);
}

/* A core may have several nodes near, of slow and of fast memory: the first stands for them. */
static hwloc_obj_t core_node(const struct machine *m, int i) {
    hwloc_const_nodeset_t near = core_object(m, i)->nodeset;
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(m->hwloc, HWLOC_OBJ_NUMANODE, node))) {
        if (hwloc_bitmap_isset(near, node->os_index)) break;
    }
    return node;
}

/* hwloc leaves out what the administrator forbids, but not what taskset or a batch system took
 * from this process alone; the calling thread knows. Where it cannot say, the machine is whole. */
static void restrict_to_allowed(hwloc_topology_t t) {
    hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
    if (allowed && hwloc_get_cpubind(t, allowed, HWLOC_CPUBIND_THREAD) == 0) {
        hwloc_topology_restrict(t, allowed, HWLOC_RESTRICT_FLAG_REMOVE_CPULESS);
    }
    hwloc_bitmap_free(allowed);
    hwloc_topology_refresh(t); /* from here on, several threads only read it */
}

static enum status hwloc_open(struct machine *m, const char *synthetic) {
    hwloc_topology_t t;
    if (hwloc_topology_init(&t) != 0) return fail(STATUS_FAILED, "hwloc does not start");
    m->hwloc = t;
    if (synthetic && hwloc_topology_set_synthetic(t, synthetic) != 0) {
        return fail(STATUS_BAD_CONFIG,
            "hwloc does not understand the machine \"%s\": write it like \"pack:2 core:4 pu:2\"",
            synthetic);
    }
    if (hwloc_topology_load(t) != 0) return fail(STATUS_FAILED, "hwloc cannot read this machine");
    m->bindable = hwloc_topology_is_thissystem(t);
    if (m->bindable) restrict_to_allowed(t);
    return STATUS_OK;
}

/* Nodes and packages are numbered as they come, and counted where they have cores. */
static enum status machine_fill(struct machine *m, const char *synthetic) {
    TRY(hwloc_open(m, synthetic));
    int cores = 0;
    while (core_object(m, cores)) cores++;
    if (cores == 0) return fail(STATUS_FAILED, "hwloc finds no core that this process may use");
    TRY(cores_take(m, cores));
    hwloc_obj_t package = NULL, node = NULL;
    for (int i = 0; i < cores; i++) {
        hwloc_obj_t o = core_object(m, i), n = core_node(m, i);
        hwloc_obj_t p = hwloc_get_ancestor_obj_by_type(m->hwloc, HWLOC_OBJ_PACKAGE, o);
        if (i == 0 || n != node) m->nodes++;
        if (i == 0 || p != package) m->packages++;
        node = n;
        package = p;
        m->core[i] = (struct core){hwloc_bitmap_first(o->cpuset), m->nodes - 1, m->packages - 1};
    }
    return STATUS_OK;
}

static void machine_empty(struct machine *m) {
    if (m->hwloc) hwloc_topology_destroy(m->hwloc);
}

enum status topology_bind(const struct machine *m, const struct place *p) {
    ASSERT(p->first >= 0 && p->threads >= 1 && p->first <= m->cores - p->threads);
    if (!m->bindable) return STATUS_OK;
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (!set) return fail(STATUS_FAILED, "no memory to bind a thread");
    for (int i = p->first; i < p->first + p->threads; i++) {
        hwloc_bitmap_or(set, set, core_object(m, i)->cpuset);
    }
    int failed = hwloc_set_cpubind(m->hwloc, set, HWLOC_CPUBIND_THREAD);
    char text[64];
    const char *why = strerror_r(errno, text, sizeof text);
    hwloc_bitmap_free(set);
    if (!failed) return STATUS_OK;
    return fail(STATUS_FAILED, "the system does not bind a thread to cores %d to %d: %s", p->first,
        p->first + p->threads - 1, why);
}

void topology_interleave(
    const struct machine *m, const struct place *places, int workers, void *at, size_t bytes) {
    hwloc_bitmap_t nodes = m->bindable && bytes > 0 ? hwloc_bitmap_alloc() : NULL;
    if (!nodes) return;
    for (const struct place *p = places; p < places + workers; p++) {
        for (int i = p->first; i < p->first + p->threads; i++) {
            hwloc_obj_t node = core_node(m, i);
            if (node) hwloc_bitmap_set(nodes, node->os_index);
        }
    }
    hwloc_set_area_membind(
        m->hwloc, at, bytes, nodes, HWLOC_MEMBIND_INTERLEAVE, HWLOC_MEMBIND_BYNODESET);
    hwloc_bitmap_free(nodes);
}

void topology_take_from(const struct machine *m, int node) {
    hwloc_bitmap_t nodes = m->bindable ? hwloc_bitmap_alloc() : NULL;
    if (!nodes) return;
    if (node >= 0) {
        hwloc_bitmap_only(nodes, (unsigned)node);
    } else {
        hwloc_bitmap_copy(nodes, hwloc_topology_get_topology_nodeset(m->hwloc));
    }
    hwloc_set_membind(m->hwloc, nodes, node >= 0 ? HWLOC_MEMBIND_BIND : HWLOC_MEMBIND_DEFAULT,
        HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET);
    hwloc_bitmap_free(nodes);
}

#else

/* The numbers of the processing units that this process may use; how many they are. */
static int units_allowed(struct core *core) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) { /* more than a cpu_set_t holds */
        int n = (int)sysconf(_SC_NPROCESSORS_ONLN);
        for (int i = 0; core && i < n; i++) core[i].pu = i;
        return n;
    }
    int n = 0;
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET((size_t)i, &set)) continue;
        if (core) core[n].pu = i;
        n++;
    }
    return n;
}

static enum status machine_fill(struct machine *m, const char *synthetic) {
    if (synthetic) {
        return fail(STATUS_BAD_CONFIG,
            "the machine \"%s\" needs hwloc, and huddle is built without it", synthetic);
    }
    int cores = units_allowed(NULL);
    if (cores < 1) return fail(STATUS_FAILED, "the system does not say how many cores there are");
    TRY(cores_take(m, cores));
    m->nodes = m->packages = 1;
    units_allowed(m->core);
    return STATUS_OK;
}

static void machine_empty(struct machine *m) { (void)m; }

enum status topology_bind(const struct machine *m, const struct place *p) {
    ASSERT(p->first >= 0 && p->threads >= 1 && p->first <= m->cores - p->threads);
    return STATUS_OK;
}

void topology_interleave(
    const struct machine *m, const struct place *places, int workers, void *at, size_t bytes) {
    (void)m, (void)places, (void)workers, (void)at, (void)bytes;
}

void topology_take_from(const struct machine *m, int node) { (void)m, (void)node; }

#endif

enum status topology_open(struct machine **out, const char *synthetic) {
    *out = NULL;
    struct machine *m = calloc(1, sizeof *m);
    if (!m) return fail(STATUS_FAILED, "no memory for the list of cores");
    enum status status = machine_fill(m, synthetic);
    *out = status == STATUS_OK ? m : NULL;
    if (!*out) topology_close(m);
    return status;
}

void topology_close(struct machine *m) {
    if (!m) return;
    machine_empty(m);
    free(m->core);
    free(m);
}

void topology_describe(const struct machine *m, char *text, size_t n) {
    snprintf(text, n, "%d package%s, %d node%s, %d core%s", m->packages,
        m->packages == 1 ? "" : "s", m->nodes, m->nodes == 1 ? "" : "s", m->cores,
        m->cores == 1 ? "" : "s");
}
