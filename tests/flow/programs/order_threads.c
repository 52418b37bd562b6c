/*
 * order_threads: several threads of rank 0 receive from all other ranks at the same time
 * (MPI_THREAD_MULTIPLE), each by MPI_ANY_SOURCE in one of three ways. Which thread gets which
 * message is left to chance; rank 0 prints it. A run that dbg3 refine makes again prints the lines
 * of the run before.
 *
 * Usage: order_threads [ROUNDS]. Ranks: 2 to 8.
 */
#include "check.h"
#include <pthread.h>

enum { THREADS = 3, EACH = 12, LINE = 4096 };

struct taker {
    int index, messages;
    char line[LINE]; /* what it got, as text */
    size_t used;
};

static void note(struct taker *t, const int *message, const MPI_Status *status)
{
    CHECK(message[0] == status->MPI_SOURCE && message[0] > 0 && message[0] < size);
    t->used += (size_t)snprintf(t->line + t->used, LINE - t->used, " %d.%d", message[0],
                                message[1]);
    CHECK(t->used < LINE);
}

static void take_recv(int *message, MPI_Status *status)
{
    MPI_Recv(message, 2, MPI_INT, MPI_ANY_SOURCE, 7, MPI_COMM_WORLD, status);
}

static void take_test(int *message, MPI_Status *status)
{
    MPI_Request request;
    int flag = 0;

    MPI_Irecv(message, 2, MPI_INT, MPI_ANY_SOURCE, 7, MPI_COMM_WORLD, &request);
    while (!flag)
        MPI_Test(&request, &flag, status);
}

static void take_improbe(int *message, MPI_Status *status)
{
    MPI_Message found;
    int flag = 0;

    while (!flag)
        MPI_Improbe(MPI_ANY_SOURCE, 7, MPI_COMM_WORLD, &flag, &found, status);
    MPI_Mrecv(message, 2, MPI_INT, &found, status);
}

static void *take(void *arg)
{
    static void (*const ways[THREADS])(int *message, MPI_Status *status) = {take_recv, take_test,
                                                                           take_improbe};
    struct taker *t = arg;

    for (int i = 0; i < t->messages; i++) {
        MPI_Status status;
        int message[2];

        ways[t->index](message, &status);
        note(t, message, &status);
    }
    return NULL;
}

static void receive_all(int round)
{
    static struct taker takers[THREADS];
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){.index = i, .messages = EACH * (size - 1) / THREADS};
        CHECK(pthread_create(&threads[i], NULL, take, &takers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        printf("%d thread %d:%s\n", round, i, takers[i].line);
    }
    fflush(stdout);
}

static void send_all(void)
{
    for (int number = 0; number < EACH; number++) {
        int message[2] = {rank, number};

        MPI_Send(message, 2, MPI_INT, 0, 7, MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 5, level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(level == MPI_THREAD_MULTIPLE && size > 1 && size <= 8);
    for (int round = 0; round < rounds; round++) {
        if (rank == 0)
            receive_all(round);
        else
            send_all();
        MPI_Barrier(MPI_COMM_WORLD);
    }
    if (rank == 0)
        printf("OK order_threads\n");
    MPI_Finalize();
    return 0;
}
