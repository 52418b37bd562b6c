/*
 * mpiio_open: files that stay open from the first round to the last: a restart must open them again
 * with their views and pointers, must not truncate them, and must not write anything twice.
 *
 * Usage: mpiio_open [ROUNDS]. Makes mpiio-*.dat in the current folder and leaves them there: a
 * restart needs them.
 */
#include "check.h"

enum { CELLS = 24 };

static MPI_File rows, own, turns, later;

static int number(int round, int from, int place)
{
    return round * 10000 + from * 100 + place;
}

static MPI_File open_file(MPI_Comm comm, const char *name, int mode)
{
    MPI_File f;
    int who;
    MPI_Comm_rank(comm, &who);
    if (who == 0)
        MPI_File_delete(name, MPI_INFO_NULL); /* of an earlier run */
    MPI_Barrier(comm);
    CHECK(MPI_File_open(comm, name, MPI_MODE_CREATE | mode, MPI_INFO_NULL, &f) == MPI_SUCCESS);
    return f;
}

static void open_files(void)
{
    char name[64];
    MPI_Datatype block, row;
    rows = open_file(MPI_COMM_WORLD, "mpiio-rows.dat", MPI_MODE_EXCL | MPI_MODE_RDWR);
    MPI_Type_contiguous(2, MPI_INT, &block);
    MPI_Type_create_resized(block, 0, 2 * size * (MPI_Aint)sizeof(int), &row);
    MPI_Type_commit(&row);
    MPI_File_set_view(rows, 16 + 2 * rank * (MPI_Offset)sizeof(int), MPI_INT, row, "native",
                      MPI_INFO_NULL);
    MPI_Type_free(&block);
    MPI_Type_free(&row);
    snprintf(name, sizeof(name), "mpiio-own-%d.dat", rank);
    own = open_file(MPI_COMM_SELF, name, MPI_MODE_APPEND | MPI_MODE_RDWR);
    turns = open_file(MPI_COMM_WORLD, "mpiio-turns.dat", MPI_MODE_RDWR);
    MPI_File_set_view(turns, 0, MPI_INT, MPI_INT, "native", MPI_INFO_NULL);
    later = open_file(MPI_COMM_WORLD, "mpiio-later.dat", MPI_MODE_RDWR);
    MPI_File_set_view(later, 0, MPI_INT, MPI_INT, "native", MPI_INFO_NULL);
    MPI_File_set_atomicity(later, 1);
}

