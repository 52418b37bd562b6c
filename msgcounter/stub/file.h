/*
 * file.h - files as objects: the view that a rank has set, and split collectives
 *
 * A split collective is its blocking twin, whose status _end hands out: what ROMIO does in MPICH
 * 4.0, and what MPI 4.0 §14.4.5 allows. So nothing is under way below between _begin and _end, and
 * the log holds the twin's event.
 */
#ifndef DBG3_STUB_FILE_H
#define DBG3_STUB_FILE_H

#include <mpi.h>
#include <stdbool.h>

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/win.h"

struct datatype;

struct file {
    struct win head; /* whatever has an error handler */
    struct datatype *etype, *filetype; /* of the view; referenced */
    bool split;                        /* between _begin and _end */
    MPI_Status status;                 /* what _end hands out */
};

struct object *file_make(struct made *m);
void file_destroy(struct object *o);

#endif
