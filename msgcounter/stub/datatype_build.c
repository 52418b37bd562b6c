/*
 * datatype_build.c - from a datatype's constructor arguments to its layout, and to a real type
 * again
 *
 * The arguments of MPI_Type_get_contents differ between the small and the large-count constructors
 * in what is an int, an address or a count, not in their order: in a row (ints, counts, addresses)
 * they are the same numbers for all but subarrays and darrays.
 */
#include <string.h>

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/datatype_impl.h"
#include "msgcounter/stub/record.h"

/* The arguments in a row. */
struct args {
    int64_t n[8]; /* the first ones */
    int64_t *all;
    const struct datatype *t;
    struct layout **olds; /* of the parts */
    int *reals;           /* real handles of the parts */
};

static void put_all(struct args *a, const struct datatype *t)
{
    int64_t *p = a->all = stub_alloc((size_t)(t->nints + t->ncounts + t->nadds + 8) * sizeof *p);
    a->t = t;
    for (int i = 0; i < t->nints; i++)
        *p++ = t->ints[i];
    for (int i = 0; i < t->ncounts; i++)
        *p++ = t->counts[i];
    for (int i = 0; i < t->nadds; i++)
        *p++ = t->adds[i];
    memcpy(a->n, a->all, sizeof a->n);
}

/* How a combiner makes a layout and a real type. */
struct builder {
    int (*layout)(struct layout **out, const struct args *a);
    int (*real)(uint64_t out, const struct args *a);
};

/* A type is made again by the constructor that made it: ROMIO knows none of large counts. */
static bool large(const struct args *a)
{
    return a->t->ncounts || a->t->combiner == MPI_COMBINER_HINDEXED_INTEGER ||
           a->t->combiner == MPI_COMBINER_STRUCT_INTEGER;
}

#define CALL_OF(a, name) (large(a) ? CALL_##name##_c : CALL_##name)

/* The vector that begins at `from`, a place in a->all, as the constructor takes it. */
static uint64_t vector(const struct args *a, const int64_t *from)
{
    int64_t i = from - a->all;
    if (large(a))
        return (uint64_t)from;
    return i < a->t->nints ? (uint64_t)(a->t->ints + i) : (uint64_t)(a->t->adds + i - a->t->nints);
}

/* ------------------------------------------------------------------- one pair of functions each */

static int dup_layout(struct layout **out, const struct args *a)
{
    *out = layout_dup(a->olds[0]);
    return 0;
}

static int dup_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_MPI_Type_dup, (uint64_t)a->reals[0], out);
}

static int contiguous_layout(struct layout **out, const struct args *a)
{
    return layout_contiguous(out, a->n[0], a->olds[0]);
}

static int contiguous_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_OF(a, MPI_Type_contiguous), a->n[0], (uint64_t)a->reals[0], out);
}

static int vector_layout(struct layout **out, const struct args *a)
{
    return layout_vector(out, a->n[0], a->n[1], a->n[2], a->olds[0]);
}

static int vector_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_OF(a, MPI_Type_vector), a->n[0], a->n[1], a->n[2],
                     (uint64_t)a->reals[0], out);
}

static int hvector_layout(struct layout **out, const struct args *a)
{
    return layout_hvector(out, a->n[0], a->n[1], a->n[2], a->olds[0]);
}

static int hvector_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_OF(a, MPI_Type_create_hvector), a->n[0], a->n[1], a->n[2],
                     (uint64_t)a->reals[0], out);
}

static int indexed_layout(struct layout **out, const struct args *a)
{
    return layout_indexed(out, a->n[0], a->all + 1, a->all + 1 + a->n[0], a->olds[0]);
}

static int indexed_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_OF(a, MPI_Type_indexed), a->n[0], vector(a, a->all + 1),
                     vector(a, a->all + 1 + a->n[0]), (uint64_t)a->reals[0], out);
}

static int hindexed_layout(struct layout **out, const struct args *a)
{
    return layout_hindexed(out, a->n[0], a->all + 1, a->all + 1 + a->n[0], a->olds[0]);
}

static int hindexed_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_OF(a, MPI_Type_create_hindexed), a->n[0], vector(a, a->all + 1),
                     vector(a, a->all + 1 + a->n[0]), (uint64_t)a->reals[0], out);
}

static int indexed_block_layout(struct layout **out, const struct args *a)
{
    return layout_indexed_block(out, a->n[0], a->n[1], a->all + 2, a->olds[0]);
}

static int indexed_block_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_OF(a, MPI_Type_create_indexed_block), a->n[0], a->n[1],
                     vector(a, a->all + 2), (uint64_t)a->reals[0], out);
}

static int hindexed_block_layout(struct layout **out, const struct args *a)
{
    return layout_hindexed_block(out, a->n[0], a->n[1], a->all + 2, a->olds[0]);
}

