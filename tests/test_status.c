#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status.h"

TestSuite(status, .timeout = 20);

Test(status, exit_codes_are_those_that_are_promised) {
    static const int want[][2] = {{STATUS_OK, 0}, {STATUS_FAILED, 1}, {STATUS_BAD_CONFIG, 2},
        {STATUS_IO, 3}, {STATUS_DEVICE, 4}, {STATUS_VERIFY, 5}, {STATUS_DIVERGED, 7},
        {STATUS_INTERRUPTED, 75}, {STATUS_STOPPED, 1}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        cr_assert_eq(want[i][0], (int)i, "status %zu is not in the table", i);
        int code = status_exit_code((enum status)want[i][0]);
        cr_assert_eq(code, want[i][1], "status %zu exits with %d", i, code);
    }
}

Test(status, a_failure_is_remembered_in_words) {
    cr_assert_eq(fail(STATUS_IO, "%s: line %d", "a.ini", 7), STATUS_IO);
    cr_assert_eq(strcmp(fail_message(), "a.ini: line 7"), 0, "%s", fail_message());
    cr_assert_eq(fail(STATUS_DEVICE, "gone"), STATUS_DEVICE);
    cr_assert_eq(strcmp(fail_message(), "gone"), 0, "%s", fail_message());
}

Test(status, a_message_may_be_added_to) {
    (void)fail(STATUS_IO, "the file ends early");
    (void)fail(STATUS_IO, "digits: %s: get it again", fail_message());
    cr_assert_eq(strcmp(fail_message(), "digits: the file ends early: get it again"), 0, "%s",
        fail_message());
}

Test(status, a_long_message_is_cut_short) {
    char text[601];
    for (size_t length = 509; length <= 600; length += length < 514 ? 1 : 86) {
        memset(text, 'x', length);
        text[length] = '\0';
        (void)fail(STATUS_FAILED, "%s", text);
        size_t want = length < 511 ? length : 511;
        cr_assert_eq(
            strlen(fail_message()), want, "%zu of %zu bytes", strlen(fail_message()), length);
        cr_assert_eq(strncmp(fail_message(), text, want), 0, "of %zu bytes", length);
    }
}

/* Each of two threads fails while the other's message stands. */
static pthread_barrier_t both;

static void *fail_beside_another(void *name) {
    const char *before = fail_message();
    int fresh = *before == '\0';
    pthread_barrier_wait(&both);
    (void)fail(STATUS_FAILED, "%s broke", (const char *)name);
    pthread_barrier_wait(&both);
    char want[64];
    snprintf(want, sizeof want, "%s broke", (const char *)name);
    return fresh && strcmp(fail_message(), want) == 0 ? name : NULL;
}

Test(status, each_thread_has_its_own_message) {
    static char names[2][16] = {"worker 0", "worker 1"};
    pthread_t thread[2];
    (void)fail(STATUS_FAILED, "main broke");
    pthread_barrier_init(&both, NULL, 2);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, fail_beside_another, names[i]), 0);
    for (int i = 0; i < 2; i++) {
        void *good = NULL;
        pthread_join(thread[i], &good);
        cr_assert(good != NULL, "%s has not its own message", names[i]);
    }
    pthread_barrier_destroy(&both);
    cr_assert_eq(strcmp(fail_message(), "main broke"), 0, "%s", fail_message());
}

static enum status count_and_return(int *calls, enum status status) {
    ++*calls;
    return status;
}

static enum status three_steps(int *calls, enum status second) {
    TRY(count_and_return(calls, STATUS_OK));
    TRY(count_and_return(calls, second));
    TRY(count_and_return(calls, STATUS_OK));
    return STATUS_OK;
}

Test(status, try_passes_the_first_failure_up_and_asks_once) {
    int calls = 0;
    cr_assert_eq(three_steps(&calls, STATUS_OK), STATUS_OK);
    cr_assert_eq(calls, 3);
    calls = 0;
    cr_assert_eq(three_steps(&calls, STATUS_VERIFY), STATUS_VERIFY);
    cr_assert_eq(calls, 2);
}

/* What a child that asserts prints, and how it ends. */
static int assert_in_child(int truth, char *text, size_t n) {
    int pipes[2], status = 0;
    cr_assert_eq(pipe(pipes), 0);
    pid_t child = fork();
    cr_assert(child >= 0, "no child");
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        ASSERT(truth == 1);
        _exit(0);
    }
    close(pipes[1]);
    size_t have = 0;
    for (ssize_t got; have < n - 1 && (got = read(pipes[0], text + have, n - 1 - have)) > 0;)
        have += (size_t)got;
    text[have] = '\0';
    close(pipes[0]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status;
}

Test(status, an_assertion_aborts_with_its_own_words_and_only_when_false) {
    char text[512];
    int status = assert_in_child(0, text, sizeof text);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "the child ends with %d", status);
    cr_assert(strstr(text, "truth == 1"), "%s", text);
    cr_assert(strstr(text, "test_status.c:"), "%s", text);
    status = assert_in_child(1, text, sizeof text);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ends with %d", status);
    cr_assert_eq(strcmp(text, ""), 0, "%s", text);
}
