/*
 * errhandler.c - error handlers
 */
#include "msgcounter/stub/errhandler.h"

#include <stdio.h>
#include <string.h>

#include "msgcounter/stub/attr.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/schedule.h"

struct errhandler {
    struct object head;
    void (*fn)(void *object, int *code, ...);
    /* libmpichcxx's way to call fn */
    void (*cxx)(int kind, int *handle, int *code, void (*fn)(void));
};

struct win file_default = {.errors = MPI_ERRORS_RETURN};

/* Where an object keeps its handler. */
struct place {
    struct object **handler;
    MPI_Errhandler *errors;
    uint64_t handle; /* as the application knows the object */
    int kind;        /* enum handle_kind */
};

static struct place place_of_comm(struct comm *c)
{
    return (struct place){&c->errhandler, &c->errors, (uint64_t)c->head.id, HANDLE_COMM};
}

static bool place_of_object(struct place *p, enum handle_kind kind, uint64_t handle)
{
    struct comm *c;
    struct win *w;
    if (kind == HANDLE_COMM) {
        if (!(c = comm_of((MPI_Comm)handle)))
            return false;
        *p = place_of_comm(c);
        return true;
    }
    w = (struct win *)handle_object(kind, (int64_t)handle);
    if (kind == HANDLE_FILE && !handle)
        w = &file_default;
    if (!w)
        return false;
    *p = (struct place){&w->errhandler, &w->errors, handle, kind};
    return true;
}

static struct errhandler *errhandler_of(MPI_Errhandler id)
{
    return (struct errhandler *)handle_object(HANDLE_ERRHANDLER, id);
}

/* ----------------------------------------------------------------------------- calling one */

/* What MPICH does for MPI_ERRORS_ARE_FATAL: words the error and aborts. The words are an event. */
static void __attribute__((noreturn)) fatal(enum call call, const struct place *p, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length;
    if (replaying())
        stub_stop(0, "fatal error in %s, as recorded: %s", call_table[call].name,
                  (const char *)log_field_value(replay_field(replay_next(CALL_MPI_Abort),
                                                             LOG_PARAM_NONE, LOG_ROLE_TEXT)));
    mpi_cross(CALL_MPI_Error_string, (uint64_t)code, (uint64_t)text, (uint64_t)&length);
    if (recording()) {
        record_begin(CALL_MPI_Abort, LOG_FIELD_ROOM(sizeof text));
        log_put(&record_writer, LOG_PARAM_NONE, LOG_ROLE_TEXT, text, strlen(text) + 1);
        record_end(code);
    }
    if (GATE->job_abort)
        cross(GATE->job_abort, (uint64_t)code, call_where.site);
    fprintf(stderr, "Fatal error in P%s: %s\n", call_table[call].name, text);
    mpi_cross(CALL_MPI_Abort, MPI_COMM_WORLD, (uint64_t)code);
    stub_stop(1, "fatal error in %s: %s", call_table[call].name, text);
}

struct object *errhandler_share(struct object *const *handler, const MPI_Errhandler *errors,
                                MPI_Errhandler *out)
{
    stub_lock(&object_lock);
    struct object *h = *handler;
    object_get(h);
    *out = *errors;
    stub_unlock(&object_lock);
    return h;
}

/* Takes the reference on a handler over; `errors` counts if it is NULL. */
static void set_place(const struct place *p, struct object *handler, MPI_Errhandler errors)
{
    stub_lock(&object_lock);
    struct object *old = *p->handler;
    *p->handler = handler;
    *p->errors = handler ? MPI_ERRHANDLER_NULL : errors;
    stub_unlock(&object_lock);
    object_put(old);
}

