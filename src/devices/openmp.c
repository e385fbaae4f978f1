#include "openmp.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#ifdef __SSE__
#include <xmmintrin.h>

/* Of the control word: results (FTZ) and operands (DAZ) that are denormal count as zero. */
static void flush_here(void) { _mm_setcsr(_mm_getcsr() | 0x8040u); }
#elif defined(__aarch64__)
static void flush_here(void) {
    unsigned long control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" : : "r"(control | 1ul << 24));
}
#else
static void flush_here(void) {}
#endif

void openmp_settle(int threads) {
#ifdef _OPENMP
    omp_set_num_threads(threads);
#endif
    flush_here();
    if (threads <= 1) return;
#pragma omp parallel num_threads(threads)
    flush_here();
}
