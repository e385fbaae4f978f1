/* test_failing.c -- whatever the system refuses the program, one call after the other: it ends in
 * words, never by a signal, never by waiting, and what was saved before is still good. The program is
 * $HUDDLE.
 *
 * tests/failing.c makes the calls fail. Every FAILING_STRIDE-th is tried, by default few;
 * FAILING_STRIDE=1 tries each, in minutes.
 */
#include <dirent.h>

#include "base/safetensors.h"
#include "program.h"
#include "simulation.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_OTHER_MALLOC 1 /* of the sanitizer, which must come before all others */
#else
#define HAS_OTHER_MALLOC 0
#endif

static void open_all(void) {
    static const char memory[] = "/dev/shm";
    if (access(memory, W_OK) == 0) setenv("TMPDIR", memory, 0);
    files_open();
    if (HAS_OTHER_MALLOC) cr_skip_test("a sanitizer's malloc cannot be replaced");
}

TestSuite(failing, .init = open_all, .fini = files_close, .timeout = 1800);

/* ---- files ------------------------------------------------------------------------------------ */

static void copy_file(const char *from, const char *to) {
    size_t n = 0;
    char *bytes = program_load(from, &n);
    FILE *f = fopen(to, "wb");
    cr_assert(bytes && f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0, "cannot copy %s", from);
    free(bytes);
}

/* Calls `one` on each file of the run `name`. */
static void each_file(const char *name, void (*one)(const char *path, const char *file)) {
    char path[1024];
    DIR *d = opendir(files_path(name));
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", files_path(name), e->d_name);
        one(path, e->d_name);
    }
    if (d) closedir(d);
}

static void copy_into_run(const char *path, const char *file) {
    char to[200];
    snprintf(to, sizeof to, "run/%s", file);
    copy_file(path, files_path(to));
}

