/*
 * lower_mpi.h - the lower half's side of MPI: the function table and the services behind the gate
 */
#ifndef DBG3_HALF_LOWER_MPI_H
#define DBG3_HALF_LOWER_MPI_H

#include <stdint.h>

#include "runtime/half/half.h"

/* Size of the call table this program was built with. */
extern const uint32_t lower_mpi_ncalls;

/* Fills the gate's function table and services. */
void lower_mpi_install(const struct half_env *env);

/* Calls MPI_Init_thread for a restart. Returns the rank in MPI_COMM_WORLD; *size is set. */
int lower_mpi_init(int level, int *size);

/* All ranks have come here. */
void lower_mpi_barrier(void);

#endif
