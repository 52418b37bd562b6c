/*
 * comm.h - what the stub knows of each communicator
 *
 * All that restart needs is here: members as world ranks, so that live communicators can be made
 * again from MPI_COMM_WORLD in order of gid, without replaying history.
 */
#ifndef DBG3_STUB_COMM_H
#define DBG3_STUB_COMM_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#include "msgcounter/stub/handle.h"
#include "msgcounter/stub/topo.h"

struct slot;

struct comm {
    struct object head;
    uint64_t gid;      /* the same number on all members; 0 only while unknown */
    uint64_t group;    /* names its members, those of both groups, whatever their order */
    int rank, size;    /* in the local group */
    int remote_size;   /* 0: an intracommunicator */
    int *members;      /* world ranks of the local group; NULL: identity (MPI_COMM_WORLD) */
    int *remote;       /* world ranks of the remote group, NULL for intracommunicators */
    uint64_t order;    /* creation order on this rank, for rebuild */
    struct slot *slot; /* of its collectives; coll.c's own */
    uint64_t persistent; /* persistent collectives made over it so far: part of what names them */
    struct comm *next; /* all communicators that exist, in creation order */
    bool freed;        /* by the application, while operations on it are pending */
    bool folded;       /* freed, and the cut has been told (coll_comm_freed) */
    bool remade;       /* freed, and made again by a restart for those operations */
    bool remnant;      /* stands for itself alone after a restart: other members have freed it */
    bool alone;        /* no communicator but doings of this rank that no cut may meet (win.h) */
    bool foreign;      /* has members outside MPI_COMM_WORLD (spawn, connect): cannot be rebuilt */

    struct topo topo;    /* of an intracommunicator; ints owned */
    struct object *info; /* hints that were given, NULL: none (info.h) */
    char *name;          /* NULL: MPI's default */
    struct object *errhandler; /* NULL: predefined one in `errors` */
    MPI_Errhandler errors;
    struct attr *attrs;
};

extern struct comm comm_world, comm_self;

/* The communicator of a handle, MPI_COMM_WORLD and MPI_COMM_SELF included; NULL if it is none. */
static inline struct comm *comm_of(MPI_Comm c)
{
    if (c == MPI_COMM_WORLD)
        return &comm_world;
    if (c == MPI_COMM_SELF)
        return &comm_self;
    return (struct comm *)handle_object(HANDLE_COMM, c);
}

static inline MPI_Comm comm_real(MPI_Comm c)
{
    return (MPI_Comm)handle_real(HANDLE_COMM, c);
}

/* World rank of the peer that `rank` names in a point-to-point call on c (the remote group of an
 * intercommunicator); -1 for MPI_PROC_NULL, MPI_ANY_SOURCE, foreign or out of range. */
static inline int comm_world_rank(const struct comm *c, int rank)
{
    if (c->remote_size)
        return rank >= 0 && rank < c->remote_size ? c->remote[rank] : -1;
    if (rank < 0 || rank >= c->size)
        return -1;
    return c->members ? c->members[rank] : rank;
}

/* A number for the nth thing made over a communicator (a window, a persistent collective), or over
 * such a thing, that no communicator has. */
uint64_t comm_name(uint64_t gid, uint64_t n);

/* World rank of the ith member, those of the remote group behind those of the local one. */
static inline int comm_member(const struct comm *c, int i)
{
    if (i >= c->size)
        return c->remote[i - c->size];
    return c->members ? c->members[i] : i;
}

struct made;
struct gate_comms;
struct object *comm_make(struct made *m);
void comm_freed(struct object *o);
void comm_destroy(struct object *o);

/* What a debugger must know of struct comm. */
extern const struct gate_comms comm_offsets;

/* All communicators in creation order, MPI_COMM_WORLD first; NULL before MPI_Init. */
struct comm *comm_first(void);

#endif
