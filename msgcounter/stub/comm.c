/*
 * comm.c - communicators: how they were made, and making them again
 *
 * A communicator's note (what replay, which has no MPI to ask, must know of it):
 *
 *     struct comm_note | world ranks of the members | of the remote group | topology (topo.h)
 *
 * gid: hash of the parent's gid, the members' world ranks and how many communicators of just these
 * members the parent has had before. All members of a new communicator have taken part in all of
 * those, so they agree without talking.
 */
#include "msgcounter/stub/comm.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "msgcounter/stub/attr.h"
#include "msgcounter/stub/call.h"
#include "msgcounter/stub/census.h"
#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/group.h"
#include "msgcounter/stub/info.h"
#include "msgcounter/stub/init.h"
#include "msgcounter/stub/rebuild.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/tally.h"

struct comm comm_world = {.head = {.kind = HANDLE_COMM, .predefined = true, .id = MPI_COMM_WORLD,
                                   .real = MPI_COMM_WORLD, .refs = 1},
                          .topo = {.kind = MPI_UNDEFINED},
                          /* fatal; what inherits it follows what is set here later */
                          .errors = MPI_ERRHANDLER_NULL,
                          .gid = 1};
struct comm comm_self = {.head = {.kind = HANDLE_COMM, .predefined = true, .id = MPI_COMM_SELF,
                                  .real = MPI_COMM_SELF, .refs = 1},
                         .topo = {.kind = MPI_UNDEFINED},
                         .errors = MPI_ERRHANDLER_NULL,
                         .gid = 2};

struct comm_note {
    int rank, size, remote_size, foreign;
    struct topo topo; /* ints: behind the ranks */
};

static struct stub_lock lock;
static struct comm *last = &comm_world;
static uint64_t order;

/* How many communicators were made from a parent with a list of members: see gid above. */
static struct tally families;

static uint64_t comm_gid(const struct comm *parent, const struct comm *c)
{
    uint64_t h =
        XXH3_64bits_withSeed(c->members, (size_t)c->size * sizeof(int), parent ? parent->gid : 3);
    if (c->remote_size) {
        /* Both sides must find the same number: the order of the groups does not count. */
        uint64_t r = XXH3_64bits_withSeed(c->remote, (size_t)c->remote_size * sizeof(int), 3);
        h = XXH3_64bits_withSeed(c->members, (size_t)c->size * sizeof(int), 3) ^ r;
    }
    h ^= tally_next(&families, h) * 0x9e3779b97f4a7c15u;
    return h > 2 ? h : h + 3;
}

uint64_t comm_name(uint64_t gid, uint64_t n)
{
    uint64_t h = XXH3_64bits_withSeed(&n, sizeof n, gid);
    return h > 2 ? h : h + 3;
}

/* A sum, so that the order of the members, and the side they are on, do not count. */
static uint64_t comm_group(const struct comm *c)
{
    uint64_t sum = 0;
    for (int i = 0; i < c->size + c->remote_size; i++) {
        int rank = comm_member(c, i);
        sum += XXH3_64bits_withSeed(&rank, sizeof rank, 4);
    }
    return sum;
}

const struct gate_comms comm_offsets = {
    .first = &comm_world,
    .next = offsetof(struct comm, next),
    .gid = offsetof(struct comm, gid),
    .rank = offsetof(struct comm, rank),
    .size = offsetof(struct comm, size),
    .remote_size = offsetof(struct comm, remote_size),
    .members = offsetof(struct comm, members),
    .remote = offsetof(struct comm, remote),
};

struct comm *comm_first(void)
{
    return comm_world.size ? &comm_world : NULL;
}

static void append(struct comm *c)
{
    c->order = ++order;
    last->next = c;
    last = c;
}

void comm_start(int rank, int size)
{
    comm_world.rank = rank;
    comm_world.size = size;
    comm_self.rank = 0;
    comm_self.size = 1;
    comm_self.members = stub_memdup(&rank, sizeof rank);
    comm_self.gid = XXH3_64bits_withSeed(&rank, sizeof rank, 2);
    comm_world.next = last = &comm_self;
    coll_known(&comm_world, true);
}

/* ----------------------------------------------------------------------------- asking MPI */

