/* test_safetensors.c -- files of tensors, judged by the public rules, byte by byte. */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>

#include "base/safetensors.h"
#include "files.h"

TestSuite(safetensors, .init = files_open, .fini = files_close, .timeout = 120);

enum { ROOM = 1 << 20 };

static size_t load(const char *path, uint8_t *to) {
    FILE *f = fopen(path, "rb");
    cr_assert(f != NULL, "there is no %s", path);
    size_t n = fread(to, 1, ROOM, f);
    fclose(f);
    cr_assert(n < ROOM);
    return n;
}

static size_t product(const struct safetensor *t) {
    size_t n = 1;
    for (int i = 0; i < t->dims; i++) n *= (size_t)t->dim[i];
    return n;
}

/* ---- the rules -------------------------------------------------------------------------------- */

static uint64_t little_endian(const uint8_t *b) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | b[i];
    return v;
}

/* One entry: dtype, shape and data_offsets, nothing else, and the tensor's very bytes. */
static void check_entry(
    const cJSON *e, const struct safetensor *t, const uint8_t *data, size_t *offset) {
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(e, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(e, "data_offsets");
    size_t bytes = 4 * product(t);
    cr_assert_eq(cJSON_GetArraySize(e), 3, "%s", t->name);
    cr_assert_eq(strcmp(cJSON_GetObjectItemCaseSensitive(e, "dtype")->valuestring, "F32"), 0);
    cr_assert_eq(cJSON_GetArraySize(shape), t->dims, "%s", t->name);
    for (int i = 0; i < t->dims; i++)
        cr_assert(cJSON_GetArrayItem(shape, i)->valuedouble == t->dim[i], "%s", t->name);
    cr_assert_eq(cJSON_GetArraySize(offsets), 2);
    cr_assert(cJSON_GetArrayItem(offsets, 0)->valuedouble == (double)*offset, "%s", t->name);
    cr_assert(cJSON_GetArrayItem(offsets, 1)->valuedouble == (double)(*offset + bytes));
    cr_assert(bytes == 0 || memcmp(data + *offset, t->data, bytes) == 0, "%s: bytes", t->name);
    *offset += bytes;
}

/* The file at `path` holds these tensors and texts by the rules: 8 bytes, little endian, then a
 * header that begins with "{" and may be padded with blanks, then the data without holes, in the
 * order given, to the file's last byte. */
static void check_rules(const char *path, const struct safetensor *t, int n,
    const struct safetensors_text *text, int ntexts) {
    uint8_t *bytes = malloc(ROOM);
    size_t size = load(path, bytes), offset = 0;
    cr_assert(size > 8, "%zu bytes", size);
    uint64_t header = little_endian(bytes);
    cr_assert(header <= size - 8 && bytes[8] == '{', "the header is %zu long", (size_t)header);
    cr_assert_eq(header % 8, 0, "the data does not start on 8 bytes");
    const char *end;
    cJSON *top = cJSON_ParseWithLengthOpts((char *)bytes + 8, header, &end, 0);
    cr_assert(cJSON_IsObject(top), "the header is no object");
    for (; end < (char *)bytes + 8 + header; end++) cr_assert(*end == ' ', "more than padding");
    cr_assert_eq(cJSON_GetArraySize(top), n + 1);
    const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(top, "__metadata__");
    cr_assert(cJSON_IsObject(metadata) && cJSON_GetArraySize(metadata) == ntexts);
    for (int i = 0; i < ntexts; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(metadata, text[i].name);
        cr_assert(cJSON_IsString(value) && !strcmp(value->valuestring, text[i].value));
    }
    for (int i = 0; i < n; i++) {
        const cJSON *e = cJSON_GetObjectItemCaseSensitive(top, t[i].name);
        cr_assert(cJSON_IsObject(e), "there is no %s", t[i].name);
        check_entry(e, &t[i], bytes + 8 + header, &offset);
    }
    cr_assert_eq(offset, size - 8 - header, "%zu bytes of data", size - 8 - (size_t)header);
    cJSON_Delete(top);
    free(bytes);
}

/* ---- what is written -------------------------------------------------------------------------- */

/* Any bits at all, NaN with a payload, both zeros and infinities among them. */
static float *any_bits(size_t n, uint32_t salt) {
    static const uint32_t odd[] = {0x7fc00000, 0x7f800001, 0xffffffff, 0x80000000, 0, 1, 0x7f800000,
        0xff800000, 0x7fa5a5a5, 0xffc12345};
    float *at = malloc((n + 1) * sizeof *at);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)i * 2654435761u + salt;
        if (i < sizeof odd / sizeof *odd) bits = odd[i];
        memcpy(at + i, &bits, sizeof bits);
    }
    return at;
}

