/* Device side of the simulated CUDA: what a .cu file sees, and the launch. C++17 only. */
#ifndef CUDASIM_DEVICE_H
#define CUDASIM_DEVICE_H

#include <math.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
/* Function-scope arrays become per-stream-thread statics; a stream runs one block at a time. The
 * dynamic array is the external thread-local object named CUDASIM_DYNAMIC_NAME (exec.cpp). */
#define __shared__ thread_local

struct CudasimSelf {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
    unsigned int next, count; /* threads of this block started so far, and in all */
    bool slow;                /* a barrier was met, or the thread order is not the natural one */
};
extern __thread CudasimSelf cudasim_self;

#define threadIdx (cudasim_self.thread)
#define blockIdx (cudasim_self.block)
#define blockDim (cudasim_self.block_dim)
#define gridDim (cudasim_self.grid_dim)
static constexpr int warpSize = 32;

/* ---- launch ---- */

struct CudasimLaunch {
    const char *name;
    const void *func;
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
};

bool cudasim_thread_next_slow(void);
bool cudasim_launch_begin(const CudasimLaunch &launch);
void cudasim_arg_check(
    const CudasimLaunch &launch, int index, const void *arg, size_t size, bool is_pointer);
void cudasim_launch_push(const CudasimLaunch &launch, std::function<void()> threads_run);

/* Runs threads of the block as plain calls until none is left to start. Once a thread has met a
 * barrier, the choice of the next one is left to cudasim_thread_next_slow(). */
template <class F> inline void cudasim_threads_run(const F &kernel) {
    CudasimSelf *s = &cudasim_self;
    const dim3 dim = s->block_dim;
    unsigned int next = 0;
    for (unsigned int z = 0; z < dim.z && !s->slow; z++)
        for (unsigned int y = 0; y < dim.y && !s->slow; y++)
            for (unsigned int x = 0; x < dim.x && !s->slow; x++) {
                s->next = ++next;
                s->thread = uint3{x, y, z};
                kernel();
            }
    while (s->slow && cudasim_thread_next_slow()) kernel();
}

/* What lies between the members of an argument is left over from something else, and may look like a
 * pointer that is none. */
template <class A> inline void cudasim_padding_clear(A &arg) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
    __builtin_clear_padding(&arg);
#endif
#endif
    (void)arg;
}

template <class F, class... A>
inline void cudasim_launch(const CudasimLaunch &launch, F kernel, A... args) {
    if (!cudasim_launch_begin(launch)) return;
    int index = 0;
    (cudasim_padding_clear(args), ...);
    (cudasim_arg_check(launch, index++, &args, sizeof(args), std::is_pointer<A>::value), ...);
    cudasim_launch_push(
        launch, [kernel, args...] { cudasim_threads_run([&] { kernel(args...); }); });
}

#define CUDASIM_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                             \
    cudasim_launch(                                                                                \
        CudasimLaunch{                                                                             \
            #kernel, (const void *)(kernel), grid, block, (size_t)(shared_bytes), stream},         \
        [](auto... args) { (kernel)(args...); }, ##__VA_ARGS__)

/* ---- barriers and warp operations ---- */

enum CudasimWarpOp { CUDASIM_SYNCWARP, CUDASIM_SHFL, CUDASIM_BALLOT };
void cudasim_block_wait(void);
uint64_t cudasim_warp_exchange(CudasimWarpOp op, unsigned int mask, uint64_t value, int src);
unsigned int cudasim_lane(void);

static inline void __syncthreads(void) { cudasim_block_wait(); }
static inline void __syncwarp(unsigned int mask = 0xffffffffu) {
    cudasim_warp_exchange(CUDASIM_SYNCWARP, mask, 0, 0);
}
static inline unsigned int __ballot_sync(unsigned int mask, int pred) {
    return (unsigned int)cudasim_warp_exchange(CUDASIM_BALLOT, mask, pred != 0, 0);
}
static inline int __any_sync(unsigned int mask, int pred) { return __ballot_sync(mask, pred) != 0; }
static inline int __all_sync(unsigned int mask, int pred) {
    return __ballot_sync(mask, !pred) == 0;
}

template <class T> inline T cudasim_shfl(unsigned int mask, T value, int src) {
    static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = cudasim_warp_exchange(CUDASIM_SHFL, mask, bits, src);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}
template <class T> inline T __shfl_sync(unsigned int mask, T value, int src, int width = 32) {
    int lane = (int)cudasim_lane();
    return cudasim_shfl(mask, value, (lane & ~(width - 1)) | (src & (width - 1)));
}
template <class T>
inline T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = 32) {
    int lane = (int)cudasim_lane(), src = lane - (int)delta;
    return cudasim_shfl(mask, value, src < (lane & ~(width - 1)) ? lane : src);
}
template <class T>
inline T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = 32) {
    int lane = (int)cudasim_lane(), src = lane + (int)delta;
    return cudasim_shfl(mask, value, (lane & (width - 1)) + (int)delta >= width ? lane : src);
}
template <class T> inline T __shfl_xor_sync(unsigned int mask, T value, int flip, int width = 32) {
    int lane = (int)cudasim_lane(), src = lane ^ flip;
    return cudasim_shfl(mask, value, src > (lane | (width - 1)) ? lane : src);
}

