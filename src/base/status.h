/* status.h -- what can go wrong for reasons outside the program, and how the user is told.
 *
 * A function that may fail returns enum status and has said why through fail(); TRY passes the
 * failure up; main turns it into an exit code. Errors in the program itself abort through ASSERT.
 */
#ifndef STATUS_H
#define STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

enum status {
    STATUS_OK = 0,
    STATUS_FAILED,      /* the run failed: no memory, a worker that broke */
    STATUS_BAD_CONFIG,  /* the user asked for something that we cannot mean */
    STATUS_IO,          /* a file or its data: missing, cut short, wrong */
    STATUS_DEVICE,      /* a device is not there, or a kernel or copy on it failed */
    STATUS_VERIFY,      /* a verification failed */
    STATUS_DIVERGED,    /* NaN, or the loss exploded */
    STATUS_INTERRUPTED, /* stopped early, resumable */
    STATUS_STOPPED      /* another worker failed first; nothing wrong here */
};

/* fail(code, format, ...) is `code`, and remembers one line of explanation for this thread, at most
 * 511 bytes. A macro, so that checkers see that what comes out is what went in. */
#define fail(code, ...) (fail_remember(__VA_ARGS__), (code))

void fail_remember(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The line that fail() of this thread remembered last; "" if there was none. */
const char *fail_message(void);

/* The process's exit code: 0 done, 1 failed, 2 configuration, 3 file or data, 4 device,
 * 5 verification, 7 diverged, 75 interrupted but resumable. */
int status_exit_code(enum status code);

/* Passes a failure up. The only macro in the house that hides control flow. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum status try_status_ = (call);                                                          \
        if (try_status_ != STATUS_OK) return try_status_;                                          \
    } while (0)

/* A mistake in the program, not in its input: says which and aborts. Always compiled in. */
#define ASSERT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond)) assert_failed(#cond, __FILE__, __LINE__);                                     \
    } while (0)

void assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif
#endif
