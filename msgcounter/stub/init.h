/*
 * init.h - start and end of MPI in this rank
 */
#ifndef DBG3_STUB_INIT_H
#define DBG3_STUB_INIT_H

/* comm.c: MPI_COMM_WORLD and MPI_COMM_SELF exist. */
void comm_start(int rank, int size);

#endif
