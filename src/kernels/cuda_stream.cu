/* cuda_stream.cu -- failures of the CUDA runtime, in words. */
#include "kernels/cuda_stream.cuh"

const char *cuda_meaning(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation:
        return "its memory is full: use fewer workers on a GPU, a smaller model or a smaller batch";
    case cudaErrorNoDevice:
        return "there is no GPU, or CUDA_VISIBLE_DEVICES hides it";
    case cudaErrorInsufficientDriver:
        return "no NVIDIA driver, or one older than the CUDA that huddle was built with";
    case cudaErrorDevicesUnavailable:
        return "another process has the GPU for itself";
    case cudaErrorNoKernelImageForDevice:
        return "huddle was built without code for this GPU: build it with make SM=...";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorMisalignedAddress:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorAssert:
        return "a kernel failed before this call, and nothing on this GPU can be used any more";
    case cudaErrorECCUncorrectable:
        return "the GPU's memory has a fault: its owner should look";
    default:
        return cudaGetErrorString(error);
    }
}

void cuda_latch(struct stream *q, const char *call, cudaError_t error) {
    stream_fail(q, "%s: %s: %s", call, cudaGetErrorName(error), cuda_meaning(error));
}
