#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char message[512];

/* By way of a copy: who adds to a failure names fail_message() among the arguments. */
void fail_remember(const char *format, ...) {
    char text[sizeof message];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    memcpy(message, text, sizeof text);
}

const char *fail_message(void) { return message; }

int status_exit_code(enum status code) {
    static const int codes[] = {
        [STATUS_OK] = 0,
        [STATUS_FAILED] = 1,
        [STATUS_BAD_CONFIG] = 2,
        [STATUS_IO] = 3,
        [STATUS_DEVICE] = 4,
        [STATUS_VERIFY] = 5,
        [STATUS_DIVERGED] = 7,
        [STATUS_INTERRUPTED] = 75,
        [STATUS_STOPPED] = 1,
    };
    return codes[code];
}

void assert_failed(const char *cond, const char *file, int line) {
    fprintf(stderr, "huddle: %s:%d: this must be true and is not: %s\n", file, line, cond);
    abort();
}
