/*
 * rma.c: one-sided communication with every kind of synchronisation.
 *
 * Each case makes its window, moves numbers that only round, ranks and place decide, and checks the
 * whole window. Two windows also live from case to case: `standing` holds a fence epoch
 * and `counters` a lock of all ranks wherever a checkpoint falls.
 */
#include "check.h"

#define CELLS 96

static MPI_Win standing, counters;
static long *standing_cells, *counter_cells;
static long ticks;

static long number(int round, int from, int place)
{
    return round * 100000L + from * 1000L + place;
}

static void fence(int round)
{
    long cells[CELLS], mine[CELLS], got[4];
    MPI_Win win;
    int to = neighbour(1), from = neighbour(-1);
    for (int i = 0; i < CELLS; i++) {
        cells[i] = -1;
        mine[i] = number(round, rank, i);
    }
    MPI_Win_create(cells, sizeof cells, sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_fence(MPI_MODE_NOPRECEDE, win);
    MPI_Put(mine, CELLS, MPI_LONG, to, 0, CELLS, MPI_LONG, win);
    MPI_Win_fence(0, win);
    for (int i = 0; i < CELLS; i++)
        CHECK(cells[i] == number(round, from, i));
    MPI_Get(got, 4, MPI_LONG, to, 8, 4, MPI_LONG, win);
    MPI_Win_fence(0, win);
    for (int i = 0; i < 4; i++)
        CHECK(got[i] == number(round, rank, 8 + i));
    MPI_Accumulate(mine, CELLS, MPI_LONG, to, 0, CELLS, MPI_LONG, MPI_SUM, win);
    MPI_Win_fence(MPI_MODE_NOSUCCEED, win);
    for (int i = 0; i < CELLS; i++)
        CHECK(cells[i] == 2 * number(round, from, i));
    MPI_Win_free(&win);
    CHECK(win == MPI_WIN_NULL);
}

/* Every second cell of the target from a packed row: datatypes on both sides. */
static void strided(int round)
{
    long *cells, row[CELLS / 2];
    MPI_Win win;
    MPI_Datatype every_second;
    MPI_Type_vector(CELLS / 2, 1, 2, MPI_LONG, &every_second);
    MPI_Type_commit(&every_second);
    MPI_Win_allocate(CELLS * sizeof(long), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &cells,
                     &win);
    for (int i = 0; i < CELLS; i++)
        cells[i] = -i;
    for (int i = 0; i < CELLS / 2; i++)
        row[i] = number(round, rank, i);
    MPI_Win_fence(0, win);
    MPI_Put(row, CELLS / 2, MPI_LONG, neighbour(1), 0, 1, every_second, win);
    MPI_Type_free(&every_second);
    MPI_Win_fence(0, win);
    for (int i = 0; i < CELLS; i++)
        CHECK(cells[i] == (i % 2 ? -i : number(round, neighbour(-1), i / 2)));
    MPI_Win_free(&win);
}

static void post_start(int round)
{
    long *cells, mine = number(round, rank, 1);
    int to = neighbour(1), from = neighbour(-1), flag = 0;
    MPI_Win win;
    MPI_Group world, before, behind;
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_incl(world, 1, &to, &behind);
    MPI_Group_incl(world, 1, &from, &before);
    MPI_Win_allocate(2 * sizeof(long), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &cells, &win);
    for (int k = 0; k < 2; k++) {
        cells[k] = -1;
        MPI_Win_post(before, 0, win);
        MPI_Win_start(behind, 0, win);
        MPI_Put(&mine, 1, MPI_LONG, to, k, 1, MPI_LONG, win);
        MPI_Win_complete(win);
        if (k == 0)
            MPI_Win_wait(win);
        else
            while (!flag)
                MPI_Win_test(win, &flag);
        CHECK(cells[k] == number(round, from, 1));
    }
    MPI_Win_free(&win);
    MPI_Group_free(&before);
    MPI_Group_free(&behind);
    MPI_Group_free(&world);
}

/* Each rank adds to counters of rank 0: by a lock, by fetch-and-op, by compare-and-swap. */
static void passive(int round)
{
    long *cells, one = 1, seen, old, new;
    MPI_Win win;
    MPI_Win_allocate(3 * sizeof(long), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &cells, &win);
    memset(cells, 0, 3 * sizeof(long));
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
    MPI_Get(&seen, 1, MPI_LONG, 0, 0, 1, MPI_LONG, win);
    MPI_Win_flush(0, win);
    seen++;
    MPI_Put(&seen, 1, MPI_LONG, 0, 0, 1, MPI_LONG, win);
    MPI_Win_unlock(0, win);
    MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, win);
    MPI_Fetch_and_op(&one, &seen, MPI_LONG, 0, 1, MPI_SUM, win);
    MPI_Win_flush_local(0, win);
    CHECK(seen >= 0 && seen < size);
    for (old = 0;; old = seen) {
        new = old + 1;
        MPI_Compare_and_swap(&new, &old, &seen, MPI_LONG, 0, 2, win);
        MPI_Win_flush(0, win);
        if (seen == old)
            break;
    }
    MPI_Win_unlock(0, win);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_lock(MPI_LOCK_SHARED, rank, 0, win);
    for (int i = 0; i < 3; i++)
        CHECK(cells[i] == (rank == 0 ? size : 0));
    MPI_Win_unlock(rank, win);
    MPI_Win_free(&win);
}

