/* cuda_reduce.cu -- the second half of a sum that many blocks took part in. */
#include "kernels/cuda_reduce.cuh"

static __global__ void parts_sum_kernel(float *out, const double *part, unsigned parts) {
    double sum = 0;
    for (unsigned i = threadIdx.x; i < parts; i += blockDim.x) sum += part[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[0] = (float)sum;
}

void cuda_parts_sum(struct stream *q, float *out, unsigned parts) {
    if (parts > 1) LAUNCH(parts_sum_kernel, q, 1, THREADS, 0, out, parts_of(q), parts);
}
