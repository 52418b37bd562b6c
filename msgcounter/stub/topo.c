/*
 * topo.c - topologies of communicators: what restart needs to lay them over new ones
 */
#include "msgcounter/stub/topo.h"

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/call.h"

static int *make_ints(struct topo *t, int n)
{
    t->n = n;
    t->ints = stub_alloc((size_t)n * sizeof(int));
    return t->ints;
}

static void ask_cart(int real, struct topo *t)
{
    mpi_cross(CALL_MPI_Cartdim_get, (uint64_t)real, (uint64_t)&t->ndims);
    t->indegree = t->outdegree = 2 * t->ndims;
    int *dims = make_ints(t, 2 * t->ndims);
    int *coords = stub_alloc((size_t)t->ndims * sizeof(int));
    mpi_cross(CALL_MPI_Cart_get, (uint64_t)real, (uint64_t)t->ndims, (uint64_t)dims,
              (uint64_t)(dims + t->ndims), (uint64_t)coords);
    stub_free(coords);
}

static void ask_graph(int real, int rank, int size, struct topo *t)
{
    int nodes, edges;
    mpi_cross(CALL_MPI_Graph_neighbors_count, (uint64_t)real, (uint64_t)rank,
              (uint64_t)&t->indegree);
    t->outdegree = t->indegree;
    mpi_cross(CALL_MPI_Graphdims_get, (uint64_t)real, (uint64_t)&nodes, (uint64_t)&edges);
    int *index = make_ints(t, size + edges);
    mpi_cross(CALL_MPI_Graph_get, (uint64_t)real, (uint64_t)size, (uint64_t)edges, (uint64_t)index,
              (uint64_t)(index + size));
}

static uint64_t weights(const struct topo *t, const int *w)
{
    return t->weighted ? (uint64_t)w : (uint64_t)GATE->consts->unweighted;
}

static void ask_dist_graph(int real, struct topo *t)
{
    mpi_cross(CALL_MPI_Dist_graph_neighbors_count, (uint64_t)real, (uint64_t)&t->indegree,
              (uint64_t)&t->outdegree, (uint64_t)&t->weighted);
    int in = t->indegree, out = t->outdegree;
    int *from = make_ints(t, 2 * (in + out)), *to = from + 2 * in;
    mpi_cross(CALL_MPI_Dist_graph_neighbors, (uint64_t)real, (uint64_t)in, (uint64_t)from,
              weights(t, from + in), (uint64_t)out, (uint64_t)to, weights(t, to + out));
}

void topo_ask(int real, int rank, int size, struct topo *t)
{
    *t = (struct topo){.kind = MPI_UNDEFINED};
    mpi_cross(CALL_MPI_Topo_test, (uint64_t)real, (uint64_t)&t->kind);
    if (t->kind == MPI_CART)
        ask_cart(real, t);
    else if (t->kind == MPI_GRAPH)
        ask_graph(real, rank, size, t);
    else if (t->kind == MPI_DIST_GRAPH)
        ask_dist_graph(real, t);
}

static int lay_dist_graph(const struct topo *t, int plain, int *real)
{
    int in = t->indegree, out = t->outdegree, *from = t->ints, *to = from + 2 * in;
    return mpi_cross(CALL_MPI_Dist_graph_create_adjacent, (uint64_t)plain, (uint64_t)in,
                     (uint64_t)from, weights(t, from + in), (uint64_t)out, (uint64_t)to,
                     weights(t, to + out), MPI_INFO_NULL, 0, (uint64_t)real);
}

int topo_lay(const struct topo *t, int size, int plain, int *real)
{
    switch (t->kind) {
    case MPI_CART:
        return mpi_cross(CALL_MPI_Cart_create, (uint64_t)plain, (uint64_t)t->ndims,
                         (uint64_t)t->ints, (uint64_t)(t->ints + t->ndims), 0, (uint64_t)real);
    case MPI_GRAPH:
        return mpi_cross(CALL_MPI_Graph_create, (uint64_t)plain, (uint64_t)size,
                         (uint64_t)t->ints, (uint64_t)(t->ints + size), 0, (uint64_t)real);
    case MPI_DIST_GRAPH:
        return lay_dist_graph(t, plain, real);
    default:
        *real = plain;
        return MPI_SUCCESS;
    }
}
