/* test_openmp.c -- what a computing thread is told about its team and its floats. */
#include <criterion/criterion.h>
#include <pthread.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "devices/openmp.h"

enum { TEAM = 3 };

static volatile float tiny = 1e-38f; /* normal; a hundredth of it is not */

struct seen {
    float here, in_team[TEAM];
    int size;
};

static void *settle_and_look(void *with) {
    struct seen *s = with;
    openmp_settle(TEAM);
    s->here = tiny * 0.01f;
#ifdef _OPENMP
    s->size = omp_get_max_threads();
#pragma omp parallel num_threads(TEAM)
    s->in_team[omp_get_thread_num()] = tiny * 0.01f;
#endif
    return NULL;
}

TestSuite(openmp, .timeout = 20);

Test(openmp, a_new_thread_flushes_denormals_in_its_whole_team_and_knows_its_size) {
    pthread_t thread;
    struct seen s = {1, {1, 1, 1}, 0};
    cr_assert(tiny * 0.01f > 0, "denormals are kept where nobody settled");
    cr_assert_eq(pthread_create(&thread, NULL, settle_and_look, &s), 0);
    pthread_join(thread, NULL);
#if defined(__SSE__) || defined(__aarch64__)
    cr_assert(s.here == 0, "%g", (double)s.here);
#endif
#if defined(_OPENMP) && (defined(__SSE__) || defined(__aarch64__))
    cr_assert_eq(s.size, TEAM);
    for (int i = 0; i < TEAM; i++) cr_assert(s.in_team[i] == 0, "thread %d", i);
#endif
    cr_assert(tiny * 0.01f > 0, "another thread's floats are not touched");
}
