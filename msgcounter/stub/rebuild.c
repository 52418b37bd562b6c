/*
 * rebuild.c - giving the rank's objects to a new MPI library after a restart
 */
#include "msgcounter/stub/rebuild.h"

#include <errno.h>
#include <stdio.h>

#include "msgcounter/stub/attr.h"
#include "msgcounter/stub/call.h"
#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/file.h"
#include "msgcounter/stub/group.h"
#include "msgcounter/stub/icoll.h"
#include "msgcounter/stub/info.h"
#include "msgcounter/stub/op.h"
#include "msgcounter/stub/order.h"
#include "msgcounter/stub/part.h"
#include "msgcounter/stub/publish.h"
#include "msgcounter/stub/request.h"
#include "msgcounter/stub/session.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/win.h"
#include "msgcounter/stub/tool.h"

/* ----------------------------------------------------------------------------- what cannot be */

static bool is_foreign(const struct object *o)
{
    switch (o->kind) {
    case HANDLE_COMM:
        return ((const struct comm *)o)->foreign;
    case HANDLE_GROUP:
        return ((const struct group *)o)->foreign;
    case HANDLE_WIN: /* keeps its communicator */
    case HANDLE_FILE:
        return ((const struct win *)o)->agreed.foreign;
    default:
        return false;
    }
}

static void find_unable(struct object *o, void *arg)
{
    const struct object **found = arg;
    if (!*found && (is_foreign(o) || call_table[o->made].flags & CALL_UNABLE))
        *found = o;
}

static void find_file(struct object *o, void *arg)
{
    const char **why = arg;
    *why = *why ? *why : file_unable(o);
}

static const char *kind_name(enum handle_kind kind)
{
    static const char *const names[HANDLE_NKINDS] = {
        [HANDLE_COMM] = "communicator", [HANDLE_GROUP] = "group",
        [HANDLE_DATATYPE] = "datatype", [HANDLE_FILE] = "file",
        [HANDLE_OP] = "operation",      [HANDLE_INFO] = "info object",
        [HANDLE_WIN] = "window",        [HANDLE_REQUEST] = "request",
        [HANDLE_SESSION] = "session",
    };
    return names[kind] ? names[kind] : "object";
}

/* The agent asks: FS is the lower half's, so this must do without the libc's printf. */
const char *rebuild_unable(void)
{
    static char text[160];
    const struct object *found = NULL;
    const char *why = request_unable();
    handle_each(HANDLE_FILE, find_file, &why);
    if (why)
        return why;
    if (tool_in_use())
        return "the tool information interface, which MPI_T_init_thread opened";
    for (int kind = 1; kind < HANDLE_NKINDS && !found; kind++)
        if (kind != HANDLE_REQUEST && kind != HANDLE_MESSAGE)
            handle_each(kind, find_unable, &found);
    if (!found)
        return NULL;
    char start[64];
    stub_join(start, sizeof start, "a ", kind_name(found->kind), " that ");
    stub_join(text, sizeof text, start, call_table[found->made].name, " made");
    return text;
}

/* ----------------------------------------------------------------------------- again */

static void rebuild_info(struct object *o, void *arg)
{
    int *rc = arg;
    if (!*rc)
        *rc = info_rebuild(o);
}

static int rebuild_infos(void)
{
    int rc = 0;
    handle_each(HANDLE_INFO, rebuild_info, &rc);
    return rc;
}

/* Predefined attributes may differ over another library; the application keeps the ones it
 * knows. */
static int return_errors(void)
{
    int rc = mpi_cross(CALL_MPI_Comm_set_errhandler, MPI_COMM_WORLD, (uint64_t)MPI_ERRORS_RETURN);
    return rc ? rc
              : mpi_cross(CALL_MPI_Comm_set_errhandler, MPI_COMM_SELF, (uint64_t)MPI_ERRORS_RETURN);
}

/* Before requests: receives that are pending may have an outcome to follow. */
static int attach_order(void)
{
    order_attach();
    return 0;
}

int rebuild_all(void)
{
    static const struct {
        const char *what;
        int (*make)(void);
    } steps[] = {
        {"error handlers", return_errors}, {"error codes", errhandler_rebuild},
        {"info objects", rebuild_infos},   {"sessions", session_rebuild},
        {"communicators", comm_rebuild},
        {"groups", group_rebuild},         {"datatypes", datatype_rebuild},
        {"operations", op_rebuild},        {"order log", attach_order},
        {"requests", request_rebuild},     {"persistent collectives", icoll_rebuild},
        {"partitioned requests", part_rebuild},
        {"windows", win_rebuild},          {"files", file_rebuild},
        {"published names", publish_rebuild},
    };
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        int rc = steps[i].make(), length;
        if (rc) {
            char why[MPI_MAX_ERROR_STRING] = "";
            mpi_cross(CALL_MPI_Error_string, (uint64_t)rc, (uint64_t)why, (uint64_t)&length);
            fprintf(stderr, "dbg3: the new MPI library refuses the rank's %s: %s\n",
                    steps[i].what, why);
            return -EPROTO;
        }
    }
    return 0;
}
