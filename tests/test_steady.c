/* test_steady.c -- between the first round and the last nobody asks for memory, and local steps ask
 * for no lock and no time.
 *
 * malloc and its kin are this program's: they count while a run trains, and then do what they
 * always do. Who called says whose the memory is: huddle is linked into this program.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

#include "base/log.h"
#include "base/options.h"
#include "runs.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_OTHER_MALLOC 1 /* the sanitizer's cannot be replaced */
#else
#define HAS_OTHER_MALLOC 0
#endif

/* ---- counting --------------------------------------------------------------------------------- */

enum { WARM = 2 }; /* rounds in which libraries may set themselves up for a thread */

/* Whose memory it is. oneDNN, or a BLAS, is left to itself: dnnl_sgemm takes some at every call. */
enum { OURS, GEMMS, OTHERS, KINDS };

static atomic_int training;             /* somebody's first round has begun, no evaluation has */
static _Thread_local int warming;       /* this thread is in its first rounds */
static atomic_long count[KINDS], early; /* early: of others while warming */
static _Thread_local int works;         /* this thread is a worker, in a round */
static atomic_long clocks, locks;       /* what workers asked for while they trained */

enum { RANGES = 8 };

static struct range_of_code {
    uintptr_t from, to;
    int kind;
} code[RANGES];
static int codes;

static int kind_of(const char *name) {
    if (!*name) return OURS; /* this program */
    int gemm = strstr(name, "libdnnl") || strstr(name, "blas") || strstr(name, "libstdc++");
    return gemm ? GEMMS : OTHERS;
}

static int find_code(struct dl_phdr_info *info, size_t size, void *with) {
    (void)size, (void)with;
    int kind = kind_of(info->dlpi_name);
    for (int i = 0; i < info->dlpi_phnum && kind != OTHERS; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_LOAD || !(h->p_flags & PF_X) || codes == RANGES) continue;
        uintptr_t from = (uintptr_t)(info->dlpi_addr + h->p_vaddr);
        code[codes++] = (struct range_of_code){from, from + (uintptr_t)h->p_memsz, kind};
    }
    return 0;
}

static void open_all(void) {
    log_show(LOG_ERROR);
    dl_iterate_phdr(find_code, NULL);
    if (HAS_OTHER_MALLOC) cr_skip_test("a sanitizer's malloc cannot be replaced");
}

TestSuite(steady, .init = open_all, .timeout = 120);

#if !HAS_OTHER_MALLOC
static void count_from(const void *caller) {
    uintptr_t at = (uintptr_t)caller;
    int kind = OTHERS;
    if (!atomic_load(&training)) return;
    for (int i = 0; i < codes; i++) {
        if (at >= code[i].from && at < code[i].to) kind = code[i].kind;
    }
    atomic_fetch_add(kind == OTHERS && warming ? &early : &count[kind], 1);
}

#define COUNT() count_from(__builtin_return_address(0))

static int is_ours(const void *caller) {
    uintptr_t at = (uintptr_t)caller;
    int ours = 0;
    for (int i = 0; i < codes; i++) {
        ours |= code[i].kind == OURS && at >= code[i].from && at < code[i].to;
    }
    return ours;
}

__attribute__((noinline)) int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (works && is_ours(__builtin_return_address(0))) atomic_fetch_add(&clocks, 1);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    return real(which, now);
}

__attribute__((noinline)) int pthread_mutex_lock(pthread_mutex_t *lock) {
    static int (*real)(pthread_mutex_t *);
    if (works && is_ours(__builtin_return_address(0))) atomic_fetch_add(&locks, 1);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_mutex_lock");
    return real(lock);
}

extern void *__libc_malloc(size_t n), *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t n), *__libc_memalign(size_t align, size_t n);

__attribute__((noinline)) void *malloc(size_t n) {
    COUNT();
    return __libc_malloc(n);
}

__attribute__((noinline)) void *calloc(size_t n, size_t size) {
    COUNT();
    return __libc_calloc(n, size);
}

__attribute__((noinline)) void *realloc(void *old, size_t n) {
    COUNT();
    return __libc_realloc(old, n);
}

__attribute__((noinline)) void *aligned_alloc(size_t align, size_t n) {
    COUNT();
    return __libc_memalign(align, n);
}

__attribute__((noinline)) int posix_memalign(void **at, size_t align, size_t n) {
    COUNT();
    *at = __libc_memalign(align, n);
    return *at ? 0 : ENOMEM;
}

__attribute__((noinline)) void *mmap(
    void *to, size_t n, int protection, int flags, int fd, off_t offset) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    COUNT();
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "mmap");
    return real(to, n, protection, flags, fd, offset);
}
#endif

/* ---- runs ------------------------------------------------------------------------------------- */

static void begins(void *with, const struct worker *w) {
    (void)with;
    warming = w->round < WARM;
    works = 1;
    atomic_store(&training, 1);
}

/* The last rounds are over: all have gathered. */
static void judged(void *with, const struct worker *w, struct vec answer) {
    (void)with, (void)w, (void)answer;
    atomic_store(&training, 0);
    works = 0;
}

static void forget(void) {
    atomic_store(&training, 0);
    atomic_store(&early, 0);
    atomic_store(&clocks, 0);
    atomic_store(&locks, 0);
    for (int k = 0; k < KINDS; k++) atomic_store(&count[k], 0);
}