static const struct safetensor shapes[] = {
    {"a", 1, {31}, NULL},
    {"nothing", 2, {0, 7}, NULL},
    {"one number", 0, {0}, NULL},
    {"1.conv.weight", 4, {3, 5, 2, 11}, NULL},
    {"quote\" back\\slash / new\nline\ttab \x01", 2, {33, 3}, NULL},
    {"\xc3\xbc\xe2\x82\xac", 3, {1, 255, 1}, NULL},
    {"nothing again", 1, {0}, NULL},
    {"big", 2, {257, 255}, NULL},
};

static const struct safetensors_text texts[] = {{"format", "huddle"}, {"empty", ""},
    {"config", "[run]\nname = \"a\\b\"\n\ttau = 10 ; \xc3\xbc\n"}, {"odd \"name\"", "}{][,:"}};

enum { SHAPES = sizeof shapes / sizeof *shapes, TEXTS = sizeof texts / sizeof *texts };

static void fill_tensors(struct safetensor *t) {
    for (int i = 0; i < SHAPES; i++) {
        t[i] = shapes[i];
        t[i].data = any_bits(product(&t[i]), (uint32_t)i);
    }
}

Test(safetensors, written_files_follow_the_rules_byte_by_byte) {
    struct safetensor t[SHAPES];
    fill_tensors(t);
    for (int n = 0; n <= SHAPES; n++) {
        int some = n < TEXTS ? n : TEXTS;
        enum status end = safetensors_write(files_path("a"), t, n, texts, some);
        cr_assert_eq(end, STATUS_OK, "%s", fail_message());
        check_rules(files_path("a"), t, n, texts, some);
        cr_assert(access(files_path("a.part"), F_OK) != 0, "a part is left behind");
    }
}

Test(safetensors, what_is_written_is_read_back_bit_for_bit) {
    struct safetensor t[SHAPES];
    struct safetensors got;
    fill_tensors(t);
    cr_assert_eq(safetensors_write(files_path("a"), t, SHAPES, texts, TEXTS), STATUS_OK);
    cr_assert_eq(safetensors_read(&got, files_path("a")), STATUS_OK, "%s", fail_message());
    cr_assert_eq(got.n, SHAPES);
    cr_assert_eq(got.ntexts, TEXTS);
    for (int i = 0; i < SHAPES; i++) {
        const struct safetensor *g = safetensors_find(&got, t[i].name);
        cr_assert(g && g->dims == t[i].dims, "%s", t[i].name);
        cr_assert_eq((uintptr_t)g->data % sizeof(float), 0u, "%s is not aligned", t[i].name);
        for (int k = 0; k < g->dims; k++) cr_assert_eq(g->dim[k], t[i].dim[k], "%s", t[i].name);
        size_t bytes = product(&t[i]) * sizeof(float);
        cr_assert(bytes == 0 || memcmp(g->data, t[i].data, bytes) == 0, "%s", t[i].name);
    }
    for (int i = 0; i < TEXTS; i++) {
        const char *value = safetensors_find_text(&got, texts[i].name);
        cr_assert(value && strcmp(value, texts[i].value) == 0, "%s", texts[i].name);
    }
    cr_assert(safetensors_find(&got, "A") == NULL && safetensors_find(&got, "") == NULL);
    cr_assert(safetensors_find(&got, "__metadata__") == NULL);
    cr_assert(safetensors_find_text(&got, "Format") == NULL);
    safetensors_close(&got);
    cr_assert(got.n == 0 && got.tensor == NULL && got.file == NULL);
    safetensors_close(&got);
}

/* ---- what is read ----------------------------------------------------------------------------- */

/* Writes a file of this header, as it is, and so many bytes of data. */
static void make(const char *name, const char *header, size_t data) {
    uint8_t bytes[65536] = {0};
    size_t n = strlen(header);
    cr_assert(8 + n + data <= sizeof bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)n >> (8 * i));
    memcpy(bytes + 8, header, n);
    for (size_t i = 0; i < data; i++) bytes[8 + n + i] = (uint8_t)(i + 1);
    files_write(name, bytes, 8 + n + data);
}

