/*
 * layout_build.c - MPI's datatype constructors in terms of loops and lists (MPI 4.0, 4.1.2-4.1.7)
 */
#include <errno.h>

#include "msgcounter/layout/layout_impl.h"

int layout_contiguous(struct layout **out, int64_t count, struct layout *old)
{
    return layout_make_loop(out, count, layout_extent(old), 0, old);
}

int layout_hvector(struct layout **out, int64_t count, int64_t blocklen, int64_t stride,
                   struct layout *old)
{
    struct layout *block;
    if (count < 0 || blocklen < 0)
        return -EINVAL;
    int rc = layout_contiguous(&block, blocklen, old);
    if (rc < 0)
        return rc;
    rc = layout_make_loop(out, blocklen ? count : 0, stride, 0, block);
    layout_free(block);
    return rc;
}

int layout_vector(struct layout **out, int64_t count, int64_t blocklen, int64_t stride,
                  struct layout *old)
{
    int64_t bytes;
    if (__builtin_mul_overflow(stride, layout_extent(old), &bytes))
        return -EOVERFLOW;
    return layout_hvector(out, count, blocklen, bytes, old);
}

/* ------------------------------------------------------------------------- lists of many shapes */

/* The arguments of the indexed and struct constructors: an array or, where it is NULL, one value.
 */
struct shape {
    const int64_t *blocklens;
    int64_t blocklen;
    const int64_t *disps;
    int64_t unit; /* of disps, bytes */
    struct layout *const *olds;
    struct layout *old;
};

static int build_list(struct layout **out, const struct layout_alloc *a, int64_t n,
                      const struct shape *s)
{
    struct layout_item *items;
    if (n < 0)
        return -EINVAL;
    if ((uint64_t)n > SIZE_MAX / sizeof *items)
        return -EOVERFLOW;
    items = a->alloc(a->arg, (size_t)(n ? n : 1) * sizeof *items);
    if (!items)
        return -ENOMEM;
    int rc = 0;
    for (int64_t i = 0; i < n && rc == 0; i++) {
        items[i].of = s->olds ? s->olds[i] : s->old;
        items[i].count = s->blocklens ? s->blocklens[i] : s->blocklen;
        if (items[i].count < 0)
            rc = -EINVAL;
        if (__builtin_mul_overflow(s->disps[i], s->unit, &items[i].disp))
            rc = -EOVERFLOW;
    }
    if (rc == 0)
        rc = layout_make_list(out, a, n, items);
    a->free(a->arg, items);
    return rc;
}

int layout_indexed(struct layout **out, int64_t n, const int64_t *blocklens, const int64_t *disps,
                   struct layout *old)
{
    struct shape s = {
        .blocklens = blocklens, .disps = disps, .unit = layout_extent(old), .old = old};
    return build_list(out, old->alloc, n, &s);
}

int layout_hindexed(struct layout **out, int64_t n, const int64_t *blocklens, const int64_t *disps,
                    struct layout *old)
{
    struct shape s = {.blocklens = blocklens, .disps = disps, .unit = 1, .old = old};
    return build_list(out, old->alloc, n, &s);
}

int layout_indexed_block(struct layout **out, int64_t n, int64_t blocklen, const int64_t *disps,
                         struct layout *old)
{
    struct shape s = {.blocklen = blocklen, .disps = disps, .unit = layout_extent(old), .old = old};
    return build_list(out, old->alloc, n, &s);
}

int layout_hindexed_block(struct layout **out, int64_t n, int64_t blocklen, const int64_t *disps,
                          struct layout *old)
{
    struct shape s = {.blocklen = blocklen, .disps = disps, .unit = 1, .old = old};
    return build_list(out, old->alloc, n, &s);
}

/* Whether all members are of one datatype: MPICH takes such a struct for an indexed datatype, which
 * is not padded. */