/* World ranks of a group of the lower half, which is freed. */
static int *world_ranks(int group, int n, int *foreign)
{
    int *world = stub_alloc((size_t)n * sizeof *world);
    if (group_world_ranks(group, n, world))
        *foreign = 1;
    mpi_cross(CALL_MPI_Group_free, (uint64_t)&group);
    return world;
}

static struct comm_note *ask(int real, uint64_t *bytes)
{
    struct comm_note n = {0};
    int group, inter, *local, *remote = NULL;
    mpi_cross(CALL_MPI_Comm_rank, real, (uint64_t)&n.rank);
    mpi_cross(CALL_MPI_Comm_size, real, (uint64_t)&n.size);
    mpi_cross(CALL_MPI_Comm_test_inter, real, (uint64_t)&inter);
    mpi_cross(CALL_MPI_Comm_group, real, (uint64_t)&group);
    local = world_ranks(group, n.size, &n.foreign);
    if (inter) {
        mpi_cross(CALL_MPI_Comm_remote_size, real, (uint64_t)&n.remote_size);
        mpi_cross(CALL_MPI_Comm_remote_group, real, (uint64_t)&group);
        remote = world_ranks(group, n.remote_size, &n.foreign);
    }
    n.topo.kind = MPI_UNDEFINED;
    if (!inter)
        topo_ask(real, n.rank, n.size, &n.topo);

    size_t ints = (size_t)(n.size + n.remote_size + n.topo.n);
    *bytes = sizeof n + ints * sizeof(int);
    struct comm_note *note = stub_alloc(*bytes);
    *note = n;
    int *p = memcpy(note + 1, local, (size_t)n.size * sizeof(int));
    if (remote)
        memcpy(p + n.size, remote, (size_t)n.remote_size * sizeof(int));
    if (n.topo.n)
        memcpy(p + n.size + n.remote_size, n.topo.ints, (size_t)n.topo.n * sizeof(int));
    stub_free(n.topo.ints);
    stub_free(local);
    stub_free(remote);
    return note;
}

/* ----------------------------------------------------------------------------- objects */

static int *copy_ints(const int *from, int n)
{
    return n ? stub_memdup(from, (size_t)n * sizeof(int)) : NULL;
}

static void comm_from_note(struct comm *c, const struct comm_note *n)
{
    const int *p = (const int *)(n + 1);
    c->rank = n->rank;
    c->size = n->size;
    c->remote_size = n->remote_size;
    c->foreign = n->foreign;
    c->members = copy_ints(p, n->size);
    c->remote = copy_ints(p + n->size, n->remote_size);
    c->topo = n->topo;
    c->topo.ints = copy_ints(p + n->size + n->remote_size, n->topo.n);
}

static void comm_from_parent(struct comm *c, const struct comm *parent)
{
    int *identity = NULL;
    if (!parent->members) {
        identity = stub_alloc((size_t)parent->size * sizeof(int));
        for (int i = 0; i < parent->size; i++)
            identity[i] = i;
    }
    c->rank = parent->rank;
    c->size = parent->size;
    c->remote_size = parent->remote_size;
    c->foreign = parent->foreign;
    c->members = identity ? identity : copy_ints(parent->members, parent->size);
    c->remote = copy_ints(parent->remote, parent->remote_size);
    c->topo = parent->topo;
    c->topo.ints = copy_ints(parent->topo.ints, parent->topo.n);
}

/* Hints that a new communicator starts with: those of a call with an info object, else its
 * parent's. */
static void take_hints(struct comm *c, const struct comm *parent, const struct made *m)
{
    const struct call_info *info = &call_table[m->call];
    int given = -1;
    for (int i = 0; i < info->nparams; i++)
        if (info->params[i].kind == PARAM_HANDLE && info->params[i].handle == HANDLE_INFO)
            given = i;
    if (given >= 0)
        info_add(&c->info, handle_object(HANDLE_INFO, (int)m->v[given]));
    else if (parent && info->before == before_comm_dup)
        info_add(&c->info, parent->info);
}

