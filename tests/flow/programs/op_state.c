/*
 * op_state: a user operation and attribute callbacks that change the program's own memory, which a
 * replay must do as well. Ranks: 2 or more.
 */
#include "check.h"

static long calls, elements;

static void counting_sum(void *in_values, void *inout, int *len, MPI_Datatype *type)
{
    int *a = in_values, *b = inout;

    calls++;
    elements += *len;
    for (int i = 0; i < *len; i++)
        b[i] += a[i];
}

/* The counts are sent on, so that one that differs is seen in a message too. */
static void case_counted(int round)
{
    int mine[50], sum[50];
    long all;
    MPI_Op op;

    for (int i = 0; i < 50; i++)
        mine[i] = rank + i;
    MPI_Op_create(counting_sum, 1, &op);
    calls = elements = 0;
    MPI_Allreduce(mine, sum, 50, MPI_INT, op, MPI_COMM_WORLD);
    CHECK(sum[49] == size * (size - 1) / 2 + 49 * size);
    CHECK(calls == 0 || elements >= calls);
    MPI_Allreduce(&elements, &all, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    CHECK(all >= 50L * (size - 1));
    calls = 0;
    MPI_Reduce_local(mine, sum, 50, MPI_INT, op);
    CHECK(calls == 1 && sum[0] == size * (size - 1) / 2 + rank);
    MPI_Op_free(&op);
}

static int copies, deletes;

static int copy_counter(MPI_Comm comm, int key, void *extra, void *value, void *copy, int *flag)
{
    copies++;
    *(void **)copy = (char *)value + 1;
    *flag = extra == (void *)&copies;
    return MPI_SUCCESS;
}

static int delete_counter(MPI_Comm comm, int key, void *value, void *extra)
{
    deletes++;
    return MPI_SUCCESS;
}

static void case_attribute_callbacks(int round)
{
    MPI_Comm comm, twin;
    void *value;
    int key, found;

    copies = deletes = 0;
    MPI_Comm_create_keyval(copy_counter, delete_counter, &key, &copies);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_attr(comm, key, (void *)(0x1000L + round));
    MPI_Comm_dup(comm, &twin);
    MPI_Comm_get_attr(twin, key, &value, &found);
    CHECK(found && value == (void *)(0x1001L + round) && copies == 1);
    MPI_Comm_free(&comm);
    CHECK(deletes == 1);
    MPI_Comm_delete_attr(twin, key);
    CHECK(deletes == 2);
    MPI_Comm_free(&twin);
    CHECK(deletes == 2);
    MPI_Comm_free_keyval(&key);
    CHECK(key == MPI_KEYVAL_INVALID);
}

static const struct check_case cases[] = {
    {"counted", case_counted},
    {"attribute_callbacks", case_attribute_callbacks},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "op_state", cases, 50);
}