static bool one_type(int64_t n, struct layout *const *olds)
{
    for (int64_t i = 1; i < n; i++) {
        const struct layout *a = olds[0], *b = olds[i];
        bool same_basic = a->kind == LAYOUT_BASIC && b->kind == LAYOUT_BASIC &&
                          a->class == b->class && a->bounds.size == b->bounds.size;
        if (a != b && !same_basic)
            return false;
    }
    return true;
}

int layout_struct(struct layout **out, const struct layout_alloc *a, int64_t n,
                  const int64_t *blocklens, const int64_t *disps, struct layout *const *olds)
{
    struct shape s = {.blocklens = blocklens, .disps = disps, .unit = 1, .olds = olds};
    struct layout *body;
    int rc = build_list(&body, layout_alloc_or_default(a), n, &s);
    if (rc < 0)
        return rc;
    int64_t rest = one_type(n, olds) ? 0 : layout_extent(body) % body->align;
    int64_t ub = body->bounds.ub;
    if (rest && __builtin_add_overflow(ub, body->align - rest, &ub))
        rc = -EOVERFLOW;
    else
        rc = layout_make_resized(out, body->bounds.lb, ub, body);
    layout_free(body);
    return rc;
}

int layout_resized(struct layout **out, int64_t lb, int64_t extent, struct layout *old)
{
    int64_t ub;
    if (__builtin_add_overflow(lb, extent, &ub))
        return -EOVERFLOW;
    return layout_make_resized(out, lb, ub, old);
}

/* ------------------------------------------------------------------------------------- arrays */

/* Replaces *l by what a constructor made of it. */
static void replace(struct layout **l, struct layout *by)
{
    layout_free(*l);
    *l = by;
}

/* *l at disp, with the bounds of the whole array of `bytes` bytes. */
static int place(struct layout **l, int64_t disp, int64_t bytes)
{
    struct layout *t;
    int rc = layout_make_loop(&t, 1, 0, disp, *l);
    if (rc < 0)
        return rc;
    replace(l, t);
    rc = layout_make_resized(&t, 0, bytes, *l);
    if (rc < 0)
        return rc;
    replace(l, t);
    return 0;
}

/* The i-th dimension from the one that varies fastest. */
static int dimension(int ndims, int i, enum layout_order order)
{
    return order == LAYOUT_ORDER_FORTRAN ? i : ndims - 1 - i;
}

int layout_subarray(struct layout **out, int ndims, const int64_t *sizes, const int64_t *subsizes,
                    const int64_t *starts, enum layout_order order, struct layout *old)
{
    if (ndims < 1)
        return -EINVAL;
    struct layout *l = layout_dup(old), *t;
    int64_t stride = layout_extent(old), disp = 0;
    int rc = 0;
    for (int i = 0; i < ndims; i++) {
        int d = dimension(ndims, i, order);
        int64_t off;
        rc = -EINVAL;
        if (sizes[d] < 1 || subsizes[d] < 1 || subsizes[d] > sizes[d] || starts[d] < 0 ||
            starts[d] > sizes[d] - subsizes[d])
            goto out;
        rc = layout_make_loop(&t, subsizes[d], stride, 0, l);
        if (rc < 0)
            goto out;
        replace(&l, t);
        rc = -EOVERFLOW;
        if (__builtin_mul_overflow(starts[d], stride, &off) ||
            __builtin_add_overflow(disp, off, &disp) ||
            __builtin_mul_overflow(stride, sizes[d], &stride))
            goto out;
    }
    rc = place(&l, disp, stride);
out:
    if (rc == 0)
        *out = l;
    else
        layout_free(l);
    return rc;
}

/* One dimension of a distributed array: which of its indices are this process's. */
struct share {
    int64_t start;  /* first index */
    int64_t block;  /* indices in a whole block */
    int64_t blocks; /* whole blocks */
    int64_t period; /* from one block's first index to the next's */
    int64_t rest;   /* indices in the last, shorter block */
};

