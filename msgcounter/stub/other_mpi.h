/*
 * other_mpi.h - the MPI library itself, where a program loads it beside the stub
 */
#ifndef DBG3_STUB_OTHER_MPI_H
#define DBG3_STUB_OTHER_MPI_H

/* From now on its functions are the stub's. Ends the program if they cannot be. */
void other_mpi_init(void);

#endif
