/*
 * partitioned: sends whose parts are let go one by one, on a ring. Ranks: 2 or more.
 */
#include "check.h"

enum { LEN = 1000 };

static int out[LEN], in[LEN];

static int number(int from, int round, int i)
{
    return from * 1000003 + round * 101 + i;
}

/* Four partitions of a vector, let go in another order; two rounds of the same requests. */
static void case_partitioned(int round)
{
    enum { PARTS = 4 };
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
        for (int i = 0; i < LEN; i++) {
            out[i] = number(rank, round + again, i);
            in[i] = -1;
        }
        MPI_Startall(2, reqs);
        MPI_Pready(3, reqs[0]);
        MPI_Pready_list(2, others, reqs[0]);
        MPI_Pready_range(0, 0, reqs[0]);
        do
            MPI_Parrived(reqs[1], 2, &there);
        while (!there);
        CHECK(in[LEN / 2] == number(neighbour(-1), round + again, LEN / 2));
        MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
        for (int i = 0; i < LEN; i++)
            CHECK(in[i] == number(neighbour(-1), round + again, i));
    }
    MPI_Request_free(&reqs[0]);
    MPI_Request_free(&reqs[1]);
}

static const struct check_case cases[] = {
    {"partitioned", case_partitioned},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "partitioned", cases, 20);
}
