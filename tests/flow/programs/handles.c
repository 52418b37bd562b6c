/*
 * handles: threads make and free handles of each kind at the same time, so that they get each
 * other's ids again and again (MPI_THREAD_MULTIPLE), and all set what MPI_COMM_SELF keeps. They
 * send some ids, for a recording to compare.
 *
 * Usage: handles [ROUNDS]. Ranks: 1 or more.
 */
#include "check.h"
#include <pthread.h>

enum { THREADS = 4 };

static int rounds = 20;
static MPI_Comm selves[THREADS];

static int copy_value(MPI_Comm from, int keyval, void *extra, void *value, void *out, int *flag)
{
    *(void **)out = (char *)value + 1;
    *flag = 1;
    return MPI_SUCCESS;
}

static void fail_softly(MPI_Comm *comm, int *code, ...)
{
    *code = MPI_SUCCESS;
}

static void add(void *in, void *inout, int *len, MPI_Datatype *type)
{
    for (int i = 0; i < *len; i++)
        ((long *)inout)[i] += ((long *)in)[i];
}

static void communicators(MPI_Comm self)
{
    MPI_Comm copy, part, later;
    MPI_Request req;
    MPI_Errhandler handler;
    int keyval, has, ids[2], same[2];
    void *value;

    MPI_Comm_create_keyval(copy_value, MPI_COMM_NULL_DELETE_FN, &keyval, NULL);
    ids[0] = keyval;
    MPI_Comm_set_attr(self, keyval, (char *)1);
    MPI_Comm_dup(self, &copy);
    MPI_Comm_get_attr(copy, keyval, &value, &has);
    CHECK(has && value == (char *)2);
    MPI_Comm_delete_attr(self, keyval);
    MPI_Comm_free_keyval(&keyval);
    MPI_Comm_split(copy, 0, 0, &part);
    MPI_Comm_idup(part, &later, &req);
    MPI_Wait(&req, MPI_STATUS_IGNORE);
    MPI_Comm_free(&copy);
    MPI_Comm_create_errhandler(fail_softly, &handler);
    MPI_Comm_set_errhandler(later, handler);
    ids[1] = handler;
    MPI_Errhandler_free(&handler);
    MPI_Sendrecv(ids, 2, MPI_INT, 0, 3, same, 2, MPI_INT, 0, 3, self, MPI_STATUS_IGNORE);
    MPI_Comm_free(&part);
    MPI_Comm_free(&later);
}

static void groups(MPI_Comm self)
{
    MPI_Group all, some, none;
    MPI_Info info;
    int first = 0, n;

    MPI_Comm_group(self, &all);
    MPI_Group_incl(all, 1, &first, &some);
    MPI_Info_create(&info);
    MPI_Group_free(&all);
    MPI_Info_set(info, "key", "value");
    MPI_Group_difference(some, some, &none);
    MPI_Group_size(some, &n);
    CHECK(n == 1);
    CHECK(none == MPI_GROUP_EMPTY);
    MPI_Group_free(&some);
    MPI_Info_get_nkeys(info, &n);
    CHECK(n == 1);
    MPI_Info_free(&info);
}

static void messages(MPI_Comm self)
{
    long two[2] = {1, 2}, got[2] = {0}, sum = 0;
    MPI_Datatype pair, again;
    MPI_Op op;
    MPI_Request req[2], all;
    MPI_Message message;

    MPI_Type_contiguous(2, MPI_LONG, &pair);
    MPI_Type_dup(pair, &again);
    MPI_Type_free(&pair);
    MPI_Type_commit(&again);
    MPI_Isend(two, 1, again, 0, 1, self, &req[0]);
    MPI_Mprobe(0, 1, self, &message, MPI_STATUS_IGNORE);
    MPI_Mrecv(got, 1, again, &message, MPI_STATUS_IGNORE);
    MPI_Wait(&req[0], MPI_STATUS_IGNORE);
    CHECK(got[1] == 2);
    MPI_Isend(got, 1, again, 0, 4, self, &req[0]);
    MPI_Request_free(&req[0]); /* its end is seen by any thread */
    MPI_Recv(two, 1, again, 0, 4, self, MPI_STATUS_IGNORE);
    MPI_Send_init(got, 1, again, 0, 2, self, &req[0]);
    MPI_Recv_init(two, 1, again, 0, 2, self, &req[1]);
    MPI_Type_free(&again);
    MPI_Startall(2, req);
    MPI_Waitall(2, req, MPI_STATUSES_IGNORE);
    MPI_Request_free(&req[1]);
    MPI_Request_free(&req[0]);
    MPI_Op_create(add, 1, &op);
    MPI_Iallreduce(&two[1], &sum, 1, MPI_LONG, op, self, &all);
    MPI_Op_free(&op);
    MPI_Wait(&all, MPI_STATUS_IGNORE);
    CHECK(sum == 2);
}

