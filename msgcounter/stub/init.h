/*
 * init.h - start and end of MPI in this rank
 */
#ifndef DBG3_STUB_INIT_H
#define DBG3_STUB_INIT_H

#include "msgcounter/stub/call.h"

/*
 * The rank joins its job, unless it has: the lower half initialises MPI by the call `how`, at the
 * level that is asked for if it asks for one. `call` is what the application called. Returns MPI's
 * code.
 */
int init_join(enum call call, enum call how, int level);

/* Of MPI_COMM_WORLD; of spawned processes behind those that the job had by then. Names the rank's
 * files, and the rank to people. */
int init_rank_in_job(void);

/* At the end of the process: the lower half finalizes MPI if the application needs it no more and
 * could not say so. */
void init_leave(void);

/* comm.c: MPI_COMM_WORLD and MPI_COMM_SELF exist. */
void comm_start(int rank, int size);

#endif
