/*
 * win.c - windows as objects
 */
#include "msgcounter/stub/win.h"

#include <string.h>
#include <sys/mman.h>

#include "msgcounter/stub/attr.h"
#include "msgcounter/stub/census.h"
#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/fortran.h"
#include "msgcounter/stub/info.h"
#include "msgcounter/stub/p2p.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/win_shared.h"
#include "msgcounter/stub/win_watch.h"
#include "runtime/half/sys.h"

/* ---------------------------------------------------------------------------------- parameters */

int win_param_index(enum call call, const char *name)
{
    const struct call_info *info = &call_table[call];
    for (int i = 0; i < info->nparams; i++)
        if (!strcmp(info->params[i].name, name))
            return i;
    return -1;
}

uint64_t win_param(enum call call, const uint64_t *v, const char *name)
{
    return v[win_param_index(call, name)];
}

/* --------------------------------------------------------------------------------------- making */

static void unmap_memory(void *memory, uint64_t bytes)
{
    sys_call(SYS_munmap, (uint64_t)memory, bytes, 0, 0, 0, 0);
}

static int flavor_of(enum call call)
{
    return win_param_index(call, "baseptr") >= 0 ? MPI_WIN_FLAVOR_SHARED
           : win_param_index(call, "base") >= 0  ? MPI_WIN_FLAVOR_CREATE
                                            : MPI_WIN_FLAVOR_DYNAMIC;
}

void win_belongs(struct win *w, const struct made *m, struct comm *c)
{
    info_add(&w->hints, handle_object(HANDLE_INFO, (int)win_param(m->call, m->v, "info")));
    w->comm = c;
    object_get(&c->head);
    w->agreed = (struct comm){.gid = comm_name(c->gid, ++c->persistent),
                              .group = c->group,
                              .rank = c->rank,
                              .size = c->size,
                              .foreign = c->foreign};
    coll_comm_made(&w->agreed);
}

struct object *win_make(struct made *m)
{
    struct win *w = stub_alloc(sizeof *w);
    struct comm *c = comm_of((MPI_Comm)win_param(m->call, m->v, "comm"));
    w->errors = MPI_ERRORS_ARE_FATAL;
    if (!m->replay)
        mpi_cross(CALL_MPI_Win_set_errhandler, m->real, (uint64_t)MPI_ERRORS_RETURN);
    w->flavor = flavor_of(m->call);
    w->model = MPI_WIN_UNIFIED; /* MPICH knows no other over the devices of this package */
    w->disp_unit = 1;
    if (w->flavor == MPI_WIN_FLAVOR_CREATE)
        w->base = (void *)win_param(m->call, m->v, "base");
    if (w->flavor != MPI_WIN_FLAVOR_DYNAMIC) {
        w->size = (MPI_Aint)win_param(m->call, m->v, "size");
        w->disp_unit = (int)win_param(m->call, m->v, "disp_unit");
    }
    win_belongs(w, m, c);
    w->busy = (struct comm){.gid = comm_name(w->agreed.gid, (uint64_t)comm_world.rank),
                            .size = 1,
                            .alone = true};
    w->dirty = stub_alloc((size_t)c->size);
    if (w->base)
        win_watch_memory(w, w->base, (uint64_t)w->size);
    return &w->head;
}

void win_destroy(struct object *o)
{
    struct win *w = (struct win *)o;
    object_put(w->errhandler);
    info_drop(&w->hints);
    if (!w->comm)
        return;
    win_watch_end(w);
    coll_comm_freed(&w->agreed);
    coll_forget_later(&w->busy);
    object_put(&w->comm->head);
    if (w->memory)
        unmap_memory(w->memory, w->room);
    stub_free(w->name);
    stub_free(w->pieces);
    stub_free(w->parts);
    stub_free(w->dirty);
}

/* ----------------------------------------------------------------------------------- attributes */

int before_win_free(enum call call, const uint64_t *v)
{
    MPI_Win *id = (MPI_Win *)v[0];
    struct win *w = win_of(*id);
    return w ? attr_delete_all(*id, &w->attrs) : 0;
}