static int hindexed_block_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_OF(a, MPI_Type_create_hindexed_block), a->n[0], a->n[1],
                     vector(a, a->all + 2), (uint64_t)a->reals[0], out);
}

static int struct_layout(struct layout **out, const struct args *a)
{
    return layout_struct(out, &stub_layout_alloc, a->n[0], a->all + 1, a->all + 1 + a->n[0],
                         a->olds);
}

static int struct_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_OF(a, MPI_Type_create_struct), a->n[0], vector(a, a->all + 1),
                     vector(a, a->all + 1 + a->n[0]), (uint64_t)a->reals, out);
}

/* small: ndims, sizes, subsizes, starts, order; large: ndims, order | sizes, subsizes, starts */
static int64_t *subarray_arrays(const struct args *a, int *order)
{
    int64_t nd = a->n[0];
    *order = (int)(a->t->ncounts ? a->n[1] : a->all[1 + 3 * nd]);
    return a->all + (a->t->ncounts ? 2 : 1);
}

static enum layout_order order_of(int order)
{
    return order == MPI_ORDER_C ? LAYOUT_ORDER_C : LAYOUT_ORDER_FORTRAN;
}

static int subarray_layout(struct layout **out, const struct args *a)
{
    int order, nd = (int)a->n[0];
    int64_t *p = subarray_arrays(a, &order);
    return layout_subarray(out, nd, p, p + nd, p + 2 * nd, order_of(order), a->olds[0]);
}

static int subarray_real(uint64_t out, const struct args *a)
{
    int order, nd = (int)a->n[0];
    int64_t *p = subarray_arrays(a, &order);
    return mpi_cross(CALL_OF(a, MPI_Type_create_subarray), (uint64_t)nd, vector(a, p),
                     vector(a, p + nd), vector(a, p + 2 * nd), (uint64_t)order,
                     (uint64_t)a->reals[0], out);
}

/* small: size, rank, ndims, gsizes, distribs, dargs, psizes, order;
 * large: size, rank, ndims, distribs, dargs, psizes, order | gsizes */
struct darray {
    int64_t *gsizes, *distribs, *dargs, *psizes;
    int order;
};

static struct darray darray_arrays(const struct args *a)
{
    int64_t nd = a->n[2], *p = a->all + 3;
    struct darray d;
    if (a->t->ncounts) {
        d = (struct darray){p + 3 * nd + 1, p, p + nd, p + 2 * nd, (int)p[3 * nd]};
    } else {
        d = (struct darray){p, p + nd, p + 2 * nd, p + 3 * nd, (int)p[4 * nd]};
    }
    return d;
}

static int darray_layout(struct layout **out, const struct args *a)
{
    struct darray d = darray_arrays(a);
    int nd = (int)a->n[2];
    enum layout_distrib *distribs = stub_alloc((size_t)nd * sizeof *distribs);
    for (int i = 0; i < nd; i++) {
        distribs[i] = d.distribs[i] == MPI_DISTRIBUTE_BLOCK    ? LAYOUT_BLOCK
                      : d.distribs[i] == MPI_DISTRIBUTE_CYCLIC ? LAYOUT_CYCLIC
                                                               : LAYOUT_NONE;
        if (d.dargs[i] == MPI_DISTRIBUTE_DFLT_DARG)
            d.dargs[i] = LAYOUT_DFLT_DARG;
    }
    int rc = layout_darray(out, (int)a->n[0], (int)a->n[1], nd, d.gsizes, distribs, d.dargs,
                           d.psizes, order_of(d.order), a->olds[0]);
    stub_free(distribs);
    return rc;
}

/* Always ints, which come first in the row. */
static uint64_t ints(const struct args *a, const int64_t *from)
{
    return (uint64_t)(a->t->ints + (from - a->all));
}

static int darray_real(uint64_t out, const struct args *a)
{
    struct darray d = darray_arrays(a);
    return mpi_cross(CALL_OF(a, MPI_Type_create_darray), a->n[0], a->n[1], a->n[2],
                     vector(a, d.gsizes), ints(a, d.distribs), ints(a, d.dargs), ints(a, d.psizes),
                     (uint64_t)d.order, (uint64_t)a->reals[0], out);
}

static int resized_layout(struct layout **out, const struct args *a)
{
    return layout_resized(out, a->n[0], a->n[1], a->olds[0]);
}

static int resized_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_OF(a, MPI_Type_create_resized), (uint64_t)a->reals[0], a->n[0],
                     a->n[1], out);
}

static int f90_real_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_MPI_Type_create_f90_real, a->n[0], a->n[1], out);
}

static int f90_complex_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_MPI_Type_create_f90_complex, a->n[0], a->n[1], out);
}

static int f90_integer_real(uint64_t out, const struct args *a)
{
    return mpi_cross(CALL_MPI_Type_create_f90_integer, a->n[0], out);
}

