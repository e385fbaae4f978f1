/* fuzz.c -- libFuzzer's way in; TARGET is one of targets.h. */
#include "fuzz/targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) { return TARGET(bytes, n); }
