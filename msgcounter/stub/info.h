/*
 * info.h - info objects: their keys, kept so that a restart can make them again
 */
#ifndef DBG3_STUB_INFO_H
#define DBG3_STUB_INFO_H

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/handle.h"

struct object *info_make(struct made *m);
void info_destroy(struct object *o);

/* After a restart, for one object. Returns 0 or an MPI error code. [crosses] */
int info_rebuild(struct object *o);

#endif