/* Refused as a file, by name, and with nothing left to close. */
static void refuse(const char *name, const char *words, const char *what) {
    struct safetensors got;
    memset(&got, 0x5a, sizeof got);
    enum status end = safetensors_read(&got, files_path(name));
    cr_assert_eq(end, STATUS_IO, "%s: status %d", what, (int)end);
    cr_assert(strstr(fail_message(), files_path(name)), "%s: '%s'", what, fail_message());
    cr_assert(strstr(fail_message(), words), "%s: '%s' lacks '%s'", what, fail_message(), words);
    cr_assert(got.n == 0 && got.ntexts == 0, "%s: something is left", what);
    cr_assert(!got.tensor && !got.text && !got.file && !got.json, "%s: something is left", what);
}

#define F32 "\"dtype\":\"F32\",\"shape\":"
#define AT(a, b) ",\"data_offsets\":[" #a "," #b "]}"
#define TENSOR(name, shape, a, b) "\"" name "\":{" F32 shape AT(a, b)

/* Written by other programs, and right: order, blanks and names are free. */
Test(safetensors, files_of_other_programs_are_read) {
    static const struct {
        const char *header;
        size_t data;
        int n;
    } good[] = {
        {"{}", 0, 0},
        {"{\"__metadata__\":{}}", 0, 0},
        {"{" TENSOR("a", "[2]", 0, 8) "}", 8, 1},
        {"{" TENSOR("a", "[2]", 0, 8) "}     ", 8, 1},
        {"{" TENSOR("b", "[3]", 8, 20) "," TENSOR("a", "[2,1]", 0, 8) "}", 20, 2},
        {"{ \"a\" : { \"data_offsets\" : [ 0 , 4 ] , \"shape\" : [ ] , \"dtype\" : \"F32\" } }", 4,
            1},
        {"{" TENSOR("z", "[0]", 0, 0) "," TENSOR("a", "[1]", 0, 4) "," TENSOR(
             "y", "[9,0]", 4, 4) "}",
            4, 3},
        {"{" TENSOR("a", "[1]", 0, 4) "," TENSOR("z", "[0]", 0, 0) "}", 4, 2},
        {"{" TENSOR("\\u00fc\\\"", "[1,1,1,1]", 0, 4) "}", 4, 1},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct safetensors got;
        make("a", good[i].header, good[i].data);
        cr_assert_eq(safetensors_read(&got, files_path("a")), STATUS_OK, "%s", fail_message());
        cr_assert_eq(got.n, good[i].n, "%s", good[i].header);
        const struct safetensor *a = safetensors_find(&got, "a");
        if (a) cr_assert_eq(*(const uint8_t *)(const void *)a->data, 1, "%s", good[i].header);
        if (i == 4) {
            const struct safetensor *b = safetensors_find(&got, "b");
            cr_assert(b && *(const uint8_t *)(const void *)b->data == 9, "b is elsewhere");
        }
        safetensors_close(&got);
    }
}

