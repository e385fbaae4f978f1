/* ranges.h -- what a thread is at, for tools that draw it over time, Nsight Systems say (NVTX).
 *
 * Where no tool listens a call is a look at a pointer; in a build without NVTX it is nothing.
 */
#ifndef RANGES_H
#define RANGES_H

/* Of the calling thread; each begin has its end on the same thread, inner ones first. */
void range_begin(const char *name);
void range_end(void);

/* What the calling thread is called there. */
void range_name_thread(const char *name);

#endif
