#include "safetensors.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/pulse.h"
#include "base/replacement.h"

enum { PREFIX = 8, DIMS_MOST = 4 };

static const char METADATA[] = "__metadata__";

/* ---- writing ---------------------------------------------------------------------------------- */

static size_t tensor_size(const struct safetensor *t) {
    size_t n = 1;
    for (int i = 0; i < t->dims; i++) n *= (size_t)t->dim[i];
    return n;
}

/* False, and the item freed, when there is no memory: a header that lacks an entry must not pass
 * for a whole one. */
static int add_item(cJSON *to, const char *name, cJSON *item) {
    if (item && cJSON_AddItemToObject(to, name, item)) return 1;
    cJSON_Delete(item);
    return 0;
}

static int add_tensor(cJSON *top, const struct safetensor *t, size_t from, size_t to) {
    double offsets[2] = {(double)from, (double)to};
    cJSON *entry = cJSON_AddObjectToObject(top, t->name);
    return entry && cJSON_AddStringToObject(entry, "dtype", "F32") &&
           add_item(entry, "shape", cJSON_CreateIntArray(t->dim, t->dims)) &&
           add_item(entry, "data_offsets", cJSON_CreateDoubleArray(offsets, 2));
}

static int fill_header(cJSON *top, const struct safetensor *tensors, int n,
    const struct safetensors_text *texts, int ntexts) {
    cJSON *metadata = cJSON_AddObjectToObject(top, METADATA);
    size_t offset = 0;
    if (!metadata) return 0;
    for (int i = 0; i < ntexts; i++) {
        if (!cJSON_AddStringToObject(metadata, texts[i].name, texts[i].value)) return 0;
    }
    for (int i = 0; i < n; i++) {
        size_t end = offset + tensor_size(&tensors[i]) * sizeof(float);
        if (!add_tensor(top, &tensors[i], offset, end)) return 0;
        offset = end;
    }
    return 1;
}

/* NULL when there is no memory. */
static char *header(
    const struct safetensor *tensors, int n, const struct safetensors_text *texts, int ntexts) {
    cJSON *top = cJSON_CreateObject();
    int whole = top && fill_header(top, tensors, n, texts, ntexts);
    char *text = whole ? cJSON_PrintUnformatted(top) : NULL;
    cJSON_Delete(top);
    return text;
}

/* Piece by piece, so that a slow disk does not look like a thread that is stuck. */
static void write_floats(FILE *f, const float *from, size_t n) {
    enum { PIECE = 1 << 20 };
    for (size_t at = 0; at < n; at += PIECE) {
        size_t part = n - at < PIECE ? n - at : PIECE;
        if (fwrite(from + at, sizeof *from, part, f) != part) return;
        pulse_beat();
    }
}

/* The tensors start on 8 bytes: the header is padded with blanks, as the rules allow. */
static void write_all(FILE *f, const char *text, const struct safetensor *tensors, int n) {
    size_t size = strlen(text), padded = (size + 7) / 8 * 8;
    uint8_t prefix[PREFIX];
    for (int i = 0; i < PREFIX; i++) prefix[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    fwrite(prefix, 1, PREFIX, f);
    fwrite(text, 1, size, f);
    for (size_t i = size; i < padded; i++) fputc(' ', f);
    for (int i = 0; i < n && !ferror(f); i++) {
        write_floats(f, tensors[i].data, tensor_size(&tensors[i]));
    }
}

enum status safetensors_write(const char *path, const struct safetensor *tensors, int n,
    const struct safetensors_text *texts, int ntexts) {
    struct replacement r;
    char *text = header(tensors, n, texts, ntexts);
    if (!text) return fail(STATUS_FAILED, "no memory for the header of %s", path);
    enum status end = replacement_open(&r, path);
    if (end == STATUS_OK) {
        write_all(r.file, text, tensors, n);
        end = replacement_close(&r);
    }
    free(text);
    return end;
}

/* ---- reading ---------------------------------------------------------------------------------- */

static enum status wrong(const char *path, const char *what) {
    return fail(STATUS_IO, "%s is no safetensors file that huddle can read: %s", path, what);
}

/* The kind is looked at before the file is opened: opening a pipe would wait for its writer. */
static enum status read_file(const char *path, uint8_t **bytes, size_t *size) {
    struct stat about;
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode)) {
        return fail(STATUS_IO, "cannot read %s: it is no plain file", path);
    }
    FILE *f = fopen(path, "rb");
    if (!f) return fail(STATUS_IO, "cannot read %s: %s", path, strerror(errno));
    enum status end = STATUS_OK;
    if (fstat(fileno(f), &about) != 0) {
        end = fail(STATUS_IO, "cannot read %s: %s", path, strerror(errno));
    } else {
        *size = (size_t)about.st_size;
        *bytes = malloc(*size + 1);
        if (!*bytes) {
            end = fail(STATUS_FAILED, "no memory for %s, %zu bytes", path, *size);
        } else if (fread(*bytes, 1, *size, f) != *size) {
            end = fail(STATUS_IO, "cannot read %s: %s", path, strerror(errno));
        }
    }
    fclose(f);
    return end;
}

