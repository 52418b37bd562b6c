/*
 * call.h - the call table and the way of every call through the stub
 *
 *     MPI_X(a, b)             generated wrapper: arguments as 64-bit words in v[]
 *       stub_call(CALL_X, v, site)
 *         hand_<name>(call, v)     if the row names a by-hand function, with its reason
 *         call_generic(call, v)    else: the table's kinds say what to translate, record, answer
 *
 * Everything that is known of a call stands in its row of call_table[], which gen.py makes of
 * mpi.api, kinds.api and the installed mpi.h. No file of the stub names calls in a switch: what a
 * function must know of the call that it serves is a class, a flag or a parameter's kind.
 */
#ifndef DBG3_STUB_CALL_H
#define DBG3_STUB_CALL_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#include "call_id.h"   /* generated: enum call { CALL_MPI_Send, ..., CALL_COUNT } */
#include "call_hand.h" /* generated: prototypes of the functions that rows name */
#include "msgcounter/stub/handle.h"
#include "msgcounter/stub/thread.h"

struct comm;

#define CALL_PARAMS_MAX 16

/* What a parameter is. */
enum param_kind {
    PARAM_VALUE,   /* by value: a number, an enum, a pointer that only the application reads */
    PARAM_HANDLE,  /* a handle or an array of them: `handle` */
    PARAM_STATUS,  /* out: MPI_Status, one or an array */
    PARAM_BUFFER,  /* a message buffer described by count and datatype parameters */
    PARAM_OUT,     /* out (or inout): `size` bytes an element */
    PARAM_TEXT,    /* in: characters up to NUL; out: at most `size` or the length parameter */
    PARAM_IN,      /* in: array or struct that the lower half reads from upper memory */
    PARAM_WEIGHTS, /* array of int, or MPI_UNWEIGHTED or MPI_WEIGHTS_EMPTY */
    PARAM_FUNCTION /* callback: by-hand calls only */
};

enum param_dir { DIR_IN = 1, DIR_OUT = 2, DIR_INOUT = 3 };

/* How many elements an array has. */
enum param_length {
    LENGTH_ONE,       /* a scalar behind a pointer */
    LENGTH_CONST,     /* `length` elements */
    LENGTH_PARAM,     /* the value of parameter `length` */
    LENGTH_DEREF,     /* what parameter `length` points to (after the call, for outputs) */
    /* members of the communicator in parameter `length` (remote group if inter) */
    LENGTH_SIZE,
    LENGTH_ROOT_ONLY_PARAM, /* the value of parameter `length`, significant at the root only */
    LENGTH_INDEGREE,  /* neighbours of the communicator in parameter `length` */
    LENGTH_OUTDEGREE,
    LENGTH_SUM, /* the sum of the array in parameter `length`, significant at the root only */
};

/* Which elements of a message buffer a collective reads or writes. */
enum buffer_span {
    SPAN_ONE,   /* count x type */
    SPAN_SIZE,  /* (members) blocks of count x type in a row; inter: of the remote group */
    SPAN_LOCAL, /* the same, of the local group in any case */
    SPAN_V,     /* counts[], displs[] in extents of type */
    SPAN_W,     /* counts[], displs[] in bytes, types[] */
    SPAN_SUM,   /* the sum of counts[] (the input of Reduce_scatter) */
    SPAN_MINE,  /* counts[rank] (its output) */
    SPAN_IN_NEIGHBORS,  /* (indegree) blocks */
    SPAN_OUT_NEIGHBORS, /* (outdegree) blocks */
    SPAN_PACKED, /* bytes from the position (in `count`) before the call to that after it */
    SPAN_OPAQUE /* read or written later or by others: live only */
};

/* Which ranks a buffer of a rooted collective is significant at. */
enum buffer_where { WHERE_ALL, WHERE_ROOT, WHERE_NONROOT };