Test(safetensors, malformed_files_are_refused_in_words) {
    static const struct {
        const char *header;
        size_t data;
        const char *words;
    } bad[] = {
        {"", 0, "header"},
        {" {}", 0, "header"},
        {"[]", 0, "header"},
        {"{", 0, "JSON"},
        {"{}}", 0, "JSON"},
        {"{},{}", 0, "JSON"},
        {"{}x", 0, "JSON"},
        {"{\"a\"}", 0, "JSON"},
        {"{\"a\":1}", 0, "F32"},
        {"{\"a\":[]}", 0, "F32"},
        {"{\"a\":null}", 0, "F32"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2]" AT(0, 4) "}", 4, "F32"},
        {"{\"a\":{\"dtype\":\"f32\",\"shape\":[1]" AT(0, 4) "}", 4, "F32"},
        {"{\"a\":{\"dtype\":32,\"shape\":[1]" AT(0, 4) "}", 4, "F32"},
        {"{\"a\":{\"shape\":[1]" AT(0, 4) "}", 4, "F32"},
        {"{\"a\":{\"dtype\":\"F32\"" AT(0, 4) "}", 4, "shape"},
        {"{" TENSOR("a", "1", 0, 4) "}", 4, "shape"},
        {"{" TENSOR("a", "{}", 0, 4) "}", 4, "shape"},
        {"{\"a\":{" F32 "[1]}}", 4, "offsets"},
        {"{\"a\":{" F32 "[1],\"data_offsets\":[0]}}", 4, "offsets"},
        {"{\"a\":{" F32 "[1],\"data_offsets\":[0,4,4]}}", 4, "offsets"},
        {"{\"a\":{" F32 "[1],\"data_offsets\":[\"0\",\"4\"]}}", 4, "offsets"},
        {"{\"a\":{" F32 "[1],\"data_offsets\":{\"x\":0,\"y\":4}}}", 4, "offsets"},
        {"{" TENSOR("a", "[-1]", 0, 4) "}", 4, "dimension"},
        {"{" TENSOR("a", "[-1,-1]", 0, 4) "}", 4, "dimension"},
        {"{" TENSOR("a", "[1.5]", 0, 6) "}", 6, "dimension"},
        {"{" TENSOR("a", "[\"1\"]", 0, 4) "}", 4, "dimension"},
        {"{" TENSOR("a", "[null]", 0, 0) "}", 0, "dimension"},
        {"{" TENSOR("a", "[4294967297]", 0, 4) "}", 4, "dimension"},
        {"{" TENSOR("a", "[1e300]", 0, 4) "}", 4, "dimension"},
        {"{" TENSOR("a", "[1,1,1,1,1]", 0, 4) "}", 4, "dimensions"},
        /* Four times the product is 2^64, which would wrap to 0. */
        {"{" TENSOR("a", "[1073741824,1073741824,4]", 0, 0) "}", 0, "too large"},
        {"{" TENSOR("a", "[2147483647,2147483647,2147483647,2147483647]", 0, 4) "}", 4,
            "too large"},
        {"{" TENSOR("a", "[2]", 0, 4) "}", 4, "offsets"},
        {"{" TENSOR("a", "[1]", 0, 8) "}", 8, "offsets"},
        {"{" TENSOR("a", "[1]", 4, 8) "}", 8, "offsets"},
        {"{" TENSOR("a", "[1]", 4, 0) "}", 4, "offsets"},
        {"{" TENSOR("a", "[1]", 2, 4) "}", 4, "offsets"},
        {"{" TENSOR("a", "[1]", -4, 0) "}", 4, "offsets"},
        {"{" TENSOR("a", "[2]", 0, 8) "}", 7, "offsets"},
        {"{" TENSOR("a", "[2]", 0, 8) "}", 0, "offsets"},
        {"{" TENSOR("a", "[1]", 0.5, 4.5) "}", 4, "offsets"},
        /* one over the other, and a hole between two */
        {"{" TENSOR("a", "[2]", 0, 8) "," TENSOR("b", "[2]", 4, 12) "}", 12, "offsets"},
        {"{" TENSOR("a", "[1]", 0, 4) "," TENSOR("b", "[1]", 0, 4) "}", 4, "offsets"},
        {"{" TENSOR("a", "[1]", 0, 4) "," TENSOR("b", "[1]", 8, 12) "}", 12, "offsets"},
        {"{" TENSOR("a", "[1]", 0, 4) "," TENSOR("z", "[0]", 2, 2) "}", 4, "offsets"},
        {"{" TENSOR("a", "[1]", 0, 4) "}", 5, "no tensor"},
        {"{}", 1, "no tensor"},
        {"{" TENSOR("a", "[1]", 0, 4) "," TENSOR("a", "[1]", 4, 8) "}", 8, "same name"},
        {"{" TENSOR("a", "[1]", 0, 4) "," TENSOR("\\u0061", "[1]", 4, 8) "}", 8, "same name"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"a\":null}}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, "__metadata__"},
        {"{\"__metadata__\":[\"a\"]}", 0, "__metadata__"},
        {"{\"__metadata__\":\"a\"}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"a\":\"b\"},\"__metadata__\":{}}", 0, "same name"},
        {"{\"a\":{\"dtype\":\"F32\"," F32 "[1]" AT(0, 4) "}", 4, "twice"},
        {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, "__metadata__"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        make("bad", bad[i].header, bad[i].data);
        refuse("bad", bad[i].words, bad[i].header);
    }
}

Test(safetensors, deep_nesting_is_refused) {
    enum { DEEP = 30000 };
    char *header = malloc(2 * DEEP + 16);
    size_t n = (size_t)sprintf(header, "{\"a\":");
    memset(header + n, '[', DEEP);
    memset(header + n + DEEP, ']', DEEP);
    sprintf(header + n + 2 * DEEP, "}");
    make("bad", header, 0);
    refuse("bad", "JSON", "deep");
    free(header);
}

/* A small file with two tensors and a text. */
static size_t small_file(uint8_t *bytes) {
    static const float data[] = {1, -2, 3.5f};
    static const struct safetensor t[] = {{"a", 1, {2}, data}, {"b", 2, {1, 1}, data + 2}};
    cr_assert_eq(safetensors_write(files_path("good"), t, 2, texts, 1), STATUS_OK);
    return load(files_path("good"), bytes);
}

Test(safetensors, a_file_cut_at_any_byte_is_refused_and_so_is_one_that_goes_on) {
    uint8_t *bytes = malloc(ROOM);
    size_t size = small_file(bytes);
    for (size_t cut = 0; cut < size; cut++) {
        char what[64];
        snprintf(what, sizeof what, "cut to %zu bytes", cut);
        files_write("cut", bytes, cut);
        refuse("cut", "", what);
    }
    for (size_t more = 1; more <= 8; more++) {
        memset(bytes + size, 0, more);
        files_write("long", bytes, size + more);
        refuse("long", "no tensor", "it goes on");
    }
    free(bytes);
}

Test(safetensors, a_header_longer_than_the_file_is_refused) {
    uint8_t *bytes = malloc(ROOM);
    size_t size = small_file(bytes);
    const uint64_t lengths[] = {0, size - 7, size, 1ull << 31, 1ull << 32, (1ull << 32) + 64,
        1ull << 62, 1ull << 63, UINT64_MAX - 8, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (int k = 0; k < 8; k++) bytes[k] = (uint8_t)(lengths[i] >> (8 * k));
        files_write("bad", bytes, size);
        refuse("bad", i ? "cut short" : "header", "its header's length");
    }
    free(bytes);
}

/* Whatever one wrong byte does to a file: where it is read, its tensors lie inside the data. */
Test(safetensors, one_wrong_byte_never_leads_out_of_the_file) {
    uint8_t *bytes = malloc(ROOM);
    size_t size = small_file(bytes);
    int refused = 0;
    for (size_t at = 0; at < size; at++) {
        for (int by = 1; by < 256; by = by < 4 ? by + 1 : by * 2 - 1) {
            struct safetensors got;
            bytes[at] ^= (uint8_t)by;
            files_write("bad", bytes, size);
            enum status end = safetensors_read(&got, files_path("bad"));
            cr_assert(end == STATUS_OK || end == STATUS_IO, "byte %zu: %d", at, (int)end);
            size_t floats = 0;
            for (int i = 0; i < got.n; i++) floats += product(&got.tensor[i]);
            cr_assert(end != STATUS_OK || floats == 3, "byte %zu: %zu floats", at, floats);
            refused += end == STATUS_IO;
            safetensors_close(&got);
            bytes[at] ^= (uint8_t)by;
        }
    }
    cr_assert(refused > 500, "only %d were refused", refused);
    free(bytes);
}

Test(safetensors, what_is_no_file_is_refused) {
    files_make_folder("folder");
    refuse("folder", "no plain file", "a folder");
    refuse("none", "No such file", "nothing");
    files_write("file", "", 0);
    refuse("file/none", "Not a directory", "a path through a file");
    refuse("file", "cut short", "an empty file");
    cr_assert(mkfifo(files_path("pipe"), 0600) == 0);
    refuse("pipe", "no plain file", "a pipe that nobody writes");
}

/* ---- writes that fail ------------------------------------------------------------------------- */

static void fail_to_write(const char *name, const struct safetensor *t, int n) {
    enum status end = safetensors_write(files_path(name), t, n, texts, TEXTS);
    cr_assert_eq(end, STATUS_IO, "%s: status %d", name, (int)end);
    cr_assert(strstr(fail_message(), files_path(name)), "'%s'", fail_message());
}

Test(safetensors, a_write_that_fails_leaves_what_was_there) {
    uint8_t *before = malloc(ROOM), *after = malloc(ROOM);
    struct safetensor t[SHAPES];
    struct rlimit limit, tight;
    fill_tensors(t);
    size_t size = small_file(before);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    /* within the first bytes, the header, the data, and the very last byte */
    static const rlim_t sizes[] = {0, 4, 100, 4096, 100000, 262144};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        tight = limit;
        tight.rlim_cur = sizes[i];
        cr_assert(setrlimit(RLIMIT_FSIZE, &tight) == 0);
        fail_to_write("good", t, SHAPES);
        cr_assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        cr_assert(strstr(fail_message(), "File too large"), "'%s'", fail_message());
        cr_assert(
            access(files_path("good.part"), F_OK) != 0, "%zu: a part is left", (size_t)sizes[i]);
        cr_assert(load(files_path("good"), after) == size && memcmp(before, after, size) == 0,
            "%zu: what was there is gone", (size_t)sizes[i]);
    }
    cr_assert_eq(safetensors_write(files_path("good"), t, SHAPES, NULL, 0), STATUS_OK);
    check_rules(files_path("good"), t, SHAPES, NULL, 0);
    free(before);
    free(after);
}

