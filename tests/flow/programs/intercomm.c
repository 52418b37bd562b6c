/*
 * intercomm: two groups, what they exchange over intercommunicators that live for several rounds,
 * and what is made of those.
 *
 * Usage: intercomm [ROUNDS]. Ranks: 3 or more.
 */
#include "check.h"

enum { LEN = 20, MAX_RANKS = 64, LIFE = 4 };

static MPI_Comm local, inter; /* odd and even ranks */
static int me, nlocal, nremote, odd;
static long in[MAX_RANKS * LEN], out[MAX_RANKS * LEN];

static long value(int from_odd, int from, int i, int round)
{
    return from_odd * 100000L + from * 1000L + i * 3 + round;
}

static void fill(int round)
{
    for (int i = 0; i < MAX_RANKS * LEN; i++) {
        in[i] = value(odd, me, i, round);
        out[i] = -1;
    }
}

static void run_make(int round)
{
    int flag, n;
    MPI_Group group;

    if (round % LIFE == 0) {
        odd = rank % 2;
        MPI_Comm_split(MPI_COMM_WORLD, odd, rank, &local);
        MPI_Intercomm_create(local, 0, MPI_COMM_WORLD, odd ? 0 : 1, 77, &inter);
        MPI_Comm_rank(inter, &me);
        MPI_Comm_size(inter, &nlocal);
        MPI_Comm_remote_size(inter, &nremote);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Comm_test_inter(inter, &flag);
    CHECK(flag);
    MPI_Comm_test_inter(local, &flag);
    CHECK(!flag);
    CHECK(nlocal + nremote == size);
    MPI_Comm_remote_group(inter, &group);
    MPI_Group_size(group, &n);
    CHECK(n == nremote);
    MPI_Group_free(&group);
}

static void run_p2p(int round)
{
    MPI_Request r[2];
    MPI_Status status;
    long mine = value(odd, me, 0, round), got = -1;

    if (me < nlocal && me < nremote) {
        MPI_Irecv(&got, 1, MPI_LONG, me, round, inter, &r[0]);
        MPI_Isend(&mine, 1, MPI_LONG, me, round, inter, &r[1]);
        MPI_Waitall(2, r, MPI_STATUSES_IGNORE);
        CHECK(got == value(!odd, me, 0, round));
    }
    if (me == 0 && odd)
        for (int p = 0; p < nremote; p++) {
            MPI_Recv(&got, 1, MPI_LONG, MPI_ANY_SOURCE, 1000 + round, inter, &status);
            CHECK(got == value(0, status.MPI_SOURCE, 0, round));
        }
    else if (!odd)
        MPI_Send(&mine, 1, MPI_LONG, 0, 1000 + round, inter);
}

static void run_collectives(int round)
{
    int root = odd ? (me == 0 ? MPI_ROOT : MPI_PROC_NULL) : 0;
    long sum = 0;

    fill(round);
    MPI_Barrier(inter);
    if (root == MPI_ROOT)
        memcpy(out, in, LEN * sizeof *in);
    MPI_Bcast(out, LEN, MPI_LONG, root, inter);
    for (int i = 0; !odd && i < LEN; i++)
        CHECK(out[i] == value(1, 0, i, round));

    MPI_Allreduce(in, out, LEN, MPI_LONG, MPI_SUM, inter);
    for (int p = 0; p < nremote; p++)
        sum += value(!odd, p, 5, round);
    CHECK(out[5] == sum);

    fill(round);
    MPI_Allgather(in, LEN, MPI_LONG, out, LEN, MPI_LONG, inter);
    for (int i = 0; i < nremote * LEN; i++)
        CHECK(out[i] == value(!odd, i / LEN, i % LEN, round));

    fill(round);
    MPI_Alltoall(in, LEN, MPI_LONG, out, LEN, MPI_LONG, inter);
    for (int i = 0; i < nremote * LEN; i++)
        CHECK(out[i] == value(!odd, i / LEN, me * LEN + i % LEN, round));

    fill(round);
    MPI_Gather(in, LEN, MPI_LONG, out, LEN, MPI_LONG, root, inter);
    for (int i = 0; root == MPI_ROOT && i < nremote * LEN; i++)
        CHECK(out[i] == value(0, i / LEN, i % LEN, round));

    fill(round);
    MPI_Scatter(in, LEN, MPI_LONG, out, LEN, MPI_LONG, root, inter);
    for (int i = 0; !odd && i < LEN; i++)
        CHECK(out[i] == value(1, 0, me * LEN + i, round));

    fill(round);
    MPI_Reduce(in, out, LEN, MPI_LONG, MPI_MAX, root, inter);
    for (int i = 0; root == MPI_ROOT && i < LEN; i++)
        CHECK(out[i] == value(0, nremote - 1, i, round));
}

static void run_non_blocking(int round)
{
    MPI_Request r[2];
    long got[2] = {-1, -1}, mine = value(odd, me, 1, round);

    MPI_Iallreduce(&mine, &got[0], 1, MPI_LONG, MPI_MAX, inter, &r[0]);
    MPI_Iallreduce(&mine, &got[1], 1, MPI_LONG, MPI_MIN, inter, &r[1]);
    MPI_Waitall(2, r, MPI_STATUSES_IGNORE);
    CHECK(got[0] == value(!odd, nremote - 1, 1, round));
    CHECK(got[1] == value(!odd, 0, 1, round));
}

static void run_made_of_it(int round)
{
    MPI_Comm merged, dup, part;
    int n, r, flag, sum, one = 1;

    MPI_Intercomm_merge(inter, odd, &merged);
    MPI_Comm_size(merged, &n);
    MPI_Comm_rank(merged, &r);
    CHECK(n == size && r == (odd ? nremote + me : me));
    MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, merged);
    CHECK(sum == size);
    MPI_Comm_dup(inter, &dup);
    MPI_Comm_test_inter(dup, &flag);
    CHECK(flag);
    MPI_Comm_split(inter, 0, me, &part);
    MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, part);
    CHECK(sum == nremote);
    MPI_Comm_free(&part);
    MPI_Comm_free(&dup);
    MPI_Comm_free(&merged);
    if (round % LIFE < LIFE - 1)
        return;
    MPI_Comm_free(&inter);
    MPI_Comm_free(&local);
}

static const struct check_case cases[] = {
    {"make", run_make},
    {"p2p", run_p2p},
    {"collectives", run_collectives},
    {"non_blocking", run_non_blocking},
    {"made_of_it", run_made_of_it},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "intercomm", cases, 20);
}
