#include "checksum.h"

#include <string.h>

/* One to one in the word and in the sum. A product carries changes upwards only, hence the shift. */
static uint64_t step(uint64_t sum, uint64_t word) {
    sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
    return sum ^ sum >> 32;
}

uint64_t checksum(uint64_t from, const void *bytes, size_t n) {
    const char *at = bytes;
    uint64_t word, sum = step(from ^ 0xcbf29ce484222325u, n);
    for (; n >= sizeof word; n -= sizeof word, at += sizeof word) {
        memcpy(&word, at, sizeof word);
        sum = step(sum, word);
    }
    word = 0;
    if (n > 0) memcpy(&word, at, n);
    return step(sum, word);
}
