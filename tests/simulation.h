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

/* For long tests on devices that the tests make themselves out of the host's. */
#define NOT_SIMULATED                                                                              \
    do {                                                                                           \
        if (SIMULATED) cr_skip_test("its devices are the host's: make test runs it");              \
    } while (0)

#endif
