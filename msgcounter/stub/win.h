/*
 * win.h - windows; and what files and sessions have in common with them
 *
 * Window memory is the upper half's, also that of MPI_Win_allocate: a restart creates every window
 * again over the same addresses. The memory of a shared window is the lower half's, and mapped into
 * the upper half a second time (win_shared.h).
 *
 * For the coordinated cut a window is two things. A fence and the end of the window are collectives
 * of the window itself (`agreed`). An epoch with operations under way is "inside a collective" of
 * this rank alone (`busy`): no cut falls until it is closed, so that no operation and no lock is
 * ever in an image. What may stay open across a cut is a fence epoch without operations and
 * MPI_Win_lock_all without operations since the last flush; the latter's lock is taken again.
 */
#ifndef DBG3_STUB_WIN_H
#define DBG3_STUB_WIN_H

#include <mpi.h>

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/handle.h"

/* The head is also that of files and sessions: whatever has an error handler but is no
 * communicator. */
struct win {
    struct object head;
    struct attr *attrs;
    struct object *errhandler; /* NULL: predefined one in `errors` */
    MPI_Errhandler errors;

    struct object *hints; /* info.h */

    /* Windows and files. */
    struct comm *comm;  /* referenced; NULL: a session */
    struct comm agreed; /* what collectives over it are counted on */

    /* Windows only. */
    struct comm busy;
    void *base;
    MPI_Aint size;
    int disp_unit, flavor, model; /* as attributes show them */
    void *memory;                 /* base, if the window brought it: a mapping of `room` bytes */
    uint64_t room;
    char *name;                   /* NULL: never set */
    struct win_piece { /* attached memory */
        void *base;
        MPI_Aint size;
    } *pieces;
    unsigned npieces;
    struct win_part *parts; /* of a shared window: each member's part (win_shared.h) */
    unsigned open;        /* locks, and epochs of post and start */
    int all;              /* 0, or 1 + the assertion that MPI_Win_lock_all was given */
    bool fenced;          /* no epoch of another kind since the last fence */
    bool inside;          /* `busy` is entered */
    unsigned char *dirty; /* by target: operations that have not been completed there */
    unsigned ndirty;
};

static inline struct win *win_of(MPI_Win w)
{
    return (struct win *)handle_object(HANDLE_WIN, w);
}

/* The value of the parameter with this name; the call has it. */
uint64_t win_param(enum call call, const uint64_t *v, const char *name);

/* A new window or file is one of this communicator's, with the hints of the call. */
void win_belongs(struct win *w, const struct made *m, struct comm *c);

/* All windows, or all files, in an order that is the same on all ranks: to make them again is
 * collective over their communicators. `some` is from stub_alloc. */
struct win_list {
    struct win **some;
    int n;
} win_sorted(enum handle_kind kind);

struct object *win_make(struct made *m);
void win_destroy(struct object *o);

/* Memory for a window. Its address is recorded as that of parameter `param`: replay must come to
 * the same one. */
void *win_map_memory(enum call call, int param, uint64_t bytes);

/* The index of the parameter with this name, -1: none. */
int win_param_index(enum call call, const char *name);

/* MPI_WIN_BASE and its like. `type`: enum attr_type. */
int win_get_predefined(MPI_Win w, int keyval, void *out, int *flag, int type);

/* At the end of a call while a cut is being agreed on. [crosses] */
void win_before_cut(void);

/* After a restart: makes the windows again. Collective over the job. Returns 0 or MPI's code.
 * [crosses] */
int win_rebuild(void);

#endif