static void check_run(const char *words, const char *more) {
    const struct watch watch = {.begins = begins, .judged = judged};
    struct seen seen;
    forget();
    run_words(&seen, &watch, "devices=host schedule.rate=1e-3 %s %s", words, more);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    cr_assert(seen.rounds[0] > WARM + 2, "%s: only %ld rounds", words, seen.rounds[0]);
    cr_expect(count[OURS] == 0 && count[OTHERS] == 0,
        "%s %s: huddle took memory %ld times, libraries %ld times", words, more, (long)count[OURS],
        (long)count[OTHERS]);
    printf("%s %s: matrix products took memory %.3g times a step, other libraries %ld times in the "
           "first rounds\n",
        words, more, (double)count[GEMMS] / (double)seen.steps[0] / seen.size, (long)early);
    seen_close(&seen);
}

static const char *const orders[] = {"free", "fixed"};

static void check_steady(const char *task) {
    static const char *const strategy[] = {"strategy=allreduce",
        "strategy=easgd easgd.tau=3 easgd.mode=sync",
        "strategy=easgd easgd.tau=3 easgd.mode=async optimizer.kind=nesterov"};
    char words[256];
    for (int i = 0; i < 6; i++) {
        snprintf(
            words, sizeof words, "workers=2 steps=24 order=%s %s", orders[i % 2], strategy[i / 2]);
        check_run(words, task);
    }
}

Test(steady, what_takes_memory_while_a_run_trains_is_counted) {
    forget();
    atomic_store(&training, 1);
    void *volatile mine = malloc(3);
    char *volatile text = strdup("the C library's");
    atomic_store(&training, 0);
    cr_assert(
        count[OURS] == 1 && count[OTHERS] == 1, "%ld, %ld", (long)count[OURS], (long)count[OTHERS]);
    free(mine);
    free(text);
}

#define BOWL "quadratic.n=1000 quadratic.sigma=0.1 quadratic.spread=1"

Test(steady, a_quadratic_takes_none) { check_steady(BOWL); }

Test(steady, no_strategy_takes_any) {
    char words[256];
    for (int i = 0; strategies[i]; i++) {
        const char *name = strategies[i]->name;
        for (int order = 0; order < 2; order++) {
            snprintf(words, sizeof words, "workers=%d steps=60 order=%s strategy=%s %s",
                runs_workers(strategies[i], 3), orders[order], name, strategy_words(name));
            check_run(words, BOWL);
        }
    }
}

Test(steady, no_optimizer_takes_any) {
    char words[128], kind[32];
    for (int i = 0; i <= (int)optimizer_options->hi; i++) {
        option_word(optimizer_options, i, kind, sizeof kind);
        snprintf(words, sizeof words, "workers=2 steps=24 strategy=easgd optimizer.kind=%s", kind);
        check_run(words, BOWL " optimizer.decay=1e-3 easgd.tau=3");
    }
}

Test(steady, a_dense_net_takes_none) {
    check_steady("task=classify model.layers=2nn data.batch=10");
}

Test(steady, a_convolutional_net_takes_none) {
    check_steady("task=classify data.set=synthetic model.layers=mnist_cnn data.batch=2 "
                 "synthetic.samples=50 synthetic.height=28 synthetic.width=28");
}

Test(steady, a_residual_net_with_crops_takes_none) {
    check_steady("task=classify data.set=synthetic model.layers=resnet20 data.batch=2 data.crop=1 "
                 "data.flip=1 synthetic.samples=50 synthetic.height=8 synthetic.width=8");
}

Test(steady, shards_and_feeders_take_none) {
    check_steady(
        "task=classify model.layers=2nn data.sampling=shards data.batch=100 data.threads=2 "
        "optimizer.decay=1e-3");
}

/* ---- clocks and locks ------------------------------------------------------------------------- */

/* Rounds of so many steps that what a round costs does not count. */
#define LONG "=500 "

/* So often at most do workers look at the clock in a step; what they do once a round is left over. */
static void check_calls(const char *words, const char *more, double clocks_a_step) {
    const struct watch watch = {.begins = begins, .judged = judged};
    struct seen seen;
    forget();
    run_words(
        &seen, &watch, "devices=host workers=2 steps=2000 schedule.rate=1e-3 %s %s", words, more);
    cr_assert(seen.end == STATUS_OK, "%s", seen.why);
    double steps = (double)(seen.steps[0] + seen.steps[1]);
    double looks = (double)clocks / steps, taken = (double)locks / steps;
    printf("%s %s: workers look at the clock %.3g times a step, take %.3g locks\n", words, more,
        looks, taken);
    cr_assert(looks > 0 && taken > 0, "nothing is counted");
    cr_expect(taken < 0.1, "%s %s: %g locks a step", words, more, taken);
    cr_expect(
        looks < clocks_a_step + 0.1, "%s %s: %g looks at the clock a step", words, more, looks);
    seen_close(&seen);
}

static void check_all_calls(const char *more, double clocks_a_step) {
    static const char *const ways[] = {"strategy=easgd easgd.mode=sync easgd.tau" LONG,
        "strategy=easgd easgd.mode=async easgd.tau" LONG, "strategy=downpour downpour.tau" LONG,
        "strategy=local_sgd local_sgd.H" LONG, "strategy=diloco diloco.H" LONG};
    char words[128];
    for (size_t i = 0; i < 2 * sizeof ways / sizeof *ways; i++) {
        snprintf(words, sizeof words, "%sorder=%s", ways[i / 2], orders[i % 2]);
        check_calls(words, more, clocks_a_step);
    }
}

Test(steady, local_steps_look_at_no_clock_and_take_no_lock) {
    check_all_calls("quadratic.n=100", 0);
    check_all_calls("quadratic.n=100 optimizer.kind=adam", 0);
}

/* Before and after a batch that was not ready: the seconds that metrics call loading. */
Test(steady, a_batch_takes_two_looks_at_the_clock_and_no_lock) {
    runs_text = "[model]\nlayers = dense 10\n";
    check_all_calls("task=classify data.batch=10 data.threads=0", 2);
}
