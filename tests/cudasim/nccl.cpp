// Simulated NCCL. A collective is one operation on each rank's stream; the ranks meet in it, and
// the last to arrive moves the data of all. Sums are taken in rank order.
#include "nccl.h"

#include <cstring>

#include "sim.h"

enum Kind { ALL_REDUCE, REDUCE, BROADCAST, ALL_GATHER, REDUCE_SCATTER };

struct Coll { // one rank's call of a collective
    const char *call;
    Kind kind;
    const char *send;
    char *recv;
    size_t count;
    ncclDataType_t type;
    ncclRedOp_t op;
    int root;
};

struct Meeting {
    std::vector<Coll> calls;
    std::vector<bool> here;
    int arrived = 0, left = 0;
    bool done = false;
};

struct Clique { // the ranks of one unique id
    int nranks = 0, joined = 0;
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<ncclComm *> ranks;
    std::map<uint64_t, Meeting> meetings;
};

struct ncclComm {
    Clique *clique;
    int rank, device;
    uint64_t seq = 0; // collectives executed so far, in stream order
    CUstream_st *last_stream = nullptr;
    bool destroyed = false, aborted = false;
    bool blocking = true;
    bool told = true; // ncclCommGetAsyncError has said ncclInProgress once since the last call
};

struct Pending { // an operation waiting for ncclGroupEnd
    ncclComm *comm;
    CUstream_st *stream;
    Coll coll;
};

static bool all_joined(Clique *clique) { return clique->joined == clique->nranks; }

static std::atomic<int> g_error{ncclSuccess}; // see cudasim_nccl_error
static std::mutex g_mutex;
static std::map<uint64_t, Clique *> &g_cliques = *new std::map<uint64_t, Clique *>();
static uint64_t g_next_id = 1;
static thread_local int t_group;
static thread_local std::vector<Pending> t_pending;
static thread_local std::vector<ncclComm_t *> t_inits;

static size_t type_size(ncclDataType_t type) {
    static const size_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
    return sizes[type];
}

// Waits until ready() holds or this rank aborts; a wait that long is a deadlock.
template <class Ready>
static bool clique_wait(ncclComm *comm, std::unique_lock<std::mutex> &lock, const char *call,
    const std::string &missing, Ready ready) {
    Clique *clique = comm->clique;
    auto limit = std::chrono::seconds(sim_env("CUDASIM_TIMEOUT_S", 60));
    if (!clique->changed.wait_for(lock, limit, [&] { return comm->aborted || ready(); }))
        sim_fatal("%s: rank %d of %d waited %ld s for %s", call, comm->rank, clique->nranks,
            (long)limit.count(), missing.c_str());
    return !comm->aborted;
}

// ---- data ----

template <class T> static T combine(ncclRedOp_t op, T a, T b) {
    switch (op) {
    case ncclProd:
        return a * b;
    case ncclMax:
        return a < b ? b : a;
    case ncclMin:
        return b < a ? b : a;
    default:
        return a + b;
    }
}

// out[i] over ranks of in[rank][offset + i], written to every pointer of outs.
template <class T>
static void reduce(const std::vector<Coll> &calls, size_t offset, size_t count, ncclRedOp_t op,
    const std::vector<char *> &outs) {
    constexpr size_t CHUNK = 1024;
    T acc[CHUNK];
    for (size_t i0 = 0; i0 < count; i0 += CHUNK) {
        size_t n = count - i0 < CHUNK ? count - i0 : CHUNK;
        memcpy(acc, (const T *)calls[0].send + offset + i0, n * sizeof(T));
        for (size_t r = 1; r < calls.size(); r++) {
            const T *in = (const T *)calls[r].send + offset + i0;
            for (size_t i = 0; i < n; i++) acc[i] = combine(op, acc[i], in[i]);
        }
        if (op == ncclAvg)
            for (size_t i = 0; i < n; i++) acc[i] = acc[i] / (T)calls.size();
        for (char *out : outs) memcpy((T *)out + i0, acc, n * sizeof(T));
    }
}

