/* criterion.h -- the part of Criterion our tests use, in one process, for ThreadSanitizer and for
 * machines without Criterion.
 *
 * Criterion 2.4.1 runs each test in a sandbox whose memory arena cannot be mapped under TSan
 * (Snaipe/Criterion issue 274). `make tsan` puts this directory first on the include path.
 *
 * usage: a test program [-l | NAME ...]     all tests, those of the NAMEs, or, -l, a list of them
 */
#ifndef PLAIN_CRITERION_H
#define PLAIN_CRITERION_H

#pragma GCC system_header /* as Criterion does: its macros are not ours to warn about */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cr_param_array {
    size_t size;
    void *at;
    size_t n;
};
struct cr_options { /* a test's own, and of its suite */
    void (*init)(void), (*fini)(void);
    double timeout;
    const char *description;
};
struct cr_test {
    const char *suite, *name;
    void (*run)(void);
    void (*run_with)(void *);
    struct cr_param_array (*params)(void);
    struct cr_options *suite_options, options;
    struct cr_test *next;
};
static struct cr_test *cr_tests;

#define TestSuite(S, ...) static struct cr_options cr_options_##S = {__VA_ARGS__}
#define CR_ADD(S, T, ...)                                                                          \
    __attribute__((constructor)) static void cr_add_##S##_##T(void) {                              \
        static struct cr_test t = {                                                                \
            .suite = #S, .name = #T, .suite_options = &cr_options_##S, __VA_ARGS__};               \
        t.next = cr_tests;                                                                         \
        cr_tests = &t;                                                                             \
    }
#define Test(S, T, ...)                                                                            \
    static void cr_##S##_##T(void);                                                                \
    CR_ADD(S, T, .run = cr_##S##_##T, .options = {__VA_ARGS__})                                    \
    static void cr_##S##_##T(void)
#define ParameterizedTestParameters(S, T) static struct cr_param_array cr_##S##_##T##_params(void)
#define ParameterizedTest(P, S, T)                                                                 \
    static void cr_##S##_##T(P);                                                                   \
    static void cr_##S##_##T##_with(void *p) { cr_##S##_##T(p); }                                  \
    CR_ADD(S, T, .run_with = cr_##S##_##T##_with, .params = cr_##S##_##T##_params)                 \
    static void cr_##S##_##T(P)
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
#define cr_expect cr_assert
#define cr_expect_eq cr_assert_eq
#define cr_expect_float_eq cr_assert_float_eq
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), "" __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) cr_assert(strcmp((a), (b)) == 0, "" __VA_ARGS__)
#define cr_skip_test(...)                                                                          \
    do {                                                                                           \
        fprintf(stderr, "skipped: " __VA_ARGS__);                                                  \
        fputc('\n', stderr);                                                                       \
        return;                                                                                    \
    } while (0)
#define cr_assert_float_eq(a, b, e, ...)                                                           \
    cr_assert(fabs((double)(a) - (double)(b)) <= (double)(e), "" __VA_ARGS__)

static void cr_run(const struct cr_test *t, const struct cr_param_array *p, size_t i) {
    const struct cr_options *of[] = {t->suite_options, &t->options};
    fprintf(stderr, "%s::%s %zu\n", t->suite, t->name, i);
    for (int k = 0; k < 2; k++) {
        if (of[k]->init) of[k]->init();
    }
    if (t->run)
        t->run();
    else
        t->run_with((char *)p->at + i * p->size);
    for (int k = 1; k >= 0; k--) {
        if (of[k]->fini) of[k]->fini();
    }
}

static int cr_is_chosen(const struct cr_test *t, int argc, char **argv) {
    int chosen = argc < 2;
    for (int i = 1; i < argc; i++) chosen |= !strcmp(t->name, argv[i]);
    return chosen;
}

int main(int argc, char **argv) {
    int n = 0, list = argc == 2 && !strcmp(argv[1], "-l");
    for (struct cr_test *t = cr_tests; t; t = t->next) {
        if (list) printf("%s\n", t->name);
        if (list || !cr_is_chosen(t, argc, argv)) continue;
        struct cr_param_array p = t->params ? t->params() : (struct cr_param_array){0, NULL, 1};
        for (size_t i = 0; i < p.n; i++, n++) cr_run(t, &p, i);
    }
    if (!list) printf("%d passed, 0 failed\n", n);
    return 0;
}

#endif
