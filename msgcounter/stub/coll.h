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

/* gate_stub.collectives */
int coll_list(struct gate_coll *out, int max);

/*
 * A communicator, or a window by its `agreed`, exists: from here on the agent sees it. The cut must
 * fall before all members have made it or after, and the same for its freeing (the next function),
 * though a rank that has freed it forgets it at once. So what the members of one group make and
 * free is counted in two words of the group that never go away, as if they were communicators: how
 * many were made, and how many collectives had been entered on those that were freed. When E of
 * both, and of what lives, is the same on all members, they have made and freed the same.
 */
void coll_comm_made(const struct comm *c);

/* It is freed: no collective can be entered on it any more. Calls after the first do nothing. */
void coll_comm_freed(struct comm *c);

/* A thing that collectives are counted on exists, with no regard to its making: MPI_COMM_WORLD (for
 * good: every member lists it) and persistent collectives. */
void coll_known(const struct comm *c, bool for_good);

/*
 * A persistent collective is freed, which the other members may do at any time or never. Its E is
 * reported as long as another may have to start it: until the next cut, and of a job without cuts
 * among the latest FREED_KEPT; no rank gets further ahead of another.
 */
void coll_forget_later(const struct comm *c);
void coll_forget_freed(void);

#endif
