/*
 * synchronous: so many synchronous sends at once that their receivers' answers find no room in the
 * library's queues. An epoch that falls between them completes them all the same.
 *
 * Usage: synchronous [ROUNDS [CASE]]. At least two ranks.
 */
#include "check.h"

enum { MANY = 1000 };

static MPI_Request requests[2 * MANY];
static int out[MANY], in[MANY];

/* From even to odd ranks: those who receive have nothing else to wait for. */
static void case_one_way(int round)
{
    bool sends = rank % 2 == 0;
    int peer = sends ? rank + 1 : rank - 1;
    if (peer < size)
        for (int i = 0; i < MANY; i++) {
            out[i] = round * MANY + i;
            if (sends)
                MPI_Issend(&out[i], 1, MPI_INT, peer, i, MPI_COMM_WORLD, &requests[i]);
            else
                MPI_Irecv(&in[i], 1, MPI_INT, peer, i, MPI_COMM_WORLD, &requests[i]);
        }
    MPI_Waitall(peer < size ? MANY : 0, requests, MPI_STATUSES_IGNORE);
    for (int i = 0; i < MANY; i++)
        CHECK(sends || in[i] == round * MANY + i);
    MPI_Barrier(MPI_COMM_WORLD);
}

static void case_around(int round)
{
    for (int i = 0; i < MANY; i++) {
        out[i] = round * MANY + i;
        MPI_Issend(&out[i], 1, MPI_INT, neighbour(1), i, MPI_COMM_WORLD, &requests[2 * i]);
        MPI_Irecv(&in[i], 1, MPI_INT, neighbour(-1), i, MPI_COMM_WORLD, &requests[2 * i + 1]);
    }
    MPI_Waitall(2 * MANY, requests, MPI_STATUSES_IGNORE);
    for (int i = 0; i < MANY; i++)
        CHECK(in[i] == round * MANY + i);
}

int main(int argc, char **argv)
{
    static const struct check_case cases[] = {
        {"one_way", case_one_way},
        {"around", case_around},
        {NULL, NULL},
    };
    return check_main(argc, argv, "synchronous", cases, 10);
}