int win_get_predefined(MPI_Win id, int keyval, void *out, int *flag, int type)
{
    /* Fortran's keyvals are C's plus one, and ask for the value (mpi.h: permanent key values). */
    int c_keyval = keyval - !(keyval & 1);
    struct win *w = win_of(id);
    const struct {
        int keyval;
        void *at;
        intptr_t value;
    } known[] = {
        {MPI_WIN_BASE, w->base, (intptr_t)w->base},
        {MPI_WIN_SIZE, &w->size, w->size},
        {MPI_WIN_DISP_UNIT, &w->disp_unit, w->disp_unit},
        {MPI_WIN_CREATE_FLAVOR, &w->flavor, w->flavor},
        {MPI_WIN_MODEL, &w->model, w->model},
    };
    *flag = 0;
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].keyval != c_keyval)
            continue;
        *flag = 1;
        if (type == ATTR_PTR)
            *(void **)out = known[i].at;
        else
            *(intptr_t *)out = known[i].value;
    }
    return MPI_SUCCESS;
}

void after_win_set_name(enum call call, const uint64_t *v)
{
    object_keep_text(&win_of((MPI_Win)v[0])->name, (const char *)v[1]);
}

void after_win_set_info(enum call call, const uint64_t *v)
{
    info_add(&win_of((MPI_Win)v[0])->hints, handle_object(HANDLE_INFO, (int)v[1]));
}

/* ------------------------------------------------------------------------------ dynamic windows */

void after_win_attach(enum call call, const uint64_t *v)
{
    struct win *w = win_of((MPI_Win)v[0]);
    stub_lock(&object_lock);
    w->pieces = stub_realloc(w->pieces, (w->npieces + 1) * sizeof *w->pieces);
    w->pieces[w->npieces++] = (struct win_piece){(void *)v[1], (MPI_Aint)v[2]};
    stub_unlock(&object_lock);
    win_watch_memory(w, (void *)v[1], v[2]);
}

/* The memory may be gone when the call has returned, so what others did to it is noted before. */
int before_win_detach(enum call call, const uint64_t *v)
{
    win_watch_look(call);
    return MPI_SUCCESS;
}

void after_win_detach(enum call call, const uint64_t *v)
{
    struct win *w = win_of((MPI_Win)v[0]);
    stub_lock(&object_lock);
    for (unsigned i = 0; i < w->npieces; i++) {
        if (w->pieces[i].base != (void *)v[1])
            continue;
        w->pieces[i] = w->pieces[--w->npieces];
        break;
    }
    stub_unlock(&object_lock);
    win_watch_forget(w, (void *)v[1]);
}

/* --------------------------------------------------------------------------------------- create */

static int create_real(struct win *w, uint64_t info, uint64_t comm, int *real)
{
    if (w->flavor == MPI_WIN_FLAVOR_SHARED && w->comm->size > 1)
        return win_shared_again(w, info, comm, real);
    if (w->flavor == MPI_WIN_FLAVOR_DYNAMIC)
        return mpi_cross(CALL_MPI_Win_create_dynamic, info, comm, (uint64_t)real);
    return mpi_cross(CALL_MPI_Win_create, (uint64_t)w->base, (uint64_t)w->size,
                     (uint64_t)w->disp_unit, info, comm, (uint64_t)real);
}

