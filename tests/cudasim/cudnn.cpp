// Simulated cuDNN: convolutions of fp32 images in NHWC with weights in KRSC, each call one operation
// on the handle's stream. Only algorithms that add in one order are there.
#include "cudnn.h"

#include <algorithm>
#include <cmath>

#include "sim.h"

// CUDASIM_CUDNN in the environment: what is the matter with the library.
enum { MISSING = 0, FINE = 1, REFUSES = 2, GREEDY = 3 };

struct cudnnContext {
    int device;
    cudaStream_t stream;
};
struct cudnnTensorStruct {
    bool set;
    int n, c, h, w;
};
struct cudnnFilterStruct {
    bool set;
    int k, c, h, w;
};
struct cudnnConvolutionStruct {
    bool set;
    int pad_h, pad_w, stride_h, stride_w;
    cudnnMathType_t math;
};

static std::atomic<long> calls, tf32_calls;

static int trouble() { return (int)sim_env("CUDASIM_CUDNN", FINE); }

static CUstream_st *dnn_stream(const char *call, cudnnHandle_t h) {
    sim_enter(call);
    if (!h) sim_fatal("%s: null handle", call);
    if (!h->stream) sim_fatal("%s: no stream was set", call);
    CUstream_st *stream = stream_get(call, h->stream);
    if (h->device != sim_device() || stream->device != h->device)
        sim_fatal("%s: handle of device %d, stream of device %d, current device %d", call,
            h->device, stream->device, sim_device());
    return stream;
}

// A convolution as its four descriptors tell it; true if they agree.
struct Shape {
    int n, h, w, c, size_h, size_w, out_h, out_w, k, pad_h, pad_w, stride_h, stride_w;
    size_t x() const { return (size_t)n * h * w * c; }
    size_t y() const { return (size_t)n * out_h * out_w * k; }
    size_t weights() const { return (size_t)k * size_h * size_w * c; }
};

static bool shape_of(const char *call, Shape &s, cudnnTensorDescriptor_t x,
    cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t y) {
    if (!x || !w || !conv || !y || !x->set || !w->set || !conv->set || !y->set)
        sim_fatal("%s: a descriptor that was not set", call);
    s = {x->n, x->h, x->w, x->c, w->h, w->w, y->h, y->w, y->c, conv->pad_h, conv->pad_w,
        conv->stride_h, conv->stride_w};
    int room_h = s.h + 2 * s.pad_h - s.size_h, room_w = s.w + 2 * s.pad_w - s.size_w;
    return w->c == x->c && w->k == y->c && x->n == y->n && room_h >= 0 && room_w >= 0 &&
           y->h == room_h / s.stride_h + 1 && y->w == room_w / s.stride_w + 1;
}

// As much as no one would guess: other sizes for the three, and an odd batch wants more than an even.
static size_t bytes_wanted(const Shape &s, int which) {
    size_t images = (size_t)s.n * (s.n % 2 ? 3 : 1), each = 52 + 4 * (size_t)which;
    return trouble() == GREEDY ? ((size_t)256 << 20) + 1 : 1000 + images * each;
}

static cudnnStatus_t size_tell(const char *call, cudnnHandle_t h, cudnnTensorDescriptor_t x,
    cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t y,
    int which, size_t *bytes) {
    Shape s;
    dnn_stream(call, h);
    if (!shape_of(call, s, x, w, conv, y)) sim_fatal("%s: descriptors that do not agree", call);
    if (trouble() == REFUSES) return CUDNN_STATUS_NOT_SUPPORTED;
    *bytes = bytes_wanted(s, which);
    return CUDNN_STATUS_SUCCESS;
}

// Calls run(x, w, y, n) for each row of a window that lies inside: n floats of x and of w meet the
// k floats at y; w advances by a whole filter from one of these to the next.
template <class Run> static void rows_meet(const Shape &s, Run run) {
    for (int b = 0; b < s.n; b++)
        for (int i = 0; i < s.out_h; i++)
            for (int j = 0; j < s.out_w; j++)
                for (int u = 0; u < s.size_h; u++) {
                    int row = i * s.stride_h - s.pad_h + u, left = j * s.stride_w - s.pad_w;
                    int v = std::max(0, -left), end = std::min(s.size_w, s.w - left);
                    if (row < 0 || row >= s.h || end <= v) continue;
                    run((((size_t)b * s.h + row) * s.w + left + v) * s.c,
                        ((size_t)u * s.size_w + v) * s.c,
                        (((size_t)b * s.out_h + i) * s.out_w + j) * s.k, (end - v) * s.c);
                }
}

