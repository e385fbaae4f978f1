/* test_huddle.c -- the program from outside: what it is given, what it prints, what it leaves. */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>

#include "devices/device.h"
#include "program.h"
#include "simulation.h"

static void open_all(void) {
    files_open();
    unsetenv("NO_COLOR");
}

TestSuite(huddle, .init = open_all, .fini = files_close, .timeout = 600);

/* ---- files that are wrong --------------------------------------------------------------------- */

enum { SIDE = 8, LABELS = 0x801, IMAGES = 0x803 };

static size_t put_word(uint8_t *to, uint32_t word) {
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(word >> (24 - 8 * i));
    return 4;
}

/* An idx file of n images or labels; `cut` bytes are missing at its end. */
static void write_idx(
    const char *folder, const char *name, uint32_t magic, uint32_t n, uint8_t last, size_t cut) {
    uint8_t bytes[4096];
    char path[128];
    size_t at = put_word(bytes, magic), size = name[strlen(name) - 7] == '3' ? SIDE * SIDE : 1;
    at += put_word(bytes + at, n);
    for (int i = 0; i < 2 && size > 1; i++) at += put_word(bytes + at, SIDE);
    for (size_t i = 0; i < n * size; i++) bytes[at++] = (uint8_t)(i % 7);
    bytes[at - 1] = last;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    files_write(path, bytes, at - cut);
}

/* What is wrong with a set; all zero: nothing is. */
struct damage {
    const char *folder;
    uint32_t magic, labels;
    uint8_t label;
    size_t cut;
};

/* Three samples to train on, two to be judged, as the files of "mnist" are named. */
static void write_set(const struct damage *d) {
    files_make_folder(d->folder);
    write_idx(d->folder, "train-images-idx3-ubyte", d->magic ? d->magic : IMAGES, 3, 1, d->cut);
    write_idx(d->folder, "train-labels-idx1-ubyte", LABELS, d->labels ? d->labels : 3, d->label, 0);
    write_idx(d->folder, "t10k-images-idx3-ubyte", IMAGES, 2, 1, 0);
    write_idx(d->folder, "t10k-labels-idx1-ubyte", LABELS, 2, 0, 0);
}

static void write_text(const char *name, const char *text) {
    files_write(name, text, strlen(text));
}

/* Files that are wrong, made out of a run that was right. */
static void write_damaged(void) {
    uint8_t noise[4096];
    size_t size = 0;
    static const struct damage sets[] = {{"whole", 0, 0, 0, 0}, {"cut", 0, 0, 0, 5},
        {"magic", 0x801, 0, 0, 0}, {"label", 0, 0, 10, 0}, {"count", 0, 4, 0, 0}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) write_set(&sets[i]);
    write_text("file", "this is a file\n");
    write_text("words.ini", "[run]\nworkers = 2\nwhat is this\n");
    write_text("twice.ini", "[run]\nworkers = 2\nseed = 3\nworkers = 4\n");
    write_text("group.ini", "[easdg]\ntau = 4\n");
    write_text("range.ini", "[easgd]\n\ntau = -4\n");
    struct program p = program("train", "folder=@/good", "name=one", "steps=2", "workers=1",
        "strategy=allreduce", "model.layers=dense 10");
    cr_assert(p.code == 0, "%s", p.err);
    program_close(&p);
    char *good = program_load(files_path("good/one/checkpoint.safetensors"), &size);
    files_write("cut.safetensors", good, size - 1);
    files_write("head.safetensors", good, 100);
    files_write("few.safetensors", good, 5);
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)(i * i * 2654435761u >> 13);
    files_write("noise.safetensors", noise, sizeof noise);
    files_write("empty.safetensors", noise, 0);
    free(good);
}

/* ---- one table of what users get wrong -------------------------------------------------------- */

struct mistake {
    const char *word[10]; /* the arguments */
    int code;
    const char *says[4]; /* what the message must hold: what, which, what to do */
};

#define SET(folder) "data.set=mnist", "data.path=@/" folder
#define GOOD "@/good/one/checkpoint.safetensors"

