/*
 * fortran.c - symbols of libmpich that libmpichfort, libmpichcxx and compiled applications refer to
 *
 * Data symbols have the sizes that they have in MPICH 4.0: applications may hold copies of them.
 */
#include "msgcounter/stub/fortran.h"

#include <string.h>

#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/grequest.h"
#include "msgcounter/stub/op.h"

#define EXPORT __attribute__((visibility("default")))

/* Sentinels. Their addresses count, not their contents; the Fortran library sets the first two. */
EXPORT MPI_Fint *MPI_F_STATUS_IGNORE, *MPI_F_STATUSES_IGNORE;
EXPORT MPI_F08_status MPIR_F08_MPI_STATUS_IGNORE_OBJ, MPIR_F08_MPI_STATUSES_IGNORE_OBJ[1];
EXPORT MPI_F08_status *MPI_F08_STATUS_IGNORE = &MPIR_F08_MPI_STATUS_IGNORE_OBJ;
EXPORT MPI_F08_status *MPI_F08_STATUSES_IGNORE = MPIR_F08_MPI_STATUSES_IGNORE_OBJ;
EXPORT int MPIR_F08_MPI_IN_PLACE, MPIR_F08_MPI_BOTTOM;

static int unweighted, weights_empty;
EXPORT int *const MPI_UNWEIGHTED = &unweighted;
EXPORT int *const MPI_WEIGHTS_EMPTY = &weights_empty;
extern int *MPIR_C_MPI_UNWEIGHTED, *MPIR_C_MPI_WEIGHTS_EMPTY;
EXPORT int *MPIR_C_MPI_UNWEIGHTED = &unweighted;
EXPORT int *MPIR_C_MPI_WEIGHTS_EMPTY = &weights_empty;

static char all_handles;
EXPORT struct MPIR_T_pvar_handle_s *const MPI_T_PVAR_ALL_HANDLES = (void *)&all_handles;

/* What mpichversion prints. Sizes as in MPICH's own (the symbols test compares). */
#define VERSION(name, size, text)                                                                  \
    extern const char name[size];                                                                  \
    EXPORT const char name[size] = text
VERSION(MPII_Version_string, 6, MPICH_VERSION);
VERSION(MPII_Version_ABI, 7, "14:2:2");
VERSION(MPII_Version_custom, 1, "");
VERSION(MPII_Version_date, 29, "");
VERSION(MPII_Version_device, 8, "ch4:ucx");
VERSION(MPII_Version_CC, 127, "");
VERSION(MPII_Version_CXX, 126, "");
VERSION(MPII_Version_F77, 277, "");
VERSION(MPII_Version_FC, 277, "");
VERSION(MPII_Version_configure, 1043, "");

/* ----------------------------------------------------------------------------- attributes */

EXPORT int MPII_Comm_get_attr(MPI_Comm c, int keyval, void *value, int *flag, int type);
EXPORT int MPII_Type_get_attr(MPI_Datatype d, int keyval, void *value, int *flag, int type);
EXPORT int MPII_Win_get_attr(MPI_Win w, int keyval, void *value, int *flag, int type);
EXPORT int MPII_Comm_set_attr(MPI_Comm c, int keyval, void *value, int type);
EXPORT int MPII_Type_set_attr(MPI_Datatype d, int keyval, void *value, int type);
EXPORT int MPII_Win_set_attr(MPI_Win w, int keyval, void *value, int type);
EXPORT void MPII_Keyval_set_proxy(int keyval, attr_copy_proxy *copy, attr_delete_proxy *delete);

static int get(enum call call, int handle, int keyval, void *value, int *flag, int type)
{
    const uint64_t v[] = {(uint64_t)handle, (uint64_t)keyval, (uint64_t)value, (uint64_t)flag};
    return attr_get(call, v, type);
}

static int set(enum call call, int handle, int keyval, void *value, int type)
{
    const uint64_t v[] = {(uint64_t)handle, (uint64_t)keyval, (uint64_t)value};
    return attr_set(call, v, type);
}

int MPII_Comm_get_attr(MPI_Comm c, int keyval, void *value, int *flag, int type)
{
    return get(CALL_MPI_Comm_get_attr, c, keyval, value, flag, type);
}