static void forward(const Shape &s, float *y, const float *x, const float *w) {
    size_t filter = (size_t)s.size_h * s.size_w * s.c;
    std::vector<float> turned(s.weights()); // so that the inner loop has no sum
    for (size_t o = 0; o < (size_t)s.k; o++)
        for (size_t at = 0; at < filter; at++) turned[at * s.k + o] = w[o * filter + at];
    std::fill(y, y + s.y(), 0.0f);
    rows_meet(s, [&](size_t at, size_t tap, size_t out, int n) {
        for (int i = 0; i < n; i++)
            for (int o = 0; o < s.k; o++) y[out + o] += x[at + i] * turned[(tap + i) * s.k + o];
    });
}

static void backward_data(const Shape &s, float *dx, const float *dy, const float *w) {
    size_t filter = (size_t)s.size_h * s.size_w * s.c;
    std::fill(dx, dx + s.x(), 0.0f);
    rows_meet(s, [&](size_t at, size_t tap, size_t out, int n) {
        for (int o = 0; o < s.k; o++)
            for (int i = 0; i < n; i++) dx[at + i] += dy[out + o] * w[o * filter + tap + i];
    });
}

static void backward_filter(const Shape &s, float *dw, const float *dy, const float *x) {
    size_t filter = (size_t)s.size_h * s.size_w * s.c;
    std::fill(dw, dw + s.weights(), 0.0f);
    rows_meet(s, [&](size_t at, size_t tap, size_t out, int n) {
        for (int o = 0; o < s.k; o++)
            for (int i = 0; i < n; i++) dw[o * filter + tap + i] += dy[out + o] * x[at + i];
    });
}

// One of the three: to <- of(a, b), all of the sizes told. The workspace is left as NaN.
typedef void Pass(const Shape &s, float *to, const float *a, const float *b);
struct Operand {
    const char *name;
    const void *at;
    size_t n;
};

static cudnnStatus_t pass_push(const char *call, cudnnHandle_t h, const Shape &s, int which,
    Pass *pass, Operand to, Operand a, Operand b, const void *alpha, const void *beta,
    void *workspace, size_t bytes, cudnnMathType_t math) {
    CUstream_st *stream = dnn_stream(call, h);
    if (sim_faulted(h->device)) return CUDNN_STATUS_EXECUTION_FAILED;
    if (bytes < bytes_wanted(s, which)) return CUDNN_STATUS_BAD_PARAM;
    if (*(const float *)alpha != 1 || *(const float *)beta != 0) return CUDNN_STATUS_NOT_SUPPORTED;
    for (const Operand &o : {to, a, b})
        memory_check_device(call, o.name, o.at, o.n * sizeof(float), h->device);
    memory_check_device(call, "workspace", workspace, bytes, h->device);
    if ((uintptr_t)workspace % 256) sim_fatal("%s: the workspace is not aligned", call);
    calls++;
    tf32_calls += math != CUDNN_FMA_MATH;
    stream_push(stream, call, [=] {
        float *junk = (float *)workspace;
        std::fill(junk, junk + bytes / sizeof(float), NAN);
        pass(s, (float *)to.at, (const float *)a.at, (const float *)b.at);
    });
    return CUDNN_STATUS_SUCCESS;
}

