#include "links.h"

#include <string.h>

#include "base/clock.h"

enum { BYTES = 16 << 20, COPIES = 4, PINGS = 50 };

static const double SECONDS = 10; /* for a transfer of a megabyte */

/* ---- measuring -------------------------------------------------------------------------------- */

/* One place, on a device or, the last, in pinned memory of the host. */
struct end {
    struct device *d;
    struct stream *q;
    void *at; /* (BYTES) */
};

static enum status copies_take(
    const struct end *by, void *to, const void *from, size_t bytes, int times, double *seconds) {
    TRY(device_use(by->d));
    stream_copy(by->q, to, from, bytes);
    TRY(stream_sync(by->q)); /* the first finds nothing warm */
    double start = clock_seconds();
    for (int i = 0; i < times; i++) {
        stream_copy(by->q, to, from, bytes);
        if (bytes < BYTES) TRY(stream_sync(by->q));
    }
    TRY(stream_sync(by->q));
    *seconds = (clock_seconds() - start) / times;
    return STATUS_OK;
}

static enum status measure_all(struct links *l, const struct end *end) {
    for (int a = 0; a <= l->count; a++) {
        for (int b = 0; b <= l->count; b++) {
            double seconds;
            if (a == b) continue;
            const struct end *by = a < l->count ? &end[a] : &end[b];
            TRY(copies_take(by, end[b].at, end[a].at, BYTES, COPIES, &seconds));
            l->rate[a][b] = BYTES / seconds;
            TRY(copies_take(by, end[b].at, end[a].at, 4, PINGS, &l->latency[a][b]));
        }
    }
    return STATUS_OK;
}

static enum status ends_open(const struct links *l, struct end *end) {
    for (int i = 0; i < l->count; i++) {
        TRY(device_open(&end[i].d, l->reach.ops, l->reach.number[i], 1));
        TRY(stream_open_for_copies(&end[i].q, end[i].d));
        TRY(device_alloc(end[i].d, &end[i].at, BYTES));
    }
    return device_pinned(end[0].d, &end[l->count].at, BYTES);
}

static enum status measure(struct links *l) {
    struct end end[LINKS_MOST + 1] = {0};
    enum status failed = ends_open(l, end);
    if (failed == STATUS_OK) failed = measure_all(l, end);
    for (int i = 0; i < l->count; i++) {
        stream_close(end[i].q);
        device_close(end[i].d);
    }
    return failed;
}

/* ---- finding ---------------------------------------------------------------------------------- */

/* The devices' own words for themselves. */
static enum status describe(struct links *l, const struct device_ops *ops) {
    for (int i = 0; i < l->count; i++) {
        struct device *d;
        TRY(device_open(&d, ops, i, 1));
        snprintf(l->name[i], sizeof l->name[i], "%s", d->name);
        device_close(d);
        ops->address(i, l->address[i]);
    }
    return STATUS_OK;
}

enum status links_find(struct links *l, const struct device_ops *ops, int measured) {
    int number[LINKS_MOST], count = ops->count();
    *l = (struct links){.count = count < LINKS_MOST ? count : LINKS_MOST};
    TRY(describe(l, ops));
    for (int i = 0; i < l->count; i++) number[i] = i;
    for (int a = 0; a < l->count; a++) {
        for (int b = 0; b < l->count; b++) {
            l->way[a][b] = (unsigned char)pci_between(pci_folder, l->address[a], l->address[b]);
            l->atomics[a][b] = ops->peer_claim(a, b).atomics != 0;
        }
    }
    l->iommu_groups = pci_iommu_groups(iommu_folder);
    pci_kernel_words(kernel_file, l->kernel_words, sizeof l->kernel_words);
    reach_verify(&l->reach, ops, number, l->count, SECONDS);
    return measured ? measure(l) : STATUS_OK;
}

/* ---- text ------------------------------------------------------------------------------------- */

static const char *way_word(const struct links *l, int a, int b) {
    static const char *const words[] = {"?", "switch", "root", "node", "far"};
    return l->atomics[a][b] ? "NVLink" : words[l->way[a][b]];
}

static const char *state_word(const struct links *l, int a, int b) {
    int state = l->reach.state[a][b];
    return state == REACH_YES ? "yes" : state == REACH_DENIED ? "no" : "veto";
}

static void print_heading(FILE *f, const struct links *l, const char *what, int host) {
    fprintf(f, "%s\n%-8s", what, "");
    for (int b = 0; b < l->count; b++) fprintf(f, " %8s:%-3d", l->reach.ops->kind, b);
    fputs(host ? "        host\n" : "\n", f);
}

static void print_row(FILE *f, const struct links *l, int a) {
    if (a < l->count) fprintf(f, "%5s:%-2d", l->reach.ops->kind, a);
    if (a == l->count) fprintf(f, "%-8s", "host");
}

