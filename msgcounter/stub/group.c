/*
 * group.c - groups: lists of world ranks
 */
#include "msgcounter/stub/group.h"

#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/rebuild.h"

/* The real group of MPI_COMM_WORLD in this process. */
static int world_group(void)
{
    static int real;
    static uint32_t generation;
    if (!real || generation != GATE->generation) {
        mpi_cross(CALL_MPI_Comm_group, MPI_COMM_WORLD, (uint64_t)&real);
        generation = GATE->generation;
    }
    return real;
}

bool group_world_ranks(int real, int n, int *world)
{
    int *ranks = stub_alloc((size_t)n * sizeof *ranks);
    bool foreign = false;
    for (int i = 0; i < n; i++)
        ranks[i] = i;
    mpi_cross(CALL_MPI_Group_translate_ranks, real, n, (uint64_t)ranks, world_group(),
              (uint64_t)world);
    for (int i = 0; i < n; i++)
        foreign |= world[i] == MPI_UNDEFINED;
    stub_free(ranks);
    return foreign;
}

int group_real_of(const int *world, int n)
{
    int real = MPI_GROUP_NULL;
    mpi_cross(CALL_MPI_Group_incl, world_group(), n, (uint64_t)world, (uint64_t)&real);
    return real;
}

struct object *group_make(struct made *m)
{
    struct group *g = stub_alloc(sizeof *g);
    if (!m->replay) {
        mpi_cross(CALL_MPI_Group_size, (int)m->real, (uint64_t)&g->size);
        g->members = stub_alloc((size_t)g->size * sizeof(int));
        g->foreign = group_world_ranks((int)m->real, g->size, g->members);
        m->note_bytes = (size_t)g->size * sizeof(int);
        m->note = stub_memdup(g->members, m->note_bytes);
    } else {
        g->size = (int)(m->note_bytes / sizeof(int));
        g->members = stub_memdup(m->note, m->note_bytes);
    }
    return &g->head;
}

void group_destroy(struct object *o)
{
    stub_free(((struct group *)o)->members);
}

static void rebuild(struct object *o, void *arg)
{
    struct group *g = (struct group *)o;
    int real = group_real_of(g->members, g->size);
    if (real == MPI_GROUP_NULL)
        *(int *)arg = MPI_ERR_GROUP;
    handle_set_real(o, (uint64_t)(uint32_t)real);
}

int group_rebuild(void)
{
    int rc = 0;
    handle_each(HANDLE_GROUP, rebuild, &rc);
    return rc;
}
