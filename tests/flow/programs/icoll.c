/*
 * icoll: non-blocking and persistent collectives, started together, completed in all ways.
 *
 * Usage: icoll [ROUNDS [CASE]]. Ranks: 2 or more.
 */
#include "check.h"

enum { LEN = 40, MAX_RANKS = 64, LIFE = 4 };

static long in[MAX_RANKS * LEN], out[MAX_RANKS * LEN];
static int counts[MAX_RANKS], displs[MAX_RANKS];

static long value(int from, int i, int round)
{
    return from * 1000L + i * 7 + round;
}

static void fill(int round, int n)
{
    for (int i = 0; i < n; i++) {
        in[i] = value(rank, i, round);
        out[i] = -1;
    }
}

/* Rank r has r + 1 elements. */
static int vectors(void)
{
    int total = 0;
    for (int r = 0; r < size; r++) {
        counts[r] = r + 1;
        displs[r] = total;
        total += counts[r];
    }
    return total;
}

static void finish(MPI_Request *r, int round)
{
    MPI_Status status;
    int flag = 0, index;

    switch (round % 4) {
    case 0:
        MPI_Wait(r, MPI_STATUS_IGNORE);
        break;
    case 1:
        while (!flag)
            MPI_Test(r, &flag, MPI_STATUS_IGNORE);
        break;
    case 2:
        MPI_Waitany(1, r, &index, &status);
        CHECK(index == 0);
        break;
    default:
        MPI_Waitall(1, r, MPI_STATUSES_IGNORE);
    }
}

static void check_sum(const long *a, int n, int round)
{
    long from_ranks = (long)size * (size - 1) / 2 * 1000;

    for (int i = 0; i < n; i++)
        CHECK(a[i] == from_ranks + size * (i * 7L + round));
}

static void run_reductions(int round)
{
    MPI_Request r;
    int root = round % size;

    fill(round, size * LEN);
    MPI_Iallreduce(in, out, LEN, MPI_LONG, MPI_SUM, MPI_COMM_WORLD, &r);
    finish(&r, round);
    check_sum(out, LEN, round);

    MPI_Ireduce(in, out, LEN, MPI_LONG, MPI_MAX, root, MPI_COMM_WORLD, &r);
    finish(&r, round + 1);
    for (int i = 0; rank == root && i < LEN; i++)
        CHECK(out[i] == value(size - 1, i, round));

    MPI_Iscan(in, out, LEN, MPI_LONG, MPI_MAX, MPI_COMM_WORLD, &r);
    finish(&r, round + 2);
    for (int i = 0; i < LEN; i++)
        CHECK(out[i] == in[i]);

    MPI_Iexscan(in, out, LEN, MPI_LONG, MPI_MAX, MPI_COMM_WORLD, &r);
    finish(&r, round + 3);
    for (int i = 0; rank > 0 && i < LEN; i++)
        CHECK(out[i] == value(rank - 1, i, round));

    MPI_Ireduce_scatter_block(in, out, LEN, MPI_LONG, MPI_MAX, MPI_COMM_WORLD, &r);
    finish(&r, round);
    for (int i = 0; i < LEN; i++)
        CHECK(out[i] == value(size - 1, rank * LEN + i, round));

    vectors();
    MPI_Ireduce_scatter(in, out, counts, MPI_LONG, MPI_MAX, MPI_COMM_WORLD, &r);
    finish(&r, round);
    for (int i = 0; i < counts[rank]; i++)
        CHECK(out[i] == value(size - 1, displs[rank] + i, round));

    memcpy(out, in, LEN * sizeof *in);
    MPI_Iallreduce(MPI_IN_PLACE, out, LEN, MPI_LONG, MPI_SUM, MPI_COMM_WORLD, &r);
    finish(&r, round);
    check_sum(out, LEN, round);
}

