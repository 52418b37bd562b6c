/*
 * check.h: what the self-checking programs share.
 *
 * Such a program is a table of cases. It runs all of them ROUNDS times (so that a checkpoint can
 * fall anywhere), and prints "OK NAME" on rank 0 when every check held on every rank. Its output
 * does not depend on timing. `PROGRAM [ROUNDS [CASE]]` runs one case alone. ROUNDS may be the name
 * of a file instead of a number: it runs until that file is there (check_more).
 */
#ifndef CHECK_H
#define CHECK_H

#include <ctype.h>
#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* The class of an error code. */
static inline int check_class(int code)
{
    int class;

    MPI_Error_class(code, &class);
    return class;
}

/* The rank `distance` steps further round the ring. */
static inline int neighbour(int distance)
{
    return ((rank + distance) % size + size) % size;
}

/* So many messages round the ring, during which a checkpoint may fall. */
static inline void check_talk(int messages)
{
    for (int i = 0; i < messages; i++) {
        int token = rank * 100 + i;

        MPI_Sendrecv_replace(&token, 1, MPI_INT, neighbour(1), 1, neighbour(-1), 1, MPI_COMM_WORLD,
                             MPI_STATUS_IGNORE);
        CHECK(token == neighbour(-1) * 100 + i);
    }
}

/* True if ROUNDS is a number. */
static inline bool check_counted(const char *rounds)
{
    return isdigit((unsigned char)*rounds);
}

/*
 * Whether there is to be one more round after so many; collective. If ROUNDS is a file, rank 0
 * looks for it: so a test decides how long a job lives, however slow the machine is.
 */
static inline bool check_more(const char *rounds, long done)
{
    int more;
    if (check_counted(rounds))
        return done < atol(rounds);
    if (rank == 0)
        more = access(rounds, F_OK) != 0;
    MPI_Bcast(&more, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return more;
}

/* Runs the table between MPI_Init and MPI_Finalize; what main() returns. */
static inline int check_main(int argc, char **argv, const char *name,
                             const struct check_case *cases, int default_rounds)
{
    char count[16];
    const char *rounds = argc > 1 ? argv[1] : count;
    const char *only = argc > 2 ? argv[2] : NULL;
    int ran = 0, round = 0;

    snprintf(count, sizeof(count), "%d", default_rounds);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (; check_more(rounds, round); round++) {
        for (const struct check_case *c = cases; c->name; c++) {
            if (only && strcmp(only, c->name) != 0)
                continue;
            c->run(round);
            ran++;
        }
    }
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(ran > 0 || round == 0);
    if (rank == 0)
        printf("OK %s\n", name);
    MPI_Finalize();
    return 0;
}

#endif
