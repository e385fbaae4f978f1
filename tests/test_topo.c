/* test_topo.c -- the machine as a tree, on made-up machines; GPUs from a made-up sysfs. */
#include "commands/topo.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>

#include "check.h"
#include "files.h"

#ifdef HAVE_CUDA
#include <cuda_runtime.h>
#endif

TestSuite(topo, .init = files_open, .fini = files_close, .timeout = 30);

/* ---- GPUs ------------------------------------------------------------------------------------ */

static void say(const char *device, const char *name, const char *line) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", device, name);
    files_write(path, line, strlen(line));
}

/* Lines of class, vendor, device, node, rate and width now, the same at most; NULL: no file. */
static void device_make(const char *device, const char *const lines[8]) {
    static const char *const names[] = {"class", "vendor", "device", "numa_node",
        "current_link_speed", "current_link_width", "max_link_speed", "max_link_width"};
    files_make_folder(device);
    for (int i = 0; i < 8; i++) {
        if (lines[i]) say(device, names[i], lines[i]);
    }
}

#define DEVICE(device, ...) device_make((device), (const char *const[8]){__VA_ARGS__})

static void devices_make(void) {
    DEVICE("0000:b1:00.0", "0x030200\n", "0x10de\n", "0x2335\n", "1\n", "32.0 GT/s PCIe\n", "16\n",
        "32.0 GT/s PCIe\n", "16\n");
    DEVICE("0000:00:1f.0", "0x060100\n", "0x8086\n", "0x1234\n", "0\n"); /* a bridge */
    DEVICE("0000:3b:00.0", "0x030000\n", "0x10de\n", "0x1eb8\n", "0\n", "2.5 GT/s PCIe\n", "8\n",
        "8.0 GT/s PCIe\n", "16\n");
    DEVICE("0000:00:02.0", "0x030000\n", "0x1234\n", "0x1111\n", "-1\n", "Unknown\n", "0\n",
        "Unknown\n", "255\n");
    DEVICE("0000:c1:00.0", "0x038000\n", "0x1002\n", "0x740c\n");
    DEVICE("0000:c2:00.0", "", NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    files_make_folder("0000:c3:00.0");
}

static int gpus_find(struct gpu gpus[GPUS_MOST]) {
    int n;
    cr_assert(pci_gpus(files_folder, gpus, &n) == STATUS_OK, "%s", fail_message());
    return n;
}

Test(topo, gpus_are_found_with_their_links) {
    struct gpu g[GPUS_MOST];
    devices_make();
    cr_assert(gpus_find(g) == 4);
    const char *const addresses[] = {
        "0000:00:02.0", "0000:3b:00.0", "0000:b1:00.0", "0000:c1:00.0"};
    const unsigned vendors[] = {0x1234, 0x10de, 0x10de, 0x1002};
    const unsigned codes[] = {0x1111, 0x1eb8, 0x2335, 0x740c};
    const int nodes[] = {-1, 0, 1, -1}, now[] = {0, 8, 16, 0}, most[] = {0, 16, 16, 0};
    const double rate_now[] = {0, 2.5, 32, 0}, rate_most[] = {0, 8, 32, 0};
    for (int i = 0; i < 4; i++) {
        cr_assert(strcmp(g[i].address, addresses[i]) == 0, "%s", g[i].address);
        cr_assert(g[i].vendor == vendors[i] && g[i].device == codes[i], "%d", i);
        cr_assert(g[i].node == nodes[i], "%d: node %d", i, g[i].node);
        cr_assert(g[i].now.lanes == now[i] && g[i].now.rate == rate_now[i], "%d", i);
        cr_assert(g[i].most.lanes == most[i] && g[i].most.rate == rate_most[i], "%d", i);
    }
    cr_assert(g[2].class == 0x030200);
}

/* Links into a tree of devices, as sysfs has them. */
static void hang(const char *device, const char *below) {
    char path[100];
    snprintf(path, sizeof path, "tree/%s/%s", below, device);
    files_make_folder(path);
    snprintf(path, sizeof path, "tree/%s/%s", below, device);
    cr_assert(symlink(path, files_path(device)) == 0);
}

static void hang_on_node(const char *device, const char *below, const char *node) {
    char path[100];
    hang(device, below);
    snprintf(path, sizeof path, "tree/%s/%s", below, device);
    say(path, "numa_node", node);
}

Test(topo, what_lies_between_two_gpus_is_read_from_the_tree_of_devices) {
    static const char *const folders[] = {"tree", "tree/pci0000:3a", "tree/pci0000:3a/0000:3a:00.0",
        "tree/pci0000:5d", "tree/pci0000:b0", "tree/pci0000:3a/0000:3a:01.0"};
    for (int i = 0; i < 6; i++) files_make_folder(folders[i]);
    hang_on_node("0000:3b:00.0", "pci0000:3a/0000:3a:00.0", "0\n");
    hang_on_node("0000:3c:00.0", "pci0000:3a/0000:3a:00.0", "0\n");
    hang_on_node("0000:3d:00.0", "pci0000:3a/0000:3a:01.0", "0\n");
    hang_on_node("0000:5e:00.0", "pci0000:5d", "0\n");
    hang_on_node("0000:b1:00.0", "pci0000:b0", "1\n");
    const char *a = "0000:3b:00.0";
    cr_assert(pci_between(files_folder, a, "0000:3c:00.0") == PCI_SWITCH);
    cr_assert(pci_between(files_folder, a, "0000:3d:00.0") == PCI_ROOT);
    cr_assert(pci_between(files_folder, a, "0000:5e:00.0") == PCI_NODE);
    cr_assert(pci_between(files_folder, "0000:b1:00.0", a) == PCI_FAR);
    cr_assert(pci_between(files_folder, a, "0000:ff:00.0") == PCI_UNKNOWN);
    cr_assert(pci_between(files_folder, "", a) == PCI_UNKNOWN);
}

Test(topo, hints_at_an_iommu_are_read_where_they_can_be) {
    static const char line[] = "quiet intel_iommu=on root=/dev/sda pcie_acs_override=off\n";
    char text[64];
    files_write("cmdline", line, strlen(line));
    pci_kernel_words(files_path("cmdline"), text, sizeof text);
    cr_assert(strcmp(text, "intel_iommu=on pcie_acs_override=off") == 0, "%s", text);
    pci_kernel_words(files_path("cmdline"), text, 8);
    cr_assert(strcmp(text, "intel_i") == 0, "%s", text);
    pci_kernel_words(files_path("nowhere"), text, sizeof text);
    cr_assert(text[0] == 0);
    cr_assert(pci_iommu_groups(files_path("groups")) == -1);
    files_make_folder("groups");
    cr_assert(pci_iommu_groups(files_path("groups")) == 0);
    files_make_folder("groups/7");
    files_make_folder("groups/8");
    cr_assert(pci_iommu_groups(files_path("groups")) == 2);
}

Test(topo, a_device_is_on_the_node_that_the_system_says) {
    devices_make();
    cr_assert(pci_node(files_folder, "0000:b1:00.0") == 1);
    cr_assert(pci_node(files_folder, "0000:3b:00.0") == 0);
    cr_assert(pci_node(files_folder, "0000:00:02.0") == -1, "no node");
    cr_assert(pci_node(files_folder, "0000:c1:00.0") == -1, "no file");
    cr_assert(pci_node(files_folder, "0000:ff:00.0") == -1, "no device");
}

Test(topo, no_pci_is_no_gpu_and_no_failure) {
    struct gpu g[GPUS_MOST];
    int n = 7;
    cr_assert(gpus_find(g) == 0);
    cr_assert(pci_gpus(files_path("nowhere"), g, &n) == STATUS_OK && n == 0);
    files_write("file", "", 0);
    cr_assert(pci_gpus(files_path("file"), g, &n) == STATUS_IO && n == 0);
    cr_assert(strstr(fail_message(), "file"), "%s", fail_message());
}

Test(topo, more_gpus_than_fit_are_left_out) {
    struct gpu g[GPUS_MOST];
    for (int i = 0; i < GPUS_MOST + 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "0000:%02x:00.0", i);
        DEVICE(name, "0x030200\n", "0x10de\n");
    }
    cr_assert(gpus_find(g) == GPUS_MOST);
}