static void run_rooted(int round)
{
    MPI_Request r;
    int root = (round + 1) % size, total = vectors();

    fill(round, size * LEN);
    MPI_Ibarrier(MPI_COMM_WORLD, &r);
    finish(&r, round);
    if (rank == root)
        memcpy(out, in, LEN * sizeof *in);
    MPI_Ibcast(out, LEN, MPI_LONG, root, MPI_COMM_WORLD, &r);
    finish(&r, round + 1);
    for (int i = 0; i < LEN; i++)
        CHECK(out[i] == value(root, i, round));

    MPI_Igather(in, LEN, MPI_LONG, out, LEN, MPI_LONG, root, MPI_COMM_WORLD, &r);
    finish(&r, round + 2);
    for (int i = 0; rank == root && i < size * LEN; i++)
        CHECK(out[i] == value(i / LEN, i % LEN, round));

    MPI_Igatherv(in, counts[rank], MPI_LONG, out, counts, displs, MPI_LONG, root, MPI_COMM_WORLD,
                 &r);
    finish(&r, round + 3);
    for (int p = 0; rank == root && p < size; p++)
        for (int i = 0; i < counts[p]; i++)
            CHECK(out[displs[p] + i] == value(p, i, round));

    MPI_Iscatter(in, LEN, MPI_LONG, out, LEN, MPI_LONG, root, MPI_COMM_WORLD, &r);
    finish(&r, round);
    for (int i = 0; i < LEN; i++)
        CHECK(out[i] == value(root, rank * LEN + i, round));

    MPI_Iscatterv(in, counts, displs, MPI_LONG, out, counts[rank], MPI_LONG, root, MPI_COMM_WORLD,
                  &r);
    finish(&r, round);
    for (int i = 0; i < counts[rank]; i++)
        CHECK(out[i] == value(root, displs[rank] + i, round));
    CHECK(total <= MAX_RANKS * LEN);
}

static void run_all_to_all(int round)
{
    MPI_Request r;
    MPI_Datatype types[MAX_RANKS], pair;
    int in_counts[MAX_RANKS], byte_displs[MAX_RANKS], ones[MAX_RANKS], total = vectors();

    fill(round, size * LEN);
    MPI_Iallgather(in, LEN, MPI_LONG, out, LEN, MPI_LONG, MPI_COMM_WORLD, &r);
    finish(&r, round);
    for (int i = 0; i < size * LEN; i++)
        CHECK(out[i] == value(i / LEN, i % LEN, round));

    MPI_Iallgatherv(in, counts[rank], MPI_LONG, out, counts, displs, MPI_LONG, MPI_COMM_WORLD, &r);
    finish(&r, round + 1);
    for (int i = 0; i < total; i++)
        for (int p = 0; p < size; p++)
            if (i >= displs[p] && i < displs[p] + counts[p])
                CHECK(out[i] == value(p, i - displs[p], round));

    MPI_Ialltoall(in, LEN, MPI_LONG, out, LEN, MPI_LONG, MPI_COMM_WORLD, &r);
    finish(&r, round + 2);
    for (int i = 0; i < size * LEN; i++)
        CHECK(out[i] == value(i / LEN, rank * LEN + i % LEN, round));

    /* The vectors are gone when the call has returned: what is needed of them must be kept. */
    for (int p = 0; p < size; p++) {
        in_counts[p] = rank + 1;
        ones[p] = 1;
        byte_displs[p] = (int)(2 * p * (int)sizeof(long));
    }
    int *in_displs = malloc((size_t)size * sizeof *in_displs);
    for (int p = 0; p < size; p++)
        in_displs[p] = p * (rank + 1);
    MPI_Ialltoallv(in, in_counts, in_displs, MPI_LONG, out, counts, displs, MPI_LONG,
                   MPI_COMM_WORLD, &r);
    finish(&r, round + 3);
    free(in_displs);
    for (int p = 0; p < size; p++)
        for (int i = 0; i < counts[p]; i++)
            CHECK(out[displs[p] + i] == value(p, rank * (p + 1) + i, round));

    MPI_Type_contiguous(2, MPI_LONG, &pair);
    MPI_Type_commit(&pair);
    for (int p = 0; p < size; p++)
        types[p] = pair;
    MPI_Ialltoallw(in, ones, byte_displs, types, out, ones, byte_displs, types, MPI_COMM_WORLD, &r);
    MPI_Type_free(&pair);
    finish(&r, round);
    for (int i = 0; i < 2 * size; i++)
        CHECK(out[i] == value(i / 2, 2 * rank + i % 2, round));
}

