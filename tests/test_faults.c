/* Whatever fails or freezes, wherever: the run ends, says which worker, and hangs nobody. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/log.h"
#include "faults.h"
#include "files.h"
#include "program.h"

/* A layer of each kind. */
static const char layers[] =
    "[model]\nlayers = conv 3 3 same nobias, batchnorm, relu, residual(conv 3 3 same), maxpool 2, "
    "avgpool 2, globalavgpool, tanh, dropout 0.5, dense 3\n";

static void open_quietly(void) {
    files_open();
    runs_text = layers;
    log_show(LOG_WARN);
}

TestSuite(faults, .timeout = 240, .init = open_quietly, .fini = files_close);

enum { WORKERS = 3, PATIENCE = 20 /* seconds for a run of milliseconds, on a crowded machine */ };

/* Every strategy, and what other settings make of some. */
static const char *const flavors_more[][2] = {
    {"gossip", "gossip.p=0.7 gossip.peers=near gossip.groups=2"}, {"easgd", "easgd.mode=sync"},
    {"local_sgd", "local_sgd.H=2 local_sgd.groups=2 local_sgd.blocks=2 local_sgd.momentum=average"},
    {NULL, NULL}};
enum { FLAVORS_MOST = 2 * RUNS_MOST };

static struct flavor {
    const char *strategy, *words;
    int workers;
} flavors[FLAVORS_MOST];

static int flavors_list(void) {
    int n = 0;
    for (int i = 0; strategies[i]; i++) {
        int workers = runs_workers(strategies[i], WORKERS);
        const char *name = strategies[i]->name;
        flavors[n++] = (struct flavor){name, strategy_words(name), workers};
    }
    for (int i = 0; flavors_more[i][0]; i++) {
        flavors[n++] = (struct flavor){flavors_more[i][0], flavors_more[i][1], WORKERS};
    }
    return n;
}

/* Between them they reach every point; a point is tried in the first that reaches it. */
static const char *const bodies[] = {
    "quadratic.sigma=1",
    "optimizer.kind=nesterov",
    "optimizer.kind=rmsprop",
    "optimizer.kind=adam",
    ("run.task=classify data.set=synthetic synthetic.samples=60 synthetic.height=8 "
     "synthetic.width=8 synthetic.classes=3 data.batch=5 data.threads=0"),
};
enum { BODIES = sizeof bodies / sizeof *bodies };

/* name: of the folder that the run leaves; NULL: none. */
static void words_of(
    char *text, size_t n, const struct flavor *f, int body, int order, const char *name) {
    int used = snprintf(text, n,
        "run.strategy=%s %s %s run.workers=%d run.steps=20 run.max_lag=1 run.order=%s "
        "schedule.rate=0.001",
        f->strategy, f->words, bodies[body], f->workers, order ? "fixed" : "free");
    if (!name) return;
    snprintf(text + used, n - (size_t)used, " run.folder=%s run.name=%s", files_folder, name);
}

/* ---- a run that hangs is named ---------------------------------------------------------------- */

static char now_trying[512];

static void on_alarm(int number) {
    static const char text[] = "this run hangs: ";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(99);
    if (write(STDERR_FILENO, now_trying, strlen(now_trying)) < 0) _exit(99);
    abort();
}

