/*
 * window_large.c - a large window of which little changes between two fences
 *
 *     mpiexec -n N ./window_large MIB FENCES
 *
 * Each rank puts a few numbers at far places of its neighbour's window, in a new place each time,
 * and writes some of its own. Each round has one message; at the end all windows are added up.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#define PUTS 3

static long place(long fence, long k, long n)
{
    unsigned long x = (unsigned long)(fence * 7919 + k * 104729 + 1) * 0x9e3779b97f4a7c15ul;
    return (long)((x >> 20) % (unsigned long)n);
}

int main(int argc, char **argv)
{
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    long n = (argc > 1 ? atol(argv[1]) : 64) << 17, fences = argc > 2 ? atol(argv[2]) : 100;
    double *base, sum = 0, all;
    MPI_Win win;
    MPI_Win_allocate(n * 8, 8, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
    for (long i = 0; i < n; i += 512)
        base[i] = rank;
    MPI_Win_fence(0, win);
    for (long f = 0; f < fences; f++) {
        double out[PUTS];
        for (long k = 0; k < PUTS; k++) {
            out[k] = (double)(f + k * (rank + 1));
            MPI_Put(&out[k], 1, MPI_DOUBLE, (rank + 1) % size, place(f, k, n), 1, MPI_DOUBLE, win);
        }
        MPI_Win_fence(0, win);
        base[place(f, PUTS, n)] += 0.5 * base[place(f, 0, n)];
        MPI_Allreduce(&base[place(f, 1, n)], &all, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
        base[place(f, PUTS + 1, n)] = all;
        MPI_Win_fence(0, win);
    }
    for (long i = 0; i < n; i++)
        sum += base[i];
    MPI_Reduce(&sum, &all, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("%ld fences of %ld MiB: %.1f\nOK window_large\n", fences, n >> 17, all);
    MPI_Win_free(&win);
    MPI_Finalize();
    return 0;
}