/* Of two members with one name each reader of JSON believes another. */
static int has_twins(const cJSON *object) {
    for (const cJSON *a = object->child; a; a = a->next) {
        for (const cJSON *b = a->next; b; b = b->next) {
            if (!strcmp(a->string, b->string)) return 1;
        }
    }
    return 0;
}

/* One entry of the header, whose bytes must begin at *offset of `room`. */
static enum status read_entry(const cJSON *entry, struct safetensor *t, const uint8_t *bytes,
    size_t room, size_t *offset, const char *path) {
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(entry, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(entry, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    t->name = entry->string;
    if (cJSON_IsObject(entry) && has_twins(entry)) {
        return wrong(path, "a tensor says a thing twice");
    }
    if (!cJSON_IsString(dtype) || strcmp(dtype->valuestring, "F32") != 0) {
        return wrong(path, "a tensor is not of type F32");
    }
    if (!cJSON_IsArray(shape) || !cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2) {
        return wrong(path, "a tensor lacks its shape or its offsets");
    }
    size_t n = 1;
    const cJSON *dim;
    cJSON_ArrayForEach (dim, shape) {
        if (t->dims == DIMS_MOST) return wrong(path, "a tensor has more than 4 dimensions");
        if (!cJSON_IsNumber(dim) || !(dim->valuedouble >= 0 && dim->valuedouble <= 0x1p31 - 1) ||
            dim->valuedouble != (double)(int)dim->valuedouble) {
            return wrong(path, "a dimension is no number");
        }
        t->dim[t->dims++] = (int)dim->valuedouble;
        if (dim->valueint && n > SIZE_MAX / sizeof(float) / (size_t)dim->valueint) {
            return wrong(path, "a tensor is too large");
        }
        n *= (size_t)dim->valueint;
    }
    const cJSON *from = cJSON_GetArrayItem(offsets, 0), *to = cJSON_GetArrayItem(offsets, 1);
    if (!cJSON_IsNumber(from) || !cJSON_IsNumber(to) || from->valuedouble != (double)*offset ||
        to->valuedouble != (double)(*offset + n * sizeof(float)) ||
        n * sizeof(float) > room - *offset) {
        return wrong(path, "a tensor's offsets do not fit its shape, its neighbors or the file");
    }
    t->data = (const float *)(const void *)(bytes + *offset);
    *offset += n * sizeof(float);
    return STATUS_OK;
}

static enum status read_metadata(struct safetensors *s, const cJSON *metadata, const char *path) {
    const cJSON *entry;
    if (!cJSON_IsObject(metadata) || has_twins(metadata)) {
        return wrong(path, "__metadata__ is no object, or names a text twice");
    }
    s->text = calloc((size_t)cJSON_GetArraySize(metadata) + 1, sizeof *s->text);
    if (!s->text) return fail(STATUS_FAILED, "no memory for %s", path);
    cJSON_ArrayForEach (entry, metadata) {
        if (!cJSON_IsString(entry)) return wrong(path, "__metadata__ holds more than text");
        s->text[s->ntexts++] = (struct safetensors_text){entry->string, entry->valuestring};
    }
    return STATUS_OK;
}

/* -1 where there is no number: sorting needs an order among all. */
static double offset_at(const cJSON *entry, int i) {
    double at = cJSON_GetNumberValue(
        cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(entry, "data_offsets"), i));
    return at >= 0 ? at : -1;
}

/* Entries may stand in any order in the header; in the file they follow each other, an empty one
 * before the one that begins where it is. */
static int by_offset(const void *a, const void *b) {
    const cJSON *x = *(cJSON *const *)a, *y = *(cJSON *const *)b;
    for (int i = 0; i < 2; i++) {
        double mine = offset_at(x, i), other = offset_at(y, i);
        if (mine < other || mine > other) return mine < other ? -1 : 1;
    }
    return 0;
}

static int list_entries(const cJSON *top, const cJSON **entries) {
    const cJSON *entry;
    int n = 0;
    cJSON_ArrayForEach (entry, top) {
        if (strcmp(entry->string, METADATA) != 0) entries[n++] = entry;
    }
    qsort((void *)entries, (size_t)n, sizeof(const cJSON *), by_offset);
    return n;
}

static enum status read_entries(struct safetensors *s, const cJSON *const *entries, int n,
    const uint8_t *bytes, size_t room, const char *path) {
    size_t offset = 0;
    for (int i = 0; i < n; i++) {
        TRY(read_entry(entries[i], &s->tensor[i], bytes, room, &offset, path));
        s->n = i + 1;
    }
    return offset == room ? STATUS_OK : wrong(path, "bytes belong to no tensor");
}

static enum status read_tensors(
    struct safetensors *s, const cJSON *top, const uint8_t *bytes, size_t room, const char *path) {
    size_t most = (size_t)cJSON_GetArraySize(top) + 1;
    const cJSON **entries = calloc(most, sizeof(const cJSON *));
    s->tensor = calloc(most, sizeof *s->tensor);
    enum status end = fail(STATUS_FAILED, "no memory for %s", path);
    if (entries && s->tensor) {
        end = read_entries(s, entries, list_entries(top, entries), bytes, room, path);
    }
    free((void *)entries);
    return end;
}

/* Blanks may follow the object, nothing else. cJSON says in errno only why there is none. */
static enum status read_header(
    struct safetensors *out, const char *header, size_t length, const char *path) {
    const char *at = header;
    errno = 0;
    cJSON *json = cJSON_ParseWithLengthOpts(header, length, &at, 0);
    out->json = json;
    if (!json && errno == ENOMEM) return fail(STATUS_FAILED, "no memory for %s", path);
    while (json && at < header + length && strchr(" \t\r\n", *at) && *at) at++;
    if (!json || !cJSON_IsObject(json) || at != header + length) {
        return wrong(path, "its header is no JSON object");
    }
    if (has_twins(json)) return wrong(path, "two entries of its header have the same name");
    return STATUS_OK;
}

static enum status read_all(struct safetensors *out, const char *path) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status end = read_file(path, &bytes, &size);
    out->file = bytes;
    if (end != STATUS_OK) return end;
    uint64_t length = 0;
    for (int i = 0; i < PREFIX && size >= PREFIX; i++) length |= (uint64_t)bytes[i] << (8 * i);
    if (size < PREFIX || length > size - PREFIX) return wrong(path, "it is cut short");
    if (length == 0 || bytes[PREFIX] != '{') return wrong(path, "it does not begin with a header");
    TRY(read_header(out, (const char *)bytes + PREFIX, length, path));
    const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(out->json, METADATA);
    if (metadata) TRY(read_metadata(out, metadata, path));
    /* The bytes move to the front, where they are aligned for floats. */
    memmove(bytes, bytes + PREFIX + length, size - PREFIX - length);
    return read_tensors(out, out->json, bytes, size - PREFIX - length, path);
}

enum status safetensors_read(struct safetensors *out, const char *path) {
    *out = (struct safetensors){0};
    enum status end = read_all(out, path);
    if (end != STATUS_OK) safetensors_close(out);
    return end;
}

void safetensors_close(struct safetensors *s) {
    cJSON_Delete(s->json);
    free(s->tensor);
    free(s->text);
    free(s->file);
    *s = (struct safetensors){0};
}

const struct safetensor *safetensors_find(const struct safetensors *s, const char *name) {
    for (int i = 0; i < s->n; i++) {
        if (!strcmp(s->tensor[i].name, name)) return &s->tensor[i];
    }
    return NULL;
}

const char *safetensors_find_text(const struct safetensors *s, const char *name) {
    for (int i = 0; i < s->ntexts; i++) {
        if (!strcmp(s->text[i].name, name)) return s->text[i].value;
    }
    return NULL;
}
