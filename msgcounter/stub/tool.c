/*
 * tool.c - the tool information interface (MPI_T)
 */
#include "msgcounter/stub/tool.h"

#include <string.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/call.h"
#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/record.h"

/* Bytes of the variables that handles were allocated for. A handle's address may come again: the
 * newest counts. */
static struct variable {
    void *handle;
    uint64_t bytes;
} *variables;
static unsigned nvariables, room;
static struct stub_lock lock; /* of the variables */

static int users;

bool tool_in_use(void)
{
    return users > 0;
}

void after_tool_started(enum call call, const uint64_t *v)
{
    (void)v;
    __atomic_add_fetch(&users, call == CALL_MPI_T_init_thread ? 1 : -1, __ATOMIC_RELAXED);
}

/* [locked] */
static struct variable *variable_of(const void *handle)
{
    for (unsigned i = 0; i < nvariables; i++)
        if (variables[i].handle == handle)
            return &variables[i];
    return NULL;
}

static MPI_Datatype ask_type(enum call call, uint64_t index)
{
    MPI_Datatype type = MPI_BYTE;
    int none = 0, other;
    uint64_t n = (uint64_t)&none, o = (uint64_t)&other, t = (uint64_t)&type;
    if (call == CALL_MPI_T_cvar_handle_alloc)
        mpi_cross(CALL_MPI_T_cvar_get_info, index, 0, n, o, t, 0, 0, n, o, o);
    else
        mpi_cross(CALL_MPI_T_pvar_get_info, index, 0, n, o, o, t, 0, 0, n, o, o, o, o);
    return type;
}

/* (index, object, handle, count), behind a session for performance variables. */
void after_tool_handle_alloc(enum call call, const uint64_t *v)
{
    const uint64_t *arg = v + (call == CALL_MPI_T_pvar_handle_alloc);
    if (replaying())
        return;
    void *handle = *(void **)arg[2];
    int64_t size = datatype_size(ask_type(call, arg[0]));
    stub_lock(&lock);
    struct variable *at = variable_of(handle);
    if (!at) {
        if (nvariables == room) {
            room = room ? 2 * room : 64;
            variables = stub_realloc(variables, room * sizeof *variables);
        }
        at = &variables[nvariables++];
    }
    *at = (struct variable){handle, (uint64_t)(size * *(int *)arg[3])};
    stub_unlock(&lock);
}

/* The buffer is the last parameter, the handle the one before. */
int hand_tool_read(enum call call, const uint64_t *v)
{
    const struct call_info *info = &call_table[call];
    unsigned last = info->nparams - 1;
    void *buf = (void *)v[last];
    if (replaying()) {
        const struct log_record *rec = replay_next(call);
        int rc = replay_rc(rec);
        if (!rc) {
            const struct log_field *f = replay_field(rec, (uint8_t)last, LOG_ROLE_VALUE);
            memcpy(buf, log_field_value(f), log_field_length(f));
        }
        return rc;
    }
    int rc = call_cross(call, v);
    if (recording()) {
        stub_lock(&lock);
        const struct variable *variable = variable_of((void *)v[last - 1]);
        uint64_t bytes = variable ? variable->bytes : 0;
        stub_unlock(&lock);
        record_begin(call, LOG_FIELD_ROOM(bytes));
        if (!rc)
            log_put(&record_writer, (uint8_t)last, LOG_ROLE_VALUE, buf, bytes);
        record_end(rc);
    }
    return rc;
}
