/*
 * file.c - files as objects: what a restart must open again, and split collectives
 */
#include "msgcounter/stub/file.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/datatype_impl.h"
#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/info.h"
#include "msgcounter/stub/p2p.h"
#include "msgcounter/stub/record.h"
#include "runtime/half/sys.h"

static struct file *file_of(uint64_t id)
{
    return (struct file *)handle_object(HANDLE_FILE, (int64_t)id);
}

static void set_type(struct datatype **to, MPI_Datatype id)
{
    struct datatype *t = datatype_of(id);
    if (t)
        object_get(&t->head);
    if (*to)
        object_put(&(*to)->head);
    *to = t;
}

/* A name may begin with the type of the file system and a colon. */
static char *absolute(const char *name)
{
    char folder[PATH_MAX];
    const char *colon = strchr(name, ':'), *rest = colon ? colon + 1 : name;
    long n = *rest == '/' ? 0 : sys_call(SYS_getcwd, (long)folder, sizeof folder, 0, 0, 0, 0);
    if (n <= 0)
        return stub_strdup(name);
    size_t prefix = (size_t)(rest - name), length = strlen(rest) + 1;
    char *path = stub_alloc(prefix + (size_t)n + length);
    memcpy(path, name, prefix);
    memcpy(path + prefix, folder, (size_t)n);
    path[prefix + (size_t)n - 1] = '/';
    memcpy(path + prefix + (size_t)n, rest, length);
    return path;
}

struct object *file_make(struct made *m)
{
    struct file *f = stub_alloc(sizeof *f);
    f->path = absolute((const char *)win_param(m->call, m->v, "filename"));
    f->amode = (int)win_param(m->call, m->v, "amode");
    win_belongs(&f->head, m, comm_of((MPI_Comm)win_param(m->call, m->v, "comm")));
    f->head.errhandler =
        errhandler_share(&file_default.errhandler, &file_default.errors, &f->head.errors);
    if (!m->replay)
        mpi_cross(CALL_MPI_File_set_errhandler, m->real, (uint64_t)MPI_ERRORS_RETURN);
    set_type(&f->etype, MPI_BYTE);
    set_type(&f->filetype, MPI_BYTE);
    return &f->head.head;
}

void file_destroy(struct object *o)
{
    struct file *f = (struct file *)o;
    set_type(&f->etype, MPI_DATATYPE_NULL);
    set_type(&f->filetype, MPI_DATATYPE_NULL);
    stub_free(f->path);
    stub_free(f->datarep);
    file_content_drop(&f->content);
    win_destroy(o);
}

/* ---------------------------------------------------------------------------------- collectives */

int hand_file_collective(enum call call, const uint64_t *v)
{
    bool frees = call_table[call].flags & CALL_FREE;
    struct file *f = file_of(!frees ? v[0] : v[0] ? *(uint64_t *)v[0] : 0);
    if (!f)
        return call_generic(call, v);
    object_get(&f->head.head);
    coll_begin(call, &f->head.agreed);
    int rc = call_generic(call, v);
    coll_end(call, &f->head.agreed);
    object_put(&f->head.head);
    return rc;
}

bool file_collective(enum call call)
{
    enum call base = call_table[call].base;
    return base == CALL_MPI_File_iread_all || base == CALL_MPI_File_iread_at_all ||
           base == CALL_MPI_File_iwrite_all || base == CALL_MPI_File_iwrite_at_all;
}

int hand_file_get_amode(enum call call, const uint64_t *v)
{
    const struct file *f = file_of(v[0]);
    if (!f || !v[1])
        return error_return(call, v, f ? MPI_ERR_ARG : MPI_ERR_FILE);
    *(int *)v[1] = f->amode; /* a restart has opened it otherwise */
    return MPI_SUCCESS;
}

void after_file_set_info(enum call call, const uint64_t *v)
{
    info_add(&file_of(v[0])->head.hints, handle_object(HANDLE_INFO, (int)v[1]));
}

void after_file_shared(enum call call, const uint64_t *v)
{
    file_of(v[0])->shares = true;
}

/* ---------------------------------------------------------------------------------------- views */

void after_file_set_view(enum call call, const uint64_t *v)
{
    struct file *f = file_of(v[0]);
    f->disp = (MPI_Offset)v[1];
    set_type(&f->etype, (MPI_Datatype)v[2]);
    set_type(&f->filetype, (MPI_Datatype)v[3]);
    object_keep_text(&f->datarep, (const char *)v[4]);
    info_add(&f->head.hints, handle_object(HANDLE_INFO, (int)v[5]));
}

