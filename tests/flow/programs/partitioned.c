/*
 * partitioned: sends whose parts are let go one by one, on a ring. Ranks: 2 or more.
 */
#include "check.h"

enum { LEN = 1000, PARTS = 4 };

static int out[LEN], in[LEN];

static int number(int from, int round, int i)
{
    return from * 1000003 + round * 101 + i;
}

static void fill(int round)
{
    for (int i = 0; i < LEN; i++) {
        out[i] = number(rank, round, i);
        in[i] = -1;
    }
}

static void check(int round)
{
    for (int i = 0; i < LEN; i++)
        CHECK(in[i] == number(neighbour(-1), round, i));
}

/* Four partitions of a vector, let go in another order; two rounds of the same requests. */
static void case_partitioned(int round)
{
    MPI_Request reqs[2];
    MPI_Datatype pairs;
    int there, others[2] = {2, 1};
    MPI_Type_contiguous(2, MPI_INT, &pairs);
    MPI_Type_commit(&pairs);
    MPI_Psend_init(out, PARTS, LEN / PARTS / 2, pairs, neighbour(1), 15, MPI_COMM_WORLD,
                   MPI_INFO_NULL, &reqs[0]);
    MPI_Precv_init(in, PARTS, LEN / PARTS / 2, pairs, neighbour(-1), 15, MPI_COMM_WORLD,
                   MPI_INFO_NULL, &reqs[1]);
    MPI_Type_free(&pairs);
    for (int again = 0; again < 2; again++) {
        fill(round + again);
        MPI_Startall(2, reqs);
        MPI_Pready(3, reqs[0]);
        MPI_Pready_list(2, others, reqs[0]);
        MPI_Pready_range(0, 0, reqs[0]);
        do
            MPI_Parrived(reqs[1], 2, &there);
        while (!there);
        CHECK(in[LEN / 2] == number(neighbour(-1), round + again, LEN / 2));
        MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
        check(round + again);
    }
    MPI_Request_free(&reqs[0]);
    MPI_Request_free(&reqs[1]);
}

/* Requests that live through all rounds; messages and collectives between their parts. */
static void case_kept(int round)
{
    static MPI_Request reqs[2];
    int token = rank;
    if (round == 0) {
        MPI_Precv_init(in, 2, LEN / 2, MPI_INT, neighbour(-1), 16, MPI_COMM_WORLD, MPI_INFO_NULL,
                       &reqs[1]);
        MPI_Psend_init(out, PARTS, LEN / PARTS, MPI_INT, neighbour(1), 16, MPI_COMM_WORLD,
                       MPI_INFO_NULL, &reqs[0]);
    }
    fill(round);
    MPI_Startall(2, reqs);
    MPI_Pready_range(0, 1, reqs[0]);
    MPI_Sendrecv_replace(&token, 1, MPI_INT, neighbour(1), 1, neighbour(-1), 1, MPI_COMM_WORLD,
                         MPI_STATUS_IGNORE);
    CHECK(token == neighbour(-1));
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Pready_range(2, 3, reqs[0]);
    MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
    check(round);
}

/* Several for one peer and tag, of which the two sides free others first: what is left belongs
 * together as it was made, and with what one side makes before the other. */
static void case_order(int round)
{
    MPI_Request sends[3], recvs[3];
    int first = -1, last = -1, two[2] = {number(rank, round, 1), number(rank, round, 2)};
    for (int i = 0; i < 2; i++) {
        MPI_Psend_init(i ? two : out, 1, 1, MPI_INT, neighbour(1), 17, MPI_COMM_WORLD,
                       MPI_INFO_NULL, &sends[i]);
        MPI_Precv_init(i ? &first : in, 1, 1, MPI_INT, neighbour(-1), 17, MPI_COMM_WORLD,
                       MPI_INFO_NULL, &recvs[i]);
    }
    MPI_Psend_init(two + 1, 1, 1, MPI_INT, neighbour(1), 17, MPI_COMM_WORLD, MPI_INFO_NULL,
                   &sends[2]);
    if (rank % 2)
        MPI_Request_free(&sends[0]);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank % 2 == 0)
        MPI_Request_free(&sends[0]);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Precv_init(&last, 1, 1, MPI_INT, neighbour(-1), 17, MPI_COMM_WORLD, MPI_INFO_NULL,
                   &recvs[2]);
    MPI_Startall(2, sends + 1);
    MPI_Startall(2, recvs + 1);
    MPI_Pready(0, sends[2]);
    MPI_Pready(0, sends[1]);
    MPI_Waitall(2, sends + 1, MPI_STATUSES_IGNORE);
    MPI_Waitall(2, recvs + 1, MPI_STATUSES_IGNORE);
    CHECK(first == number(neighbour(-1), round, 1) && last == number(neighbour(-1), round, 2));
    for (int i = 0; i < 3; i++) {
        if (i)
            MPI_Request_free(&sends[i]);
        MPI_Request_free(&recvs[i]);
    }
}

/* Fewer than there is room for. MPICH says that this is an error, and has the data in place. */
static void case_shorter(int round)
{
    MPI_Request reqs[2];
    MPI_Comm comm;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    MPI_Psend_init(out, 1, LEN / 2, MPI_INT, neighbour(1), 18, comm, MPI_INFO_NULL, &reqs[0]);
    MPI_Precv_init(in, 1, LEN, MPI_INT, neighbour(-1), 18, comm, MPI_INFO_NULL, &reqs[1]);
    fill(round);
    MPI_Startall(2, reqs);
    MPI_Pready(0, reqs[0]);
    MPI_Wait(&reqs[1], MPI_STATUS_IGNORE);
    MPI_Wait(&reqs[0], MPI_STATUS_IGNORE);
    for (int i = 0; i < LEN; i++)
        CHECK(in[i] == (i < LEN / 2 ? number(neighbour(-1), round, i) : -1));
    MPI_Request_free(&reqs[0]);
    MPI_Request_free(&reqs[1]);
    MPI_Comm_free(&comm);
}

static const struct check_case cases[] = {
    {"partitioned", case_partitioned},
    {"kept", case_kept},
    {"order", case_order},
    {"shorter", case_shorter},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "partitioned", cases, 20);
}
