/*
 * op.h - user-defined reduction operations
 *
 * MPI passes a user function no context, so each operation gets one of a pool of thunks that know
 * their number. A thunk runs on the lower FS and crosses up.
 */
#ifndef DBG3_STUB_OP_H
#define DBG3_STUB_OP_H

#include "msgcounter/log/log.h"
#include "msgcounter/stub/call.h"
#include "msgcounter/stub/handle.h"

#define OP_MAX 512 /* live user-defined operations */

void op_destroy(struct object *o);

/* libmpichcxx's way to call a C++ function as operation. */
void op_set_cxx(MPI_Op id, void (*call)(void));

/* Gives all operations to the present MPI. Returns 0 or an MPI error code. [crosses] */
int op_rebuild(void);

/* Replay: runs an operation again as recorded in `rec`. */
void op_replay(const struct log_record *rec);

#endif
