/*
 * multiple: every thread speaks MPI itself (MPI_THREAD_MULTIPLE), on a communicator of its own.
 *
 * Usage: multiple [ROUNDS [main]]. Ranks: 2 or more. With "main" the main thread does so, too: then
 * it comes to fine checkpoints while others are in collective calls.
 */
#include "check.h"
#include <pthread.h>

enum { THREADS = 3, LEN = 200 };

struct lane {
    MPI_Comm comm;
    int rounds;
    long sum;
};

static void *run_lane(void *arg)
{
    struct lane *lane = arg;
    long out[LEN], in[LEN], all;

    for (int round = 0; round < lane->rounds; round++) {
        MPI_Request req;
        MPI_Comm copy;

        for (int i = 0; i < LEN; i++)
            out[i] = rank * 1000 + i + round + lane->sum % 7;
        MPI_Irecv(in, LEN, MPI_LONG, neighbour(-1), round % 5, lane->comm, &req);
        MPI_Send(out, LEN, MPI_LONG, neighbour(1), round % 5, lane->comm);
        MPI_Wait(&req, MPI_STATUS_IGNORE);
        for (int i = 0; i < LEN; i++)
            CHECK(in[i] == neighbour(-1) * 1000 + i + round + lane->sum % 7);
        MPI_Allreduce(&in[LEN - 1], &all, 1, MPI_LONG, MPI_SUM, lane->comm);
        lane->sum += all;
        MPI_Comm_dup(lane->comm, &copy);
        MPI_Comm_free(&copy);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 200, level;
    int first = argc > 2 && strcmp(argv[2], "main") == 0 ? 1 : 0;
    struct lane lanes[THREADS];
    pthread_t threads[THREADS];

    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(level == MPI_THREAD_MULTIPLE);
    for (int i = 0; i < THREADS; i++) {
        lanes[i] = (struct lane){.rounds = rounds};
        MPI_Comm_dup(MPI_COMM_WORLD, &lanes[i].comm);
        if (i >= first)
            CHECK(pthread_create(&threads[i], NULL, run_lane, &lanes[i]) == 0);
    }
    if (first)
        run_lane(&lanes[0]);
    for (int i = 0; i < THREADS; i++) {
        if (i >= first)
            CHECK(pthread_join(threads[i], NULL) == 0);
        MPI_Comm_free(&lanes[i].comm);
        CHECK(lanes[i].sum == lanes[0].sum);
    }
    if (rank == 0)
        printf("sum %ld\nOK multiple\n", lanes[0].sum);
    MPI_Finalize();
    return 0;
}
