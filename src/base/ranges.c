#include "ranges.h"

#ifdef HAVE_NVTX

#include <nvToolsExt.h>
#include <unistd.h>

void range_begin(const char *name) { (void)nvtxRangePushA(name); }
void range_end(void) { (void)nvtxRangePop(); }
void range_name_thread(const char *name) { nvtxNameOsThreadA((uint32_t)gettid(), name); }

#else

void range_begin(const char *name) { (void)name; }
void range_end(void) {}
void range_name_thread(const char *name) { (void)name; }

#endif
