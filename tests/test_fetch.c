/* data/fetch without a network: a curl and a wget of ours bring what a folder of ours holds. */
#include <criterion/criterion.h>

#include "program.h"

/* What stands for the network: a file of served/, and a line of the log for each that is asked for.
 * Where served/ holds a folder of the server's name, that server has the files in there instead. */
#define STAND_IN                                                                                   \
    "#!/bin/sh\n"                                                                                  \
    "for word; do case $before in -o | -O) to=$word ;; esac; before=$word; done\n"                 \
    "home=${0%/*}/.. server=${word#*//} server=${server%%/*}\n"                                    \
    "echo \"${0##*/} $word\" >>\"$home/asked\"\n"                                                  \
    "from=$home/served\n"                                                                          \
    "[ ! -d \"$from/$server\" ] || from=$from/$server\n"                                           \
    "cp \"$from/${word##*/}\" \"$to\" 2>/dev/null && exit\n"                                       \
    "echo 'no such page' >&2; exit 22\n"

/* Made-up sets, and @/fetch, which is data/fetch with their checksums. */
static const char make_up[] =
    "set -e\n"
    "cp data/fetch \"$0\"\n"
    "cd \"$0\"\n"
    "mkdir served cifar-10-batches-bin\n"
    "for name in train-images-idx3 train-labels-idx1 t10k-images-idx3 t10k-labels-idx1; do\n"
    "    echo \"made up: $name\" >served/$name-ubyte.gz\n"
    "done\n"
    "for name in data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch; do\n"
    "    echo \"made up: $name\" >cifar-10-batches-bin/$name.bin\n"
    "done\n"
    "tar -cf - cifar-10-batches-bin | gzip >served/cifar-10-binary.tar.gz\n"
    "for file in served/* cifar-10-batches-bin/*; do\n"
    "    sum=$(sha256sum <$file)\n"
    "    sed \"s/[0-9a-f]\\{64\\} ${file##*/}/${sum%% *} ${file##*/}/\" fetch >edited\n"
    "    cat edited >fetch\n"
    "done\n";

static char path_before[4096];

static void write_stand_in(const char *name) {
    files_write(name, STAND_IN, sizeof STAND_IN - 1);
    cr_assert(chmod(files_path(name), 0700) == 0);
}

/* Runs a line of shell in the test's folder; true where it ends with 0. */
static int shell(const char *line) {
    char all[8192];
    snprintf(all, sizeof all, "cd '%s' && { %s; }", files_folder, line);
    return system(all) == 0;
}

static void use_path(const char *before, const char *after) {
    char path[sizeof path_before + 512];
    snprintf(path, sizeof path, "%s%s", files_path(before), after);
    setenv("PATH", path, 1);
}

static void open_all(void) {
    char line[sizeof make_up + 512], after[sizeof path_before + 1];
    files_open();
    snprintf(path_before, sizeof path_before, "%s", getenv("PATH"));
    snprintf(line, sizeof line, "sh -c '%s' '%s'", make_up, files_folder);
    cr_assert(system(line) == 0, "no made-up sets");
    files_make_folder("bin");
    write_stand_in("bin/curl");
    snprintf(after, sizeof after, ":%s", path_before);
    use_path("bin", after);
}

TestSuite(fetch, .init = open_all, .fini = files_close, .timeout = 60);

/* The script as it is, which knows the published checksums, and the one that knows ours. */
static struct program published(const char *set) {
    setenv("HUDDLE", "data/fetch", 1);
    return program(set, "@/sets");
}
static struct program ours(const char *set) {
    setenv("HUDDLE", files_path("fetch"), 1);
    return program(set, "@/sets");
}

static void check_end(struct program *p, int code, const char *words) {
    cr_assert(p->code == code, "%d, not %d: %s%s", p->code, code, p->out, p->err);
    cr_assert(strstr(code ? p->err : p->out, words), "no \"%s\": %s%s", words, p->out, p->err);
    program_close(p);
}