static const struct mistake mistakes[] = {
    /* data files */
    {{"train", SET("cut")}, 3, {"@/cut/train-images-idx3-ubyte", "cut short", "187", "192"}},
    {{"train", SET("magic")}, 3, {"@/magic/train-images-idx3-ubyte", "0x00000801", "0x00000803"}},
    {{"train", SET("label")}, 3, {"@/label/train-labels-idx1-ubyte", "label 10", "0 .. 9"}},
    {{"train", SET("count")}, 3, {"@/count/train-labels-idx1-ubyte", "4 labels", "3 images"}},
    {{"train", SET("missing")}, 3, {"@/missing", "No such file or directory"}},
    {{"train", SET("good")}, 3, {"@/good", "train-images-idx3-ubyte"}},
    {{"train", SET("file")}, 3, {"@/file", "Not a directory"}},
    {{"train", SET("file/in")}, 3, {"@/file/in", "Not a directory"}},
    {{"train", SET("whole"), "workers=4", "data.sampling=shards", "model.layers=dense 10"}, 2,
        {"3 samples", "4 workers", "fewer workers"}},
    {{"train", "data.holdout=0.0001"}, 2, {"hold"}},
    /* models */
    {{"train", "model.layers=dense 64, rleu, dense 10"}, 2,
        {"model.layers", "layer 2", "rleu", "relu"}},
    {{"train", "model.layers=conv 16 9, flatten, dense 10"}, 2,
        {"model.layers", "layer 1", "conv 16 9", "8 x 8"}},
    {{"train", "model.layers=maxpool 9, flatten, dense 10"}, 2, {"layer 1", "maxpool 9", "8 x 8"}},
    {{"train", "model.layers=dense 64, relu, dense 11"}, 2,
        {"model.layers", "11 numbers", "10 classes", "dense 10"}},
    {{"train", "model.layers="}, 2, {"model.layers is empty", "model.layers=2nn"}},
    {{"train", "model.layers=dense 64,, dense 10"}, 2, {"layer 2", "empty"}},
    {{"train", "model.layers=dense 64, dropout 1, dense 10"}, 2,
        {"layer 2", "dropout 1", "0 .. 1"}},
    {{"train", "model.layers=dense many, dense 10"}, 2, {"layer 1", "dense many"}},
    {{"train", "model.layers=dense 0, dense 10"}, 2, {"layer 1", "dense 0"}},
    {{"train", "model.layers=flatten"}, 2, {"64 numbers", "10 classes"}},
    {{"train", "model.layers=2n"}, 2, {"2n", "did you mean", "2nn"}},
    /* names */
    {{"train", "run.wrokers=3"}, 2, {"run.wrokers", "did you mean run.workers"}},
    {{"train", "wrokers=3"}, 2, {"run.wrokers", "did you mean run.workers"}},
    {{"train", "easgd.tua=3"}, 2, {"easgd.tua", "did you mean easgd.tau"}},
    {{"train", "tau=3"}, 2,
        {"run.tau", "did you mean easgd.tau, easgd_tree.tau, downpour.tau, adownpour.tau or "
                    "mvadownpour.tau?\n"}},
    {{"train", "beta=3"}, 2, {"did you mean easgd.beta, easgd_tree.beta or slowmo.beta?"}},
    {{"train", "blocks=3"}, 2, {"did you mean local_sgd.blocks?"}},
    {{"train", "optimizer=adam"}, 2, {"is a group", "did you mean optimizer.kind=adam?"}},
    {{"train", "optimizer=adm"}, 2, {"is a group", "did you mean optimizer.kind=adm?"}},
    {{"train", "schedule=step"}, 2, {"did you mean schedule.use=step?"}},
    {{"train", "schedule=0.1"}, 2, {"did you mean schedule.rate=0.1?"}},
    {{"train", "strategy", "=", "easgd"}, 2, {"blanks", "write strategy=easgd\n"}},
    {{"train", "strategy", "=easgd"}, 2, {"blanks", "write strategy=easgd\n"}},
    {{"train", "workers=2", "strategy", "=", "easgd"}, 2, {"write strategy=easgd\n"}},
    {{"train", "easgd"}, 2, {"\"easgd\" is a strategy", "write strategy=easgd\n"}},
    {{"train", "workers=2", "easgd"}, 2, {"write strategy=easgd\n"}},
    {{"train", "easdg.tau=3"}, 2, {"easdg", "did you mean \"easgd\""}},
    {{"train", "@/group.ini"}, 2, {"@/group.ini:2", "easdg", "did you mean \"easgd\""}},
    {{"train", "strategy=easg"}, 2, {"no strategy \"easg\"", "did you mean \"easgd\""}},
    {{"train", "task=clasify"}, 2, {"no task \"clasify\"", "did you mean \"classify\""}},
    {{"train", "schedule.use=stepp"}, 2, {"schedule.use", "no schedule \"stepp\""}},
    {{"train", "data.set=minst"}, 2, {"'minst'", "mnist"}},
    {{"train", "devices=abacus"}, 2, {"run.devices = abacus", "host"}},
    {{"trian"}, 2, {"no command \"trian\"", "did you mean \"huddle train\""}},
    {{"help", "esgd"}, 2, {"no help on \"esgd\"", "did you mean \"huddle help easgd\""}},
    {{"stability", "methd=easgd"}, 2, {"stability.methd", "did you mean stability.method"}},
    /* values */
    {{"stability", "p=0"}, 2, {"stability.p = 0", "1 .. 64"}},
    {{"stability", "points=2", "csv=@/no/where.csv"}, 3, {"@/no/where.csv", "No such file"}},
    {{"stability", "points=2", "svg=@/no/where.svg"}, 3, {"@/no/where.svg", "No such file"}},
    {{"stability", "method=largest_eta", "svg=@/a.svg"}, 2, {"stability.svg", "no picture"}},
    {{"stability", "method=largest_eta", "csv=@/no/where.csv"}, 3, {"@/no/where.csv"}},
    {{"train", "easgd.tau=0"}, 2, {"easgd.tau = 0", "whole number", "1 .. 1000000"}},
    {{"train", "workers=0"}, 2, {"run.workers = 0", "1 .. 64"}},
    {{"train", "workers=65"}, 2, {"run.workers = 65", "1 .. 64"}},
    {{"train", "workers=2.5"}, 2, {"run.workers = 2.5", "whole number"}},
    {{"train", "workers=many"}, 2, {"run.workers = many", "whole number"}},
    {{"train", "workers="}, 2, {"run.workers = ", "whole number"}},
    {{"train", "schedule.rate=fast"}, 2, {"schedule.rate = fast", "not a number"}},
    {{"train", "schedule.rate=nan"}, 2, {"schedule.rate = nan", "not a number"}},
    {{"train", "schedule.rate=-1"}, 2, {"schedule.rate = -1", "0 .. 1000"}},
    {{"train", "data.sampling=half"}, 2, {"data.sampling = half", "whole|shards"}},
    {{"train", "@/range.ini"}, 2, {"@/range.ini:3", "easgd.tau = -4", "1 .. 1000000"}},
    {{"train", "schedule.use=step"}, 2, {"step.at"}},
    {{"train", "schedule.use=step", "step.at=9, 3"}, 2, {"step.at = 9, 3", "rising"}},
    {{"train", "epochs=0"}, 2, {"nothing ends this run", "run.epochs", "run.target"}},
    /* the way they are said */
    {{"train", "seed=1", "run.seed=2"}, 2, {"run.seed is set twice", "1 and 2"}},
    {{"train", "@/twice.ini"}, 2, {"@/twice.ini:4", "run.workers is set twice", "2 and 4"}},
    {{"train", "@/words.ini"}, 2, {"@/words.ini:3", "[group]", "name = value"}},
    {{"train", "workers=2", "--verbose"}, 2, {"\"--verbose\"", "group.name=value"}},
    {{"train", "=2"}, 2, {"\"=2\"", "group.name=value"}},
    {{"train", "@/none.ini"}, 3, {"@/none.ini", "No such file or directory"}},
    {{"train", "@/file/none.ini"}, 3, {"@/file/none.ini", "Not a directory"}},
    {{"train", "@"}, 3, {"@", "Is a directory"}},
    /* where to put it; a later folder= cannot be given, so these rows bring their own */
    {{"train", "folder=@/file"}, 3, {"@/file", "Not a directory"}},
    {{"train", "folder=@/no/where"}, 3, {"@/no/where", "No such file or directory"}},
    {{"train", "folder=@/good", "name=one"}, 2, {"@/good/one", "already", "run.name"}},
    /* checkpoints */
    {{"evaluate"}, 2, {"huddle evaluate runs/<name>"}},
    {{"evaluate", GOOD, "model.layers=2nn"}, 3, {GOOD, "1.dense.weight", "is 10 x 64", "200 x 64"}},
    {{"evaluate", GOOD, "model.layers=dense 10, relu, dense 10"}, 3,
        {GOOD, "another model", "3.dense"}},
    {{"evaluate", GOOD, "model.layers=relu, dense 10"}, 3, {GOOD, "another model", "2.dense"}},
    {{"evaluate", GOOD, "model.layer=2nn"}, 2, {"model.layer", "did you mean model.layers"}},
    {{"evaluate", "@/cut.safetensors"}, 3, {"@/cut.safetensors", "safetensors"}},
    {{"evaluate", "@/head.safetensors"}, 3, {"@/head.safetensors", "cut short"}},
    {{"evaluate", "@/few.safetensors"}, 3, {"@/few.safetensors", "cut short"}},
    {{"evaluate", "@/empty.safetensors"}, 3, {"@/empty.safetensors", "cut short"}},
    {{"evaluate", "@/noise.safetensors"}, 3, {"@/noise.safetensors", "safetensors"}},
    {{"evaluate", "@/good"}, 3, {"@/good", "no plain file"}},
    {{"evaluate", "@/none.safetensors"}, 3, {"@/none.safetensors", "No such file"}},
    {{"evaluate", "@/file/none.safetensors"}, 3, {"@/file/none", "Not a directory"}},
    /* while training */
    {{"train", "schedule.rate=1000", "model.layers=dense 64, dense 10"}, 7,
        {"worker ", "loss is", "schedule.rate"}},
    {{"train", "schedule.rate=1000", "model.layers=dense 64, dense 10", "strategy=allreduce",
         "workers=2"},
        7, {"worker ", "loss is", "schedule.rate"}},
    {{"train", "schedule.rate=10", "task=quadratic", "eval_every=1"}, 7,
        {"loss is", "schedule.rate"}},
};

static int has_prefix(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The arguments, with a folder of their own for runs where they name none. */
static void mistake_words(const struct mistake *m, const char *words[PROGRAM_WORDS]) {
    int n = 0, own = 0;
    for (; n < 10 && m->word[n]; n++) {
        words[n] = m->word[n];
        own |= has_prefix(words[n], "folder=");
    }
    if (!own && strcmp(words[0], "train") == 0) words[n++] = "folder=@/bad";
    words[n] = NULL;
}

/* Complains about what a row did, in the row's own words. */
static int complain(const struct mistake *m, const struct program *p, const char *what) {
    fputs("huddle", stderr);
    for (int i = 0; i < 10 && m->word[i]; i++) fprintf(stderr, " '%s'", m->word[i]);
    fprintf(stderr, "\n  %s; exit %d, signal %d, stderr:\n%s", what, p->code, p->signal, p->err);
    return 1;
}

/* The message is the one line that begins with "error", and the last. */
static int judge_message(const struct mistake *m, const struct program *p) {
    int bad = 0;
    const char *error = has_prefix(p->err, "error ") ? p->err : strstr(p->err, "\nerror ");
    if (!error) return complain(m, p, "there is no message");
    error += *error == '\n';
    if (strchr(error, '\n') != p->err + p->err_size - 1) bad += complain(m, p, "more was said");
    for (int i = 0; i < 4 && m->says[i]; i++) {
        char word[PROGRAM_WORD], what[PROGRAM_WORD + 32];
        program_word(word, m->says[i]);
        snprintf(what, sizeof what, "the message lacks '%s'", word);
        if (!strstr(error, word)) bad += complain(m, p, what);
    }
    return bad;
}

static int summaries;

static int count_summary(const char *path, const struct stat *s, int kind, struct FTW *where) {
    (void)s, (void)kind;
    if (strcmp(path + where->base, "summary.json") != 0) return 0;
    char *text = program_load(path, NULL);
    summaries += !text || !strstr(text, "\"ended\":\t\"diverged\"");
    free(text);
    return 0;
}

/* How many runs below a folder look as if they had gone well. */
static int count_summaries(const char *folder) {
    summaries = 0;
    nftw(folder, count_summary, 8, FTW_PHYS);
    return summaries;
}

static int judge_mistake(const struct mistake *m) {
    const char *words[PROGRAM_WORDS] = {0};
    mistake_words(m, words);
    struct program p = program_run(words);
    int bad = judge_message(m, &p);
    if (p.signal) bad += complain(m, &p, "it crashed");
    if (p.code != m->code) bad += complain(m, &p, "the exit code is another");
    if (p.code == 7 && strstr(p.err, "nan")) bad += complain(m, &p, "nan is no word");
    if (p.out_size && m->code != 7) bad += complain(m, &p, "something is on stdout");
    if (count_summaries(files_folder) != 1) bad += complain(m, &p, "a run looks finished");
    program_close(&p);
    return bad;
}

static const char *const run_files[] = {
    "config.ini", "metrics.jsonl", "checkpoint.safetensors", "summary.json"};

enum { RUN_FILES = sizeof run_files / sizeof *run_files };

/* The bytes of a run's files. */
struct kept {
    char *bytes[RUN_FILES];
    size_t size[RUN_FILES];
};

static const char *run_path(const char *run, const char *file) {
    char name[128];
    snprintf(name, sizeof name, "%s/%s", run, file);
    return files_path(name);
}

static struct kept keep(const char *run) {
    struct kept k;
    for (int i = 0; i < RUN_FILES; i++) {
        k.bytes[i] = program_load(run_path(run, run_files[i]), &k.size[i]);
        cr_assert(k.bytes[i] && k.size[i] > 0, "%s has no %s", run, run_files[i]);
    }
    return k;
}

Test(huddle, what_users_get_wrong_is_told_in_words_and_leaves_nothing_half) {
    int bad = 0;
    write_damaged();
    struct kept before = keep("good/one");
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
        bad += judge_mistake(&mistakes[i]);
    cr_assert_eq(bad, 0, "%d complaints", bad);
    struct kept after = keep("good/one");
    for (int i = 0; i < RUN_FILES; i++) {
        cr_assert_eq(before.size[i], after.size[i], "%s has changed", run_files[i]);
        cr_assert_eq(memcmp(before.bytes[i], after.bytes[i], before.size[i]), 0, "%s has changed",
            run_files[i]);
        free(before.bytes[i]);
        free(after.bytes[i]);
    }
}

Test(huddle, the_files_that_are_damaged_are_good_before) {
    write_damaged();
    struct program p = program("train", SET("whole"), "workers=3", "data.sampling=shards",
        "model.layers=dense 10", "epochs=4", "folder=@/runs");
    cr_assert_eq(p.code, 0, "%s", p.err);
    program_close(&p);
    p = program("evaluate", GOOD);
    cr_assert_eq(p.code, 0, "%s", p.err);
    program_close(&p);
}

/* ---- numbers ---------------------------------------------------------------------------------- */

static double json_number(const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    cr_assert(cJSON_IsNumber(item), "there is no number %s", name);
    return item->valuedouble;
}

static double summary_number(const char *run, const char *name) {
    char *text = program_load(run_path(run, "summary.json"), NULL);
    cr_assert(text != NULL, "%s has no summary", run);
    cJSON *object = cJSON_Parse(text);
    cr_assert(cJSON_IsObject(object), "%s", text);
    double number = json_number(object, name);
    cJSON_Delete(object);
    free(text);
    return number;
}

/* The last word of a run that would take the simulated CUDA minutes. */
#define SMALL_NET "model.layers=dense 32, relu, dense 10"
#define SMALLER (SIMULATED ? SMALL_NET : NULL)

/* Trains in a folder "runs" with stdout and stderr in files; it must go well. */
#define train_well(...)                                                                            \
    do {                                                                                           \
        struct program p_ = program("train", "folder=@/runs", __VA_ARGS__);                        \
        cr_assert(p_.code == 0, "exit %d, signal %d: %s", p_.code, p_.signal, p_.err);             \
        program_close(&p_);                                                                        \
    } while (0)

/* The rest of the last line that begins with these words, without leading blanks. */
static const char *value_of(const char *text, const char *words) {
    const char *value = NULL;
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (has_prefix(line, words)) value = line + strlen(words);
    }
    cr_assert(value != NULL, "there is no line '%s' in:\n%s", words, text);
    return value + strspn(value, " ");
}

