/*
 * types: every datatype constructor, each sent round the ring as the derived type and received as
 * plain data and the other way round; sizes, extents, envelopes, packing; some types live across
 * rounds, so that a restart must rebuild them. Ranks: 2 or more.
 */
#include "check.h"

enum { CELLS = 400 };

static int grid[CELLS], flat[CELLS], back[CELLS];

static int pattern(int from, int i, int round)
{
    return from * 1000 + i + round * 7;
}

/*
 * Sends `count` of `type` from grid; the receiver takes it as plain ints, which must be the grid's
 * ints at `index[0..n)`. Then sends these ints back into the layout and compares. Frees the type.
 */
static void check_layout(MPI_Datatype *type, int count, const int *index, int n, int round)
{
    int bytes;

    MPI_Type_commit(type);
    MPI_Type_size(*type, &bytes);
    CHECK(bytes * count == n * (int)sizeof(int));
    for (int i = 0; i < CELLS; i++)
        grid[i] = pattern(rank, i, round);
    memset(flat, 0xff, sizeof(flat));
    memset(back, 0xff, sizeof(back));
    MPI_Sendrecv(grid, count, *type, neighbour(1), 1, flat, CELLS, MPI_INT, neighbour(-1), 1,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int i = 0; i < n; i++)
        CHECK(flat[i] == pattern(neighbour(-1), index[i], round));
    CHECK(flat[n] == -1);

    MPI_Request req;
    MPI_Status status;
    int got;
    MPI_Irecv(back, count, *type, neighbour(1), 2, MPI_COMM_WORLD, &req);
    MPI_Send(flat, n, MPI_INT, neighbour(-1), 2, MPI_COMM_WORLD);
    MPI_Wait(&req, &status);
    MPI_Get_count(&status, *type, &got);
    CHECK(got == count);
    int used = 0;
    for (int i = 0; i < CELLS; i++)
        used += back[i] != -1;
    CHECK(used == n); /* the gaps were left alone */
    for (int i = 0; i < n; i++)
        CHECK(back[index[i]] == pattern(rank, index[i], round));
    MPI_Type_free(type);
    CHECK(*type == MPI_DATATYPE_NULL);
}

static void case_contiguous(int round)
{
    int index[] = {0, 1, 2, 3, 4, 5};
    MPI_Datatype type;

    MPI_Type_contiguous(3, MPI_INT, &type);
    check_layout(&type, 2, index, 6, round);
}

static void case_vector(int round)
{
    int index[] = {0, 1, 5, 6, 10, 11};
    MPI_Datatype type;

    MPI_Type_vector(3, 2, 5, MPI_INT, &type);
    check_layout(&type, 1, index, 6, round);
    MPI_Type_create_hvector(3, 2, 5 * sizeof(int), MPI_INT, &type);
    check_layout(&type, 1, index, 6, round);
}

static void case_indexed(int round)
{
    int lengths[] = {2, 0, 3}, displs[] = {7, 9, 1}, index[] = {7, 8, 1, 2, 3};
    MPI_Aint bytes[] = {28, 36, 4};
    MPI_Datatype type;

    MPI_Type_indexed(3, lengths, displs, MPI_INT, &type);
    check_layout(&type, 1, index, 5, round);
    MPI_Type_create_hindexed(3, lengths, bytes, MPI_INT, &type);
    check_layout(&type, 1, index, 5, round);
}

static void case_indexed_block(int round)
{
    int displs[] = {20, 4, 9}, index[] = {20, 21, 4, 5, 9, 10};
    MPI_Aint bytes[] = {80, 16, 36};
    MPI_Datatype type;

    MPI_Type_create_indexed_block(3, 2, displs, MPI_INT, &type);
    check_layout(&type, 1, index, 6, round);
    MPI_Type_create_hindexed_block(3, 2, bytes, MPI_INT, &type);
    check_layout(&type, 1, index, 6, round);
}

static void case_resized(int round)
{
    int index[] = {0, 6, 12, 18};
    MPI_Aint lb, extent, true_lb, true_extent;
    MPI_Datatype type;

    MPI_Type_create_resized(MPI_INT, 0, 6 * sizeof(int), &type);
    MPI_Type_get_extent(type, &lb, &extent);
    CHECK(lb == 0 && extent == 24);
    MPI_Type_get_true_extent(type, &true_lb, &true_extent);
    CHECK(true_lb == 0 && true_extent == 4);
    check_layout(&type, 4, index, 4, round);
}

