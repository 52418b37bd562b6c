/*
 * datatype.h - what the stub knows of each datatype
 *
 * Predefined types have objects too (made on first use), so that layouts, sizes and references need
 * no special case.
 */
#ifndef DBG3_STUB_DATATYPE_H
#define DBG3_STUB_DATATYPE_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#include "msgcounter/layout/layout.h"
#include "msgcounter/stub/handle.h"

struct datatype {
    struct object head;
    struct layout *layout;
    int64_t size;     /* bytes packed; = layout_bounds(layout).size */
    int64_t extent, lb;
    bool committed;
    bool contiguous;  /* `count` of them are count * size bytes in a row at the buffer's address */
    /* How it was made: the constructor call (head.made) and its arguments as MPI_Type_get_contents
     * tells them; `types` are referenced. */
    int combiner;
    int nints, nadds, ncounts, ntypes;
    int *ints;
    int64_t *adds, *counts; /* counts: of a large-count constructor */
    struct datatype **types;
    char *name;
    struct attr *attrs;
    struct datatype *next, *prev; /* all made types that still exist, in creation order */
};

/* Whether a handle is one of the pair types of MPI_MAXLOC that are structs (MPI_FLOAT_INT, ...). */
static inline bool datatype_is_pair(MPI_Datatype d)
{
    return ((unsigned)d & ~7u) == 0x8c000000u &&
           ((unsigned)d & 7u) <= ((unsigned)MPI_LONG_DOUBLE_INT & 7u);
}

/* The datatype of a handle, predefined ones included; NULL if it is none or MPI_DATATYPE_NULL.
 * Borrowed: a request that keeps it takes a reference with object_get(&t->head). */
struct datatype *datatype_of(MPI_Datatype d);

static inline MPI_Datatype datatype_real(MPI_Datatype d)
{
    return (MPI_Datatype)handle_real(HANDLE_DATATYPE, d);
}

/* Real handle of an object that the application may have freed already (pending operations at
 * restart): makes it anew in the lower half if needed. [crosses] */
MPI_Datatype datatype_make_real(struct datatype *t);

/* Size in bytes of a predefined type as it stands in its handle (mpi.h: bits 15..8 of MPICH's
 * builtin types), or of any other type; -1 if the handle is none. No crossing. */
static inline int64_t datatype_size(MPI_Datatype d)
{
    if ((d & 0xfc000000) == 0x4c000000)
        return d >> 8 & 0xff;
    struct datatype *t = datatype_of(d);
    return t ? t->size : -1;
}

struct made;
struct object *datatype_make(struct made *m);
void datatype_destroy(struct object *o);

/* Gives all datatypes to the present MPI. Returns 0 or an MPI error code. [crosses] */
int datatype_rebuild(void);

/* MPI_BOTTOM-based and other buffers: packs into out / unpacks / digests `count` elements at
 * buf. Sizes in bytes; see layout.h. */
int64_t datatype_pack(MPI_Datatype d, int64_t count, const void *buf, void *out, int64_t room);
int64_t datatype_unpack(MPI_Datatype d, int64_t count, void *buf, const void *in, int64_t bytes);
uint64_t datatype_digest(MPI_Datatype d, int64_t count, const void *buf);

#endif
