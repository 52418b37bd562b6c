/*
 * p2p_all: every point-to-point call but persistent ones, and every way to complete or probe, on a
 * ring; each case checks data, envelope and counts. Ranks: 2 or more.
 */
#include "check.h"

enum { LEN = 1000, LONG_LEN = 100000, MANY = 6 };

static int out[LONG_LEN], in[LONG_LEN];

static void fill(int *data, int n, int from, int round)
{
    for (int i = 0; i < n; i++)
        data[i] = from * 1000003 + round * 101 + i;
}

static void check_data(const int *data, int n, int from, int round)
{
    for (int i = 0; i < n; i++)
        CHECK(data[i] == from * 1000003 + round * 101 + i);
}

static void check_status(const MPI_Status *status, int source, int tag, int n)
{
    int count;
    MPI_Count elements;

    CHECK(status->MPI_SOURCE == source);
    CHECK(status->MPI_TAG == tag);
    MPI_Get_count(status, MPI_INT, &count);
    CHECK(count == n);
    MPI_Get_elements(status, MPI_INT, &count);
    CHECK(count == n);
    MPI_Get_elements_x(status, MPI_INT, &elements);
    CHECK(elements == n);
}

static void set_up(int n, int round)
{
    fill(out, n, rank, round);
    memset(in, 0xff, (size_t)n * sizeof(int));
}

typedef int send_fn(const void *, int, MPI_Datatype, int, int, MPI_Comm);
typedef int isend_fn(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *);

/* A blocking send meets a posted receive, so no mode can deadlock, not even ready mode. */
static void blocking_send(send_fn *send, int n, int round)
{
    MPI_Request req;
    MPI_Status status;

    set_up(n, round);
    MPI_Irecv(in, n, MPI_INT, neighbour(-1), 7, MPI_COMM_WORLD, &req);
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(send(out, n, MPI_INT, neighbour(1), 7, MPI_COMM_WORLD) == MPI_SUCCESS);
    MPI_Wait(&req, &status);
    CHECK(req == MPI_REQUEST_NULL);
    check_status(&status, neighbour(-1), 7, n);
    check_data(in, n, neighbour(-1), round);
}

static void case_send(int round)
{
    blocking_send(MPI_Send, LEN, round);
    blocking_send(MPI_Send, LONG_LEN, round);
}

static void case_ssend(int round)
{
    blocking_send(MPI_Ssend, LEN, round);
    blocking_send(MPI_Ssend, LONG_LEN, round);
}

static void case_rsend(int round)
{
    blocking_send(MPI_Rsend, LEN, round);
    blocking_send(MPI_Rsend, LONG_LEN, round);
}

