/* simulation.h -- where tests take a hundred times as long for the same numbers: on the simulated
 * CUDA, and under ThreadSanitizer. What is exact at each step takes fewer steps there, what meets any
 * number of workers meets fewer, and what only has to learn learns something smaller. */
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

#ifdef __SANITIZE_THREAD__
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

#define SLOW (SIMULATED || UNDER_TSAN)

/* As many workers as make a difference. */
enum { CROWD = SLOW ? 16 : 64 };

/* For long tests on devices that the tests make themselves out of the host's. */
#define NOT_SIMULATED                                                                              \
    do {                                                                                           \
        if (SIMULATED) cr_skip_test("its devices are the host's: make test runs it");              \
    } while (0)

#endif