struct param_info {
    const char *name;
    uint8_t kind;   /* enum param_kind */
    uint8_t dir;    /* enum param_dir */
    uint8_t handle; /* enum handle_kind, for PARAM_HANDLE */
    uint8_t by_value; /* a handle that is passed by value */
    uint8_t array;  /* 1: `length_rule` counts its elements */
    /* written only if the int behind parameter `condition - 1` is set; 0: always */
    uint8_t condition;
    uint8_t length_rule; /* enum param_length */
    int16_t length;
    uint16_t size;  /* bytes an element, for PARAM_OUT and PARAM_TEXT */
    /* PARAM_BUFFER: parameter indices, -1: none */
    uint8_t span;   /* enum buffer_span */
    uint8_t where;  /* enum buffer_where */
    int8_t count, displs, type;
};

/* Groups of calls that are treated alike; the part after the dot in mpi.api says more. */
enum call_class {
    CLASS_INQUIRE, /* outputs only; nothing changes */
    CLASS_LOCAL,   /* changes state of this rank only */
    CLASS_P2P,
    CLASS_COMPLETE,
    CLASS_COLL,    /* blocking collective */
    CLASS_ICOLL,   /* non-blocking or persistent collective */
    CLASS_CREATE,  /* makes an object */
    CLASS_FREE,    /* frees the object in the first parameter */
    CLASS_INIT,    /* start and end of MPI */
    CLASS_RMA,
    CLASS_IO,
    CLASS_SPAWN,
    CLASS_TOOL,    /* MPI_T_, QMPI_ */
    CLASS_NCLASSES
};

enum call_flag {
    CALL_COLLECTIVE = 1, /* collective over the communicator in parameter `comm`: E is counted */
    CALL_LARGE = 2,      /* the _c twin: MPI_Count where the other has int */
    CALL_UNRECORDED = 4, /* refused while recording: `refused` says what cannot be recorded */
    CALL_UNABLE = 8,     /* makes objects that cannot be restored: no epoch while one lives */
    CALL_ANY_TIME = 16,  /* allowed before MPI_Init and after MPI_Finalize */
    CALL_PURE = 32,      /* answer depends on saved state only: not logged */
    CALL_OWN = 64,       /* what comes from the rank itself is a block of what it sends */
    CALL_VALUE = 128,    /* returns a value instead of an error code */
    CALL_FREE = 256,     /* frees the object whose handle the first parameter points to */
    CALL_EXISTING = 512, /* may return a handle that the application has already */
    CALL_NEIGHBORS = 2048, /* vectors of counts are by neighbour, not by member */
    CALL_PLAIN = 4096,     /* nothing but value_handles needs translation */
    CALL_PERSISTENT = 8192, /* makes a persistent request of a collective */
    CALL_DIRECT = 1024,  /* the exported function is written by hand; the table only names it */
};

struct call_info {
    const char *name;
    uint8_t class; /* enum call_class */
    uint8_t nparams;
    uint16_t flags; /* enum call_flag */
    uint16_t value_handles; /* bit i: parameter i is a handle passed by value */
    int8_t comm, win, file, session, root, request; /* parameter indices, -1: none */
    int8_t result; /* parameter that gets the made object, -1: none */
    uint16_t base; /* the call that this is the _c twin of, or itself */
    const char *refused; /* why it is CALL_UNRECORDED */
    const char *reason;  /* why it is by hand */
    const struct param_info *params;
    int (*before)(enum call call, const uint64_t *v); /* may refuse with an error code */
    void (*after)(enum call call, const uint64_t *v); /* follows a success, in every mode */
};

extern const struct call_info call_table[CALL_COUNT];

/* By-hand calls. `call` tells apart the calls that share a function. Returns MPI's error code,
 * after error_return() where it is one. */
typedef int call_hand_fn(enum call call, const uint64_t *v);
extern call_hand_fn *const call_hand[CALL_COUNT];

