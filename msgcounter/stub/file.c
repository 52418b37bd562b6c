/*
 * file.c - files as objects: the view that a rank has set, and split collectives
 */
#include "msgcounter/stub/file.h"

#include <string.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/datatype_impl.h"
#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/record.h"

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

struct object *file_make(struct made *m)
{
    struct file *f = stub_alloc(sizeof *f);
    f->head.errors = file_default.errors;
    f->head.errhandler = file_default.errhandler;
    object_get(f->head.errhandler);
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
    win_destroy(o);
}

/* ---------------------------------------------------------------------------------------- views */

void after_file_set_view(enum call call, const uint64_t *v)
{
    struct file *f = file_of(v[0]);
    set_type(&f->etype, (MPI_Datatype)v[2]);
    set_type(&f->filetype, (MPI_Datatype)v[3]);
}

/* A handle that the application must free, unless it is predefined (MPI 4.0 §14.3). */
static void put_type(uint64_t to, struct datatype *t)
{
    if (to)
        *(MPI_Datatype *)to = t->head.predefined ? t->head.id : datatype_hand_out(t);
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
    put_type(v[2], f->etype);
    put_type(v[3], f->filetype);
    return MPI_SUCCESS;
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
    int rc = call_generic(whole_of(call), args);
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