static void windows(MPI_Comm self)
{
    long *base, value = 3;
    MPI_Win win;

    MPI_Win_allocate(sizeof *base, sizeof *base, MPI_INFO_NULL, self, &base, &win);
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
    MPI_Put(&value, 1, MPI_LONG, 0, 0, 1, MPI_LONG, win);
    MPI_Win_unlock(0, win);
    CHECK(*base == 3);
    MPI_Win_free(&win);
}

/* What one thread sets of an object, others set or change beside it. */
static void settings(int number)
{
    char name[MPI_MAX_OBJECT_NAME];
    int keyval, has, length;
    MPI_Errhandler handler, got;
    MPI_Info info;
    void *value;

    MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, MPI_COMM_NULL_DELETE_FN, &keyval, NULL);
    MPI_Comm_set_attr(MPI_COMM_SELF, keyval, &value);
    MPI_Comm_get_attr(MPI_COMM_SELF, keyval, &value, &has);
    CHECK(has && value == &value);
    MPI_Comm_delete_attr(MPI_COMM_SELF, keyval);
    MPI_Comm_get_attr(MPI_COMM_SELF, keyval, &value, &has);
    CHECK(!has);
    MPI_Comm_free_keyval(&keyval);
    snprintf(name, sizeof name, "name %d", number);
    MPI_Comm_set_name(MPI_COMM_SELF, name);
    MPI_Comm_get_name(MPI_COMM_SELF, name, &length);
    CHECK(strncmp(name, "name ", 5) == 0);
    MPI_Comm_create_errhandler(fail_softly, &handler);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, handler);
    MPI_Comm_get_errhandler(MPI_COMM_SELF, &got);
    MPI_Errhandler_free(&got);
    MPI_Errhandler_free(&handler);
    MPI_Info_create(&info);
    MPI_Info_set(info, "key", name);
    MPI_Comm_set_info(MPI_COMM_SELF, info);
    MPI_Info_free(&info);
}

/* Each thread has a function of its own, whose results differ. */
static void add_one(void *in, void *inout, int *len, MPI_Datatype *type)
{
    *(long *)inout += 1;
}

static void add_two(void *in, void *inout, int *len, MPI_Datatype *type)
{
    *(long *)inout += 2;
}

static void operations(int lane)
{
    long in = 0, inout = 10;
    MPI_Op op;

    MPI_Op_create(lane % 2 ? add_one : add_two, 1, &op);
    MPI_Reduce_local(&in, &inout, 1, MPI_LONG, op);
    CHECK(inout == (lane % 2 ? 11 : 12));
    MPI_Op_free(&op);
}

static void *churn(void *arg)
{
    MPI_Comm self = *(MPI_Comm *)arg;
    int lane = (int)((MPI_Comm *)arg - selves);

    for (int i = 0; i < rounds; i++) {
        for (int k = 0; k < 20; k++) {
            settings(lane * rounds + i);
            operations(lane);
        }
        communicators(self);
        groups(self);
        messages(self);
        if (i % 10 == 0)
            windows(self);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread[THREADS];
    int level;

    if (argc > 1)
        rounds = atoi(argv[1]);
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    CHECK(level == MPI_THREAD_MULTIPLE);
    for (int i = 0; i < THREADS; i++) {
        MPI_Comm_dup(MPI_COMM_SELF, &selves[i]);
        CHECK(pthread_create(&thread[i], NULL, churn, &selves[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(thread[i], NULL) == 0);
        MPI_Comm_free(&selves[i]);
    }
    if (rank == 0)
        printf("OK handles\n");
    MPI_Finalize();
    return 0;
}
