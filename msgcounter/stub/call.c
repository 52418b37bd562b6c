/*
 * call.c - the interpreter of the call table
 *
 * A call without a by-hand function is translated by what its row says: handles of ours become real
 * ones, the real function is called, real handles become ours. Recording and replay of the outputs
 * are in call_record.c.
 */
#include "msgcounter/stub/call.h"

#include <stdio.h>
#include <unistd.h>

#include "msgcounter/stub/call_param.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/file.h"
#include "msgcounter/stub/group.h"
#include "msgcounter/stub/icoll.h"
#include "msgcounter/stub/info.h"
#include "msgcounter/stub/op.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/request.h"
#include "msgcounter/stub/schedule.h"
#include "msgcounter/stub/session.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/win.h"
#include "msgcounter/stub/win_watch.h"

struct call_where call_where = {.call = -1};

call_maker *const call_makers[HANDLE_NKINDS] = {
    [HANDLE_COMM] = comm_make, [HANDLE_GROUP] = group_make, [HANDLE_DATATYPE] = datatype_make,
    [HANDLE_INFO] = info_make, [HANDLE_WIN] = win_make,     [HANDLE_FILE] = file_make,
    [HANDLE_SESSION] = session_make,
};

void (*const object_freed[HANDLE_NKINDS])(struct object *o) = {[HANDLE_COMM] = comm_freed};

void (*object_destroy[HANDLE_NKINDS])(struct object *o) = {
    [HANDLE_COMM] = comm_destroy,         [HANDLE_GROUP] = group_destroy,
    [HANDLE_DATATYPE] = datatype_destroy, [HANDLE_INFO] = info_destroy,
    [HANDLE_WIN] = win_destroy,           [HANDLE_FILE] = file_destroy,
    [HANDLE_SESSION] = win_destroy,       [HANDLE_OP] = op_destroy,
};

/* ------------------------------------------------------------------------- parameters */

static struct comm *comm_param(const uint64_t *v, int i)
{
    return i < 0 ? NULL : comm_of((MPI_Comm)v[i]);
}

bool call_is_root(const struct call_info *info, const uint64_t *v)
{
    if (info->root < 0)
        return true;
    const struct comm *c = comm_param(v, info->comm);
    int root = (int)v[info->root];
    return c && (c->remote_size ? root == MPI_ROOT : root == c->rank);
}

/* The integer behind a pointer parameter, whatever its width. */
static int64_t deref(const struct call_info *info, const uint64_t *v, int i)
{
    const void *p = (const void *)v[i];
    return !p ? 0 : info->params[i].size == 8 ? *(const int64_t *)p : *(const int *)p;
}

int64_t param_length(const struct call_info *info, unsigned i, const uint64_t *v)
{
    const struct param_info *p = &info->params[i];
    const struct comm *c;
    int64_t n = 0;
    switch ((enum param_length)p->length_rule) {
    case LENGTH_ONE:
        return 1;
    case LENGTH_CONST:
        return p->length;
    case LENGTH_PARAM:
        n = (int64_t)v[p->length];
        break;
    case LENGTH_ROOT_ONLY_PARAM:
        n = call_is_root(info, v) ? (int64_t)v[p->length] : 0;
        break;
    case LENGTH_DEREF:
        n = deref(info, v, p->length);
        break;
    case LENGTH_SIZE:
        c = comm_param(v, p->length);
        n = !c ? 0 : c->remote_size ? c->remote_size : c->size;
        break;
    case LENGTH_INDEGREE:
        c = comm_param(v, p->length);
        n = c ? c->topo.indegree : 0;
        break;
    case LENGTH_OUTDEGREE:
        c = comm_param(v, p->length);
        n = c ? c->topo.outdegree : 0;
        break;
    case LENGTH_SUM:
        for (int64_t k = param_length(info, (unsigned)p->length, v); k-- > 0;)
            n += ((const int *)v[p->length])[k];
        break;
    }
    return n < 0 ? 0 : n;
}

