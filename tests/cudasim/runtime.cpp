// Devices, streams, events, graphs and error state of the simulated CUDA.
#include "sim.h"

#include <algorithm>
#include <cstdarg>
#include <cstring>
#include <thread>
#include <unistd.h>
#include <unordered_set>

using Clock = std::chrono::steady_clock;

struct State {
    std::mutex mutex; // guards what follows it; never held while a stream's mutex is wanted
    std::vector<CUstream_st *> streams;     // that are not destroyed, or have work left
    std::unordered_set<const void *> known; // all streams and events that ever were
    uint64_t numbered = 0;                  // streams
    pid_t pumped = 0;                       // the process that has the thread `pump`
    int device_count, jitter_us;
    uint64_t seed;
    std::atomic<bool> faulted[DEVICES_MAX];
    std::atomic<bool> peer[DEVICES_MAX][DEVICES_MAX];
    std::atomic<int> trouble[DEVICES_MAX][DEVICES_MAX]; // enum cudasim_trouble
    std::atomic<unsigned> peer_generation;
    std::atomic<int> captures_global;
    std::atomic<long> host_waits, graph_launches, fail_capture;
};

std::atomic<long> sim_handles;
static thread_local int t_device;
static thread_local cudaError_t t_last_error = cudaSuccess;
static thread_local const char *t_op_name;
static thread_local int t_captures;

void sim_fatal(const char *format, ...) {
    char text[700];
    va_list args;
    va_start(args, format);
    int n = snprintf(text, sizeof(text), "cudasim: fatal: ");
    n += vsnprintf(text + n, sizeof(text) - n - 1, format, args);
    va_end(args);
    n = n < (int)sizeof(text) - 2 ? n : (int)sizeof(text) - 2;
    text[n++] = '\n';
    if (write(2, text, n) < 0) abort();
    abort();
}

long sim_env(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtol(text, nullptr, 0) : otherwise;
}

uint64_t sim_random(uint64_t &state) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

State *sim_state();

static void leak_report() {
    long handles = sim_handles, memory = memory_live(true);
    if (handles)
        fprintf(stderr, "cudasim: leak: %ld streams, events, graphs, handles and communicators\n",
            handles);
    if ((memory || handles) && sim_env("CUDASIM_LEAKS", 0) > 1) abort();
}

State *sim_state() {
    static State *state = [] {
        State *s = new State();
        long count = sim_env("CUDASIM_DEVICES", 4);
        s->device_count = count < 0 ? 0 : count > DEVICES_MAX ? DEVICES_MAX : (int)count;
        s->jitter_us = (int)sim_env("CUDASIM_JITTER_US", 0);
        s->seed = (uint64_t)sim_env("CUDASIM_SEED", 1);
        long bad = sim_env("CUDASIM_PEER_BAD", 0);
        if (bad > 0 && bad / 100 < DEVICES_MAX && bad % 100 < DEVICES_MAX)
            s->trouble[bad / 100][bad % 100] = CUDASIM_PEER_COPIES;
        memory_init(s->device_count);
        if (sim_env("CUDASIM_LEAKS", 0)) atexit(leak_report);
        return s;
    }();
    return state;
}

int sim_device_count() { return sim_state()->device_count; }
int sim_device() { return t_device; }
bool sim_faulted(int device) { return sim_state()->faulted[device]; }
bool sim_peer_enabled(int device, int peer) { return sim_state()->peer[device][peer]; }
int sim_peer_trouble(int device, int peer) { return sim_state()->trouble[device][peer]; }
unsigned sim_peer_generation() { return sim_state()->peer_generation; }
const char *sim_op_name() { return t_op_name; }

void sim_enter(const char *call) {
    if (t_op_name)
        sim_fatal("%s: called on a stream thread, inside \"%s\" (cudaErrorNotPermitted)", call,
            t_op_name);
    sim_state();
}

cudaError_t sim_return(cudaError_t error) {
    if (error != cudaSuccess && error != cudaErrorNotReady) t_last_error = error;
    return error;
}

