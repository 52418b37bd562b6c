/*
 * session.c - sessions
 */
#include "msgcounter/stub/session.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/group.h"
#include "msgcounter/stub/info.h"
#include "msgcounter/stub/init.h"
#include "msgcounter/stub/win.h"

unsigned session_count(void)
{
    return handle_tables[HANDLE_SESSION].live;
}

struct object *session_make(struct made *m)
{
    struct win *s = stub_alloc(sizeof *s);
    s->errors = MPI_ERRORS_ARE_FATAL;
    if (!m->replay)
        mpi_cross(CALL_MPI_Session_set_errhandler, m->real, (uint64_t)MPI_ERRORS_RETURN);
    errhandler_from_call(m, &s->errhandler, &s->errors);
    info_add(&s->hints, handle_object(HANDLE_INFO, (int)m->v[0]));
    return &s->head;
}

static int level_of(const struct object *info)
{
    static const struct {
        const char *name;
        int level;
    } levels[] = {{"MPI_THREAD_SINGLE", MPI_THREAD_SINGLE},
                  {"MPI_THREAD_FUNNELED", MPI_THREAD_FUNNELED},
                  {"MPI_THREAD_SERIALIZED", MPI_THREAD_SERIALIZED},
                  {"MPI_THREAD_MULTIPLE", MPI_THREAD_MULTIPLE}};
    const char *name = info_value(info, "thread_level");
    for (unsigned i = 0; name && i < sizeof levels / sizeof *levels; i++)
        if (!strcmp(levels[i].name, name))
            return levels[i].level;
    return MPI_THREAD_SINGLE;
}

int hand_session_init(enum call call, const uint64_t *v)
{
    const struct object *info = handle_object(HANDLE_INFO, (int)v[0]);
    int rc = init_join(call, CALL_MPI_Init_thread, level_of(info));
    return rc ? rc : call_generic(call, v);
}

/* ------------------------------------------------------------------------------- communicators */

/* What the cut sees of a collective over groups: one on a communicator of their members, the same
 * for all such calls, that never goes away. */
static struct comm comm_of_groups(const struct group *a, const struct group *b)
{
    uint64_t sum = 0;
    const struct group *both[] = {a, b};
    struct comm c = {0};
    for (int g = 0; g < 2; g++)
        for (int i = 0; both[g] && i < both[g]->size; i++, c.size++)
            sum += XXH3_64bits_withSeed(&both[g]->members[i], sizeof(int), 5);
    c.gid = comm_name(sum, 0);
    return c;
}

static const struct group *group_at(const uint64_t *v, int i)
{
    return i < 0 ? NULL : (const struct group *)handle_object(HANDLE_GROUP, (int)v[i]);
}

int hand_comm_from_groups(enum call call, const uint64_t *v)
{
    bool inter = call_table[call].base == CALL_MPI_Intercomm_create_from_groups;
    const struct group *a = group_at(v, 0), *b = inter ? group_at(v, 2) : NULL;
    struct comm agreed = {0};
    if (a && (b || !inter))
        agreed = comm_of_groups(a, b);
    coll_begin(call, &agreed);
    int rc = call_generic(call, v);
    coll_end(call, &agreed);
    return rc;
}

/* -------------------------------------------------------------------------------------- restart */

static void open_again(struct object *o, void *arg)
{
    int *rc = arg, info = MPI_INFO_NULL, real = MPI_SESSION_NULL;
    const struct win *s = (const struct win *)o;
    if (!*rc && s->hints)
        *rc = info_make_real(s->hints, &info);
    if (!*rc)
        *rc = mpi_cross(CALL_MPI_Session_init, (uint64_t)info, (uint64_t)MPI_ERRORS_RETURN,
                        (uint64_t)&real);
    if (info != MPI_INFO_NULL)
        mpi_cross(CALL_MPI_Info_free, (uint64_t)&info);
    handle_set_real(o, (uint64_t)(uint32_t)real);
}

int session_rebuild(void)
{
    int rc = 0;
    handle_each(HANDLE_SESSION, open_again, &rc);
    return rc;
}
