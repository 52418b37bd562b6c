/*
 * stencil2d: heat conduction on a Cartesian grid of ranks; halo columns are vector types, and the
 * sweep overlaps with the exchange. Prints residuals and a checksum of all bits of the field.
 *
 * Usage: stencil2d [STEPS [CELLS]]: CELLS x CELLS on each rank (default 1000 steps, 192 cells). Any
 * number of ranks.
 */
#include "check.h"
#include <math.h>
#include <stdint.h>

enum { TAG_NORTH = 1, TAG_SOUTH, TAG_WEST, TAG_EAST };

struct field {
    int cells, stride; /* stride: cells and the two halo cells of a row */
    double *old, *new;
    int north, south, west, east;
    MPI_Comm cart;
    MPI_Datatype column;
    MPI_Request reqs[8];
};

static void field_create(struct field *field, int cells)
{
    int dims[2] = {0, 0}, periods[2] = {1, 0}, cart_rank;

    MPI_Dims_create(size, 2, dims);
    MPI_Cart_create(MPI_COMM_WORLD, 2, dims, periods, 0, &field->cart);
    MPI_Comm_set_name(field->cart, "plate");
    MPI_Cart_shift(field->cart, 0, 1, &field->north, &field->south);
    MPI_Cart_shift(field->cart, 1, 1, &field->west, &field->east);
    MPI_Comm_rank(field->cart, &cart_rank);
    field->cells = cells;
    field->stride = cells + 2;
    size_t all = (size_t)field->stride * (size_t)field->stride;
    field->old = calloc(all, sizeof(double));
    field->new = calloc(all, sizeof(double));
    CHECK(field->old && field->new);
    for (size_t i = 0; i < all; i++)
        field->old[i] = field->new[i] = sin(0.001 * (double)i + cart_rank);
    MPI_Type_vector(cells, 1, field->stride, MPI_DOUBLE, &field->column);
    MPI_Type_commit(&field->column);
}

static void field_destroy(struct field *field)
{
    MPI_Type_free(&field->column);
    MPI_Comm_free(&field->cart);
    free(field->old);
    free(field->new);
}

static double *cell(const struct field *field, int row, int col)
{
    return field->old + (size_t)row * (size_t)field->stride + col;
}

static void exchange_start(struct field *f)
{
    int n = f->cells;
    MPI_Request *req = f->reqs;

    MPI_Irecv(cell(f, 0, 1), n, MPI_DOUBLE, f->north, TAG_SOUTH, f->cart, req++);
    MPI_Irecv(cell(f, n + 1, 1), n, MPI_DOUBLE, f->south, TAG_NORTH, f->cart, req++);
    MPI_Irecv(cell(f, 1, 0), 1, f->column, f->west, TAG_EAST, f->cart, req++);
    MPI_Irecv(cell(f, 1, n + 1), 1, f->column, f->east, TAG_WEST, f->cart, req++);
    MPI_Isend(cell(f, 1, 1), n, MPI_DOUBLE, f->north, TAG_NORTH, f->cart, req++);
    MPI_Isend(cell(f, n, 1), n, MPI_DOUBLE, f->south, TAG_SOUTH, f->cart, req++);
    MPI_Isend(cell(f, 1, 1), 1, f->column, f->west, TAG_WEST, f->cart, req++);
    MPI_Isend(cell(f, 1, n), 1, f->column, f->east, TAG_EAST, f->cart, req++);
}

/* One sweep over rows and columns [from, to); returns the sum of squared changes. */
static double sweep(struct field *f, int row_from, int row_to, int col_from, int col_to)
{
    double residual = 0.0;

    for (int row = row_from; row < row_to; row++) {
        for (int col = col_from; col < col_to; col++) {
            const double *c = cell(f, row, col);
            double mean = 0.25 * (c[-1] + c[1] + c[-f->stride] + c[f->stride]);

            f->new[c - f->old] = mean;
            residual += (mean - *c) * (mean - *c);
        }
    }
    return residual;
}

static double step(struct field *f)
{
    int n = f->cells;
    double residual, *swap;

    exchange_start(f);
    residual = sweep(f, 2, n, 2, n);
    MPI_Waitall(8, f->reqs, MPI_STATUSES_IGNORE);
    residual += sweep(f, 1, 2, 1, n + 1) + sweep(f, n, n + 1, 1, n + 1);
    residual += sweep(f, 2, n, 1, 2) + sweep(f, 2, n, n, n + 1);
    swap = f->old;
    f->old = f->new;
    f->new = swap;
    return residual;
}

static uint64_t checksum(const struct field *f)
{
    uint64_t sum = 0, bits, all;

    for (int row = 1; row <= f->cells; row++) {
        for (int col = 1; col <= f->cells; col++) {
            memcpy(&bits, cell(f, row, col), sizeof(bits));
            sum = sum * 31 + bits;
        }
    }
    MPI_Allreduce(&sum, &all, 1, MPI_UINT64_T, MPI_BXOR, f->cart);
    return all;
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 1000, cells = argc > 2 ? atoi(argv[2]) : 192;
    struct field field;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(cells >= 2);
    field_create(&field, cells);
    for (int i = 1; i <= steps; i++) {
        double mine = step(&field), residual;

        if (i % 50 != 0)
            continue;
        MPI_Reduce(&mine, &residual, 1, MPI_DOUBLE, MPI_SUM, 0, field.cart);
        if (rank == 0) {
            printf("step %d: residual %.12e\n", i, residual);
            fflush(stdout);
        }
    }
    uint64_t sum = checksum(&field);
    if (rank == 0)
        printf("checksum %016lx\nOK stencil2d\n", (unsigned long)sum);
    field_destroy(&field);
    MPI_Finalize();
    return 0;
}
