/*
 * neighbors: neighbourhood collectives of all kinds over Cartesian, graph and distributed graph
 * topologies that live for several rounds.
 *
 * Usage: neighbors [ROUNDS]. Ranks: 3 or more.
 */
#include "check.h"

enum { LEN = 30, LIFE = 4 };

/* A ring in three guises: the left neighbour comes first, then the right one. */
enum { CART, GRAPH, DIST, ADJACENT, NCOMMS };
static MPI_Comm comms[NCOMMS];

static long in[2 * LEN], out[2 * LEN];

static long value(int from, int i, int round)
{
    return from * 1000L + i * 3 + round;
}

static void make_comms(void)
{
    int one = 1, near[2] = {neighbour(-1), neighbour(1)}, weights[2] = {rank, rank + 10};
    int *index = malloc((size_t)size * sizeof *index);
    int *edges = malloc(2 * (size_t)size * sizeof *edges);

    MPI_Cart_create(MPI_COMM_WORLD, 1, &size, &one, 0, &comms[CART]);
    for (int r = 0; r < size; r++) {
        index[r] = 2 * (r + 1);
        edges[2 * r] = (r + size - 1) % size;
        edges[2 * r + 1] = (r + 1) % size;
    }
    MPI_Graph_create(MPI_COMM_WORLD, size, index, edges, 0, &comms[GRAPH]);
    free(index);
    free(edges);
    MPI_Dist_graph_create_adjacent(MPI_COMM_WORLD, 2, near, weights, 2, near, weights,
                                   MPI_INFO_NULL, 0, &comms[ADJACENT]);
    MPI_Comm_dup(comms[ADJACENT], &comms[DIST]);
    MPI_Comm_set_name(comms[GRAPH], "ring as a graph");
}

/* What a topology tells must be the same in every round. */
static void run_inquiry(int round)
{
    int kind, n, m, weighted, list[4], out_list[4], w[4], out_w[4], nodes, edges;
    char name[MPI_MAX_OBJECT_NAME];

    if (round % LIFE == 0)
        make_comms();
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Topo_test(comms[CART], &kind);
    CHECK(kind == MPI_CART);
    MPI_Topo_test(comms[GRAPH], &kind);
    CHECK(kind == MPI_GRAPH);
    MPI_Graphdims_get(comms[GRAPH], &nodes, &edges);
    CHECK(nodes == size && edges == 2 * size);
    MPI_Graph_neighbors_count(comms[GRAPH], rank, &n);
    CHECK(n == 2);
    MPI_Graph_neighbors(comms[GRAPH], rank, 2, list);
    CHECK(list[0] == neighbour(-1) && list[1] == neighbour(1));
    MPI_Comm_get_name(comms[GRAPH], name, &n);
    CHECK(strcmp(name, "ring as a graph") == 0);
    for (int c = DIST; c <= ADJACENT; c++) {
        MPI_Topo_test(comms[c], &kind);
        CHECK(kind == MPI_DIST_GRAPH);
        MPI_Dist_graph_neighbors_count(comms[c], &n, &m, &weighted);
        CHECK(n == 2 && m == 2 && weighted);
        MPI_Dist_graph_neighbors(comms[c], 2, list, w, 2, out_list, out_w);
        CHECK(list[0] == neighbour(-1) && list[1] == neighbour(1) && out_list[0] == list[0]);
        CHECK(w[0] == rank && out_w[1] == rank + 10);
    }
}

static void fill(int round)
{
    for (int i = 0; i < 2 * LEN; i++) {
        in[i] = value(rank, i, round);
        out[i] = -1;
    }
}

/* Each got the same block from each neighbour. */
static void check_gathered(int round)
{
    for (int i = 0; i < LEN; i++) {
        CHECK(out[i] == value(neighbour(-1), i, round));
        CHECK(out[LEN + i] == value(neighbour(1), i, round));
    }
}

