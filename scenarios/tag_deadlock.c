/*
 * tag_deadlock: an ocean and its atmosphere, coupled by messages; after a while both wait forever.
 *
 * Even ranks hold a piece of the atmosphere, odd ranks the piece of ocean below it. In each step a
 * pair exchanges fluxes, told apart by a tag made from the step's number; the pieces of one kind
 * then agree on their mean.
 *
 * Bug:    The two sides fold the step into a tag with different limits (% against <=), so the
 *         ocean waits for tag WRAP where the atmosphere sends tag 0.
 * Ranks:  4 (any even number)
 * Expect: hang on rank 1 in MPI_Recv
 * See:    All ranks of odd number wait for a tag that nobody sends, while a message with tag 0 is
 *         there for them. It is too long to be sent eagerly: the even ranks wait in MPI_Send.
 *
 * Usage: tag_deadlock [STEPS [WRAP]]     WRAP > STEPS: no rank hangs
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { CELLS = 20000 };

struct piece {
    double value[CELLS];
    double flux[CELLS];
};

static int atmosphere_tag(int step, int wrap)
{
    return step % wrap;
}

static int ocean_tag(int step, int wrap)
{
    while (step > wrap)
        step -= wrap;
    return step;
}

static void couple_atmosphere(struct piece *piece, int ocean, int tag)
{
    MPI_Send(piece->value, CELLS, MPI_DOUBLE, ocean, tag, MPI_COMM_WORLD);
    MPI_Recv(piece->flux, CELLS, MPI_DOUBLE, ocean, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static void couple_ocean(struct piece *piece, int atmosphere, int tag)
{
    MPI_Recv(piece->flux, CELLS, MPI_DOUBLE, atmosphere, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Send(piece->value, CELLS, MPI_DOUBLE, atmosphere, tag, MPI_COMM_WORLD);
}

/* Moves each value a bit towards the other side's; returns the piece's mean. */
static double relax(struct piece *piece, double rate)
{
    double sum = 0.0;

    for (int i = 0; i < CELLS; i++) {
        piece->value[i] += rate * (piece->flux[i] - piece->value[i]);
        sum += piece->value[i];
    }
    return sum / CELLS;
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 3000;
    int wrap = argc > 2 ? atoi(argv[2]) : steps - steps / 10;
    static struct piece piece;
    double all = 0.0;
    int rank, size, kind_size;
    MPI_Comm kind;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size % 2 != 0 || wrap < 1)
        MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &kind);
    MPI_Comm_size(kind, &kind_size);
    for (int i = 0; i < CELLS; i++)
        piece.value[i] = rank % 2 ? 4.0 + rank : 20.0 + (double)i / CELLS;

    MPI_Pcontrol(1); /* here: all is set up */
    for (int step = 0; step < steps; step++) {
        double mean;

        if (step == wrap)
            MPI_Pcontrol(2); /* here: the two sides use different tags */
        if (rank % 2 == 0)
            couple_atmosphere(&piece, rank + 1, atmosphere_tag(step, wrap));
        else
            couple_ocean(&piece, rank - 1, ocean_tag(step, wrap));
        mean = relax(&piece, rank % 2 ? 0.0001 : 0.01);
        MPI_Allreduce(&mean, &all, 1, MPI_DOUBLE, MPI_SUM, kind);
        if (rank == 0 && (step + 1) % 100 == 0) {
            printf("step %d: mean temperature %.6f\n", step + 1, all / kind_size);
            fflush(stdout);
        }
    }
    if (rank == 0)
        printf("%d steps, mean temperature %.6f\n", steps, all / kind_size);
    MPI_Comm_free(&kind);
    MPI_Finalize();
    return 0;
}