Test(safetensors, a_path_that_cannot_be_written_is_refused_in_words) {
    char path[1024];
    files_write("file", "x", 1);
    files_make_folder("folder");
    fail_to_write("none/a", NULL, 0);
    cr_assert(strstr(fail_message(), "No such file or directory"), "'%s'", fail_message());
    fail_to_write("file/a", NULL, 0);
    cr_assert(strstr(fail_message(), "Not a directory"), "'%s'", fail_message());
    fail_to_write("folder", NULL, 0);
    cr_assert(access(files_path("folder.part"), F_OK) != 0, "a part is left");
    snprintf(path, sizeof path, "%s/%0300d", files_folder, 0);
    cr_assert_eq(safetensors_write(path, NULL, 0, NULL, 0), STATUS_IO);
    cr_assert(strstr(fail_message(), "File name too long"), "'%s'", fail_message());
}

/* The name of the part must not be cut to that of the file itself. */
Test(safetensors, the_longest_path_is_not_written_over) {
    enum { PATH = 4095 };
    char path[PATH + 1] = "";
    memset(path, '/', PATH);
    path[PATH] = '\0';
    memcpy(path, files_folder, strlen(files_folder));
    files_write("a", "old", 3);
    path[PATH - 1] = 'a';
    cr_assert(access(path, F_OK) == 0, "the path leads nowhere");
    cr_assert_eq(safetensors_write(path, NULL, 0, NULL, 0), STATUS_IO);
    uint8_t *bytes = malloc(ROOM);
    cr_assert(load(files_path("a"), bytes) == 3, "what was there is gone");
    free(bytes);
}