static int asked(void) {
    size_t lines = 0;
    char *log = program_load(files_path("asked"), NULL);
    for (char *at = log; at && (at = strchr(at, '\n')); at++) lines++;
    free(log);
    return (int)lines;
}

Test(fetch, a_name_that_it_does_not_know_is_answered_by_its_usage) {
    static const char *const words[][4] = {{NULL}, {"mnits", NULL}, {"", NULL}, {"-h", NULL},
        {"mnist", "-h", NULL}, {"mnist", "@/sets", "more", NULL}, {"cifar10 mnist", NULL}};
    setenv("HUDDLE", "data/fetch", 1);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct program p = program_run(words[i]);
        check_end(&p, 2, "usage: fetch mnist|fashion|cifar10 [DEST]");
    }
    cr_assert(asked() == 0 && shell("[ ! -e sets ]"));
}

Test(fetch, what_is_not_the_published_file_is_refused_and_leaves_nothing) {
    static const struct {
        const char *set, *file, *sum; /* as data/README.md has them */
    } all[] = {
        {"mnist", "train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea37026"},
        {"fashion", "train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed27"},
        {"cifar10", "cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d6"},
    };
    for (int i = 0; i < 3; i++) {
        char words[256];
        struct program p = published(all[i].set);
        snprintf(words, sizeof words, ", not %s", all[i].sum);
        cr_assert(strstr(p.err, words) && strstr(p.err, "has the checksum"), "%s", p.err);
        snprintf(words, sizeof words, "fetch: %s is not the published file at ", all[i].file);
        cr_assert(strstr(p.err, "it was thrown away"), "%s", p.err);
        check_end(&p, 1, words);
        cr_assert(shell("[ -d sets ] && [ -z \"$(ls -A sets)\" ]"), "%s left files", all[i].set);
    }
    cr_assert_eq(asked(), 2 + 1 + 1, "each home is asked once");
}

Test(fetch, a_download_that_fails_is_told_and_leaves_nothing) {
    static const char *const sets[] = {"mnist", "fashion", "cifar10"};
    cr_assert(shell("rm served/*"));
    for (int i = 0; i < 3; i++) {
        struct program p = published(sets[i]);
        cr_assert(strstr(p.err, "no such page\n"), "curl's own words: %s", p.err);
        check_end(&p, 1, "could not be downloaded; is there a network?");
        cr_assert(shell("[ -z \"$(ls -A sets)\" ]"), "%s left files", sets[i]);
    }
}

Test(fetch, a_place_where_no_folder_can_be_is_told) {
    cr_assert(shell("echo a file >sets"));
    struct program p = ours("mnist");
    check_end(&p, 1, "/sets/mnist cannot be made");
    cr_assert_eq(asked(), 0);
}

Test(fetch, the_right_files_come_in_and_are_not_downloaded_again) {
    static const char *const sets[] = {"mnist", "fashion"};
    for (int i = 0; i < 2; i++) {
        struct program p = ours(sets[i]);
        check_end(&p, 0, "is in ");
        cr_assert_eq(asked(), 4 * (i + 1));
        p = ours(sets[i]);
        check_end(&p, 0, "is there and right");
        cr_assert_eq(asked(), 4 * (i + 1));
    }
    cr_assert(shell("rm served/cifar*; diff -r served sets/mnist && diff -r served sets/fashion"));
}

Test(fetch, what_was_damaged_since_comes_anew_and_the_others_stay) {
    struct program p = ours("mnist");
    program_close(&p);
    cr_assert(shell("echo more >>sets/mnist/t10k-labels-idx1-ubyte.gz"));
    p = ours("mnist");
    check_end(&p, 0, "is in ");
    cr_assert_eq(asked(), 5);
    cr_assert(shell("rm served/cifar*; diff -r served sets/mnist"));
}