static void requests(int round)
{
    long *cells, mine[4], got[4], sum[4];
    MPI_Win win;
    MPI_Request req[2];
    int to = neighbour(1);
    MPI_Win_allocate(8 * sizeof(long), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &cells, &win);
    memset(cells, 0, 8 * sizeof(long));
    for (int i = 0; i < 4; i++)
        mine[i] = number(round, rank, i);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_lock_all(0, win);
    MPI_Rput(mine, 4, MPI_LONG, to, 0, 4, MPI_LONG, win, &req[0]);
    MPI_Raccumulate(mine, 4, MPI_LONG, to, 4, 4, MPI_LONG, MPI_SUM, win, &req[1]);
    MPI_Waitall(2, req, MPI_STATUSES_IGNORE);
    MPI_Win_flush_all(win);
    MPI_Rget(got, 4, MPI_LONG, to, 0, 4, MPI_LONG, win, &req[0]);
    MPI_Rget_accumulate(mine, 4, MPI_LONG, sum, 4, MPI_LONG, to, 4, 4, MPI_LONG, MPI_SUM, win,
                        &req[1]);
    MPI_Waitall(2, req, MPI_STATUSES_IGNORE);
    for (int i = 0; i < 4; i++)
        CHECK(got[i] == mine[i] && sum[i] == mine[i]);
    MPI_Win_flush_all(win);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_sync(win);
    for (int i = 0; i < 4; i++)
        CHECK(cells[4 + i] == 2 * number(round, neighbour(-1), i));
    MPI_Win_unlock_all(win);
    MPI_Win_free(&win);
}

/* Very many results that nobody has waited for: at places of their own, and all at one. */
static void results(int round)
{
    enum { MANY = 1000 };
    static long cells[2 * MANY], got[2 * MANY], last;
    MPI_Win win;
    for (int i = 0; i < 2 * MANY; i++)
        cells[i] = number(round, rank, i);
    memset(got, 0, sizeof got);
    MPI_Win_create(cells, sizeof cells, sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_lock_all(0, win);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; i < MANY; i++) {
        MPI_Get(&got[i], 1, MPI_LONG, neighbour(1), i, 1, MPI_LONG, win);
        MPI_Get(&got[2 * MANY - 1 - i], 1, MPI_LONG, neighbour(-1), i, 1, MPI_LONG, win);
        MPI_Fetch_and_op(NULL, &last, MPI_LONG, neighbour(1), MANY, MPI_NO_OP, win);
    }
    MPI_Win_unlock_all(win);
    for (int i = 0; i < MANY; i++) {
        CHECK(got[i] == number(round, neighbour(1), i));
        CHECK(got[2 * MANY - 1 - i] == number(round, neighbour(-1), i));
    }
    CHECK(last == number(round, neighbour(1), MANY));
    MPI_Win_free(&win);
}

