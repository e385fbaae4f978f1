/* openmp.h -- the calling thread's OpenMP team. */
#ifndef OPENMP_H
#define OPENMP_H

/* Call first thing in every thread that computes: a new thread has the default team, as large as
 * the machine, whatever another thread has set. Also makes the team flush denormals to zero: a
 * decayed velocity would make every pass over it many times slower. */
void openmp_settle(int threads);

#endif