/* Each got the left one's second block and the right one's first. */
static void check_exchanged(int round)
{
    for (int i = 0; i < LEN; i++) {
        CHECK(out[i] == value(neighbour(-1), LEN + i, round));
        CHECK(out[LEN + i] == value(neighbour(1), i, round));
    }
}

static int counts[2] = {LEN, LEN}, displs[2] = {0, LEN};
static MPI_Aint places[2] = {0, LEN * sizeof(long)};
static MPI_Datatype types[2] = {MPI_LONG, MPI_LONG};

static void run_blocking(int round)
{
    for (int c = 0; c < NCOMMS; c++) {
        fill(round);
        MPI_Neighbor_allgather(in, LEN, MPI_LONG, out, LEN, MPI_LONG, comms[c]);
        check_gathered(round);
        fill(round);
        MPI_Neighbor_allgatherv(in, LEN, MPI_LONG, out, counts, displs, MPI_LONG, comms[c]);
        check_gathered(round);
        fill(round);
        MPI_Neighbor_alltoall(in, LEN, MPI_LONG, out, LEN, MPI_LONG, comms[c]);
        check_exchanged(round);
        fill(round);
        MPI_Neighbor_alltoallv(in, counts, displs, MPI_LONG, out, counts, displs, MPI_LONG,
                               comms[c]);
        check_exchanged(round);
        fill(round);
        MPI_Neighbor_alltoallw(in, counts, places, types, out, counts, places, types, comms[c]);
        check_exchanged(round);
    }
}

static void run_non_blocking(int round)
{
    MPI_Comm c = comms[round % NCOMMS];
    MPI_Request r;

    fill(round);
    MPI_Ineighbor_allgather(in, LEN, MPI_LONG, out, LEN, MPI_LONG, c, &r);
    MPI_Wait(&r, MPI_STATUS_IGNORE);
    check_gathered(round);
    fill(round);
    MPI_Ineighbor_allgatherv(in, LEN, MPI_LONG, out, counts, displs, MPI_LONG, c, &r);
    MPI_Wait(&r, MPI_STATUS_IGNORE);
    check_gathered(round);
    fill(round);
    MPI_Ineighbor_alltoall(in, LEN, MPI_LONG, out, LEN, MPI_LONG, c, &r);
    MPI_Wait(&r, MPI_STATUS_IGNORE);
    check_exchanged(round);
    fill(round);
    MPI_Ineighbor_alltoallv(in, counts, displs, MPI_LONG, out, counts, displs, MPI_LONG, c, &r);
    MPI_Wait(&r, MPI_STATUS_IGNORE);
    check_exchanged(round);
    fill(round);
    MPI_Ineighbor_alltoallw(in, counts, places, types, out, counts, places, types, c, &r);
    MPI_Wait(&r, MPI_STATUS_IGNORE);
    check_exchanged(round);
}

static MPI_Request kept;

static void run_persistent(int round)
{
    MPI_Request r;

    if (round % LIFE == 0)
        MPI_Neighbor_alltoallw_init(in, counts, places, types, out, counts, places, types,
                                    comms[GRAPH], MPI_INFO_NULL, &kept);
    fill(round);
    MPI_Start(&kept);
    MPI_Wait(&kept, MPI_STATUS_IGNORE);
    check_exchanged(round);
    fill(round);
    MPI_Neighbor_allgather_init(in, LEN, MPI_LONG, out, LEN, MPI_LONG, comms[DIST], MPI_INFO_NULL,
                                &r);
    MPI_Start(&r);
    MPI_Wait(&r, MPI_STATUS_IGNORE);
    check_gathered(round);
    MPI_Request_free(&r);
    if (round % LIFE < LIFE - 1)
        return;
    MPI_Request_free(&kept);
    for (int c = 0; c < NCOMMS; c++)
        MPI_Comm_free(&comms[c]);
}

static const struct check_case cases[] = {
    {"inquiry", run_inquiry},
    {"blocking", run_blocking},
    {"non_blocking", run_non_blocking},
    {"persistent", run_persistent},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "neighbors", cases, 20);
}
