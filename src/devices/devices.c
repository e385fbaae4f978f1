#include "device.h"

const struct device_ops *const devices[] = {
#ifdef HAVE_CUDA
    &device_cuda,
#endif
    &device_host,
    NULL,
};