/* Files that came before the one that does not are kept: they are right. */
Test(fetch, what_came_before_a_failure_stays_for_the_next_time) {
    cr_assert(shell("echo wrong >served/t10k-images-idx3-ubyte.gz"));
    struct program p = ours("mnist");
    check_end(&p, 1, "t10k-images-idx3-ubyte.gz is not the published file");
    cr_assert(shell("[ \"$(ls -A sets/mnist | tr '\\n' ' ')\" = "
                    "'train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz ' ]"));
}

Test(fetch, a_home_that_fails_or_lies_is_followed_by_the_next) {
    cr_assert(shell("mkdir served/ossci-datasets.s3.amazonaws.com"));
    struct program p = ours("mnist");
    check_end(&p, 0, "http://yann.lecun.com/exdb/mnist/t10k-labels-idx1-ubyte.gz");
    cr_assert(shell("rm -r sets; cd served; for i in *gz; do echo no "
                    ">ossci-datasets.s3.amazonaws.com/$i; done"));
    p = ours("mnist");
    cr_assert(strstr(p.err, "from https://ossci-datasets.s3.amazonaws.com/mnist has the checksum"));
    check_end(&p, 0, "is in ");
    cr_assert(shell("cmp served/t10k-labels-idx1-ubyte.gz sets/mnist/t10k-labels-idx1-ubyte.gz"));
}

Test(fetch, cifar10_is_unpacked_and_checked_file_by_file) {
    struct program p = ours("cifar10");
    check_end(&p, 0, "cifar10 is in ");
    cr_assert(shell("diff -r cifar-10-batches-bin sets/cifar10"));
    p = ours("cifar10");
    check_end(&p, 0, "are there and right");
    cr_assert_eq(asked(), 1);
    cr_assert(shell("echo more >>sets/cifar10/data_batch_5.bin"));
    p = ours("cifar10");
    check_end(&p, 0, "cifar10 is in ");
    cr_assert(asked() == 2 && shell("diff -r cifar-10-batches-bin sets/cifar10"));
    /* a batch that is not in it as it should be */
    cr_assert(shell("was=$(sha256sum <cifar-10-batches-bin/data_batch_3.bin); rm -r sets; "
                    "sed \"s/${was%% *}/$(echo $was | tr 0-9a-f f0-9a-e | cut -c -64)/\" fetch "
                    ">edited; cat edited >fetch"));
    p = ours("cifar10");
    check_end(&p, 1, "data_batch_3.bin was not unpacked whole");
    cr_assert(shell("[ -z \"$(ls -A sets)\" ]"));
}

Test(fetch, wget_does_where_there_is_no_curl_and_without_both_it_says_so) {
    cr_assert(
        shell("mkdir few; for name in sh cat cp dirname gzip mkdir mv rm rmdir sha256sum tar; "
              "do ln -s \"$(command -v $name)\" few/$name; done"));
    use_path("few", "");
    struct program p = ours("mnist");
    check_end(&p, 1, "neither curl nor wget is here");
    write_stand_in("few/wget");
    p = ours("mnist");
    check_end(&p, 0, "is in ");
    cr_assert(unlink(files_path("served/cifar-10-binary.tar.gz")) == 0);
    p = ours("cifar10");
    cr_assert(strstr(p.err, "wget: no answer, or not the file"), "%s", p.err);
    check_end(&p, 1, "is there a network?");
    setenv("PATH", path_before, 1);
    cr_assert(
        shell("diff -r served sets/mnist && grep -q '^wget' asked && ! grep -q '^curl' asked"));
}

Test(fetch, the_data_sheet_names_the_same_checksums) {
    char line[1024];
    snprintf(line, sizeof line,
        "sed -n 's/^| `\\([^`/]*\\)`.* | `\\([0-9a-f]\\{64\\}\\)` |$/\\2 \\1/p' data/README.md | "
        "sort >'%s/sheet' && "
        "grep -o '[0-9a-f]\\{64\\} [-_.a-z0-9]*' data/fetch | sort >'%s/script'",
        files_folder, files_folder);
    cr_assert(system(line) == 0);
    cr_assert(shell("[ $(wc -l <sheet) -eq 15 ] && diff sheet script"));
}
