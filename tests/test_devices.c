#include <criterion/criterion.h>
#include <string.h>

#include "check.h"
#include "engine/devices.h"
#include "topology/topology.h"

TestSuite(devices, .timeout = 20);

static int five(void) { return 5; }
static int one(void) { return 1; }
static int none(void) { return 0; }

static const struct device_ops gpu = {.kind = "cuda", .count = five};
static const struct device_ops no_gpu = {.kind = "cuda", .count = none};
static const struct device_ops cores = {.kind = "host", .host_memory = 1, .count = one};
static const struct device_ops *const with_gpus[] = {&gpu, &cores, NULL};
static const struct device_ops *const without[] = {&no_gpu, &cores, NULL};
static const struct device_ops *const host_only[] = {&cores, NULL};

static void choose(struct devices *d, const char *text, int workers) {
    cr_assert(
        devices_choose(d, with_gpus, text, workers) == STATUS_OK, "%s: %s", text, fail_message());
}

static void check_written(const struct devices *d, const char *expected) {
    char text[512];
    devices_write(d, text, sizeof text);
    cr_assert(strcmp(text, expected) == 0, "%s", text);
}

Test(devices, auto_means_all_of_the_first_kind_that_is_there) {
    struct devices d;
    choose(&d, "auto", 8);
    cr_assert(d.ops == &gpu && d.count == 5);
    check_written(&d, "cuda:0,cuda:1,cuda:2,cuda:3,cuda:4");
    cr_assert(devices_choose(&d, without, "auto", 8) == STATUS_OK);
    cr_assert(d.ops == &cores && d.count == 1);
    check_written(&d, "host");
}

Test(devices, neighboring_ranks_sit_on_one_device_and_as_many_on_each_as_go_round) {
    struct devices d;
    choose(&d, "cuda:4,cuda:1,cuda:0", 7);
    int on[3] = {0};
    for (int r = 0; r < 7; r++) {
        cr_assert(d.of[r] >= 0 && d.of[r] < 3);
        if (r > 0) cr_assert(d.of[r] == d.of[r - 1] || d.of[r] == d.of[r - 1] + 1, "%d", r);
        on[d.of[r]]++;
    }
    for (int i = 0; i < 3; i++) cr_assert(on[i] == 2 || on[i] == 3, "%d", on[i]);
    cr_assert(d.number[0] == 4 && d.number[1] == 1 && d.number[2] == 0);
    check_written(&d, "cuda:4,cuda:1,cuda:0");
}

Test(devices, more_devices_than_workers_leaves_some_out) {
    struct devices d;
    choose(&d, "cuda", 2);
    cr_assert(d.count == 2 && d.of[0] == 0 && d.of[1] == 1);
    check_written(&d, "cuda:0,cuda:1");
}

Test(devices, one_that_is_named_twice_counts_as_two) {
    struct devices d;
    choose(&d, "cuda:3,cuda:3", 4);
    cr_assert(d.count == 2 && d.number[0] == 3 && d.number[1] == 3);
    cr_assert(d.of[0] == 0 && d.of[1] == 0 && d.of[2] == 1 && d.of[3] == 1);
}

static void check_groups(const struct devices *d, const int *nodes, int n, const int *expected) {
    struct place places[8] = {0};
    int group[8];
    for (int r = 0; r < n; r++) places[r].node = nodes[r];
    devices_group(d, places, n, group);
    for (int r = 0; r < n; r++) cr_assert(group[r] == expected[r], "worker %d: %d", r, group[r]);
}

Test(devices, who_shares_a_device_is_a_group_or_else_who_shares_a_node) {
    struct devices d;
    choose(&d, "cuda:3,cuda:1,cuda:0", 6);
    check_groups(&d, (int[]){0, 1, 0, 1, 0, 1}, 6, (int[]){0, 0, 1, 1, 2, 2});
    choose(&d, "cuda:2", 5);
    check_groups(&d, (int[]){3, 3, 1, 3, 0}, 5, (int[]){0, 0, 1, 0, 2});
    check_groups(&d, (int[]){2, 2, 2, 2, 2}, 5, (int[]){0, 0, 0, 0, 0});
    check_groups(&d, (int[]){7}, 1, (int[]){0});
}

