/*
 * chain.h: a number that goes round the ring, and depends on all that was mixed into it: a replay
 * that gets anything else than the recorded run sends something else.
 */
#ifndef CHAIN_H
#define CHAIN_H

#include "check.h"
#include <stdint.h>

static uint64_t state = 1;

static void mix(uint64_t value)
{
    state = (state ^ value) * 0x9e3779b97f4a7c15u;
    state ^= state >> 29;
}

static void exchange(void)
{
    uint64_t coming;

    MPI_Sendrecv(&state, 1, MPI_UINT64_T, neighbour(1), 1, &coming, 1, MPI_UINT64_T, neighbour(-1),
                 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    mix(coming);
}

#endif