bool param_written(const struct call_info *info, unsigned i, const uint64_t *v)
{
    const struct param_info *p = &info->params[i];
    return v[i] && !(p->condition && !deref(info, v, p->condition - 1));
}

int64_t handle_load(const struct param_info *p, const void *at)
{
    return handle_bytes(p) == 8 ? *(const int64_t *)at : *(const int *)at;
}

static void handle_store(const struct param_info *p, void *at, int64_t value)
{
    if (handle_bytes(p) == 8)
        *(int64_t *)at = value;
    else
        *(int *)at = (int)value;
}

/* ------------------------------------------------------------------------- translation */

/* What an output handle holds on the way down: no handle of the library has these bits. */
#define HANDLE_UNWRITTEN (-1)

/* A call on its way down: the arguments as the application gave them and as the lower half gets
 * them. */
struct way {
    const struct call_info *info;
    const uint64_t *v;
    uint64_t real[CALL_PARAMS_MAX];
    uint64_t scalar[CALL_PARAMS_MAX]; /* handles behind pointers */
    void *array[CALL_PARAMS_MAX];     /* from stub_alloc, in real[] */
    struct object *freed;             /* by the call; NULL: none */
};

/* W collectives ignore the datatypes that belong to MPI_IN_PLACE: they may be garbage. */
static bool array_ignored(const struct way *w, unsigned i)
{
    for (unsigned k = 0; k < w->info->nparams; k++) {
        const struct param_info *p = &w->info->params[k];
        if (p->kind == PARAM_BUFFER && p->type == (int)i && w->v[k] == (uint64_t)MPI_IN_PLACE)
            return true;
    }
    return false;
}

/* The library takes buffers for aliases of each other only if their arrays of datatypes are one:
 * what the application passes twice goes down twice. Returns true if array i is such a second. */
static bool array_repeated(struct way *w, unsigned i, int64_t n)
{
    const struct param_info *p = &w->info->params[i], *q = w->info->params;
    for (unsigned k = 0; k < i; k++, q++) {
        if (w->array[k] && w->v[k] == w->v[i] && p->dir == DIR_IN && q->dir == DIR_IN &&
            p->handle == q->handle && param_length(w->info, k, w->v) == n) {
            w->real[i] = w->real[k];
            return true;
        }
    }
    return false;
}

static void translate_array(struct way *w, unsigned i)
{
    const struct param_info *p = &w->info->params[i];
    int64_t n = param_length(w->info, i, w->v);
    unsigned char *from = (unsigned char *)w->v[i], *to;
    unsigned bytes = handle_bytes(p);
    if (array_ignored(w, i) || array_repeated(w, i, n))
        return;
    w->array[i] = to = stub_alloc((size_t)n * bytes);
    w->real[i] = (uint64_t)to;
    if (p->dir & DIR_IN)
        for (int64_t k = 0; k < n; k++)
            handle_store(p, to + k * bytes,
                         (int64_t)handle_real(p->handle, handle_load(p, from + k * bytes)));
}

static void translate_handle(struct way *w, unsigned i)
{
    const struct param_info *p = &w->info->params[i];
    if (p->handle == HANDLE_ERRHANDLER) {
        w->real[i] = (uint64_t)MPI_ERRORS_RETURN; /* the stub calls the handler */
    } else if (p->by_value) {
        w->real[i] = handle_real(p->handle, (int64_t)w->v[i]);
    } else if (!w->v[i]) {
        return;
    } else if (p->array) {
        translate_array(w, i);
    } else {
        handle_store(p, &w->scalar[i],
                     p->dir & DIR_IN
                         ? (int64_t)handle_real(p->handle, handle_load(p, (void *)w->v[i]))
                         : HANDLE_UNWRITTEN);
        w->real[i] = (uint64_t)&w->scalar[i];
    }
}