/* Cuts the next line off, without its end; NULL behind the last. All must have an end. */
static char *next_line(char **rest) {
    char *line = strsep(rest, "\n");
    if (*rest) return line;
    cr_assert(!line || !*line, "the last line has no end: %s", line);
    return NULL;
}

/* Each line parses, time goes on, and the counts belong together. */
static void check_metrics(const char *run, double batch) {
    double epochs = 0, samples = 0, accuracy = -1;
    int rows = 0;
    char *text = program_load(run_path(run, "metrics.jsonl"), NULL), *rest = text;
    for (char *line; (line = next_line(&rest)); rows++) {
        cJSON *row = cJSON_ParseWithOpts(line, NULL, 1);
        cr_assert(cJSON_IsObject(row), "row %d: %s", rows, line);
        cr_assert(json_number(row, "epochs") > epochs, "epochs do not rise: %s", line);
        epochs = json_number(row, "epochs");
        samples = json_number(row, "samples");
        accuracy = json_number(row, "accuracy");
        cr_assert(samples == json_number(row, "steps") * batch, "%s", line);
        cr_assert(json_number(row, "seconds") > 0 && json_number(row, "loss") > 0, "%s", line);
        cr_assert(json_number(row, "samples_per_second") > 0, "%s", line);
        cJSON_Delete(row);
    }
    cr_assert(rows > 0, "%s has no rows", run);
    cr_assert(accuracy == summary_number(run, "accuracy"), "the summary is of another row");
    cr_assert(samples == summary_number(run, "samples"), "the summary is of another row");
    free(text);
}

/* Numbers and their names on stdout; on stderr log lines; nothing for terminals on either. */
static void check_channels(const struct program *p) {
    char *rest = p->err;
    cr_assert(!strpbrk(p->out, "\033\r") && !strpbrk(p->err, "\033\r"), "terminal codes in a file");
    cr_assert_eq(strlen(p->out), p->out_size, "a zero on stdout");
    cr_assert_eq(strlen(p->err), p->err_size, "a zero on stderr");
    cr_assert(!strstr(p->out, "info") && !strstr(p->out, "warn"), "a log line is on stdout");
    for (char *line; (line = next_line(&rest));) {
        cr_assert(
            has_prefix(line, "info  ") || has_prefix(line, "warn  "), "no log line: %s", line);
    }
}

Test(huddle, without_a_setting_it_shows_what_it_can) {
    char want[32];
    struct program p = program("train", "folder=@/runs", SIMULATED ? "epochs=6" : NULL);
    cr_assert(p.code == 0, "exit %d: %s", p.code, p.err);
    double accuracy = summary_number("runs/easgd-1", "accuracy");
    cr_assert(accuracy >= (SIMULATED ? 0.8 : 0.97) && accuracy <= 1, "accuracy %g", accuracy);
    check_channels(&p);
    check_metrics("runs/easgd-1", 32);
    snprintf(want, sizeof want, "%.2f %%\n", 100 * accuracy);
    cr_assert(has_prefix(value_of(p.out, "test accuracy"), want), "%s lacks %s", p.out, want);
    program_close(&p);
    static const char *const weights[] = {
        "@/runs/easgd-1/checkpoint.safetensors", "@/runs/easgd-1"};
    for (int i = 0; i < 2; i++) {
        p = program("evaluate", weights[i]);
        cr_assert(p.code == 0, "exit %d: %s", p.code, p.err);
        cr_assert(has_prefix(value_of(p.out, "accuracy"), want), "%s lacks %s", p.out, want);
        cr_assert(atof(value_of(p.out, "samples")) == 359, "%s", p.out);
        check_channels(&p);
        program_close(&p);
    }
    struct kept files = keep("runs/easgd-1");
    for (int i = 0; i < RUN_FILES; i++) free(files.bytes[i]);
}

/* ---- the same again --------------------------------------------------------------------------- */

/* A checkpoint's bytes behind its header, which names the run. */
static char *load_weights(const char *run, size_t *size) {
    uint64_t header = 0;
    char *bytes = program_load(run_path(run, "checkpoint.safetensors"), size);
    cr_assert(bytes && *size > 8, "%s has no checkpoint", run);
    for (int i = 0; i < 8; i++) header |= (uint64_t)(uint8_t)bytes[i] << (8 * i);
    cr_assert(header < *size - 8, "%s: its checkpoint has no weights", run);
    *size -= 8 + header;
    memmove(bytes, bytes + 8 + header, *size);
    return bytes;
}

static int same_weights(const char *run, const char *other) {
    size_t n, m;
    char *a = load_weights(run, &n), *b = load_weights(other, &m);
    cr_assert_eq(n, m, "%s and %s are of different models", run, other);
    int same = memcmp(a, b, n) == 0;
    free(a);
    free(b);
    return same;
}

/* All that a run's configuration can hold: a long line, odd numbers, schedules with options. */
#define ODD                                                                                        \
    "order=fixed", "workers=3", "epochs=2", "schedule.use=warmup, step", "step.at=0.5, 1.5",       \
        "step.factor=0.3", "warmup.epochs=0.7", "schedule.rate=0.0123456789",                      \
        "optimizer.kind=nesterov", "optimizer.decay=1e-4", "data.holdout=0.25", "data.batch=17",   \
        "model.layers=conv 4 3 same, tanh, maxpool 2, flatten, dense 20, relu, dropout 0.25, "     \
        "dense 16, tanh, dropout 0.125, dense 10"

Test(huddle, a_run_in_fixed_order_gives_the_same_bits_again) {
    train_well("name=a", ODD);
    train_well("name=b", ODD);
    train_well("name=other", ODD, "seed=2");
    cr_assert(same_weights("runs/a", "runs/b"), "the same settings give other bits");
    cr_assert(!same_weights("runs/a", "runs/other"), "the seed changes nothing");
    struct program p = program("train", "@/runs/a/config.ini", "name=again");
    cr_assert(p.code == 0, "exit %d: %s", p.code, p.err);
    program_close(&p);
    cr_assert(same_weights("runs/a", "runs/again"), "the written settings are not the run's");
}

