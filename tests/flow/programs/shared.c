/*
 * shared: windows of memory that all ranks of a node share: loads and stores of each other's parts,
 * atomic operations, one-sided calls; kept through all rounds, and made anew in each.
 */
#include "check.h"

enum { CELLS = 1500 }; /* of a rank, some pages */

static MPI_Win kept = MPI_WIN_NULL;
static long *mine;

static long value(int from, int round, int i)
{
    return from * 1000003L + round * 101L + i;
}

static long *part(MPI_Win win, int of)
{
    MPI_Aint bytes;
    int unit;
    long *at;
    MPI_Win_shared_query(win, of, &bytes, &unit, &at);
    CHECK(bytes == CELLS * (MPI_Aint)sizeof(long) && unit == sizeof(long));
    return at;
}

static void meet(MPI_Win win)
{
    MPI_Win_sync(win);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_sync(win);
}

/* Each writes its own part and reads its neighbour's; what it holds stays from round to round. */
static void case_kept(int round)
{
    int *flavor, found;
    if (kept == MPI_WIN_NULL) {
        MPI_Win_allocate_shared(CELLS * sizeof(long), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD,
                                &mine, &kept);
        MPI_Win_get_attr(kept, MPI_WIN_CREATE_FLAVOR, &flavor, &found);
        CHECK(found && *flavor == MPI_WIN_FLAVOR_SHARED && part(kept, rank) == mine);
        for (int i = 0; i < CELLS; i++)
            mine[i] = value(rank, -1, i);
        MPI_Win_lock_all(MPI_MODE_NOCHECK, kept);
        meet(kept);
    }
    long *theirs = part(kept, neighbour(1));
    for (int i = 0; i < CELLS; i++) {
        CHECK(theirs[i] == value(neighbour(1), round - 1, i));
        CHECK(mine[i] == value(rank, round - 1, i));
    }
    meet(kept);
    for (int i = 0; i < CELLS; i++)
        mine[i] = value(rank, round, i);
    meet(kept);
}

/* One has all the memory; the others count in it. */
static void case_count(int round)
{
    long *at, *all;
    MPI_Aint bytes;
    MPI_Win win;
    int unit;
    MPI_Win_allocate_shared(rank == size - 1 ? sizeof(long) : 0, sizeof(long), MPI_INFO_NULL,
                            MPI_COMM_WORLD, &at, &win);
    MPI_Win_shared_query(win, MPI_PROC_NULL, &bytes, &unit, &all);
    CHECK(bytes == sizeof(long) && all);
    MPI_Win_lock_all(0, win);
    for (int i = 0; i < 10; i++)
        __atomic_add_fetch(all, rank + round, __ATOMIC_SEQ_CST);
    meet(win);
    CHECK(*all == 10L * (size * (size - 1) / 2 + size * round));
    MPI_Win_unlock_all(win);
    MPI_Win_free(&win);
}

/* One-sided calls and loads see the same memory. */
static void case_mixed(int round)
{
    long *at, put = value(rank, round, 0), got = -1;
    MPI_Info info;
    MPI_Win win;
    MPI_Info_create(&info);
    MPI_Info_set(info, "alloc_shared_noncontig", "true");
    MPI_Win_allocate_shared(CELLS * sizeof(long), sizeof(long), info, MPI_COMM_WORLD, &at, &win);
    MPI_Info_free(&info);
    MPI_Win_fence(0, win);
    at[1] = 0;
    MPI_Win_fence(0, win);
    MPI_Put(&put, 1, MPI_LONG, neighbour(1), 0, 1, MPI_LONG, win);
    MPI_Accumulate(&put, 1, MPI_LONG, 0, 1, 1, MPI_LONG, MPI_SUM, win);
    MPI_Win_fence(0, win);
    CHECK(at[0] == value(neighbour(-1), round, 0));
    MPI_Get(&got, 1, MPI_LONG, neighbour(1), 0, 1, MPI_LONG, win);
    MPI_Win_fence(0, win);
    CHECK(got == put && part(win, neighbour(1))[0] == put);
    put = 0;
    for (int i = 0; i < size; i++)
        put += value(i, round, 0);
    CHECK(rank != 0 || at[1] == put);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_free(&win);
}

static void case_alone(int round)
{
    int *at, *same, unit;
    MPI_Aint bytes;
    MPI_Win win;
    MPI_Win_allocate_shared(64, 1, MPI_INFO_NULL, MPI_COMM_SELF, &at, &win);
    MPI_Win_shared_query(win, 0, &bytes, &unit, &same);
    CHECK(same == at && bytes == 64 && unit == 1);
    at[3] = round;
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(at[3] == round);
    MPI_Win_free(&win);
}

static const struct check_case cases[] = {
    {"kept", case_kept}, {"count", case_count}, {"mixed", case_mixed}, {"alone", case_alone},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "shared", cases, 10);
}