extern "C" {

long cudasim_cudnn_calls(void) { return calls; }
long cudasim_cudnn_tf32_calls(void) { return tf32_calls; }

size_t cudnnGetVersion(void) { return trouble() == MISSING ? 0 : 90100; }

const char *cudnnGetErrorString(cudnnStatus_t status) {
    if (trouble() == MISSING) return "there is no simulated cuDNN: CUDASIM_CUDNN is 0";
    return status == CUDNN_STATUS_SUCCESS         ? "success"
           : status == CUDNN_STATUS_BAD_PARAM     ? "bad parameter"
           : status == CUDNN_STATUS_NOT_SUPPORTED ? "not supported"
                                                  : "failure";
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    sim_enter("cudnnCreate");
    if (trouble() == MISSING) return CUDNN_STATUS_NOT_INITIALIZED;
    if (sim_faulted(sim_device())) return CUDNN_STATUS_EXECUTION_FAILED;
    sim_handles++;
    *handle = new cudnnContext{sim_device(), nullptr};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    sim_handles -= handle != nullptr;
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t stream) {
    h->stream = stream;
    dnn_stream("cudnnSetStream", h);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *tensor) {
    sim_handles++;
    *tensor = new cudnnTensorStruct{};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor) {
    sim_handles -= tensor != nullptr;
    delete tensor;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t t, cudnnTensorFormat_t format,
    cudnnDataType_t type, int n, int c, int h, int w) {
    if (n < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    if (format != CUDNN_TENSOR_NHWC || type != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED;
    *t = {true, n, c, h, w};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *filter) {
    sim_handles++;
    *filter = new cudnnFilterStruct{};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filter) {
    sim_handles -= filter != nullptr;
    delete filter;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
    cudnnTensorFormat_t format, int k, int c, int h, int w) {
    if (k < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    if (format != CUDNN_TENSOR_NHWC || type != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED;
    *filter = {true, k, c, h, w};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *conv) {
    sim_handles++;
    *conv = new cudnnConvolutionStruct{};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t conv) {
    sim_handles -= conv != nullptr;
    delete conv;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t conv, int pad_h,
    int pad_w, int u, int v, int dilation_h, int dilation_w, cudnnConvolutionMode_t mode,
    cudnnDataType_t type) {
    if (pad_h < 0 || pad_w < 0 || u < 1 || v < 1) return CUDNN_STATUS_BAD_PARAM;
    if (dilation_h != 1 || dilation_w != 1 || mode != CUDNN_CROSS_CORRELATION ||
        type != CUDNN_DATA_FLOAT)
        return CUDNN_STATUS_NOT_SUPPORTED;
    *conv = {true, pad_h, pad_w, u, v, CUDNN_DEFAULT_MATH};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t conv, cudnnMathType_t type) {
    conv->math = type;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t h, cudnnTensorDescriptor_t x,
    cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t y,
    cudnnConvolutionFwdAlgo_t, size_t *bytes) {
    return size_tell("cudnnGetConvolutionForwardWorkspaceSize", h, x, w, conv, y, 0, bytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t h,
    cudnnFilterDescriptor_t w, cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t conv,
    cudnnTensorDescriptor_t dx, cudnnConvolutionBwdDataAlgo_t, size_t *bytes) {
    return size_tell("cudnnGetConvolutionBackwardDataWorkspaceSize", h, dx, w, conv, dy, 1, bytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t h,
    cudnnTensorDescriptor_t x, cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t conv,
    cudnnFilterDescriptor_t dw, cudnnConvolutionBwdFilterAlgo_t, size_t *bytes) {
    return size_tell(
        "cudnnGetConvolutionBackwardFilterWorkspaceSize", h, x, dw, conv, dy, 2, bytes);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t h, const void *alpha,
    cudnnTensorDescriptor_t of_x, const void *x, cudnnFilterDescriptor_t of_w, const void *w,
    cudnnConvolutionDescriptor_t conv, cudnnConvolutionFwdAlgo_t algo, void *workspace,
    size_t bytes, const void *beta, cudnnTensorDescriptor_t of_y, void *y) {
    static const char call[] = "cudnnConvolutionForward";
    Shape s;
    if (!shape_of(call, s, of_x, of_w, conv, of_y)) return CUDNN_STATUS_BAD_PARAM;
    if (algo != CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM) return CUDNN_STATUS_NOT_SUPPORTED;
    return pass_push(call, h, s, 0, forward, {"y", y, s.y()}, {"x", x, s.x()},
        {"w", w, s.weights()}, alpha, beta, workspace, bytes, conv->math);
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t h, const void *alpha,
    cudnnFilterDescriptor_t of_w, const void *w, cudnnTensorDescriptor_t of_dy, const void *dy,
    cudnnConvolutionDescriptor_t conv, cudnnConvolutionBwdDataAlgo_t algo, void *workspace,
    size_t bytes, const void *beta, cudnnTensorDescriptor_t of_dx, void *dx) {
    static const char call[] = "cudnnConvolutionBackwardData";
    Shape s;
    if (!shape_of(call, s, of_dx, of_w, conv, of_dy)) return CUDNN_STATUS_BAD_PARAM;
    if (algo != CUDNN_CONVOLUTION_BWD_DATA_ALGO_1) return CUDNN_STATUS_NOT_SUPPORTED;
    return pass_push(call, h, s, 1, backward_data, {"dx", dx, s.x()}, {"dy", dy, s.y()},
        {"w", w, s.weights()}, alpha, beta, workspace, bytes, conv->math);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t h, const void *alpha,
    cudnnTensorDescriptor_t of_x, const void *x, cudnnTensorDescriptor_t of_dy, const void *dy,
    cudnnConvolutionDescriptor_t conv, cudnnConvolutionBwdFilterAlgo_t algo, void *workspace,
    size_t bytes, const void *beta, cudnnFilterDescriptor_t of_dw, void *dw) {
    static const char call[] = "cudnnConvolutionBackwardFilter";
    Shape s;
    if (!shape_of(call, s, of_x, of_dw, conv, of_dy)) return CUDNN_STATUS_BAD_PARAM;
    if (algo != CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1) return CUDNN_STATUS_NOT_SUPPORTED;
    return pass_push(call, h, s, 2, backward_filter, {"dw", dw, s.weights()}, {"dy", dy, s.y()},
        {"x", x, s.x()}, alpha, beta, workspace, bytes, conv->math);
}

} // extern "C"