static const struct builder builders[] = {
    [MPI_COMBINER_DUP] = {dup_layout, dup_real},
    [MPI_COMBINER_CONTIGUOUS] = {contiguous_layout, contiguous_real},
    [MPI_COMBINER_VECTOR] = {vector_layout, vector_real},
    [MPI_COMBINER_HVECTOR_INTEGER] = {hvector_layout, hvector_real},
    [MPI_COMBINER_HVECTOR] = {hvector_layout, hvector_real},
    [MPI_COMBINER_INDEXED] = {indexed_layout, indexed_real},
    [MPI_COMBINER_HINDEXED_INTEGER] = {hindexed_layout, hindexed_real},
    [MPI_COMBINER_HINDEXED] = {hindexed_layout, hindexed_real},
    [MPI_COMBINER_INDEXED_BLOCK] = {indexed_block_layout, indexed_block_real},
    [MPI_COMBINER_HINDEXED_BLOCK] = {hindexed_block_layout, hindexed_block_real},
    [MPI_COMBINER_STRUCT_INTEGER] = {struct_layout, struct_real},
    [MPI_COMBINER_STRUCT] = {struct_layout, struct_real},
    [MPI_COMBINER_SUBARRAY] = {subarray_layout, subarray_real},
    [MPI_COMBINER_DARRAY] = {darray_layout, darray_real},
    [MPI_COMBINER_F90_REAL] = {NULL, f90_real_real},
    [MPI_COMBINER_F90_COMPLEX] = {NULL, f90_complex_real},
    [MPI_COMBINER_F90_INTEGER] = {NULL, f90_integer_real},
    [MPI_COMBINER_RESIZED] = {resized_layout, resized_real},
};

static const struct builder *builder_of(const struct datatype *t)
{
    unsigned n = sizeof builders / sizeof *builders;
    return t->combiner > 0 && (unsigned)t->combiner < n ? &builders[t->combiner] : NULL;
}

/* ----------------------------------------------------------------------------- layouts */

struct layout *datatype_build_layout(const struct datatype *t, int64_t size, bool float16)
{
    const struct builder *b = builder_of(t);
    struct layout *l = NULL;
    struct args a;
    if (!b)
        return NULL;
    if (!b->layout) {
        int rc =
            layout_basic(&l, &stub_layout_alloc, size, size & -size & 15 ? size & -size : 16, 0);
        return rc ? NULL : l;
    }
    put_all(&a, t);
    a.olds = stub_alloc((size_t)t->ntypes * sizeof(struct layout *));
    bool whole = true;
    struct layout *none = NULL;
    if (!float16)
        layout_struct(&none, &stub_layout_alloc, 0, NULL, NULL, NULL);
    for (int i = 0; i < t->ntypes; i++) {
        const struct datatype *part = t->types[i];
        whole &= part != NULL;
        a.olds[i] = !part ? NULL : none && part->head.id == MPIX_C_FLOAT16 ? none : part->layout;
    }
    if (whole && b->layout(&l, &a))
        l = NULL;
    if (none)
        layout_free(none);
    stub_free(a.olds);
    stub_free(a.all);
    return l;
}

/* ----------------------------------------------------------------------------- real types */

static int make_real(struct datatype *t)
{
    const struct builder *b = builder_of(t);
    struct args a;
    int real = MPI_DATATYPE_NULL, rc;
    put_all(&a, t);
    a.reals = stub_alloc((size_t)t->ntypes * sizeof(int));
    for (int i = 0; i < t->ntypes; i++)
        a.reals[i] = datatype_make_real(t->types[i]);
    rc = b->real((uint64_t)&real, &a);
    if (!rc && t->committed)
        rc = mpi_cross(CALL_MPI_Type_commit, (uint64_t)&real);
    if (!rc && t->name)
        rc = mpi_cross(CALL_MPI_Type_set_name, (uint64_t)real, (uint64_t)t->name);
    handle_set_real(&t->head, (uint64_t)(uint32_t)real);
    stub_free(a.reals);
    stub_free(a.all);
    return rc;
}

MPI_Datatype datatype_make_real(struct datatype *t)
{
    if (!t->head.real && !t->head.predefined && make_real(t))
        stub_stop(125, "dbg3: the new MPI library refuses a datatype that %s made",
                  call_table[t->head.made].name);
    return (MPI_Datatype)t->head.real;
}

int datatype_rebuild(void)
{
    for (struct datatype *t = datatype_list.next; t != &datatype_list; t = t->next)
        handle_set_real(&t->head, 0);
    /* Freed types that pending operations or other types need are made when those ask for them. */
    for (struct datatype *t = datatype_list.next; t != &datatype_list; t = t->next)
        if (t->head.id)
            datatype_make_real(t);
    return 0;
}

int datatype_hand_out(enum call call, unsigned param, struct datatype *t)
{
    /* Nobody had a handle any more, so a restart may have left it to be made when it is needed. */
    if (!replaying())
        datatype_make_real(t);
    return call_hand_out(call, param, &t->head);
}