Test(huddle, the_written_settings_are_the_same_when_they_are_written_again) {
    train_well("name=a", ODD);
    cr_assert(rename(files_path("runs"), files_path("first")) == 0);
    struct program p = program("train", "@/first/a/config.ini");
    cr_assert(p.code == 0, "exit %d: %s", p.code, p.err);
    program_close(&p);
    char *first = program_load(files_path("first/a/config.ini"), NULL);
    char *again = program_load(files_path("runs/a/config.ini"), NULL);
    cr_assert(first && again && strcmp(first, again) == 0, "%s\nbecomes\n%s", first, again);
    free(first);
    free(again);
}

Test(huddle, elastic_averaging_of_all_kinds_is_bound_by_the_seed) {
    train_well("name=a", "order=fixed", "epochs=2", "easgd.mode=async", "easgd.tau=3", SMALLER);
    train_well("name=b", "order=fixed", "epochs=2", "easgd.mode=async", "easgd.tau=3", SMALLER);
    train_well("name=c", "order=fixed", "epochs=2", "easgd.mode=sync", "easgd.tau=3", SMALLER);
    train_well("name=d", "order=fixed", "epochs=2", "easgd.mode=sync", "easgd.tau=3", SMALLER);
    cr_assert(same_weights("runs/a", "runs/b"), "async");
    cr_assert(same_weights("runs/c", "runs/d"), "sync");
    cr_assert(!same_weights("runs/a", "runs/c"), "the mode changes nothing");
}

Test(huddle, the_log_says_what_springs_and_graphs_come_of_the_settings) {
    static const struct {
        const char *strategy, *setting, *workers, *says;
    } rows[] = {
        {"strategy=easgd", "easgd.beta=0.9", "workers=3",
            "easgd: alpha 0.3, that is beta 0.9 over 3 workers"},
        {"strategy=easgd_tree", "easgd_tree.groups=2", "workers=3",
            "2 groups: 2 workers at alpha 0.3, 1 worker at alpha 0.45, the "
            "root at alpha 0.3"},
        {"strategy=dpsgd", "dpsgd.peers=ring", "workers=8", /* 1 - (1 + sqrt(2)) / 3 */
            "dpsgd: 2 neighbors, spectral gap 0.195262\n"},
        {"strategy=dpsgd", "dpsgd.peers=exponential", "workers=8",
            "dpsgd: 3 neighbors, spectral gap 0.5\n"},
        {"strategy=dpsgd", "dpsgd.peers=complete", "workers=5",
            "dpsgd: 4 neighbors, spectral gap 1\n"},
        {"strategy=dpsgd", "dpsgd.peers=ring", "workers=2", "dpsgd: 1 neighbor, spectral gap 1\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct program p = program("train", "folder=@/runs", rows[i].strategy, "task=quadratic",
            rows[i].setting, rows[i].workers, "steps=10");
        cr_assert(p.code == 0 && strstr(p.err, rows[i].says), "exit %d: %s", p.code, p.err);
        program_close(&p);
    }
}

Test(huddle, runs_without_a_name_get_the_next_number) {
    for (int i = 0; i < 3; i++) train_well("strategy=allreduce", "workers=1", "steps=2");
    cr_assert(summary_number("runs/allreduce-3", "steps") == 2);
    cr_assert_eq(count_summaries(files_path("runs")), 3);
}

/* Between GPUs: test_comm.c. */
Test(huddle, a_run_tells_how_sums_were_taken) {
    program_says(program("train", "folder=@/runs", "task=quadratic", "strategy=allreduce",
                     "workers=2", "steps=2", "devices=host"),
        0, "info   sums in host memory, where all workers are\n");
    program_left("runs/allreduce-1/config.ini", "\ncomm = host\n");
    program_left("runs/allreduce-1/summary.json", "\"comm\":\t\"host\"");
    program_left("runs/allreduce-1/summary.json",
        "\"comm_why\":\t\"sums in host memory, where all workers are\"");
}

/* ---- when it ends ----------------------------------------------------------------------------- */