static void case_bsend(int round)
{
    int bytes = 2 * (LEN * (int)sizeof(int) + MPI_BSEND_OVERHEAD);
    void *buffer = malloc((size_t)bytes), *detached;
    MPI_Request req;
    int detached_bytes;

    CHECK(buffer);
    MPI_Buffer_attach(buffer, bytes);
    blocking_send(MPI_Bsend, LEN, round);
    set_up(LEN, round);
    MPI_Ibsend(out, LEN, MPI_INT, neighbour(1), 8, MPI_COMM_WORLD, &req);
    MPI_Wait(&req, MPI_STATUS_IGNORE);
    MPI_Recv(in, LEN, MPI_INT, neighbour(-1), 8, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    check_data(in, LEN, neighbour(-1), round);
    MPI_Buffer_detach(&detached, &detached_bytes);
    CHECK(detached == buffer && detached_bytes == bytes);
    free(buffer);
}

/* Its message is on its way from a copy, which no one waits for. */
static void case_isendrecv(int round)
{
    MPI_Request req;
    for (int n = LEN; n <= LONG_LEN; n += LONG_LEN - LEN) {
        set_up(n, round);
        MPI_Isendrecv(out, n, MPI_INT, neighbour(1), 14, in, n, MPI_INT, neighbour(-1), 14,
                      MPI_COMM_WORLD, &req);
        MPI_Wait(&req, MPI_STATUS_IGNORE);
        check_data(in, n, neighbour(-1), round);
    }
}

static void nonblocking_send(isend_fn *isend, int n, int round)
{
    MPI_Request reqs[2];
    MPI_Status statuses[2];

    set_up(n, round);
    MPI_Irecv(in, n, MPI_INT, neighbour(-1), 9, MPI_COMM_WORLD, &reqs[0]);
    MPI_Barrier(MPI_COMM_WORLD);
    isend(out, n, MPI_INT, neighbour(1), 9, MPI_COMM_WORLD, &reqs[1]);
    MPI_Waitall(2, reqs, statuses);
    CHECK(reqs[0] == MPI_REQUEST_NULL && reqs[1] == MPI_REQUEST_NULL);
    check_status(&statuses[0], neighbour(-1), 9, n);
    check_data(in, n, neighbour(-1), round);
}

static void case_isend(int round)
{
    isend_fn *sends[] = {MPI_Isend, MPI_Issend, MPI_Irsend};

    for (int i = 0; i < 3; i++) {
        nonblocking_send(sends[i], LEN, round);
        nonblocking_send(sends[i], LONG_LEN, round);
    }
}

/* The receive is longer than the message, and comes after it. */
static void case_recv_unexpected(int round)
{
    MPI_Request req;
    MPI_Status status;

    set_up(LEN, round);
    MPI_Isend(out, LEN - 1, MPI_INT, neighbour(1), 10, MPI_COMM_WORLD, &req);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Recv(in, LEN, MPI_INT, neighbour(-1), MPI_ANY_TAG, MPI_COMM_WORLD, &status);
    check_status(&status, neighbour(-1), 10, LEN - 1);
    check_data(in, LEN - 1, neighbour(-1), round);
    CHECK(in[LEN - 1] == -1);
    MPI_Wait(&req, MPI_STATUS_IGNORE);
}

/* Two messages of one sender with one tag stay in order; another tag may overtake. */
static void case_order(int round)
{
    MPI_Request reqs[3];
    int send[3] = {1, 2, 3}, got[3] = {0, 0, 0};

    for (int i = 0; i < 3; i++)
        MPI_Isend(&send[i], 1, MPI_INT, neighbour(1), i == 1 ? 12 : 11, MPI_COMM_WORLD, &reqs[i]);
    MPI_Recv(&got[1], 1, MPI_INT, neighbour(-1), 12, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Recv(&got[0], 1, MPI_INT, neighbour(-1), 11, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Recv(&got[2], 1, MPI_INT, neighbour(-1), 11, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(got[0] == 1 && got[1] == 2 && got[2] == 3);
    MPI_Waitall(3, reqs, MPI_STATUSES_IGNORE);
}

/* Every rank but 0 sends to 0, which sums what came and from whom. */
static void case_any_source(int round)
{
    int value = rank * 10 + round, sources = 0;
    long sum = 0, expected = 0;

    if (rank > 0) {
        MPI_Send(&value, 1, MPI_INT, 0, 13, MPI_COMM_WORLD);
    } else {
        for (int i = 1; i < size; i++) {
            MPI_Status status;

            MPI_Recv(&value, 1, MPI_INT, MPI_ANY_SOURCE, 13, MPI_COMM_WORLD, &status);
            CHECK(value == status.MPI_SOURCE * 10 + round);
            sources |= 1 << status.MPI_SOURCE;
            sum += value;
            expected += i * 10 + round;
        }
        CHECK(sources == (1 << size) - 2 && sum == expected);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

static void case_probe(int round)
{
    MPI_Request req;
    MPI_Status status;
    int flag = 0;

    set_up(LEN, round);
    MPI_Isend(out, LEN, MPI_INT, neighbour(1), 14, MPI_COMM_WORLD, &req);
    MPI_Probe(neighbour(-1), 14, MPI_COMM_WORLD, &status);
    check_status(&status, neighbour(-1), 14, LEN);
    MPI_Iprobe(neighbour(-1), 14, MPI_COMM_WORLD, &flag, &status);
    CHECK(flag);
    MPI_Iprobe(neighbour(-1), 15, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
    CHECK(!flag);
    MPI_Recv(in, LEN, MPI_INT, neighbour(-1), 14, MPI_COMM_WORLD, &status);
    check_data(in, LEN, neighbour(-1), round);
    MPI_Wait(&req, MPI_STATUS_IGNORE);

    MPI_Isend(out, 3, MPI_INT, neighbour(1), 16, MPI_COMM_WORLD, &req);
    do
        MPI_Iprobe(MPI_ANY_SOURCE, 16, MPI_COMM_WORLD, &flag, &status);
    while (!flag);
    check_status(&status, neighbour(-1), 16, 3);
    MPI_Recv(in, 3, MPI_INT, status.MPI_SOURCE, status.MPI_TAG, MPI_COMM_WORLD, &status);
    MPI_Wait(&req, MPI_STATUS_IGNORE);
}

static void case_mprobe(int round)
{
    MPI_Request reqs[2];
    MPI_Message message;
    MPI_Status status;
    int flag = 0;

    set_up(LEN, round);
    MPI_Isend(out, LEN, MPI_INT, neighbour(1), 17, MPI_COMM_WORLD, &reqs[0]);
    MPI_Mprobe(neighbour(-1), 17, MPI_COMM_WORLD, &message, &status);
    check_status(&status, neighbour(-1), 17, LEN);
    MPI_Iprobe(neighbour(-1), 17, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
    CHECK(!flag); /* the probed message is taken out of matching */
    MPI_Mrecv(in, LEN, MPI_INT, &message, &status);
    CHECK(message == MPI_MESSAGE_NULL);
    check_status(&status, neighbour(-1), 17, LEN);
    check_data(in, LEN, neighbour(-1), round);
    MPI_Wait(&reqs[0], MPI_STATUS_IGNORE);

    MPI_Isend(out, LONG_LEN, MPI_INT, neighbour(1), 18, MPI_COMM_WORLD, &reqs[0]);
    do
        MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &flag, &message, &status);
    while (!flag);
    check_status(&status, neighbour(-1), 18, LONG_LEN);
    MPI_Imrecv(in, LONG_LEN, MPI_INT, &message, &reqs[1]);
    CHECK(message == MPI_MESSAGE_NULL);
    MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
    check_data(in, LEN, neighbour(-1), round);
}

static void case_sendrecv(int round)
{
    MPI_Status status;

    set_up(LONG_LEN, round);
    MPI_Sendrecv(out, LONG_LEN, MPI_INT, neighbour(1), 19, in, LONG_LEN, MPI_INT, neighbour(-1), 19,
                 MPI_COMM_WORLD, &status);
    check_status(&status, neighbour(-1), 19, LONG_LEN);
    check_data(in, LONG_LEN, neighbour(-1), round);
    MPI_Sendrecv_replace(out, LEN, MPI_INT, neighbour(-1), 20, neighbour(1), 20, MPI_COMM_WORLD,
                         &status);
    check_status(&status, neighbour(1), 20, LEN);
    check_data(out, LEN, neighbour(1), round);
}

static void case_proc_null(int round)
{
    MPI_Request reqs[2];
    MPI_Status status;
    int flag;

    set_up(LEN, round);
    MPI_Send(out, LEN, MPI_INT, MPI_PROC_NULL, 0, MPI_COMM_WORLD);
    MPI_Recv(in, LEN, MPI_INT, MPI_PROC_NULL, 0, MPI_COMM_WORLD, &status);
    check_status(&status, MPI_PROC_NULL, MPI_ANY_TAG, 0);
    MPI_Sendrecv(out, LEN, MPI_INT, MPI_PROC_NULL, 0, in, LEN, MPI_INT, MPI_PROC_NULL, 0,
                 MPI_COMM_WORLD, &status);
    check_status(&status, MPI_PROC_NULL, MPI_ANY_TAG, 0);
    CHECK(in[0] == -1);
    MPI_Isend(out, LEN, MPI_INT, MPI_PROC_NULL, 0, MPI_COMM_WORLD, &reqs[0]);
    MPI_Irecv(in, LEN, MPI_INT, MPI_PROC_NULL, 0, MPI_COMM_WORLD, &reqs[1]);
    MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
    MPI_Iprobe(MPI_PROC_NULL, 0, MPI_COMM_WORLD, &flag, &status);
    CHECK(flag && status.MPI_SOURCE == MPI_PROC_NULL);
}

static void case_cancel(int round)
{
    MPI_Request req;
    MPI_Status status;
    int cancelled, flag;

    MPI_Irecv(in, LEN, MPI_INT, neighbour(-1), 21, MPI_COMM_WORLD, &req);
    MPI_Cancel(&req);
    MPI_Wait(&req, &status);
    MPI_Test_cancelled(&status, &cancelled);
    CHECK(cancelled && req == MPI_REQUEST_NULL);

    /* A receive that is not cancelled says so; one that is never matched can be tested. */
    set_up(LEN, round);
    MPI_Irecv(in, LEN, MPI_INT, neighbour(-1), 22, MPI_COMM_WORLD, &req);
    MPI_Test(&req, &flag, &status);
    MPI_Send(out, LEN, MPI_INT, neighbour(1), 22, MPI_COMM_WORLD);
    if (!flag)
        MPI_Wait(&req, &status);
    MPI_Test_cancelled(&status, &cancelled);
    CHECK(!cancelled);
    check_data(in, LEN, neighbour(-1), round);
}

static void case_request_free(int round)
{
    MPI_Request req;

    set_up(LEN, round);
    MPI_Isend(out, LEN, MPI_INT, neighbour(1), 23, MPI_COMM_WORLD, &req);
    MPI_Request_free(&req);
    CHECK(req == MPI_REQUEST_NULL);
    MPI_Recv(in, LEN, MPI_INT, neighbour(-1), 23, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    check_data(in, LEN, neighbour(-1), round);
    MPI_Barrier(MPI_COMM_WORLD); /* the freed send has arrived: `out` may be used again */
}

static void case_get_status(int round)
{
    MPI_Request req;
    MPI_Status status;
    int flag = 0;

    set_up(LEN, round);
    MPI_Irecv(in, LEN, MPI_INT, neighbour(-1), 24, MPI_COMM_WORLD, &req);
    MPI_Request_get_status(req, &flag, &status);
    MPI_Send(out, LEN, MPI_INT, neighbour(1), 24, MPI_COMM_WORLD);
    while (!flag)
        MPI_Request_get_status(req, &flag, &status);
    check_status(&status, neighbour(-1), 24, LEN);
    CHECK(req != MPI_REQUEST_NULL);
    MPI_Wait(&req, &status);
    check_status(&status, neighbour(-1), 24, LEN);
    check_data(in, LEN, neighbour(-1), round);
}

/* MANY short messages from the last rank, tag 30 + i, into in[i]; sent in another order. */
static void post_many(MPI_Request *reqs, int round)
{
    static int values[MANY];

    memset(in, 0xff, MANY * sizeof(int));
    for (int i = 0; i < MANY; i++)
        MPI_Irecv(&in[i], 1, MPI_INT, neighbour(-1), 30 + i, MPI_COMM_WORLD, &reqs[i]);
    for (int i = 0; i < MANY; i++) {
        values[i] = rank * 1000 + i + round;
        MPI_Send(&values[i], 1, MPI_INT, neighbour(1), 30 + (i * 5 + 2) % MANY, MPI_COMM_WORLD);
    }
}

static void check_one(int index, const MPI_Status *status)
{
    check_status(status, neighbour(-1), 30 + index, 1);
    CHECK(in[index] >= neighbour(-1) * 1000);
}

static void check_all(const MPI_Request *reqs, int done, int round)
{
    CHECK(done == MANY);
    for (int i = 0; i < MANY; i++) {
        CHECK(reqs[i] == MPI_REQUEST_NULL);
        CHECK(in[(i * 5 + 2) % MANY] == neighbour(-1) * 1000 + i + round);
    }
}

static void case_waitany(int round)
{
    MPI_Request reqs[MANY];
    MPI_Status status;
    int index, done = 0;

    post_many(reqs, round);
    for (;;) {
        MPI_Waitany(MANY, reqs, &index, &status);
        if (index == MPI_UNDEFINED)
            break;
        check_one(index, &status);
        done++;
    }
    check_all(reqs, done, round);
}

static void case_testany(int round)
{
    MPI_Request reqs[MANY];
    MPI_Status status;
    int index, flag, done = 0;

    post_many(reqs, round);
    for (;;) {
        MPI_Testany(MANY, reqs, &index, &flag, &status);
        if (flag && index == MPI_UNDEFINED)
            break;
        if (flag) {
            check_one(index, &status);
            done++;
        }
    }
    check_all(reqs, done, round);
}

static void some(int (*complete)(int, MPI_Request *, int *, int *, MPI_Status *), int round)
{
    MPI_Request reqs[MANY];
    MPI_Status statuses[MANY];
    int indices[MANY], count, done = 0;

    post_many(reqs, round);
    for (;;) {
        complete(MANY, reqs, &count, indices, statuses);
        if (count == MPI_UNDEFINED)
            break;
        for (int i = 0; i < count; i++)
            check_one(indices[i], &statuses[i]);
        done += count;
    }
    check_all(reqs, done, round);
}

static int waitsome(int n, MPI_Request *reqs, int *count, int *indices, MPI_Status *statuses)
{
    return MPI_Waitsome(n, reqs, count, indices, statuses);
}

static int testsome(int n, MPI_Request *reqs, int *count, int *indices, MPI_Status *statuses)
{
    return MPI_Testsome(n, reqs, count, indices, statuses);
}

static void case_waitsome(int round)
{
    some(waitsome, round);
}

static void case_testsome(int round)
{
    some(testsome, round);
}

static void case_testall(int round)
{
    MPI_Request reqs[MANY];
    MPI_Status statuses[MANY];
    int flag = 0;

    post_many(reqs, round);
    while (!flag)
        MPI_Testall(MANY, reqs, &flag, statuses);
    for (int i = 0; i < MANY; i++)
        check_one(i, &statuses[i]);
    check_all(reqs, MANY, round);
    MPI_Testall(MANY, reqs, &flag, MPI_STATUSES_IGNORE);
    CHECK(flag);
}

static void case_test(int round)
{
    MPI_Request req;
    MPI_Status status;
    int flag = 0;

    set_up(LONG_LEN, round);
    MPI_Irecv(in, LONG_LEN, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &req);
    MPI_Request send;
    MPI_Issend(out, LONG_LEN, MPI_INT, neighbour(1), 25, MPI_COMM_WORLD, &send);
    while (!flag)
        MPI_Test(&req, &flag, &status);
    check_status(&status, neighbour(-1), 25, LONG_LEN);
    check_data(in, LONG_LEN, neighbour(-1), round);
    MPI_Wait(&send, MPI_STATUS_IGNORE);
    MPI_Test(&req, &flag, &status);
    CHECK(flag && status.MPI_SOURCE == MPI_ANY_SOURCE); /* the empty status of a null request */
    MPI_Barrier(MPI_COMM_WORLD); /* no later message may meet this wildcard receive */
}

static void case_self(int round)
{
    MPI_Request req;
    MPI_Status status;

    set_up(LEN, round);
    MPI_Irecv(in, LEN, MPI_INT, 0, 26, MPI_COMM_SELF, &req);
    MPI_Send(out, LEN, MPI_INT, 0, 26, MPI_COMM_SELF);
    MPI_Wait(&req, &status);
    check_status(&status, 0, 26, LEN);
    check_data(in, LEN, rank, round);
}

/* To oneself, beside the messages of others: order, wildcards, types with gaps, too little room. */
static void case_self_order(int round)
{
    MPI_Datatype odd;
    MPI_Request reqs[4];
    MPI_Status status[4];
    int first[4] = {0};

    set_up(LEN, round);
    MPI_Type_vector(LEN / 2, 1, 2, MPI_INT, &odd);
    MPI_Type_commit(&odd);
    MPI_Irecv(&first[0], 1, MPI_INT, MPI_ANY_SOURCE, 27, MPI_COMM_WORLD, &reqs[0]);
    MPI_Irecv(in + 1, 1, odd, rank, 28, MPI_COMM_WORLD, &reqs[1]);
    MPI_Type_free(&odd);
    MPI_Irecv(&first[1], 1, MPI_INT, rank, 27, MPI_COMM_WORLD, &reqs[2]);
    MPI_Send(out, LEN / 2, MPI_INT, rank, 28, MPI_COMM_WORLD);
    MPI_Send(&out[1], 1, MPI_INT, rank, 27, MPI_COMM_WORLD);
    MPI_Isend(&out[2], 1, MPI_INT, rank, 27, MPI_COMM_WORLD, &reqs[3]);
    MPI_Waitall(4, reqs, status);
    check_status(&status[0], rank, 27, 1);
    check_status(&status[1], rank, 28, LEN / 2);
    check_status(&status[2], rank, 27, 1);
    CHECK(first[0] == out[1] && first[1] == out[2]);
    for (int i = 0; i < LEN / 2; i++)
        CHECK(in[2 * i + 1] == out[i] && in[2 * i] == -1);

    /* a message that waits unexpected is not overtaken by a later one */
    MPI_Isend(&out[3], 1, MPI_INT, rank, 29, MPI_COMM_WORLD, &reqs[0]);
    MPI_Irecv(&first[2], 1, MPI_INT, rank, 29, MPI_COMM_WORLD, &reqs[1]);
    MPI_Irecv(&first[3], 1, MPI_INT, MPI_ANY_SOURCE, 29, MPI_COMM_WORLD, &reqs[2]);
    MPI_Isend(&out[4], 1, MPI_INT, rank, 29, MPI_COMM_WORLD, &reqs[3]);
    MPI_Waitall(4, reqs, MPI_STATUSES_IGNORE);
    CHECK(first[2] == out[3] && first[3] == out[4]);

    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Irecv(in, 1, MPI_INT, rank, 30, MPI_COMM_WORLD, &reqs[0]);
    MPI_Send(out, 2, MPI_INT, rank, 30, MPI_COMM_WORLD);
    int error = MPI_Wait(&reqs[0], status), class;
    MPI_Error_class(error, &class);
    CHECK(class == MPI_ERR_TRUNCATE);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
}

struct holey {
    char kind;
    double value;
    char last;
};

static __attribute__((noinline)) void send_holey(int round, int n)
{
    struct holey some[20];
    char unread[sizeof some];
    for (int i = 0; i < n; i++) {
        some[i].kind = (char)i;
        some[i].value = round;
        some[i].last = 'x';
    }
    MPI_Sendrecv(some, n * (int)sizeof *some, MPI_BYTE, neighbour(1), 26, unread, sizeof unread,
                 MPI_BYTE, neighbour(-1), 26, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(((struct holey *)unread)[n - 1].last == 'x');
}

/* The holes of what is sent were never written by this program: they hold what calls before have
 * left on the stack. */
static void case_holes(int round)
{
    int flag;
    send_holey(round, 20);
    MPI_Barrier(MPI_COMM_WORLD);
    send_holey(round, 20);
    MPI_Iprobe(MPI_ANY_SOURCE, 27, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
    MPI_Wtime();
    send_holey(round, 7);
}

static const struct check_case cases[] = {
    {"send", case_send},
    {"ssend", case_ssend},
    {"rsend", case_rsend},
    {"bsend", case_bsend},
    {"isend", case_isend},
    {"recv_unexpected", case_recv_unexpected},
    {"order", case_order},
    {"any_source", case_any_source},
    {"probe", case_probe},
    {"mprobe", case_mprobe},
    {"sendrecv", case_sendrecv},
    {"isendrecv", case_isendrecv},
    {"proc_null", case_proc_null},
    {"cancel", case_cancel},
    {"request_free", case_request_free},
    {"get_status", case_get_status},
    {"waitany", case_waitany},
    {"testany", case_testany},
    {"waitsome", case_waitsome},
    {"testsome", case_testsome},
    {"testall", case_testall},
    {"test", case_test},
    {"self", case_self},
    {"self_order", case_self_order},
    {"holes", case_holes},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "p2p_all", cases, 20);
}
