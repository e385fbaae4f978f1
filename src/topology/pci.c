#include "topology/pci.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *pci_folder = "/sys/bus/pci/devices";
const char *iommu_folder = "/sys/kernel/iommu_groups";
const char *kernel_file = "/proc/cmdline";

enum { CLASS_DISPLAY = 0x03, LANES_MOST = 32 };

/* The file's first line; 0 where it cannot be read. */
static int line_read(const char *folder, const char *device, const char *name, char line[64]) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s/%s", folder, device, name) >= PATH_MAX) return 0;
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    int got = fgets(line, 64, f) != NULL;
    fclose(f);
    return got;
}

/* `other` where there is no such file, or no number in it. */
static double number_read(const char *folder, const char *device, const char *name, double other) {
    char line[64], *end;
    if (!line_read(folder, device, name, line)) return other;
    double v = strtod(line, &end);
    return end == line ? other : v;
}

/* "16.0 GT/s PCIe" and "16"; where nothing is known sysfs says "Unknown", and 0 or 255 lanes. */
static struct link link_read(
    const char *folder, const char *device, const char *rate, const char *lanes) {
    double r = number_read(folder, device, rate, 0), n = number_read(folder, device, lanes, 0);
    if (!(r > 0 && r < 1e4 && n >= 1 && n <= LANES_MOST)) return (struct link){0, 0};
    return (struct link){r, (int)n};
}

/* A number that is out of range is not believed. */
static unsigned code_read(const char *folder, const char *device, const char *name) {
    double v = number_read(folder, device, name, 0);
    return v >= 0 && v <= 0xffffff ? (unsigned)v : 0;
}

int pci_node(const char *folder, const char *address) {
    double node = number_read(folder, address, "numa_node", -1);
    return node >= 0 && node <= INT_MAX ? (int)node : -1;
}

static int gpu_read(struct gpu *g, const char *folder, const char *device) {
    *g = (struct gpu){.class = code_read(folder, device, "class")};
    if (g->class >> 16 != CLASS_DISPLAY || strlen(device) >= sizeof g->address) return 0;
    memcpy(g->address, device, strlen(device) + 1);
    g->vendor = code_read(folder, device, "vendor");
    g->device = code_read(folder, device, "device");
    g->node = pci_node(folder, device);
    g->now = link_read(folder, device, "current_link_speed", "current_link_width");
    g->most = link_read(folder, device, "max_link_speed", "max_link_width");
    return 1;
}

enum status pci_gpus(const char *folder, struct gpu gpus[GPUS_MOST], int *n) {
    struct dirent **entry;
    *n = 0;
    int found = scandir(folder, &entry, NULL, alphasort);
    if (found < 0 && errno == ENOENT) return STATUS_OK;
    if (found < 0) return fail(STATUS_IO, "cannot list %s: %s", folder, strerror(errno));
    for (int i = 0; i < found; i++) {
        if (*n < GPUS_MOST && entry[i]->d_name[0] != '.') {
            *n += gpu_read(gpus + *n, folder, entry[i]->d_name);
        }
        free(entry[i]);
    }
    free((void *)entry);
    return STATUS_OK;
}

/* ---- what lies between ------------------------------------------------------------------------- */

/* .../pci0000:3a/0000:3a:00.0/0000:3b:00.0: the host bridge and what is below it, or NULL. */
static char *way_read(const char *folder, const char *device, char path[PATH_MAX]) {
    char link[PATH_MAX];
    if (!*device || snprintf(link, sizeof link, "%s/%s", folder, device) >= PATH_MAX) return NULL;
    if (!realpath(link, path)) return NULL;
    char *root = strstr(path, "/pci");
    return root ? root + 1 : NULL;
}

static double node_read(const char *folder, const char *device) {
    return number_read(folder, device, "numa_node", -1);
}

enum pci_way pci_between(const char *folder, const char *a, const char *b) {
    static char one[PATH_MAX], other[PATH_MAX];
    const char *x = way_read(folder, a, one), *y = way_read(folder, b, other);
    int shared = 0; /* whole names of the two ways that are the same */
    if (!x || !y) return PCI_UNKNOWN;
    for (; *x && *x == *y; x++, y++) shared += *x == '/';
    if (shared > 1) return PCI_SWITCH;
    if (shared == 1) return PCI_ROOT;
    double near = node_read(folder, a), far = node_read(folder, b);
    if (near < 0 || far < 0) return PCI_UNKNOWN;
    return near == far ? PCI_NODE : PCI_FAR;
}

/* ---- what stands in the way --------------------------------------------------------------------- */

int pci_iommu_groups(const char *folder) {
    struct dirent **entry;
    int groups = 0, found = scandir(folder, &entry, NULL, NULL);
    if (found < 0) return -1;
    for (int i = 0; i < found; i++) {
        groups += entry[i]->d_name[0] != '.';
        free(entry[i]);
    }
    free((void *)entry);
    return groups;
}

void pci_kernel_words(const char *file, char *text, size_t n) {
    char line[4096], *rest = NULL;
    size_t at = 0;
    text[0] = 0;
    FILE *f = fopen(file, "r");
    if (!f) return;
    char *word = fgets(line, sizeof line, f) ? strtok_r(line, " \n", &rest) : NULL;
    fclose(f);
    for (; word && at < n; word = strtok_r(NULL, " \n", &rest)) {
        if (!strstr(word, "iommu") && !strstr(word, "acs")) continue;
        at += (size_t)snprintf(text + at, n - at, "%s%s", at ? " " : "", word);
    }
}

/* Up to 5 GT/s a byte takes 10 bits, up to 32 GT/s 128 bits take 130; above, 242 bytes of each
 * 256 are left of a flit. */
double link_bytes(struct link l) {
    double kept = l.rate <= 5 ? 0.8 : l.rate <= 32 ? 128.0 / 130 : 242.0 / 256;
    return l.rate * 1e9 * l.lanes * kept / 8;
}

const char *pci_vendor(unsigned vendor) {
    return vendor == 0x10de ? "NVIDIA" : vendor == 0x1002 ? "AMD" : vendor == 0x8086 ? "Intel" : "";
}