static void translate_down(struct way *w)
{
    for (unsigned i = 0; i < w->info->nparams; i++) {
        w->real[i] = w->v[i];
        if (w->info->params[i].kind == PARAM_HANDLE)
            translate_handle(w, i);
        else if (w->info->params[i].kind == PARAM_WEIGHTS && w->v[i] == (uint64_t)MPI_UNWEIGHTED)
            w->real[i] = (uint64_t)GATE->consts->unweighted;
        else if (w->info->params[i].kind == PARAM_WEIGHTS && w->v[i] == (uint64_t)MPI_WEIGHTS_EMPTY)
            w->real[i] = (uint64_t)GATE->consts->weights_empty;
    }
}

static bool handle_is_constant(enum handle_kind kind, uint64_t real)
{
    if (kind == HANDLE_FILE)
        return real == 0;
    switch ((uint32_t)real >> 30) {
    case 0:  /* null handles */
    case 1:  /* builtin */
        return true;
    /* the pair types of MPI_MAXLOC have direct handles, but are constants of mpi.h all the same */
    default:
        return kind == HANDLE_DATATYPE && datatype_is_pair((MPI_Datatype)real);
    }
}

int64_t call_adopt(enum handle_kind kind, struct made *m, int want)
{
    if (!m->replay && handle_is_constant(kind, m->real))
        return kind == HANDLE_FILE ? 0 : (int64_t)(int32_t)m->real;
    if (call_table[m->call].flags & CALL_EXISTING) {
        struct object *o = m->replay ? handle_object(kind, want) : handle_find_real(kind, m->real);
        if (o)
            return handle_again(o, want);
    }
    struct object *o = call_makers[kind] ? call_makers[kind](m) : stub_alloc(sizeof *o);
    o->kind = kind;
    o->real = m->real;
    o->made = m->call;
    return handle_new(o, want);
}

int call_hand_out(enum call call, unsigned param, struct object *o)
{
    const struct log_record *rec = replaying() ? replay_peek() : NULL;
    int want = 0;
    if (rec && rec->call == call)
        want = (int)log_field_int(replay_field(rec, (uint8_t)param, LOG_ROLE_HANDLE));
    int id = handle_again(o, want);
    if (replaying()) { /* not before: a later event of another thread may want this id, too */
        replay_next(call);
    } else if (recording()) {
        record_begin(call, LOG_FIELD_ROOM(sizeof id));
        log_put_i32(&record_writer, (uint8_t)param, LOG_ROLE_HANDLE, id);
        record_end(MPI_SUCCESS);
    }
    return id;
}

/* A handle that came back: what the application shall see. */
static int64_t translate_up(struct way *w, enum call call, unsigned i, uint64_t real,
                            struct made *made)
{
    enum handle_kind kind = w->info->params[i].handle;
    if (kind == HANDLE_REQUEST)
        return request_adopt(call, comm_param(w->v, w->info->comm), (MPI_Request)real);
    *made = (struct made){.call = call, .v = w->v, .real = real};
    return call_adopt(kind, made, 0);
}

/* Its id is free again when the call is recorded: another thread that got it before would come
 * before the call in the recording, and not find it free in replay. */
static void free_handle(struct way *w, const struct param_info *p)
{
    void *at = (void *)w->v[0];
    w->freed = handle_object(p->handle, handle_load(p, at));
    handle_store(p, at, handle_load(p, &w->scalar[0]));
}

/* After success: new handles, freed handles, requests that are null now. */
static void translate_outputs(struct way *w, enum call call, struct made *made)
{
    for (unsigned i = 0; i < w->info->nparams; i++) {
        const struct param_info *p = &w->info->params[i];
        struct made other;
        if (p->kind != PARAM_HANDLE || !(p->dir & DIR_OUT) || p->by_value || !w->v[i])
            continue;
        if (i == 0 && w->info->flags & CALL_FREE) {
            free_handle(w, p);
        } else if (!p->array && p->dir == DIR_OUT) {
            handle_store(p, (void *)w->v[i],
                         translate_up(w, call, i, (uint64_t)handle_load(p, &w->scalar[i]),
                                      (int)i == w->info->result ? made : &other));
            if ((int)i != w->info->result && p->handle != HANDLE_REQUEST)
                stub_free(other.note);
        }
    }
}

