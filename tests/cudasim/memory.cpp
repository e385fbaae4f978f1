// Allocations, copies and the memory checks of the simulated CUDA.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sim.h"

#include <csignal>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

// Each allocation has its own pages: [user bytes][guard bytes to the page end][no-access page].
// Freed ones stay mapped without access, so that a late use faults; QUARANTINE of them are kept.
constexpr size_t PAGE = 4096, GUARD_MIN = 64, QUARANTINE = 4096;
constexpr unsigned char GUARD = 0xa5, POISON = 0xff; // 0xff bytes are a NaN in every float type

struct Alloc {
    char *base;
    size_t size, mapped;
    int device; // or MEM_PINNED
    long number;
    bool freed, registered;
};

static std::mutex g_mutex;
static std::map<uintptr_t, Alloc> &g_allocs = *new std::map<uintptr_t, Alloc>();
static std::deque<uintptr_t> &g_quarantine = *new std::deque<uintptr_t>();
static size_t g_used[DEVICES_MAX], g_limit;
static long g_number, g_fail_at; // allocations so far, and the one that fails

static int g_key[DEVICES_MAX], g_devices; // protection key of a device's memory, or -1
static std::atomic<long> g_unpinned;
static struct sigaction g_old_action;
static thread_local int t_stream_device = -1;

struct Far { // memory of another device, an argument of the launch that this thread makes
    char *at;
    int device;
};
static thread_local std::vector<Far> t_far;
static thread_local bool t_host; // so is memory of the host

// ---- who may touch what (x86 protection keys, where the machine has them) ----

static void access_set(int device, bool allowed) {
    if (g_key[device] > 0) pkey_set(g_key[device], allowed ? 0 : PKEY_DISABLE_ACCESS);
}

void memory_access(int device, bool all) {
    for (int d = 0; d < g_devices; d++)
        access_set(d, all || d == device || (device >= 0 && sim_peer_enabled(device, d)));
}

void memory_access_none() { memory_access(-1, false); }

struct AccessAll { // for the runtime's own copies and checks
    AccessAll() { memory_access(0, true); }
    ~AccessAll() { memory_access(t_stream_device, false); }
};

// The allocation whose pages hold ptr, or null. g_mutex is held.
static Alloc *alloc_find(const void *ptr) {
    auto it = g_allocs.upper_bound((uintptr_t)ptr);
    if (it == g_allocs.begin()) return nullptr;
    Alloc *a = &(--it)->second;
    return (uintptr_t)ptr < (uintptr_t)a->base + a->mapped ? a : nullptr;
}

static std::string alloc_text(const Alloc &a) {
    char text[128];
    const char *where = a.device == MEM_PINNED ? "pinned host memory" : "device memory";
    snprintf(text, sizeof(text), "%s #%ld (%zu bytes", where, a.number, a.size);
    std::string result = text;
    return result + (a.device >= 0 ? ", device " + std::to_string(a.device) + ")" : ")");
}

static void fault(int signal, siginfo_t *info, void *context) {
    char where[200];
    kernel_where(where, sizeof(where));
    if (!*where && sim_op_name()) snprintf(where, sizeof(where), " in \"%s\"", sim_op_name());
    std::unique_lock<std::mutex> lock(g_mutex, std::try_to_lock);
    Alloc *a = lock.owns_lock() ? alloc_find(info->si_addr) : nullptr;
    if (a) {
        const char *what = a->freed                                     ? "use of freed"
                           : (char *)info->si_addr >= a->base + a->size ? "access past the end of"
                           : t_stream_device >= 0 && sim_op_name()
                               ? "access without peer access (or from a host function) to"
                               : "host code touches";
        sim_fatal("illegal access%s: %s %s", where, what, alloc_text(*a).c_str());
    }
    if (*where) fprintf(stderr, "cudasim: illegal address %p%s\n", info->si_addr, where);
    if (g_old_action.sa_flags & SA_SIGINFO) return g_old_action.sa_sigaction(signal, info, context);
    sigaction(SIGSEGV, &g_old_action, nullptr);
}

void memory_init(int device_count) {
    g_devices = device_count;
    g_limit = (size_t)sim_env("CUDASIM_MEM_MB", 8192) << 20;
    for (int d = 0; d < device_count; d++)
        g_key[d] = sim_env("CUDASIM_PKEYS", 1) ? pkey_alloc(0, PKEY_DISABLE_ACCESS) : -1;
    struct sigaction action = {};
    action.sa_sigaction = fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &g_old_action);
}

