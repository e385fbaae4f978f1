/* test_checkpoint.c -- a task's parameters in a file, and back; other tasks' are refused. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>

#include "base/safetensors.h"
#include "engine/checkpoint.h"
#include "files.h"

TestSuite(checkpoint, .init = files_open, .fini = files_close, .timeout = 60);

/* A task that is nothing but tensors. */
struct shelf {
    struct task base;
    const struct tensor *tensor;
    int n;
};

static int shelf_tensor(const struct task *base, int i, struct tensor *out) {
    const struct shelf *s = (const struct shelf *)base;
    if (i >= s->n) return 0;
    *out = s->tensor[i];
    return 1;
}

static const struct task_ops shelf_ops = {.name = "shelf", .tensor = shelf_tensor};

enum { FLOATS = 256 };

/* With room between them, as alignment leaves it. */
static const struct tensor model[] = {
    {"1.conv.weight", {0, 24}, 4, {2, 3, 2, 2}},
    {"1.conv.bias", {64, 3}, 1, {3}},
    {"4.dense.weight", {128, 33}, 2, {11, 3}},
    {"4.dense.bias", {192, 1}, 1, {1}},
};

enum { PARTS = sizeof model / sizeof *model };

static struct shelf shelf(const struct tensor *tensor, int n) {
    return (struct shelf){{.ops = &shelf_ops, .floats = FLOATS}, tensor, n};
}

/* Values whose bits all differ, a NaN and both zeros among them. */
static void fill(float *x) {
    for (size_t i = 0; i < FLOATS; i++) {
        uint32_t bits = (uint32_t)i * 2654435761u + 77;
        memcpy(x + i, &bits, sizeof bits);
    }
    x[0] = NAN;
    x[1] = -0.0f;
    x[2] = 0.0f;
}

static const char config[] = "[run]\nname = a \"b\" \\ c\n\n[easgd]\ntau = 10\n";

/* The file "a" <- these tensors. */
static void write_shelf(const struct tensor *tensor, int n) {
    float x[FLOATS];
    struct shelf s = shelf(tensor, n);
    fill(x);
    enum status end = checkpoint_write(files_path("a"), &s.base, x, config);
    cr_assert(end == STATUS_OK, "%s", fail_message());
}

Test(checkpoint, parameters_come_back_bit_for_bit_and_nothing_else_is_touched) {
    float x[FLOATS], got[FLOATS];
    struct shelf s = shelf(model, PARTS);
    fill(x);
    memset(got, 0x5a, sizeof got);
    write_shelf(model, PARTS);
    cr_assert(checkpoint_read(files_path("a"), &s.base, got) == STATUS_OK, "%s", fail_message());
    for (int i = 0; i < PARTS; i++) {
        size_t from = model[i].range.offset, n = model[i].range.n;
        size_t next = i + 1 < PARTS ? model[i + 1].range.offset : FLOATS;
        cr_assert(memcmp(got + from, x + from, n * sizeof *x) == 0, "%s", model[i].name);
        for (size_t k = from + n; k < next; k++) {
            uint32_t bits;
            memcpy(&bits, got + k, sizeof bits);
            cr_assert_eq(bits, 0x5a5a5a5au, "the float %zu behind %s", k, model[i].name);
        }
    }
}

Test(checkpoint, the_file_names_each_tensor_and_keeps_the_configuration) {
    struct safetensors file;
    char *text = NULL;
    write_shelf(model, PARTS);
    cr_assert(safetensors_read(&file, files_path("a")) == STATUS_OK, "%s", fail_message());
    cr_assert_eq(file.n, PARTS);
    for (int i = 0; i < PARTS; i++) {
        const struct safetensor *t = safetensors_find(&file, model[i].name);
        cr_assert(t && t->dims == model[i].dims, "%s", model[i].name);
        cr_assert(memcmp(t->dim, model[i].dim, (size_t)t->dims * sizeof *t->dim) == 0);
    }
    cr_assert(strcmp(safetensors_find_text(&file, "format"), "huddle") == 0);
    safetensors_close(&file);
    cr_assert(checkpoint_config(files_path("a"), &text) == STATUS_OK, "%s", fail_message());
    cr_assert(strcmp(text, config) == 0, "%s", text);
    free(text);
}

