/*
 * file.h - files as objects: what a restart must open again, and split collectives
 *
 * A restart opens each file again where it was, with its view, its pointers and its atomicity. A
 * small one holds what it held (file_content.h). The bytes of others are those of the file system:
 * what was written after the epoch stays, but a file that has grown since is cut back, as the rank
 * writes that part again. Collective calls are collectives of
 * the file itself for the coordinated cut, and a drain completes what does not block, so that no
 * operation is ever in an image.
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
#include "msgcounter/stub/file_content.h"
#include "msgcounter/stub/win.h"

struct datatype;

struct file {
    struct win head; /* whatever has an error handler */
    char *path;      /* absolute, with ROMIO's prefix if it came with one */
    int amode;
    struct datatype *etype, *filetype; /* of the view; referenced */
    MPI_Offset disp;
    char *datarep;  /* NULL: no view was set */
    bool shares;    /* this rank has used the shared pointer */
    /* As they were when the image was saved; in etypes, and the length in bytes. */
    MPI_Offset position, position_shared, length;
    int atomic;
    struct file_content content;       /* kept by rank 0 of the communicator */
    bool split;                        /* between _begin and _end */
    MPI_Status status;                 /* what _end hands out */
};

struct object *file_make(struct made *m);
void file_destroy(struct object *o);

/* Whether the request of this call is of an operation of all ranks that have the file open. */
bool file_collective(enum call call);

/* Why a restart could not open it again; NULL: it can. */
const char *file_unable(const struct object *o);

/* Before an image is saved: asks where the files stand. [parked, crosses] */
void file_before_save(void);

/* After a restart, when communicators and datatypes are there again: opens all files. Collective
 * over the job. Returns 0 or MPI's code. [crosses] */
int file_rebuild(void);

#endif
