/*
 * layout.h - where the bytes of an MPI datatype lie, without MPI
 *
 * A layout is an immutable, reference-counted description of a type map (MPI 4.0, 4.1). Recording
 * uses it to pack user buffers into the payload log and to digest what is sent; replay uses it to
 * unpack, with no MPI library in the process. The constructors mirror MPI's.
 *
 * A layout is a small tree of loops and lists, not a list of blocks: a vector of a million blocks
 * is one node. Regular lists are recognised and become loops, neighbouring blocks are merged.
 *
 * Bounds and packed bytes are those of MPICH 4.0.2 (tests/unit/test_layout_mpi.c) but for datatypes
 * without data, where it is not consistent: whoever mirrors a datatype of a real MPI library
 * compares layout_bounds() with its extent and, if they differ, takes layout_resized().
 *
 * Pure library: no global state, no errno; memory comes from malloc or from an allocator that the
 * caller gives. Layouts are ordinary objects of the process and are saved with it in checkpoints.
 * Displacements, counts and sizes are 64-bit; arithmetic that overflows is refused with -EOVERFLOW.
 *
 * Constructors return 0 and set *out to a new reference, or return -errno: -EINVAL for arguments
 * that MPI forbids, -EOVERFLOW, -ENOMEM, -ELOOP for nesting deeper than LAYOUT_DEPTH_MAX. They take
 * references of their own on the layouts they are given. References may be taken and dropped by
 * several threads at once.
 */
#ifndef DBG3_MSGCOUNTER_LAYOUT_H
#define DBG3_MSGCOUNTER_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define LAYOUT_DEPTH_MAX 200

struct layout;

/* Where memory comes from; must outlive every layout made with it. A layout made of others uses the
 * allocator of the first of them. */
struct layout_alloc {
    void *(*alloc)(void *arg, size_t size);
    void (*free)(void *arg, void *p);
    void *arg;
};

/* In bytes. `ub` - `lb` is MPI's extent, `true_ub` - `true_lb` its true extent. */
struct layout_bounds {
    int64_t size;
    int64_t lb, ub;
    int64_t true_lb, true_ub;
};

enum layout_order { LAYOUT_ORDER_C, LAYOUT_ORDER_FORTRAN };
enum layout_distrib { LAYOUT_BLOCK, LAYOUT_CYCLIC, LAYOUT_NONE };
#define LAYOUT_DFLT_DARG (-1)

/*
 * A basic type of `size` bytes. `align` (a power of two) is what a C struct would align it to: it
 * pads the extent of structs. `class` is the caller's name for the type (integer, real, ...): it is
 * kept and serialised, and tells layout_struct which members are of one type. a NULL: malloc.
 */
int layout_basic(struct layout **out, const struct layout_alloc *a, int64_t size, int64_t align,
                 uint32_t class);

int layout_contiguous(struct layout **out, int64_t count, struct layout *old);
/* stride in extents of old */
int layout_vector(struct layout **out, int64_t count, int64_t blocklen, int64_t stride,
                  struct layout *old);
/* stride in bytes */
int layout_hvector(struct layout **out, int64_t count, int64_t blocklen, int64_t stride,
                   struct layout *old);
/* displacements in extents of old */
int layout_indexed(struct layout **out, int64_t n, const int64_t *blocklens, const int64_t *disps,
                   struct layout *old);
/* displacements in bytes */
int layout_hindexed(struct layout **out, int64_t n, const int64_t *blocklens, const int64_t *disps,
                    struct layout *old);
int layout_indexed_block(struct layout **out, int64_t n, int64_t blocklen, const int64_t *disps,
                         struct layout *old);
int layout_hindexed_block(struct layout **out, int64_t n, int64_t blocklen, const int64_t *disps,
                          struct layout *old);
/* a as in layout_basic (an empty struct has no member whose allocator could be taken). As MPICH
 * does, the extent is padded to the largest alignment of the members, unless all are of one type.
 */
int layout_struct(struct layout **out, const struct layout_alloc *a, int64_t n,
                  const int64_t *blocklens, const int64_t *disps, struct layout *const *olds);
int layout_subarray(struct layout **out, int ndims, const int64_t *sizes, const int64_t *subsizes,
                    const int64_t *starts, enum layout_order order, struct layout *old);
/* dargs: block sizes, or LAYOUT_DFLT_DARG */
int layout_darray(struct layout **out, int size, int rank, int ndims, const int64_t *gsizes,
                  const enum layout_distrib *distribs, const int64_t *dargs, const int64_t *psizes,
                  enum layout_order order, struct layout *old);
int layout_resized(struct layout **out, int64_t lb, int64_t extent, struct layout *old);

/* Another reference (MPI_Type_dup). Returns l. */
struct layout *layout_dup(struct layout *l);

/* Drops a reference. NULL is fine. */
void layout_free(struct layout *l);

struct layout_bounds layout_bounds(const struct layout *l);

/* Bytes of `count` of them packed, or -EOVERFLOW. */
int64_t layout_packed_size(const struct layout *l, int64_t count);

/*
 * Packs `count` of them at `base` into out, in type-map order. Returns the bytes written, or
 * -ENOBUFS if they are more than cap (nothing is written).
 */
int64_t layout_pack(const struct layout *l, int64_t count, const void *base, void *out, size_t cap);

/* Packs the first `len` packed bytes of as many as that takes, as a message that ends within an
 * element leaves them. Touches no memory behind those. */
void layout_pack_first(const struct layout *l, const void *base, void *out, size_t len);

/*
 * The reverse of layout_pack(). `len` may be less than the packed size: a shorter message fills the
 * first bytes in type-map order and the rest stays as it is. Returns the bytes read: len, or
 * -EMSGSIZE if there is more than `count` of them can hold (nothing is written).
 */
int64_t layout_unpack(const struct layout *l, int64_t count, void *base, const void *in,
                      size_t len);

/* Where `count` of them at `base` lie if that is one piece, in type-map order: it is what
 * layout_pack() would copy. Else NULL. */
const void *layout_piece(const struct layout *l, int64_t count, const void *base);

/* xxh3-64 of the packed bytes, which are not materialised. Needs about 5 KiB of stack. */
uint64_t layout_digest(const struct layout *l, int64_t count, const void *base);

/* Whole basic elements in the first `bytes` packed bytes of an endless row of them: what
 * MPI_Get_elements tells of a message of that length. */
int64_t layout_elements(const struct layout *l, int64_t bytes);

/* ------------------------------------------------------------------------------- serialised form
 */

/* Bytes that layout_write needs, or -errno. */
int64_t layout_written_size(const struct layout *l);

/* Writes the portable little-endian form. Returns its length, -ENOBUFS if cap is less, -ENOMEM. */
int64_t layout_write(const struct layout *l, void *out, size_t cap);

/* Reads it back; bytes from anywhere are fine. Returns 0, -EINVAL for malformed bytes, -ENOMEM. */
int layout_read(struct layout **out, const struct layout_alloc *a, const void *in, size_t len);

#endif
