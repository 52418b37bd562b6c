/*
 * general: generalized requests, alone, beside messages, and completed by another thread
 * (MPI_THREAD_MULTIPLE).
 *
 * Usage: general [ROUNDS]. Ranks: 2 or more.
 */
#include "check.h"
#include <pthread.h>

struct work {
    MPI_Request request;
    int value;
    int queries, frees, cancels;
    int polls;         /* how many more it takes */
    MPI_Request inner; /* MPI_REQUEST_NULL: none */
};

static int query(void *state, MPI_Status *status)
{
    struct work *w = state;

    w->queries++;
    status->MPI_SOURCE = 3;
    status->MPI_TAG = w->value;
    MPI_Status_set_elements(status, MPI_INT, w->value);
    MPI_Status_set_cancelled(status, w->cancels > 0);
    return MPI_SUCCESS;
}

static int release(void *state)
{
    ((struct work *)state)->frees++;
    return MPI_SUCCESS;
}

static int cancel(void *state, int complete)
{
    struct work *w = state;

    w->cancels += !complete;
    return MPI_SUCCESS;
}

static void start(struct work *w, int value)
{
    *w = (struct work){.value = value, .inner = MPI_REQUEST_NULL};
    MPI_Grequest_start(query, release, cancel, w, &w->request);
}

/* What a poll waits for: a message, or to have been asked often enough. */
static int poll(void *state, MPI_Status *status)
{
    struct work *w = state;
    int done = 1;

    if (w->polls <= 0)
        return MPI_SUCCESS; /* complete; MPICH asks all the same */
    if (w->inner != MPI_REQUEST_NULL)
        MPI_Test(&w->inner, &done, MPI_STATUS_IGNORE);
    if (done && --w->polls == 0)
        MPI_Grequest_complete(w->request);
    return MPI_SUCCESS;
}

static int wait_for(int n, void **states, double timeout, MPI_Status *status)
{
    for (int i = 0; i < n; i++)
        while (((struct work *)states[i])->polls > 0)
            poll(states[i], status);
    return MPI_SUCCESS;
}

/* MPICH's extension: requests that are asked whenever they are tested or waited for. */
static void run_polled(int round)
{
    static MPIX_Grequest_class class;
    struct work w[2];
    MPI_Request r[2];
    int in = -1, out = rank * 100 + round, flag = 0;

    if (round == 0)
        MPIX_Grequest_class_create(query, release, cancel, poll, wait_for, &class);
    w[0] = (struct work){.value = 5, .polls = 3, .inner = MPI_REQUEST_NULL};
    w[1] = (struct work){.value = 6, .polls = 1};
    MPIX_Grequest_start(query, release, cancel, poll, wait_for, &w[0], &w[0].request);
    MPIX_Grequest_class_allocate(class, &w[1], &w[1].request);
    MPI_Irecv(&in, 1, MPI_INT, neighbour(-1), 2, MPI_COMM_WORLD, &w[1].inner);
    MPI_Send(&out, 1, MPI_INT, neighbour(1), 2, MPI_COMM_WORLD);
    r[0] = w[0].request;
    r[1] = w[1].request;
    if (round % 2)
        MPI_Waitall(2, r, MPI_STATUSES_IGNORE);
    else
        while (!flag)
            MPI_Testall(2, r, &flag, MPI_STATUSES_IGNORE);
    CHECK(in == neighbour(-1) * 100 + round && w[0].polls <= 0 && w[1].polls <= 0);
    for (int i = 0; i < 2; i++)
        CHECK(r[i] == MPI_REQUEST_NULL && w[i].frees == 1);
}

