/*
 * files: open files that are read, written, appended to and sought in between messages: a restart
 * must put each back at its offset, and must not append twice.
 *
 * Usage: files [ROUNDS [FOLDER]]; makes FOLDER/{in,log,table}.RANK (default: the current folder)
 * and checks their contents in the end. Any number of ranks.
 */
#include "check.h"
#include <fcntl.h>
#include <unistd.h>

enum { RECORD = 16 };

static FILE *open_file(const char *folder, const char *name, const char *mode)
{
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s.%d", folder, name, rank);
    file = fopen(path, mode);
    CHECK(file);
    return file;
}

static void record(char *text, int number)
{
    unsigned n = (unsigned)number;

    snprintf(text, RECORD + 1, "%08u %06u\n", n % 100000000, n * 7 % 1000000);
}

static void make_input(const char *folder, int rounds)
{
    FILE *file = open_file(folder, "in", "w");
    char text[RECORD + 1];

    for (int i = 0; i < rounds; i++) {
        record(text, i + rank);
        CHECK(fwrite(text, RECORD, 1, file) == 1);
    }
    CHECK(fclose(file) == 0);
}

/* Reads the file from its start: `rounds` records, the number of each given by first and step. */
static void check_records(FILE *file, int rounds, int first, int step)
{
    char text[RECORD + 1], expected[RECORD + 1];

    rewind(file);
    for (int i = 0; i < rounds; i++) {
        memset(text, 0, sizeof(text));
        CHECK(fread(text, RECORD, 1, file) == 1);
        record(expected, first + i * step);
        CHECK(strcmp(text, expected) == 0);
    }
    CHECK(fgetc(file) == EOF);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 500, sum = 0, all;
    const char *folder = argc > 2 ? argv[2] : ".";
    char text[RECORD + 1], expected[RECORD + 1];

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    make_input(folder, rounds);
    FILE *in = open_file(folder, "in", "r");
    FILE *log = open_file(folder, "log", "w");
    CHECK(fclose(log) == 0);
    log = open_file(folder, "log", "a+");
    FILE *table = open_file(folder, "table", "w+");
    int twin = dup(fileno(table)); /* shares its offset with the table's */

    CHECK(twin >= 0);
    for (int round = 0; round < rounds; round++) {
        CHECK(fread(text, 1, RECORD, in) == RECORD);
        text[RECORD] = '\0';
        record(expected, round + rank);
        CHECK(strcmp(text, expected) == 0);
        MPI_Allreduce(&round, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
        CHECK(all == round * size);
        sum += all % 11;
        record(text, round * 3);
        CHECK(fwrite(text, RECORD, 1, log) == 1 && fflush(log) == 0);
        /* The table is filled from its end: every record is sought. */
        record(text, rounds - 1 - round);
        off_t at = (off_t)(rounds - 1 - round) * RECORD;
        CHECK(lseek(twin, at, SEEK_SET) == at);
        CHECK(write(fileno(table), text, RECORD) == RECORD);
        MPI_Sendrecv_replace(&sum, 1, MPI_INT, neighbour(1), 1, neighbour(-1), 1, MPI_COMM_WORLD,
                             MPI_STATUS_IGNORE);
        CHECK(lseek(twin, 0, SEEK_CUR) == at + RECORD);
    }
    CHECK(fgetc(in) == EOF);
    check_records(log, rounds, 0, 3);
    check_records(table, rounds, 0, 1);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        printf("sum %d\nOK files\n", sum);
    MPI_Finalize();
    return 0;
}
