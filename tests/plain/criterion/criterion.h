/* criterion.h -- the part of Criterion our tests use, in one process, for ThreadSanitizer.
 *
 * Criterion 2.4.1 runs each test in a sandbox whose memory arena cannot be mapped under TSan
 * (Snaipe/Criterion issue 274). `make tsan` puts this directory first on the include path.
 */
#ifndef PLAIN_CRITERION_H
#define PLAIN_CRITERION_H

#pragma GCC system_header /* as Criterion does: its macros are not ours to warn about */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct cr_param_array {
    size_t size;
    void *at;
    size_t n;
};
struct cr_options {
    void (*init)(void), (*fini)(void);
    double timeout;
};
struct cr_test {
    const char *suite, *name;
    void (*run)(void);
    void (*run_with)(void *);
    struct cr_param_array (*params)(void);
    struct cr_options *options;
    struct cr_test *next;
};
static struct cr_test *cr_tests;

#define TestSuite(S, ...) static struct cr_options cr_options_##S = {__VA_ARGS__}
#define CR_ADD(S, T, ...)                                                                          \
    __attribute__((constructor)) static void cr_add_##S##_##T(void) {                              \
        static struct cr_test t = {                                                                \
            .suite = #S, .name = #T, .options = &cr_options_##S, __VA_ARGS__};                     \
        t.next = cr_tests;                                                                         \
        cr_tests = &t;                                                                             \
    }
#define Test(S, T)                                                                                 \
    static void S##_##T(void);                                                                     \
    CR_ADD(S, T, .run = S##_##T)                                                                   \
    static void S##_##T(void)
#define ParameterizedTestParameters(S, T) static struct cr_param_array S##_##T##_params(void)
#define ParameterizedTest(P, S, T)                                                                 \
    static void S##_##T(P);                                                                        \
    static void S##_##T##_with(void *p) { S##_##T(p); }                                            \
    CR_ADD(S, T, .run_with = S##_##T##_with, .params = S##_##T##_params)                           \
    static void S##_##T(P)
#define cr_make_param_array(T, a, n) ((struct cr_param_array){sizeof(T), (a), (n)})

#define cr_assert(c, ...)                                                                          \
    do {                                                                                           \
        if (!(c)) {                                                                                \
            fprintf(stderr, "%s:%d: not true: %s  ", __FILE__, __LINE__, #c);                      \
            fprintf(stderr, "" __VA_ARGS__);                                                       \
            fputc('\n', stderr);                                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define cr_expect_eq cr_assert_eq
#define cr_expect_float_eq cr_assert_float_eq
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), "" __VA_ARGS__)
#define cr_skip_test(...)                                                                          \
    do {                                                                                           \
        fprintf(stderr, "skipped: " __VA_ARGS__);                                                  \
        fputc('\n', stderr);                                                                       \
        return;                                                                                    \
    } while (0)
#define cr_assert_float_eq(a, b, e, ...)                                                           \
    cr_assert(fabs((double)(a) - (double)(b)) <= (double)(e), "" __VA_ARGS__)

int main(void) {
    int n = 0;
    for (struct cr_test *t = cr_tests; t; t = t->next) {
        struct cr_param_array p = t->params ? t->params() : (struct cr_param_array){0, NULL, 1};
        for (size_t i = 0; i < p.n; i++, n++) {
            fprintf(stderr, "%s::%s %zu\n", t->suite, t->name, i);
            if (t->options->init) t->options->init();
            if (t->run)
                t->run();
            else
                t->run_with((char *)p.at + i * p.size);
            if (t->options->fini) t->options->fini();
        }
    }
    printf("%d passed, 0 failed\n", n);
    return 0;
}

#endif