/* Threads of this process: those of a run are to be gone when it is over. */
static int count_threads(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

/* A run, with everything open to be closed when it is over. */
static enum status try_run(const struct fault *plan, const char *words, char *why) {
    int threads = count_threads();
    snprintf(now_trying, sizeof now_trying, "%s at call %ld of worker %d: %.380s\n",
        plan->nth ? points[plan->point].name : "nothing", plan->nth, plan->rank, words);
    signal(SIGALRM, on_alarm);
    alarm(PATIENCE);
    enum status end = fault_run(plan, words, 0, why);
    alarm(0);
    cr_assert_eq(faults.open, 0, "%d were not closed: %s", (int)faults.open, now_trying);
    /* The system may show a thread a moment longer than it takes to join it. */
    for (int i = 0; i < 1000 && count_threads() != threads; i++) usleep(1000);
    cr_assert_eq(count_threads(), threads, "threads are left: %s", now_trying);
    return end;
}

/* ---- who reaches what ------------------------------------------------------------------------- */

/* Calls of each point by each rank, in a run without a fault. */
struct reach {
    long calls[BODIES][POINTS_N][TEAM_MOST + 1];
};

static void count_calls(struct reach *reach, const struct flavor *f, int order, int leaves_folder) {
    const struct fault none = {0};
    char words[1024], why[512], name[32];
    for (int body = 0; body < BODIES; body++) {
        snprintf(name, sizeof name, "counted-%d-%d", (int)(f - flavors), body);
        words_of(words, sizeof words, f, body, order, leaves_folder ? name : NULL);
        enum status end = try_run(&none, words, why);
        cr_assert(end == STATUS_OK, "%s: %s", words, why);
        for (int p = 0; p < POINTS_N; p++) {
            for (int r = 0; r <= TEAM_MOST; r++) reach->calls[body][p][r] = faults.seen[p][r];
        }
    }
}

/* The first body in which the rank reaches the point; -1: none. */
static int body_for(const struct reach *reach, int point, int rank) {
    for (int body = 0; body < BODIES; body++) {
        if (reach->calls[body][point][rank] > 0) return body;
    }
    return -1;
}

/* Now the first call, now one in the middle; in free order not every run makes as many. */
static long nth_of(long calls, int i) { return i % 2 ? 1 : calls / 2 + (calls < 2); }

static int is_reached[POINTS_N];

/* ---- failures --------------------------------------------------------------------------------- */

static void check_failure(
    const struct reach *reach, const struct flavor *f, int order, struct fault plan) {
    char words[1024], why[512], want[128];
    const struct point *p = &points[plan.point];
    int body = body_for(reach, plan.point, plan.rank);
    if (body < 0) return;
    is_reached[plan.point] = 1;
    if (p->by == BY_NOTHING) return;
    plan.nth = nth_of(reach->calls[body][plan.point][plan.rank], plan.point + plan.rank + order);
    words_of(words, sizeof words, f, body, order, NULL);
    enum status end = try_run(&plan, words, why);
    enum status expected = p->by == BY_LATCH ? STATUS_DEVICE : STATUS_IO;
    cr_assert_eq(end, expected, "the run ended with %d, %s: %s", (int)end, why, now_trying);
    if (plan.rank == MAIN) {
        snprintf(want, sizeof want, "injected at %s", p->name);
    } else {
        snprintf(want, sizeof want, "worker %d: injected at %s", plan.rank, p->name);
    }
    cr_assert(!strcmp(why, want), "\"%s\", not \"%s\": %s", why, want, now_trying);
}

/* One point, of one strategy; false where none of the bodies comes there. */
static int check_point(const struct reach *reach, const struct flavor *f, int order, int point) {
    const int ranks[] = {0, f->workers - 1, MAIN};
    int reached = 0;
    for (int k = 0; k < 3; k++) {
        if (k == 1 && f->workers == 1) continue;
        if ((points[point].on == ON_MAIN) != (ranks[k] == MAIN)) continue;
        check_failure(reach, f, order, (struct fault){.point = point, .rank = ranks[k]});
        reached += body_for(reach, point, ranks[k]) >= 0;
    }
    return reached;
}

/* FAULTS=all tries every point of every strategy in both orders; without, half of them in each. */
static int is_tried(int flavor, int point, int order) {
    const char *asked = getenv("FAULTS");
    return (asked && !strcmp(asked, "all")) || (flavor + point + order) % 2 == 0;
}

static void check_all_failures(int order) {
    static struct reach reach;
    int n = flavors_list();
    for (int i = 0; i < n; i++) {
        char missed[2048] = "";
        count_calls(&reach, &flavors[i], order, 0);
        for (int p = 0; p < POINTS_N; p++) {
            size_t used = strlen(missed);
            if (!is_tried(i, p, order) || check_point(&reach, &flavors[i], order, p)) continue;
            snprintf(missed + used, sizeof missed - used, " %s", points[p].name);
        }
        fprintf(stderr, "%s %s does not reach:%s\n", flavors[i].strategy, flavors[i].words, missed);
    }
}

static void check_all_reached(void) {
    for (int p = 0; p < POINTS_N; p++) {
        int expected = points[p].on != UNUSED;
        if (points[p].by == BY_NOTHING) continue; /* only runs that save come there */
        cr_assert_eq(is_reached[p], expected, "%s is %s by some strategy: see POINTS in faults.h",
            points[p].name, expected ? "not reached" : "reached after all");
    }
}

Test(faults, a_failure_anywhere_ends_the_run_in_its_words_in_free_order) {
    NOT_SIMULATED;
    check_all_failures(0);
    check_all_reached();
}

Test(faults, a_failure_anywhere_ends_the_run_in_its_words_in_fixed_order) {
    NOT_SIMULATED;
    check_all_failures(1);
    check_all_reached();
}

/* ---- freezes ---------------------------------------------------------------------------------- */

enum { FREEZES = 2 * POINTS_N, AT_ONCE = 32, SILENCE = 2 /* run.watchdog, s */ };

/* One frozen run, in a process of its own, as it ends its process. */
struct freeze {
    const struct flavor *flavor;
    struct fault plan;
    int order;
    char words[1024];
    pid_t child;
};

static const char *freeze_file(int i) {
    static char name[32];
    snprintf(name, sizeof name, "freeze-%d", i);
    return files_path(name);
}

static void freeze_start(struct freeze *f, int i) {
    fflush(NULL);
    f->child = fork();
    cr_assert(f->child >= 0, "no child");
    if (f->child > 0) return;
    char why[512];
    int to = open(freeze_file(i), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (to < 0 || dup2(to, STDERR_FILENO) < 0) _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(100);
    enum status end = fault_run(&f->plan, f->words, 0, why);
    fprintf(stderr, "the run ended by itself with %d: %s\n", (int)end, why);
    _exit(125);
}

/* The line of `text` that begins with this; NULL: there is none. */
static const char *find_line(const char *text, const char *with) {
    static char line[512];
    const char *at = strstr(text, with);
    if (!at) return NULL;
    snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
    return line;
}

static void check_frozen(const struct freeze *f, int i, int status) {
    char *text = program_load(freeze_file(i), NULL), with[160];
    const struct point *p = &points[f->plan.point];
    cr_assert(text != NULL, "no words");
    int code = strstr(p->says, "device") ? 4 : 1; /* whose device keeps it waiting */
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == code, "%s, %s: status %x, not %d:\n%s",
        p->name, f->words, (unsigned)status, code, text);
    snprintf(with, sizeof with, "error  worker %d is frozen: %s", f->plan.rank, p->says);
    cr_assert(find_line(text, with), "%s, %s: no \"%s\":\n%s", p->name, f->words, with, text);
    snprintf(with, sizeof with, "warn   worker %d gives no sign of life: ", f->plan.rank);
    cr_assert(find_line(text, with), "%s, %s: no \"%s\":\n%s", p->name, f->words, with, text);
    for (int r = 0; r < f->flavor->workers; r++) {
        if (r == f->plan.rank) continue;
        snprintf(with, sizeof with, "error  worker %d: ", r);
        cr_assert(find_line(text, with), "%s, %s: no \"%s\":\n%s", p->name, f->words, with, text);
    }
    free(text);
}

static void freezes_run(struct freeze *list, int n) {
    for (int done = 0, begun = 0; done < n; done++) {
        int status;
        for (; begun < n && begun - done < AT_ONCE; begun++) freeze_start(&list[begun], begun);
        pid_t child = wait(&status);
        int i = 0;
        while (i < begun && list[i].child != child) i++;
        cr_assert(i < begun, "a child that is none of ours");
        check_frozen(&list[i], i, status);
    }
}

static int freeze_add(struct freeze *list, int n, const struct reach *reach,
    const struct flavor *flavor, int point, int order) {
    struct freeze *f = &list[n];
    char name[32];
    int rank = n % 2 || points[point].by == BY_NOTHING ? 0 : flavor->workers - 1;
    int body = body_for(reach, point, rank);
    if (body < 0) return n;
    *f = (struct freeze){.flavor = flavor, .order = order};
    f->plan = (struct fault){.point = point, .rank = rank, .freezes = 1};
    f->plan.nth = nth_of(reach->calls[body][point][rank], n);
    snprintf(name, sizeof name, "frozen-%d", n);
    words_of(f->words, sizeof f->words, flavor, body, order, name);
    size_t used = strlen(f->words);
    snprintf(f->words + used, sizeof f->words - used, " run.watchdog=%d", SILENCE);
    return n + 1;
}

/* Every point once, and every strategy at least once; those that are waited for longest begin. */
Test(faults, whoever_freezes_is_named_with_what_it_is_in) {
    static struct reach reach[FLAVORS_MOST];
    static struct freeze list[FREEZES];
    int flavors_n = flavors_list(), n = 0;
    for (int i = 0; i < flavors_n; i++) count_calls(&reach[i], &flavors[i], i % 2, 1);
    for (int pass = 0; pass < 2; pass++) {
        for (int p = 0; p < POINTS_N; p++) {
            if ((points[p].by == BY_NOTHING) == (pass > 0) || points[p].on != ON_WORKER) continue;
            int before = n;
            for (int k = 0; k < flavors_n && n == before; k++) {
                int i = (p + k) % flavors_n;
                n = freeze_add(list, n, &reach[i], &flavors[i], p, i % 2);
            }
            cr_assert(n == before + 1, "no strategy comes to %s", points[p].name);
        }
    }
    for (int i = 0; i < flavors_n; i++) {
        n = freeze_add(list, n, &reach[i], &flavors[i], POINT_strategy_round, i % 2);
    }
    freezes_run(list, n);
}

/* What a frozen run said, and how it ended. The caller frees it. */
static char *freeze_one(const struct fault *plan, const char *words, int code) {
    struct freeze f = {.plan = *plan};
    int status;
    snprintf(f.words, sizeof f.words, "%s run.watchdog=%d", words, SILENCE);
    freeze_start(&f, 0);
    cr_assert(waitpid(f.child, &status, 0) == f.child, "no child");
    char *text = program_load(freeze_file(0), NULL);
    cr_assert(text != NULL, "no words");
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == code, "status %x, not %d:\n%s",
        (unsigned)status, code, text);
    return text;
}

