/*
 * census.h - what of a kind every rank has, at a restart
 *
 * Freeing of what several ranks share is no barrier, so an image may hold a communicator or a
 * persistent collective that some members have freed already. Such a one cannot be made again; all
 * that can still happen to it is to be freed by the others.
 */
#ifndef DBG3_STUB_CENSUS_H
#define DBG3_STUB_CENSUS_H

#include "msgcounter/stub/comm.h"

struct census {
    int size, *counts, *starts;
    uint64_t *keys; /* of all ranks, each rank's sorted */
};

/* Collective over the job: `mine` (n, sorted) are this rank's. Returns 0 or MPI's code;
 * census_free() in any case. [crosses] */
int census_take(struct census *all, const uint64_t *mine, int n);

bool census_has(const struct census *all, int rank, uint64_t key);

/* Whether all members of a communicator, of both groups, have this key. */
bool census_whole(const struct census *all, uint64_t key, const struct comm *c);

void census_free(struct census *all);

#endif