static bool device_bad(int device) { return device < 0 || device >= sim_state()->device_count; }

// True when a call that would synchronise is made while this thread (or, for a capture in global
// mode, any thread) captures; the call must then fail, as it does on a GPU.
static bool capture_forbids() { return t_captures > 0 || sim_state()->captures_global > 0; }

// ---- streams ----

// Some operations come earlier than they must, and some are delayed.
constexpr unsigned EAGER = 16, DELAYS = 64, PUMP_US = 1000;

static void dep_wait(const Dep &dep);

// Those who wait look again. The stream's mutex is held.
static void stream_tell(CUstream_st *stream) {
    if (stream->wanted == ~0ull) return;
    stream->wanted = ~0ull;
    stream->done.notify_all();
}

// Runs the first operation of the queue. The caller is who runs this stream, and holds its mutex.
static void stream_step(CUstream_st *stream, std::unique_lock<std::mutex> &lock, unsigned share) {
    unsigned jitter = (unsigned)sim_state()->jitter_us;
    uint64_t random = jitter > 0 ? sim_random(stream->random) : 0;
    Op op = std::move(stream->queue.front());
    stream->queue.pop_front();
    lock.unlock();
    for (const Dep &dep : op.deps) dep_wait(dep);
    if (jitter > 0 && random % share == 0) usleep((unsigned)(random >> 32) % jitter);
    if (op.run) {
        t_op_name = op.name;
        memory_enter(stream->device);
        op.run();
        memory_leave();
        t_op_name = nullptr;
    }
    op = Op();
    lock.lock();
    if (++stream->completed >= stream->wanted) stream_tell(stream);
}

static void stream_thread(CUstream_st *stream) {
    std::unique_lock<std::mutex> lock(stream->mutex);
    for (;;) {
        stream->work.wait(lock, [&] {
            return stream->queue.empty() ? stream->destroyed && !stream->running
                                         : stream->woken && !stream->running;
        });
        if (stream->queue.empty()) return;
        stream->running = true;
        for (unsigned share = 1; !stream->queue.empty(); share = DELAYS)
            stream_step(stream, lock, share);
        stream->running = stream->woken = false;
    }
}

// The stream's own thread runs what is in the queue. Its mutex is held.
static void stream_wake(CUstream_st *stream) {
    if (stream->queue.empty() || stream->running || stream->woken) return;
    stream->woken = true;
    if (!stream->started) std::thread(stream_thread, stream).detach();
    stream->started = true;
    stream->work.notify_one();
}

// Waits for a point of a stream, by running what is in its queue up to there unless another does.
static void dep_wait(const Dep &dep) {
    CUstream_st *stream = dep.stream;
    std::unique_lock<std::mutex> lock(stream->mutex);
    while (stream->completed < dep.seq) {
        if (stream->running) {
            stream->wanted = std::min(stream->wanted, dep.seq);
            stream->done.wait(lock);
            continue;
        }
        stream->running = true;
        while (stream->completed < dep.seq) stream_step(stream, lock, DELAYS);
        stream->running = false;
        if (stream->queue.empty()) stream->woken = false;
        stream_tell(stream); // who waits for more than this goes on with it
        if (stream->woken || stream->destroyed) stream->work.notify_one();
    }
}

// What nobody has waited for since the last look is run by the stream's own thread.
static void pump() {
    State *s = sim_state();
    for (;;) {
        usleep(PUMP_US);
        std::vector<CUstream_st *> streams;
        {
            std::lock_guard<std::mutex> lock(s->mutex);
            streams = s->streams;
        }
        std::unordered_set<CUstream_st *> over;
        for (CUstream_st *stream : streams) {
            std::lock_guard<std::mutex> lock(stream->mutex);
            if (stream->looked == stream->completed + 1) stream_wake(stream);
            stream->looked = stream->queue.empty() ? 0 : stream->completed + 1;
            if (stream->destroyed && stream->queue.empty() && !stream->running) over.insert(stream);
        }
        if (over.empty()) continue;
        std::lock_guard<std::mutex> lock(s->mutex);
        auto is_over = [&](CUstream_st *stream) { return over.count(stream) > 0; };
        s->streams.erase(
            std::remove_if(s->streams.begin(), s->streams.end(), is_over), s->streams.end());
    }
}

