// Internal interfaces of the simulated CUDA runtime.
#ifndef CUDASIM_SIM_H
#define CUDASIM_SIM_H

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_runtime.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#elif __has_feature(thread_sanitizer)
#define SIM_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define SIM_TSAN 1
#endif

constexpr int DEVICES_MAX = 16;
constexpr size_t SHARED_DEFAULT = 48 << 10, SHARED_MAX = 227 << 10;

// ---- runtime.cpp: process state, streams ----

typedef std::function<void()> Work;

// A point in a stream: reached once `seq` operations of it have completed.
struct Dep {
    CUstream_st *stream;
    uint64_t seq;
};

struct Op {
    const char *name;
    Work run;
    std::vector<Dep> deps;
};

// One captured operation; a lane is one captured stream, lane 0 the one that began the capture.
struct Node {
    int lane;
    const char *name;
    Work run;
    std::vector<int> deps;
};

struct CUgraph_st {
    std::vector<Node> nodes;
    std::vector<CUstream_st *> lanes;
    std::vector<int> end_deps;
    cudaStreamCaptureMode mode;
    bool invalid = false;
};

struct CUgraphExec_st {
    CUgraph_st graph;
    std::vector<CUstream_st *> lanes; // internal streams that replay lanes 1, 2, ...
};

// Streams are never deleted, so a stale handle can be told from a live one.
struct CUstream_st {
    int device = 0;
    std::atomic<bool> destroyed{false};
    bool started = false; // its own thread
    bool woken = false;   // its own thread is to run what is in the queue
    bool running = false; // a thread, its own or one that waits, runs what is in the queue
    uint64_t random = 0, looked = 0;
    std::mutex mutex;
    std::condition_variable work, done;
    std::deque<Op> queue;
    uint64_t submitted = 0, completed = 0;
    uint64_t wanted = ~0ull; // how many completed ones those who sleep wait for, at least
    CUgraph_st *capture = nullptr;
    int lane = 0;
    std::vector<int> capture_deps;
};

struct EventRecord {
    Dep at{};
    CUgraph_st *graph = nullptr; // recorded while capturing: the node that marks it
    int node = -1;
    std::chrono::steady_clock::time_point time;
};

struct CUevent_st {
    int device = 0;
    unsigned flags = 0;
    bool destroyed = false;
    std::mutex mutex;
    std::shared_ptr<EventRecord> record;
};

[[noreturn]] void sim_fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));
long sim_env(const char *name, long otherwise);
int sim_device_count();
int sim_device();
extern std::atomic<long> sim_handles; // of cuBLAS and NCCL, and graphs, not given back
bool sim_faulted(int device);         // a kernel has failed there
bool sim_peer_enabled(int device, int peer);
unsigned sim_peer_generation();
int sim_peer_trouble(int device, int peer); // enum cudasim_trouble
void sim_enter(const char *call);           // fatal inside a host callback
cudaError_t sim_return(cudaError_t error);  // remembers a failure as the last error
const char *sim_op_name();                  // operation running on this stream thread, or null
uint64_t sim_random(uint64_t &state);

CUstream_st *stream_get(const char *call, cudaStream_t stream);
void stream_push(CUstream_st *stream, const char *name, Work run, std::vector<Dep> deps = {});
void stream_order(CUstream_st *first, CUstream_st *then); // `then` continues after `first` so far
void stream_wait_all(CUstream_st *stream);
void device_wait_all(int device);

// ---- memory.cpp ----

constexpr int MEM_HOST = -1, MEM_PINNED = -2; // what memory_check returns besides a device

int memory_check(const char *call, const void *ptr, size_t n);
void memory_check_device(const char *call, const char *what, const void *ptr, size_t n, int device);
void memory_check_arg(
    const CudasimLaunch &launch, int device, int index, const void *word, bool is_pointer);
void memory_far_clear(); // the launch to come has named no other device's memory yet
Work memory_far_trouble(int device, Work run); // run, with the trouble that such memory makes
void memory_enter(int device);                 // this thread runs an operation of that device
void memory_leave();
void memory_access(int device, bool all); // which devices' memory this thread may touch
void memory_access_none();
void memory_init(int device_count);
long memory_live(bool report); // allocations that were not given back

// ---- exec.cpp ----

void kernel_run(const CudasimLaunch &launch, const Work &threads_run);
void kernel_where(char *text, size_t size); // " in kernel K, block (..), thread (..)" or ""

#endif