/* Something for an epoch to fall into. */
static void talk(int round)
{
    int all;
    MPI_Allreduce(&round, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    CHECK(all == round * size);
    MPI_Sendrecv_replace(&all, 1, MPI_INT, neighbour(1), 1, neighbour(-1), 1, MPI_COMM_WORLD,
                         MPI_STATUS_IGNORE);
}

/* Two cells of each rank in turn, behind a head of 16 bytes. */
static void write_rows(int round)
{
    int mine[CELLS], got[CELLS];
    MPI_Offset at;
    for (int i = 0; i < CELLS; i++)
        mine[i] = number(round, rank, i);
    MPI_File_write_all(rows, mine, CELLS / 2, MPI_INT, MPI_STATUS_IGNORE);
    talk(round);
    MPI_File_write(rows, mine + CELLS / 2, CELLS / 2, MPI_INT, MPI_STATUS_IGNORE);
    MPI_File_get_position(rows, &at);
    CHECK(at == (MPI_Offset)(round + 1) * CELLS);
    MPI_File_read_at(rows, (MPI_Offset)round * CELLS, got, CELLS, MPI_INT, MPI_STATUS_IGNORE);
    CHECK(!memcmp(got, mine, sizeof(got)));
}

static void check_view(void)
{
    MPI_Offset disp;
    MPI_Datatype etype, filetype;
    MPI_Aint lb, extent;
    char datarep[MPI_MAX_DATAREP_STRING];
    int amode, atomic;
    MPI_File_get_view(rows, &disp, &etype, &filetype, datarep);
    MPI_Type_get_extent(filetype, &lb, &extent);
    CHECK(disp == 16 + 2 * rank * (MPI_Offset)sizeof(int) && etype == MPI_INT);
    CHECK(extent == 2 * size * (MPI_Aint)sizeof(int));
    MPI_Type_free(&filetype);
    MPI_File_get_amode(rows, &amode);
    CHECK(amode == (MPI_MODE_CREATE | MPI_MODE_EXCL | MPI_MODE_RDWR));
    MPI_File_get_atomicity(later, &atomic);
    CHECK(atomic);
}

static void append(int round)
{
    int line[2] = {round, rank};
    MPI_Offset length;
    MPI_File_write(own, line, 2, MPI_INT, MPI_STATUS_IGNORE);
    MPI_File_get_size(own, &length);
    CHECK(length == (MPI_Offset)(round + 1) * (MPI_Offset)sizeof(line));
}

/* The shared pointer: every other round in order of ranks, else whoever comes. */
static void take_turns(int round)
{
    int mine = number(round, rank, 0), got = 0, sum = 0, wanted = 0;
    MPI_Offset at;
    if (round % 2)
        MPI_File_write_ordered(turns, &mine, 1, MPI_INT, MPI_STATUS_IGNORE);
    else
        MPI_File_write_shared(turns, &mine, 1, MPI_INT, MPI_STATUS_IGNORE);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_File_get_position_shared(turns, &at);
    CHECK(at == (MPI_Offset)(round + 1) * size);
    for (int i = 0; i < size; i++) {
        MPI_File_read_at(turns, (MPI_Offset)round * size + i, &got, 1, MPI_INT,
                         MPI_STATUS_IGNORE);
        CHECK(round % 2 == 0 || got == number(round, i, 0));
        sum += got;
        wanted += number(round, i, 0);
    }
    CHECK(sum == wanted);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* What is under way while messages come and go. */
static void do_later(int round)
{
    int mine[CELLS], got[CELLS];
    MPI_Request r[2];
    MPI_Offset base = (MPI_Offset)round * size * CELLS;
    for (int i = 0; i < CELLS; i++)
        mine[i] = -number(round, rank, i);
    MPI_File_iwrite_at(later, base + rank * CELLS, mine, CELLS / 2, MPI_INT, &r[0]);
    MPI_File_iwrite_at_all(later, base + rank * CELLS + CELLS / 2, mine + CELLS / 2, CELLS / 2,
                           MPI_INT, &r[1]);
    talk(round);
    MPI_Waitall(2, r, MPI_STATUSES_IGNORE);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_File_read_at_all_begin(later, base + neighbour(1) * CELLS, got, CELLS, MPI_INT);
    talk(round);
    MPI_File_read_at_all_end(later, got, MPI_STATUS_IGNORE);
    for (int i = 0; i < CELLS; i++)
        CHECK(got[i] == -number(round, neighbour(1), i));
}

static void check_all(int rounds)
{
    int got[CELLS], line[2];
    MPI_Offset length;
    MPI_File_get_size(rows, &length);
    CHECK(length == 16 + (MPI_Offset)rounds * size * CELLS * (MPI_Offset)sizeof(int));
    MPI_File_get_size(turns, &length);
    CHECK(length == (MPI_Offset)rounds * size * (MPI_Offset)sizeof(int));
    MPI_File_seek(rows, 0, MPI_SEEK_SET);
    MPI_File_seek(own, 0, MPI_SEEK_SET);
    for (int round = 0; round < rounds; round++) {
        MPI_File_read(rows, got, CELLS, MPI_INT, MPI_STATUS_IGNORE);
        CHECK(got[0] == number(round, rank, 0) && got[CELLS - 1] == number(round, rank, CELLS - 1));
        MPI_File_read(own, line, 2, MPI_INT, MPI_STATUS_IGNORE);
        CHECK(line[0] == round && line[1] == rank);
    }
}

int main(int argc, char **argv)
{
    const char *rounds = argc > 1 ? argv[1] : "50";
    int round = 0;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    open_files();
    for (; check_more(rounds, round); round++) {
        write_rows(round);
        check_view();
        append(round);
        take_turns(round);
        do_later(round);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    check_all(round);
    MPI_File_close(&rows);
    MPI_File_close(&own);
    MPI_File_close(&turns);
    MPI_File_close(&later);
    if (rank == 0)
        printf("OK mpiio_open\n");
    MPI_Finalize();
    return 0;
}