static void check_said(const char *text, const char *want) {
    cr_assert(find_line(text, want), "no \"%s\" in\n%s", want, text);
}

/* Who freezes where it has a shared vector whose name begins so, and who comes to that vector too, a digit
 * each. Gossip waits for events only with a box, any one, to which all come. */
static const struct holder {
    const char *words;
    int point, rank;
    long nth;
    const char *vector, *victims;
} holders[] = {
    {"easgd easgd.tau=1 run.center=zero_copy", POINT_kernel_elastic, 1, 3, "center", "023"},
    {"downpour downpour.tau=1", POINT_kernel_mix, 1, 3, "center", "023"},
    {"mdownpour", POINT_kernel_mix, 2, 4, "velocity", "013"},
    {"gossip gossip.p=1", POINT_device_wait, 1, 5, "box", "023"},
    {"adpsgd", POINT_kernel_mix, 0, 3, "x0", "13"},
    {"adpsgd adpsgd.peers=ring", POINT_kernel_elastic, 3, 3, "x", "1"},
    {"admm", POINT_kernel_diff, 3, 3, "center", "012"},
};
enum { HOLDERS = sizeof holders / sizeof *holders };

static void check_holder(const struct holder *h, int i, int status) {
    char want[160], name[32] = "", *text = program_load(freeze_file(i), NULL);
    cr_assert(text != NULL, "no words");
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "%s: status %x:\n%s", h->words,
        (unsigned)status, text);
    snprintf(want, sizeof want, "error  worker %d is frozen: exchanging with shared vector %s",
        h->rank, h->vector);
    check_said(text, want);
    sscanf(strstr(text, want) + strlen(want) - strlen(h->vector), "%31s", name);
    for (const char *victim = h->victims; *victim; victim++) {
        snprintf(want, sizeof want,
            "error  worker %c: waiting for the lock of shared vector %s, held by worker %d, for",
            *victim, name, h->rank);
        check_said(text, want);
    }
    free(text);
}

