/* simulation.h -- whether the devices are the simulated CUDA's, which takes a hundred times as long
 * as the host for the same numbers: what is exact at each step takes fewer steps there, and what
 * only has to learn learns something smaller. */
#ifndef SIMULATION_H
#define SIMULATION_H

#ifdef HAVE_CUDA
#include <cuda_runtime.h>
#endif

#ifdef CUDASIM
#define SIMULATED 1
#else
#define SIMULATED 0
#endif

#endif
