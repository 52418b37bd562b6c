/*
 * topo.h - topologies of communicators: what restart needs to lay them over new ones
 *
 * Kept as MPI tells it after the topology was made, so that neighbours keep their order:
 *
 *     MPI_CART         dims | periods
 *     MPI_GRAPH        index | edges
 *     MPI_DIST_GRAPH   sources | their weights | destinations | their weights
 */
#ifndef DBG3_STUB_TOPO_H
#define DBG3_STUB_TOPO_H

#include <stdint.h>

struct topo {
    int kind; /* MPI_CART, MPI_GRAPH, MPI_DIST_GRAPH or MPI_UNDEFINED */
    int indegree, outdegree; /* neighbours, of any kind */
    int ndims;    /* of a Cartesian one */
    int weighted; /* a distributed graph with weights */
    int n;        /* numbers as drawn above */
    int *ints;
};

/* Asks MPI for the topology of an intracommunicator; t->ints is from stub_alloc. [crosses] */
void topo_ask(int real, int rank, int size, struct topo *t);

/* Makes a communicator with this topology from a plain one of the same members, without reordering.
 * Returns MPI's code. [crosses] */
int topo_lay(const struct topo *t, int size, int plain, int *real);

#endif
