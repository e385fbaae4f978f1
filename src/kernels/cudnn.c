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

CUDNN(cudnnCreateTensorDescriptor, (cudnnTensorDescriptor_t * tensor), (tensor))
CUDNN(cudnnDestroyTensorDescriptor, (cudnnTensorDescriptor_t tensor), (tensor))
CUDNN(cudnnSetTensor4dDescriptor,
    (cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format, cudnnDataType_t type, int n, int c,
        int h, int w),
    (tensor, format, type, n, c, h, w))
CUDNN(cudnnCreateFilterDescriptor, (cudnnFilterDescriptor_t * filter), (filter))
CUDNN(cudnnDestroyFilterDescriptor, (cudnnFilterDescriptor_t filter), (filter))
CUDNN(cudnnSetFilter4dDescriptor,
    (cudnnFilterDescriptor_t filter, cudnnDataType_t type, cudnnTensorFormat_t format, int k, int c,
        int h, int w),
    (filter, type, format, k, c, h, w))
CUDNN(cudnnCreateConvolutionDescriptor, (cudnnConvolutionDescriptor_t * conv), (conv))
CUDNN(cudnnDestroyConvolutionDescriptor, (cudnnConvolutionDescriptor_t conv), (conv))
CUDNN(cudnnSetConvolution2dDescriptor,
    (cudnnConvolutionDescriptor_t conv, int pad_h, int pad_w, int u, int v, int dilation_h,
        int dilation_w, cudnnConvolutionMode_t mode, cudnnDataType_t type),
    (conv, pad_h, pad_w, u, v, dilation_h, dilation_w, mode, type))
CUDNN(cudnnSetConvolutionMathType, (cudnnConvolutionDescriptor_t conv, cudnnMathType_t type),
    (conv, type))

CUDNN(cudnnGetConvolutionForwardWorkspaceSize,
    (cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w,
        const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t y,
        cudnnConvolutionFwdAlgo_t algo, size_t *bytes),
    (handle, x, w, conv, y, algo, bytes))
CUDNN(cudnnGetConvolutionBackwardDataWorkspaceSize,
    (cudnnHandle_t handle, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy,
        const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t dx,
        cudnnConvolutionBwdDataAlgo_t algo, size_t *bytes),
    (handle, w, dy, conv, dx, algo, bytes))
CUDNN(cudnnGetConvolutionBackwardFilterWorkspaceSize,
    (cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,
        const cudnnConvolutionDescriptor_t conv, const cudnnFilterDescriptor_t dw,
        cudnnConvolutionBwdFilterAlgo_t algo, size_t *bytes),
    (handle, x, dy, conv, dw, algo, bytes))
CUDNN(cudnnConvolutionForward,
    (cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t of_x, const void *x,
        const cudnnFilterDescriptor_t of_w, const void *w, const cudnnConvolutionDescriptor_t conv,
        cudnnConvolutionFwdAlgo_t algo, void *workspace, size_t bytes, const void *beta,
        const cudnnTensorDescriptor_t of_y, void *y),
    (handle, alpha, of_x, x, of_w, w, conv, algo, workspace, bytes, beta, of_y, y))
CUDNN(cudnnConvolutionBackwardData,
    (cudnnHandle_t handle, const void *alpha, const cudnnFilterDescriptor_t of_w, const void *w,
        const cudnnTensorDescriptor_t of_dy, const void *dy,
        const cudnnConvolutionDescriptor_t conv, cudnnConvolutionBwdDataAlgo_t algo,
        void *workspace, size_t bytes, const void *beta, const cudnnTensorDescriptor_t of_dx,
        void *dx),
    (handle, alpha, of_w, w, of_dy, dy, conv, algo, workspace, bytes, beta, of_dx, dx))
CUDNN(cudnnConvolutionBackwardFilter,
    (cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t of_x, const void *x,
        const cudnnTensorDescriptor_t of_dy, const void *dy,
        const cudnnConvolutionDescriptor_t conv, cudnnConvolutionBwdFilterAlgo_t algo,
        void *workspace, size_t bytes, const void *beta, const cudnnFilterDescriptor_t of_dw,
        void *dw),
    (handle, alpha, of_x, x, of_dy, dy, conv, algo, workspace, bytes, beta, of_dw, dw))
