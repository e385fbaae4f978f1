#include "stream.h"

#include <stdarg.h>
#include <stdio.h>

void stream_fail(struct stream *q, const char *format, ...) {
    if (q->failed != STATUS_OK) return;
    q->failed = STATUS_DEVICE;
    va_list ap;
    va_start(ap, format);
    vsnprintf(q->why, sizeof q->why, format, ap);
    va_end(ap);
}
