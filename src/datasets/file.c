#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datasets/dataset.h"

/* The kind is looked at before the file is opened: opening a pipe would wait for its writer. */
enum status file_open(const char *path, int *fd, uint64_t *bytes) {
    struct stat s;
    if (stat(path, &s) != 0) return fail(STATUS_IO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(s.st_mode)) return fail(STATUS_IO, "%s: %s", path, strerror(EISDIR));
    if (!S_ISREG(s.st_mode)) return fail(STATUS_IO, "%s: not a regular file", path);
    *bytes = (uint64_t)s.st_size;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return fail(STATUS_IO, "%s: %s", path, strerror(errno));
    return STATUS_OK;
}

enum status file_read(int fd, const char *path, void *to, size_t bytes, size_t *got) {
    *got = 0;
    while (*got < bytes) {
        ssize_t n = read(fd, (char *)to + *got, bytes - *got);
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(STATUS_IO, "%s: %s", path, strerror(errno));
        *got += (size_t)n;
    }
    return STATUS_OK;
}