static int invoke(enum call call, const struct place *p, int code)
{
    MPI_Errhandler errors;
    struct errhandler *h = (struct errhandler *)errhandler_share(p->handler, p->errors, &errors);
    int handle = (int)p->handle;
    void *file = (void *)p->handle;
    if (h && h->cxx) {
        const struct errhandler cxx = *h;
        object_put(&h->head);
        cxx.cxx(p->kind == HANDLE_COMM ? 0 : p->kind == HANDLE_FILE ? 1 : 2, &handle, &code,
                (void (*)(void))cxx.fn);
        return MPI_SUCCESS; /* C++ handlers throw what they return */
    }
    if (h) { /* it may free itself */
        h->fn(p->kind == HANDLE_FILE ? (void *)&file : (void *)&handle, &code, 0);
        object_put(&h->head);
        return code;
    }
    if (errors == MPI_ERRHANDLER_NULL && p->kind == HANDLE_COMM && handle != MPI_COMM_WORLD) {
        struct place world = place_of_comm(&comm_world);
        return invoke(call, &world, code);
    }
    if (errors == MPI_ERRORS_RETURN || errors == MPIR_ERRORS_THROW_EXCEPTIONS)
        return code;
    fatal(call, p, code);
}

int error_return_comm(enum call call, struct comm *comm, int rc)
{
    struct place p = place_of_comm(comm && comm->size ? comm : &comm_world);
    return rc ? invoke(call, &p, rc) : rc;
}

int error_return(enum call call, const uint64_t *v, int rc)
{
    const struct call_info *info = &call_table[call];
    static const uint8_t kinds[] = {HANDLE_WIN, HANDLE_FILE, HANDLE_SESSION, HANDLE_COMM};
    const int8_t at[] = {info->win, info->file, info->session, info->comm};
    struct place p;
    if (!rc || info->class == CLASS_TOOL) /* MPI 4.0 §15.3.10: no handler is called */
        return rc;
    /* MPI 4.0 §14.7: what has no file yet, or none any more, is an error of MPI_FILE_NULL. */
    if (info->class == CLASS_IO && info->file < 0 && place_of_object(&p, HANDLE_FILE, 0))
        return invoke(call, &p, rc);
    for (unsigned i = 0; i < 4; i++) {
        if (at[i] < 0)
            continue;
        uint64_t handle = v[at[i]];
        const struct param_info *param = &info->params[at[i]];
        if (!param->by_value)
            handle =
                handle ? (kinds[i] == HANDLE_FILE ? *(uint64_t *)handle : *(uint32_t *)handle) : 0;
        if (place_of_object(&p, kinds[i], handle))
            return invoke(call, &p, rc);
        if (kinds[i] == HANDLE_FILE && place_of_object(&p, HANDLE_FILE, 0))
            return invoke(call, &p, rc);
    }
    /* MPI 4.0 §14.7: of calls without a file handle, too, the default file error handler. */
    if (info->class == CLASS_IO && place_of_object(&p, HANDLE_FILE, 0))
        return invoke(call, &p, rc);
    return error_return_comm(call, NULL, rc);
}

/* ----------------------------------------------------------------------------- by hand */

int hand_errhandler_create(enum call call, const uint64_t *v)
{
    struct errhandler *h = stub_alloc(sizeof *h);
    h->head.kind = HANDLE_ERRHANDLER;
    h->head.made = call;
    h->fn = (void (*)(void *, int *, ...))v[0];
    *(MPI_Errhandler *)v[1] = call_hand_out(call, 1, &h->head);
    return MPI_SUCCESS;
}

void errhandler_set_cxx(MPI_Errhandler id, void (*call)(void))
{
    struct errhandler *h = errhandler_of(id);
    if (h)
        h->cxx = (void (*)(int, int *, int *, void (*)(void)))call;
}

int error_bad_object(enum call call, const uint64_t *v)
{
    static const uint8_t code[HANDLE_NKINDS] = {
        [HANDLE_COMM] = MPI_ERR_COMM, [HANDLE_DATATYPE] = MPI_ERR_TYPE, [HANDLE_WIN] = MPI_ERR_WIN,
        [HANDLE_FILE] = MPI_ERR_FILE, [HANDLE_SESSION] = MPI_ERR_SESSION};
    return error_return(call, v, code[call_table[call].params[0].handle]);
}

int hand_errhandler_free(enum call call, const uint64_t *v)
{
    MPI_Errhandler *id = (MPI_Errhandler *)v[0];
    struct errhandler *h = errhandler_of(*id);
    if (!h && (unsigned)*id >> 30 != 1)
        return error_return(call, v, MPI_ERR_ARG);
    if (h)
        handle_free(&h->head);
    *id = MPI_ERRHANDLER_NULL;
    return MPI_SUCCESS;
}

