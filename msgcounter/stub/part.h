/*
 * part.h - partitioned communication (MPI 4.0 §4)
 *
 * The lower half has the operation: its request is persistent and known by its real request. Two of
 * them belong together by the order in which both sides made theirs for one communicator, peer and
 * tag. A restart makes them again in that order, but those whose other side is freed: to make these
 * would give them to another one.
 *
 * While one is active the rank is "inside a collective" of its own for the coordinated cut, as with
 * windows (win.h): no cut falls until all are complete, so that none is ever in an image.
 */
#ifndef DBG3_STUB_PART_H
#define DBG3_STUB_PART_H

#include "msgcounter/stub/request.h"

/* What a request keeps of it until it ends. */
struct part;

/* With the request. NULL is fine. */
void part_destroy(struct part *p);

/* The operation is complete. */
void part_done(struct part *p);

/* After a restart: makes the requests again. Collective over the job. Returns 0 or MPI's code.
 * [crosses] */
int part_rebuild(void);

/* MPI_Start of a partitioned operation that is inactive. Returns MPI's code. */
int part_start(enum call call, struct request *r);

/* Whether the request is a partitioned receive: its data is there when it completes. */
static inline bool part_receives(const struct request *r)
{
    return r->part &&
           call_table[r->start].base == CALL_MPI_Precv_init;
}

#endif