static void forget(const char *name) {
    nftw(files_path(name), files_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static int states;

/* What is there under its own name reads; nothing half is there under another. */
static void check_file(const char *path, const char *file) {
    struct safetensors read;
    const char *end = strrchr(file, '.');
    cr_assert(end && strcmp(end, ".part") != 0, "%s is left", file);
    states += strncmp(file, "state-", 6) == 0;
    if (strcmp(end, ".safetensors") != 0) return;
    cr_assert(safetensors_read(&read, path) == STATUS_OK, "%s", fail_message());
    safetensors_close(&read);
}

/* Whoever is killed cannot take its part away. */
static void check_unless_part(const char *path, const char *file) {
    const char *end = strrchr(file, '.');
    if (!end || strcmp(end, ".part") != 0) check_file(path, file);
}

/* ---- the program ------------------------------------------------------------------------------ */

enum { WORDS = 12 };

struct failure {
    const char *what;         /* for messages */
    const char *kind;         /* FAILING_KIND */
    int saved;                /* begins with a run that was stopped, in the folder "run" */
    int every;                /* the stride where none is asked for */
    const char *words[WORDS]; /* of the program; NULL ends them */
};

/* Where the CUDA runtime stands in the program, if it was linked into it: when it gets no memory it
 * ends in its own way. */
static void leave_out_cuda(void) {
    char line[600], from[20] = "", to[20] = "", found[20], type, started = 0;
    snprintf(line, sizeof line, "nm -n '%s' 2>&1", program_path());
    FILE *nm = popen(line, "r");
    while (nm && fgets(line, sizeof line, nm)) {
        if (sscanf(line, "%19s %c", found, &type) != 2) continue;
        started |= strstr(line, " T _start\n") != NULL;
        if (!started || !strstr(line, " libcudart_static_") || (type != 't' && type != 'T'))
            continue;
        if (!*from) snprintf(from, sizeof from, "%s", found);
        snprintf(to, sizeof to, "%s", found);
    }
    if (nm) pclose(nm);
    snprintf(line, sizeof line, "%s %s", from, to);
    setenv("FAILING_BUT", line, 1);
}

/* How often the program failed, and how often it could do without what it did not get. */
struct ends {
    int failed, passed;
};

static struct program run_failing(const struct failure *c, long at, int on) {
    char text[32];
    if (!getenv("FAILING_BUT")) leave_out_cuda();
    unlink(files_path("told"));
    snprintf(text, sizeof text, "%ld", at);
    setenv("FAILING_KIND", c->kind, 1);
    setenv("FAILING_AT", text, 1);
    setenv("FAILING_TOLD", files_path("told"), 1);
    if (on) setenv("FAILING_ON", "1", 1);
    setenv("LD_PRELOAD", FAILING, 1);
    struct program p = program_run(c->words);
    unsetenv("LD_PRELOAD");
    unsetenv("FAILING_ON");
    return p;
}

static void check_end(
    const struct failure *c, long at, const struct program *p, struct ends *ends) {
    cr_assert(p->signal != SIGALRM, "%s, %s %ld: it hangs: %s", c->what, c->kind, at, p->err);
    cr_assert(p->signal == 0, "%s, %s %ld: signal %d: %s", c->what, c->kind, at, p->signal, p->err);
    cr_assert(p->code >= 0 && p->code <= 3, "%s, %s %ld: exit %d: %s", c->what, c->kind, at,
        p->code, p->err);
    int is_output = strcmp(c->kind, "output") == 0;
    cr_assert(p->code == 3 || !is_output, "%s, %s %ld: exit %d though the disk failed: %s", c->what,
        c->kind, at, p->code, p->err);
    int told = strncmp(p->err, "error", 5) == 0 || strstr(p->err, "\nerror") != NULL;
    cr_assert(told == (p->code != 0), "%s, %s %ld: exit %d, and it says: %s", c->what, c->kind, at,
        p->code, p->err);
    if (p->code) {
        ends->failed++;
    } else {
        ends->passed++;
    }
}

/* A run that was saved goes on and can be judged. */
static void check_saved(const struct failure *c, long at) {
    states = 0;
    each_file("run", check_file);
    if (states == 0) {
        cr_assert(!c->saved, "%s, %s %ld: no state is left", c->what, c->kind, at);
        return;
    }
    struct program p = program("resume", "@/run", "steps=60");
    cr_assert(p.code == 0, "%s, %s %ld: cannot go on: %s", c->what, c->kind, at, p.err);
    program_close(&p);
    p = program("evaluate", "@/run/checkpoint.safetensors");
    cr_assert(p.code == 0, "%s, %s %ld: cannot be judged: %s", c->what, c->kind, at, p.err);
    program_close(&p);
}

static void begin_anew(const struct failure *c) {
    forget("run");
    if (!c->saved) return;
    files_make_folder("run");
    each_file("base", copy_into_run);
}

/* True once nothing failed: there are fewer such calls. */
static int try_once(const struct failure *c, long at, int on, struct ends *ends) {
    begin_anew(c);
    struct program p = run_failing(c, at, on);
    int failed = access(files_path("told"), F_OK) == 0;
    if (failed) {
        check_end(c, at, &p, ends);
    } else {
        cr_assert(p.code == 0, "%s: exit %d though nothing failed: %s", c->what, p.code, p.err);
    }
    program_close(&p);
    check_saved(c, at);
    return !failed;
}

static void try_all(const struct failure *c) {
    if (SIMULATED && !strcmp(c->kind, "memory")) {
        cr_skip_test("the simulated CUDA ends the program when it gets no memory itself");
    }
    const char *asked = getenv("FAILING_STRIDE");
    int stride = asked ? atoi(asked) : c->every;
    for (int on = 0; on < 2; on++) {
        struct ends ends = {0, 0};
        for (long at = 1 + on * (stride / 2); !try_once(c, at, on, &ends);) at += stride;
        cr_assert(ends.failed > 0, "%s: nothing failed", c->what);
        printf("%s, %s%s: ended in words %d times, did without %d times\n", c->what, c->kind,
            on ? " and all after" : "", ends.failed, ends.passed);
    }
}

#define TRAIN                                                                                      \
    "train", "folder=@", "model.layers=dense 10", "workers=2", "epochs=0", "order=fixed",          \
        "topology.threads=1"

static void make_base(void) {
    struct program p = program(TRAIN, "steps=20", "name=base");
    cr_assert(p.code == 0, "%s", p.err);
    program_close(&p);
}

Test(failing, training_without_memory_ends_in_words) {
    static const struct failure c = {"train", "memory", 0, 41, {TRAIN, "steps=20", "name=run"}};
    try_all(&c);
}

Test(failing, resuming_without_memory_ends_in_words_and_keeps_what_was_saved) {
    static const struct failure c = {"resume", "memory", 1, 61, {"resume", "@/run", "steps=40"}};
    make_base();
    try_all(&c);
}

Test(failing, judging_without_memory_ends_in_words) {
    static const struct failure c = {
        "evaluate", "memory", 1, 61, {"evaluate", "@/run/checkpoint.safetensors"}};
    make_base();
    try_all(&c);
}

Test(failing, showing_the_machine_without_memory_ends_in_words) {
    static const struct failure c = {"topo", "memory", 0, 3, {"topo"}};
    try_all(&c);
}

/* Where there is no memory for stdout's buffer, stdio does without. */
Test(failing, help_needs_no_memory) {
    static const struct failure c = {"help", "memory", 0, 1, {"help", "options"}};
    for (int on = 0; on < 2; on++) {
        struct ends ends = {0, 0};
        for (long at = 1; !try_once(&c, at, on, &ends);) at++;
        cr_assert(ends.failed == 0, "help failed");
    }
}

Test(failing, training_on_a_disk_that_fails_ends_in_words) {
    if (SIMULATED) cr_skip_test("a disk is no matter of devices: make test runs it");
    static const struct failure c = {"train", "output", 0, 1, {TRAIN, "steps=20", "name=run"}};
    try_all(&c);
}

Test(failing, resuming_on_a_disk_that_fails_keeps_what_was_saved) {
    static const struct failure c = {"resume", "output", 1, 3, {"resume", "@/run", "steps=40"}};
    make_base();
    try_all(&c);
}

/* Each write is half done when the kill comes; then the run goes on from the newest state there is. */
static int kill_at(const struct failure *c, long at) {
    begin_anew(c);
    struct program p = run_failing(c, at, 0);
    int killed = access(files_path("told"), F_OK) == 0;
    cr_assert(p.signal == (killed ? SIGKILL : 0), "%s, kill %ld: exit %d, signal %d: %s", c->what,
        at, p.code, p.signal, p.err);
    program_close(&p);
    states = 0;
    each_file("run", check_unless_part);
    cr_assert(states > 0 || !c->saved, "%s, kill %ld: no state is left", c->what, at);
    if (states == 0) return killed;
    p = program("resume", "@/run", "steps=60");
    cr_assert(p.code == 0, "%s, kill %ld: cannot go on: %s", c->what, at, p.err);
    cr_assert(!strstr(p.err, "trying the state before"), "%s, kill %ld: %s", c->what, at, p.err);
    program_close(&p);
    return killed;
}

static void kill_at_each(const struct failure *c) {
    long at = 1;
    setenv("FAILING_KILLS", "1", 1);
    while (kill_at(c, at)) at++;
    unsetenv("FAILING_KILLS");
    cr_assert(at > 20, "%s: only %ld kills", c->what, at - 1);
}

Test(failing, a_kill_within_any_write_leaves_every_file_whole_and_the_run_goes_on) {
    if (SIMULATED) cr_skip_test("a disk is no matter of devices: make test runs it");
    static const struct failure train = {"train", "output", 0, 1, {TRAIN, "steps=20", "name=run"}};
    static const struct failure resume = {
        "resume", "output", 1, 1, {"resume", "@/run", "steps=40"}};
    kill_at_each(&train);
    make_base();
    kill_at_each(&resume);
}