struct object *comm_make(struct made *m)
{
    const struct call_info *info = &call_table[m->call];
    struct comm *parent = info->comm < 0 ? NULL : comm_of((MPI_Comm)m->v[info->comm]);
    struct comm *c = stub_alloc(sizeof *c);
    if (info->before == before_comm_dup) {
        comm_from_parent(c, parent);
        attr_take_copies(&c->attrs);
    } else {
        if (!m->replay)
            m->note = ask((int)m->real, &m->note_bytes);
        comm_from_note(c, m->note);
    }
    if (!m->replay)
        mpi_cross(CALL_MPI_Comm_set_errhandler, (uint64_t)(int)m->real,
                  (uint64_t)MPI_ERRORS_RETURN);
    c->errors = MPI_ERRHANDLER_NULL;
    if (parent)
        c->errhandler = errhandler_share(&parent->errhandler, &parent->errors, &c->errors);
    errhandler_from_call(m, &c->errhandler, &c->errors);
    take_hints(c, parent, m);
    c->group = comm_group(c);
    stub_lock(&lock);
    c->gid = comm_gid(parent, c);
    append(c);
    stub_unlock(&lock);
    coll_comm_made(c);
    return &c->head;
}

static void unlink_comm(struct comm *c)
{
    stub_lock(&lock);
    struct comm *p = &comm_world;
    while (p->next && p->next != c)
        p = p->next;
    if (p->next) {
        p->next = c->next;
        if (last == c)
            last = p;
    }
    stub_unlock(&lock);
}

/* From here on nothing can be received on it that is not posted already. */
void comm_freed(struct object *o)
{
    ((struct comm *)o)->freed = true;
}

void comm_destroy(struct object *o)
{
    struct comm *c = (struct comm *)o;
    int real = (int)o->real;
    unlink_comm(c);
    if (c->remade && !replaying())
        (void)mpi_cross(CALL_MPI_Comm_free, (uint64_t)&real);
    coll_comm_freed(c);
    object_put(c->errhandler);
    stub_free(c->members);
    stub_free(c->remote);
    stub_free(c->topo.ints);
    info_drop(&c->info);
    stub_free(c->name);
}

/* ----------------------------------------------------------------------------- by hand */

/* Never an event: the answer is the same in a replay. */
static int ask_wrongly(enum call call, const uint64_t *v)
{
    if (!comm_first())
        return call_generic(call, v);
    return error_bad_object(call, v);
}

int hand_comm_rank(enum call call, const uint64_t *v)
{
    const struct comm *c = comm_of((MPI_Comm)v[0]);
    if (__builtin_expect(!c || !c->size, 0))
        return ask_wrongly(call, v);
    *(int *)v[1] = c->rank;
    return 0;
}

int hand_comm_size(enum call call, const uint64_t *v)
{
    const struct comm *c = comm_of((MPI_Comm)v[0]);
    if (__builtin_expect(!c || !c->size, 0))
        return ask_wrongly(call, v);
    *(int *)v[1] = c->size;
    return 0;
}

/* What the cut sees of a collective over a group: one on a communicator of those members, the same
 * for all such calls, that never goes away. */
static struct comm comm_of_group(const struct comm *parent, const struct group *g)
{
    uint64_t gid = XXH3_64bits_withSeed(g->members, (size_t)g->size * sizeof(int), parent->gid + 7);
    return (struct comm){
        .gid = gid > 2 ? gid : gid + 3, .size = g->size, .foreign = g->foreign};
}

int hand_comm_create_group(enum call call, const uint64_t *v)
{
    const struct comm *parent = comm_of((MPI_Comm)v[0]);
    const struct group *g = (struct group *)handle_object(HANDLE_GROUP, (int)v[1]);
    struct comm agreed = {0};
    if (parent && g)
        agreed = comm_of_group(parent, g);
    coll_begin(call, &agreed);
    int rc = call_generic(call, v);
    coll_end(call, &agreed);
    return rc;
}

void after_comm_set_name(enum call call, const uint64_t *v)
{
    struct comm *c = comm_of((MPI_Comm)v[0]);
    if (c)
        object_keep_text(&c->name, (const char *)v[1]);
}

void after_comm_set_info(enum call call, const uint64_t *v)
{
    struct comm *c = comm_of((MPI_Comm)v[0]);
    if (c)
        info_add(&c->info, handle_object(HANDLE_INFO, (int)v[1]));
}

int before_comm_dup(enum call call, const uint64_t *v)
{
    struct comm *c = comm_of((MPI_Comm)v[0]);
    return c ? attr_copy_all((int)v[0], &c->attrs) : 0;
}