/* The file "a" cannot be this model's, for the reason that these words give. */
static void refuse(const struct tensor *tensor, int n, const char *words) {
    float x[FLOATS];
    struct shelf s = shelf(tensor, n);
    enum status end = checkpoint_read(files_path("a"), &s.base, x);
    cr_assert(end == STATUS_IO, "%s: status %d", words, (int)end);
    cr_assert(strstr(fail_message(), "another model"), "'%s'", fail_message());
    cr_assert(strstr(fail_message(), words), "'%s' lacks '%s'", fail_message(), words);
    cr_assert(strstr(fail_message(), files_path("a")), "'%s'", fail_message());
}

Test(checkpoint, the_checkpoint_of_another_model_is_refused_in_words) {
    struct tensor other[PARTS + 1];
    write_shelf(model, PARTS);
    memcpy(other, model, sizeof model);
    snprintf(other[3].name, sizeof other[3].name, "5.dense.bias");
    refuse(other, PARTS, "no \"5.dense.bias\"");
    memcpy(other, model, sizeof model);
    other[2].dim[0] = 3; /* as many numbers, turned */
    other[2].dim[1] = 11;
    refuse(other, PARTS, "\"4.dense.weight\" is 11 x 3, the model's is 3 x 11");
    memcpy(other, model, sizeof model);
    other[2].dims = 1;
    other[2].range.n = 11;
    refuse(other, PARTS, "\"4.dense.weight\" is 11 x 3, the model's is 11");
    memcpy(other, model, sizeof model);
    other[0].dim[3] = 1;
    other[0].range.n = 12;
    refuse(other, PARTS, "is 2 x 3 x 2 x 2, the model's is 2 x 3 x 2 x 1");
    refuse(model, PARTS - 1, "4 tensors, not 3");
    memcpy(other, model, sizeof model);
    other[PARTS] = (struct tensor){"9.more", {200, 2}, 1, {2}};
    refuse(other, PARTS + 1, "no \"9.more\"");
    refuse(model, 0, "4 tensors, not 0");
}

Test(checkpoint, a_file_that_is_not_ours_has_no_configuration) {
    static const float one = 1;
    static const struct safetensor t = {"a", 1, {1}, &one};
    static const struct safetensors_text text = {"format", "pt"};
    char *found = NULL;
    cr_assert(safetensors_write(files_path("a"), &t, 1, &text, 1) == STATUS_OK);
    cr_assert(checkpoint_config(files_path("a"), &found) == STATUS_IO);
    cr_assert(strstr(fail_message(), "not written by huddle"), "'%s'", fail_message());
    cr_assert(checkpoint_config(files_path("none"), &found) == STATUS_IO);
    cr_assert(strstr(fail_message(), "No such file"), "'%s'", fail_message());
}

Test(checkpoint, a_model_without_tensors_is_a_file_too) {
    struct shelf s = shelf(model, 0);
    float x[FLOATS];
    write_shelf(model, 0);
    cr_assert(checkpoint_read(files_path("a"), &s.base, x) == STATUS_OK, "%s", fail_message());
}

Test(checkpoint, a_folder_that_is_not_there_is_told_in_words) {
    struct shelf s = shelf(model, PARTS);
    float x[FLOATS];
    fill(x);
    cr_assert(checkpoint_write(files_path("none/a"), &s.base, x, config) == STATUS_IO);
    cr_assert(strstr(fail_message(), files_path("none/a")), "'%s'", fail_message());
    cr_assert(checkpoint_read(files_path("none/a"), &s.base, x) == STATUS_IO);
    cr_assert(strstr(fail_message(), "No such file"), "'%s'", fail_message());
}
