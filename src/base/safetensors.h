/* safetensors.h -- files of named float32 tensors, by the public safetensors rules.
 *
 * Eight bytes: the header's length, little endian. The header: JSON, a tensor an entry, and
 * "__metadata__", text by name. Then the tensors' bytes, in C order, without holes. A file is
 * written beside its place and renamed into it, so that a reader never meets half of one.
 */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include <stddef.h>

#include "base/status.h"

struct safetensor {
    const char *name;
    int dims, dim[4];
    const float *data; /* host memory */
};

struct safetensors_text {
    const char *name, *value;
};

/* STATUS_IO when it cannot be written; what stood at `path` before is then still there. */
enum status safetensors_write(const char *path, const struct safetensor *tensors, int n,
    const struct safetensors_text *texts, int ntexts);

/* A file that was read and found right; the tensors' data are inside it. */
struct safetensors {
    struct safetensor *tensor;
    int n;
    struct safetensors_text *text;
    int ntexts;
    void *file, *json; /* owned */
};

/* STATUS_IO, with the reason, for anything but a well-formed file of float32 tensors. */
enum status safetensors_read(struct safetensors *out, const char *path);
void safetensors_close(struct safetensors *s);

/* NULL when there is none. */
const struct safetensor *safetensors_find(const struct safetensors *s, const char *name);
const char *safetensors_find_text(const struct safetensors *s, const char *name);

#endif