static CUstream_st *stream_new(int device) {
    State *s = sim_state();
    CUstream_st *stream = new CUstream_st();
    stream->device = device;
    sim_handles++;
    std::lock_guard<std::mutex> lock(s->mutex);
    stream->random = s->seed * 1000003u + s->numbered++;
    s->streams.push_back(stream);
    s->known.insert(stream);
    if (s->pumped != getpid()) std::thread(pump).detach(); // a fork has no threads
    s->pumped = getpid();
    return stream;
}

CUstream_st *stream_get(const char *call, cudaStream_t stream) {
    static thread_local cudaStream_t t_last;
    State *s = sim_state();
    if (!stream) sim_fatal("%s: the default stream is not simulated", call);
    if (stream != t_last) {
        std::lock_guard<std::mutex> lock(s->mutex);
        if (!s->known.count(stream))
            sim_fatal("%s: not a stream (cudaErrorInvalidResourceHandle)", call);
    }
    t_last = stream;
    if (stream->destroyed)
        sim_fatal("%s: stream was destroyed (cudaErrorInvalidResourceHandle)", call);
    return stream;
}

static Dep stream_tail(CUstream_st *stream) {
    std::lock_guard<std::mutex> lock(stream->mutex);
    return Dep{stream, stream->submitted};
}

static int capture_push(CUstream_st *stream, const char *name, Work run) {
    CUgraph_st *graph = stream->capture;
    graph->nodes.push_back(Node{stream->lane, name, std::move(run), stream->capture_deps});
    stream->capture_deps.clear();
    return (int)graph->nodes.size() - 1;
}

void stream_push(CUstream_st *stream, const char *name, Work run, std::vector<Dep> deps) {
    if (stream->capture) {
        capture_push(stream, name, std::move(run));
        return;
    }
    std::lock_guard<std::mutex> lock(stream->mutex);
    stream->queue.push_back(Op{name, std::move(run), std::move(deps)});
    stream->submitted++;
    if (sim_state()->jitter_us > 0 && sim_random(stream->random) % EAGER == 0) stream_wake(stream);
}

void stream_order(CUstream_st *first, CUstream_st *then) {
    if (first == then) return;
    if (first->capture && first->capture == then->capture)
        then->capture_deps.push_back(capture_push(first, "order", nullptr));
    else if (!then->capture)
        stream_push(then, "order", nullptr, {stream_tail(first)});
}

// Who asks again and again waits too, though not here.
static bool dep_done(const Dep &dep) {
    std::lock_guard<std::mutex> lock(dep.stream->mutex);
    if (dep.stream->completed >= dep.seq) return true;
    stream_wake(dep.stream);
    return false;
}

void stream_wait_all(CUstream_st *stream) { dep_wait(stream_tail(stream)); }

void device_wait_all(int device) {
    State *s = sim_state();
    std::vector<CUstream_st *> streams;
    {
        std::lock_guard<std::mutex> lock(s->mutex);
        for (CUstream_st *stream : s->streams)
            if (stream->device == device) streams.push_back(stream);
    }
    for (CUstream_st *stream : streams) stream_wait_all(stream);
}

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
    sim_enter("cudaStreamCreate");
    if (!stream || flags > cudaStreamNonBlocking || device_bad(t_device))
        return sim_return(cudaErrorInvalidValue);
    if (sim_faulted(t_device)) return sim_return(cudaErrorIllegalAddress);
    *stream = stream_new(t_device);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
    sim_enter("cudaStreamDestroy");
    if (!handle) return sim_return(cudaErrorInvalidResourceHandle);
    CUstream_st *stream = stream_get("cudaStreamDestroy", handle);
    std::lock_guard<std::mutex> lock(stream->mutex);
    stream->destroyed = true; // work already queued still runs, then its thread ends
    stream_wake(stream);
    if (stream->started) stream->work.notify_one();
    sim_handles--;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    sim_enter("cudaStreamSynchronize");
    CUstream_st *stream = stream_get("cudaStreamSynchronize", handle);
    if (sim_faulted(stream->device)) return sim_return(cudaErrorIllegalAddress);
    if (stream->capture) {
        stream->capture->invalid = true;
        return sim_return(cudaErrorStreamCaptureUnsupported);
    }
    sim_state()->host_waits++;
    stream_wait_all(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
    sim_enter("cudaStreamQuery");
    CUstream_st *stream = stream_get("cudaStreamQuery", handle);
    if (sim_faulted(stream->device)) return sim_return(cudaErrorIllegalAddress);
    if (stream->capture) return sim_return(cudaErrorStreamCaptureUnsupported);
    return dep_done(stream_tail(stream)) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t fn, void *user) {
    sim_enter("cudaLaunchHostFunc");
    stream_push(stream_get("cudaLaunchHostFunc", handle), "host function", [=] {
        memory_access_none();
        fn(user);
    });
    return cudaSuccess;
}

