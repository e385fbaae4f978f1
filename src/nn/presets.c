/* presets.c -- networks from papers, by name. */
#include <stddef.h>

#include "nn/model.h"

/* ResNet's block of two convolutions; the first of a stage halves the sides. */
#define BLOCK(channels, stride)                                                                    \
    "residual ( conv " channels " 3" stride " same nobias, batchnorm, relu, conv " channels        \
    " 3 same nobias, batchnorm ), relu, "
#define STAGE(channels, stride) BLOCK(channels, stride) BLOCK(channels, "") BLOCK(channels, "")

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
        "EASGD's net for CIFAR-10, 351,946 parameters on crops of 28 x 28 x 3: data.side=28"},
    {"digits_cnn",
        "conv 16 3 same, relu, conv 32 3 same, relu, maxpool 2, flatten, dense 64, relu, dense 10",
        "a small convolutional net for the 8 x 8 x 1 digits, 38,282 parameters"},
    {"resnet20",
        "conv 16 3 same nobias, batchnorm, relu, " STAGE("16", "") STAGE("32", " stride 2")
            STAGE("64", " stride 2") "globalavgpool, dense 10",
        "ResNet-20 for CIFAR-10 with projection shortcuts, 272,474 parameters on 32 x 32 x 3"},
    {NULL, NULL, NULL},
};