static inline void __threadfence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block(void) {}

/* ---- atomics: really atomic, since streams and devices run on different threads ---- */

template <class T> inline T cudasim_atomic_add(T *p, T v) {
    T old, sum;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do sum = old + v;
    while (!__atomic_compare_exchange(p, &old, &sum, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}
static inline float atomicAdd(float *p, float v) { return cudasim_atomic_add(p, v); }
static inline double atomicAdd(double *p, double v) { return cudasim_atomic_add(p, v); }
static inline int atomicAdd(int *p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
static inline unsigned int atomicAdd(unsigned int *p, unsigned int v) {
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
static inline unsigned long long atomicAdd(unsigned long long *p, unsigned long long v) {
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
template <class T> inline T cudasim_atomic_select(T *p, T v, bool want_max) {
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while ((want_max ? v > old : v < old) &&
           !__atomic_compare_exchange_n(p, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}
template <class T> inline T atomicMax(T *p, T v) { return cudasim_atomic_select(p, v, true); }
template <class T> inline T atomicMin(T *p, T v) { return cudasim_atomic_select(p, v, false); }
template <class T> inline T atomicCAS(T *p, T expected, T desired) {
    __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
template <class T> inline T atomicExch(T *p, T v) {
    T old;
    __atomic_exchange(p, &v, &old, __ATOMIC_RELAXED);
    return old;
}

/* ---- arithmetic ---- */

template <class T> inline T __ldg(const T *p) { return *p; }

static inline float2 make_float2(float x, float y) { return float2{x, y}; }
static inline float3 make_float3(float x, float y, float z) { return float3{x, y, z}; }
static inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return int2{x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return int4{x, y, z, w}; }
static inline uint2 make_uint2(unsigned int x, unsigned int y) { return uint2{x, y}; }
static inline uint3 make_uint3(unsigned int x, unsigned int y, unsigned int z) {
    return uint3{x, y, z};
}
static inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) {
    return uint4{x, y, z, w};
}
static inline double2 make_double2(double x, double y) { return double2{x, y}; }
static inline uchar4 make_uchar4(
    unsigned char x, unsigned char y, unsigned char z, unsigned char w) {
    return uchar4{x, y, z, w};
}

template <class To, class From> inline To cudasim_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}
static inline float __int_as_float(int v) { return cudasim_bits<float>(v); }
static inline float __uint_as_float(unsigned int v) { return cudasim_bits<float>(v); }
static inline int __float_as_int(float v) { return cudasim_bits<int>(v); }
static inline unsigned int __float_as_uint(float v) { return cudasim_bits<unsigned int>(v); }
static inline int __popc(unsigned int v) { return __builtin_popcount(v); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned int)v) : 32; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline unsigned int __umulhi(unsigned int a, unsigned int b) {
    return (unsigned int)(((uint64_t)a * b) >> 32);
}
static inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
static inline double rsqrt(double v) { return 1.0 / std::sqrt(v); }
/* Macros, since the C library declares functions of these names. */
#define __expf(v) expf(v)
#define __logf(v) logf(v)
#define __powf(a, b) powf(a, b)
#define __sinf(v) sinf(v)
#define __cosf(v) cosf(v)
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float v) { return 1.0f / v; }
static inline float __fsqrt_rn(float v) { return std::sqrt(v); }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float __saturatef(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }
template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return a < b ? b : a; }

#endif