// ---- events ----

static CUevent_st *event_get(const char *call, cudaEvent_t event) {
    State *s = sim_state();
    std::lock_guard<std::mutex> lock(s->mutex);
    if (s->known.count(event) && !event->destroyed) return event;
    sim_fatal("%s: not an event, or a destroyed one (cudaErrorInvalidResourceHandle)", call);
}

static std::shared_ptr<EventRecord> event_record(CUevent_st *event) {
    std::lock_guard<std::mutex> lock(event->mutex);
    return event->record;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    sim_enter("cudaEventCreate");
    CUevent_st *fresh = new CUevent_st();
    fresh->device = t_device;
    fresh->flags = flags;
    std::lock_guard<std::mutex> lock(sim_state()->mutex);
    sim_state()->known.insert(*event = fresh);
    sim_handles++;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    sim_enter("cudaEventDestroy");
    event_get("cudaEventDestroy", event)->destroyed = true;
    sim_handles--;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
    sim_enter("cudaEventRecord");
    CUevent_st *event = event_get("cudaEventRecord", handle);
    CUstream_st *stream = stream_get("cudaEventRecord", stream_handle);
    if (sim_faulted(stream->device)) return sim_return(cudaErrorIllegalAddress);
    if (event->device != stream->device)
        sim_fatal("cudaEventRecord: event of device %d recorded on a stream of device %d "
                  "(cudaErrorInvalidResourceHandle)",
            event->device, stream->device);
    auto record = std::make_shared<EventRecord>();
    if (stream->capture) {
        record->graph = stream->capture;
        record->node = capture_push(stream, "event", nullptr);
    } else {
        stream_push(stream, "event", [record] { record->time = Clock::now(); });
        record->at = stream_tail(stream);
    }
    std::lock_guard<std::mutex> lock(event->mutex);
    event->record = record;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream_handle, cudaEvent_t handle, unsigned) {
    sim_enter("cudaStreamWaitEvent");
    CUstream_st *stream = stream_get("cudaStreamWaitEvent", stream_handle);
    if (sim_faulted(stream->device)) return sim_return(cudaErrorIllegalAddress);
    auto record = event_record(event_get("cudaStreamWaitEvent", handle));
    if (!record) return cudaSuccess;
    if (record->graph) {
        if (!stream->capture) { // the wait draws this stream into the capture
            stream->capture = record->graph;
            stream->lane = (int)record->graph->lanes.size();
            record->graph->lanes.push_back(stream);
        }
        if (stream->capture != record->graph) return sim_return(cudaErrorStreamCaptureUnsupported);
        stream->capture_deps.push_back(record->node);
        return cudaSuccess;
    }
    if (stream->capture) return sim_return(cudaErrorStreamCaptureUnsupported);
    stream_push(stream, "wait", nullptr, {record->at});
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
    sim_enter("cudaEventQuery");
    auto record = event_record(event_get("cudaEventQuery", handle));
    if (record && record->graph) return sim_return(cudaErrorStreamCaptureUnsupported);
    return !record || dep_done(record->at) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
    sim_enter("cudaEventSynchronize");
    auto record = event_record(event_get("cudaEventSynchronize", handle));
    if (record && record->graph) return sim_return(cudaErrorStreamCaptureUnsupported);
    sim_state()->host_waits++;
    if (record) dep_wait(record->at);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    sim_enter("cudaEventElapsedTime");
    CUevent_st *first = event_get("cudaEventElapsedTime", start);
    CUevent_st *last = event_get("cudaEventElapsedTime", end);
    auto a = event_record(first), b = event_record(last);
    if (!a || !b || a->graph || b->graph || first->device != last->device ||
        ((first->flags | last->flags) & cudaEventDisableTiming))
        return sim_return(cudaErrorInvalidResourceHandle);
    if (!dep_done(a->at) || !dep_done(b->at)) return cudaErrorNotReady;
    *ms = std::chrono::duration<float, std::milli>(b->time - a->time).count();
    return cudaSuccess;
}

