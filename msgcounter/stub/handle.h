/*
 * handle.h - virtual handles
 *
 * What the application holds is an id of ours; the real handle of the present MPI library stands in
 * a table and changes at every restart. Predefined handles of MPICH are constants of mpi.h and pass
 * through unchanged, null handles too.
 *
 *      31 30 29      26 25 24                                   0
 *     +-----+----------+--+--------------------------------------+
 *     | 0 0 |   kind   | 1| index in the kind's table            |   an id of ours
 *     +-----+----------+--+--------------------------------------+
 *
 * MPICH 4 uses bits 31..30 for builtin (01), direct (10) and indirect (11) objects and the prefix
 * 00 only for its NULL constants, whose lower 26 bits are zero (mpi.h): bit 25 keeps us apart from
 * both. Being ints, ids survive the c2f and f2c casts of mpi.h. MPI_File is a pointer in MPICH; its
 * ids are ints converted to that pointer type.
 *
 * An id names an object. The object may outlive its id: a datatype that was freed while a
 * receive is pending, or that a derived type was made of.
 */
#ifndef DBG3_STUB_HANDLE_H
#define DBG3_STUB_HANDLE_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#include "msgcounter/stub/alloc.h"

/* MPICH's numbers of object kinds, bits 29..26 of a handle. 0xa to 0xf but REQUEST and SESSION
 * are not seen by applications; MESSAGE is ours, as MPICH numbers messages as requests. */
enum handle_kind {
    HANDLE_COMM = 1,
    HANDLE_GROUP = 2,
    HANDLE_DATATYPE = 3,
    HANDLE_FILE = 4,
    HANDLE_ERRHANDLER = 5,
    HANDLE_OP = 6,
    HANDLE_INFO = 7,
    HANDLE_WIN = 8,
    HANDLE_KEYVAL = 9,
    HANDLE_REQUEST = 0xb,
    HANDLE_MESSAGE = 0xd,
    HANDLE_SESSION = 0xe,
    HANDLE_NKINDS = 16
};

#define HANDLE_KIND_SHIFT 26
#define HANDLE_MARK       0x02000000
#define HANDLE_INDEX      0x01ffffff

/* The head of every object that has a handle. */
struct object {
    uint64_t real; /* handle in the present lower half; 0: none (replay, or not rebuilt yet) */
    int32_t id;    /* 0: the application has freed it */
    uint32_t refs; /* the application's handle counts as one */
    /* enum call that made it, for texts; rows of kind `unable` make epochs impossible */
    uint32_t made;
    uint32_t handles; /* how often the application must free its handle */
    uint8_t kind;
    bool predefined;
};

#define HANDLE_CHUNK_BITS 10
#define HANDLE_CHUNK      (1 << HANDLE_CHUNK_BITS)
#define HANDLE_CHUNKS     4096 /* so at most 4 Mi live handles of a kind */

struct handle_slot {
    uint64_t real;      /* = object->real: one load less on hot paths */
    struct object *object; /* NULL: free; `real` is then the next free index + 1 */
};

struct handle_table {
    struct handle_slot *chunk[HANDLE_CHUNKS]; /* never move, so readers need no lock */
    uint32_t used;      /* indices ever handed out */
    uint32_t free_list; /* last freed index + 1, 0: none */
    uint32_t live;
};

extern struct handle_table handle_tables[HANDLE_NKINDS];

/* MPI_COMM_NULL and its like (mpi.h: a kind and nothing else). */
static inline int handle_null(enum handle_kind kind)
{
    return kind == HANDLE_FILE      ? 0
           : kind == HANDLE_MESSAGE ? MPI_MESSAGE_NULL
                                    : kind << HANDLE_KIND_SHIFT;
}

static inline bool handle_is_ours(enum handle_kind kind, int64_t id)
{
    return (id & ~(int64_t)HANDLE_INDEX) == ((int64_t)kind << HANDLE_KIND_SHIFT | HANDLE_MARK);
}

/* The slot of an id of ours, NULL if it is no live handle of this kind. */
static inline struct handle_slot *handle_slot(enum handle_kind kind, int64_t id)
{
    const struct handle_table *t = &handle_tables[kind];
    uint32_t i = id & HANDLE_INDEX;
    if (!handle_is_ours(kind, id) || i >= t->used)
        return NULL;
    struct handle_slot *s = &t->chunk[i >> HANDLE_CHUNK_BITS][i & (HANDLE_CHUNK - 1)];
    return s->object ? s : NULL;
}

/* What the lower half shall get for `id`: predefined and null handles as they are, garbage too
 * (so that MPI reports it). */
static inline uint64_t handle_real(enum handle_kind kind, int64_t id)
{
    const struct handle_slot *s = handle_slot(kind, id);
    return s ? s->real : (uint64_t)id;
}

/* The object of a handle of ours, NULL if there is none (also for predefined handles: comm.h and
 * datatype.h know those). Borrowed until the application frees the handle. */
static inline struct object *handle_object(enum handle_kind kind, int64_t id)
{
    const struct handle_slot *s = handle_slot(kind, id);
    return s ? s->object : NULL;
}

/*
 * Gives `o` (kind, real set; refs 0) an id, and the application a reference on it. In replay the id
 * must be the recorded one: `want` (0: any). Returns the id.
 */
int handle_new(struct object *o, int want);

/* Gives the application another reference on a handle that it has, or a handle again on an
 * object whose last one it freed. Returns the id. */
int handle_again(struct object *o, int want);

/* The application has freed its handle once; the last time the id is free again and the
 * reference on the object dropped: returns true then. */
bool handle_free(struct object *o);

/* The real handle of an object has changed (restart). */
void handle_set_real(struct object *o, uint64_t real);

/* From a handle of the lower half to ours, for handles that it returns or passes to callbacks.
 * The id, or `real` itself if it is predefined, null or unknown. */
int64_t handle_virtual(enum handle_kind kind, uint64_t real);

/* The object with this real handle, also one without an id; NULL: unknown. */
struct object *handle_find_real(enum handle_kind kind, uint64_t real);

/* References of objects on each other and of requests on objects. */
static inline void object_get(struct object *o)
{
    if (o)
        __atomic_add_fetch(&o->refs, 1, __ATOMIC_RELAXED);
}

/* Destroys the object with its last reference (what that means: object_destroy[kind]). NULL is
 * fine. */
void object_put(struct object *o);

/* What several threads may set of one object at the same time, or add to a list: names, hints,
 * error handlers, attributes. */
extern struct stub_lock object_lock;

/* Replaces a text that an object keeps. */
void object_keep_text(char **at, const char *text);

/* What happens when the application frees its last handle of an object, which may live on
   (call.c). */
extern void (*const object_freed[HANDLE_NKINDS])(struct object *o);

/* How a kind frees what its objects own (call.c). The struct itself is freed after. */
extern void (*object_destroy[HANDLE_NKINDS])(struct object *o);

/* Calls fn for each live handle of a kind in order of ids. */
void handle_each(enum handle_kind kind, void (*fn)(struct object *o, void *arg), void *arg);

#endif
