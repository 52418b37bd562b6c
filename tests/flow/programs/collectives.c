/*
 * collectives: every blocking collective and MPI_Ibarrier, with predefined and derived types, user
 * operations, in place, on the world and on halves of it. Ranks: 2 to 16.
 */
#include "check.h"

enum { LEN = 300, MAX = 16 };

static long out[LEN * MAX], in[LEN * MAX];

static long value(int from, int i, int round)
{
    return from * 100000L + round * 17 + i;
}

static void fill(int n, int round)
{
    for (int i = 0; i < n; i++)
        out[i] = value(rank, i, round);
    memset(in, 0xff, sizeof(in));
}

static void case_barrier(int round)
{
    MPI_Request req;
    int flag = 0;

    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Ibarrier(MPI_COMM_WORLD, &req);
    while (!flag)
        MPI_Test(&req, &flag, MPI_STATUS_IGNORE);
    MPI_Ibarrier(MPI_COMM_WORLD, &req);
    MPI_Wait(&req, MPI_STATUS_IGNORE);
    CHECK(req == MPI_REQUEST_NULL);
}

/* Ranks that entered early cannot have left before the last one entered. */
static void case_barrier_order(int round)
{
    int token = round;

    if (rank == size - 1)
        MPI_Send(&token, 1, MPI_INT, 0, 1, MPI_COMM_WORLD);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        int flag;

        do
            MPI_Iprobe(size - 1, 1, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
        while (!flag);
        MPI_Recv(&token, 1, MPI_INT, size - 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK(token == round);
    }
}

static void case_bcast(int round)
{
    for (int root = 0; root < size; root++) {
        fill(LEN, round);
        MPI_Bcast(out, LEN, MPI_LONG, root, MPI_COMM_WORLD);
        for (int i = 0; i < LEN; i++)
            CHECK(out[i] == value(root, i, round));
    }
}

/* A column of a matrix arrives as contiguous data elsewhere. */
static void case_bcast_derived(int round)
{
    MPI_Datatype column;
    double matrix[10][6], flat[10];

    MPI_Type_vector(10, 1, 6, MPI_DOUBLE, &column);
    MPI_Type_commit(&column);
    for (int i = 0; i < 10; i++)
        matrix[i][2] = i * 1.5 + round;
    if (rank == 0)
        MPI_Bcast(&matrix[0][2], 1, column, 0, MPI_COMM_WORLD);
    else
        MPI_Bcast(flat, 10, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    for (int i = 0; rank != 0 && i < 10; i++)
        CHECK(flat[i] == i * 1.5 + round);
    MPI_Type_free(&column);
}

static void case_gather_scatter(int round)
{
    int root = round % size;

    fill(LEN, round);
    MPI_Gather(out, LEN, MPI_LONG, in, LEN, MPI_LONG, root, MPI_COMM_WORLD);
    for (int from = 0; rank == root && from < size; from++)
        for (int i = 0; i < LEN; i++)
            CHECK(in[from * LEN + i] == value(from, i, round));
    MPI_Scatter(in, LEN, MPI_LONG, rank == root ? MPI_IN_PLACE : (void *)out, LEN, MPI_LONG, root,
                MPI_COMM_WORLD);
    for (int i = 0; i < LEN; i++)
        CHECK(out[i] == value(rank, i, round));
}

/* Rank r's share is r + 1 elements, with a gap of one element between shares. */
static void shares(int *counts, int *displs)
{
    for (int r = 0, at = 0; r < size; r++) {
        counts[r] = r + 1;
        displs[r] = at;
        at += r + 2;
    }
}

static void check_shares(const int *counts, const int *displs, int round)
{
    for (int r = 0; r < size; r++) {
        for (int i = 0; i < counts[r]; i++)
            CHECK(in[displs[r] + i] == value(r, i, round));
        CHECK(in[displs[r] + counts[r]] == -1);
    }
}

static void case_gatherv_scatterv(int round)
{
    int counts[MAX], displs[MAX], root = (round + 1) % size;

    shares(counts, displs);
    fill(LEN, round);
    MPI_Gatherv(out, counts[rank], MPI_LONG, in, counts, displs, MPI_LONG, root, MPI_COMM_WORLD);
    if (rank == root)
        check_shares(counts, displs, round);
    memset(out, 0, sizeof(out));
    MPI_Scatterv(in, counts, displs, MPI_LONG, out, counts[rank], MPI_LONG, root, MPI_COMM_WORLD);
    for (int i = 0; i < counts[rank]; i++)
        CHECK(out[i] == value(rank, i, round));
    CHECK(out[counts[rank]] == 0);
}

static void case_allgather(int round)
{
    int counts[MAX], displs[MAX];

    fill(LEN, round);
    MPI_Allgather(out, LEN, MPI_LONG, in, LEN, MPI_LONG, MPI_COMM_WORLD);
    for (int from = 0; from < size; from++)
        CHECK(in[from * LEN + 5] == value(from, 5, round));
    memcpy(in + rank * LEN, out, LEN * sizeof(long));
    MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, in, LEN, MPI_LONG, MPI_COMM_WORLD);
    for (int from = 0; from < size; from++)
        CHECK(in[from * LEN + LEN - 1] == value(from, LEN - 1, round));
    shares(counts, displs);
    fill(LEN, round);
    MPI_Allgatherv(out, counts[rank], MPI_LONG, in, counts, displs, MPI_LONG, MPI_COMM_WORLD);
    check_shares(counts, displs, round);
}

static void case_alltoall(int round)
{
    for (int to = 0; to < size; to++)
        for (int i = 0; i < LEN; i++)
            out[to * LEN + i] = value(rank, i, round) * 7 + to;
    MPI_Alltoall(out, LEN, MPI_LONG, in, LEN, MPI_LONG, MPI_COMM_WORLD);
    for (int from = 0; from < size; from++)
        for (int i = 0; i < LEN; i++)
            CHECK(in[from * LEN + i] == value(from, i, round) * 7 + rank);
    MPI_Alltoall(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, in, LEN, MPI_LONG, MPI_COMM_WORLD);
    for (int to = 0; to < size; to++)
        for (int i = 0; i < LEN; i++)
            CHECK(in[to * LEN + i] == out[to * LEN + i]);
}

/* Rank a sends rank b a + b + 1 elements; with alltoallw as longs or as pairs of ints. */
static void case_alltoallv(int round)
{
    int scounts[MAX], rcounts[MAX], displs[MAX], bytes[MAX], scount2[MAX];
    MPI_Datatype longs[MAX], pairs[MAX], pair;

    MPI_Type_contiguous(2, MPI_INT, &pair);
    MPI_Type_commit(&pair);
    fill(LEN * size, round);
    for (int r = 0; r < size; r++) {
        scounts[r] = rcounts[r] = scount2[r] = rank + r + 1;
        displs[r] = r * LEN;
        bytes[r] = r * LEN * (int)sizeof(long);
        longs[r] = MPI_LONG;
        pairs[r] = pair;
    }
    MPI_Alltoallv(out, scounts, displs, MPI_LONG, in, rcounts, displs, MPI_LONG, MPI_COMM_WORLD);
    for (int from = 0; from < size; from++)
        for (int i = 0; i < rcounts[from]; i++)
            CHECK(in[from * LEN + i] == value(from, rank * LEN + i, round));
    memset(in, 0xff, sizeof(in));
    MPI_Alltoallw(out, scount2, bytes, pairs, in, rcounts, bytes, pairs, MPI_COMM_WORLD);
    for (int from = 0; from < size; from++)
        for (int i = 0; i < rcounts[from]; i++)
            CHECK(in[from * LEN + i] == value(from, rank * LEN + i, round));
    MPI_Alltoallw(MPI_IN_PLACE, NULL, NULL, NULL, in, rcounts, bytes, longs, MPI_COMM_WORLD);
    for (int from = 0; from < size; from++)
        CHECK(in[from * LEN] == value(rank, from * LEN, round));
    MPI_Type_free(&pair);
}

enum { LARGE = 5000, APART = LARGE + 7 };

static long from[APART * MAX], to[APART * MAX];

/* Each member's block, `step` after the one before, holds what that has from `first` on. */
static void check_blocks(int step, int first, int round)
{
    for (int peer = 0; peer < size; peer++)
        for (int i = 0; i < LARGE; i++)
            CHECK(to[peer * step + i] == value(peer, first + i, round));
    memset(to, 0, sizeof(to));
}

/* What a rank gives itself is not in a log if there is much of it. */
static void case_large(int round)
{
    int counts[MAX], displs[MAX], bytes[MAX], root = round % size;
    MPI_Datatype longs[MAX], twice;

    for (int i = 0; i < APART * size; i++)
        from[i] = value(rank, i, round);
    for (int r = 0; r < size; r++) {
        counts[r] = LARGE;
        displs[r] = APART * r;
        bytes[r] = displs[r] * (int)sizeof(long);
        longs[r] = MPI_LONG;
    }
    MPI_Alltoall(from, LARGE, MPI_LONG, to, LARGE, MPI_LONG, MPI_COMM_WORLD);
    check_blocks(LARGE, rank * LARGE, round);
    MPI_Alltoallv(from, counts, displs, MPI_LONG, to, counts, displs, MPI_LONG, MPI_COMM_WORLD);
    check_blocks(APART, rank * APART, round);
    MPI_Alltoallw(from, counts, bytes, longs, to, counts, bytes, longs, MPI_COMM_WORLD);
    check_blocks(APART, rank * APART, round);
    MPI_Allgather(from, LARGE, MPI_LONG, to, LARGE, MPI_LONG, MPI_COMM_WORLD);
    check_blocks(LARGE, 0, round);
    MPI_Allgatherv(from, LARGE, MPI_LONG, to, counts, displs, MPI_LONG, MPI_COMM_WORLD);
    check_blocks(APART, 0, round);
    MPI_Gather(from, LARGE, MPI_LONG, to, LARGE, MPI_LONG, root, MPI_COMM_WORLD);
    if (rank == root)
        check_blocks(LARGE, 0, round);
    MPI_Gatherv(from, LARGE, MPI_LONG, to, counts, displs, MPI_LONG, root, MPI_COMM_WORLD);
    if (rank == root)
        check_blocks(APART, 0, round);
    MPI_Scatter(from, LARGE, MPI_LONG, to, LARGE, MPI_LONG, root, MPI_COMM_WORLD);
    for (int i = 0; i < LARGE; i++)
        CHECK(to[i] == value(root, rank * LARGE + i, round));
    MPI_Scatterv(from, counts, displs, MPI_LONG, to, LARGE, MPI_LONG, root, MPI_COMM_WORLD);
    for (int i = 0; i < LARGE; i++)
        CHECK(to[i] == value(root, displs[rank] + i, round));

    MPI_Type_create_resized(MPI_LONG, 0, 2 * sizeof(long), &twice); /* not in one piece */
    MPI_Type_commit(&twice);
    MPI_Alltoall(from, LARGE, MPI_LONG, to, LARGE, twice, MPI_COMM_SELF);
    for (int i = 0; i < LARGE; i++)
        CHECK(to[2 * i] == value(rank, i, round));
    MPI_Type_free(&twice);
}

static void case_reduce(int round)
{
    int root = round % size;
    long sum = 0;

    for (int r = 0; r < size; r++)
        sum += value(r, 0, round);
    fill(LEN, round);
    MPI_Reduce(out, in, LEN, MPI_LONG, MPI_SUM, root, MPI_COMM_WORLD);
    for (int i = 0; rank == root && i < LEN; i++)
        CHECK(in[i] == sum + (long)i * size);
    CHECK(rank == root || in[0] == -1);
    MPI_Allreduce(MPI_IN_PLACE, out, LEN, MPI_LONG, MPI_MAX, MPI_COMM_WORLD);
    CHECK(out[9] == value(size - 1, 9, round));
}

/* The predefined operations on several predefined types. */
static void case_reduce_ops(int round)
{
    struct {
        double value;
        int where;
    } pair = {-rank, rank}, least;
    unsigned char bits = (unsigned char)(1u << (rank % 8)), all_bits;
    float product = 2.0f;
    int yes = rank == 0, any, every;
    unsigned short parity = 1;
    double complex_sum[2] = {1.0, rank};

    MPI_Allreduce(&pair, &least, 1, MPI_DOUBLE_INT, MPI_MINLOC, MPI_COMM_WORLD);
    CHECK(least.value == -(size - 1) && least.where == size - 1);
    MPI_Allreduce(&pair, &least, 1, MPI_DOUBLE_INT, MPI_MAXLOC, MPI_COMM_WORLD);
    CHECK(least.where == 0);
    MPI_Allreduce(&bits, &all_bits, 1, MPI_UNSIGNED_CHAR, MPI_BOR, MPI_COMM_WORLD);
    CHECK(all_bits == (size >= 8 ? 0xff : (1 << size) - 1));
    MPI_Allreduce(MPI_IN_PLACE, &product, 1, MPI_FLOAT, MPI_PROD, MPI_COMM_WORLD);
    CHECK(product == (float)(1 << size));
    MPI_Allreduce(&yes, &any, 1, MPI_INT, MPI_LOR, MPI_COMM_WORLD);
    MPI_Allreduce(&yes, &every, 1, MPI_INT, MPI_LAND, MPI_COMM_WORLD);
    CHECK(any && !every);
    MPI_Allreduce(MPI_IN_PLACE, &parity, 1, MPI_UNSIGNED_SHORT, MPI_BXOR, MPI_COMM_WORLD);
    CHECK(parity == size % 2);
    MPI_Allreduce(MPI_IN_PLACE, complex_sum, 1, MPI_C_DOUBLE_COMPLEX, MPI_SUM, MPI_COMM_WORLD);
    CHECK(complex_sum[0] == size && complex_sum[1] == size * (size - 1) / 2);
}

/* Composition of x -> a x + b over the integers modulo a prime: associative, not commutative. */
static void compose(void *first, void *second, int *len, MPI_Datatype *type)
{
    long *f = first, *g = second;

    CHECK(*type != MPI_DATATYPE_NULL);
    for (int i = 0; i < *len; i++, f += 2, g += 2) {
        long a = f[0] * g[0] % 10007, b = (g[0] * f[1] + g[1]) % 10007;

        g[0] = a;
        g[1] = b;
    }
}

static void modular_sum(void *in_values, void *inout, int *len, MPI_Datatype *type)
{
    int *a = in_values, *b = inout;

    for (int i = 0; i < *len; i++)
        b[i] = (a[i] + b[i]) % 1009;
}

/* What reducing the maps of ranks 0 to `last` gives. */
static void compose_up_to(int last, int round, long *map)
{
    int one = 1;
    MPI_Datatype type = MPI_LONG;

    map[0] = 1;
    map[1] = 0;
    for (int r = 0; r <= last; r++) {
        long next[2] = {r + 2, round % 100 + r};

        compose(map, next, &one, &type);
        map[0] = next[0];
        map[1] = next[1];
    }
}

static void case_user_op(int round)
{
    long map[2] = {rank + 2, round % 100 + rank}, result[2], expected[2];
    int number = rank * 500, sum, commutes;
    MPI_Datatype map_type;
    MPI_Op op, modular;

    MPI_Type_contiguous(2, MPI_LONG, &map_type);
    MPI_Type_commit(&map_type);
    MPI_Op_create(compose, 0, &op);
    MPI_Op_create(modular_sum, 1, &modular);
    MPI_Op_commutative(op, &commutes);
    CHECK(!commutes);
    MPI_Allreduce(map, result, 1, map_type, op, MPI_COMM_WORLD);
    compose_up_to(size - 1, round, expected);
    CHECK(result[0] == expected[0] && result[1] == expected[1]);
    MPI_Scan(map, result, 1, map_type, op, MPI_COMM_WORLD);
    compose_up_to(rank, round, expected);
    CHECK(result[0] == expected[0] && result[1] == expected[1]);
    MPI_Exscan(map, result, 1, map_type, op, MPI_COMM_WORLD);
    compose_up_to(rank - 1, round, expected);
    CHECK(rank == 0 || (result[0] == expected[0] && result[1] == expected[1]));
    MPI_Reduce(&number, &sum, 1, MPI_INT, modular, 0, MPI_COMM_WORLD);
    CHECK(rank != 0 || sum == 500 * (size * (size - 1) / 2) % 1009);
    MPI_Op_free(&modular);
    MPI_Op_free(&op);
    CHECK(op == MPI_OP_NULL);
    MPI_Type_free(&map_type);
}

static void case_reduce_local(int round)
{
    double a[3] = {1.0, 2.0, 3.0}, b[3] = {10.0, 20.0, 30.0};

    MPI_Reduce_local(a, b, 3, MPI_DOUBLE, MPI_SUM);
    CHECK(b[0] == 11.0 && b[1] == 22.0 && b[2] == 33.0);
}

static void case_reduce_scatter(int round)
{
    int counts[MAX], displs[MAX], first = 0;
    long sum = 0;

    shares(counts, displs);
    for (int r = 0; r < size; r++) {
        first += r < rank ? counts[r] : 0;
        sum += value(r, 0, round);
    }
    fill(LEN, round);
    MPI_Reduce_scatter(out, in, counts, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < counts[rank]; i++)
        CHECK(in[i] == sum + (long)(first + i) * size);
    MPI_Reduce_scatter_block(out, in, 3, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < 3; i++)
        CHECK(in[i] == sum + (3L * rank + i) * size);
}

/* Long enough that MPI adds piece by piece in the buffer. What it leaves behind the result is its
 * own affair, but the program has it: each rank sends a sum of all. */
static void case_reduce_scatter_in_place(int round)
{
    enum { SHARE = 40000 };
    int counts[MAX];
    long *all = malloc(sizeof(long) * SHARE * (size_t)size), left = 0, total;

    for (int call = 0; call < 2; call++) {
        for (long i = 0; i < (long)SHARE * size; i++)
            all[i] = value(rank, 0, round) + i;
        for (int r = 0; r < size; r++)
            counts[r] = SHARE;
        if (call == 0)
            MPI_Reduce_scatter(MPI_IN_PLACE, all, counts, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
        else
            MPI_Reduce_scatter_block(MPI_IN_PLACE, all, SHARE, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
        CHECK(all[1] - all[0] == size);
        for (long i = 0; i < (long)SHARE * size; i++)
            left = left * 31 + all[i];
    }
    MPI_Reduce(&left, &total, 1, MPI_LONG, MPI_BXOR, 0, MPI_COMM_WORLD);
    free(all);
}

static void case_scan(int round)
{
    long mine = rank + round, result = -1, expected = 0;

    MPI_Exscan(&mine, &result, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    for (int r = 0; r < rank; r++)
        expected += r + round;
    CHECK(rank == 0 || result == expected);
    MPI_Scan(&mine, &result, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    CHECK(result == expected + mine);
}

/* Even and odd ranks do different collectives at the same time. */
static void case_halves(int round)
{
    MPI_Comm half;
    int half_rank, half_size, sum, token = rank;

    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, -rank, &half);
    MPI_Comm_rank(half, &half_rank);
    MPI_Comm_size(half, &half_size);
    for (int i = 0; i < 3 + rank % 2; i++) {
        MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, half);
        if (rank % 2)
            MPI_Barrier(half);
    }
    CHECK(sum == half_size * (half_size - 1) + (rank % 2) * half_size);
    MPI_Bcast(&token, 1, MPI_INT, half_size - 1, half);
    CHECK(token == rank % 2); /* the key reversed the order: the last is the lowest */
    MPI_Comm_free(&half);
    CHECK(half == MPI_COMM_NULL);
}

static void case_neighbours(int round)
{
    int periodic = 1, counts[2] = {1, 2}, displs[2] = {0, 2}, displs_of[2] = {0, 4};
    int mine[6], theirs[6] = {-1, -1, -1, -1, -1, -1};
    MPI_Comm ring;

    for (int i = 0; i < 6; i++)
        mine[i] = rank * 10 + i;
    MPI_Cart_create(MPI_COMM_WORLD, 1, &size, &periodic, 0, &ring);
    MPI_Neighbor_allgather(mine, 1, MPI_INT, theirs, 1, MPI_INT, ring);
    CHECK(theirs[0] == neighbour(-1) * 10 && theirs[1] == neighbour(1) * 10);
    MPI_Neighbor_alltoall(mine, 1, MPI_INT, theirs, 1, MPI_INT, ring);
    CHECK(size == 2 || theirs[0] == neighbour(-1) * 10 + 1);
    CHECK(size == 2 || theirs[1] == neighbour(1) * 10);
    counts[0] = 2;
    MPI_Neighbor_allgatherv(mine, 2, MPI_INT, theirs, counts, displs, MPI_INT, ring);
    CHECK(theirs[1] == neighbour(-1) * 10 + 1 && theirs[3] == neighbour(1) * 10 + 1);
    MPI_Neighbor_alltoallv(mine, counts, displs_of, MPI_INT, theirs, counts, displs, MPI_INT, ring);
    CHECK(size == 2 || theirs[0] == neighbour(-1) * 10 + 4);
    CHECK(size == 2 || theirs[2] == neighbour(1) * 10);
    MPI_Comm_free(&ring);
}

/* One asks in a loop for a message that comes after a collective which another will only enter when
 * the first has sent it one. */
static void case_asking(int round)
{
    static MPI_Comm pair = MPI_COMM_NULL;
    MPI_Request reqs[2];
    int flag = 0, token = round, got[2] = {-1, -1};

    if (size < 3)
        return;
    if (pair == MPI_COMM_NULL)
        MPI_Comm_split(MPI_COMM_WORLD, rank == 1 || rank == 2, rank, &pair);
    if (rank == 0) {
        while (!flag)
            MPI_Iprobe(1, 17, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
        MPI_Recv(&token, 1, MPI_INT, 1, 17, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Send(&token, 1, MPI_INT, 2, 18, MPI_COMM_WORLD);
    }
    if (rank == 2)
        MPI_Recv(&token, 1, MPI_INT, 0, 18, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (rank != 1 && rank != 2)
        return;
    for (int i = 0; i < 2; i++) {
        got[i] = rank == 1 ? 10 * round + i : -1;
        MPI_Ibcast(&got[i], 1, MPI_INT, 0, pair, &reqs[i]);
    }
    if (rank == 1)
        MPI_Send(&token, 1, MPI_INT, 0, 17, MPI_COMM_WORLD);
    MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
    CHECK(token == round && got[0] == 10 * round && got[1] == 10 * round + 1);
}

static const struct check_case cases[] = {
    {"barrier", case_barrier},
    {"barrier_order", case_barrier_order},
    {"bcast", case_bcast},
    {"bcast_derived", case_bcast_derived},
    {"gather_scatter", case_gather_scatter},
    {"gatherv_scatterv", case_gatherv_scatterv},
    {"allgather", case_allgather},
    {"alltoall", case_alltoall},
    {"alltoallv", case_alltoallv},
    {"large", case_large},
    {"reduce", case_reduce},
    {"reduce_ops", case_reduce_ops},
    {"user_op", case_user_op},
    {"reduce_local", case_reduce_local},
    {"reduce_scatter", case_reduce_scatter},
    {"reduce_scatter_in_place", case_reduce_scatter_in_place},
    {"scan", case_scan},
    {"halves", case_halves},
    {"neighbours", case_neighbours},
    {"asking", case_asking},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "collectives", cases, 10);
}
