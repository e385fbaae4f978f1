#include "replacement.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static enum status cannot(const struct replacement *r, int why) {
    return fail(STATUS_IO, "cannot write %.200s: %s; what was saved before is still there", r->path,
        strerror(why));
}

enum status replacement_open(struct replacement *r, const char *path) {
    r->path = path;
    r->file = NULL;
    if ((size_t)snprintf(r->beside, sizeof r->beside, "%s.part", path) >= sizeof r->beside) {
        return cannot(r, ENAMETOOLONG);
    }
    r->file = fopen(r->beside, "wb");
    return r->file ? STATUS_OK : cannot(r, errno);
}

enum status replacement_close(struct replacement *r) {
    int bad = ferror(r->file) || fflush(r->file) != 0 || fsync(fileno(r->file)) != 0;
    int why = errno;
    if (fclose(r->file) != 0 && !bad) {
        bad = 1;
        why = errno;
    }
    r->file = NULL;
    if (!bad && rename(r->beside, r->path) == 0) return STATUS_OK;
    if (!bad) why = errno;
    unlink(r->beside);
    return cannot(r, why);
}
