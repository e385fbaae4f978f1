// Kernel execution: one fiber per waiting thread of a block, blocks one after another.
//
// A fiber runs threads of the block as plain calls, one after another, until one of them meets a
// barrier; that thread then keeps the fiber, and another fiber goes on with the next unstarted
// thread. A kernel without a barrier therefore runs as one loop on one fiber.
#include "sim.h"

#include <cstring>
#include <sys/mman.h>

#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(SIM_TSAN)
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)
#define SIM_ASM_SWITCH 1
#else
#include <ucontext.h>
#endif

#ifndef CUDASIM_DYNAMIC_NAME
#define CUDASIM_DYNAMIC_NAME smem
#endif

constexpr unsigned NONE = ~0u;
constexpr size_t CANARY = 64;

__thread CudasimSelf cudasim_self = {};
alignas(128) thread_local unsigned char CUDASIM_DYNAMIC_NAME[SHARED_MAX + CANARY];

struct Fiber {
    void *sp = nullptr; // saved stack pointer while not running
    char *stack = nullptr;
    size_t stack_size = 0;
    Fiber *next = nullptr;  // in whichever list it is
    unsigned thread = NONE; // thread of the block it is in the middle of
    void *sanitizer = nullptr;
#ifndef SIM_ASM_SWITCH
    ucontext_t context;
#endif
};

struct FiberList {
    Fiber *head = nullptr, *tail = nullptr;
};

struct Lane {
    unsigned mask;
    int src;
    CudasimWarpOp op;
    uint64_t value, result;
    Fiber *fiber;
};

struct Warp {
    unsigned exist, exited, arrived;
    Lane lane[32];
};

// What a thread needs to run the blocks of a launch, whose end gives it back: the next launch may be
// another thread's.
struct Exec {
    Fiber main;
    Fiber *current = &main;
    FiberList idle, ready, waiting; // waiting: at __syncthreads
    unsigned count = 0;             // threads of a block
    unsigned waiting_count = 0, exited_count = 0;
    bool met = false; // warps[] and exited_count are kept for this block
    const CudasimLaunch *launch = nullptr;
    const Work *threads_run = nullptr;
    Warp warps[32];
    unsigned order_stride = 1, order_offset = 0, fiber_count = 0;
    uint64_t random = 0;
};

static thread_local Exec *t_exec;
static std::mutex g_mutex;
static std::vector<Exec *> &g_idle = *new std::vector<Exec *>();

static void list_push(FiberList &list, Fiber *fiber) {
    fiber->next = nullptr;
    (list.head ? list.tail->next : list.head) = fiber;
    list.tail = fiber;
}

static Fiber *list_pop(FiberList &list) {
    Fiber *fiber = list.head;
    if (fiber) list.head = fiber->next;
    return fiber;
}

static void kernel_fatal(const char *what) {
    char where[200];
    kernel_where(where, sizeof(where));
    sim_fatal("%s%s", what, where);
}

// ---- fibers ----

#ifdef SIM_ASM_SWITCH
extern "C" void cudasim_switch(void **save, void *load);
asm(".text\n"
    ".globl cudasim_switch\n"
    ".type cudasim_switch, @function\n"
    "cudasim_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
    "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n"
    "    popq %r12\n    popq %rbx\n    popq %rbp\n"
    "    ret\n"
    ".size cudasim_switch, . - cudasim_switch\n");
#endif

#ifdef SIM_ASAN
// The first stack that a launch leaves is its thread's own.
static void fiber_arrives(Exec *e, void *sanitizer) {
    const void *stack;
    size_t size;
    __sanitizer_finish_switch_fiber(sanitizer, &stack, &size);
    if (e->main.stack) return;
    e->main.stack = (char *)stack;
    e->main.stack_size = size;
}
#endif

static void fiber_switch(Exec *e, Fiber *to) {
    Fiber *from = e->current;
    if (from == to) return;
    e->current = to;
#ifdef SIM_ASAN
    __sanitizer_start_switch_fiber(&from->sanitizer, to->stack, to->stack_size);
#elif defined(SIM_TSAN)
    __tsan_switch_to_fiber(to->sanitizer, 0);
#endif
#ifdef SIM_ASM_SWITCH
    cudasim_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
#ifdef SIM_ASAN
    fiber_arrives(e, from->sanitizer);
#endif
}