int MPII_Type_get_attr(MPI_Datatype d, int keyval, void *value, int *flag, int type)
{
    return get(CALL_MPI_Type_get_attr, d, keyval, value, flag, type);
}

int MPII_Win_get_attr(MPI_Win w, int keyval, void *value, int *flag, int type)
{
    return get(CALL_MPI_Win_get_attr, w, keyval, value, flag, type);
}

int MPII_Comm_set_attr(MPI_Comm c, int keyval, void *value, int type)
{
    return set(CALL_MPI_Comm_set_attr, c, keyval, value, type);
}

int MPII_Type_set_attr(MPI_Datatype d, int keyval, void *value, int type)
{
    return set(CALL_MPI_Type_set_attr, d, keyval, value, type);
}

int MPII_Win_set_attr(MPI_Win w, int keyval, void *value, int type)
{
    return set(CALL_MPI_Win_set_attr, w, keyval, value, type);
}

void MPII_Keyval_set_proxy(int keyval, attr_copy_proxy *copy, attr_delete_proxy *delete)
{
    attr_set_proxy(keyval, copy, delete);
}



/* MPI_COMM_DUP_FN and its like. */
EXPORT int MPIR_Dup_fn(MPI_Comm comm, int keyval, void *extra, void *in, void *out, int *flag)
{
    *(void **)out = in;
    *flag = 1;
    return MPI_SUCCESS;
}

/* ----------------------------------------------------------------------------- languages */

EXPORT void MPII_Errhandler_set_cxx(MPI_Errhandler handler, void (*call)(void));
EXPORT void MPII_Op_set_cxx(MPI_Op op, void (*call)(void));
EXPORT void MPII_Grequest_set_lang_f77(MPI_Request request);

void MPII_Errhandler_set_cxx(MPI_Errhandler handler, void (*call)(void))
{
    errhandler_set_cxx(handler, call);
}

void MPII_Op_set_cxx(MPI_Op op, void (*call)(void))
{
    op_set_cxx(op, call);
}

void MPII_Grequest_set_lang_f77(MPI_Request request)
{
    grequest_set_fortran(request);
}

/* ----------------------------------------------------------------------------- statuses */

int hand_status_convert(enum call call, const uint64_t *v)
{
    const void *ignore[] = {MPI_STATUS_IGNORE, MPI_F_STATUS_IGNORE, MPI_F_STATUSES_IGNORE};
    for (int i = 0; i < 3; i++)
        if (!v[0] || (const void *)v[0] == ignore[i])
            return error_return(call, v, MPI_ERR_OTHER);
    memcpy((void *)v[1], (const void *)v[0], sizeof(MPI_Status));
    return MPI_SUCCESS;
}

/* MPI_Status: the lowest bit of count_hi_and_cancelled (mpi.h of MPICH 4.0). */
int hand_status_set_cancelled(enum call call, const uint64_t *v)
{
    MPI_Status *s = (MPI_Status *)v[0];
    s->count_hi_and_cancelled = (s->count_hi_and_cancelled & ~1) | ((int)v[1] != 0);
    return MPI_SUCCESS;
}

int hand_test_cancelled(enum call call, const uint64_t *v)
{
    *(int *)v[1] = ((const MPI_Status *)v[0])->count_hi_and_cancelled & 1;
    return MPI_SUCCESS;
}

/* ----------------------------------------------------------------------------- MPICH's own */

/* MPICH keeps these visible for its I/O library; nothing in the upper half may need them. */
EXPORT int MPIR_Err_create_code(int last, int fatal, const char *function, int line, int class,
                                const char *generic, const char *specific, ...);
EXPORT int MPIR_Err_return_comm(void *comm, const char *function, int code);
EXPORT int MPIR_Err_return_win(void *win, const char *function, int code);

int MPIR_Err_create_code(int last, int fatal, const char *function, int line, int class,
                         const char *generic, const char *specific, ...)
{
    return last ? last : class;
}

int MPIR_Err_return_comm(void *comm, const char *function, int code)
{
    return error_return_comm(CALL_MPI_Comm_call_errhandler, NULL, code);
}

int MPIR_Err_return_win(void *win, const char *function, int code)
{
    return code;
}
