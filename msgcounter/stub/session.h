/*
 * session.h - sessions (MPI 4.0 §11.3)
 *
 * Under a session the lower half has the world all the same: the first one initialises it, so that
 * the rank joins its job and what sessions make are communicators like any others. It is finalized
 * when neither MPI_Init nor a session needs it any more and the program exits: until then a library
 * may open another session.
 */
#ifndef DBG3_STUB_SESSION_H
#define DBG3_STUB_SESSION_H

#include "msgcounter/stub/call.h"

struct object *session_make(struct made *m);

/* How many sessions are open. */
unsigned session_count(void);

/* After a restart: opens them again. Returns 0 or MPI's code. [crosses] */
int session_rebuild(void);

#endif
