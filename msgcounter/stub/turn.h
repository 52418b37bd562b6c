/*
 * turn.h - order among the threads of a replayed rank
 *
 * Each thread answers its MPI calls from its own events. Where several are in MPI, they also wait
 * for each other, so that events are taken in the order in which they were recorded. That order is
 * not all that ties threads together: a mutex that one thread holds while it waits here may be
 * what the thread whose turn it is wants, because nothing records who got a mutex first. So a turn
 * is waited for only as long as the process does something.
 */
#ifndef DBG3_STUB_TURN_H
#define DBG3_STUB_TURN_H

#include <stdbool.h>
#include <stdint.h>

/* Replay begins at this event. */
void turn_start(uint64_t event);

/* Waits until all events before this one have been taken, or cannot be for now. */
void turn_wait(uint64_t event);

/* An event has been taken by its thread. */
void turn_taken(uint64_t event);

/* Waits until `come` says so: what another thread had done when this was recorded it may do only
 * now. False: the process has done nothing for a second. */
bool turn_await(bool (*come)(void *arg), void *arg);

/* The calling thread has no event left. Returns when nothing else happens in the process any more:
 * another thread may have a way to go to what ended the recording. */
void turn_end(void);

#endif
