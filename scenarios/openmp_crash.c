/*
 * openmp_crash: particles in boxes, with OpenMP threads; one thread of one rank dies.
 *
 * A rank's threads add up the forces on its particles, each thread in a scratch array of its own,
 * which it allocates itself at the start so that its pages lie near its core (first touch). Some
 * particles leave for the next rank in each step.
 *
 * Bug:    A thread that has no particle at the start allocates no scratch. Later, when enough
 *         particles have come from the neighbour, it gets work all the same.
 * Ranks:  4 (any number from 2); 3 threads each
 * Expect: SIGSEGV on rank 1 in add_forces
 * See:    The third thread of rank 1 stops with scratch NULL; it is not the thread that calls MPI
 *         (MPI_THREAD_FUNNELED). The particles that gave it work came from rank 0 in one message.
 *
 * Usage: openmp_crash [STEPS [FAILING_STEP]]     FAILING_STEP 0: no rank fails
 */
#include <math.h>
#include <mpi.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 3, CHUNK = 200, CELLS = 512, CAPACITY = THREADS * CHUNK };
enum { FEW = 2 * CHUNK, MANY = 2 * CHUNK + CHUNK / 2, LEAVING = CHUNK / 4, TAG_LEAVING = 1 };

struct box {
    double position[CAPACITY];
    double force[CELLS];
    int particles;
    double *scratch[THREADS]; /* CELLS forces, one array a thread */
};

static void allocate_scratch(struct box *box)
{
#pragma omp parallel num_threads(THREADS)
    {
        int thread = omp_get_thread_num();

        if (thread * CHUNK < box->particles)
            box->scratch[thread] = calloc(CELLS, sizeof(double));
    }
}

static void box_init(struct box *box, int rank, int particles)
{
    box->particles = particles;
    for (int i = 0; i < box->particles; i++)
        box->position[i] = fmod(0.37 * i + 0.11 * rank, 1.0);
    allocate_scratch(box);
}

/* The forces of one chunk of particles, spread over all cells. */
static void add_forces(double *scratch, const double *position, int particles)
{
    for (int cell = 0; cell < CELLS; cell++)
        scratch[cell] = 0.0;
    for (int i = 0; i < particles; i++) {
        for (int cell = 0; cell < CELLS; cell++) {
            double distance = position[i] - (double)cell / CELLS;

            scratch[cell] += distance / (0.01 + distance * distance);
        }
    }
}

static void sum_forces(struct box *box)
{
    int chunks = (box->particles + CHUNK - 1) / CHUNK;

#pragma omp parallel num_threads(THREADS)
    {
        int thread = omp_get_thread_num();
        int first = thread * CHUNK;
        int last = first + CHUNK < box->particles ? first + CHUNK : box->particles;

        if (first < last)
            add_forces(box->scratch[thread], box->position + first, last - first);
#pragma omp barrier
#pragma omp for
        for (int cell = 0; cell < CELLS; cell++) {
            box->force[cell] = 0.0;
            for (int chunk = 0; chunk < chunks; chunk++)
                box->force[cell] += box->scratch[chunk][cell];
        }
    }
}

/* Moves the particles; each stays within the unit interval. */
static double move(struct box *box)
{
    double sum = 0.0;

    for (int i = 0; i < box->particles; i++) {
        double *position = &box->position[i];
        double moved = *position + 1e-7 * box->force[(int)(*position * CELLS)];

        *position = fmod(moved + 1.0, 1.0);
        sum += *position;
    }
    return sum;
}

/* The last `leaving` particles go to `next`; as many as come from `last` are appended. */
static void migrate(struct box *box, int leaving, int next, int last)
{
    double coming[CAPACITY];
    MPI_Status status;
    int count;

    box->particles -= leaving;
    MPI_Sendrecv(box->position + box->particles, leaving, MPI_DOUBLE, next, TAG_LEAVING, coming,
                 CAPACITY, MPI_DOUBLE, last, TAG_LEAVING, MPI_COMM_WORLD, &status);
    MPI_Get_count(&status, MPI_DOUBLE, &count);
    for (int i = 0; i < count; i++)
        box->position[box->particles++] = coming[i];
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 1500;
    int failing = argc > 2 ? atoi(argv[2]) : steps - steps / 10;
    static struct box box;
    int rank, size, level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (level < MPI_THREAD_FUNNELED)
        MPI_Abort(MPI_COMM_WORLD, 1);
    box_init(&box, rank, rank == 1 ? FEW : MANY);

    MPI_Pcontrol(1); /* here: all is set up */
    for (int step = 1; step <= steps; step++) {
        double mine, sum;
        int leaving = LEAVING;

        if (step == failing && rank == 0) {
            MPI_Pcontrol(2); /* here: too many leave for rank 1 */
            leaving = 2 * LEAVING;
        }
        migrate(&box, leaving, (rank + 1) % size, (rank + size - 1) % size);
        sum_forces(&box);
        mine = move(&box);
        if (step % 100 == 0) {
            MPI_Reduce(&mine, &sum, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
            if (rank == 0) {
                printf("step %d: sum of positions %.9f\n", step, sum);
                fflush(stdout);
            }
        }
    }
    MPI_Finalize();
    return 0;
}
