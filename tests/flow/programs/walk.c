/*
 * walk: a rank that a debugger goes back and forth in. It touches MIB MiB; in each step it passes a
 * number on round the ring, writes one word WRITES times, prints a line on standard output and, in
 * every tenth step, one on standard error. After STEPS steps rank 1 fails: it writes where there is
 * nothing.
 *
 * Usage: walk [STEPS [MIB [WRITES]]]: defaults 50, 1, 100. At least two ranks.
 */
#include "check.h"
#include <stdint.h>

static volatile uint64_t tally; /* what is written over and over */
static volatile uint64_t seen;  /* read and written once a step */

static __attribute__((noinline)) void visit(long step, long i)
{
    tally += (uint64_t)(step * 1000 + i) | 1;
}

static __attribute__((noinline)) void work(long step, long writes)
{
    for (long i = 0; i < writes; i++)
        visit(step, i);
}

static __attribute__((noinline)) void report(long step)
{
    seen = tally;
    printf("rank %d step %ld\n", rank, step);
    fflush(stdout);
    if (step % 10 == 0)
        fprintf(stderr, "rank %d: every tenth: %ld\n", rank, step);
}

int main(int argc, char **argv)
{
    long steps = argc > 1 ? atol(argv[1]) : 50;
    size_t bytes = (size_t)(argc > 2 ? atol(argv[2]) : 1) << 20;
    long writes = argc > 3 ? atol(argv[3]) : 100;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    char *memory = malloc(bytes);
    CHECK(memory);
    memset(memory, 1 + rank, bytes);
    for (long step = 1; step <= steps; step++) {
        uint64_t coming = 0, going = tally;

        MPI_Sendrecv(&going, 1, MPI_UINT64_T, neighbour(1), 1, &coming, 1, MPI_UINT64_T,
                     neighbour(-1), 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        memory[coming % bytes]++;
        work(step, writes);
        report(step);
    }
    if (rank == 1)
        *(volatile int *)64 = 0;
    free(memory);
    MPI_Finalize();
    return 0;
}
