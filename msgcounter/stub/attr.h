/*
 * attr.h - attributes of communicators, datatypes and windows
 *
 * Kept wholly in the upper half: the lower half never hears of the application's keyvals. So
 * callbacks run in the application's world, are replayed because the application's calls are, and a
 * restart has nothing to do. Semantics follow MPI 4.0 §7.7 and MPICH where the standard leaves a
 * choice.
 */
#ifndef DBG3_STUB_ATTR_H
#define DBG3_STUB_ATTR_H

#include <stdint.h>

struct attr;

/* Calls the copy callbacks of all attributes in `list` for an object that is about to be
 * duplicated, and keeps the copies for attr_take_copies(). Returns MPI_SUCCESS or what a
 * callback returned. */
int attr_copy_all(int handle, struct attr *const *list);

/* Gives the copies that the last attr_copy_all() of this thread made to the new object. */
void attr_take_copies(struct attr **list);

/* Calls the delete callbacks and empties the list. Returns MPI_SUCCESS or what the last callback
 * that failed returned. */
int attr_delete_all(int handle, struct attr **list);

/* Notes the predefined attributes of MPI_COMM_WORLD: once after MPI_Init, and the recorded ones in
 * replay. */
struct attr_predefined {
    /* by (keyval & 0xf) >> 1: MPI_TAG_UB, HOST, IO, WTIME_IS_GLOBAL, UNIVERSE_SIZE, LASTUSEDCODE,
     * APPNUM */
    int set[8], value[8];
};
extern struct attr_predefined attr_predefined;
void attr_ask_predefined(void);

/* MPI_LASTUSEDCODE is this class from now on, if it is no smaller one. */
void attr_class_added(int class);

#endif