// ---- graphs ----

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
    sim_enter("cudaStreamBeginCapture");
    CUstream_st *stream = stream_get("cudaStreamBeginCapture", handle);
    if (stream->capture)
        return sim_return(
            stream->capture ? cudaErrorIllegalState : cudaErrorStreamCaptureUnsupported);
    stream->capture = new CUgraph_st();
    stream->capture->mode = mode;
    stream->capture->lanes.push_back(stream);
    stream->lane = 0;
    if (mode != cudaStreamCaptureModeRelaxed) t_captures++;
    if (mode == cudaStreamCaptureModeGlobal) sim_state()->captures_global++;
    return cudaSuccess;
}

// Every lane must have been joined back: its last node must precede the end of lane 0.
static bool capture_joined(const CUgraph_st &graph) {
    std::vector<int> last(graph.lanes.size(), -1), todo = graph.end_deps;
    std::vector<char> seen(graph.nodes.size());
    std::vector<int> before(graph.nodes.size(), -1);
    for (size_t i = 0; i < graph.nodes.size(); i++) {
        before[i] = last[graph.nodes[i].lane];
        last[graph.nodes[i].lane] = (int)i;
    }
    todo.push_back(last[0]);
    while (!todo.empty()) {
        int i = todo.back();
        todo.pop_back();
        if (i < 0 || seen[i]) continue;
        seen[i] = 1;
        todo.push_back(before[i]);
        todo.insert(todo.end(), graph.nodes[i].deps.begin(), graph.nodes[i].deps.end());
    }
    for (int i : last)
        if (i >= 0 && !seen[i]) return false;
    return true;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *out) {
    sim_enter("cudaStreamEndCapture");
    CUstream_st *stream = stream_get("cudaStreamEndCapture", handle);
    CUgraph_st *graph = stream->capture;
    if (!graph || stream->lane != 0)
        return sim_return(graph ? cudaErrorStreamCaptureUnmatched : cudaErrorIllegalState);
    graph->end_deps = stream->capture_deps;
    for (CUstream_st *lane : graph->lanes) {
        lane->capture = nullptr;
        lane->capture_deps.clear();
    }
    if (graph->mode != cudaStreamCaptureModeRelaxed) t_captures--;
    if (graph->mode == cudaStreamCaptureModeGlobal) sim_state()->captures_global--;
    *out = nullptr;
    if (sim_state()->fail_capture > 0 && --sim_state()->fail_capture == 0) graph->invalid = true;
    if (graph->invalid) return sim_return(cudaErrorStreamCaptureInvalidated);
    if (!capture_joined(*graph)) return sim_return(cudaErrorStreamCaptureUnjoined);
    *out = graph;
    sim_handles++;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus *status) {
    sim_enter("cudaStreamIsCapturing");
    CUstream_st *stream = stream_get("cudaStreamIsCapturing", handle);
    *status = !stream->capture           ? cudaStreamCaptureStatusNone
              : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    sim_enter("cudaGraphInstantiate");
    if (!exec || !graph) return sim_return(cudaErrorInvalidValue);
    *exec = new CUgraphExec_st{*graph, {nullptr}};
    sim_handles++;
    for (size_t i = 1; i < graph->lanes.size(); i++)
        (*exec)->lanes.push_back(stream_new(graph->lanes[i]->device));
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
    sim_enter("cudaGraphLaunch");
    CUstream_st *stream = stream_get("cudaGraphLaunch", handle);
    if (sim_faulted(stream->device)) return sim_return(cudaErrorIllegalAddress);
    if (stream->device != exec->graph.lanes[0]->device)
        sim_fatal("cudaGraphLaunch: graph captured on device %d launched on a stream of device %d",
            exec->graph.lanes[0]->device, stream->device);
    if (stream->capture) return sim_return(cudaErrorStreamCaptureUnsupported);
    sim_state()->graph_launches++;
    exec->lanes[0] = stream;
    stream_push(stream, "graph", nullptr);
    for (size_t i = 1; i < exec->lanes.size(); i++) stream_order(stream, exec->lanes[i]);
    std::vector<Dep> at;
    for (const Node &node : exec->graph.nodes) {
        std::vector<Dep> deps;
        for (int dep : node.deps) deps.push_back(at[dep]);
        stream_push(exec->lanes[node.lane], node.name, node.run, std::move(deps));
        at.push_back(stream_tail(exec->lanes[node.lane]));
    }
    for (size_t i = 1; i < exec->lanes.size(); i++) stream_order(exec->lanes[i], stream);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    sim_handles--;
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    sim_handles--;
    for (size_t i = 1; i < exec->lanes.size(); i++) cudaStreamDestroy(exec->lanes[i]);
    delete exec;
    return cudaSuccess;
}

