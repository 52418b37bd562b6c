/*
 * coll.h - collectives as the coordinated cut sees them
 *
 * For each communicator a rank keeps E, the number of collectives that it has entered (non-blocking
 * ones: started). While a cut is being agreed on (GATE_WORD_INTENT) it asks before it enters one
 * and tells when it has left (DESIGN: coordinated cut).
 *
 * The agent reads E from another thread at any moment. A rank that stores E and then reads the word
 * meets an agent that stores the word and then reads E: each pays for a full fence, so at least one
 * sees the other. A collective that is counted but still asks for leave to enter is seen as
 * entered; the agent lets it in.
 */
#ifndef DBG3_STUB_COLL_H
#define DBG3_STUB_COLL_H

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/comm.h"

/* NEEDSWORK: an epoch between non-blocking or persistent neighbour collectives can leave the data
 * of the next one wrong: once the rank has called one, no epoch is taken any more. */
extern bool coll_neighbors;

/* gate_stub.collectives */
int coll_list(struct gate_coll *out, int max);

/* A communicator exists: from here on the agent sees it. */
void coll_comm_made(const struct comm *c);

/*
 * The communicator is gone on this rank, and may not be on the others. Its freeing is a collective
 * as any other and its E is still reported, so that a cut falls before all have freed it or after:
 * at a cut coll_forget_freed(). Of a job without cuts only the latest FREED_KEPT are kept; no rank
 * gets further ahead of another.
 */
void coll_comm_freed(uint64_t gid);
void coll_forget_freed(void);

#endif