static void block_deadlock(Exec *e) {
    char text[160];
    unsigned waiting = e->waiting_count;
    snprintf(text, sizeof(text),
        "barrier deadlock (%u threads wait at __syncthreads, %u at a warp "
        "operation, %u have returned)",
        waiting, e->count - waiting - e->exited_count, e->exited_count);
    kernel_fatal(text);
}

// Between launches a fiber is idle here, and goes on in another thread: after a switch nothing of a
// thread's own is looked at that was found before it.
static void fiber_main() {
    Exec *e = t_exec;
#ifdef SIM_ASAN
    fiber_arrives(e, nullptr);
#endif
    for (;;) {
        (*e->threads_run)();
        Fiber *next = list_pop(e->ready);
        if (!next && e->met && e->exited_count != e->count) block_deadlock(e);
        list_push(e->idle, e->current);
        fiber_switch(e, next ? next : &e->main);
    }
}

static Fiber *fiber_take(Exec *e) {
    Fiber *fiber = list_pop(e->idle);
    if (fiber) return fiber;
    fiber = new Fiber();
    fiber->stack_size = (size_t)sim_env("CUDASIM_STACK_KB", 64) << 10;
    fiber->stack = (char *)mmap(nullptr, fiber->stack_size, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber->stack == MAP_FAILED) kernel_fatal("no memory for the stack of a simulated thread");
    mprotect(fiber->stack, 4096, PROT_NONE);
#ifdef SIM_TSAN
    fiber->sanitizer = __tsan_create_fiber(0);
#endif
#ifdef SIM_ASM_SWITCH
    // Stacks start at staggered offsets, or their hot lines would share the same cache sets.
    void **top = (void **)(fiber->stack + fiber->stack_size - e->fiber_count++ % 32 * 320);
    top[-2] = (void *)fiber_main; // returned to by the first switch
    fiber->sp = top - 8;          // six registers below it
#else
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = fiber->stack_size;
    makecontext(&fiber->context, fiber_main, 0);
#endif
    return fiber;
}

// The current thread waits until another one puts its fiber on the ready list.
static void fiber_block(Exec *e) {
    CudasimSelf *self = &cudasim_self;
    uint3 thread = self->thread;
    Fiber *next = list_pop(e->ready);
    if (!next && self->next < self->count) next = fiber_take(e);
    if (!next) block_deadlock(e);
    fiber_switch(e, next);
    self->thread = thread;
}

// ---- threads of a block ----

static void warps_init(Exec *e) {
    unsigned count = cudasim_self.count;
    for (unsigned w = 0; w * 32 < count; w++) {
        unsigned lanes = count - w * 32;
        e->warps[w].exist = lanes >= 32 ? ~0u : (1u << lanes) - 1;
        e->warps[w].exited = e->warps[w].arrived = 0;
    }
    e->met = cudasim_self.slow = true;
}

// Called at every barrier. At the first one of a block, threads that already returned are noted:
// up to then one fiber ran them in order, so they are those before the current one.
static void block_meet(Exec *e) {
    if (!e) sim_fatal("barrier or warp operation outside a kernel");
    if (e->met) return;
    warps_init(e);
    e->current->thread = cudasim_self.next - 1;
    e->exited_count = e->current->thread;
    for (unsigned t = 0; t < e->exited_count; t++) e->warps[t / 32].exited |= 1u << (t % 32);
}

// Lets the lanes of `mask` go on if all of them that still run have arrived with the same mask.
static bool warp_release(Exec *e, Warp &warp, unsigned mask) {
    unsigned need = mask & warp.exist & ~warp.exited, ballot = 0;
    if ((warp.arrived & need) != need) return false;
    CudasimWarpOp op = warp.lane[__builtin_ctz(need)].op;
    for (unsigned left = need; left; left &= left - 1) {
        Lane &lane = warp.lane[__builtin_ctz(left)];
        if (lane.mask != mask) return false;
        if (lane.op != op) kernel_fatal("lanes of one warp met in different warp operations");
        ballot |= (unsigned)(lane.value != 0) << __builtin_ctz(left);
    }
    for (unsigned left = need; left; left &= left - 1) {
        Lane &lane = warp.lane[__builtin_ctz(left)];
        if (op == CUDASIM_BALLOT)
            lane.result = ballot;
        else // a lane that is not taking part gives poison, a NaN
            lane.result = need >> (lane.src & 31) & 1 ? warp.lane[lane.src & 31].value : ~0ull;
        if (lane.fiber != e->current) list_push(e->ready, lane.fiber);
    }
    warp.arrived &= ~need;
    return true;
}

