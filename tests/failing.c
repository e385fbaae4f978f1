/* failing.c -- a library for LD_PRELOAD: one chosen call of the program fails.
 *
 * FAILING_KIND says what is counted:
 *   memory  what takes memory or starts a thread: malloc and its kin, mmap, pthread_create
 *   output  what puts a file on the disk: fopen for writing, each write behind stdio, fsync, fclose,
 *           rename, mkdir, ftruncate; a write that fails has written half
 * FAILING_AT is which of them fails, from 1; with FAILING_ON all that follow fail too, with
 * FAILING_KILLS the program is killed in it. When it did, FAILING_TOLD is a file. After
 * FAILING_SECONDS the program is ended by SIGALRM: a hang.
 *
 * Memory is counted where the caller is huddle, cJSON, inih, zlib, or the C library on behalf of
 * whom ever. Others end the process by themselves when they get none (libgomp and the loader in
 * words of their own, hwloc and oneDNN by what they do with a NULL), and that is theirs to mend.
 * A library that is linked into the program is left out by FAILING_BUT, two addresses in the file.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MEMORY = 1, OUTPUT, RANGES_MOST = 16, FILES_MOST = 16 };

static int kind, on, kills; /* kind 0: nothing fails */
static long at;
static const char *told;
static atomic_long count;

static struct range { uintptr_t from, to; } range[RANGES_MOST], but;
static int ranges;

static int is_counted(const char *name) {
    static const char *const known[] = {"libc.so", "libcjson", "libinih", "libz.so"};
    if (!*name) return 1; /* the program */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strstr(name, known[i])) return 1;
    }
    return 0;
}

static int add_range(struct dl_phdr_info *info, size_t size, void *with) {
    const char *text = getenv("FAILING_BUT");
    (void)size, (void)with;
    if (!*info->dlpi_name && text && sscanf(text, "%lx %lx", &but.from, &but.to) == 2) {
        but.from += info->dlpi_addr;
        but.to += info->dlpi_addr;
    }
    for (int i = 0; i < info->dlpi_phnum && is_counted(info->dlpi_name); i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_LOAD || !(h->p_flags & PF_X) || ranges == RANGES_MOST) continue;
        uintptr_t from = (uintptr_t)(info->dlpi_addr + h->p_vaddr);
        range[ranges++] = (struct range){from, from + (uintptr_t)h->p_memsz};
    }
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *what = getenv("FAILING_KIND"), *n = getenv("FAILING_AT");
    const char *seconds = getenv("FAILING_SECONDS");
    told = getenv("FAILING_TOLD");
    on = getenv("FAILING_ON") != NULL;
    kills = getenv("FAILING_KILLS") != NULL;
    if (!what || !n || !told) return;
    alarm(seconds ? (unsigned)atoi(seconds) : 60);
    at = atol(n);
    dl_iterate_phdr(add_range, NULL);
    kind = strcmp(what, "memory") == 0 ? MEMORY : OUTPUT;
}

/* Is this the call? */
static int is_chosen(int what) {
    if (kind != what) return 0;
    long n = atomic_fetch_add(&count, 1) + 1;
    if (n == at) close(open(told, O_WRONLY | O_CREAT, 0600));
    return n == at || (on && n > at);
}

static int fails(int what, int why) {
    if (!is_chosen(what)) return 0;
    if (kills) raise(SIGKILL);
    errno = why;
    return 1;
}

static int memory_fails(const void *caller) {
    for (int i = 0; kind == MEMORY && i < ranges; i++) {
        uintptr_t a = (uintptr_t)caller;
        if (a >= but.from && a < but.to) return 0;
        if (a >= range[i].from && a < range[i].to) return fails(MEMORY, ENOMEM);
    }
    return 0;
}

#define CALLER __builtin_return_address(0)
/* What stood under this name without us, as a function of this one's type. */
#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

/* ---- memory ----------------------------------------------------------------------------------- */

extern void *__libc_malloc(size_t n), *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t n), *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n) { return memory_fails(CALLER) ? NULL : __libc_malloc(n); }

void *calloc(size_t n, size_t size) { return memory_fails(CALLER) ? NULL : __libc_calloc(n, size); }

void *realloc(void *old, size_t n) { return memory_fails(CALLER) ? NULL : __libc_realloc(old, n); }

void *aligned_alloc(size_t align, size_t n) {
    return memory_fails(CALLER) ? NULL : __libc_memalign(align, n);
}

void *mmap(void *to, size_t n, int protection, int flags, int fd, off_t offset) {
    if (memory_fails(CALLER)) return MAP_FAILED;
    return REAL(mmap)(to, n, protection, flags, fd, offset);
}

int pthread_create(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *), void *with) {
    if (memory_fails(CALLER)) return EAGAIN;
    return REAL(pthread_create)(thread, attributes, main, with);
}

/* ---- output ----------------------------------------------------------------------------------- */

/* Files that are written, so that they still have a descriptor. */
static struct opened {
    FILE *file;
    int fd;
} opened[FILES_MOST];

static ssize_t file_write(void *cookie, const char *bytes, size_t n) {
    const struct opened *o = cookie;
    int fail = is_chosen(OUTPUT);
    ssize_t wrote = write(o->fd, bytes, fail ? n / 2 : n);
    if (fail && kills) raise(SIGKILL);
    if (fail) errno = ENOSPC;
    return wrote < 0 ? 0 : wrote;
}

static int file_seek(void *cookie, off64_t *to, int from) {
    const struct opened *o = cookie;
    *to = lseek64(o->fd, *to, from);
    return *to < 0 ? -1 : 0;
}

static int file_close(void *cookie) {
    struct opened *o = cookie;
    int bad = close(o->fd);
    o->file = NULL;
    return fails(OUTPUT, ENOSPC) ? -1 : bad;
}

static FILE *open_counted(const char *path, const char *mode) {
    static const cookie_io_functions_t functions = {
        .write = file_write, .seek = file_seek, .close = file_close};
    int flags = *mode == 'w' ? O_WRONLY | O_CREAT | O_TRUNC : O_RDWR;
    if (fails(OUTPUT, ENOSPC)) return NULL;
    for (struct opened *o = opened; o < opened + FILES_MOST; o++) {
        if (o->file) continue;
        o->fd = open(path, flags, 0666);
        return o->fd < 0 ? NULL : (o->file = fopencookie(o, mode, functions));
    }
    abort();
}

FILE *fopen(const char *path, const char *mode) {
    if (kind == OUTPUT && strpbrk(mode, "wa+")) return open_counted(path, mode);
    return REAL(fopen)(path, mode);
}

int fileno(FILE *file) {
    for (const struct opened *o = opened; o < opened + FILES_MOST; o++) {
        if (file && o->file == file) return o->fd;
    }
    return REAL(fileno)(file);
}

int fsync(int fd) { return fails(OUTPUT, EIO) ? -1 : REAL(fsync)(fd); }

int ftruncate(int fd, off_t n) { return fails(OUTPUT, EIO) ? -1 : REAL(ftruncate)(fd, n); }

int rename(const char *from, const char *to) {
    return fails(OUTPUT, EIO) ? -1 : REAL(rename)(from, to);
}

int mkdir(const char *path, mode_t mode) {
    return fails(OUTPUT, ENOSPC) ? -1 : REAL(mkdir)(path, mode);
}
