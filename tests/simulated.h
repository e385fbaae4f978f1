/* simulated.h -- kernels for the tests of the simulated CUDA, by name. */
#ifndef SIMULATED_H
#define SIMULATED_H

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

void launch_fill(float *y, size_t n, float a, unsigned threads, cudaStream_t q);
void launch_add(float *y, const float *x, size_t n, cudaStream_t q); /* y <- y + x */

/* out[0] <- sum of in (n), by one block that adds in dynamic shared memory. */
void launch_sum(float *out, const float *in, unsigned n, cudaStream_t q);

/* out[32 row + lane]: row 0 the next lane's number, row 1 the ballot of lanes of whole threes, row 2
 * the number two lanes on within eight, row 3 the number of the lane beside; lanes below 24 only. */
void launch_warp(int *out, cudaStream_t q);

void launch_reverse(float *y, const float *x, unsigned n, int barrier, cudaStream_t q);
void launch_diverged(float *y, unsigned n, cudaStream_t q); /* threads from n on miss a barrier */
void launch_write(float *y, size_t at, cudaStream_t q);
void launch_write_shared(float *y, cudaStream_t q);
void launch_follow(float *const *table, cudaStream_t q); /* writes where table[0] points */

#ifdef __cplusplus
}
#endif
#endif