static void print_matrix(FILE *f, const struct links *l) {
    print_heading(f, l, "from the row's memory to the column's: way, and peer access as tried", 0);
    for (int a = 0; a < l->count; a++) {
        print_row(f, l, a);
        for (int b = 0; b < l->count; b++) {
            char cell[32] = "-";
            if (a != b) {
                snprintf(cell, sizeof cell, "%s %s", way_word(l, a, b), state_word(l, a, b));
            }
            fprintf(f, " %12s", cell);
        }
        fputc('\n', f);
    }
    fputs("switch: behind one PCIe bridge, root: one host bridge, node: one NUMA node, far: across "
          "nodes, ?: not known\n",
        f);
}

static void print_numbers(FILE *f, const struct links *l, const char *what, int latency) {
    print_heading(f, l, what, 1);
    for (int a = 0; a <= l->count; a++) {
        print_row(f, l, a);
        for (int b = 0; b <= l->count; b++) {
            double v = latency ? l->latency[a][b] * 1e6 : l->rate[a][b] / 1e9;
            if (a == b) fprintf(f, " %12s", "-");
            if (a != b) fprintf(f, " %12.4g", v);
        }
        fputc('\n', f);
    }
}

static void print_hints(FILE *f, const struct links *l) {
    for (int a = 0; a < l->count; a++) {
        for (int b = 0; b < l->count; b++) {
            int state = l->reach.state[a][b];
            if (state <= REACH_DENIED) continue;
            fprintf(f, "%s:%d does not reach %s:%d, though the driver says so: %s\n",
                l->reach.ops->kind, a, l->reach.ops->kind, b, reach_words((enum reach_state)state));
        }
    }
    if (l->iommu_groups > 0) {
        fprintf(f,
            "an IOMMU is in use, %d groups: with ACS on, transfers between GPUs go by the host "
            "bridge\n",
            l->iommu_groups);
    }
    if (*l->kernel_words) fprintf(f, "the kernel was started with %s\n", l->kernel_words);
}

void links_print(FILE *f, const struct links *l) {
    for (int i = 0; i < l->count; i++) {
        fprintf(f, "%s:%d %s%s%s\n", l->reach.ops->kind, i, l->name[i],
            *l->address[i] ? ", GPU " : "", l->address[i]);
    }
    if (l->count > 1) print_matrix(f, l);
    if (l->rate[0][l->count] > 0) {
        print_numbers(f, l, "GB/s of copies from the row's memory to the column's", 0);
        print_numbers(f, l, "microseconds for four bytes", 1);
    }
    print_hints(f, l);
}

/* ---- JSON ------------------------------------------------------------------------------------- */

static void add_end(cJSON *o, const struct links *l, const char *name, int i) {
    char text[32] = "host";
    if (i < l->count) snprintf(text, sizeof text, "%s:%d", l->reach.ops->kind, i);
    cJSON_AddStringToObject(o, name, text);
}

static cJSON *pair_json(const struct links *l, int a, int b) {
    cJSON *o = cJSON_CreateObject();
    add_end(o, l, "from", a);
    add_end(o, l, "to", b);
    if (a < l->count && b < l->count) {
        cJSON_AddStringToObject(o, "way", way_word(l, a, b));
        cJSON_AddBoolToObject(o, "claimed", l->reach.claimed[a][b]);
        cJSON_AddBoolToObject(o, "verified", reach_between(&l->reach, a, b));
        if (!reach_between(&l->reach, a, b)) {
            cJSON_AddStringToObject(o, "why", reach_words((enum reach_state)l->reach.state[a][b]));
        }
    }
    if (l->rate[a][b] > 0) {
        cJSON_AddNumberToObject(o, "bytes_per_second", l->rate[a][b]);
        cJSON_AddNumberToObject(o, "latency_seconds", l->latency[a][b]);
    }
    return o;
}

void links_add(cJSON *top, const struct links *l) {
    cJSON *list = cJSON_AddArrayToObject(top, "devices");
    for (int i = 0; i < l->count; i++) {
        cJSON *o = cJSON_CreateObject();
        add_end(o, l, "device", i);
        cJSON_AddStringToObject(o, "name", l->name[i]);
        cJSON_AddStringToObject(o, "address", l->address[i]);
        cJSON_AddItemToArray(list, o);
    }
    list = cJSON_AddArrayToObject(top, "pairs");
    for (int a = 0; a <= l->count; a++) {
        for (int b = 0; b <= l->count; b++) {
            int wanted = (a < l->count && b < l->count) || l->rate[a][b] > 0;
            if (a != b && wanted) cJSON_AddItemToArray(list, pair_json(l, a, b));
        }
    }
    if (l->iommu_groups >= 0) cJSON_AddNumberToObject(top, "iommu_groups", l->iommu_groups);
    cJSON_AddStringToObject(top, "kernel_words", l->kernel_words);
}