/* A handle that the application must free, unless it is predefined (MPI 4.0 §14.3). */
static void put_type(enum call call, const uint64_t *v, unsigned param, struct datatype *t)
{
    MPI_Datatype *to = (MPI_Datatype *)v[param];
    if (to)
        *to = t->head.predefined ? t->head.id : datatype_hand_out(call, param, t);
}

/* The lower half answers with copies of its own, made by a constructor that nobody called. */
int hand_file_get_view(enum call call, const uint64_t *v)
{
    struct file *f = file_of(v[0]);
    MPI_Datatype copies[2] = {MPI_DATATYPE_NULL, MPI_DATATYPE_NULL};
    uint64_t args[] = {v[0], v[1], (uint64_t)&copies[0], (uint64_t)&copies[1], v[4]};
    int rc = call_generic(call, args);
    if (rc || !f)
        return rc;
    for (int i = 0; i < 2; i++)
        if (copies[i] != MPI_DATATYPE_NULL && !datatype_of(copies[i]))
            mpi_cross(CALL_MPI_Type_free, (uint64_t)&copies[i]);
    put_type(call, v, 2, f->etype);
    put_type(call, v, 3, f->filetype);
    return MPI_SUCCESS;
}

/* MPICH takes a name only once, and no functions but that for the extent, which it never calls. */
static struct datarep {
    struct datarep *next;
    char *name;
    uint64_t extent, state;
} *datareps;

void after_register_datarep(enum call call, const uint64_t *v)
{
    struct datarep *d = stub_alloc(sizeof *d);
    stub_lock(&object_lock);
    *d = (struct datarep){datareps, stub_strdup((const char *)v[0]), v[3], v[4]};
    datareps = d;
    stub_unlock(&object_lock);
}

/* --------------------------------------------------------------------------- split collectives */

