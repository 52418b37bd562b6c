/*
 * win.c - windows, files and sessions: passed through, with attributes and error handler kept here
 */
#include "msgcounter/stub/win.h"

#include "msgcounter/stub/attr.h"
#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/fortran.h"

static struct object *make(struct made *m, enum call set_errhandler, MPI_Errhandler initial)
{
    struct win *w = stub_alloc(sizeof *w);
    w->errors = initial;
    mpi_cross(set_errhandler, m->real, (uint64_t)MPI_ERRORS_RETURN);
    return &w->head;
}

struct object *win_make(struct made *m)
{
    return make(m, CALL_MPI_Win_set_errhandler, MPI_ERRORS_ARE_FATAL);
}

struct object *file_make(struct made *m)
{
    struct object *o = make(m, CALL_MPI_File_set_errhandler, file_default.errors);
    struct win *w = (struct win *)o;
    w->errhandler = file_default.errhandler;
    object_get(w->errhandler);
    return o;
}

struct object *session_make(struct made *m)
{
    struct object *o = make(m, CALL_MPI_Session_set_errhandler, MPI_ERRORS_ARE_FATAL);
    struct win *w = (struct win *)o;
    errhandler_from_call(m, &w->errhandler, &w->errors);
    return o;
}

void win_destroy(struct object *o)
{
    object_put(((struct win *)o)->errhandler);
}

int before_win_free(enum call call, const uint64_t *v)
{
    MPI_Win *id = (MPI_Win *)v[0];
    struct win *w = id ? win_of(*id) : NULL;
    return w ? attr_delete_all(*id, &w->attrs) : 0;
}

int win_get_predefined(MPI_Win w, int keyval, void *out, int *flag, int type)
{
    /* Fortran's keyvals are C's plus one, and ask for the value (mpi.h: permanent key values). */
    int c_keyval = keyval - !(keyval & 1);
    void *value = NULL;
    int rc = mpi_cross(CALL_MPI_Win_get_attr, handle_real(HANDLE_WIN, w), (uint64_t)c_keyval,
                       (uint64_t)&value, (uint64_t)flag);
    if (rc || !*flag)
        return rc;
    if (type == ATTR_PTR)
        *(void **)out = value;
    else if (c_keyval == MPI_WIN_BASE)
        *(void **)out = value;
    else if (c_keyval == MPI_WIN_SIZE)
        *(intptr_t *)out = *(MPI_Aint *)value;
    else
        *(intptr_t *)out = *(int *)value;
    return MPI_SUCCESS;
}
