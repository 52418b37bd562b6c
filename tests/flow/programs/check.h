/*
 * check.h: what the self-checking programs share.
 *
 * Such a program is a table of cases. It runs all of them ROUNDS times (so that a checkpoint can
 * fall anywhere), and prints "OK NAME" on rank 0 when every check held on every rank. Its output
 * does not depend on timing. `PROGRAM [ROUNDS [CASE]]` runs one case alone.
 */
#ifndef CHECK_H
#define CHECK_H

#include <mpi.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check_case {
    const char *name;
    void (*run)(int round);
};

/* This process in MPI_COMM_WORLD; right when a case runs. */
static int rank, size;

/* Ends the job with the place and the expression that did not hold. */
#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            check_failed(__FILE__, __LINE__, #cond);                                               \
    } while (0)

static inline void check_failed(const char *file, int line, const char *cond)
{
    fprintf(stderr, "rank %d: %s:%d: not so: %s\n", rank, file, line, cond);
    fflush(stderr);
    MPI_Abort(MPI_COMM_WORLD, 99);
    exit(99);
}

/* The rank `distance` steps further round the ring. */
static inline int neighbour(int distance)
{
    return ((rank + distance) % size + size) % size;
}

/* Runs the table between MPI_Init and MPI_Finalize; what main() returns. */
static inline int check_main(int argc, char **argv, const char *name,
                             const struct check_case *cases, int default_rounds)
{
    int rounds = argc > 1 ? atoi(argv[1]) : default_rounds;
    const char *only = argc > 2 ? argv[2] : NULL;
    int ran = 0;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int round = 0; round < rounds; round++) {
        for (const struct check_case *c = cases; c->name; c++) {
            if (only && strcmp(only, c->name) != 0)
                continue;
            c->run(round);
            ran++;
        }
    }
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(ran > 0 || rounds == 0);
    if (rank == 0)
        printf("OK %s\n", name);
    MPI_Finalize();
    return 0;
}

#endif