#define SPLIT(name)                                              \
    {CALL_MPI_File_##name##_begin, CALL_MPI_File_##name},        \
    {CALL_MPI_File_##name##_begin_c, CALL_MPI_File_##name##_c}

static const struct {
    enum call begin, whole;
} splits[] = {SPLIT(read_all),     SPLIT(write_all),     SPLIT(read_at_all),
              SPLIT(write_at_all), SPLIT(read_ordered),  SPLIT(write_ordered)};

static enum call whole_of(enum call begin)
{
    for (unsigned i = 0; i < sizeof splits / sizeof *splits; i++)
        if (splits[i].begin == begin)
            return splits[i].whole;
    __builtin_trap();
}

int hand_file_begin(enum call call, const uint64_t *v)
{
    struct file *f = file_of(v[0]);
    uint64_t args[CALL_PARAMS_MAX];
    unsigned n = call_table[call].nparams;
    if (!f || f->split) /* one at a time: MPI 4.0 §14.4.5 */
        return error_return(call, v, f ? MPI_ERR_IO : MPI_ERR_FILE);
    memcpy(args, v, n * sizeof *v);
    args[n] = (uint64_t)&f->status;
    int rc = hand_file_collective(whole_of(call), args);
    f->split = !rc;
    return rc;
}

int hand_file_end(enum call call, const uint64_t *v)
{
    struct file *f = file_of(v[0]);
    MPI_Status *out = (MPI_Status *)v[2];
    if (!f || !f->split)
        return error_return(call, v, f ? MPI_ERR_IO : MPI_ERR_FILE);
    f->split = false;
    if (out == MPI_STATUS_IGNORE)
        return MPI_SUCCESS;
    f->status.MPI_ERROR = out->MPI_ERROR;
    *out = f->status;
    return MPI_SUCCESS;
}

/* -------------------------------------------------------------------------------------- restart */

/* MPI has no call that puts the shared pointer of such a file somewhere (MPI 4.0 §14.4.4). */
const char *file_unable(const struct object *o)
{
    const struct file *f = (const struct file *)o;
    return f->amode & MPI_MODE_SEQUENTIAL ? "a file that is open with MPI_MODE_SEQUENTIAL" : NULL;
}

static void note_state(struct object *o, void *arg)
{
    struct file *f = (struct file *)o;
    mpi_cross(CALL_MPI_File_get_position, o->real, (uint64_t)&f->position);
    mpi_cross(CALL_MPI_File_get_size, o->real, (uint64_t)&f->length);
    mpi_cross(CALL_MPI_File_get_atomicity, o->real, (uint64_t)&f->atomic);
    if (f->shares)
        mpi_cross(CALL_MPI_File_get_position_shared, o->real, (uint64_t)&f->position_shared);
    /* A fine checkpoint is for isolation, which leaves the user's files alone. */
    if (!recording() && f->head.comm->rank == 0)
        file_content_keep(&f->content, f->path);
}

void file_before_save(void)
{
    if (!replaying())
        handle_each(HANDLE_FILE, note_state, NULL);
}

/* Before any rank opens it. */
static int restore_content(const struct file *f)
{
    if (f->head.comm->rank == 0)
        file_content_restore(&f->content, f->path, !(f->amode & MPI_MODE_RDONLY));
    return mpi_cross(CALL_MPI_Barrier, p2p_real_comm(f->head.comm));
}

static int open_again(struct file *f)
{
    uint64_t real = 0;
    int info = MPI_INFO_NULL, rc = restore_content(f);
    if (!rc && f->head.hints)
        rc = info_make_real(f->head.hints, &info);
    if (!rc)
        rc = mpi_cross(CALL_MPI_File_open, p2p_real_comm(f->head.comm), (uint64_t)f->path,
                       (uint64_t)(f->amode & ~(MPI_MODE_CREATE | MPI_MODE_EXCL)), (uint64_t)info,
                       (uint64_t)&real);
    if (rc)
        fprintf(stderr, "dbg3: file %s cannot be opened again; put it back and restart\n", f->path);
    else
        handle_set_real(&f->head.head, real);
    if (!rc && f->datarep)
        rc = mpi_cross(CALL_MPI_File_set_view, real, (uint64_t)f->disp,
                       (uint64_t)datatype_make_real(f->etype),
                       (uint64_t)datatype_make_real(f->filetype), (uint64_t)f->datarep,
                       (uint64_t)info);
    if (info != MPI_INFO_NULL)
        mpi_cross(CALL_MPI_Info_free, (uint64_t)&info);
    return rc;
}

/* As descriptors have it, too (runtime/ckpt/files.h). */
static int fit_length(const struct file *f, uint64_t real)
{
    MPI_Offset now = 0, less;
    int rc = mpi_cross(CALL_MPI_File_get_size, real, (uint64_t)&now);
    less = now - f->length;
    if (!rc) /* another rank may have cut it already */
        rc = mpi_cross(CALL_MPI_Allreduce, (uint64_t)MPI_IN_PLACE, (uint64_t)&less, 1,
                       (uint64_t)MPI_OFFSET, (uint64_t)MPI_MAX, p2p_real_comm(f->head.comm));
    if (!rc && now < f->length) {
        fprintf(stderr,
                "dbg3: file %s has %lld bytes now and had %lld at the checkpoint; put the longer "
                "one back and restart\n",
                f->path, (long long)now, (long long)f->length);
        return MPI_ERR_FILE;
    }
    return rc || less <= 0 || f->amode & MPI_MODE_RDONLY
               ? rc
               : mpi_cross(CALL_MPI_File_set_size, real, (uint64_t)f->length);
}

/* Where any rank has used the shared pointer, it knows where it was. */
static int seek_shared(const struct file *f, uint64_t real)
{
    MPI_Offset at = f->shares ? f->position_shared : -1;
    int rc = mpi_cross(CALL_MPI_Allreduce, (uint64_t)MPI_IN_PLACE, (uint64_t)&at, 1,
                       (uint64_t)MPI_OFFSET, (uint64_t)MPI_MAX, p2p_real_comm(f->head.comm));
    return rc || at < 0 ? rc
                        : mpi_cross(CALL_MPI_File_seek_shared, real, (uint64_t)at, MPI_SEEK_SET);
}

static int file_again(struct file *f)
{
    int rc = open_again(f);
    uint64_t real = f->head.head.real;
    if (!rc)
        rc = mpi_cross(CALL_MPI_File_set_errhandler, real, (uint64_t)MPI_ERRORS_RETURN);
    if (!rc)
        rc = fit_length(f, real);
    if (!rc && f->atomic)
        rc = mpi_cross(CALL_MPI_File_set_atomicity, real, 1);
    if (!rc)
        rc = mpi_cross(CALL_MPI_File_seek, real, (uint64_t)f->position, MPI_SEEK_SET);
    return rc ? rc : seek_shared(f, real);
}

int file_rebuild(void)
{
    struct win_list l = win_sorted(HANDLE_FILE);
    int rc = 0;
    for (const struct datarep *d = datareps; d && !rc; d = d->next)
        rc = mpi_cross(CALL_MPI_Register_datarep, (uint64_t)d->name, 0, 0, d->extent, d->state);
    for (int i = 0; i < l.n && !rc; i++)
        rc = file_again((struct file *)l.some[i]);
    stub_free(l.some);
    return rc;
}