// A fault on the stack of a simulated thread needs another stack to be told on.
struct SignalStack {
    stack_t own = {};
    SignalStack() {
        stack_t before;
        if (sigaltstack(nullptr, &before) == 0 && !(before.ss_flags & SS_DISABLE)) return;
        own.ss_size = 64 << 10;
        own.ss_sp =
            mmap(nullptr, own.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        sigaltstack(&own, nullptr);
    }
    ~SignalStack() {
        if (!own.ss_sp) return;
        stack_t none = {};
        none.ss_flags = SS_DISABLE;
        sigaltstack(&none, nullptr);
        munmap(own.ss_sp, own.ss_size);
    }
};

void memory_enter(int device) {
    static thread_local SignalStack stack;
    (void)stack;
    t_stream_device = device;
    memory_access(device, false);
}

void memory_leave() {
    t_stream_device = -1;
    memory_access_none();
}

// ---- checks ----

int memory_check(const char *call, const void *ptr, size_t n) {
    std::lock_guard<std::mutex> lock(g_mutex);
    Alloc *a = alloc_find(ptr);
    if (!a) return MEM_HOST;
    size_t offset = (size_t)((const char *)ptr - a->base);
    if (a->freed) sim_fatal("%s: use of freed %s", call, alloc_text(*a).c_str());
    if (offset + n > a->size)
        sim_fatal("%s: %zu bytes at offset %zu run past the end of %s", call, n, offset,
            alloc_text(*a).c_str());
    return a->device;
}

void memory_check_device(
    const char *call, const char *what, const void *ptr, size_t n, int device) {
    int at = memory_check(call, ptr, n);
    if (at == MEM_HOST) sim_fatal("%s: %s %p is not device memory", call, what, ptr);
    if (at >= 0 && at != device && !sim_peer_enabled(device, at))
        sim_fatal("%s: %s is memory of device %d, used on device %d without peer access", call,
            what, at, device);
}

void memory_check_arg(
    const CudasimLaunch &launch, int device, int index, const void *word, bool is_pointer) {
    std::lock_guard<std::mutex> lock(g_mutex);
    Alloc *a = alloc_find(word);
    if (!a && is_pointer && word)
        sim_fatal("kernel %s: argument %d (%p) points to no device or pinned memory", launch.name,
            index, word);
    if (a && a->freed)
        sim_fatal("kernel %s: argument %d points to freed %s", launch.name, index,
            alloc_text(*a).c_str());
    if (a && a->device >= 0 && a->device != device && !sim_peer_enabled(device, a->device))
        sim_fatal("kernel %s on device %d: argument %d points to %s without peer access",
            launch.name, device, index, alloc_text(*a).c_str());
    if (a && a->device >= 0 && a->device != device)
        t_far.push_back(Far{(char *)(uintptr_t)word, a->device});
    t_host = t_host || (a && a->device == MEM_PINNED);
}

// ---- what goes wrong between devices ----

static void hang(int device, int peer) {
    while (sim_peer_trouble(device, peer) & CUDASIM_PEER_HANGS) usleep(1000);
}

void memory_far_clear() {
    t_far.clear();
    t_host = false;
}

// After a rest of so many microseconds as the setting says: a bus that is slow.
static Work slowed(const char *setting, Work run) {
    long us = sim_env(setting, 0);
    if (us <= 0) return run;
    return [us, run = std::move(run)] {
        usleep((useconds_t)us);
        run();
    };
}

Work memory_far_trouble(int device, Work run) {
    if (t_host) run = slowed("CUDASIM_HOST_KERNEL_US", std::move(run));
    if (t_far.empty()) return run;
    return [device, far = t_far, run = std::move(run)] {
        auto flip = [&](int trouble) {
            for (const Far &f : far)
                if (sim_peer_trouble(device, f.device) & trouble) *f.at ^= 1;
        };
        for (const Far &f : far) hang(device, f.device);
        flip(CUDASIM_PEER_READS);
        std::vector<char> before;
        for (const Far &f : far) before.push_back(*f.at);
        run();
        for (size_t i = 0; i < far.size(); i++) // back, unless the kernel wrote there
            if (sim_peer_trouble(device, far[i].device) & CUDASIM_PEER_READS)
                if (*far[i].at == before[i]) *far[i].at ^= 1;
        flip(CUDASIM_PEER_WRITES);
    };
}

// ---- allocation ----

// Large allocations begin as private copies of one chunk of poison, and become zero as fresh pages:
// what a program never touches, such as most of a workspace, costs nothing.
constexpr size_t CHUNK = 256 << 10;

static int poison_file() {
    static int file = [] {
        int fd = memfd_create("cudasim poison", MFD_CLOEXEC);
        std::vector<char> poison(CHUNK, (char)POISON);
        return fd >= 0 && write(fd, poison.data(), CHUNK) == (ssize_t)CHUNK ? fd : -1;
    }();
    return file;
}

// Lends poison for the first chunks; the bytes that it covers.
static size_t poison_lend(char *base, size_t size) {
    size_t lent = 0;
    for (; size - lent >= CHUNK && poison_file() >= 0; lent += CHUNK)
        if (mmap(base + lent, CHUNK, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, poison_file(), 0) == MAP_FAILED)
            break;
    return lent;
}

// Zeros the whole pages of a device's memory, if they are many; the bytes from `at` that it did.
static size_t zero_pages(char *at, size_t n, int key) {
    size_t whole = (uintptr_t)at % PAGE == 0 && n >= CHUNK ? n / PAGE * PAGE : 0;
    if (!whole || mmap(at, whole, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return 0;
    if (key > 0) pkey_mprotect(at, whole, PROT_READ | PROT_WRITE, key);
    return whole;
}

static cudaError_t alloc_new(void **out, size_t size, int device) {
    if (!out) return sim_return(cudaErrorInvalidValue);
    *out = nullptr;
    if (device >= 0 && sim_faulted(device)) return sim_return(cudaErrorIllegalAddress);
    if (size == 0) return cudaSuccess;
    std::unique_lock<std::mutex> lock(g_mutex);
    long number = ++g_number;
    if (number == g_fail_at || size > g_limit || (device >= 0 && g_used[device] + size > g_limit))
        return sim_return(cudaErrorMemoryAllocation);
    lock.unlock();
    size_t data = (size + GUARD_MIN + PAGE - 1) / PAGE * PAGE, mapped = data + PAGE;
    char *base = (char *)mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return sim_return(cudaErrorMemoryAllocation);
    ASAN_UNPOISON_MEMORY_REGION(base, mapped);
    size_t lent = poison_lend(base, size);
    memset(base + lent, POISON, size - lent);
    memset(base + size, GUARD, data - size);
    ASAN_POISON_MEMORY_REGION(base + size, data - size);
    mprotect(base + data, PAGE, PROT_NONE);
    if (device >= 0 && g_key[device] > 0)
        pkey_mprotect(base, data, PROT_READ | PROT_WRITE, g_key[device]);
    lock.lock();
    if (device >= 0) g_used[device] += size;
    g_allocs[(uintptr_t)base] = Alloc{base, size, mapped, device, number, false, false};
    *out = base;
    return cudaSuccess;
}

static void alloc_guard_check(const char *call, const Alloc &a) {
    ASAN_UNPOISON_MEMORY_REGION(a.base + a.size, a.mapped - PAGE - a.size);
    AccessAll access;
    for (char *p = a.base + a.size; p < a.base + a.mapped - PAGE; p++)
        if ((unsigned char)*p != GUARD)
            sim_fatal("%s: byte %zu after the end of %s was overwritten", call,
                (size_t)(p - a.base) - a.size, alloc_text(a).c_str());
}

static void alloc_check(const char *call, void *ptr, bool host) {
    std::lock_guard<std::mutex> lock(g_mutex);
    Alloc *a = alloc_find(ptr);
    if (!a || a->base != ptr || (a->device == MEM_PINNED) != host || a->registered)
        sim_fatal("%s: %p is not the start of an allocation of this kind", call, ptr);
    if (a->freed) sim_fatal("%s: freed twice: %s", call, alloc_text(*a).c_str());
}

static void alloc_free(const char *call, void *ptr) {
    std::lock_guard<std::mutex> lock(g_mutex);
    Alloc *a = alloc_find(ptr);
    if (a->freed) sim_fatal("%s: freed twice: %s", call, alloc_text(*a).c_str());
    alloc_guard_check(call, *a);
    if (a->device >= 0) g_used[a->device] -= a->size;
    a->freed = true;
    mmap(a->base, a->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
        0);
    g_quarantine.push_back((uintptr_t)a->base);
    if (g_quarantine.size() > QUARANTINE) {
        Alloc &old = g_allocs[g_quarantine.front()];
        munmap(old.base, old.mapped);
        g_allocs.erase(g_quarantine.front());
        g_quarantine.pop_front();
    }
}

long memory_live(bool report) {
    std::lock_guard<std::mutex> lock(g_mutex);
    long count = 0;
    for (auto &entry : g_allocs) {
        if (entry.second.freed || entry.second.registered) continue;
        if (report) {
            fprintf(stderr, "cudasim: leak: %s\n", alloc_text(entry.second).c_str());
            alloc_guard_check("exit", entry.second);
        }
        count++;
    }
    return count;
}

extern "C" {

long cudasim_unpinned_count(void) { return g_unpinned; }

void cudasim_fail_malloc(long nth) {
    std::lock_guard<std::mutex> lock(g_mutex);
    g_fail_at = nth ? g_number + nth : 0;
}

cudaError_t cudaMalloc(void **ptr, size_t size) {
    sim_enter("cudaMalloc");
    return alloc_new(ptr, size, sim_device());
}

cudaError_t cudaHostAlloc(void **ptr, size_t size, unsigned) {
    sim_enter("cudaHostAlloc");
    return alloc_new(ptr, size, MEM_PINNED);
}

cudaError_t cudaFree(void *ptr) {
    sim_enter("cudaFree");
    if (!ptr) return cudaSuccess;
    alloc_check("cudaFree", ptr, false);
    device_wait_all(memory_check("cudaFree", ptr, 0));
    alloc_free("cudaFree", ptr);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *ptr) {
    sim_enter("cudaFreeHost");
    if (!ptr) return cudaSuccess;
    alloc_check("cudaFreeHost", ptr, true);
    for (int d = 0; d < g_devices; d++) device_wait_all(d);
    alloc_free("cudaFreeHost", ptr);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *ptr, size_t size, unsigned) {
    sim_enter("cudaHostRegister");
    std::lock_guard<std::mutex> lock(g_mutex);
    if (alloc_find(ptr)) return sim_return(cudaErrorHostMemoryAlreadyRegistered);
    g_allocs[(uintptr_t)ptr] = Alloc{(char *)ptr, size, size, MEM_PINNED, ++g_number, false, true};
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *ptr) {
    sim_enter("cudaHostUnregister");
    std::lock_guard<std::mutex> lock(g_mutex);
    auto it = g_allocs.find((uintptr_t)ptr);
    if (it == g_allocs.end() || !it->second.registered)
        return sim_return(cudaErrorHostMemoryNotRegistered);
    g_allocs.erase(it);
    return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned) {
    sim_enter("cudaHostGetDevicePointer");
    if (memory_check("cudaHostGetDevicePointer", host, 0) != MEM_PINNED)
        return sim_return(cudaErrorInvalidValue);
    *device = host;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attr, const void *ptr) {
    sim_enter("cudaPointerGetAttributes");
    int at = memory_check("cudaPointerGetAttributes", ptr, 0);
    attr->type = at == MEM_HOST     ? cudaMemoryTypeUnregistered
                 : at == MEM_PINNED ? cudaMemoryTypeHost
                                    : cudaMemoryTypeDevice;
    attr->device = at >= 0 ? at : 0;
    attr->devicePointer = at == MEM_HOST ? nullptr : (void *)ptr;
    attr->hostPointer = at >= 0 ? nullptr : (void *)ptr;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    sim_enter("cudaMemGetInfo");
    std::lock_guard<std::mutex> lock(g_mutex);
    *total_bytes = g_limit;
    *free_bytes = g_limit - g_used[sim_device()];
    return cudaSuccess;
}

// ---- copies ----

static void copy_work(void *dst, const void *src, size_t n) {
    AccessAll access;
    memmove(dst, src, n);
}

// A copy between two devices, one of them the stream's. Without peer access it goes by the host.
static void copy_far(int device, int peer, void *dst, const void *src, size_t n) {
    if (sim_peer_enabled(device, peer)) hang(device, peer);
    copy_work(dst, src, n);
    AccessAll access;
    if (sim_peer_enabled(device, peer) && sim_peer_trouble(device, peer) & CUDASIM_PEER_COPIES)
        ((char *)dst)[n / 2] ^= 1;
}

// Pushes a copy. As on a GPU, a pageable source is staged before the call returns, and a copy to a
// pageable destination, or between two places of the host, has completed when it returns.
static cudaError_t copy_push(const char *call, void *dst, const void *src, size_t n,
    cudaMemcpyKind kind, cudaStream_t handle) {
    static const char *const kinds[] = {
        "HostToHost", "HostToDevice", "DeviceToHost", "DeviceToDevice", "Default"};
    sim_enter(call);
    CUstream_st *stream = stream_get(call, handle);
    if ((unsigned)kind > cudaMemcpyDefault) return sim_return(cudaErrorInvalidMemcpyDirection);
    if (sim_faulted(stream->device)) return sim_return(cudaErrorIllegalAddress);
    if (n == 0) return cudaSuccess;
    int to = memory_check(call, dst, n), from = memory_check(call, src, n);
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind != cudaMemcpyDefault && (from >= 0) != from_device)
        sim_fatal("%s: source is %s memory but the direction is %s", call,
            from >= 0 ? "device" : "host", kinds[kind]);
    if (kind != cudaMemcpyDefault && (to >= 0) != to_device)
        sim_fatal("%s: destination is %s memory but the direction is %s", call,
            to >= 0 ? "device" : "host", kinds[kind]);
    bool pageable = to == MEM_HOST || from == MEM_HOST;
    if (pageable) {
        g_unpinned++;
        if (sim_env("CUDASIM_UNPINNED_FATAL", 0))
            sim_fatal("%s: %s host memory is not pinned", call,
                from == MEM_HOST ? "source" : "destination");
    }
    if (from == MEM_HOST && to >= 0 && !stream->capture) {
        auto staged = std::make_shared<std::vector<char>>((const char *)src, (const char *)src + n);
        stream_push(stream, call, [=] { copy_work(dst, staged->data(), n); });
        return cudaSuccess;
    }
    int near = stream->device, peer = to >= 0 && to != near ? to : from;
    if (to >= 0 && from >= 0 && peer != near)
        stream_push(stream, call, [=] { copy_far(near, peer, dst, src, n); });
    else if (to >= 0 && from >= 0)
        stream_push(stream, call, [=] { copy_work(dst, src, n); });
    else
        stream_push(stream, call, slowed("CUDASIM_HOST_COPY_US", [=] { copy_work(dst, src, n); }));
    if (!stream->capture && (to == MEM_HOST || (to < 0 && from < 0))) stream_wait_all(stream);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(
    void *dst, const void *src, size_t n, cudaMemcpyKind kind, cudaStream_t stream) {
    return copy_push("cudaMemcpyAsync", dst, src, n, kind, stream);
}

static void peer_check(const char *call, const char *what, const void *ptr, size_t n, int device) {
    int at = memory_check(call, ptr, n);
    if (n && at != device)
        sim_fatal("%s: %s is not memory of device %d as the call says", call, what, device);
}

cudaError_t cudaMemcpyPeerAsync(
    void *dst, int dst_dev, const void *src, int src_dev, size_t n, cudaStream_t stream) {
    sim_enter("cudaMemcpyPeerAsync");
    peer_check("cudaMemcpyPeerAsync", "destination", dst, n, dst_dev);
    peer_check("cudaMemcpyPeerAsync", "source", src, n, src_dev);
    return copy_push("cudaMemcpyPeerAsync", dst, src, n, cudaMemcpyDefault, stream);
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t n, cudaStream_t handle) {
    sim_enter("cudaMemsetAsync");
    CUstream_st *stream = stream_get("cudaMemsetAsync", handle);
    if (sim_faulted(stream->device)) return sim_return(cudaErrorIllegalAddress);
    if (n == 0) return cudaSuccess;
    memory_check_device("cudaMemsetAsync", "destination", dst, n, stream->device);
    stream_push(stream, "cudaMemsetAsync", [=, key = g_key[stream->device]] {
        size_t done = value == 0 ? zero_pages((char *)dst, n, key) : 0;
        memset((char *)dst + done, value, n - done);
    });
    return cudaSuccess;
}

} // extern "C"