uint64_t cudasim_warp_exchange(CudasimWarpOp op, unsigned mask, uint64_t value, int src) {
    Exec *e = t_exec;
    block_meet(e);
    unsigned thread = e->current->thread, lane = thread % 32;
    Warp &warp = e->warps[thread / 32];
    if (!(mask >> lane & 1)) kernel_fatal("warp operation by a lane outside its own mask");
    warp.lane[lane] = Lane{mask, src, op, value, 0, e->current};
    warp.arrived |= 1u << lane;
    if (!warp_release(e, warp, mask)) fiber_block(e);
    return warp.lane[lane].result;
}

void cudasim_block_wait(void) {
    Exec *e = t_exec;
    block_meet(e);
    if (++e->waiting_count < cudasim_self.count) {
        list_push(e->waiting, e->current);
        fiber_block(e);
        return;
    }
    e->waiting_count = 0;
    while (Fiber *fiber = list_pop(e->waiting)) list_push(e->ready, fiber);
}

unsigned cudasim_lane(void) {
    const CudasimSelf *s = &cudasim_self;
    const dim3 &dim = s->block_dim;
    return (s->thread.x + dim.x * (s->thread.y + dim.y * s->thread.z)) % 32;
}

bool cudasim_thread_next_slow(void) {
    Exec *e = t_exec;
    CudasimSelf *self = &cudasim_self;
    Fiber *fiber = e->current;
    if (fiber->thread != NONE) {
        Warp &warp = e->warps[fiber->thread / 32];
        warp.exited |= 1u << (fiber->thread % 32);
        e->exited_count++;
        fiber->thread = NONE;
        for (unsigned left = warp.arrived; left & warp.arrived; left &= left - 1)
            warp_release(e, warp, warp.lane[__builtin_ctz(left)].mask);
    }
    if (self->next == self->count) return false;
    unsigned t = (self->next++ * (uint64_t)e->order_stride + e->order_offset) % self->count;
    fiber->thread = t;
    self->thread.x = t % self->block_dim.x;
    self->thread.y = t / self->block_dim.x % self->block_dim.y;
    self->thread.z = t / (self->block_dim.x * self->block_dim.y);
    return true;
}

// ---- launches ----

// Chooses i -> (i * stride + offset) % n, a permutation: 0 natural, 1 reversed, 2 random.
static void order_choose(
    long mode, uint64_t &random, unsigned n, unsigned *stride, unsigned *offset) {
    *stride = mode == 1 ? n - 1 + (n == 1) : 1;
    *offset = mode == 1 ? n - 1 : 0;
    if (mode != 2) return;
    *offset = (unsigned)(sim_random(random) % n);
    unsigned a, b;
    do {
        *stride = a = 1 + (unsigned)(sim_random(random) % n);
        b = n;
        while (b) std::swap(a %= b, b);
    } while (a != 1);
}

void kernel_where(char *text, size_t size) {
    *text = 0;
    const CudasimSelf &s = cudasim_self;
    if (t_exec && t_exec->launch)
        snprintf(text, size, " in kernel %s, block (%u,%u,%u), thread (%u,%u,%u)",
            t_exec->launch->name, s.block.x, s.block.y, s.block.z, s.thread.x, s.thread.y,
            s.thread.z);
}

static void block_run(Exec *e, long order) {
    CudasimSelf *self = &cudasim_self;
    self->next = 0;
    self->slow = e->met = false;
    e->exited_count = e->waiting_count = 0;
    e->order_stride = 1;
    e->order_offset = 0;
    if (order) {
        order_choose(order, e->random, self->count, &e->order_stride, &e->order_offset);
        warps_init(e);
    }
    unsigned char *shared = CUDASIM_DYNAMIC_NAME, *end = shared + e->launch->shared_bytes;
    memset(shared, 0xff, e->launch->shared_bytes + CANARY);
    fiber_switch(e, fiber_take(e));
    for (size_t i = 0; i < CANARY; i++)
        if (end[i] != 0xff) kernel_fatal("write past the end of dynamic shared memory");
}

