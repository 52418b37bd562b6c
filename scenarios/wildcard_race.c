/*
 * wildcard_race: adaptive quadrature by a master and its workers; who fails depends on who asks.
 *
 * The master hands out blocks of sample points to whichever worker asks first (MPI_ANY_SOURCE); a
 * worker multiplies each sample with its weight and sends the block's sum with its next request.
 *
 * Bug:    The number of points is no multiple of the block length. prepare_weights() fills in the
 *         whole blocks only, so the last, partial block has no weights.
 * Ranks:  4 (any number from 2)
 * Expect: SIGSEGV on rank any-but-0 in integrate_block
 * See:    Another rank fails on each run: the one whose request the master happens to match when
 *         only the last block is left.
 *
 * Usage: wildcard_race [BLOCKS [WHOLE]]     WHOLE 1: no partial block, no rank fails
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK = 4096, REPEATS = 8 };
enum { TAG_REQUEST = 1, TAG_BLOCK };

struct block {
    int index; /* -1: no more work */
    int points;
};

static double **weights; /* one array a block */

static void prepare_weights(int points)
{
    weights = calloc((size_t)(points + BLOCK - 1) / BLOCK, sizeof(*weights));
    if (!weights)
        MPI_Abort(MPI_COMM_WORLD, 1);
    for (int index = 0; index < points / BLOCK; index++) {
        weights[index] = malloc(BLOCK * sizeof(double));
        if (!weights[index])
            MPI_Abort(MPI_COMM_WORLD, 1);
        for (int i = 0; i < BLOCK; i++)
            weights[index][i] = i % 2 ? 4.0 / 3.0 : 2.0 / 3.0;
    }
}

/* Steep parts of the integrand take more work, so blocks take different times. */
static double integrate_block(const struct block *block, int points)
{
    const double *weight = weights[block->index];
    double sum = 0.0;

    for (int i = 0; i < block->points; i++) {
        double x = ((double)block->index * BLOCK + i) / points;
        double y = x;

        for (int j = 0; j < REPEATS + block->index % REPEATS; j++)
            y = sin(3.0 * y + x);
        sum += weight[i] * y;
    }
    return sum;
}

static void master(int points, int size)
{
    int blocks = (points + BLOCK - 1) / BLOCK;
    int next = 0, finished = 0, received = 0;
    double integral = 0.0;

    while (finished < size - 1) {
        struct block block = {-1, 0};
        MPI_Status status;
        double sum;

        MPI_Recv(&sum, 1, MPI_DOUBLE, MPI_ANY_SOURCE, TAG_REQUEST, MPI_COMM_WORLD, &status);
        integral += sum;
        received++;
        if (next < blocks) {
            block.index = next++;
            block.points = block.index < points / BLOCK ? BLOCK : points % BLOCK;
            if (next == blocks)
                MPI_Pcontrol(2); /* here: the last block goes to whoever asked */
        } else {
            finished++;
        }
        MPI_Send(&block, 2, MPI_INT, status.MPI_SOURCE, TAG_BLOCK, MPI_COMM_WORLD);
    }
    /* The order of the sums differs from run to run, and so do the last digits. */
    printf("%d sums, integral %.6f\n", received, integral / points);
}

static void worker(int points)
{
    double sum = 0.0;

    for (;;) {
        struct block block;

        MPI_Send(&sum, 1, MPI_DOUBLE, 0, TAG_REQUEST, MPI_COMM_WORLD);
        MPI_Recv(&block, 2, MPI_INT, 0, TAG_BLOCK, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (block.index < 0)
            return;
        sum = integrate_block(&block, points);
    }
}

int main(int argc, char **argv)
{
    int blocks = argc > 1 ? atoi(argv[1]) : 6000;
    int whole = argc > 2 ? atoi(argv[2]) : 0;
    int points = whole ? blocks * BLOCK : blocks * BLOCK - BLOCK / 3;
    int rank, size;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank > 0)
        prepare_weights(points);

    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Pcontrol(1); /* here: all is set up */
    if (rank == 0)
        master(points, size);
    else
        worker(points);
    MPI_Finalize();
    return 0;
}
