#include "device.h"

const struct device_ops *const devices[] = {&device_host, NULL};