/* Many in flight at once, beside messages, completed as they come. */
static void run_in_flight(int round)
{
    enum { N = 6 };
    MPI_Request r[N + 2];
    MPI_Status statuses[N + 2];
    long sums[N], mine[N], token = round, got = -1;
    int indices[N + 2], done = 0, n;

    for (int i = 0; i < N; i++) {
        mine[i] = value(rank, i, round);
        sums[i] = -1;
        MPI_Iallreduce(&mine[i], &sums[i], 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD, &r[i]);
    }
    MPI_Irecv(&got, 1, MPI_LONG, neighbour(-1), 5, MPI_COMM_WORLD, &r[N]);
    MPI_Isend(&token, 1, MPI_LONG, neighbour(1), 5, MPI_COMM_WORLD, &r[N + 1]);
    while (done < N + 2) {
        if (round % 2)
            MPI_Waitsome(N + 2, r, &n, indices, statuses);
        else
            MPI_Testsome(N + 2, r, &n, indices, statuses);
        CHECK(n != MPI_UNDEFINED);
        done += n;
    }
    CHECK(got == token);
    for (int i = 0; i < N; i++)
        CHECK(sums[i] == (long)size * (size - 1) / 2 * 1000 + size * (i * 7L + round));
}

static int calls_of_op;

static void larger(void *a, void *b, int *n, MPI_Datatype *type)
{
    CHECK(*type == MPI_LONG);
    calls_of_op++;
    for (int i = 0; i < *n; i++)
        if (((long *)a)[i] > ((long *)b)[i])
            ((long *)b)[i] = ((long *)a)[i];
}

