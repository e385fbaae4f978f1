#include "log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ranges.h"

static enum log_level shown = LOG_INFO;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int progress_on; /* guarded by lock: a progress line is on the screen */
static _Thread_local char name[16];

void log_show(enum log_level upto) { shown = upto; }

void log_name(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vsnprintf(name, sizeof name, format, ap);
    va_end(ap);
    pthread_setname_np(pthread_self(), name);
    range_name_thread(name);
}

int log_is_terminal(void) { return isatty(STDERR_FILENO); }

int log_colors(void) {
    const char *no = getenv("NO_COLOR");
    return log_is_terminal() && !(no && *no);
}

static void wipe_progress(void) {
    if (progress_on) fputs("\r\033[K", stderr);
    progress_on = 0;
}

__attribute__((format(printf, 2, 0))) static void line(
    enum log_level level, const char *format, va_list ap) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    static const char *const colors[] = {"\033[31m", "\033[33m", "", "\033[2m"};
    char text[1024];
    if (level > shown) return;
    vsnprintf(text, sizeof text, format, ap);
    int color = log_colors() && *colors[level];
    pthread_mutex_lock(&lock);
    wipe_progress();
    fprintf(stderr, "%s%-5s%s  %s%s%s\n", color ? colors[level] : "", names[level],
        color ? "\033[0m" : "", name, *name ? "  " : "", text);
    pthread_mutex_unlock(&lock);
}

#define LINE(function, level)                                                                      \
    void function(const char *format, ...) {                                                       \
        va_list ap;                                                                                \
        va_start(ap, format);                                                                      \
        line(level, format, ap);                                                                   \
        va_end(ap);                                                                                \
    }

LINE(log_error, LOG_ERROR)
LINE(log_warn, LOG_WARN)
LINE(log_info, LOG_INFO)
LINE(log_debug, LOG_DEBUG)

void log_progress(const char *format, ...) {
    if (!log_is_terminal()) return;
    char text[256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    pthread_mutex_lock(&lock);
    wipe_progress();
    progress_on = *text != '\0';
    fputs(text, stderr);
    fflush(stderr);
    pthread_mutex_unlock(&lock);
}

void log_numbers(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    pthread_mutex_lock(&lock);
    wipe_progress();
    fflush(stderr);
    vprintf(format, ap);
    fflush(stdout);
    pthread_mutex_unlock(&lock);
    va_end(ap);
}
