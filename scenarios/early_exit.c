/*
 * early_exit: implicit chemistry on a ring of reactors; one rank leaves the job without a word.
 *
 * Each rank integrates the species of its reactors with Newton's method and passes a share of them
 * on to the next rank in each step.
 *
 * Bug:    solve_reactor() calls exit() where Newton's method does not converge, on the one rank it
 *         happens on; the others wait for it. Right were MPI_Abort, or an agreed smaller step.
 * Ranks:  4 (any number from 2)
 * Expect: exit(2) on rank 1 in solve_reactor
 * See:    The rate that Newton fails on comes from the heat that rank 0 sends: the igniter's gap
 *         has closed, and rank 0 divides by it.
 *
 * Usage: early_exit [STEPS [FAILING_STEP]]     FAILING_STEP 0: no rank fails
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { REACTORS = 2000, NEWTON_MAX = 50, HOT_REACTOR = 1234 };
enum { TAG_SHARE = 1, TAG_HEAT };

/*
 * Solves y = before + rate * (feed - y^3), the implicit Euler step of one species. Newton's method
 * cannot reach the tolerance once the rate is infinite.
 */
static double solve_reactor(double before, double feed, double rate)
{
    double y = before;

    for (int i = 0; i < NEWTON_MAX; i++) {
        double f = y - before - rate * (feed - y * y * y);
        double step = f / (1.0 + 3.0 * rate * y * y);

        y -= step;
        if (fabs(step) < 1e-12)
            return y;
    }
    fprintf(stderr, "Newton's method did not converge: rate %g\n", rate);
    exit(2);
}

static double react(double *species, double feed, double heat)
{
    double sum = 0.0;

    for (int i = 0; i < REACTORS; i++) {
        double rate = i == HOT_REACTOR ? 0.5 * exp(heat) : 0.5;

        species[i] = solve_reactor(species[i], feed + 0.01 * (i % 10), rate);
        sum += species[i];
    }
    return sum / REACTORS;
}

/* What the igniter sends: the closer its gap, the hotter. It closes by one unit a step. */
static double ignite(int gap)
{
    if (gap == 0)
        MPI_Pcontrol(2); /* here: the bad heat is made */
    return 1.0 / gap;
}

/* Gives away a tenth of each species to the next rank and takes the same from the last one. */
static void pass_on(double *species, double *share, int next, int last)
{
    for (int i = 0; i < REACTORS; i++) {
        share[i] = 0.1 * species[i];
        species[i] -= share[i];
    }
    MPI_Sendrecv_replace(share, REACTORS, MPI_DOUBLE, next, TAG_SHARE, last, TAG_SHARE,
                         MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int i = 0; i < REACTORS; i++)
        species[i] += share[i];
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 1500;
    int failing = argc > 2 ? atoi(argv[2]) : steps - steps / 10;
    static double species[REACTORS], share[REACTORS];
    double mean = 0.0;
    int rank, size;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int i = 0; i < REACTORS; i++)
        species[i] = 0.1 + 0.05 * ((i + rank) % 10);

    MPI_Pcontrol(1); /* here: all is set up */
    for (int step = 1; step <= steps; step++) {
        double mine, heat = 0.0;

        if (rank == 0) {
            heat = ignite(failing - step);
            MPI_Send(&heat, 1, MPI_DOUBLE, 1, TAG_HEAT, MPI_COMM_WORLD);
            heat = 0.0;
        } else if (rank == 1) {
            MPI_Recv(&heat, 1, MPI_DOUBLE, 0, TAG_HEAT, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        }
        mine = react(species, 1.0 + rank + 1.0 / step, heat);
        pass_on(species, share, (rank + 1) % size, (rank + size - 1) % size);
        if (step % 100 == 0) {
            MPI_Reduce(&mine, &mean, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
            if (rank == 0) {
                printf("step %d: mean %.9f\n", step, mean / size);
                fflush(stdout);
            }
        }
    }
    MPI_Finalize();
    return 0;
}