/* PCI-SIG's numbers for x16 in one direction: 8.0, 15.8, 31.5, 63.0, 121 GB/s. */
Test(topo, links_move_what_the_standard_says) {
    const double rates[] = {2.5, 5, 8, 16, 32, 64}, want[] = {4, 8, 15.75, 31.5, 63, 121};
    for (int i = 0; i < 6; i++) {
        double got = link_bytes((struct link){rates[i], 16}) / 1e9;
        cr_assert(fabs(got - want[i]) <= 0.005 * want[i], "%g GT/s: %g GB/s", rates[i], got);
    }
    cr_assert(link_bytes((struct link){0, 0}) == 0);
}

#ifdef HAVE_HWLOC

/* ---- machines -------------------------------------------------------------------------------- */

struct shown {
    struct machine *machine;
    struct tree tree;
    struct place place[64];
    struct gpu gpus[GPUS_MOST];
    struct seating s;
};

static void show_open(struct shown *w, const char *machine, int workers, int threads) {
    cr_assert(topology_open(&w->machine, machine) == STATUS_OK, "%s", fail_message());
    cr_assert(plan_places(w->machine, workers, threads, w->place) == STATUS_OK);
    cr_assert(tree_open(&w->tree, w->machine) == STATUS_OK, "%s", fail_message());
    w->s = (struct seating){.machine = w->machine,
        .tree = &w->tree,
        .place = w->place,
        .workers = workers,
        .gpu = w->gpus};
}