/* A lock cannot be broken: the holder is to blame, and its victims say for whom they wait. */
Test(faults, who_freezes_with_a_lock_is_blamed_and_not_those_who_wait_for_it) {
    static struct freeze list[HOLDERS];
    for (int i = 0; i < HOLDERS; i++) {
        const struct holder *h = &holders[i];
        list[i].plan =
            (struct fault){.point = h->point, .rank = h->rank, .freezes = 1, .nth = h->nth};
        snprintf(list[i].words, sizeof list[i].words,
            "run.strategy=%s run.workers=4 run.steps=100000 run.max_lag=0 run.watchdog=%d "
            "schedule.rate=0.001",
            h->words, SILENCE);
        freeze_start(&list[i], i);
    }
    for (int i = 0; i < HOLDERS; i++) {
        int status;
        cr_assert(waitpid(list[i].child, &status, 0) == list[i].child, "no child");
        check_holder(&holders[i], i, status);
    }
}

Test(faults, of_who_freezes_with_a_lock_it_is_said_how_far_it_came) {
    const struct fault plan = {.point = POINT_kernel_elastic, .rank = 1, .freezes = 1, .nth = 3};
    char *text = freeze_one(&plan,
        "run.strategy=easgd easgd.tau=1 run.workers=4 run.steps=100000 run.max_lag=0 "
        "run.center=zero_copy",
        1);
    check_said(text, "error  worker 1 is frozen: exchanging with shared vector center for 2.");
    cr_assert(strstr(text, "after 2 steps and 2 rounds, on faulty:0"), "not so in\n%s", text);
    free(text);
}