/* After a failure: new handles that the library has set to null, as programs expect of it. */
static void translate_nulls(struct way *w, struct made *made)
{
    for (unsigned i = 0; i < w->info->nparams; i++) {
        const struct param_info *p = &w->info->params[i];
        if (p->kind != PARAM_HANDLE || p->dir != DIR_OUT || p->by_value || p->array || !w->v[i])
            continue;
        if (handle_load(p, &w->scalar[i]) != handle_null(p->handle))
            continue;
        handle_store(p, (void *)w->v[i], handle_null(p->handle));
        made->nulled |= 1u << i;
    }
}

static void release(struct way *w)
{
    for (unsigned i = 0; i < w->info->nparams; i++)
        stub_free(w->array[i]);
}

/* An operation was started that goes on when the call has returned. It may read its arrays until it
 * completes (MPI 4.0 §6.12); what else it needs depends on who will ask. */
static void keep_started(struct way *w, enum call call)
{
    struct request *r = request_of(*(const MPI_Request *)w->v[w->info->request]);
    bool needed = GATE->mode != GATE_LIVE || w->info->flags & CALL_PERSISTENT;
    for (unsigned i = 0; i < w->info->nparams; i++) {
        const struct param_info *p = &w->info->params[i];
        needed |= w->array[i] || (p->kind == PARAM_HANDLE && p->handle == HANDLE_OP &&
                                  handle_is_ours(HANDLE_OP, (int64_t)w->v[i]));
    }
    if (!r || !needed)
        return;
    icoll_attach(r, call, w->v, w->array);
    for (unsigned i = 0; i < w->info->nparams; i++)
        w->array[i] = NULL;
}

/* ------------------------------------------------------------------------- the call */

/* The communicator that the call is collective over. */
static struct comm *call_collective(const struct call_info *info, const uint64_t *v)
{
    if (!(info->flags & CALL_COLLECTIVE))
        return NULL;
    if (info->params[info->comm].by_value)
        return comm_param(v, info->comm);
    const MPI_Comm *id = (const MPI_Comm *)v[info->comm];
    return id ? comm_of(*id) : NULL;
}

void call_refuse_unrecorded(enum call call)
{
    const struct call_info *info = &call_table[call];
    if (info->flags & CALL_UNRECORDED && GATE->mode != GATE_LIVE)
        stub_stop(125, "%s: dbg3 refine cannot record %s yet", info->name, info->refused);
}

/* A call that is not recorded and needs no more than its handles translated. */
static int make_plain_call(enum call call, const struct call_info *info, const uint64_t *v)
{
    uint64_t real[CALL_PARAMS_MAX];
    for (unsigned i = 0; i < info->nparams; i++)
        real[i] = v[i];
    for (unsigned left = info->value_handles; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);
        real[i] = handle_real(info->params[i].handle, (int64_t)v[i]);
    }
    return (int)gate_cross(call_real(call), real, info->nparams);
}

static int make_call(enum call call, const struct call_info *info, const uint64_t *v)
{
    if (__builtin_expect(info->flags & CALL_PLAIN && !recording(), 1))
        return make_plain_call(call, info, v);
    struct way w = {.info = info, .v = v};
    struct made made = {0};
    struct record_before before;
    record_inputs(&before, info, v);
    translate_down(&w);
    int rc = (int)gate_cross(call_real(call), w.real, info->nparams);
    if (rc == 0 && !(info->flags & CALL_VALUE))
        translate_outputs(&w, call, &made);
    else if (!(info->flags & CALL_VALUE))
        translate_nulls(&w, &made);
    if (rc == 0 && call_starts(info))
        keep_started(&w, call);
    if (recording() && !(info->flags & CALL_PURE))
        record_outputs(call, info, v, &before, &made, rc);
    if (w.freed)
        handle_free(w.freed);
    release(&w);
    stub_free(made.note);
    return rc;
}

