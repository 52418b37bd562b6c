/*
 * late_crash: heat conduction in a plate with sparks; one rank dies after thousands of steps.
 *
 * The plate is cut into strips of rows, one a rank. In each step a rank exchanges halo rows with
 * its neighbours, throws sparks (a cell to heat) at the next rank and sweeps its strip; now and
 * then all agree on the largest change.
 *
 * Bug:    A rank whose sparks are used up sends the "no cell" mark instead of an index, and
 *         strike() uses what it received without a look at it.
 * Ranks:  4 (any number from 3)
 * Expect: SIGSEGV on rank 2 in strike
 * See:    The index is right on the sender's side until throw_spark() on rank 1 finds
 *         sparks->left at 0: the cause is one message older than the crash, on another rank.
 *
 * Usage: late_crash [STEPS [FAILING_STEP]]     FAILING_STEP 0: no rank fails
 */
#include <limits.h>
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 192, COLS = 512, SPARKS = 4, NO_CELL = INT_MIN, REPORT_EVERY = 20 };
enum { TAG_UP = 1, TAG_DOWN, TAG_SPARK };

struct strip {
    double *old; /* (ROWS + 2) x COLS: a halo row above and one below */
    double *new;
    int above, below; /* neighbours, MPI_PROC_NULL at the plate's edges */
};

struct sparks {
    unsigned seed;
    int left; /* how many this rank can still throw */
    int target, source;
};

static void strip_create(struct strip *strip, int rank, int size)
{
    size_t cells = (size_t)(ROWS + 2) * COLS;

    strip->old = calloc(cells, sizeof(double));
    strip->new = calloc(cells, sizeof(double));
    if (!strip->old || !strip->new)
        MPI_Abort(MPI_COMM_WORLD, 1);
    strip->above = rank > 0 ? rank - 1 : MPI_PROC_NULL;
    strip->below = rank < size - 1 ? rank + 1 : MPI_PROC_NULL;
}

/* A cell of the next rank's strip, or NO_CELL when no spark is left. */
static int throw_spark(struct sparks *sparks)
{
    if (sparks->left == 0) {
        MPI_Pcontrol(2); /* here: the wrong index is made */
        return NO_CELL;
    }
    sparks->left--;
    sparks->seed = sparks->seed * 1103515245u + 12345u;
    return COLS + (int)((sparks->seed >> 8) % (ROWS * COLS));
}

static void strike(double *cells, int cell)
{
    cells[cell] += 100.0;
}

/* Halo rows and sparks travel together: one wait a step. */
static void exchange(struct strip *strip, struct sparks *sparks)
{
    double *first = strip->old + COLS;
    double *last = strip->old + ROWS * COLS;
    int thrown[SPARKS], caught[SPARKS];
    MPI_Request reqs[4 + 2 * SPARKS];
    MPI_Request *req = reqs + 4;

    MPI_Irecv(strip->old, COLS, MPI_DOUBLE, strip->above, TAG_DOWN, MPI_COMM_WORLD, &reqs[0]);
    MPI_Irecv(last + COLS, COLS, MPI_DOUBLE, strip->below, TAG_UP, MPI_COMM_WORLD, &reqs[1]);
    MPI_Isend(first, COLS, MPI_DOUBLE, strip->above, TAG_UP, MPI_COMM_WORLD, &reqs[2]);
    MPI_Isend(last, COLS, MPI_DOUBLE, strip->below, TAG_DOWN, MPI_COMM_WORLD, &reqs[3]);
    for (int i = 0; i < SPARKS; i++) {
        thrown[i] = throw_spark(sparks);
        MPI_Irecv(&caught[i], 1, MPI_INT, sparks->source, TAG_SPARK, MPI_COMM_WORLD, req++);
        MPI_Isend(&thrown[i], 1, MPI_INT, sparks->target, TAG_SPARK, MPI_COMM_WORLD, req++);
    }
    MPI_Waitall(4 + 2 * SPARKS, reqs, MPI_STATUSES_IGNORE);
    for (int i = 0; i < SPARKS; i++)
        strike(strip->old, caught[i]);
}

/* One Jacobi sweep; returns the largest change of a cell. */
static double sweep(struct strip *strip)
{
    double largest = 0.0;

    for (int row = 1; row <= ROWS; row++) {
        const double *here = strip->old + row * COLS;
        double *out = strip->new + row *COLS;

        for (int col = 1; col < COLS - 1; col++) {
            double mean =
                0.25 * (here[col - COLS] + here[col + COLS] + here[col - 1] + here[col + 1]);
            double change = fabs(mean - here[col]);

            out[col] = mean;
            if (change > largest)
                largest = change;
        }
    }
    double *swap = strip->old;
    strip->old = strip->new;
    strip->new = swap;
    return largest;
}

static double total_heat(const struct strip *strip)
{
    double mine = 0.0, all = 0.0;

    for (int cell = COLS; cell < (ROWS + 1) * COLS; cell++)
        mine += strip->old[cell];
    MPI_Reduce(&mine, &all, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    return all;
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 3000;
    int failing = argc > 2 ? atoi(argv[2]) : steps - steps / 10;
    struct strip strip;
    int rank, size;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    strip_create(&strip, rank, size);
    struct sparks sparks = {
        .seed = 2463534242u + (unsigned)rank,
        .left = rank == 1 && failing > 0 ? failing * SPARKS : INT_MAX,
        .target = (rank + 1) % size,
        .source = (rank + size - 1) % size,
    };

    MPI_Pcontrol(1); /* here: all is set up */
    for (int step = 0; step < steps; step++) {
        double change, largest;

        exchange(&strip, &sparks);
        change = sweep(&strip);
        if ((step + 1) % REPORT_EVERY != 0)
            continue;
        MPI_Allreduce(&change, &largest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
        if (rank == 0 && (step + 1) % (10 * REPORT_EVERY) == 0) {
            printf("step %d: largest change %.6f\n", step + 1, largest);
            fflush(stdout);
        }
    }
    double heat = total_heat(&strip);
    if (rank == 0)
        printf("%d steps, heat %.6f\n", steps, heat);
    free(strip.old);
    free(strip.new);
    MPI_Finalize();
    return 0;
}