static int share_of(struct share *s, int64_t gsize, enum layout_distrib distrib, int64_t darg,
                    int64_t procs, int64_t coord)
{
    if (gsize < 1 || procs < 1)
        return -EINVAL;
    switch (distrib) {
    case LAYOUT_NONE:
        *s = (struct share){.block = gsize, .blocks = 1, .period = gsize};
        return procs == 1 ? 0 : -EINVAL;
    case LAYOUT_BLOCK:
        s->block = darg == LAYOUT_DFLT_DARG ? (gsize - 1) / procs + 1 : darg;
        if (s->block < 1 || s->block < (gsize - 1) / procs + 1)
            return -EINVAL;
        break;
    case LAYOUT_CYCLIC:
        s->block = darg == LAYOUT_DFLT_DARG ? 1 : darg;
        if (s->block < 1)
            return -EINVAL;
        break;
    default:
        return -EINVAL;
    }
    if (__builtin_mul_overflow(s->block, procs, &s->period) ||
        __builtin_mul_overflow(s->block, coord, &s->start))
        return -EOVERFLOW;
    int64_t left = gsize - s->start; /* from this process's first index on */
    s->blocks = left > 0 ? left / s->period : 0;
    int64_t tail = left - s->blocks * s->period;
    s->rest = 0;
    if (tail >= s->block)
        s->blocks++;
    else if (tail > 0)
        s->rest = tail;
    return 0;
}

/* `old` at each index of the share; stride is from one index to the next. */
static int spread(struct layout **out, const struct share *s, int64_t stride, struct layout *old)
{
    struct layout *block = NULL, *whole = NULL, *rest = NULL;
    int64_t period, start, rest_at;
    if (__builtin_mul_overflow(s->period, stride, &period) ||
        __builtin_mul_overflow(s->start, stride, &start) ||
        __builtin_mul_overflow(s->blocks, period, &rest_at) ||
        __builtin_add_overflow(rest_at, start, &rest_at))
        return -EOVERFLOW;
    int rc = layout_make_loop(&block, s->block, stride, 0, old);
    if (rc == 0)
        rc = layout_make_loop(&whole, s->blocks, period, 0, block);
    if (rc == 0)
        rc = layout_make_loop(&rest, s->rest, stride, 0, old);
    if (rc == 0) {
        struct layout_item items[2] = {{start, s->blocks > 0, whole}, {rest_at, s->rest > 0, rest}};
        rc = layout_make_list(out, old->alloc, 2, items);
    }
    layout_free(block);
    layout_free(whole);
    layout_free(rest);
    return rc;
}

/* The coordinate of a rank in dimension d of the process grid, which is always in C order. */
static int64_t grid_coord(int rank, int ndims, const int64_t *psizes, int d)
{
    int64_t r = rank;
    for (int i = ndims - 1; i > d; i--)
        r /= psizes[i];
    return r % psizes[d];
}

int layout_darray(struct layout **out, int size, int rank, int ndims, const int64_t *gsizes,
                  const enum layout_distrib *distribs, const int64_t *dargs, const int64_t *psizes,
                  enum layout_order order, struct layout *old)
{
    int64_t procs = 1;
    if (ndims < 1 || rank < 0 || rank >= size)
        return -EINVAL;
    for (int i = 0; i < ndims; i++)
        if (psizes[i] < 1 || __builtin_mul_overflow(procs, psizes[i], &procs))
            return -EINVAL;
    if (procs != size)
        return -EINVAL;

    struct layout *l = layout_dup(old), *t;
    int64_t stride = layout_extent(old);
    int rc = 0;
    for (int i = 0; i < ndims && rc == 0; i++) {
        int d = dimension(ndims, i, order);
        struct share s;
        rc = share_of(&s, gsizes[d], distribs[d], dargs[d], psizes[d],
                      grid_coord(rank, ndims, psizes, d));
        if (rc == 0)
            rc = spread(&t, &s, stride, l);
        if (rc < 0)
            break;
        replace(&l, t);
        if (__builtin_mul_overflow(stride, gsizes[d], &stride))
            rc = -EOVERFLOW;
    }
    if (rc == 0)
        rc = place(&l, 0, stride);
    if (rc == 0)
        *out = l;
    else
        layout_free(l);
    return rc;
}
