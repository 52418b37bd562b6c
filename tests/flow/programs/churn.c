/*
 * churn: threads that make and free communicators and persistent collectives without end
 * (MPI_THREAD_MULTIPLE), while others are alive. What dbg3 keeps of them does not grow.
 *
 * Usage: churn [ROUNDS]. Ranks: 2 or more.
 */
#include "check.h"
#include <pthread.h>

enum { THREADS = 2, ALIVE = 100 };

/* Where dbg3 has the memory of its own that is saved: msgcounter/stub/alloc.c. */
#define APART     0x300000000000ul
#define APART_END 0x500000000000ul

static int rounds;
static pthread_barrier_t half;
static long grown; /* bytes, in the second half of the rounds */

static long kept(void)
{
    long sum = 0;
    unsigned long start, end;
    char line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start >= APART && end <= APART_END)
            sum += (long)(end - start);
    if (f)
        fclose(f);
    return sum;
}

static void churn(MPI_Comm comm, int n)
{
    for (int round = 0; round < n; round++) {
        MPI_Comm copy;
        MPI_Request barrier;
        int all = -1;
        MPI_Comm_dup(comm, &copy);
        MPI_Allreduce(&round, &all, 1, MPI_INT, MPI_MAX, copy);
        CHECK(all == round);
        MPI_Barrier_init(copy, MPI_INFO_NULL, &barrier);
        MPI_Start(&barrier);
        MPI_Wait(&barrier, MPI_STATUS_IGNORE);
        MPI_Request_free(&barrier);
        MPI_Comm_free(&copy);
    }
}

static void *run(void *arg)
{
    MPI_Comm *comm = arg, alive[ALIVE];
    for (int i = 0; i < ALIVE; i++)
        MPI_Comm_dup(*comm, &alive[i]);
    churn(*comm, rounds / 2);
    if (pthread_barrier_wait(&half) == PTHREAD_BARRIER_SERIAL_THREAD)
        grown = -kept();
    pthread_barrier_wait(&half);
    churn(*comm, rounds / 2);
    if (pthread_barrier_wait(&half) == PTHREAD_BARRIER_SERIAL_THREAD)
        grown += kept();
    for (int i = 0; i < ALIVE; i++)
        MPI_Comm_free(&alive[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    int level;
    MPI_Comm comm[THREADS];
    pthread_t threads[THREADS];
    rounds = argc > 1 ? atoi(argv[1]) : 2000;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(level == MPI_THREAD_MULTIPLE);
    pthread_barrier_init(&half, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        MPI_Comm_dup(MPI_COMM_WORLD, &comm[i]);
        CHECK(pthread_create(&threads[i], NULL, run, &comm[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        MPI_Comm_free(&comm[i]);
    }
    if (grown)
        fprintf(stderr, "rank %d: %ld bytes more\n", rank, grown);
    CHECK(grown == 0);
    if (rank == 0)
        printf("OK churn\n");
    MPI_Finalize();
    return 0;
}
