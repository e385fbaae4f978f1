/* mpi_allreduce.c -- all-reduce by MPI, between processes of one machine.
 *
 * build: mpicc -O2 perf/peers/mpi_allreduce.c -o build/mpi_allreduce
 * usage: mpirun -np PROCESSES build/mpi_allreduce [FLOATS]     1663370 are mnist_cnn's parameters
 *
 * Prints microseconds until all have the sum: the median of five samples of ten calls.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { WARMUP = 2, SAMPLES = 5, CALLS = 10 };

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    int rank, processes, floats = argc > 1 ? atoi(argv[1]) : 1663370;
    double seconds[SAMPLES] = {0};
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &processes);
    float *v = calloc((size_t)floats, sizeof *v);
    if (!v) MPI_Abort(MPI_COMM_WORLD, 1);
    for (int s = -WARMUP; s < SAMPLES; s++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double start = MPI_Wtime();
        for (int i = 0; i < CALLS; i++) {
            MPI_Allreduce(MPI_IN_PLACE, v, floats, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        }
        MPI_Barrier(MPI_COMM_WORLD);
        if (s >= 0) seconds[s] = (MPI_Wtime() - start) / CALLS;
    }
    qsort(seconds, SAMPLES, sizeof *seconds, order);
    if (rank == 0) printf("mpi %d %d %.1f\n", processes, floats, 1e6 * seconds[SAMPLES / 2]);
    free(v);
    MPI_Finalize();
    return 0;
}