void *win_map_memory(enum call call, int param, uint64_t bytes)
{
    uint64_t at = 0;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    if (replaying()) {
        at = log_field_int(replay_field(replay_next(call), (uint8_t)param, LOG_ROLE_VALUE));
        flags |= MAP_FIXED_NOREPLACE;
    }
    void *p = sys_mmap((void *)at, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if ((uint64_t)p > -4096ul)
        stub_stop(125, "%s: no memory for %lu bytes", call_table[call].name, (unsigned long)bytes);
    if (recording()) {
        record_begin(call, LOG_FIELD_ROOM(sizeof p));
        log_put(&record_writer, (uint8_t)param, LOG_ROLE_VALUE, &p, sizeof p);
        record_end(MPI_SUCCESS);
    }
    return p;
}

/* MPI_Win_allocate is MPI_Win_create over memory of ours, also as an event. */
int hand_win_allocate(enum call call, const uint64_t *v)
{
    static const char *const names[] = {"size", "disp_unit", "info", "comm", "win"};
    uint64_t args[5];
    for (unsigned i = 0; i < 5; i++)
        args[i] = win_param(call, v, names[i]);
    void **baseptr = (void **)win_param(call, v, "baseptr");
    if ((MPI_Aint)args[0] < 0)
        return error_return(call, v, MPI_ERR_SIZE);
    if (!comm_of((MPI_Comm)args[3]))
        return error_return(call, v, MPI_ERR_COMM);
    uint64_t room = args[0] ? args[0] : 1;
    void *memory = win_map_memory(call, win_param_index(call, "baseptr"), room);
    uint64_t create[] = {(uint64_t)memory, args[0], args[1], args[2], args[3], args[4]};
    int rc = call_generic(CALL_MPI_Win_create, create);
    if (rc) {
        unmap_memory(memory, room);
        return rc;
    }
    struct win *w = win_of(*(MPI_Win *)args[4]);
    w->flavor = MPI_WIN_FLAVOR_ALLOCATE;
    w->memory = memory;
    w->room = room;
    if (call_table[call].base == CALL_MPI_Win_allocate_shared)
        win_shared_alone(w);
    *baseptr = memory;
    return MPI_SUCCESS;
}

/* -------------------------------------------------------------------------------------- restart */

static void note_one(struct object *o, void *arg)
{
    struct win_list *l = arg;
    struct win *w = (struct win *)o;
    int i = l->n++;
    l->some = stub_realloc(l->some, (size_t)l->n * sizeof *l->some);
    for (; i > 0 && l->some[i - 1]->agreed.gid > w->agreed.gid; i--)
        l->some[i] = l->some[i - 1];
    l->some[i] = w;
}

struct win_list win_sorted(enum handle_kind kind)
{
    struct win_list l = {0};
    handle_each(kind, note_one, &l);
    return l;
}

/* If the last that all members did was a fence, it opened an epoch: operations may follow. */
static int open_fence_epoch(const struct win *w, int real)
{
    int mine = w->fenced, all = 0;
    int rc = mpi_cross(CALL_MPI_Allreduce, (uint64_t)&mine, (uint64_t)&all, 1, (uint64_t)MPI_INT,
                       (uint64_t)MPI_LAND, p2p_real_comm(w->comm));
    return rc || !all ? rc : mpi_cross(CALL_MPI_Win_fence, 0, (uint64_t)real);
}

static int make_again(struct win *w)
{
    int real = MPI_WIN_NULL, info = MPI_INFO_NULL;
    int rc = w->hints ? info_make_real(w->hints, &info) : 0;
    if (!rc)
        rc = create_real(w, (uint64_t)info, p2p_real_comm(w->comm), &real);
    if (info != MPI_INFO_NULL)
        mpi_cross(CALL_MPI_Info_free, (uint64_t)&info);
    if (rc)
        return rc;
    handle_set_real(&w->head, (uint64_t)(uint32_t)real);
    if (w->name)
        mpi_cross(CALL_MPI_Win_set_name, (uint64_t)real, (uint64_t)w->name);
    for (unsigned i = 0; i < w->npieces && !rc; i++)
        rc = mpi_cross(CALL_MPI_Win_attach, (uint64_t)real, (uint64_t)w->pieces[i].base,
                       (uint64_t)w->pieces[i].size);
    if (!rc)
        rc = mpi_cross(CALL_MPI_Win_set_errhandler, (uint64_t)real, (uint64_t)MPI_ERRORS_RETURN);
    if (!rc && w->all)
        rc = mpi_cross(CALL_MPI_Win_lock_all, (uint64_t)(w->all - 1), (uint64_t)real);
    return rc ? rc : open_fence_epoch(w, real);
}

int win_rebuild(void)
{
    struct win_list l = win_sorted(HANDLE_WIN);
    int rc = 0;
    win_watch_begin();
    /* Others may lie over the memory of shared ones. */
    for (int shared = 1; shared >= 0; shared--)
        for (int i = 0; i < l.n && !rc; i++)
            if ((l.some[i]->flavor == MPI_WIN_FLAVOR_SHARED) == shared)
                rc = make_again(l.some[i]);
    stub_free(l.some);
    return rc;
}
