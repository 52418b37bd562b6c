/*
 * nan_spread: heat in a rod of two materials; one rank divides zero by zero and all see NaN.
 *
 * The rod is cut into pieces, one a rank. Conductivity between two cells is the harmonic mean of
 * theirs. A part of one piece chars: its conductivity falls a little in each step.
 *
 * Bug:    Where both cells have charred to zero conductivity, the harmonic mean is 0 / 0.
 * Ranks:  4 (any number from 3)
 * Expect: MPI_Abort(3) on rank 0 in check_residual
 * See:    The first NaN is made on rank 2, up to CHECK_EVERY steps before the abort; it leaves that
 *         rank by a halo cell or by the sum, whichever comes first. MPI_MAX would have hidden it.
 *
 * Usage: nan_spread [STEPS [CHARRED_STEP]]     CHARRED_STEP 0: no rank fails
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { CELLS = 20000, CHAR_FIRST = 2, CHAR_LAST = 40, CHARRING_RANK = 2, CHECK_EVERY = 50 };
enum { TAG_LEFTWARD = 1, TAG_RIGHTWARD };

struct piece {
    double heat[CELLS + 2]; /* with a halo cell at each end */
    double next[CELLS + 2];
    double conductivity[CELLS + 2];
    int left, right;
};

static void piece_init(struct piece *piece, int rank, int size)
{
    for (int i = 0; i < CELLS + 2; i++) {
        piece->heat[i] = 300.0 + 50.0 * sin(0.001 * i + rank);
        piece->conductivity[i] = 0.4;
    }
    piece->left = rank > 0 ? rank - 1 : MPI_PROC_NULL;
    piece->right = rank < size - 1 ? rank + 1 : MPI_PROC_NULL;
}

static void exchange(struct piece *piece)
{
    MPI_Sendrecv(&piece->heat[1], 1, MPI_DOUBLE, piece->left, TAG_LEFTWARD, &piece->heat[CELLS + 1],
                 1, MPI_DOUBLE, piece->right, TAG_LEFTWARD, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Sendrecv(&piece->heat[CELLS], 1, MPI_DOUBLE, piece->right, TAG_RIGHTWARD, &piece->heat[0],
                 1, MPI_DOUBLE, piece->left, TAG_RIGHTWARD, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/* Conductivity falls linearly from its first value to zero at the step `charred`. */
static void char_some(struct piece *piece, int step, int charred)
{
    double left = step < charred ? 1.0 - (double)step / charred : 0.0;

    if (step == charred)
        MPI_Pcontrol(2); /* here: the first NaN will be made */
    for (int i = CHAR_FIRST; i < CHAR_LAST; i++)
        piece->conductivity[i] = 0.4 * left;
}

static double between(double a, double b)
{
    return 2.0 * a * b / (a + b);
}

/* One explicit step; returns the sum of squared changes. */
static double conduct(struct piece *piece)
{
    double residual = 0.0;

    for (int i = 1; i <= CELLS; i++) {
        double k_left = between(piece->conductivity[i - 1], piece->conductivity[i]);
        double k_right = between(piece->conductivity[i], piece->conductivity[i + 1]);
        double change = k_left * (piece->heat[i - 1] - piece->heat[i]) +
                        k_right * (piece->heat[i + 1] - piece->heat[i]);

        piece->next[i] = piece->heat[i] + change;
        residual += change * change;
    }
    for (int i = 1; i <= CELLS; i++)
        piece->heat[i] = piece->next[i];
    return residual;
}

static void check_residual(double residual, int step, int rank)
{
    double all;

    MPI_Allreduce(&residual, &all, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    if (rank != 0)
        return;
    printf("step %d: residual %.9e\n", step, all);
    fflush(stdout);
    if (isnan(all)) {
        fprintf(stderr, "step %d: the residual is not a number\n", step);
        MPI_Abort(MPI_COMM_WORLD, 3);
    }
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 1500;
    int charred = argc > 2 ? atoi(argv[2]) : steps - steps / 10 - 20;
    static struct piece piece;
    int rank, size;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    piece_init(&piece, rank, size);

    MPI_Pcontrol(1); /* here: all is set up */
    for (int step = 1; step <= steps; step++) {
        double residual;

        exchange(&piece);
        if (rank == CHARRING_RANK && charred > 0)
            char_some(&piece, step, charred);
        residual = conduct(&piece);
        if (step % CHECK_EVERY == 0)
            check_residual(residual, step, rank);
    }
    MPI_Finalize();
    return 0;
}
