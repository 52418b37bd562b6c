/*
 * persistent: persistent requests of every mode, started singly and together, over several starts.
 * Ranks: 2 or more.
 */
#include "check.h"

enum { LEN = 500, STARTS = 5 };

static int out[LEN], in[LEN];

typedef int init_fn(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *);

static void cycle(init_fn *send_init, int together, int round)
{
    MPI_Request reqs[2];
    MPI_Status status;

    MPI_Recv_init(in, LEN, MPI_INT, neighbour(-1), 3, MPI_COMM_WORLD, &reqs[0]);
    send_init(out, LEN, MPI_INT, neighbour(1), 3, MPI_COMM_WORLD, &reqs[1]);
    for (int start = 0; start < STARTS; start++) {
        for (int i = 0; i < LEN; i++)
            out[i] = rank * 10007 + round * 31 + start * LEN + i;
        if (together) {
            MPI_Startall(2, reqs);
        } else {
            MPI_Start(&reqs[0]);
            MPI_Barrier(MPI_COMM_WORLD); /* ready mode needs the receive first */
            MPI_Start(&reqs[1]);
        }
        MPI_Wait(&reqs[1], MPI_STATUS_IGNORE);
        MPI_Wait(&reqs[0], &status);
        CHECK(reqs[0] != MPI_REQUEST_NULL && reqs[1] != MPI_REQUEST_NULL);
        CHECK(status.MPI_SOURCE == neighbour(-1) && status.MPI_TAG == 3);
        for (int i = 0; i < LEN; i++)
            CHECK(in[i] == neighbour(-1) * 10007 + round * 31 + start * LEN + i);
    }
    MPI_Request_free(&reqs[0]);
    MPI_Request_free(&reqs[1]);
}

static void case_standard(int round)
{
    cycle(MPI_Send_init, 0, round);
    cycle(MPI_Send_init, 1, round);
}

static void case_synchronous(int round)
{
    cycle(MPI_Ssend_init, 1, round);
}

static void case_ready(int round)
{
    cycle(MPI_Rsend_init, 0, round);
}

static void case_buffered(int round)
{
    int bytes = 2 * (LEN * (int)sizeof(int) + MPI_BSEND_OVERHEAD);
    void *buffer = malloc((size_t)bytes);

    CHECK(buffer);
    MPI_Buffer_attach(buffer, bytes);
    cycle(MPI_Bsend_init, 0, round);
    MPI_Buffer_detach(&buffer, &bytes);
    free(buffer);
}

/* An inactive persistent request counts as null for the calls that complete some of many. */
static void case_inactive(int round)
{
    MPI_Request req;
    MPI_Status status;
    int index, flag;

    MPI_Recv_init(in, LEN, MPI_INT, neighbour(-1), 4, MPI_COMM_WORLD, &req);
    MPI_Waitany(1, &req, &index, &status);
    CHECK(index == MPI_UNDEFINED);
    MPI_Test(&req, &flag, &status);
    CHECK(flag && status.MPI_SOURCE == MPI_ANY_SOURCE);
    MPI_Start(&req);
    MPI_Cancel(&req);
    MPI_Wait(&req, &status);
    MPI_Test_cancelled(&status, &flag);
    CHECK(flag && req != MPI_REQUEST_NULL);
    MPI_Request_free(&req);
}

/* A type may be freed while persistent requests use it, and another take its number. */
static void case_freed_type(int round)
{
    MPI_Datatype pair, other;
    MPI_Request reqs[2];

    MPI_Type_contiguous(2, MPI_INT, &pair);
    MPI_Type_commit(&pair);
    MPI_Recv_init(in, 1, pair, neighbour(-1), 5, MPI_COMM_WORLD, &reqs[0]);
    MPI_Send_init(out, 1, pair, neighbour(1), 5, MPI_COMM_WORLD, &reqs[1]);
    MPI_Type_free(&pair);
    MPI_Type_contiguous(LEN, MPI_INT, &other);
    MPI_Type_commit(&other);
    for (int start = 0; start < STARTS; start++) {
        out[0] = rank + round;
        out[1] = start;
        in[2] = -1;
        MPI_Startall(2, reqs);
        MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
        CHECK(in[0] == neighbour(-1) + round && in[1] == start && in[2] == -1);
    }
    MPI_Request_free(&reqs[0]);
    MPI_Request_free(&reqs[1]);
    MPI_Type_free(&other);
}

static const struct check_case cases[] = {
    {"standard", case_standard}, {"synchronous", case_synchronous}, {"ready", case_ready},
    {"buffered", case_buffered}, {"inactive", case_inactive},       {"freed_type", case_freed_type},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "persistent", cases, 20);
}