static void show_close(struct shown *w) {
    tree_close(&w->tree);
    topology_close(w->machine);
}

static void check_text(const struct shown *w, const char *want) {
    char text[8192] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    topo_print(f, &w->s);
    fclose(f);
    cr_assert(strcmp(text, want) == 0, "got\n%s\nwant\n%s", text, want);
}

static const char two_packages[] =
    "pack:2 numa:2(memory=68719476736) l3:1(size=33554432) core:2 l2:1(size=524288) "
    "l1:1(size=49152) pu:2";

Test(topo, two_packages_with_two_nodes_each) {
    struct shown w;
    show_open(&w, two_packages, 3, 2);
    check_text(&w, "2 packages, 4 nodes, 8 cores\n"
                   "  package 0\n"
                   "    L3 32 MiB\n"
                   "      node 0 64 GiB\n"
                   "        L2 512 KiB, L1 48 KiB, core 0 (unit 0 1): worker 0\n"
                   "        L2 512 KiB, L1 48 KiB, core 1 (unit 2 3): worker 0\n"
                   "    L3 32 MiB\n"
                   "      node 1 64 GiB\n"
                   "        L2 512 KiB, L1 48 KiB, core 2 (unit 4 5): worker 1\n"
                   "        L2 512 KiB, L1 48 KiB, core 3 (unit 6 7): worker 1\n"
                   "  package 1\n"
                   "    L3 32 MiB\n"
                   "      node 2 64 GiB\n"
                   "        L2 512 KiB, L1 48 KiB, core 4 (unit 8 9): worker 2\n"
                   "        L2 512 KiB, L1 48 KiB, core 5 (unit 10 11): worker 2\n"
                   "    L3 32 MiB\n"
                   "      node 3 64 GiB\n"
                   "        L2 512 KiB, L1 48 KiB, core 6 (unit 12 13)\n"
                   "        L2 512 KiB, L1 48 KiB, core 7 (unit 14 15)\n"
                   "worker 0: cores 0 to 1, node 0\n"
                   "worker 1: cores 2 to 3, node 1\n"
                   "worker 2: cores 4 to 5, node 2\n"
                   "no GPU on the PCI bus\n");
    show_close(&w);
}