int before_comm_free(enum call call, const uint64_t *v)
{
    MPI_Comm *id = (MPI_Comm *)v[0];
    struct comm *c = id ? comm_of(*id) : NULL;
    return c && !c->head.predefined ? attr_delete_all(*id, &c->attrs) : 0;
}

/* ----------------------------------------------------------------------------- restart */

/* Hints and error handling, which a communicator of this process may have lost. */
static int restore_manners(const struct comm *c, int real)
{
    int info = MPI_INFO_NULL, rc = MPI_SUCCESS;
    if (c->name)
        mpi_cross(CALL_MPI_Comm_set_name, (uint64_t)real, (uint64_t)c->name);
    if (c->info) {
        rc = info_make_real(c->info, &info);
        if (!rc)
            rc = mpi_cross(CALL_MPI_Comm_set_info, (uint64_t)real, (uint64_t)info);
        mpi_cross(CALL_MPI_Info_free, (uint64_t)&info);
    }
    return rc ? rc
              : mpi_cross(CALL_MPI_Comm_set_errhandler, (uint64_t)real,
                          (uint64_t)MPI_ERRORS_RETURN);
}

/* Of both groups, whose first members find each other over MPI_COMM_WORLD. */
static int join_groups(const struct comm *c, int plain, int *real)
{
    return mpi_cross(CALL_MPI_Intercomm_create, (uint64_t)plain, 0, MPI_COMM_WORLD,
                     (uint64_t)c->remote[0], (uint64_t)(c->gid & 0x7fff), (uint64_t)real);
}

/* A plain communicator of the members, in their order; what it was beyond that is laid over it. */
static int make_again(struct comm *c)
{
    int group = group_real_of(c->members, c->size), plain = MPI_COMM_NULL, real = MPI_COMM_NULL;
    int rc = mpi_cross(CALL_MPI_Comm_create_group, MPI_COMM_WORLD, (uint64_t)group,
                       (uint64_t)(c->gid & 0x7fff), (uint64_t)&plain);
    mpi_cross(CALL_MPI_Group_free, (uint64_t)&group);
    if (!rc)
        rc = c->remote_size ? join_groups(c, plain, &real)
                            : topo_lay(&c->topo, c->size, plain, &real);
    if (rc)
        return rc;
    if (real != plain)
        mpi_cross(CALL_MPI_Comm_free, (uint64_t)&plain);
    handle_set_real(&c->head, (uint64_t)(uint32_t)real);
    return restore_manners(c, real);
}

/* Half freed: stands for itself alone, which is enough to be freed. */
static int make_remnant(struct comm *c)
{
    int real = MPI_COMM_NULL;
    int rc = mpi_cross(CALL_MPI_Comm_dup, MPI_COMM_SELF, (uint64_t)&real);
    handle_set_real(&c->head, (uint64_t)(uint32_t)real);
    c->remnant = true;
    return rc;
}

/* The made communicators in order of gid: the same order on all ranks, so that no two wait for
   each other
 * crosswise. */
static struct comm **sorted(int *n)
{
    *n = 0;
    for (struct comm *c = comm_world.next; c; c = c->next)
        *n += !c->head.predefined;
    struct comm **list = stub_alloc((size_t)*n * sizeof *list);
    int k = 0;
    for (struct comm *c = comm_world.next; c; c = c->next) {
        if (c->head.predefined)
            continue;
        int i = k++;
        for (; i > 0 && list[i - 1]->gid > c->gid; i--)
            list[i] = list[i - 1];
        list[i] = c;
    }
    return list;
}

static int restore_predefined(void)
{
    int rc = restore_manners(&comm_world, MPI_COMM_WORLD);
    return rc ? rc : restore_manners(&comm_self, MPI_COMM_SELF);
}

int comm_rebuild(void)
{
    int n;
    struct comm **list = sorted(&n);
    uint64_t *gids = stub_alloc((size_t)n * sizeof *gids);
    struct census all;
    for (int i = 0; i < n; i++)
        gids[i] = list[i]->gid;
    int rc = census_take(&all, gids, n);
    for (int i = 0; i < n && !rc; i++) {
        rc = census_whole(&all, gids[i], list[i]) ? make_again(list[i]) : make_remnant(list[i]);
        list[i]->remade = list[i]->freed;
    }
    census_free(&all);
    stub_free(gids);
    stub_free(list);
    return rc ? rc : restore_predefined();
}