int call_make_request(enum call call, const uint64_t *v, uint64_t comm, uint64_t *real,
                      void **arrays)
{
    const struct call_info *info = &call_table[call];
    struct way w = {.info = info, .v = v};
    translate_down(&w);
    w.real[info->comm] = comm;
    w.real[info->request] = (uint64_t)real;
    for (unsigned i = 0; i < info->nparams; i++)
        arrays[i] = w.array[i];
    return (int)gate_cross(call_real(call), w.real, info->nparams);
}

/* Whether the library has turned the arguments down, before a word with other ranks: such a
 * collective was never entered here, and the others may not even call it. */
static bool call_turned_down(int rc)
{
    int class = MPI_SUCCESS;
    if (rc)
        mpi_cross(CALL_MPI_Error_class, (uint64_t)rc, (uint64_t)&class);
    return class != MPI_SUCCESS && class <= MPI_ERR_ARG;
}

int call_generic(enum call call, const uint64_t *v)
{
    const struct call_info *info = &call_table[call];
    call_refuse_unrecorded(call);
    int rc = info->before ? info->before(call, v) : 0;
    if (rc) {
        if (info->result >= 0 && v[info->result])
            handle_store(&info->params[info->result], (void *)v[info->result],
                         handle_null(info->params[info->result].handle));
        return error_return(call, v, rc);
    }
    struct comm *collective = call_collective(info, v);
    bool frees = info->flags & CALL_FREE;
    if (collective) {
        if (frees)
            object_get(&collective->head);
        coll_begin(call, collective);  /* may end in another process, in another mode */
    }
    if (replaying())
        rc = replay_outputs(call, info, v);
    else if (GATE->mpi[call])
        rc = make_call(call, info, v);
    else
        stub_stop(125, "%s: this MPI library does not have it", info->name);
    if (collective) {
        if (!replaying() && !(info->flags & CALL_VALUE) && call_turned_down(rc))
            coll_turned_down(collective);
        coll_end(call, collective);
        if (frees)
            object_put(&collective->head);
    }
    if (info->flags & CALL_VALUE)
        return rc;
    if (rc)
        return error_return(call, v, rc);
    if (info->after)
        info->after(call, v);
    return 0;
}

static inline __attribute__((always_inline)) void come_in(enum call call, void *site)
{
    if (__builtin_expect(!stub_active, 0))
        stub_inert(call_table[call].name);
    stub_enter();
    call_where.call = (int32_t)call;
    call_where.site = stub_thread.call_site = (uint64_t)site;
    stub_thread.mpi_calls++;
    struct counters_file *f = count.file;
    counters_set(&f->call, (uint64_t)call + 1);
    counters_set(&f->call_pc, (uint64_t)site);
    counters_set(&f->state, COUNTERS_IN_CALL);
    counters_add(&f->calls, 1);
    if (__builtin_expect(schedule_on, 0) && call_table[call].flags & CALL_PURE)
        schedule_get(NULL); /* no event orders what they find among threads */
}

static inline __attribute__((always_inline)) void go_out(enum call call)
{
    if (__builtin_expect(win_watching, 0))
        win_watch_look(call);
    if (__builtin_expect(GATE->word & GATE_WORD_INTENT, 0))
        win_before_cut();
    struct counters_file *f = count.file; /* the call may have ended in another process */
    counters_set(&f->call, 0);
    counters_set(&f->state, stub_gate.finalized ? COUNTERS_FINALIZED : COUNTERS_COMPUTING);
    stub_leave();
    if (GATE->mode != GATE_LIVE && !stub_thread.handler)
        stack_wipe();
}

int stub_call(enum call call, const uint64_t *v, void *site)
{
    come_in(call, site);
    call_hand_fn *hand = call_hand[call];
    int rc = hand ? hand(call, v) : call_generic(call, v);
    go_out(call);
    return rc;
}

int stub_call_null(enum call call, const uint64_t *v, void *site)
{
    come_in(call, site);
    int rc = error_return(call, v, MPI_ERR_ARG);
    go_out(call);
    return rc;
}

void stub_inert(const char *name)
{
    fprintf(stderr, "dbg3: %s was called in a process that dbg3 did not start\n", name);
    _exit(125);
}
