/* checksum.h -- has a byte changed since? Against bad disks and memory, not against people. */
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* 64 bits of n bytes, going on from `from`: 0, or the sum of what comes before. A change within
 * eight bytes that are read together always shows. */
uint64_t checksum(uint64_t from, const void *bytes, size_t n);

#endif