/* The operation is freed while it is in use. */
static void run_user_op(int round)
{
    MPI_Op op;
    MPI_Request r;

    fill(round, LEN);
    MPI_Op_create(larger, 1, &op);
    MPI_Iallreduce(in, out, LEN, MPI_LONG, op, MPI_COMM_WORLD, &r);
    MPI_Op_free(&op);
    finish(&r, round);
    for (int i = 0; i < LEN; i++)
        CHECK(out[i] == value(size - 1, i, round));
    int calls;
    MPI_Allreduce(&calls_of_op, &calls, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    CHECK(calls > 0);
}

static void run_idup(int round)
{
    MPI_Comm dup, other;
    MPI_Info info;
    MPI_Request r[2];
    int sum, me, result;

    MPI_Info_create(&info);
    MPI_Info_set(info, "mpi_assert_no_any_tag", "false");
    MPI_Comm_idup(MPI_COMM_WORLD, &dup, &r[0]);
    MPI_Comm_idup_with_info(MPI_COMM_WORLD, info, &other, &r[1]);
    MPI_Waitall(2, r, MPI_STATUSES_IGNORE);
    MPI_Info_free(&info);
    MPI_Comm_rank(dup, &me);
    CHECK(me == rank);
    MPI_Comm_compare(dup, other, &result);
    CHECK(result == MPI_CONGRUENT);
    MPI_Allreduce(&round, &sum, 1, MPI_INT, MPI_SUM, dup);
    CHECK(sum == size * round);
    MPI_Comm_free(&dup);
    MPI_Comm_free(&other);
}

/* ---- persistent ones ---- */

static MPI_Request kept[3]; /* live for LIFE rounds */
static long kept_in[LEN], kept_out[LEN];
static double kept_bcast[LEN];

static void start_kept(void)
{
    MPI_Comm dup;
    MPI_Datatype type;
    int root = 0;

    MPI_Type_contiguous(LEN, MPI_DOUBLE, &type);
    MPI_Type_commit(&type);
    MPI_Comm_dup(MPI_COMM_WORLD, &dup);
    MPI_Allreduce_init(kept_in, kept_out, LEN, MPI_LONG, MPI_SUM, MPI_COMM_WORLD, MPI_INFO_NULL,
                       &kept[0]);
    MPI_Bcast_init(kept_bcast, 1, type, root, MPI_COMM_WORLD, MPI_INFO_NULL, &kept[1]);
    MPI_Barrier_init(dup, MPI_INFO_NULL, &kept[2]);
    MPI_Type_free(&type);
    MPI_Comm_free(&dup);
}

static void run_persistent(int round)
{
    MPI_Request r[8];
    int root = round % size, n = 0;

    if (round % LIFE == 0)
        start_kept();
    for (int i = 0; i < LEN; i++) {
        kept_in[i] = value(rank, i, round);
        kept_bcast[i] = rank == 0 ? i + round : -1;
    }
    /* In any order: members need not agree on it (MPI 4.0 6.13). */
    if (rank % 2) {
        MPI_Startall(3, kept);
    } else {
        MPI_Start(&kept[2]);
        MPI_Start(&kept[1]);
        MPI_Start(&kept[0]);
    }
    MPI_Waitall(3, kept, MPI_STATUSES_IGNORE);
    check_sum(kept_out, LEN, round);
    for (int i = 0; i < LEN; i++)
        CHECK(kept_bcast[i] == i + round);

    fill(round, size * LEN);
    vectors();
    MPI_Alltoall_init(in, LEN, MPI_LONG, out, LEN, MPI_LONG, MPI_COMM_WORLD, MPI_INFO_NULL, &r[n]);
    MPI_Start(&r[n]);
    finish(&r[n], round);
    for (int i = 0; i < size * LEN; i++)
        CHECK(out[i] == value(i / LEN, rank * LEN + i % LEN, round));
    n++;
    MPI_Gatherv_init(in, counts[rank], MPI_LONG, out, counts, displs, MPI_LONG, root,
                     MPI_COMM_WORLD, MPI_INFO_NULL, &r[n]);
    MPI_Start(&r[n]);
    finish(&r[n], round + 1);
    for (int p = 0; rank == root && p < size; p++)
        for (int i = 0; i < counts[p]; i++)
            CHECK(out[displs[p] + i] == value(p, i, round));
    n++;
    MPI_Reduce_scatter_init(in, out, counts, MPI_LONG, MPI_MAX, MPI_COMM_WORLD, MPI_INFO_NULL,
                            &r[n]);
    MPI_Start(&r[n]);
    finish(&r[n], round + 2);
    for (int i = 0; i < counts[rank]; i++)
        CHECK(out[i] == value(size - 1, displs[rank] + i, round));
    n++;
    MPI_Scan_init(in, out, LEN, MPI_LONG, MPI_MAX, MPI_COMM_WORLD, MPI_INFO_NULL, &r[n]);
    MPI_Start(&r[n]);
    finish(&r[n], round + 3);
    for (int i = 0; i < LEN; i++)
        CHECK(out[i] == in[i]);
    n++;
    while (n--) {
        MPI_Request_free(&r[n]);
        CHECK(r[n] == MPI_REQUEST_NULL);
    }
    if (round % LIFE == LIFE - 1)
        for (int i = 0; i < 3; i++)
            MPI_Request_free(&kept[i]);
}

static const struct check_case cases[] = {
    {"reductions", run_reductions},
    {"rooted", run_rooted},
    {"all_to_all", run_all_to_all},
    {"in_flight", run_in_flight},
    {"user_op", run_user_op},
    {"idup", run_idup},
    {"persistent", run_persistent},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "icoll", cases, 20);
}
