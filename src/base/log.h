/* log.h -- one line an event, on stderr; numbers go to stdout and into the run's folder.
 *
 * Any thread may log; a line is written whole. A line names the level and, where log_name() gave
 * the thread one, the thread: "warn  worker 2  ...".
 */
#ifndef LOG_H
#define LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* What is shown from now on; LOG_INFO at start. Call before there are threads. */
void log_show(enum log_level upto);

/* Names the calling thread, at most 15 bytes; debuggers see the name too. */
void log_name(const char *format, ...) __attribute__((format(printf, 1, 2)));

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line that the next one overwrites, for terminals only; any log line first wipes it away.
 * log_progress("") wipes it. Does nothing where stderr is no terminal. */
void log_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Text for stdout, which is for numbers: written whole, and not behind a progress line. */
void log_numbers(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* True when stderr is a terminal; log_colors is that and no NO_COLOR in the environment. */
int log_is_terminal(void);
int log_colors(void);

#endif
