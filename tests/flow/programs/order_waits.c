/*
 * order_waits: rank 0 waits for anybody, in one way after the other, and prints whom it got; the
 * others send when a file is there, so that a test can have an epoch in each wait. Which of them
 * comes first is left to chance.
 *
 * Usage: order_waits FOLDER. The others send to wait K, from 0, once FOLDER/K exists. Ranks: 3 on.
 */
#include "check.h"
#include <time.h>

enum { SET = 4 };

static MPI_Request request[SET];
static int value[SET];

static void post(void)
{
    for (int i = 0; i < SET; i++)
        MPI_Irecv(&value[i], 1, MPI_INT, MPI_ANY_SOURCE, i, MPI_COMM_WORLD, &request[i]);
}

static void took(int i, int source)
{
    CHECK(value[i] == source * SET + i);
    printf(" %d:%d", i, source);
}

/* What the set still holds after its first outcome. */
static void take_rest(void)
{
    MPI_Status status;
    int i;

    for (;;) {
        MPI_Waitany(SET, request, &i, &status);
        if (i == MPI_UNDEFINED)
            return;
        took(i, status.MPI_SOURCE);
    }
}

static void wait_any(void)
{
    post();
    take_rest();
}

static void wait_some(void)
{
    MPI_Status status[SET];
    int done[SET], n;

    post();
    MPI_Waitsome(SET, request, &n, done, status);
    printf(" some %d", n);
    for (int k = 0; k < n; k++)
        took(done[k], status[k].MPI_SOURCE);
    take_rest();
}

static void receive(const MPI_Status *probed)
{
    MPI_Status status;
    int i = probed ? probed->MPI_TAG : MPI_ANY_TAG;
    int source = probed ? probed->MPI_SOURCE : MPI_ANY_SOURCE, got;

    MPI_Recv(&got, 1, MPI_INT, source, i, MPI_COMM_WORLD, &status);
    value[status.MPI_TAG] = got;
    took(status.MPI_TAG, status.MPI_SOURCE);
}

static void wait_recv(void)
{
    for (int i = 0; i < SET; i++)
        receive(NULL);
}

static void wait_probe(void)
{
    MPI_Status status;

    for (int i = 0; i < SET; i++) {
        MPI_Probe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
        receive(&status);
    }
}

static void wait_mprobe(void)
{
    MPI_Message message;
    MPI_Status status;

    for (int i = 0; i < SET; i++) {
        MPI_Mprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &message, &status);
        MPI_Mrecv(&value[status.MPI_TAG], 1, MPI_INT, &message, &status);
        took(status.MPI_TAG, status.MPI_SOURCE);
    }
}

static void (*const waits[])(void) = {wait_any, wait_some, wait_recv, wait_probe, wait_mprobe};

/* Each message of a wait comes from another rank, after a pause that no two runs have in common. */
static void send(const char *folder, int k)
{
    char path[4096];
    struct timespec now;

    snprintf(path, sizeof(path), "%s/%d", folder, k);
    while (access(path, F_OK) != 0)
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    for (int i = 0; i < SET; i++) {
        if ((i + k) % (size - 1) + 1 != rank)
            continue;
        clock_gettime(CLOCK_MONOTONIC, &now);
        nanosleep(&(struct timespec){0, (now.tv_nsec ^ rank) % 8 * 1000000}, NULL);
        MPI_Send(&(int){rank * SET + i}, 1, MPI_INT, 0, i, MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(argc == 2 && size >= 3);
    for (int k = 0; k < (int)(sizeof(waits) / sizeof(waits[0])); k++) {
        if (rank == 0) {
            printf("%d:", k);
            waits[k]();
            printf("\n");
            fflush(stdout);
        } else {
            send(argv[1], k);
        }
        MPI_Barrier(MPI_COMM_WORLD);
    }
    if (rank == 0)
        printf("OK order_waits\n");
    MPI_Finalize();
    return 0;
}