Test(huddle, a_summary_says_what_was_run_and_what_ended_it) {
    static const struct {
        const char *setting, *says;
        int code;
    } rows[] = {
        {"steps=10", "\"ended\":\t\"steps\"", 0},
        {"epochs=1", "\"ended\":\t\"epochs\"", 0},
        {"seconds=0.001", "\"ended\":\t\"seconds\"", 0},
        {"schedule.rate=10", "\"ended\":\t\"diverged\"", 7},
        {"schedule.rate=10", "\"loss\":\tnull", 7},
        {"seed=5", "\"seed\":\t5", 0},
        {"name=x", "\"name\":\t\"x\"", 0},
        {"optimizer.kind=adam", "\"optimizer\":\t\"adam\"", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char folder[32], path[64];
        snprintf(folder, sizeof folder, "folder=@/%zu", i);
        snprintf(path, sizeof path, "%zu/%s/summary.json", i, i == 6 ? "x" : "allreduce-1");
        struct program p =
            program("train", "task=quadratic", "strategy=allreduce", "workers=2", folder,
                rows[i].setting, i < 5 ? NULL : "steps=10"); /* the first five end by themselves */
        cr_assert(p.code == rows[i].code, "%s: exit %d: %s", rows[i].setting, p.code, p.err);
        program_close(&p);
        char *text = program_load(files_path(path), NULL);
        cr_assert(text && strstr(text, rows[i].says), "%s: %s", rows[i].setting, text);
        free(text);
    }
}

Test(huddle, it_stops_after_so_many_steps_of_each_worker) {
    train_well("name=a", "strategy=allreduce", "workers=2", "steps=20");
    cr_assert(summary_number("runs/a", "steps") == 40);
    cr_assert(summary_number("runs/a", "samples") == 1280);
    check_metrics("runs/a", 32);
}

Test(huddle, it_stops_after_so_many_epochs) {
    train_well("name=a", "strategy=allreduce", "workers=2", "epochs=1.5", "data.batch=16");
    double epochs = summary_number("runs/a", "epochs");
    cr_assert(epochs >= 1.5 && epochs < 1.5 + 2 * 32 / 1438.0, "%g epochs", epochs);
    check_metrics("runs/a", 16);
}

Test(huddle, it_stops_at_the_target) {
    train_well("name=a", "run.target=0.5", "eval_every=1", SMALLER);
    double epochs = summary_number("runs/a", "epochs");
    cr_assert(summary_number("runs/a", "accuracy") >= 0.5);
    cr_assert(epochs > 0 && epochs < 15, "%g of 30 epochs", epochs);
}

Test(huddle, it_stops_after_so_many_seconds) {
    train_well("name=a", "seconds=0.3", "epochs=0");
    double seconds = summary_number("runs/a", "seconds");
    cr_assert(seconds >= 0.3 && seconds < 30, "%g seconds", seconds);
}

/* ---- what averaging is worth ------------------------------------------------------------------ */

static double mean_accuracy(const char *name, int seeds, const char *const *extra) {
    double sum = 0;
    for (int i = 1; i <= seeds; i++) {
        char run[64], path[64], seed[32];
        snprintf(run, sizeof run, "name=%s-%d", name, i);
        snprintf(path, sizeof path, "runs/%s-%d", name, i);
        snprintf(seed, sizeof seed, "seed=%d", i);
        const char *words[PROGRAM_WORDS] = {
            "train", "folder=@/runs", "order=fixed", "workers=8", "eval_every=30", run, seed};
        int n = 7;
        for (int k = 0; k < 4 && extra[k]; k++) words[n++] = extra[k];
        words[n] = SMALL_NET;
        struct program p = program_run(words);
        cr_assert(p.code == 0, "exit %d, signal %d: %s", p.code, p.signal, p.err);
        program_close(&p);
        sum += summary_number(path, "accuracy");
    }
    return sum / seeds;
}

/* Measured over three seeds: 93.3 % with the spring, 89.3 % for one of eight replicas that never
 * meet and see an eighth of the data each. Half of that gap is asked for. */
Test(huddle, replicas_that_never_meet_are_worse) {
    double with = mean_accuracy("with", 3, (const char *const[]){NULL, NULL, NULL, NULL});
    double without = mean_accuracy("without", 3,
        (const char *const[]){
            "easgd.beta=0", "data.sampling=shards", "data.reshuffle=0", "judge=replica"});
    cr_assert(with >= without + 0.02, "with the spring %g, without %g", with, without);
}

/* ---- settings that must simply work ----------------------------------------------------------- */

Test(huddle, other_settings_run_through) {
    static const char *const rows[][4] = {
        {"model.layers=dense 32, relu, dropout 0.5, dense 10"},
        {"optimizer.kind=momentum", "schedule.rate=0.01"},
        {"optimizer.kind=nesterov", "schedule.rate=0.01", "easgd.mode=sync"},
        {"optimizer.decay=0.001", "strategy=allreduce"},
        {"optimizer.kind=rmsprop", "schedule.rate=0.001", "optimizer.epsilon_form=inside"},
        {"optimizer.kind=adam", "schedule.rate=0.001", "strategy=allreduce"},
        {"schedule.use=warmup", "warmup.epochs=1"},
        {"schedule.use=warmup, cosine", "cosine.epochs=2", "cosine.to=0.1"},
        {"schedule.use=linear", "linear.epochs=2"},
        {"schedule.use=warmup, step", "step.at=1", "warmup.from=0.5"},
        {"data.normalize=unit", "data.holdout=0.5"},
        {"data.sampling=shards", "data.threads=2"},
        {"data.sampling=shards", "data.reshuffle=0", "order=fixed"},
        {"data.set=synthetic", "synthetic.samples=300", "synthetic.height=8", "synthetic.width=8"},
        {"topology.threads=2", "topology.bind=0"},
        {"max_lag=0", "judge=replica"},
        {"task=quadratic", "schedule.rate=0.1"},
        {"workers=1", "data.batch=1", "steps=40"},
        {"workers=9", "data.batch=1500", "easgd.tau=1"},
        {"run.workers=64", "data.batch=4", "model.layers=dense 10"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *words[PROGRAM_WORDS] = {"train", "folder=@/runs", "epochs=2", "eval_every=1"};
        char name[32];
        int n = 4;
        snprintf(name, sizeof name, "name=%zu", i);
        words[n++] = name;
        int has_model = 0;
        for (int k = 0; k < 4 && rows[i][k]; k++) {
            has_model |= !strncmp(rows[i][k], "model.layers=", strlen("model.layers="));
            words[n++] = rows[i][k];
        }
        if (SIMULATED && !has_model) words[n++] = SMALLER;
        struct program p = program_run(words);
        cr_assert(p.code == 0, "row %zu, %s: exit %d, signal %d: %s", i, rows[i][0], p.code,
            p.signal, p.err);
        check_channels(&p);
        program_close(&p);
    }
    cr_assert_eq(count_summaries(files_path("runs")), (int)(sizeof rows / sizeof *rows));
}

/* The last row of a run's metrics; the caller deletes it. */
static cJSON *last_row(const char *run) {
    size_t n;
    char *text = program_load(run_path(run, "metrics.jsonl"), &n);
    cr_assert(text != NULL && n > 1, "%s has no metrics", run);
    text[n - 1] = '\0';
    char *line = strrchr(text, '\n');
    cJSON *row = cJSON_Parse(line ? line + 1 : text);
    cr_assert(cJSON_IsObject(row), "%s", text);
    free(text);
    return row;
}

Test(huddle, a_row_says_how_the_averaging_does) {
    train_well("task=quadratic", "strategy=gossip", "gossip.p=0.5", "quadratic.spread=1",
        "workers=4", "schedule.rate=0.0625", "quadratic.samples=200", "epochs=2", "eval_every=1");
    cJSON *row = last_row("runs/gossip-1");
    double least = json_number(row, "weight_least"), away = json_number(row, "in_flight");
    cr_assert(fabs(json_number(row, "weight") - 1) <= 1e-12, "no weight is lost");
    cr_assert(least > 0 && least <= 0.25 && away >= 0 && away < 1, "%g and %g", least, away);
    cr_assert(json_number(row, "effective_step") == 0.0625);
    cr_assert(json_number(row, "consensus_distance") > 0);
    static const char *const both[] = {"consensus_distance", "center_distance"};
    for (int i = 0; i < 2; i++) {
        cr_assert(json_number(row, both[i]) == summary_number("runs/gossip-1", both[i]));
    }
    cr_assert(!cJSON_HasObjectItem(row, "staleness"), "gossip counts none");
    cJSON_Delete(row);
}

static int warnings_of(const char *const row[4], const char *want) {
    const char *words[PROGRAM_WORDS] = {"train", "folder=@/runs", "workers=4", "task=quadratic",
        "quadratic.samples=80", "epochs=1", "eval_every=0.25", "order=fixed"};
    for (int k = 0; k < 4; k++) words[8 + k] = row[k];
    struct program p = program_run(words);
    cr_assert(p.code == 0, "%s %s: exit %d: %s", row[0], row[1], p.code, p.err);
    int n = 0;
    for (const char *at = p.err; (at = strstr(at, "warn ")); at += 5) n++;
    cr_assert(n == 0 || (want && strstr(p.err, want)), "not what we want: %s", p.err);
    program_close(&p);
    return n;
}

/* The last warms up from less than the bound of 0.5, and comes to it at an evaluation. */
Test(huddle, a_rate_that_is_too_long_is_warned_of_once) {
    static const struct {
        const char *row[4], *want;
    } all[] = {
        {{"strategy=downpour", "downpour.tau=4", "schedule.rate=0.13"},
            "the rate is 0.13, above about 2 / (workers tau h) = 0.125: that may be unstable"},
        {{"strategy=downpour", "downpour.tau=4", "schedule.rate=0.12"}, NULL},
        {{"strategy=downpour", "downpour.tau=4", "schedule.rate=0.13", "curvature=0"}, NULL},
        {{"strategy=downpour", "schedule.rate=0.26", "quadratic.h_max=2", "optimizer.decay=0.5"},
            "= 0.2: that is unstable where the loss has the curvature h = 2.5, the task's largest"},
        {{"strategy=downpour", "schedule.rate=0.51", "optimizer.kind=momentum",
             "optimizer.momentum=0.01"},
            NULL},
        {{"strategy=easgd", "easgd.tau=1", "easgd.beta=4.2", "schedule.rate=0.5"},
            "alpha is 1.05, above (4 - 2 eta h) / (4 - eta h) = 0.857143: that may be unstable"},
        {{"strategy=easgd", "easgd.tau=2", "easgd.beta=5.2", "schedule.rate=0.5"},
            "easgd: alpha is 1.3, above what one worker bears with this when and tau = 1.11111"},
        {{"easgd.mode=sync", "easgd.tau=1", "easgd.beta=2", "schedule.rate=0.5"},
            "above what mode, when and tau bear = 0.375: that is unstable"},
        {{"strategy=downpour", "schedule.use=warmup", "schedule.rate=0.8", "warmup.epochs=1"},
            "above about 2 / (workers tau h) = 0.5:"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int want = all[i].want != NULL, got = warnings_of(all[i].row, all[i].want);
        cr_assert(got == want, "row %zu: %d warnings", i, got);
    }
    struct program p = program("train", "folder=@/runs", "strategy=allreduce", "epochs=1",
        "schedule.rate=0.05", "curvature=100");
    cr_assert(p.code == 0 && strstr(p.err, "the rate is 0.05, above 2 / h = 0.02: ") &&
                  strstr(p.err, "h = 100, which is what run.curvature assumes\n"),
        "%s", p.err);
    program_close(&p);
}

Test(huddle, help_is_there_for_every_topic) {
    static const char *const topics[] = {
        NULL, "train", "evaluate", "help", "strategies", "models", "options", "easgd", "allreduce"};
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        struct program p = program("help", topics[i]);
        cr_assert(p.code == 0 && p.err_size == 0, "help %s: exit %d: %s", topics[i], p.code, p.err);
        cr_assert(p.out_size > 40, "help %s says little", topics[i]);
        cr_assert(!strpbrk(p.out, "\033\r"), "help %s has terminal codes", topics[i]);
        program_close(&p);
    }
    struct program p = program(NULL);
    cr_assert(p.code == 0 && strstr(p.out, "huddle train"), "exit %d: %s", p.code, p.out);
    program_close(&p);
}

/* In a file as on the command line; but not what config.ini has of a run that goes on. */
Test(huddle, what_nothing_reads_is_warned_of) {
    static const struct {
        const char *row[4], *want;
    } all[] = {
        {{"strategy=downpour", "easgd.tau=5", "easgd.beta=1", "gossip.p=0.5"},
            "nothing reads easgd.tau, easgd.beta, gossip.p: run.strategy is downpour\n"},
        {{"strategy=easgd", "easgd.tau=5"}, NULL},
        {{"step.at=2"}, "nothing reads step.at: schedule.use is \"constant\"\n"},
        {{"step.at=2", "schedule.use=warmup, step"}, NULL},
        {{"step.at=2", "schedule.use=warmup", "warmup.epochs=2"}, "nothing reads step.at: "},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int want = all[i].want != NULL, got = warnings_of(all[i].row, all[i].want);
        cr_assert(got == want, "row %zu: %d warnings", i, got);
    }
    write_text("idle.ini", "[downpour]\ntau = 3\n");
    struct program p = program("train", "@/idle.ini", "folder=@/idle", "task=quadratic", "steps=8");
    cr_assert(p.code == 0 && strstr(p.err, "nothing reads downpour.tau: "), "%s", p.err);
    program_close(&p);
    write_text("idle/easgd-1/config.ini", "[downpour]\ntau = 3\n[run]\ntask = quadratic\n");
    p = program("resume", "@/idle/easgd-1", "steps=80", "gossip.p=1");
    cr_assert(p.code == 0 && strstr(p.err, "nothing reads gossip.p: "), "%s", p.err);
    program_close(&p);
}

/* A round is 50 steps. Who ends no more than a quarter later than asked is told nothing. */
Test(huddle, a_run_that_goes_on_for_much_longer_than_asked_says_why) {
    static const struct {
        const char *limit, *other, *want;
    } all[] = {
        {"steps=20", "epochs=0",
            "asked for run.steps = 20, made 50: a run ends between rounds, and the last "
            "round of "
            "local_sgd was 50 steps of each worker\n"},
        {"steps=40", "epochs=0", NULL},
        {"steps=39", "epochs=0", "asked for run.steps = 39, made 50: "},
        {"epochs=1", "steps=0", "asked for run.epochs = 1, made 2.5: "},
        {"epochs=2", "steps=0", NULL},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct program p =
            program("train", "folder=@/runs", "workers=4", "task=quadratic", "quadratic.samples=80",
                "strategy=local_sgd", "local_sgd.H=50", all[i].limit, all[i].other);
        const char *said = strstr(p.err, "warn ");
        cr_assert(p.code == 0, "%s", p.err);
        cr_assert(all[i].want ? said && strstr(p.err, all[i].want) : !said, "%s: %s", all[i].limit,
            p.err);
        program_close(&p);
    }
}

/* Numbers in a row of the table: columns that collide are fewer. */
static int columns_of(const char *line) {
    int n = 0, used = 0;
    for (double v; sscanf(line, "%lf%n", &v, &used) == 1; line += used) n++;
    return n;
}

Test(huddle, tables_of_stability_keep_their_columns_apart_and_go_into_files) {
    struct program p = program("stability", "method=easgd", "eta=1000", "rho=1000000", "points=3");
    if (p.code == 1 && strstr(p.err, "LAPACK")) cr_skip_test("%s", p.err);
    char *text = p.out;
    int rows = 0;
    for (char *line; (line = next_line(&text));) {
        int columns = columns_of(line);
        cr_assert(columns == 0 || columns == 4, "%d columns: %s", columns, line);
        rows += columns == 4;
    }
    cr_assert(p.code == 0 && rows == 3, "%d rows", rows);
    program_close(&p);
    p = program("stability", "method=largest_eta", "csv=@/eta.csv");
    cr_assert(p.code == 0 && has_prefix(p.out, "largest stable eta"), "%s%s", p.out, p.err);
    program_close(&p);
    char *csv = program_load(files_path("eta.csv"), NULL), *rest = csv;
    cr_assert(csv && has_prefix(csv, "method,p,tau,largest_eta\ndownpour,1,1,2"), "%s", csv);
    for (rows = 0; next_line(&rest);) rows++;
    cr_assert_eq(rows, 1 + 2 * 16);
    free(csv);
}

/* ---- the figure of stability ------------------------------------------------------------------ */

enum { POINTS = 100 };

static int times_in(const char *text, const char *what) {
    int n = 0;
    for (; (text = strstr(text, what)); text++) n++;
    return n;
}

struct grid {
    double eta, rho; /* the largest */
    double radius[POINTS][POINTS];
    int over; /* points of more than 1 */
};

/* A head, then rho after rho with every eta. */
static void load_grid(struct grid *g, const char *name) {
    char *csv = program_load(files_path(name), NULL), *rest = csv;
    cr_assert(csv && strcmp(next_line(&rest), "eta,rho,radius") == 0);
    g->over = 0;
    for (int k = 0; k < POINTS * POINTS; k++) {
        double eta, rho, *radius = &g->radius[k / POINTS][k % POINTS];
        char *line = next_line(&rest);
        cr_assert(line && sscanf(line, "%lf,%lf,%lf", &eta, &rho, radius) == 3, "line %d", k);
        double at_eta = g->eta * (k % POINTS + 1) / POINTS;
        double at_rho = g->rho * (k / POINTS + 1) / POINTS;
        cr_assert(fabs(eta - at_eta) <= 1e-6 * at_eta && fabs(rho - at_rho) <= 1e-6 * at_rho);
        g->over += *radius > 1;
    }
    cr_assert(!next_line(&rest), "more lines than points");
    free(csv);
}

static int is_over(const struct grid *g, int i, int j) { return g->radius[j][i] > 1; }

/* The white behind all, a square for each point, red where it is over 1 and blue else, but white near
 * 1, and the 40 of the legend. */
static void check_squares(const struct grid *g, const char *svg) {
    int squares = times_in(svg, "<rect "), reds = 0;
    cr_assert(squares == 1 + POINTS * POINTS + 40, "%d squares", squares);
    const char *at = strstr(svg, "<rect x=");
    for (int k = 0; k < POINTS * POINTS; k++, at = strstr(at + 1, "<rect x=")) {
        double x, y;
        int red, blue, i = k % POINTS, j = k / POINTS;
        cr_assert(
            sscanf(at,
                "<rect x=\"%lf\" y=\"%lf\" width=\"5.30\" height=\"5.30\" fill=\"rgb(%d,%*d,%d", &x,
                &y, &red, &blue) == 4,
            "%.90s", at);
        cr_assert(x == 70 + 5 * i && y == 545 - 5 * j, "point %d %d is at %g %g", i, j, x, y);
        cr_assert(is_over(g, i, j) ? red >= blue : red <= blue, "%g: %.90s", g->radius[j][i], at);
        reds += red > blue;
    }
    cr_assert(reds > 0.9 * g->over || g->over == 0, "%d red squares for %d points", reds, g->over);
}

/* Every edge is between a point that is over 1 and one that is not, and there are as many as there
 * are such neighbors. */
static void check_outline(const struct grid *g, const char *svg) {
    int neighbors = 0, edges = 0, used = 0;
    for (int j = 0; j < POINTS; j++) {
        for (int i = 0; i < POINTS; i++) {
            neighbors += i + 1 < POINTS && is_over(g, i, j) != is_over(g, i + 1, j);
            neighbors += j + 1 < POINTS && is_over(g, i, j) != is_over(g, i, j + 1);
        }
    }
    const char *path = strstr(svg, "<path ");
    cr_assert(path && (path = strstr(path, " d=\"")), "no outline");
    path += 4;
    double x, y;
    char way;
    for (; sscanf(path, "M%lf %lf%c5.00%n", &x, &y, &way, &used) == 3; path += used, edges++) {
        int i = (int)lround((x - 70) / 5), j = (int)lround((545 - y) / 5);
        int near_i = i - (way == 'v'), near_j = j + (way == 'h');
        cr_assert((way == 'v' || way == 'h') && i >= 0 && near_i >= 0 && i < POINTS && j >= 0 &&
                      near_j < POINTS,
            "%.30s", path);
        cr_assert(is_over(g, i, j) != is_over(g, near_i, near_j), "at %g %g", x, y);
    }
    cr_assert(*path == '"', "%.30s", path);
    cr_assert(edges == neighbors, "%d edges, not %d", edges, neighbors);
    cr_assert((edges > 0) == (g->over > 0), "%d edges, %d points over 1", edges, g->over);
}

/* Draws it into the grid; out: what was printed, for the caller to free. */
static char *draw_figure(struct grid *g, const char *method, const char *p, const char *order) {
    char eta[32], rho[32];
    snprintf(eta, sizeof eta, "eta=%g", g->eta);
    snprintf(rho, sizeof rho, "rho=%g", g->rho);
    struct program run =
        program("stability", method, p, order, eta, rho, "csv=@/grid.csv", "svg=@/grid.svg");
    if (run.code == 1 && strstr(run.err, "LAPACK")) cr_skip_test("%s", run.err);
    cr_assert(run.code == 0, "%s", run.err);
    free(run.err);
    load_grid(g, "grid.csv");
    char *svg = program_load(files_path("grid.svg"), NULL);
    cr_assert(svg != NULL, "no picture");
    check_squares(g, svg);
    check_outline(g, svg);
    free(svg);
    return run.out;
}

/* The grid of the paper's figure 1, with values that were computed independently. */
Test(huddle, the_figure_of_stability_is_the_papers) {
    static const struct {
        const char *method, *p, *title;
        double largest, eta, rho, share, at_1e3_2_5;
    } all[] = {
        {"method=admm", "p=3", "ADMM, p = 3", 1.001378, 2e-4, 10, 14.8, 1.000973885},
        {"method=admm", "p=8", "ADMM, p = 8", 1.002858, 5e-4, 10, 35.0, 1.002257866},
        {"method=easgd", "p=3", "EASGD, p = 3", 0.999974, 1e-4, 0.1, 0, 0.999269748},
        {"method=easgd", "p=8", "EASGD, p = 8", 0.999937, 1e-4, 0.1, 0, 0.999115698},
    };
    static struct grid g;
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        double largest, eta, rho, share;
        int points;
        g = (struct grid){.eta = 1e-2, .rho = 10};
        char *out = draw_figure(&g, all[k].method, all[k].p, "order=before");
        char *svg = program_load(files_path("grid.svg"), NULL), *last = strstr(out, "\nlargest ");
        cr_assert(strstr(out, all[k].title) && strstr(svg, all[k].title), "%s", out);
        cr_assert(strstr(svg, ">0.01<") && strstr(svg, ">10<") && strstr(svg, "</svg>\n"));
        cr_assert(last && sscanf(last,
                              " largest %lf at eta %lf, rho %lf; over 1 at %lf %% of %d points\n",
                              &largest, &eta, &rho, &share, &points) == 5,
            "%s", out);
        cr_assert(fabs(largest - all[k].largest) <= 1e-6 && eta == all[k].eta &&
                      rho == all[k].rho && share == all[k].share && points == POINTS * POINTS,
            "%s", last);
        cr_assert(fabs(100.0 * g.over / points - share) <= 0.05 + 1e-9, "%d points", g.over);
        cr_assert(fabs(g.radius[24][9] - all[k].at_1e3_2_5) <= 1e-9, "%.10g", g.radius[24][9]);
        free(svg);
        free(out);
    }
}

/* alpha = eta rho. Before: alpha <= (4 - 2 eta) / (4 - eta), for any p. After, for one worker: up to
 * (4 - 2 eta) / (4 - 3 eta) and, for eta > 1, eta / (2 (eta - 1)). One worker goes no further. */
static double alpha_bound(double eta, int after) {
    if (!after) return (4 - 2 * eta) / (4 - eta);
    return eta <= 1 ? (4 - 2 * eta) / (4 - 3 * eta) : eta / (2 * (eta - 1));
}

Test(huddle, the_figure_of_easgd_is_stable_where_the_theory_says_so) {
    static const struct {
        const char *p, *order;
        int after, sharp;
    } all[] = {{"p=1", "order=before", 0, 1}, {"p=3", "order=before", 0, 0},
        {"p=8", "order=before", 0, 0}, {"p=1", "order=after", 1, 1}};
    static struct grid g;
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        g = (struct grid){.eta = 1.995, .rho = 2};
        free(draw_figure(&g, "method=easgd", all[k].p, all[k].order));
        for (int n = 0; n < POINTS * POINTS; n++) {
            int i = n % POINTS, j = n / POINTS;
            double eta = g.eta * (i + 1) / POINTS, alpha = eta * g.rho * (j + 1) / POINTS;
            double bound = alpha_bound(eta, all[k].after);
            cr_assert(alpha > bound - 1e-6 || !is_over(&g, i, j), "%s eta %g alpha %g: %.12g",
                all[k].p, eta, alpha, g.radius[j][i]);
            cr_assert(!all[k].sharp || alpha < bound + 1e-6 || is_over(&g, i, j),
                "%s eta %g alpha %g: %.12g", all[k].order, eta, alpha, g.radius[j][i]);
        }
        cr_assert(g.over > 1000 && g.over < 9000, "%d points", g.over);
    }
}