static void reduce_typed(
    const std::vector<Coll> &calls, size_t offset, const std::vector<char *> &outs) {
    size_t n = calls[0].count;
    ncclRedOp_t op = calls[0].op;
    switch (calls[0].type) {
    case ncclInt8:
        return reduce<int8_t>(calls, offset, n, op, outs);
    case ncclUint8:
        return reduce<uint8_t>(calls, offset, n, op, outs);
    case ncclInt32:
        return reduce<int32_t>(calls, offset, n, op, outs);
    case ncclUint32:
        return reduce<uint32_t>(calls, offset, n, op, outs);
    case ncclInt64:
        return reduce<int64_t>(calls, offset, n, op, outs);
    case ncclUint64:
        return reduce<uint64_t>(calls, offset, n, op, outs);
    case ncclFloat32:
        return reduce<float>(calls, offset, n, op, outs);
    case ncclFloat64:
        return reduce<double>(calls, offset, n, op, outs);
    default:
        sim_fatal("%s: 16-bit reductions are not simulated", calls[0].call);
    }
}

static void meeting_finish(std::vector<Coll> &calls) {
    const Coll &first = calls[0];
    for (size_t r = 1; r < calls.size(); r++)
        if (calls[r].kind != first.kind || calls[r].count != first.count ||
            calls[r].type != first.type || calls[r].op != first.op || calls[r].root != first.root)
            sim_fatal("%s by rank 0 (count %zu, type %d, op %d, root %d) met %s by rank %zu "
                      "(count %zu, type %d, op %d, root %d)",
                first.call, first.count, first.type, first.op, first.root, calls[r].call, r,
                calls[r].count, calls[r].type, calls[r].op, calls[r].root);
    size_t bytes = first.count * type_size(first.type);
    std::vector<char *> outs;
    for (Coll &call : calls) outs.push_back(call.recv);
    if (first.kind == ALL_REDUCE)
        reduce_typed(calls, 0, outs);
    else if (first.kind == REDUCE)
        reduce_typed(calls, 0, {outs[first.root]});
    else if (first.kind == BROADCAST)
        for (char *out : outs) memmove(out, calls[first.root].send, bytes);
    for (size_t r = 0; r < calls.size(); r++)
        if (first.kind == REDUCE_SCATTER)
            reduce_typed(calls, r * first.count, {outs[r]});
        else if (first.kind == ALL_GATHER)
            for (char *out : outs) memmove(out + r * bytes, calls[r].send, bytes);
}

// Nothing is moved once a rank that had arrived has aborted: its buffers may be gone. A rank whose
// device has failed never comes.
static void coll_run(ncclComm *comm, const Coll &coll) {
    Clique *clique = comm->clique;
    memory_access(0, true);
    std::unique_lock<std::mutex> lock(clique->mutex);
    if (comm->aborted || sim_faulted(comm->device)) return;
    uint64_t seq = comm->seq++;
    Meeting &m = clique->meetings[seq];
    m.calls.resize(clique->nranks);
    m.here.resize(clique->nranks);
    m.calls[comm->rank] = coll;
    m.here[comm->rank] = true;
    bool whole = ++m.arrived == clique->nranks;
    for (ncclComm *other : clique->ranks) whole = whole && !other->aborted;
    if (whole) {
        meeting_finish(m.calls);
        m.done = true;
        clique->changed.notify_all();
    }
    std::string missing = "ranks";
    for (int r = 0; r < clique->nranks; r++) missing += m.here[r] ? "" : " " + std::to_string(r);
    if (!clique_wait(comm, lock, coll.call, missing, [&] { return m.done; })) return;
    if (++m.left == clique->nranks) clique->meetings.erase(seq);
}

// ---- issue ----

static void comm_push(ncclComm *comm, CUstream_st *stream, const char *call, Work run) {
    if (comm->last_stream) // operations of one communicator run in the order of their issue
        stream_order(comm->last_stream, stream);
    comm->last_stream = stream;
    stream_push(stream, call, std::move(run));
}

static ncclResult_t group_flush() {
    std::vector<Pending> pending = std::move(t_pending);
    t_pending.clear();
    ncclResult_t result = ncclSuccess;
    for (Pending &p : pending) {
        comm_push(p.comm, p.stream, p.coll.call,
            [comm = p.comm, coll = p.coll] { coll_run(comm, coll); });
        if (p.comm->blocking) continue;
        p.comm->told = false;
        result = ncclInProgress;
    }
    return result;
}