/* Nothing is saved and nothing is spoiled on the way out. */
Test(faults, a_run_goes_on_from_what_was_saved_before_it_froze) {
    struct fault plan = {.point = POINT_task_grad, .rank = 2, .freezes = 1, .nth = 60};
    char words[1024], want[1024], why[512];
    snprintf(words, sizeof words,
        "run.strategy=allreduce run.workers=3 run.steps=100 quadratic.samples=30 run.eval_every=1 "
        "run.folder=%s run.name=frozen",
        files_folder);
    char *text = freeze_one(&plan, words, 1);
    snprintf(want, sizeof want,
        "error  the last saved state is %s/frozen/state-000005.safetensors; `huddle resume "
        "%s/frozen` goes on from it",
        files_folder, files_folder);
    check_said(text, want);
    free(text);
    plan.nth = 0;
    cr_assert(fault_run(&plan, words, 1, why) == STATUS_OK, "%s", why);
    text = program_load(files_path("frozen/summary.json"), NULL);
    cr_assert(text && strstr(text, "\"steps\":\t300"), "%s", text ? text : "no summary");
    free(text);
}

Test(faults, a_run_that_froze_before_it_saved_says_so) {
    const struct fault plan = {.point = POINT_task_grad, .rank = 0, .freezes = 1, .nth = 1};
    char words[512];
    snprintf(words, sizeof words,
        "run.strategy=allreduce run.workers=2 run.steps=100 run.folder=%s run.name=new",
        files_folder);
    char *text = freeze_one(&plan, words, 1);
    check_said(text, "error  nothing had been saved in ");
    free(text);
}

Test(faults, watchdog_0_watches_nobody) {
    struct freeze f = {.plan = {.point = POINT_task_grad, .rank = 0, .freezes = 1, .nth = 1}};
    snprintf(f.words, sizeof f.words,
        "run.strategy=allreduce run.workers=2 run.steps=100 run.watchdog=0");
    freeze_start(&f, 0);
    sleep(SILENCE + 2);
    int status, ended = waitpid(f.child, &status, WNOHANG) != 0;
    kill(f.child, SIGKILL);
    waitpid(f.child, &status, 0);
    cr_assert(!ended, "it ended by itself");
}