static Exec *exec_take() {
    std::lock_guard<std::mutex> lock(g_mutex);
    if (g_idle.empty()) {
        Exec *fresh = new Exec();
        fresh->random = (uint64_t)sim_env("CUDASIM_SEED", 1);
        return fresh;
    }
    Exec *e = g_idle.back();
    g_idle.pop_back();
    return e;
}

static void exec_give(Exec *e) {
    e->launch = nullptr;
    e->main.stack = nullptr;
    std::lock_guard<std::mutex> lock(g_mutex);
    g_idle.push_back(e);
}

void kernel_run(const CudasimLaunch &launch, const Work &threads_run) {
    Exec *e = t_exec = exec_take();
    long order = sim_env("CUDASIM_ORDER", 0);
#ifdef SIM_TSAN
    e->main.sanitizer = __tsan_get_current_fiber();
#endif
    e->launch = &launch;
    e->threads_run = &threads_run;
    CudasimSelf *self = &cudasim_self;
    self->block_dim = launch.block;
    self->grid_dim = launch.grid;
    self->count = e->count = launch.block.x * launch.block.y * launch.block.z;
    uint64_t plane = (uint64_t)launch.grid.x * launch.grid.y, blocks = plane * launch.grid.z;
    unsigned stride = 1, offset = 0;
    if (blocks < ~0u) order_choose(order, e->random, (unsigned)blocks, &stride, &offset);
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t b = (i * stride + offset) % blocks;
        self->block = uint3{(unsigned)(b % launch.grid.x), (unsigned)(b % plane / launch.grid.x),
            (unsigned)(b / plane)};
        block_run(e, order);
    }
    t_exec = nullptr;
    exec_give(e);
}

static std::map<const void *, size_t> &g_shared_max = *new std::map<const void *, size_t>();

bool cudasim_launch_begin(const CudasimLaunch &launch) {
    char call[128];
    snprintf(call, sizeof(call), "launch of kernel %s", launch.name);
    sim_enter(call);
    memory_far_clear();
    CUstream_st *stream = stream_get(call, launch.stream);
    if (stream->device != sim_device())
        sim_fatal("%s: stream of device %d used while device %d is current "
                  "(cudaErrorInvalidResourceHandle)",
            call, stream->device, sim_device());
    if (sim_faulted(stream->device)) return sim_return(cudaErrorIllegalAddress) == cudaSuccess;
    const dim3 &g = launch.grid, &b = launch.block;
    uint64_t threads = (uint64_t)b.x * b.y * b.z;
    size_t shared_max = SHARED_DEFAULT;
    {
        std::lock_guard<std::mutex> lock(g_mutex);
        auto it = g_shared_max.find(launch.func);
        if (it != g_shared_max.end()) shared_max = it->second;
    }
    if (!g.x || !g.y || !g.z || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535 || !threads ||
        threads > 1024 || b.z > 64)
        return sim_return(cudaErrorInvalidConfiguration) == cudaSuccess;
    return sim_return(launch.shared_bytes > shared_max ? cudaErrorInvalidValue : cudaSuccess) ==
           cudaSuccess;
}

void cudasim_arg_check(
    const CudasimLaunch &launch, int index, const void *arg, size_t size, bool is_pointer) {
    for (size_t i = 0; i + sizeof(void *) <= size; i += sizeof(void *)) {
        const void *word;
        memcpy(&word, (const char *)arg + i, sizeof(word));
        memory_check_arg(launch, sim_device(), index, word, is_pointer);
    }
}

void cudasim_launch_push(const CudasimLaunch &launch, Work threads_run) {
    stream_push(stream_get(launch.name, launch.stream), launch.name,
        memory_far_trouble(
            sim_device(), [launch, run = std::move(threads_run)] { kernel_run(launch, run); }));
}

extern "C" cudaError_t cudaFuncSetAttribute(const void *func, cudaFuncAttribute attr, int value) {
    sim_enter("cudaFuncSetAttribute");
    if (attr == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || (size_t)value > SHARED_MAX) return sim_return(cudaErrorInvalidValue);
        std::lock_guard<std::mutex> lock(g_mutex);
        g_shared_max[func] = (size_t)value;
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(
    int *blocks, const void *, int block_size, size_t) {
    *blocks = block_size > 0 ? 2048 / block_size : 0;
    return cudaSuccess;
}