static void dynamic(int round)
{
    long *memory = malloc(4 * sizeof(long)), mine = number(round, rank, 7);
    MPI_Aint here, there;
    MPI_Win win;
    memory[1] = -1;
    MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_attach(win, memory, 4 * sizeof(long));
    MPI_Get_address(&memory[1], &here);
    MPI_Sendrecv(&here, 1, MPI_AINT, neighbour(-1), 0, &there, 1, MPI_AINT, neighbour(1), 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Win_lock_all(0, win);
    MPI_Put(&mine, 1, MPI_LONG, neighbour(1), there, 1, MPI_LONG, win);
    MPI_Win_unlock_all(win);
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(memory[1] == number(round, neighbour(-1), 7));
    MPI_Win_detach(win, memory);
    free(memory);
    MPI_Win_free(&win);
}

static void attributes(int round)
{
    long *cells;
    void *base;
    MPI_Aint *bytes;
    int *unit, *flavor, *model, flag, length;
    char name[MPI_MAX_OBJECT_NAME];
    MPI_Win win;
    MPI_Group group;
    MPI_Win_allocate(64, 8, MPI_INFO_NULL, MPI_COMM_WORLD, &cells, &win);
    MPI_Win_get_attr(win, MPI_WIN_BASE, &base, &flag);
    CHECK(flag && base == cells);
    MPI_Win_get_attr(win, MPI_WIN_SIZE, &bytes, &flag);
    CHECK(flag && *bytes == 64);
    MPI_Win_get_attr(win, MPI_WIN_DISP_UNIT, &unit, &flag);
    CHECK(flag && *unit == 8);
    MPI_Win_get_attr(win, MPI_WIN_CREATE_FLAVOR, &flavor, &flag);
    CHECK(flag && *flavor == MPI_WIN_FLAVOR_ALLOCATE);
    MPI_Win_get_attr(win, MPI_WIN_MODEL, &model, &flag);
    CHECK(flag && *model == MPI_WIN_UNIFIED);
    MPI_Win_set_name(win, "halo");
    MPI_Win_get_name(win, name, &length);
    CHECK(length == 4 && strcmp(name, "halo") == 0);
    MPI_Win_get_group(win, &group);
    MPI_Group_size(group, &length);
    CHECK(length == size);
    MPI_Group_free(&group);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    CHECK(MPI_Put(cells, 1, MPI_LONG, size, 0, 1, MPI_LONG, win) != MPI_SUCCESS);
    MPI_Win_free(&win);
}

/* Memory from MPI and from malloc, at addresses that other ranks get to know: a replay must come to
 * the same ones. Scattered changes, too. */
static void addresses(int round)
{
    long *given, *large, at[2], theirs[2], mine = number(round, rank, 0);
    const int many = 1 << 16;
    MPI_Win win, far;
    MPI_Alloc_mem(CELLS * sizeof *given, MPI_INFO_NULL, &given);
    MPI_Win_create(given, CELLS * sizeof *given, sizeof *given, MPI_INFO_NULL, MPI_COMM_WORLD,
                   &win);
    large = calloc((size_t)many, sizeof *large);
    MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &far);
    MPI_Win_attach(far, large, (MPI_Aint)(many * sizeof *large));
    MPI_Get_address(given, &at[0]);
    MPI_Get_address(large, &at[1]);
    MPI_Sendrecv(at, 2, MPI_LONG, neighbour(-1), 5, theirs, 2, MPI_LONG, neighbour(1), 5,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int i = 0; i < CELLS; i++)
        given[i] = 0;
    MPI_Win_fence(0, win);
    MPI_Win_fence(0, far);
    for (int i = 0; i < CELLS; i += 3)
        MPI_Put(&mine, 1, MPI_LONG, neighbour(1), i, 1, MPI_LONG, win);
    for (int i = 0; i < many; i += many / 16)
        MPI_Put(&mine, 1, MPI_LONG, neighbour(1), theirs[1] + 8 * i, 1, MPI_LONG, far);
    MPI_Win_fence(0, far);
    MPI_Win_fence(0, win);
    for (int i = 0; i < CELLS; i++)
        CHECK(given[i] == (i % 3 ? 0 : number(round, neighbour(-1), 0)));
    for (int i = 0; i < many; i += many / 16)
        CHECK(large[i] == number(round, neighbour(-1), 0));
    MPI_Win_detach(far, large);
    MPI_Win_free(&far);
    MPI_Win_free(&win);
    MPI_Free_mem(given);
    free(large);
}

/* Called by MPI_Finalize. */
static int close_windows(MPI_Comm comm, int keyval, void *value, void *extra)
{
    MPI_Win_fence(MPI_MODE_NOSUCCEED, standing);
    MPI_Win_free(&standing);
    MPI_Win_unlock_all(counters);
    MPI_Win_free(&counters);
    return MPI_SUCCESS;
}

static void open_windows(void)
{
    int keyval;
    MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, close_windows, &keyval, NULL);
    MPI_Comm_set_attr(MPI_COMM_SELF, keyval, NULL);
    /* Whole pages: two such windows of 8 bytes lose operations over MPICH 4.0.2 alone. */
    MPI_Win_allocate(4096, sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &standing_cells, &standing);
    MPI_Win_allocate(4096, sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &counter_cells, &counters);
    *standing_cells = *counter_cells = 0;
    MPI_Win_fence(0, standing);
    MPI_Win_lock_all(0, counters);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* The windows that live throughout. */
static void lasting(int round)
{
    long mine = number(round, rank, 0), one = 1, seen;
    if (standing_cells == NULL)
        open_windows();
    MPI_Put(&mine, 1, MPI_LONG, neighbour(1), 0, 1, MPI_LONG, standing);
    MPI_Win_fence(0, standing);
    CHECK(*standing_cells == number(round, neighbour(-1), 0));
    MPI_Fetch_and_op(&one, &seen, MPI_LONG, neighbour(1), 0, MPI_SUM, counters);
    MPI_Win_flush(neighbour(1), counters);
    CHECK(seen == ticks);
    ticks++;
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(*counter_cells == ticks);
    MPI_Barrier(MPI_COMM_WORLD);
}

static const struct check_case cases[] = {
    {"fence", fence},           {"strided", strided},   {"post_start", post_start},
    {"passive", passive},       {"requests", requests}, {"dynamic", dynamic},
    {"attributes", attributes}, {"lasting", lasting},   {"addresses", addresses},
    {"results", results},       {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "rma", cases, 20);
}