/* ---- help --------------------------------------------------------------------------------------- */

Test(huddle, help_and_version_come_by_the_usual_flags_too) {
    static const struct {
        const char *word[2], *says;
    } all[] = {
        {{"--help"}, "huddle trains neural networks"},
        {{"-h"}, "huddle trains neural networks"},
        {{"help", "--help"}, "huddle trains neural networks"},
        {{"train", "--help"}, "75 stopped early: `huddle resume` goes on"},
        {{"stability", "-h"}, "stability.method"},
        {{"resume", "--help"}, "huddle resume runs/<name>"},
        {{"topo", "--help"}, "--measure adds"},
        {{"--version"}, "huddle, unreleased\n"},
        {{"help", "eamsgd"}, "easgd: elastic averaging"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct program p = program(all[i].word[0], all[i].word[1]);
        cr_expect(p.code == 0 && strstr(p.out, all[i].says), "%s: exit %d: %s%s", all[i].word[0],
            p.code, p.out, p.err);
        program_close(&p);
    }
}

Test(huddle, the_machine_is_told_to_programs_as_json_and_nothing_else) {
    struct program p = program("topo", "--json", "workers=3", "topology.threads=1");
    cr_assert(p.code == 0, "exit %d: %s", p.code, p.err);
    cJSON *top = cJSON_ParseWithOpts(p.out, NULL, 1);
    cr_assert(top != NULL, "no JSON: %s", p.out);
    const cJSON *machine = cJSON_GetObjectItemCaseSensitive(top, "machine");
    const cJSON *cores = cJSON_GetObjectItemCaseSensitive(machine, "cores");
    cr_expect(cJSON_GetNumberValue(cores) >= 1, "%s", p.out);
    const cJSON *workers = cJSON_GetObjectItemCaseSensitive(top, "workers");
    cr_expect_eq(cJSON_GetArraySize(workers), 3, "%s", p.out);
    const cJSON *rank = cJSON_GetObjectItem(cJSON_GetArrayItem(workers, 2), "rank");
    cr_expect(cJSON_GetNumberValue(rank) == 2, "%s", p.out);
    cr_expect(cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(top, "gpus")), "%s", p.out);
    cJSON_Delete(top);
    program_close(&p);
}

