/*
 * group.h - groups: lists of world ranks
 */
#ifndef DBG3_STUB_GROUP_H
#define DBG3_STUB_GROUP_H

#include <mpi.h>
#include <stdbool.h>

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/handle.h"

struct group {
    struct object head;
    int size;
    int *members; /* world ranks; MPI_UNDEFINED: outside MPI_COMM_WORLD */
    bool foreign; /* has such members: cannot be rebuilt */
};

struct object *group_make(struct made *m);
void group_destroy(struct object *o);

/* World ranks of the n members of a real group. Returns true if some are outside MPI_COMM_WORLD.
 * [crosses] */
bool group_world_ranks(int real, int n, int *world);

/* A real group of these world ranks; the caller frees it. [crosses] */
int group_real_of(const int *world, int n);

#endif