/* Where the rank is, for reports: any thread may read it. */
struct call_where {
    volatile int32_t call;
    volatile uint64_t site;
};
extern struct call_where call_where;

/* The way in. `site` is the address in the application that the call returns to. */
int stub_call(enum call call, const uint64_t *v, void *site);

/* The same with NULL where an output is to go: an error, as MPI has it. */
int stub_call_null(enum call call, const uint64_t *v, void *site);

/* The interpreter: live, record or replay as GATE->mode says. */
int call_generic(enum call call, const uint64_t *v);

/* The real function; stops the rank with a line that names the call if the library lacks it. */
static inline void *call_real(enum call call)
{
    return GATE->mpi[call];
}

/* Makes the real call with arguments as they are. */
static inline int call_cross(enum call call, const uint64_t *v)
{
    return (int)gate_cross(call_real(call), v, call_table[call].nparams);
}

/* For calls in a process that dbg3 did not start: says so and ends it. */
void stub_inert(const char *name) __attribute__((noreturn));

/* Shorthand for internal uses, real handles in: mpi_cross(CALL_MPI_Comm_free, (uint64_t)&real). */
static inline int mpi_code(uint64_t rax)
{
    return (int)rax;
}
#define mpi_cross(call, ...) mpi_code(cross(call_real(call), __VA_ARGS__))

/* Ends the rank with one line if the call cannot be recorded and GATE->mode is not live. */
void call_refuse_unrecorded(enum call call);

/*
 * Hands an error of a call to the error handler of its object and returns the code that the call
 * shall return: `rc` itself, mostly. Does not return for MPI_ERRORS_ARE_FATAL. The lower half's own
 * handlers are all MPI_ERRORS_RETURN, so handlers run here, in the application's world, recorded or
 * replayed.
 */
int error_return(enum call call, const uint64_t *v, int rc);

/* The same for a first parameter that is no object of its kind. */
int error_bad_object(enum call call, const uint64_t *v);

/* The same when the communicator is known otherwise (a request's). comm may be NULL. */
int error_return_comm(enum call call, struct comm *comm, int rc);

/*
 * Making of objects. For each new handle that the lower half returns, the interpreter calls the
 * maker of its kind, which returns an object (head.kind, head.real and head.made are set by the
 * caller). `note` is what replay, where there is no MPI to ask, must know of it (a communicator's
 * members): the maker fills it when it can ask, recording keeps it, replay hands it in.
 */
struct made {
    enum call call;
    const uint64_t *v; /* the call's arguments with virtual handles */
    uint64_t real;     /* 0 in replay */
    void *note;        /* from stub_alloc; freed by the interpreter (live, record) */
    uint64_t note_bytes;
    uint32_t nulled;   /* a bit for each output that a failed call has set to a null handle */
    bool replay;       /* `note` is an input */
};

typedef struct object *call_maker(struct made *m);
extern call_maker *const call_makers[HANDLE_NKINDS]; /* NULL: a plain struct object */

/* A handle that the lower half returned, as the application shall see it: predefined and null
 * ones as they are; else its object is found (CALL_EXISTING) or made. Takes m->real, fills
 * m->note. */
int64_t call_adopt(enum handle_kind kind, struct made *m, int want);

/* Gives the application a handle of `o`, in this parameter of a call that the stub answers itself:
 * an event, for threads race for ids. Returns the id. */
int call_hand_out(enum call call, unsigned param, struct object *o);

/* --- from p2p's files, used by the interpreter --- */

/* Around a blocking collective on c (coll.c); the members' protocol of a coordinated cut. begin may
 * meet a safe point and so must come before real handles are looked up. */
void coll_begin(enum call call, struct comm *c);
void coll_end(enum call call, struct comm *c);

/* Before coll_end: the call has failed without having met the others, so it does not count. An
 * epoch that has seen it counted is cancelled. */
void coll_turned_down(struct comm *c);

#endif