// ---- devices ----

void cudasim_fault(int device) { sim_state()->faulted[device] = true; }
long cudasim_host_waits(void) { return sim_state()->host_waits; }
long cudasim_graph_launches(void) { return sim_state()->graph_launches; }
void cudasim_fail_capture(long nth) { sim_state()->fail_capture = nth; }

void cudasim_peer_trouble(int device, int peer, int trouble) {
    sim_state()->trouble[device][peer] = trouble;
}
long cudasim_live(void) { return sim_handles + memory_live(false); }

cudaError_t cudaGetDeviceCount(int *count) {
    sim_enter("cudaGetDeviceCount");
    *count = sim_state()->device_count;
    return sim_return(*count ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
    sim_enter("cudaSetDevice");
    if (device_bad(device)) return sim_return(cudaErrorInvalidDevice);
    t_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = t_device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attr, int device) {
    sim_enter("cudaDeviceGetAttribute");
    if (device_bad(device)) return sim_return(cudaErrorInvalidDevice);
    static const std::map<int, int> values = {{cudaDevAttrMaxThreadsPerBlock, 1024},
        {cudaDevAttrMaxSharedMemoryPerBlock, SHARED_DEFAULT}, {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMultiProcessorCount, 16}, {cudaDevAttrPciDeviceId, 0},
        {cudaDevAttrMaxThreadsPerMultiProcessor, 2048}, {cudaDevAttrUnifiedAddressing, 1},
        {cudaDevAttrPciDomainId, 0}, {cudaDevAttrComputeCapabilityMajor, 9},
        {cudaDevAttrComputeCapabilityMinor, 0},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, SHARED_MAX},
        {cudaDevAttrMemoryPoolsSupported, 1}};
    auto it = values.find(attr);
    if (attr == cudaDevAttrPciBusId)
        *value = device + 1;
    else if (it == values.end())
        return sim_return(cudaErrorInvalidValue);
    else
        *value = it->second;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device) {
    sim_enter("cudaGetDeviceProperties");
    if (device_bad(device)) return sim_return(cudaErrorInvalidDevice);
    memset(prop, 0, sizeof(*prop));
    snprintf(prop->name, sizeof(prop->name), "Simulated GPU %d", device);
    prop->uuid.bytes[0] = (char)(device + 1);
    prop->totalGlobalMem = (size_t)sim_env("CUDASIM_MEM_MB", 8192) << 20;
    prop->sharedMemPerBlock = SHARED_DEFAULT;
    prop->sharedMemPerBlockOptin = SHARED_MAX;
    prop->sharedMemPerMultiprocessor = SHARED_MAX + 1024;
    prop->regsPerBlock = 65536;
    prop->warpSize = 32;
    prop->maxThreadsPerBlock = 1024;
    prop->maxThreadsPerMultiProcessor = 2048;
    for (int i = 0; i < 3; i++) {
        prop->maxThreadsDim[i] = i < 2 ? 1024 : 64;
        prop->maxGridSize[i] = i ? 65535 : 0x7fffffff;
    }
    prop->major = 8;
    prop->multiProcessorCount = 16;
    prop->l2CacheSize = 32 << 20;
    prop->pciBusID = device + 1;
    prop->unifiedAddressing = prop->concurrentKernels = prop->canMapHostMemory = 1;
    prop->memoryPoolsSupported = 1;
    prop->asyncEngineCount = 2;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device) {
    sim_enter("cudaDeviceGetPCIBusId");
    if (device_bad(device)) return sim_return(cudaErrorInvalidDevice);
    snprintf(text, (size_t)size, "0000:%02x:00.0", device + 1);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
    sim_enter("cudaDeviceSynchronize");
    if (capture_forbids()) return sim_return(cudaErrorStreamCaptureUnsupported);
    if (sim_faulted(t_device)) return sim_return(cudaErrorIllegalAddress);
    sim_state()->host_waits++;
    device_wait_all(t_device);
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
    sim_enter("cudaDeviceCanAccessPeer");
    if (device_bad(device) || device_bad(peer)) return sim_return(cudaErrorInvalidDevice);
    *can = device != peer && sim_env("CUDASIM_PEER", 1);
    return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
    sim_enter("cudaDeviceEnablePeerAccess");
    int can = 0;
    if (flags || cudaDeviceCanAccessPeer(&can, t_device, peer) != cudaSuccess || !can)
        return sim_return(cudaErrorInvalidDevice);
    if (sim_state()->peer[t_device][peer].exchange(true))
        return sim_return(cudaErrorPeerAccessAlreadyEnabled);
    sim_state()->peer_generation++;
    return cudaSuccess;
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
    sim_enter("cudaDeviceDisablePeerAccess");
    if (device_bad(peer) || !sim_state()->peer[t_device][peer].exchange(false))
        return sim_return(cudaErrorPeerAccessNotEnabled);
    sim_state()->peer_generation++;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetP2PAttribute(int *value, cudaDeviceP2PAttr attr, int from, int to) {
    cudaError_t error = cudaDeviceCanAccessPeer(value, from, to);
    if (error == cudaSuccess && attr == cudaDevP2PAttrPerformanceRank) *value = 0;
    return error;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }

// ---- errors ----

cudaError_t cudaGetLastError(void) {
    cudaError_t error = t_last_error;
    t_last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) { return t_last_error; }

struct ErrorText {
    cudaError_t error;
    const char *name, *text;
};

static const ErrorText error_texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
        "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
        "invalid copy direction for memcpy"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
        "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
        "an illegal memory access was encountered"},
    {cudaErrorPeerAccessAlreadyEnabled, "cudaErrorPeerAccessAlreadyEnabled",
        "peer access is already enabled"},
    {cudaErrorPeerAccessNotEnabled, "cudaErrorPeerAccessNotEnabled",
        "peer access has not been enabled"},
    {cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
        "part or all of the requested memory range is already mapped"},
    {cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered",
        "pointer does not correspond to a registered memory region"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
        "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
        "operation failed due to a previous error in capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
        "capture ended on a stream that did not begin it"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
        "capturing stream has unjoined work"},
};

const char *cudaGetErrorName(cudaError_t error) {
    for (const ErrorText &known : error_texts)
        if (known.error == error) return known.name;
    return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t error) {
    for (const ErrorText &known : error_texts)
        if (known.error == error) return known.text;
    return "unknown error";
}

} // extern "C"
