/*
 * errhandler.h - error handlers
 *
 * The lower half's handlers are all MPI_ERRORS_RETURN: the stub calls the application's handler
 * when a call comes back with an error. So it runs in the application's world, on its FS, with our
 * handles, and runs again in replay. User-defined error classes and codes are known to the lower
 * half, which words them: they are noted, and added again after a restart in the same order, which
 * gives the same numbers.
 */
#ifndef DBG3_STUB_ERRHANDLER_H
#define DBG3_STUB_ERRHANDLER_H

#include "msgcounter/stub/win.h"

/* The handler on MPI_FILE_NULL: new files inherit it. */
extern struct win file_default;

/* What an object has: a handler, with a reference on it, or NULL and a predefined one in *out. */
struct object *errhandler_share(struct object *const *handler, const MPI_Errhandler *errors,
                                MPI_Errhandler *out);

/* The handler that a call gives the object that it makes (MPI_Session_init), if it has such a
 * parameter. */
void errhandler_from_call(const struct made *m, struct object **handler, MPI_Errhandler *errors);

void errhandler_set_cxx(MPI_Errhandler id, void (*call)(void));

/* After a restart. Returns 0 or an MPI error code. [crosses] */
int errhandler_rebuild(void);

#endif