Test(topo, workers_that_share_a_core_say_so) {
    struct shown w;
    devices_make();
    show_open(&w, "numa:1(memory=1073741824) pack:1 l2:1(size=3145728) core:2 pu:1", 3, 1);
    w.s.gpus = gpus_find(w.gpus);
    check_text(&w,
        "1 package, 1 node, 2 cores\n"
        "  package 0\n"
        "    node 0 1 GiB\n"
        "      L2 3 MiB\n"
        "        core 0 (unit 0): worker 0, worker 1\n"
        "        core 1 (unit 1): worker 2\n"
        "worker 0: core 0, node 0, shared with other workers\n"
        "worker 1: core 0, node 0, shared with other workers\n"
        "worker 2: core 1, node 0\n"
        "GPU 0000:00:02.0: 1234:1111, link not known\n"
        "GPU 0000:3b:00.0: NVIDIA 10de:1eb8, node 0, now 2.5 GT/s x8 (2.0 GB/s), at most 8 GT/s "
        "x16 (15.8 GB/s)\n"
        "GPU 0000:b1:00.0: NVIDIA 10de:2335, node 1, now 32 GT/s x16 (63.0 GB/s), at most 32 GT/s "
        "x16 (63.0 GB/s)\n"
        "GPU 0000:c1:00.0: AMD 1002:740c, link not known\n"
        "a link that is slower now than at most may only be saving power\n");
    show_close(&w);
}

/* Cores first to first + cores - 1 are inside; their number is the count of cores that follow. */
Test(topo, every_twig_knows_its_cores) {
    static const char *const machines[] = {two_packages, "pu:3", "pack:3 core:1 pu:2",
        "pack:2 l3:2 l2:3 core:2 pu:1", "numa:3 core:5 pu:2", "group:2 numa:2 pack:1 core:2 pu:2"};
    for (int i = 0; i < 6; i++) {
        struct shown w;
        show_open(&w, machines[i], 1, 1);
        int cores = w.machine->cores, depth = -1, seen = 0;
        cr_assert(w.tree.twig[0].kind == TWIG_MACHINE && w.tree.twig[0].depth == 0);
        cr_assert(w.tree.twig[0].first == 0 && w.tree.twig[0].cores == cores, "%s", machines[i]);
        for (int k = 0; k < w.tree.n; k++) {
            const struct twig *t = w.tree.twig + k;
            cr_assert(t->depth <= depth + 1 && (k == 0 || t->depth > 0), "%s", machines[i]);
            depth = t->depth;
            if (t->kind != TWIG_UNIT) cr_assert(t->first == seen, "%s, twig %d", machines[i], k);
            if (t->kind == TWIG_CORE) cr_assert(t->number == seen++ && t->cores == 1);
            if (t->kind != TWIG_UNIT) continue;
            cr_assert(t[-1].kind == TWIG_UNIT || t[-1].kind == TWIG_CORE, "%s", machines[i]);
            if (t[-1].kind == TWIG_CORE) cr_assert(t->number == w.machine->core[seen - 1].pu);
        }
        cr_assert(seen == cores, "%s: %d cores of %d", machines[i], seen, cores);
        for (int c = 0; c < cores; c++) {
            cr_assert(tree_node_of(&w.tree, c) == w.machine->core[c].node, "%s", machines[i]);
        }
        cr_assert(tree_node_of(&w.tree, cores) == -1);
        show_close(&w);
    }
}

static double number_in(const cJSON *o, const char *name) {
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(n) ? n->valuedouble : (double)NAN;
}

static const cJSON *item(const cJSON *o, const char *list, int i) {
    return cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(o, list), i);
}

