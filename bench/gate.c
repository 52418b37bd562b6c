/*
 * gate.c - what single MPI calls cost: a plain MPI program that prints one line of JSON
 *
 *     {"gate": {"MPI_Comm_rank": 7.1, ...}}      ns per call (ping-pong: one way)
 *
 * bench.py runs it with and without dbg3 in turn. Two ranks; what concerns one rank alone is
 * measured on rank 0 while rank 1 waits in a barrier. Each figure is the median of REPEATS batches:
 * a batch that another process disturbed does not count.
 *
 * Usage: gate [SCALE]: SCALE multiplies the number of calls (default 1.0, about 3 s).
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { REPEATS = 11, BIG = 1 << 20 };

static char *out_buf, *in_buf;
static int rank;

static void comm_rank(long n)
{
    int r;

    for (long i = 0; i < n; i++)
        MPI_Comm_rank(MPI_COMM_WORLD, &r);
}

static void iprobe(long n)
{
    int flag;

    for (long i = 0; i < n; i++)
        MPI_Iprobe(MPI_ANY_SOURCE, 1, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
}

static void self_message(long n)
{
    MPI_Request reqs[2];

    for (long i = 0; i < n; i++) {
        MPI_Irecv(in_buf, 8, MPI_BYTE, 0, 2, MPI_COMM_SELF, &reqs[0]);
        MPI_Isend(out_buf, 8, MPI_BYTE, 0, 2, MPI_COMM_SELF, &reqs[1]);
        MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
    }
}

static void ping_pong(long n, int bytes)
{
    for (long i = 0; i < n; i++) {
        if (rank == 0) {
            MPI_Send(out_buf, bytes, MPI_BYTE, 1, 3, MPI_COMM_WORLD);
            MPI_Recv(in_buf, bytes, MPI_BYTE, 1, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else if (rank == 1) {
            MPI_Recv(in_buf, bytes, MPI_BYTE, 0, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(out_buf, bytes, MPI_BYTE, 0, 3, MPI_COMM_WORLD);
        }
    }
}

static void ping_pong_8(long n)
{
    ping_pong(n, 8);
}

static void ping_pong_1m(long n)
{
    ping_pong(n, BIG);
}

static void allreduce(long n)
{
    double mine = rank, all;

    for (long i = 0; i < n; i++)
        MPI_Allreduce(&mine, &all, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
}

static const struct row {
    const char *name;
    void (*run)(long n);
    long calls;     /* in a batch, at scale 1 */
    int alone;      /* rank 0 only */
    int one_way_of; /* messages one after the other in a call */
} rows[] = {
    {"MPI_Comm_rank", comm_rank, 1000000, 1, 1},
    {"MPI_Iprobe", iprobe, 200000, 1, 1},
    {"Isend+Irecv+Waitall self", self_message, 50000, 1, 1},
    {"ping-pong 8 B", ping_pong_8, 20000, 0, 2},
    {"ping-pong 1 MiB", ping_pong_1m, 200, 0, 2},
    {"MPI_Allreduce 8 B", allreduce, 20000, 0, 1},
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double measure(const struct row *row, long calls)
{
    double ns[REPEATS];

    if (!row->alone || rank == 0)
        row->run(calls / 10 + 1); /* the first calls set things up */
    for (int i = 0; i < REPEATS; i++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double start = MPI_Wtime();
        if (!row->alone || rank == 0)
            row->run(calls);
        ns[i] = (MPI_Wtime() - start) * 1e9 / (double)calls / row->one_way_of;
    }
    MPI_Barrier(MPI_COMM_WORLD);
    qsort(ns, REPEATS, sizeof(ns[0]), by_value);
    return ns[REPEATS / 2];
}

int main(int argc, char **argv)
{
    double scale = argc > 1 ? atof(argv[1]) : 1.0;
    int size;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    out_buf = calloc(BIG, 1);
    in_buf = calloc(BIG, 1);
    if (size < 2 || !out_buf || !in_buf)
        MPI_Abort(MPI_COMM_WORLD, 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        long calls = (long)((double)rows[i].calls * scale);
        double ns = measure(&rows[i], calls > 0 ? calls : 1);

        if (rank == 0)
            printf("%s\"%s\": %.2f", i == 0 ? "{\"gate\": {" : ", ", rows[i].name, ns);
    }
    if (rank == 0)
        printf("}}\n");
    free(out_buf);
    free(in_buf);
    MPI_Finalize();
    return 0;
}
