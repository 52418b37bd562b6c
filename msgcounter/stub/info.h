/*
 * info.h - info objects: their keys, kept so that a restart can make them again
 */
#ifndef DBG3_STUB_INFO_H
#define DBG3_STUB_INFO_H

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/handle.h"

/* Hints of another object (not an info object of the application: it has no handle), which starts
 * as NULL: takes over what `from` says (NULL is fine); ends. */
void info_add(struct object **hints, const struct object *from);
void info_drop(struct object **hints);

/* The value of a key, borrowed; NULL: none, or no object. */
const char *info_value(const struct object *info, const char *key);

/* An info object of the lower half with these keys. Returns MPI's code. [crosses] */
int info_make_real(const struct object *hints, int *real);

struct object *info_make(struct made *m);
void info_destroy(struct object *o);

/* After a restart, for one object. Returns 0 or an MPI error code. [crosses] */
int info_rebuild(struct object *o);

#endif