static CUstream_st *comm_stream(const char *call, ncclComm *comm, cudaStream_t handle) {
    sim_enter(call);
    if (!comm || comm->destroyed) sim_fatal("%s: communicator is null or destroyed", call);
    int device = sim_device();
    cudaSetDevice(comm->device);
    CUstream_st *stream = stream_get(call, handle);
    cudaSetDevice(device);
    if (stream->device != comm->device)
        sim_fatal("%s: stream of device %d given to a communicator of device %d", call,
            stream->device, comm->device);
    return stream;
}

static ncclResult_t coll_issue(const char *call, Kind kind, const void *send, size_t send_count,
    void *recv, size_t recv_count, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
    ncclComm_t comm, cudaStream_t handle) {
    CUstream_st *stream = comm_stream(call, comm, handle);
    {
        std::lock_guard<std::mutex> lock(comm->clique->mutex);
        if (!all_joined(comm->clique) || (!comm->told && !t_group))
            return ncclInvalidArgument; // asked before ncclCommGetAsyncError said ncclSuccess
    }
    if ((unsigned)type > ncclBfloat16 || (unsigned)op > ncclAvg || root < 0 ||
        root >= comm->clique->nranks)
        return ncclInvalidArgument;
    size_t size = type_size(type);
    if (send_count) memory_check_device(call, "send buffer", send, send_count * size, comm->device);
    if (recv_count)
        memory_check_device(call, "receive buffer", recv, recv_count * size, comm->device);
    t_pending.push_back(
        {comm, stream, {call, kind, (const char *)send, (char *)recv, count, type, op, root}});
    return t_group ? ncclSuccess : group_flush();
}

// What became of a rank once all have joined. Two ranks on one device are refused as NCCL does:
// those two get ncclInvalidUsage, the rest fail with a remote error. The clique's mutex is held.
static ncclResult_t init_result(ncclComm *comm) {
    bool mine = false, any = false;
    for (ncclComm *a : comm->clique->ranks)
        for (ncclComm *b : comm->clique->ranks)
            if (a != b && a->device == b->device) any = true, mine = mine || a == comm;
    return mine ? ncclInvalidUsage : any ? ncclRemoteError : ncclSuccess;
}

static ncclResult_t init_finish(ncclComm_t *slot) {
    ncclComm *comm = *slot;
    if (!comm->blocking) return ncclInProgress;
    std::unique_lock<std::mutex> lock(comm->clique->mutex);
    clique_wait(comm, lock, "ncclCommInitRank", "the other ranks",
        [&] { return all_joined(comm->clique); });
    ncclResult_t result = init_result(comm);
    if (result != ncclSuccess) {
        *slot = nullptr;
        sim_handles--;
    }
    return result;
}