static cJSON *json_of(const struct shown *w) {
    static char text[1 << 15];
    FILE *f = fmemopen(text, sizeof text, "w");
    cr_assert(topo_print_json(f, &w->s) == STATUS_OK, "%s", fail_message());
    fclose(f);
    cJSON *top = cJSON_Parse(text);
    cr_assert(top != NULL, "%s", text);
    return top;
}

Test(topo, json_says_the_same) {
    struct shown w;
    devices_make();
    show_open(&w, two_packages, 3, 2);
    w.s.gpus = gpus_find(w.gpus);
    cJSON *top = json_of(&w);
    const cJSON *machine = cJSON_GetObjectItemCaseSensitive(top, "machine");
    cr_assert(number_in(machine, "cores") == 8 && number_in(machine, "packages") == 2);
    const cJSON *cache = item(item(machine, "holds", 1), "holds", 0);
    cr_assert(number_in(cache, "level") == 3 && number_in(cache, "bytes") == 33554432);
    const cJSON *node = item(cache, "holds", 0);
    cr_assert(number_in(node, "number") == 2 && number_in(node, "bytes") == 68719476736.0);
    const cJSON *core = item(item(item(node, "holds", 1), "holds", 0), "holds", 0);
    cr_assert(strcmp(cJSON_GetObjectItemCaseSensitive(core, "kind")->valuestring, "core") == 0);
    cr_assert(number_in(core, "number") == 5);
    cr_assert(cJSON_GetNumberValue(item(core, "units", 1)) == 11 && !item(core, "units", 2));
    cr_assert(cJSON_GetNumberValue(item(core, "workers", 0)) == 2 && !item(core, "workers", 1));
    const cJSON *worker = item(top, "workers", 1);
    cr_assert(number_in(worker, "first_core") == 2 && number_in(worker, "cores") == 2);
    cr_assert(number_in(worker, "node") == 1 && !item(top, "workers", 3));
    const cJSON *gpu = item(top, "gpus", 1), *now = cJSON_GetObjectItem(gpu, "link_now");
    cr_assert(number_in(gpu, "node") == 0 && number_in(now, "lanes") == 8);
    cr_assert(number_in(now, "bytes_per_second") == 2e9);
    cr_assert(number_in(cJSON_GetObjectItem(gpu, "link_most"), "gigatransfers_per_second") == 8);
    cr_assert(!cJSON_GetObjectItem(item(top, "gpus", 0), "link_now") && !item(top, "gpus", 4));
    cJSON_Delete(top);
    show_close(&w);
}

#endif

/* ---- links ------------------------------------------------------------------------------------ */

#ifndef CUDASIM

Test(topo, links_between_gpus) { cr_skip_test("needs the simulated CUDA: make sim"); }

#else

static char *printed(const struct links *l) {
    static char text[8192];
    FILE *f = fmemopen(text, sizeof text, "w");
    cr_assert(f != NULL);
    links_print(f, l);
    fclose(f);
    return text;
}

Test(topo, a_pair_that_corrupts_is_shown_as_vetoed, .timeout = 120) {
    if (device_cuda.count() < 3) cr_skip_test("needs 3 GPUs");
    static struct links l;
    cudasim_peer_trouble(2, 1, CUDASIM_PEER_COPIES);
    cr_assert(links_find(&l, &device_cuda, 0) == STATUS_OK, "%s", fail_message());
    char *text = printed(&l);
    cr_assert(strstr(text, "cuda:0 Simulated GPU 0, GPU 0000:01:00.0\n"), "%s", text);
    cr_assert(strstr(text, "NVLink yes  NVLink veto"), "%s", text);
    cr_assert(strstr(text, "cuda:2 does not reach cuda:1, though the driver says so: bytes arrive "
                           "changed\n"),
        "%s", text);
    cr_assert(!strstr(text, "GB/s"), "%s", text);
    cJSON *top = cJSON_CreateObject(), *pair;
    int vetoes = 0;
    links_add(top, &l);
    cJSON_ArrayForEach (pair, cJSON_GetObjectItem(top, "pairs")) {
        cr_assert(cJSON_IsTrue(cJSON_GetObjectItem(pair, "claimed")));
        vetoes += cJSON_IsFalse(cJSON_GetObjectItem(pair, "verified"));
    }
    cr_assert(cJSON_GetArraySize(cJSON_GetObjectItem(top, "devices")) == l.count);
    cr_assert(vetoes == 1, "%d", vetoes);
    cJSON_Delete(top);
}

