/*
 * mpiio.c: files written and read by all ranks: views, individual, explicit and shared pointers,
 * split collectives and non-blocking operations.
 *
 * Each round makes a file of its own, fills it, reads back what the others wrote, and removes it.
 */
#include "check.h"

#define CELLS 32

static int number(int round, int from, int place)
{
    return round * 10000 + from * 100 + place;
}

static void whole(int round)
{
    char name[64];
    int mine[CELLS], got[CELLS], n, amode;
    long total = 0;
    MPI_File f;
    MPI_Offset at;
    MPI_Status st;
    MPI_Datatype cyclic;
    snprintf(name, sizeof name, "mpiio-%d.dat", round);
    for (int i = 0; i < CELLS; i++)
        mine[i] = number(round, rank, i);
    MPI_File_open(MPI_COMM_WORLD, name, MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_INFO_NULL, &f);
    MPI_File_get_amode(f, &amode);
    CHECK(amode == (MPI_MODE_CREATE | MPI_MODE_RDWR));
    MPI_File_set_size(f, 0);

    /* A cyclic view: cell i of rank r is integer i * size + r of the file. */
    MPI_Type_create_resized(MPI_INT, 0, size * (MPI_Aint)sizeof(int), &cyclic);
    MPI_Type_commit(&cyclic);
    MPI_File_set_view(f, rank * (MPI_Offset)sizeof(int), MPI_INT, cyclic, "native", MPI_INFO_NULL);
    MPI_File_write_all(f, mine, CELLS, MPI_INT, &st);
    MPI_Get_count(&st, MPI_INT, &n);
    CHECK(n == CELLS);
    MPI_File_get_position(f, &at);
    CHECK(at == CELLS);
    MPI_Type_free(&cyclic);
    MPI_File_sync(f);
    MPI_Barrier(MPI_COMM_WORLD);

    /* The plain view: each reads the row of its neighbour's number. */
    MPI_File_set_view(f, 0, MPI_INT, MPI_INT, "native", MPI_INFO_NULL);
    MPI_File_get_size(f, &at);
    CHECK(at == (MPI_Offset)sizeof(int) * size * CELLS);
    MPI_File_read_at(f, (MPI_Offset)neighbour(1) * size, got, size, MPI_INT, &st);
    for (int i = 0; i < size; i++)
        CHECK(got[i] == number(round, i, neighbour(1)));
    MPI_File_seek(f, -1, MPI_SEEK_END);
    MPI_File_read(f, got, 2, MPI_INT, &st); /* one is left */
    MPI_Get_count(&st, MPI_INT, &n);
    CHECK(n == 1 && got[0] == number(round, size - 1, CELLS - 1));

    /* The shared pointer: who reads which integer is up to chance, but each is read once. */
    MPI_File_seek_shared(f, 0, MPI_SEEK_SET);
    MPI_File_read_shared(f, got, 1, MPI_INT, &st);
    CHECK(got[0] % 100 == 0);
    MPI_Reduce(&got[0], &n, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
    for (int i = 0; i < size; i++)
        total += number(round, i, 0);
    CHECK(rank != 0 || n == total);
    MPI_File_close(&f);
    CHECK(f == MPI_FILE_NULL);
    if (rank == 0)
        MPI_File_delete(name, MPI_INFO_NULL);
    CHECK(MPI_File_open(MPI_COMM_SELF, "mpiio-none.dat", MPI_MODE_RDONLY, MPI_INFO_NULL, &f) !=
          MPI_SUCCESS);
}

/* Split collectives and non-blocking operations; the view as the library tells it. */
static void later(int round)
{
    char name[64], datarep[MPI_MAX_DATAREP_STRING];
    int mine[CELLS], got[CELLS], n;
    MPI_File f;
    MPI_Offset disp;
    MPI_Status st;
    MPI_Request r[2];
    MPI_Datatype row, etype, filetype;
    MPI_Aint lb, extent;
    snprintf(name, sizeof name, "mpiio-later-%d.dat", round);
    for (int i = 0; i < CELLS; i++)
        mine[i] = number(round, rank, i);
    MPI_File_open(MPI_COMM_WORLD, name, MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_INFO_NULL, &f);
    MPI_File_set_size(f, 0);
    MPI_File_get_view(f, &disp, &etype, &filetype, datarep);
    CHECK(disp == 0 && etype == MPI_BYTE && filetype == MPI_BYTE);

    MPI_Type_create_resized(MPI_INT, 0, size * (MPI_Aint)sizeof(int), &row);
    MPI_Type_commit(&row);
    MPI_File_set_view(f, rank * (MPI_Offset)sizeof(int), MPI_INT, row, "native", MPI_INFO_NULL);
    MPI_Type_free(&row);
    MPI_File_get_view(f, &disp, &etype, &filetype, datarep);
    MPI_Type_get_extent(filetype, &lb, &extent);
    CHECK(disp == rank * (MPI_Offset)sizeof(int) && etype == MPI_INT);
    CHECK(extent == size * (MPI_Aint)sizeof(int) && !strcmp(datarep, "native"));
    MPI_Type_free(&filetype);

    MPI_File_write_all_begin(f, mine, CELLS, MPI_INT);
    MPI_File_write_all_end(f, mine, &st);
    MPI_Get_count(&st, MPI_INT, &n);
    CHECK(n == CELLS);
    MPI_File_sync(f);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_File_read_at_all_begin(f, 0, got, CELLS, MPI_INT);
    MPI_File_read_at_all_end(f, got, &st);
    CHECK(!memcmp(got, mine, sizeof got));

    MPI_File_set_view(f, 0, MPI_INT, MPI_INT, "native", MPI_INFO_NULL);
    for (int i = 0; i < CELLS; i++)
        mine[i] = -mine[i];
    MPI_File_iwrite_at(f, (MPI_Offset)rank * CELLS, mine, CELLS / 2, MPI_INT, &r[0]);
    MPI_File_iwrite_at(f, (MPI_Offset)rank * CELLS + CELLS / 2, mine + CELLS / 2, CELLS / 2,
                       MPI_INT, &r[1]);
    MPI_Waitall(2, r, MPI_STATUSES_IGNORE);
    MPI_File_sync(f);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_File_iread_at(f, (MPI_Offset)neighbour(1) * CELLS, got, CELLS, MPI_INT, &r[0]);
    MPI_Wait(&r[0], &st);
    MPI_Get_count(&st, MPI_INT, &n);
    CHECK(n == CELLS);
    for (int i = 0; i < CELLS; i++)
        CHECK(got[i] == -number(round, neighbour(1), i));
    MPI_File_iread_at_all(f, (MPI_Offset)rank * CELLS, got, CELLS, MPI_INT, &r[0]);
    MPI_Wait(&r[0], MPI_STATUS_IGNORE);
    CHECK(!memcmp(got, mine, sizeof got));
    MPI_File_close(&f);
    if (rank == 0)
        MPI_File_delete(name, MPI_INFO_NULL);
}

/* Several collective operations under way at a time, which exchange data among the ranks. */
static void many(int round)
{
    enum { MANY = 8, LONG = 4000 };
    static int mine[MANY][LONG], got[MANY][LONG];
    char name[64];
    MPI_Info hints;
    MPI_File f;
    MPI_Request r[MANY];
    snprintf(name, sizeof name, "mpiio-many-%d.dat", round);
    MPI_Info_create(&hints);
    MPI_Info_set(hints, "romio_cb_write", "enable");
    MPI_Info_set(hints, "cb_nodes", "1");
    MPI_File_open(MPI_COMM_WORLD, name, MPI_MODE_CREATE | MPI_MODE_RDWR, hints, &f);
    MPI_Info_free(&hints);
    MPI_File_set_view(f, 0, MPI_INT, MPI_INT, "native", MPI_INFO_NULL);
    for (int i = 0; i < MANY; i++) {
        for (int k = 0; k < LONG; k++)
            mine[i][k] = number(round, rank, i) + k;
        MPI_File_iwrite_at_all(f, ((MPI_Offset)i * size + rank) * LONG, mine[i], LONG, MPI_INT,
                               &r[i]);
    }
    MPI_Waitall(MANY, r, MPI_STATUSES_IGNORE);
    for (int i = 0; i < MANY; i++)
        MPI_File_iread_at_all(f, ((MPI_Offset)i * size + rank) * LONG, got[i], LONG, MPI_INT,
                              &r[i]);
    MPI_Waitall(MANY, r, MPI_STATUSES_IGNORE);
    CHECK(!memcmp(mine, got, sizeof mine));
    MPI_File_close(&f);
    if (rank == 0)
        MPI_File_delete(name, MPI_INFO_NULL);
}

static const struct check_case cases[] = {
    {"whole", whole}, {"later", later}, {"many", many}, {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "mpiio", cases, 10);
}