static size_t count_strategies(void) {
    size_t n = 1;
    struct program list = program("help", "strategies");
    for (const char *at = list.out; (at = strstr(at, "\n  ")); at++) n++;
    program_close(&list);
    return n;
}

/* What a strategy's help must hold, so that one can choose a rate, a period and an optimizer by it;
 * and, below, what one then chooses. */
Test(huddle, the_help_of_a_strategy_says_how_to_choose_its_rate) {
    static const struct {
        const char *strategy, *says[4];
    } all[] = {
        {"allreduce", {"p times that of", "warmup.epochs", "momentum"}},
        {"easgd", {"that of a single worker", "many times tau", "The log warns",
                      "one worker and the center only"}},
        {"easgd_tree",
            {"that of a single worker", "many times tau_root", "one NUMA node there is one"}},
        {"downpour", {"workers x tau", "may be larger"}},
        {"adownpour", {"its rate"}},
        {"mvadownpour", {"its rate", "1 / alpha", "larger alpha"}},
        {"mdownpour", {"(1 - momentum) / workers"}},
        {"sgd", {"schedule.rate"}},
        {"msgd", {"schedule.rate", "(1 - momentum)"}},
        {"asgd", {"schedule.rate"}},
        {"mvasgd", {"schedule.rate", "1 / alpha", "larger alpha"}},
        {"admm", {"rho of about 1", "huddle stability"}},
        {"gossip", {"single worker", "paper's is peers=uniform"}},
        {"sgp", {"up to workers times as much"}},
        {"adpsgd", {"up to workers times as much", "counted from 0", "the ring is open"}},
        {"dpsgd", {"up to workers times as much"}},
        {"local_sgd", {"as for allreduce", "i / P of H", "qsr / sqrt(H)", "drawn by all workers"}},
        {"bmuf", {"that of local_sgd", "zeta / (1 - mu)", "as by CNTK",
                     "momentum=average as much again"}},
        {"slowmo", {"that of local_sgd", "alpha / (1 - beta)", "momentum=average as much again"}},
        {"diloco",
            {"about 0.001", "many thousand steps", "AdamW", "momentum=average as much again"}},
        {"lookahead", {"that of sgd", "momentum=average as much again"}},
    };
    cr_assert(count_strategies() == sizeof all / sizeof *all);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct program p = program("help", all[i].strategy);
        for (char *at = p.out; (at = strchr(at, '\n'));) *at = ' ';
        for (int k = 0; k < 4 && all[i].says[k]; k++) {
            cr_expect(strstr(p.out, all[i].says[k]), "help %s lacks \"%s\":\n%s", all[i].strategy,
                all[i].says[k], p.out);
        }
        program_close(&p);
    }
}

/* Where the rate of a single worker is 0.1, that of the others is what their help makes of it for four.
 * 15 epochs are 176 steps of each of four workers; diloco's periods are longer. */
#define AS_ALLREDUCE "schedule.rate=0.4", "schedule.use=warmup", "warmup.epochs=5"

Test(huddle, every_strategy_learns_the_digits_as_its_help_advises) {
    if (SIMULATED) cr_skip_test("these are the host's runs");
    static const struct {
        const char *strategy;
        int epochs;
        const char *words[3];
    } all[] = {
        {"allreduce", 15, {AS_ALLREDUCE}},
        {"easgd", 15, {"schedule.rate=0.1"}},
        {"easgd_tree", 15, {"schedule.rate=0.1", "easgd_tree.groups=2", "easgd_tree.tau_root=20"}},
        {"downpour", 15, {"schedule.rate=0.025"}},
        {"adownpour", 15, {"schedule.rate=0.025"}},
        {"mvadownpour", 15, {"schedule.rate=0.025", "mvadownpour.alpha=0.01"}},
        {"mdownpour", 15, {"schedule.rate=0.0025"}},
        {"sgd", 15, {"schedule.rate=0.1", "workers=1"}},
        {"msgd", 15, {"schedule.rate=0.01", "workers=1"}},
        {"asgd", 15, {"schedule.rate=0.1", "workers=1"}},
        {"mvasgd", 15, {"schedule.rate=0.1", "workers=1", "mvasgd.alpha=0.01"}},
        {"admm", 15, {"schedule.rate=0.1"}},
        {"gossip", 15, {"schedule.rate=0.1"}},
        {"sgp", 15, {"schedule.rate=0.2"}},
        {"adpsgd", 15, {"schedule.rate=0.2"}},
        {"dpsgd", 15, {"schedule.rate=0.2"}},
        {"local_sgd", 15, {AS_ALLREDUCE}},
        {"bmuf", 15, {AS_ALLREDUCE}},
        {"slowmo", 15, {AS_ALLREDUCE}},
        {"diloco", 40, {"schedule.rate=0.001", "optimizer.kind=adam", "diloco.H=100"}},
        {"lookahead", 15, {"schedule.rate=0.1", "workers=1"}},
    };
    cr_assert(count_strategies() == sizeof all / sizeof *all);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char strategy[64], name[64], epochs[32], run[80];
        snprintf(strategy, sizeof strategy, "strategy=%s", all[i].strategy);
        snprintf(name, sizeof name, "name=%s", all[i].strategy);
        snprintf(epochs, sizeof epochs, "epochs=%d", all[i].epochs);
        snprintf(run, sizeof run, "runs/%s", all[i].strategy);
        struct program p = program("train", "folder=@/runs", "devices=host", "order=fixed",
            "eval_every=100", "model.layers=dense 32, relu, dense 10", strategy, name, epochs,
            all[i].words[0], all[i].words[1], all[i].words[2]);
        cr_assert(p.code == 0, "%s: exit %d: %s", strategy, p.code, p.err);
        cr_expect(!strstr(p.err, "warn "), "%s", p.err);
        double accuracy = summary_number(run, "accuracy");
        cr_expect(accuracy > 0.85 && accuracy <= 1, "%s: accuracy %g", strategy, accuracy);
        program_close(&p);
    }
}

