/*
 * part.h - partitioned communication (MPI 4.0 §4)
 */
#ifndef DBG3_STUB_PART_H
#define DBG3_STUB_PART_H

#include "msgcounter/stub/request.h"

/* MPI_Start of a partitioned operation that is inactive. Returns MPI's code. */
int part_start(enum call call, struct request *r);

/* Whether the request is a partitioned receive: its data is there when it completes. */
static inline bool part_receives(const struct request *r)
{
    return r->kind == REQUEST_OTHER && r->parts &&
           call_table[r->start].base == CALL_MPI_Precv_init;
}

#endif
