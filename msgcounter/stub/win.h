/*
 * win.h - windows: passed through, with attributes and error handler kept here
 */
#ifndef DBG3_STUB_WIN_H
#define DBG3_STUB_WIN_H

#include <mpi.h>

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/handle.h"

/* Also files and sessions: whatever has an error handler but is no communicator. */
struct win {
    struct object head;
    struct attr *attrs;
    struct object *errhandler; /* NULL: predefined one in `errors` */
    MPI_Errhandler errors;
};

static inline struct win *win_of(MPI_Win w)
{
    return (struct win *)handle_object(HANDLE_WIN, w);
}

struct object *win_make(struct made *m);
struct object *file_make(struct made *m);
struct object *session_make(struct made *m);
void win_destroy(struct object *o);

/* MPI_WIN_BASE and its like, answered by the lower half. `type`: enum attr_type. */
int win_get_predefined(MPI_Win w, int keyval, void *out, int *flag, int type);

#endif
