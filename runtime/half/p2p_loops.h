/*
 * p2p_loops.h - the lower half's waiting: point-to-point services behind the gate
 *
 * MPI calls that wait are never made in their blocking form: a loop of tests looks at GATE->word
 * between them, so that a waiting rank can always be parked. The loops run wholly in the lower half
 * (one crossing a wait) and step back from the processor when nothing comes, as ranks may outnumber
 * cores.
 *
 * Linked by the lower program and by the test harness. Real handles in, no state kept but pointers
 * to the library's functions.
 */
#ifndef DBG3_HALF_P2P_LOOPS_H
#define DBG3_HALF_P2P_LOOPS_H

#include "runtime/half/gate.h"

/* Fills the services send, recv, probe, complete and wait_any of `g`, whose table `mpi` is filled
 * already. */
void p2p_loops_install(struct gate *g);

#endif
