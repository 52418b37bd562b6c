/*
 * halves.c - two communicators, whose members wait for each other through a third: a rank stands
 * in each of MPI's waits for one that an epoch may hold before the barrier of its half
 *
 * Each case: a barrier of a half, a message or the like between the first ranks of the halves, a
 * barrier of the half. Four ranks.
 */
#include "check.h"

static MPI_Comm half;
static int other; /* the rank in the other half that this one talks to */
static int in, out;

static void exchange(MPI_Request r[2])
{
    MPI_Irecv(&in, 1, MPI_INT, other, 1, MPI_COMM_WORLD, &r[0]);
    MPI_Isend(&out, 1, MPI_INT, other, 1, MPI_COMM_WORLD, &r[1]);
}

static void exchange_by_wait(void)
{
    MPI_Request r[2];
    exchange(r);
    MPI_Wait(&r[0], MPI_STATUS_IGNORE);
    MPI_Wait(&r[1], MPI_STATUS_IGNORE);
}

static void exchange_by_waitall(void)
{
    MPI_Request r[2];
    exchange(r);
    MPI_Waitall(2, r, MPI_STATUSES_IGNORE);
}

static void exchange_by_waitany(void)
{
    MPI_Request r[2];
    int index;
    exchange(r);
    MPI_Waitany(2, r, &index, MPI_STATUS_IGNORE);
    MPI_Waitany(2, r, &index, MPI_STATUS_IGNORE);
}

static void exchange_by_waitsome(void)
{
    MPI_Request r[2];
    int count, index[2];
    exchange(r);
    do
        MPI_Waitsome(2, r, &count, index, MPI_STATUSES_IGNORE);
    while (count != MPI_UNDEFINED);
}

static void exchange_by_persistent(void)
{
    MPI_Request r[2];
    MPI_Recv_init(&in, 1, MPI_INT, other, 2, MPI_COMM_WORLD, &r[0]);
    MPI_Send_init(&out, 1, MPI_INT, other, 2, MPI_COMM_WORLD, &r[1]);
    MPI_Startall(2, r);
    MPI_Waitall(2, r, MPI_STATUSES_IGNORE);
    MPI_Request_free(&r[0]);
    MPI_Request_free(&r[1]);
}

static void exchange_by_probe(void)
{
    MPI_Request r;
    MPI_Isend(&out, 1, MPI_INT, other, 3, MPI_COMM_WORLD, &r);
    MPI_Probe(other, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Recv(&in, 1, MPI_INT, other, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Wait(&r, MPI_STATUS_IGNORE);
}

static void exchange_by_sendrecv(void)
{
    MPI_Sendrecv(&out, 1, MPI_INT, other, 4, &in, 1, MPI_INT, other, 4, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
}

static void meet(int round, void (*exchange_values)(void))
{
    if (!half)
        MPI_Comm_split(MPI_COMM_WORLD, rank / 2, rank, &half); /* for as long as the job lives */
    other = neighbour(2);
    MPI_Barrier(half);
    out = 10 * round + rank;
    if (rank % 2 == 0) {
        exchange_values();
        CHECK(in == 10 * round + other);
    }
    MPI_Barrier(half);
}

#define CASE(way)                                                                                  \
    static void case_##way(int round)                                                              \
    {                                                                                              \
        meet(round, exchange_by_##way);                                                            \
    }
CASE(wait)
CASE(waitall)
CASE(waitany)
CASE(waitsome)
CASE(persistent)
CASE(probe)
CASE(sendrecv)

int main(int argc, char **argv)
{
    static const struct check_case cases[] = {
        {"wait", case_wait},
        {"waitall", case_waitall},
        {"waitany", case_waitany},
        {"waitsome", case_waitsome},
        {"persistent", case_persistent},
        {"probe", case_probe},
        {"sendrecv", case_sendrecv},
        {NULL, NULL},
    };
    return check_main(argc, argv, "halves", cases, 10);
}