/* ---- another reader --------------------------------------------------------------------------- */

Test(safetensors, the_reference_implementation_reads_the_same) {
    static const char script[] =
        "import sys, safetensors, safetensors.numpy\n"
        "with open(sys.argv[1], 'rb') as f: a = safetensors.numpy.load(f.read())\n"
        "m = safetensors.safe_open(sys.argv[1], 'np').metadata()\n"
        "assert m['format'] == 'huddle' and m['empty'] == '', m\n"
        "out = open(sys.argv[2], 'wb')\n"
        "for k in sorted(a): out.write(k.encode() + str(a[k].shape).encode() + a[k].tobytes())\n";
    char command[2048];
    struct safetensor t[SHAPES];
    uint8_t *got = malloc(ROOM), *want = malloc(ROOM);
    size_t n = 0;
    if (system("python3 -c 'import safetensors.numpy' >/dev/null 2>&1") != 0) {
        cr_skip_test("python3 has no package safetensors here");
    }
    fill_tensors(t);
    files_write("script.py", script, sizeof script - 1);
    cr_assert_eq(safetensors_write(files_path("a"), t, 4, texts, TEXTS), STATUS_OK);
    snprintf(command, sizeof command, "python3 %s %s %s", files_path("script.py"), files_path("a"),
        files_path("out"));
    cr_assert(system(command) == 0, "the reference implementation refuses it");
    static const struct {
        int i;
        const char *shape;
    } sorted[] = {{3, "(3, 5, 2, 11)"}, {0, "(31,)"}, {1, "(0, 7)"}, {2, "()"}};
    for (size_t k = 0; k < 4; k++) {
        const struct safetensor *s = &t[sorted[k].i];
        n += (size_t)sprintf((char *)want + n, "%s%s", s->name, sorted[k].shape);
        memcpy(want + n, s->data, product(s) * sizeof(float));
        n += product(s) * sizeof(float);
    }
    cr_assert(load(files_path("out"), got) == n && memcmp(got, want, n) == 0, "other bytes");
    free(got);
    free(want);
}
