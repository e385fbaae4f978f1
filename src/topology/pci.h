/* pci.h -- the graphics processors on the PCI bus, as sysfs tells of them: without any driver. */
#ifndef PCI_H
#define PCI_H

#include <stddef.h>

#include "base/status.h"

struct link {
    double rate; /* GT/s for each lane; 0: not known, as on virtual machines */
    int lanes;   /* 0: not known */
};

struct gpu {
    char address[32];               /* "0000:3b:00.0" */
    unsigned vendor, device, class; /* 0x10de, 0x2335, 0x030200 */
    int node;                       /* the system's number of its NUMA node; -1: not known */
    struct link now, most;          /* what the link runs at; what the device is made for */
};

enum { GPUS_MOST = 64 };

/* Where sysfs shows the devices. Tests look elsewhere, here and below. */
extern const char *pci_folder;

/* All devices of class 0x03xx below the folder, by address; *n of them, at most GPUS_MOST. A
 * folder that is not there is a machine without PCI: none. */
enum status pci_gpus(const char *folder, struct gpu gpus[GPUS_MOST], int *n);

/* What lies between two devices on the bus, from near to far. */
enum pci_way {
    PCI_UNKNOWN,
    PCI_SWITCH, /* a bridge below the root that both hang on */
    PCI_ROOT,   /* one host bridge */
    PCI_NODE,   /* two host bridges of one NUMA node */
    PCI_FAR     /* two NUMA nodes */
};

/* Of two addresses below the folder, which holds links into the tree of devices as sysfs does. */
enum pci_way pci_between(const char *folder, const char *a, const char *b);

/* IOMMU groups that the folder, sysfs's, shows: none where no IOMMU is in use; -1: not readable. */
int pci_iommu_groups(const char *folder);
extern const char *iommu_folder;

/* The words of a kernel command line, a file, that have to do with IOMMU and ACS, with a blank
 * between; "" for none and where it cannot be read. */
void pci_kernel_words(const char *file, char *text, size_t n);
extern const char *kernel_file;

/* The system's number of the NUMA node of the device at this address, "0000:3b:00.0"; -1: not known,
 * or no such device. */
int pci_node(const char *folder, const char *address);

/* Bytes a second that the link moves in one direction, after its coding; 0: not known. */
double link_bytes(struct link l);

/* "NVIDIA", or "" for vendors whose name is not known here. */
const char *pci_vendor(unsigned vendor);

#endif