int hand_errhandler_set(enum call call, const uint64_t *v)
{
    struct place p;
    MPI_Errhandler id = (MPI_Errhandler)v[1];
    struct errhandler *h = errhandler_of(id);
    if (!place_of_object(&p, call_table[call].params[0].handle, v[0]))
        return error_bad_object(call, v);
    if (!h && (unsigned)id >> 30 != 1)
        return error_return(call, v, MPI_ERR_ARG);
    object_get(h ? &h->head : NULL);
    set_place(&p, h ? &h->head : NULL, id);
    return MPI_SUCCESS;
}

void errhandler_from_call(const struct made *m, struct object **handler, MPI_Errhandler *errors)
{
    const struct call_info *info = &call_table[m->call];
    for (unsigned i = 0; i < info->nparams; i++) {
        if (info->params[i].kind != PARAM_HANDLE || info->params[i].handle != HANDLE_ERRHANDLER)
            continue;
        struct errhandler *h = errhandler_of((MPI_Errhandler)m->v[i]);
        object_put(*handler);
        *handler = h ? &h->head : NULL;
        object_get(*handler);
        *errors = h ? MPI_ERRHANDLER_NULL : (MPI_Errhandler)m->v[i];
    }
}

int hand_errhandler_get(enum call call, const uint64_t *v)
{
    struct place p;
    if (!place_of_object(&p, call_table[call].params[0].handle, v[0]))
        return error_bad_object(call, v);
    MPI_Errhandler *out = (MPI_Errhandler *)v[1], errors;
    schedule_get(NULL); /* as for what is pure: the answer is an event only if it is a handle */
    struct object *h = errhandler_share(p.handler, p.errors, &errors);
    if (h)
        *out = call_hand_out(call, 1, h);
    else
        *out = errors == MPI_ERRHANDLER_NULL ? MPI_ERRORS_ARE_FATAL : errors;
    object_put(h);
    return MPI_SUCCESS;
}

int hand_errhandler_call(enum call call, const uint64_t *v)
{
    struct place p;
    if (!place_of_object(&p, call_table[call].params[0].handle, v[0]))
        return error_bad_object(call, v);
    invoke(call, &p, (int)v[1]);
    return MPI_SUCCESS;
}

/* ----------------------------------------------------------------------------- user error codes */

/* What was added and deleted, in order: MPI gives the number of what was deleted to the next. */
static struct added {
    enum call call;
    int code;   /* class of a code, code of a string; what is deleted */
    int given;  /* the number of a class or a code */
    char *text; /* of a string */
} *added;
static unsigned nadded;

static void note_error(enum call call, const uint64_t *v, const char *text)
{
    struct added a = {.call = call, .code = (int)v[0]};
    if (text)
        a.text = stub_strdup(text);
    else if (call == CALL_MPI_Add_error_class || call == CALL_MPI_Add_error_code)
        a.given = *(const int *)v[call_table[call].nparams - 1];
    stub_lock(&object_lock);
    added = stub_realloc(added, (nadded + 1) * sizeof *added);
    added[nadded++] = a;
    stub_unlock(&object_lock);
    if (call == CALL_MPI_Add_error_class)
        attr_class_added(a.given);
}

void after_add_error(enum call call, const uint64_t *v)
{
    note_error(call, v, call == CALL_MPI_Add_error_string ? (const char *)v[1] : NULL);
}

void after_delete_error(enum call call, const uint64_t *v)
{
    note_error(call, v, NULL);
}

int errhandler_rebuild(void)
{
    int rc = 0;
    for (unsigned i = 0; i < nadded && !rc; i++) {
        const struct added *a = &added[i];
        int code = a->given;
        if (a->call == CALL_MPI_Add_error_class)
            rc = mpi_cross(a->call, (uint64_t)&code);
        else if (call_table[a->call].nparams == 1)
            rc = mpi_cross(a->call, (uint64_t)a->code);
        else
            rc = mpi_cross(a->call, (uint64_t)a->code,
                           a->text ? (uint64_t)a->text : (uint64_t)&code);
        if (!rc && code != a->given) /* several threads added some at the same time */
            rc = MPI_ERR_INTERN;
    }
    return rc;
}
