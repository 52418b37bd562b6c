/*
 * lower_mpi.c - the lower half's side of MPI: the function table and the services behind the gate
 */
#include "runtime/half/lower_mpi.h"

#include <mpi.h>

#include "call_id.h"
#include "runtime/half/gate.h"
#include "runtime/half/instructions.h"
#include "runtime/half/p2p_loops.h"

extern void *const lower_mpi[]; /* generated */

const uint32_t lower_mpi_ncalls = CALL_COUNT;

void lower_mpi_install(const struct half_env *env)
{
    static struct gate_consts consts;
    consts = (struct gate_consts){MPI_UNWEIGHTED, MPI_WEIGHTS_EMPTY};
    GATE->mpi = lower_mpi;
    GATE->consts = &consts;
    GATE->instructions = instructions_find;
    p2p_loops_install(GATE);
}

void lower_mpi_barrier(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
}

int lower_mpi_init(int level, int *size)
{
    int provided, rank;
    MPI_Init_thread(NULL, NULL, level, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, size);
    return rank;
}