/* The first two behind one bridge, the third on the same host bridge, the fourth far away. */
static void hang_simulated(void) {
    static const char *const folders[] = {"tree", "tree/pci0000:00", "tree/pci0000:00/0000:00:01.0",
        "tree/pci0000:00/0000:00:02.0", "tree/pci0000:80"};
    for (int i = 0; i < 5; i++) files_make_folder(folders[i]);
    hang_on_node("0000:01:00.0", "pci0000:00/0000:00:01.0", "0\n");
    hang_on_node("0000:02:00.0", "pci0000:00/0000:00:01.0", "0\n");
    hang_on_node("0000:03:00.0", "pci0000:00/0000:00:02.0", "0\n");
    hang_on_node("0000:04:00.0", "pci0000:80", "1\n");
    pci_folder = files_folder;
}

Test(topo, what_stands_in_the_way_of_gpus_is_told, .timeout = 120) {
    static const char line[] = "quiet intel_iommu=on root=/dev/sda pcie_acs_override=off\n";
    static struct links l;
    if (device_cuda.count() != 4) cr_skip_test("needs 4 GPUs");
    setenv("CUDASIM_PEER", "0", 1);
    hang_simulated();
    files_make_folder("groups");
    files_make_folder("groups/7");
    files_make_folder("groups/8");
    files_write("cmdline", line, strlen(line));
    iommu_folder = files_path("groups");
    kernel_file = files_path("cmdline");
    cr_assert(links_find(&l, &device_cuda, 0) == STATUS_OK, "%s", fail_message());
    char *text = printed(&l);
    cr_assert(strstr(text, " -    switch no      root no       far no\n"), "%s", text);
    cr_assert(strstr(text, "an IOMMU is in use, 2 groups: with ACS on, transfers between GPUs go "
                           "by the host bridge\n"),
        "%s", text);
    cr_assert(strstr(text, "the kernel was started with intel_iommu=on pcie_acs_override=off\n"),
        "%s", text);
    cJSON *top = cJSON_CreateObject();
    links_add(top, &l);
    cr_assert(cJSON_GetObjectItem(top, "iommu_groups")->valueint == 2);
    cr_assert(!strcmp(cJSON_GetObjectItem(top, "kernel_words")->valuestring, l.kernel_words));
    cJSON_Delete(top);
}

Test(topo, where_nothing_stands_in_the_way_nothing_is_told, .timeout = 120) {
    static struct links l;
    if (device_cuda.count() < 2) cr_skip_test("needs 2 GPUs");
    files_make_folder("groups");
    iommu_folder = files_path("groups");
    kernel_file = files_path("nowhere");
    cr_assert(links_find(&l, &device_cuda, 0) == STATUS_OK, "%s", fail_message());
    char *text = printed(&l);
    cr_assert(!strstr(text, "IOMMU") && !strstr(text, "the kernel"), "%s", text);
}

Test(topo, copies_are_measured_in_both_directions, .timeout = 120) {
    if (device_cuda.count() < 1) cr_skip_test("needs a GPU");
    static struct links l;
    cr_assert(links_find(&l, &device_cuda, 1) == STATUS_OK, "%s", fail_message());
    for (int a = 0; a <= l.count; a++) {
        for (int b = 0; b <= l.count; b++) {
            cr_assert((l.rate[a][b] > 0) == (a != b) && (l.latency[a][b] > 0) == (a != b));
        }
    }
    cr_assert(strstr(printed(&l), "GB/s") && strstr(printed(&l), "microseconds"));
    cr_assert(cudasim_live() == 0);
}

#endif