Test(devices, what_cannot_be_meant_is_refused_in_words) {
    static const struct {
        const char *text;
        enum status status;
        const char *says;
    } bad[] = {
        {"", STATUS_BAD_CONFIG, "host"},
        {"gpu", STATUS_BAD_CONFIG, "cuda:0,cuda:1"},
        {"cuda:", STATUS_BAD_CONFIG, "cuda:"},
        {"cuda:x", STATUS_BAD_CONFIG, "cuda:x"},
        {"cuda:-1", STATUS_BAD_CONFIG, "cuda:-1"},
        {"cuda: 1", STATUS_BAD_CONFIG, "cuda: 1"},
        {"cuda:1,", STATUS_BAD_CONFIG, "cuda:1,"},
        {"cuda:1,,cuda:2", STATUS_BAD_CONFIG, "cuda:1,,"},
        {"cuda:1;cuda:2", STATUS_BAD_CONFIG, "cuda:1;"},
        {"cuda,host", STATUS_BAD_CONFIG, "one kind"},
        {"cuda:0,host:0", STATUS_BAD_CONFIG, "one kind"},
        {"cuda:5", STATUS_DEVICE, "there are 5 cuda devices here, counted from 0"},
        {"cuda:99999999999999999999", STATUS_DEVICE, "5 cuda devices"},
        {"host:1", STATUS_DEVICE, "there is 1 host device here"},
    };
    struct devices d;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        enum status end = devices_choose(&d, with_gpus, bad[i].text, 4);
        cr_assert(end == bad[i].status, "%s: %d", bad[i].text, end);
        cr_assert(strstr(fail_message(), bad[i].says), "%s: %s", bad[i].text, fail_message());
    }
    cr_assert(devices_choose(&d, without, "cuda", 4) == STATUS_DEVICE);
    cr_assert(strstr(fail_message(), "no driver"), "%s", fail_message());
    cr_assert(devices_choose(&d, host_only, "cuda:0", 4) == STATUS_BAD_CONFIG);
    cr_assert(strstr(fail_message(), "built for (host)"), "%s", fail_message());
}

Test(devices, no_more_are_named_than_a_team_has_workers) {
    struct devices d;
    char text[1024] = "cuda:0";
    for (int i = 0; i < TEAM_MOST; i++) strcat(text, ",cuda:1");
    cr_assert(devices_choose(&d, with_gpus, text, 4) == STATUS_BAD_CONFIG);
}

/* ---- in words --------------------------------------------------------------------------------- */

static void check_described(const char *text, int workers, const char *expected) {
    struct devices d;
    char said[256];
    choose(&d, text, workers);
    snprintf(d.name, sizeof d.name, "NVIDIA H200");
    devices_describe(&d, workers, said, sizeof said);
    cr_assert(strcmp(said, expected) == 0, "%s", said);
}

Test(devices, are_told_with_their_name_and_how_many_sit_on_each) {
    check_described("cuda:0", 1, "1 worker on cuda:0 (NVIDIA H200)");
    check_described("cuda:3", 4, "4 workers on cuda:3 (NVIDIA H200)");
    check_described("cuda", 10, "10 workers on cuda:0 to cuda:4 (NVIDIA H200), 2 on each");
    check_described("cuda", 4, "4 workers on cuda:0 to cuda:3 (NVIDIA H200), 1 on each");
    check_described("cuda", 7, "7 workers on cuda:0 to cuda:4 (NVIDIA H200), 1 or 2 on each");
    check_described("cuda:0,cuda:1", 4, "4 workers on cuda:0, cuda:1 (NVIDIA H200), 2 on each");
    check_described(
        "cuda:0,cuda:2,cuda:3", 6, "6 workers on cuda:0, cuda:2, cuda:3 (NVIDIA H200), 2 on each");
    check_described(
        "cuda:0,cuda:0,cuda:0", 3, "3 workers on cuda:0, cuda:0, cuda:0 (NVIDIA H200), 1 on each");
}

Test(devices, a_text_that_is_too_long_is_cut) {
    struct devices d;
    char said[24];
    choose(&d, "cuda:0,cuda:2,cuda:4,cuda:1", 8);
    snprintf(d.name, sizeof d.name, "NVIDIA H200");
    for (size_t n = 1; n <= sizeof said; n++) {
        memset(said, '?', sizeof said);
        devices_describe(&d, 8, said, n);
        cr_assert(strlen(said) == n - 1 && !strncmp(said, "8 workers on cuda:0, cuda:2", n - 1));
    }
}

static int none_for_a_reason(void) {
    fail_remember("the driver is older than this program");
    return 0;
}

Test(devices, auto_that_passes_a_kind_over_knows_why) {
    static const struct device_ops old = {.kind = "cuda", .count = none_for_a_reason};
    static const struct device_ops *const list[] = {&old, &cores, NULL};
    struct devices d;
    cr_assert(devices_choose(&d, list, "auto", 2) == STATUS_OK && d.ops == &cores);
    cr_assert(strcmp(d.instead, "the driver is older than this program") == 0, "%s", d.instead);
    cr_assert(devices_choose(&d, list, "host", 2) == STATUS_OK && !*d.instead);
    choose(&d, "auto", 2);
    cr_assert(!*d.instead);
}