extern "C" {

ncclResult_t ncclGetVersion(int *version) { return *version = NCCL_VERSION_CODE, ncclSuccess; }

const char *ncclGetErrorString(ncclResult_t result) {
    static const char *const texts[] = {"no error", "unhandled cuda error",
        "unhandled system error", "internal error", "invalid argument", "invalid usage",
        "remote process error", "operation in progress"};
    return (unsigned)result < 8 ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    sim_enter("ncclGetUniqueId");
    std::lock_guard<std::mutex> lock(g_mutex);
    memset(id, 0, sizeof(*id));
    memcpy(id->internal, &g_next_id, sizeof(g_next_id));
    g_cliques[g_next_id++] = new Clique();
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(
    ncclComm_t *comm, int nranks, ncclUniqueId id, int rank, ncclConfig_t *config) {
    sim_enter("ncclCommInitRank");
    uint64_t key;
    memcpy(&key, id.internal, sizeof(key));
    std::unique_lock<std::mutex> lock(g_mutex);
    auto it = g_cliques.find(key);
    if (!comm || nranks < 1 || rank < 0 || rank >= nranks || it == g_cliques.end())
        return ncclInvalidArgument;
    Clique *clique = it->second;
    lock.unlock();
    std::unique_lock<std::mutex> clique_lock(clique->mutex);
    clique->ranks.resize(nranks);
    if ((clique->nranks && clique->nranks != nranks) || clique->ranks[rank])
        return ncclInvalidUsage;
    clique->nranks = nranks;
    clique->ranks[rank] = *comm = new ncclComm{clique, rank, sim_device()};
    (*comm)->blocking = (*comm)->told = !config || config->blocking != 0;
    sim_handles++;
    clique->joined++;
    clique->changed.notify_all();
    clique_lock.unlock();
    if (!t_group) return init_finish(comm);
    t_inits.push_back(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId id, int rank) {
    return ncclCommInitRankConfig(comm, nranks, id, rank, nullptr);
}

ncclResult_t ncclCommInitAll(ncclComm_t *comms, int count, const int *devices) {
    ncclUniqueId id;
    int device = sim_device();
    ncclGetUniqueId(&id);
    ncclGroupStart();
    for (int i = 0; i < count; i++) {
        if (cudaSetDevice(devices ? devices[i] : i) != cudaSuccess)
            return t_group--, t_inits.clear(), ncclUnhandledCudaError;
        ncclCommInitRank(&comms[i], count, id, i);
    }
    cudaSetDevice(device);
    return ncclGroupEnd();
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    sim_enter("ncclCommFinalize");
    if (comm->last_stream && !comm->last_stream->capture) stream_wait_all(comm->last_stream);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    if (!comm) return ncclSuccess;
    ncclCommFinalize(comm);
    comm->destroyed = true;
    sim_handles--;
    return ncclSuccess;
}

// Ends this rank's part of what waits; the others go on waiting until each aborts its own.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    sim_enter("ncclCommAbort");
    std::lock_guard<std::mutex> lock(comm->clique->mutex);
    comm->aborted = comm->destroyed = true;
    comm->clique->changed.notify_all();
    sim_handles--;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    std::lock_guard<std::mutex> lock(comm->clique->mutex);
    if (!all_joined(comm->clique) || !comm->told) {
        *error = ncclInProgress;
        comm->told = comm->told || all_joined(comm->clique);
    } else {
        *error = init_result(comm);
    }
    if (g_error != ncclSuccess) *error = (ncclResult_t)g_error.load();
    return ncclSuccess;
}

void cudasim_nccl_error(ncclResult_t error) { g_error = error; }

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count) {
    return *count = comm->clique->nranks, ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device) {
    return *device = comm->device, ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
    return *rank = comm->rank, ncclSuccess;
}

ncclResult_t ncclGroupStart(void) { return t_group++, ncclSuccess; }

ncclResult_t ncclGroupEnd(void) {
    if (t_group == 0) return ncclInvalidUsage;
    if (--t_group) return ncclSuccess;
    std::vector<ncclComm_t *> inits = std::move(t_inits);
    t_inits.clear();
    ncclResult_t result = ncclSuccess;
    for (ncclComm_t *slot : inits) {
        ncclResult_t one = init_finish(slot);
        result = result == ncclSuccess || one == ncclInvalidUsage ? one : result;
    }
    return result == ncclSuccess ? group_flush() : result;
}

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
    ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    return coll_issue(
        "ncclAllReduce", ALL_REDUCE, send, count, recv, count, count, type, op, 0, comm, stream);
}

ncclResult_t ncclReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
    ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
    return coll_issue("ncclReduce", REDUCE, send, count, recv,
        comm && comm->rank == root ? count : 0, count, type, op, root, comm, stream);
}

ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type,
    int root, ncclComm_t comm, cudaStream_t stream) {
    return coll_issue("ncclBroadcast", BROADCAST, send, comm && comm->rank == root ? count : 0,
        recv, count, count, type, ncclSum, root, comm, stream);
}

ncclResult_t ncclAllGather(const void *send, void *recv, size_t count, ncclDataType_t type,
    ncclComm_t comm, cudaStream_t stream) {
    return coll_issue("ncclAllGather", ALL_GATHER, send, count, recv,
        comm ? count * comm->clique->nranks : 0, count, type, ncclSum, 0, comm, stream);
}

ncclResult_t ncclReduceScatter(const void *send, void *recv, size_t count, ncclDataType_t type,
    ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    return coll_issue("ncclReduceScatter", REDUCE_SCATTER, send,
        comm ? count * comm->clique->nranks : 0, recv, count, count, type, op, 0, comm, stream);
}

} // extern "C"