static void run_alone(int round)
{
    struct work w;
    MPI_Request r;
    MPI_Status status;
    int flag, n;

    start(&w, 10 + round);
    r = w.request;
    MPI_Test(&r, &flag, &status);
    CHECK(!flag && w.queries == 0);
    MPI_Grequest_complete(w.request);
    MPI_Wait(&r, &status);
    CHECK(r == MPI_REQUEST_NULL && w.queries == 1 && w.frees == 1);
    MPI_Get_count(&status, MPI_INT, &n);
    CHECK(n == 10 + round && status.MPI_TAG == 10 + round && status.MPI_SOURCE == 3);

    start(&w, 1);
    r = w.request;
    MPI_Cancel(&r);
    CHECK(w.cancels == 1);
    MPI_Grequest_complete(w.request);
    MPI_Wait(&r, &status);
    MPI_Test_cancelled(&status, &flag);
    CHECK(flag && w.frees == 1);

    start(&w, 1);
    r = w.request;
    MPI_Request_free(&r); /* MPICH frees here already */
    MPI_Grequest_complete(w.request);
    CHECK(w.frees == 1 && w.queries == 0);
}

/* Functions that fail, and make a call of MPI that is recorded. */
static int failing(void)
{
    char text[MPI_MAX_ERROR_STRING];
    int length;

    MPI_Error_string(MPI_ERR_BUFFER, text, &length);
    return MPI_ERR_BUFFER;
}

static int query_failing(void *state, MPI_Status *status)
{
    query(state, status);
    return failing();
}

static int release_failing(void *state)
{
    release(state);
    return failing();
}

static int cancel_failing(void *state, int complete)
{
    cancel(state, complete);
    return failing();
}

static void run_failing(void)
{
    MPI_Grequest_query_function *const queries[] = {query, query_failing};
    MPI_Grequest_free_function *const frees[] = {release, release_failing};
    struct work w = {.inner = MPI_REQUEST_NULL};
    MPI_Request r;
    MPI_Status status;
    int flag, index;

    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (int i = 0; i < 12; i++) {
        int which = i % 4, failed = which ? MPI_ERR_BUFFER : MPI_SUCCESS, code;

        MPI_Grequest_start(queries[which & 1], frees[which >> 1], cancel_failing, &w, &r);
        CHECK(check_class(MPI_Cancel(&r)) == MPI_ERR_BUFFER);
        MPI_Grequest_complete(r);
        code = i / 4 == 0   ? MPI_Wait(&r, &status)
               : i / 4 == 1 ? MPI_Test(&r, &flag, &status)
                            : MPI_Waitany(1, &r, &index, &status);
        CHECK(check_class(code) == failed && r == MPI_REQUEST_NULL);
        CHECK(w.queries == i + 1 && w.frees == i + 1);
    }
    MPI_Grequest_start(query, release_failing, cancel, &w, &r);
    MPI_Grequest_complete(r);
    CHECK(check_class(MPI_Request_free(&r)) == MPI_ERR_BUFFER);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
}

static void *complete_later(void *arg)
{
    struct work *w = arg;
    int other;

    MPI_Comm_size(MPI_COMM_WORLD, &other);
    MPI_Grequest_complete(w->request);
    return NULL;
}

static void run_among_others(int round)
{
    struct work w;
    MPI_Request r[3];
    MPI_Status statuses[3];
    pthread_t thread;
    int in = -1, out = rank * 100 + round, index;

    start(&w, round);
    r[0] = w.request;
    MPI_Irecv(&in, 1, MPI_INT, neighbour(-1), 1, MPI_COMM_WORLD, &r[1]);
    MPI_Isend(&out, 1, MPI_INT, neighbour(1), 1, MPI_COMM_WORLD, &r[2]);
    CHECK(pthread_create(&thread, NULL, complete_later, &w) == 0);
    if (round % 2) {
        MPI_Waitall(3, r, statuses);
        CHECK(statuses[0].MPI_TAG == round);
    } else {
        for (int i = 0; i < 3; i++)
            MPI_Waitany(3, r, &index, &statuses[0]);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(w.frees == 1 && w.queries == 1);
    CHECK(in == neighbour(-1) * 100 + round);
}

int main(int argc, char **argv)
{
    int level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(level == MPI_THREAD_MULTIPLE);
    const char *rounds = argc > 1 ? argv[1] : "20";
    for (int round = 0; check_more(rounds, round); round++) {
        run_alone(round);
        run_polled(round);
        run_failing();
        run_among_others(round);
        MPI_Barrier(MPI_COMM_WORLD);
    }
    if (rank == 0)
        printf("OK general\n");
    MPI_Finalize();
    return 0;
}
