#include "checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/safetensors.h"

static int count_tensors(const struct task *t) {
    struct tensor part;
    int n = 0;
    while (t->ops->tensor(t, n, &part)) n++;
    return n;
}

enum status checkpoint_write(
    const char *path, const struct task *t, const float *x, const char *config) {
    int n = count_tensors(t);
    struct tensor *parts = calloc((size_t)n, sizeof *parts);
    struct safetensor *tensors = calloc((size_t)n, sizeof *tensors);
    const struct safetensors_text texts[] = {{"format", "huddle"}, {"config", config}};
    enum status end = fail(STATUS_FAILED, "no memory for %s", path);
    if (parts && tensors) {
        for (int i = 0; i < n; i++) {
            t->ops->tensor(t, i, &parts[i]);
            tensors[i] = (struct safetensor){
                .name = parts[i].name, .dims = parts[i].dims, .data = x + parts[i].range.offset};
            memcpy(tensors[i].dim, parts[i].dim, sizeof tensors[i].dim);
        }
        end = safetensors_write(path, tensors, n, texts, 2);
    }
    free(parts);
    free(tensors);
    return end;
}

enum status checkpoint_config(const char *path, char **config) {
    struct safetensors file;
    TRY(safetensors_read(&file, path));
    const char *text = safetensors_find_text(&file, "config");
    int has = text != NULL;
    *config = has ? strdup(text) : NULL;
    safetensors_close(&file);
    if (*config) return STATUS_OK;
    if (has) return fail(STATUS_FAILED, "no memory for the configuration in %s", path);
    return fail(STATUS_IO, "%s holds no configuration: it was not written by huddle", path);
}

static void dims_text(char *text, size_t n, int dims, const int *dim) {
    size_t at = 0;
    *text = '\0';
    for (int i = 0; i < dims && at < n; i++) {
        at += (size_t)snprintf(text + at, n - at, "%s%d", i ? " x " : "", dim[i]);
    }
}

static enum status read_tensor(
    const char *path, const struct safetensors *file, const struct tensor *want, float *x) {
    char has[64], wants[64];
    const struct safetensor *got = safetensors_find(file, want->name);
    if (!got) {
        return fail(
            STATUS_IO, "%s is the checkpoint of another model: it has no \"%s\"", path, want->name);
    }
    if (got->dims != want->dims ||
        memcmp(got->dim, want->dim, (size_t)want->dims * sizeof *want->dim) != 0) {
        dims_text(has, sizeof has, got->dims, got->dim);
        dims_text(wants, sizeof wants, want->dims, want->dim);
        return fail(STATUS_IO,
            "%s is the checkpoint of another model: its \"%s\" is %s, the model's is %s", path,
            want->name, has, wants);
    }
    memcpy(x + want->range.offset, got->data, want->range.n * sizeof *x);
    return STATUS_OK;
}

enum status checkpoint_read(const char *path, const struct task *t, float *x) {
    struct safetensors file;
    struct tensor want;
    TRY(safetensors_read(&file, path));
    enum status end = STATUS_OK;
    for (int i = 0; end == STATUS_OK && t->ops->tensor(t, i, &want); i++) {
        end = read_tensor(path, &file, &want, x);
    }
    if (end == STATUS_OK && file.n != count_tensors(t)) {
        end = fail(STATUS_IO, "%s is the checkpoint of another model: it has %d tensors, not %d",
            path, file.n, count_tensors(t));
    }
    safetensors_close(&file);
    return end;
}
