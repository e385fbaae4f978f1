/* presets.c -- networks from papers, by name. */
#include <stddef.h>

#include "nn/model.h"

const struct preset presets[] = {
    {"2nn", "dense 200, relu, dense 200, relu, dense 10",
        "FedAvg's perceptron, 199,210 parameters on 28 x 28 x 1"},
    {"mnist_cnn",
        "conv 32 5 same, relu, maxpool 2, conv 64 5 same, relu, maxpool 2, flatten, dense 512, "
        "relu, dense 10",
        "FedAvg's convolutional net, 1,663,370 parameters on 28 x 28 x 1"},
    {"easgd_cifar",
        "conv 64 5, relu, maxpool 2, conv 128 5, relu, maxpool 2, conv 64 3, relu, flatten, "
        "dense 256, relu, dropout 0.5, dense 10",
        "EASGD's net for CIFAR-10, 351,946 parameters on crops of 28 x 28 x 3"},
    {"digits_cnn",
        "conv 16 3 same, relu, conv 32 3 same, relu, maxpool 2, flatten, dense 64, relu, dense 10",
        "a small convolutional net for the 8 x 8 x 1 digits, 38,282 parameters"},
    {NULL, NULL, NULL},
};