/* ---- on a terminal ---------------------------------------------------------------------------- */

/* What is seen of a line: what comes after the last wipe. */
static char *seen(char *line, int *wipes) {
    for (char *wipe; (wipe = strstr(line, "\r\033[K")); ++*wipes) line = wipe + 4;
    return line;
}

/* Every line that is seen in the end is a log line, and whole; the rest was wiped away. Returns
 * how many there are; *wipes counts what was wiped away. */
static int check_terminal_lines(char *text, int *wipes) {
    int lines = 0;
    char *last = strrchr(text, '\n');
    cr_assert(last && !*seen(last + 1, wipes), "progress is left on the screen: %s", text);
    last[1] = '\0';
    for (char *line; (line = next_line(&text)); lines++) {
        line = seen(line, wipes);
        size_t n = strlen(line);
        cr_assert(n > 1 && line[n - 1] == '\r', "a line is not whole: %s", line);
        line[n - 1] = '\0';
        cr_assert(has_prefix(line, "info  "), "a torn line: %s", line);
        cr_assert(!strpbrk(line, "\033\r"), "codes inside a line: %s", line);
    }
    return lines;
}

/* libgomp tells what it read when it began. */
static int spins(const char *turns) {
    char line[64];
    snprintf(line, sizeof line, "GOMP_SPINCOUNT = '%s'", turns);
    setenv("OMP_DISPLAY_ENV", "verbose", 1);
    struct program p = program("help");
    int found = strstr(p.err, line) != NULL;
    cr_assert(p.code == 0, "%s", p.err);
    program_close(&p);
    return found;
}

Test(huddle, threads_that_wait_soon_sleep_unless_the_user_says_otherwise) {
#if defined _OPENMP && !defined __clang__
    unsetenv("GOMP_SPINCOUNT");
    unsetenv("OMP_WAIT_POLICY");
    cr_expect(spins("1000"), "no second start");
    setenv("GOMP_SPINCOUNT", "77", 1);
    cr_expect(spins("77") && !spins("1000"), "the user's own number is lost");
    unsetenv("GOMP_SPINCOUNT");
    setenv("OMP_WAIT_POLICY", "active", 1);
    cr_expect(!spins("1000"), "the user's own policy is lost");
#else
    cr_skip_test("needs libgomp");
#endif
}

Test(huddle, a_terminal_gets_a_line_of_progress) {
    int wipes = 0;
    if (!program_has_terminals()) cr_skip_test("this machine gives no pseudo-terminals");
    setenv("NO_COLOR", "1", 1);
    struct program p =
        program_on_terminal("train", "folder=@/runs", "seconds=0.5", "epochs=0", "eval_every=1");
    cr_assert(p.code == 0, "exit %d, signal %d: %s", p.code, p.signal, p.err);
    cr_assert(strstr(p.err, "epoch "), "no progress: %s", p.err);
    cr_assert(!strpbrk(p.out, "\033\r"), "terminal codes on stdout");
    for (const char *at = p.err; (at = strchr(at, '\033')); at++) {
        cr_assert(has_prefix(at, "\033[K"), "a code that NO_COLOR forbids");
    }
    int lines = check_terminal_lines(p.err, &wipes);
    cr_assert(lines >= 3 && wipes >= 2, "%d lines, %d wipes", lines, wipes);
    program_close(&p);
}

Test(huddle, colors_are_for_terminals_that_want_them) {
    if (!program_has_terminals()) cr_skip_test("this machine gives no pseudo-terminals");
    struct program p = program_on_terminal("train", "strategy=easg");
    cr_assert(p.code == 2 && has_prefix(p.err, "\033[31merror\033[0m "), "%s", p.err);
    program_close(&p);
    setenv("NO_COLOR", "1", 1);
    p = program_on_terminal("train", "strategy=easg");
    cr_assert(p.code == 2 && has_prefix(p.err, "error "), "%s", p.err);
    cr_assert(!strchr(p.err, '\033'), "%s", p.err);
    program_close(&p);
    setenv("NO_COLOR", "", 1); /* no-color.org: only a word counts */
    p = program_on_terminal("train", "strategy=easg");
    cr_assert(has_prefix(p.err, "\033[31merror\033[0m "), "%s", p.err);
    program_close(&p);
}

/* ---- a set that does not ship ----------------------------------------------------------------- */

Test(huddle, two_workers_learn_mnist) {
    char path[512];
    struct stat s;
    const char *home = getenv("HUDDLE_DATA");
    snprintf(path, sizeof path, "%s/mnist", home && *home ? home : "data");
    if (stat(path, &s) != 0 || !S_ISDIR(s.st_mode)) {
        cr_skip_test(
            "no MNIST: neither $HUDDLE_DATA/mnist nor data/mnist; data/fetch mnist gets it");
    }
    train_well("name=a", "data.set=mnist", "model.layers=2nn", "strategy=allreduce", "workers=2",
        SIMULATED ? "epochs=0.1" : "epochs=1", "schedule.rate=0.2");
    double accuracy = summary_number("runs/a", "accuracy");
    cr_assert(accuracy >= (SIMULATED ? 0.85 : 0.95) && accuracy <= 1, "accuracy %g", accuracy);
}

/* ---- devices ---------------------------------------------------------------------------------- */

/* Of a simulated CUDA there are none where it is told so; the real one has none without a driver. */
Test(huddle, without_a_gpu_a_build_for_cuda_computes_on_the_host_and_says_so_once) {
    setenv("CUDASIM_DEVICES", "0", 1);
    if (devices[0] == &device_host) cr_skip_test("built without CUDA");
    if (devices[0]->count() > 0) cr_skip_test("there is a GPU");
    struct program p = program("train", "folder=@/runs", "steps=2", "model.layers=dense 10");
    cr_assert(p.code == 0, "%s", p.err);
    cr_assert(times_in(p.err, "computing on the host: ") == 1, "%s", p.err);
    cr_assert(times_in(p.err, "cuda") > 0 && times_in(p.err, "thread") > 0, "%s", p.err);
    program_close(&p);
    p = program("train", "folder=@/runs", "steps=2", "model.layers=dense 10", "devices=host");
    cr_assert(p.code == 0 && times_in(p.err, "computing on the host") == 0, "%s", p.err);
    program_close(&p);
    p = program("train", "folder=@/runs", "steps=2", "devices=cuda");
    cr_assert(p.code == 4, "%s", p.err);
    program_close(&p);
    p = program("evaluate", "@/runs/easgd-1/checkpoint.safetensors");
    cr_assert(p.code == 0 && strstr(p.out, "accuracy"), "%s", p.err);
    program_close(&p);
}

/* What config.ini says is where it was trained; who judges says where he does, or nothing. */
Test(huddle, weights_are_judged_on_any_device_alike) {
    static const char *const where[] = {"devices=auto", "devices=host", "seed=1"};
    struct program p = program("train", "folder=@/runs", "steps=20", "model.layers=dense 10");
    cr_assert(p.code == 0, "%s", p.err);
    program_close(&p);
    char *first = NULL;
    for (size_t i = 0; i < sizeof where / sizeof *where; i++) {
        p = program("evaluate", "@/runs/easgd-1/checkpoint.safetensors", where[i]);
        cr_assert(p.code == 0, "%s", p.err);
        char *at = strstr(p.out, "accuracy");
        cr_assert(at != NULL);
        if (first) cr_assert(strcmp(first, at) == 0, "%s: %s, not %s", where[i], at, first);
        if (!first) first = strdup(at);
        program_close(&p);
    }
    free(first);
    p = program("evaluate", "@/runs/easgd-1/checkpoint.safetensors", "devices=cuda:99");
    cr_assert(p.code == 4 || p.code == 2, "exit %d: %s", p.code, p.err);
    program_close(&p);
}
