/*
 * storm.h - epochs at random calls, for tests
 *
 * DBG3_STORM=CALLS[:SEED] makes every rank ask for an epoch after a random number of its own MPI
 * calls, CALLS times the number of ranks in the mean at first. The mean grows by a quarter each
 * time, so that a program of n calls meets some log(n) epochs: dense at its beginning, and it ends.
 * The rank waits at the call until the coordinator begins to agree on the epoch: without that a
 * program of a few milliseconds would be over before.
 *
 * Costs nothing where it is off: it lives behind a bit of GATE->word.
 */
#ifndef DBG3_STUB_STORM_H
#define DBG3_STUB_STORM_H

/* A call of this thread is over, and GATE->word has GATE_WORD_STORM. [outside of the stub] */
void storm_call(void);

#endif
