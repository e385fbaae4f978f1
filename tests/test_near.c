/* test_near.c -- memory that a device copies from and to is asked for on the node that the device is
 * on, as a made-up sysfs says: a worker's, and what all workers share. */
#include "runs.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "engine/team_waits.h"
#include "files.h"
#include "topology/pci.h"
#include "topology/topology.h"

TestSuite(near, .init = files_open, .fini = files_close, .timeout = 60);

#ifndef HAVE_HWLOC

Test(near, memory_is_asked_for) { cr_skip_test("built without hwloc"); }

#else

enum { NODES_MOST = 1024, BITS = 8 * sizeof(unsigned long) };

/* Where the calling thread takes memory from next: the only node that it asks; -1: anywhere, -2: the
 * system does not say. */
static int node_now(void) {
    unsigned long mask[NODES_MOST / BITS] = {0};
    int policy = 0, node = -1, nodes = 0;
    if (syscall(SYS_get_mempolicy, &policy, mask, (unsigned long)NODES_MOST, NULL, 0UL) != 0) {
        return -2;
    }
    for (int i = 0; i < NODES_MOST; i++) {
        if (!(mask[i / BITS] >> i % BITS & 1)) continue;
        node = i;
        nodes++;
    }
    return policy != 0 && nodes == 1 ? node : -1;
}

/* The host as a device that has a place on the PCI bus. */
static const char *place = "";
static struct device_ops host_on_bus;
static const struct device_ops *const list[] = {&host_on_bus, NULL};

/* Where memory was taken from: pinned by the main thread, by the worker's, and when that one trained. */
static struct { int shared, worker, later; } on;

static enum status open_on_bus(struct device **out, int index, int threads) {
    TRY(device_host.open(out, index, threads));
    (*out)->ops = &host_on_bus;
    snprintf((*out)->bus, sizeof(*out)->bus, "%s", place);
    return STATUS_OK;
}

static enum status pinned_on_bus(struct device *d, void **at, size_t bytes) {
    *(getpid() == gettid() ? &on.shared : &on.worker) = node_now();
    return device_host.pinned(d, at, bytes);
}

static void note_node(void *with, const struct worker *w) {
    (void)with, (void)w;
    on.later = node_now();
}

/* A run with a shared vector, which the main thread opens, and one worker. */
static void check_run(const char *device, int bind, int shared, int worker) {
    const struct watch watch = {.begins = note_node};
    struct seen seen;
    host_on_bus = device_host;
    host_on_bus.open = open_on_bus;
    host_on_bus.pinned = pinned_on_bus;
    runs_devices = list;
    place = device;
    on.shared = on.worker = on.later = -3; /* not at all */
    run_words(&seen, &watch,
        "run.strategy=easgd run.workers=1 run.steps=2 run.order=fixed topology.bind=%d", bind);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(on.shared == shared, "%s, bind %d: what is shared is on %d", device, bind, on.shared);
    cr_assert(on.worker == worker, "%s, bind %d: a worker's is on %d", device, bind, on.worker);
    cr_assert(on.later == -1, "a worker that trains still asks node %d", on.later);
    cr_assert(node_now() == -1, "the main thread still asks node %d", node_now());
    seen_close(&seen);
}

static void make_device(const char *address, int node) {
    char path[64], text[16];
    files_make_folder(address);
    snprintf(path, sizeof path, "%s/numa_node", address);
    snprintf(text, sizeof text, "%d\n", node);
    files_write(path, text, strlen(text));
}

/* The last node, so that it is not what the system would take where there are several. */
static int last_node(void) {
    struct machine *m;
    cr_assert(topology_open(&m, NULL) == STATUS_OK, "%s", fail_message());
    int node = m->core[m->cores - 1].node;
    topology_close(m);
    return node;
}

Test(near, memory_is_asked_for_on_the_node_of_the_device) {
    int node = last_node();
    if (node < 0 || node_now() >= 0)
        cr_skip_test("this machine's nodes are not ours to choose from");
    make_device("0000:3b:00.0", node);
    make_device("0000:b1:00.0", -1);
    pci_folder = files_folder;
    check_run("0000:3b:00.0", 1, node, node);
    check_run("0000:3b:00.0", 0, node, -1);
    check_run("0000:b1:00.0", 1, -1, -1);
    check_run("", 1, -1, -1);
}

#endif