static void case_subarray(int round)
{
    int sizes[] = {6, 8}, sub[] = {2, 3}, starts[] = {1, 4}, index[] = {12, 13, 14, 20, 21, 22};
    int sub_f[] = {3, 2}, starts_f[] = {4, 1}, sizes_f[] = {8, 6};
    MPI_Datatype type;

    MPI_Type_create_subarray(2, sizes, sub, starts, MPI_ORDER_C, MPI_INT, &type);
    check_layout(&type, 1, index, 6, round);
    MPI_Type_create_subarray(2, sizes_f, sub_f, starts_f, MPI_ORDER_FORTRAN, MPI_INT, &type);
    check_layout(&type, 1, index, 6, round);
}

static void case_darray(int round)
{
    int gsizes[] = {8}, distribs[] = {MPI_DISTRIBUTE_CYCLIC}, dargs[] = {2}, psizes[] = {2};
    int index[] = {2, 3, 6, 7};
    MPI_Datatype type;

    MPI_Type_create_darray(2, 1, 1, gsizes, distribs, dargs, psizes, MPI_ORDER_C, MPI_INT, &type);
    check_layout(&type, 1, index, 4, round);
}

static void case_struct(int round)
{
    struct particle {
        double mass;
        char kind;
        float velocity[3];
        long id;
    } send[4], got[4];
    int lengths[] = {1, 1, 3, 1};
    MPI_Aint displs[] = {offsetof(struct particle, mass), offsetof(struct particle, kind),
                         offsetof(struct particle, velocity), offsetof(struct particle, id)};
    MPI_Datatype fields[] = {MPI_DOUBLE, MPI_CHAR, MPI_FLOAT, MPI_LONG}, packed, type;
    int bytes;

    MPI_Type_create_struct(4, lengths, displs, fields, &packed);
    MPI_Type_create_resized(packed, 0, sizeof(struct particle), &type);
    MPI_Type_free(&packed); /* a type may be freed while others are made of it */
    MPI_Type_commit(&type);
    MPI_Type_size(type, &bytes);
    CHECK(bytes == 8 + 1 + 12 + 8);
    memset(got, 0, sizeof(got));
    for (int i = 0; i < 4; i++)
        send[i] = (struct particle){rank + 0.5 * i, 'a' + (char)i, {1.0f, 2.0f, (float)i}, round};
    MPI_Sendrecv(send, 4, type, neighbour(1), 3, got, 4, type, neighbour(-1), 3, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    for (int i = 0; i < 4; i++) {
        CHECK(got[i].mass == neighbour(-1) + 0.5 * i && got[i].kind == 'a' + i);
        CHECK(got[i].velocity[2] == (float)i && got[i].id == round);
    }
    MPI_Type_free(&type);
}

/* A vector of structs of vectors, at an absolute address. */
static void case_nested_bottom(int round)
{
    static int field[60];
    MPI_Datatype column, pair, absolute;
    MPI_Aint address;
    int length = 1;

    for (int i = 0; i < 60; i++)
        field[i] = pattern(rank, i, round);
    MPI_Type_vector(3, 1, 10, MPI_INT, &column);
    MPI_Type_create_hvector(2, 1, 4 * sizeof(int), column, &pair);
    MPI_Get_address(field, &address);
    MPI_Type_create_struct(1, &length, &address, &pair, &absolute);
    MPI_Type_commit(&absolute);
    MPI_Type_free(&column);
    MPI_Type_free(&pair);
    MPI_Sendrecv(MPI_BOTTOM, 1, absolute, neighbour(1), 4, flat, CELLS, MPI_INT, neighbour(-1), 4,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    int index[] = {0, 10, 20, 4, 14, 24};
    for (int i = 0; i < 6; i++)
        CHECK(flat[i] == pattern(neighbour(-1), index[i], round));
    MPI_Type_free(&absolute);
}

static void case_dup_and_names(int round)
{
    MPI_Datatype type, twin;
    char name[MPI_MAX_OBJECT_NAME];
    int len;

    MPI_Type_contiguous(5, MPI_INT, &type);
    MPI_Type_set_name(type, "row");
    MPI_Type_get_name(type, name, &len);
    CHECK(strcmp(name, "row") == 0);
    MPI_Type_dup(type, &twin);
    MPI_Type_free(&type);
    int index[] = {0, 1, 2, 3, 4};
    check_layout(&twin, 1, index, 5, round);
    MPI_Type_get_name(MPI_DOUBLE, name, &len);
    CHECK(strcmp(name, "MPI_DOUBLE") == 0);
}

static void case_envelope(int round)
{
    int n_ints, n_addresses, n_types, combiner, ints[3];
    MPI_Datatype type, old;

    MPI_Type_vector(4, 2, 9, MPI_DOUBLE, &type);
    MPI_Type_get_envelope(type, &n_ints, &n_addresses, &n_types, &combiner);
    CHECK(combiner == MPI_COMBINER_VECTOR && n_ints == 3 && n_addresses == 0 && n_types == 1);
    MPI_Type_get_contents(type, 3, 0, 1, ints, NULL, &old);
    CHECK(ints[0] == 4 && ints[1] == 2 && ints[2] == 9 && old == MPI_DOUBLE);
    MPI_Type_free(&type);
    MPI_Type_get_envelope(MPI_INT, &n_ints, &n_addresses, &n_types, &combiner);
    CHECK(combiner == MPI_COMBINER_NAMED);
}

static void case_pack(int round)
{
    char buffer[256];
    int at = 0, size_int, size_double, whole = rank * 3 + round, got_int;
    double real = rank + 0.25, got_real;
    MPI_Status status;

    MPI_Pack_size(1, MPI_INT, MPI_COMM_WORLD, &size_int);
    MPI_Pack_size(1, MPI_DOUBLE, MPI_COMM_WORLD, &size_double);
    CHECK(size_int + size_double <= (int)sizeof(buffer));
    MPI_Pack(&whole, 1, MPI_INT, buffer, sizeof(buffer), &at, MPI_COMM_WORLD);
    MPI_Pack(&real, 1, MPI_DOUBLE, buffer, sizeof(buffer), &at, MPI_COMM_WORLD);
    char coming[256];
    MPI_Sendrecv(buffer, at, MPI_PACKED, neighbour(1), 5, coming, sizeof(coming), MPI_PACKED,
                 neighbour(-1), 5, MPI_COMM_WORLD, &status);
    int count;
    MPI_Get_count(&status, MPI_PACKED, &count);
    CHECK(count == at);
    at = 0;
    MPI_Unpack(coming, count, &at, &got_int, 1, MPI_INT, MPI_COMM_WORLD);
    MPI_Unpack(coming, count, &at, &got_real, 1, MPI_DOUBLE, MPI_COMM_WORLD);
    CHECK(got_int == neighbour(-1) * 3 + round && got_real == neighbour(-1) + 0.25);
}

/* A message that ends within a type: no whole count, but a number of elements. */
static void case_partial(int round)
{
    MPI_Datatype triple;
    MPI_Status status;
    int count;

    MPI_Type_contiguous(3, MPI_INT, &triple);
    MPI_Type_commit(&triple);
    MPI_Sendrecv(grid, 4, MPI_INT, neighbour(1), 6, flat, 2, triple, neighbour(-1), 6,
                 MPI_COMM_WORLD, &status);
    MPI_Get_count(&status, triple, &count);
    CHECK(count == MPI_UNDEFINED);
    MPI_Get_elements(&status, triple, &count);
    CHECK(count == 4);
    MPI_Type_free(&triple);
}

/* Lives for ten rounds; what it was made of is freed at once. */
static void case_long_lived(int round)
{
    static MPI_Datatype column = MPI_DATATYPE_NULL;
    double matrix[5][7], got[5];

    if (column == MPI_DATATYPE_NULL) {
        MPI_Datatype base;

        MPI_Type_vector(5, 1, 7, MPI_DOUBLE, &base);
        MPI_Type_create_resized(base, 0, sizeof(double), &column);
        MPI_Type_commit(&column);
        MPI_Type_free(&base);
    }
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 7; j++)
            matrix[i][j] = rank * 100 + i * 10 + j + round;
    MPI_Sendrecv(&matrix[0][3], 1, column, neighbour(1), 7, got, 5, MPI_DOUBLE, neighbour(-1), 7,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int i = 0; i < 5; i++)
        CHECK(got[i] == neighbour(-1) * 100 + i * 10 + 3 + round);
    if (round % 10 == 9)
        MPI_Type_free(&column);
}

static const struct check_case cases[] = {
    {"contiguous", case_contiguous},
    {"vector", case_vector},
    {"indexed", case_indexed},
    {"indexed_block", case_indexed_block},
    {"resized", case_resized},
    {"subarray", case_subarray},
    {"darray", case_darray},
    {"struct", case_struct},
    {"nested_bottom", case_nested_bottom},
    {"dup_and_names", case_dup_and_names},
    {"envelope", case_envelope},
    {"pack", case_pack},
    {"partial", case_partial},
    {"long_lived", case_long_lived},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "types", cases, 30);
}
