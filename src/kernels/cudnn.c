/* cudnn.c -- cuDNN's functions, loaded when one is first called; it then loads the rest of itself
 * from its own folder. */
#include <cudnn.h>

#include "kernels/cuda_library.h"

#define LIBRARY "libcudnn.so." TEXT(CUDNN_MAJOR)
#define CUDNN(name, parameters, arguments)                                                         \
    FORWARD(LIBRARY, cudnnStatus_t, CUDNN_STATUS_NOT_INITIALIZED, name, parameters, arguments)

FORWARD(LIBRARY, size_t, 0, cudnnGetVersion, (void), ())
FORWARD(LIBRARY, const char *, LIBRARY_MISSING(LIBRARY), cudnnGetErrorString,
    (cudnnStatus_t status), (status))

CUDNN(cudnnCreate, (cudnnHandle_t * handle), (handle))
CUDNN(cudnnDestroy, (cudnnHandle_t handle), (handle))
CUDNN(cudnnSetStream, (cudnnHandle_t handle, cudaStream_t stream), (handle, stream))

CUDNN(cudnnCreateTensorDescriptor, (cudnnTensorDescriptor_t * tensorDesc), (tensorDesc))
CUDNN(cudnnDestroyTensorDescriptor, (cudnnTensorDescriptor_t tensorDesc), (tensorDesc))
CUDNN(cudnnSetTensor4dDescriptor,
    (cudnnTensorDescriptor_t tensorDesc, cudnnTensorFormat_t format, cudnnDataType_t dataType,
        int n, int c, int h, int w),
    (tensorDesc, format, dataType, n, c, h, w))
CUDNN(cudnnCreateFilterDescriptor, (cudnnFilterDescriptor_t * filterDesc), (filterDesc))
CUDNN(cudnnDestroyFilterDescriptor, (cudnnFilterDescriptor_t filterDesc), (filterDesc))
CUDNN(cudnnSetFilter4dDescriptor,
    (cudnnFilterDescriptor_t filterDesc, cudnnDataType_t dataType, cudnnTensorFormat_t format,
        int k, int c, int h, int w),
    (filterDesc, dataType, format, k, c, h, w))
CUDNN(cudnnCreateConvolutionDescriptor, (cudnnConvolutionDescriptor_t * convDesc), (convDesc))
CUDNN(cudnnDestroyConvolutionDescriptor, (cudnnConvolutionDescriptor_t convDesc), (convDesc))
CUDNN(cudnnSetConvolution2dDescriptor,
    (cudnnConvolutionDescriptor_t convDesc, int pad_h, int pad_w, int u, int v, int dilation_h,
        int dilation_w, cudnnConvolutionMode_t mode, cudnnDataType_t computeType),
    (convDesc, pad_h, pad_w, u, v, dilation_h, dilation_w, mode, computeType))
CUDNN(cudnnSetConvolutionMathType,
    (cudnnConvolutionDescriptor_t convDesc, cudnnMathType_t mathType), (convDesc, mathType))

CUDNN(cudnnGetConvolutionForwardWorkspaceSize,
    (cudnnHandle_t handle, cudnnTensorDescriptor_t xDesc, cudnnFilterDescriptor_t wDesc,
        cudnnConvolutionDescriptor_t convDesc, cudnnTensorDescriptor_t yDesc,
        cudnnConvolutionFwdAlgo_t algo, size_t *sizeInBytes),
    (handle, xDesc, wDesc, convDesc, yDesc, algo, sizeInBytes))
CUDNN(cudnnGetConvolutionBackwardDataWorkspaceSize,
    (cudnnHandle_t handle, cudnnFilterDescriptor_t wDesc, cudnnTensorDescriptor_t dyDesc,
        cudnnConvolutionDescriptor_t convDesc, cudnnTensorDescriptor_t dxDesc,
        cudnnConvolutionBwdDataAlgo_t algo, size_t *sizeInBytes),
    (handle, wDesc, dyDesc, convDesc, dxDesc, algo, sizeInBytes))
CUDNN(cudnnGetConvolutionBackwardFilterWorkspaceSize,
    (cudnnHandle_t handle, cudnnTensorDescriptor_t xDesc, cudnnTensorDescriptor_t dyDesc,
        cudnnConvolutionDescriptor_t convDesc, cudnnFilterDescriptor_t gradDesc,
        cudnnConvolutionBwdFilterAlgo_t algo, size_t *sizeInBytes),
    (handle, xDesc, dyDesc, convDesc, gradDesc, algo, sizeInBytes))
CUDNN(cudnnConvolutionForward,
    (cudnnHandle_t handle, const void *alpha, cudnnTensorDescriptor_t xDesc, const void *x,
        cudnnFilterDescriptor_t wDesc, const void *w, cudnnConvolutionDescriptor_t convDesc,
        cudnnConvolutionFwdAlgo_t algo, void *workSpace, size_t workSpaceSizeInBytes,
        const void *beta, cudnnTensorDescriptor_t yDesc, void *y),
    (handle, alpha, xDesc, x, wDesc, w, convDesc, algo, workSpace, workSpaceSizeInBytes, beta,
        yDesc, y))
CUDNN(cudnnConvolutionBackwardData,
    (cudnnHandle_t handle, const void *alpha, cudnnFilterDescriptor_t wDesc, const void *w,
        cudnnTensorDescriptor_t dyDesc, const void *dy, cudnnConvolutionDescriptor_t convDesc,
        cudnnConvolutionBwdDataAlgo_t algo, void *workSpace, size_t workSpaceSizeInBytes,
        const void *beta, cudnnTensorDescriptor_t dxDesc, void *dx),
    (handle, alpha, wDesc, w, dyDesc, dy, convDesc, algo, workSpace, workSpaceSizeInBytes, beta,
        dxDesc, dx))
CUDNN(cudnnConvolutionBackwardFilter,
    (cudnnHandle_t handle, const void *alpha, cudnnTensorDescriptor_t xDesc, const void *x,
        cudnnTensorDescriptor_t dyDesc, const void *dy, cudnnConvolutionDescriptor_t convDesc,
        cudnnConvolutionBwdFilterAlgo_t algo, void *workSpace, size_t workSpaceSizeInBytes,
        const void *beta, cudnnFilterDescriptor_t dwDesc, void *dw),
    (handle, alpha, xDesc, x, dyDesc, dy, convDesc, algo, workSpace, workSpaceSizeInBytes, beta,
        dwDesc, dw))
