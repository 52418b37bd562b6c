/*
 * icoll.c - non-blocking and persistent collectives, and non-blocking reads and writes of files
 */
#include "msgcounter/stub/icoll.h"

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/buffers.h"
#include "msgcounter/stub/call_param.h"
#include "msgcounter/stub/census.h"
#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/p2p.h"
#include "msgcounter/stub/record.h"

struct icoll {
    enum call call;
    uint64_t v[CALL_PARAMS_MAX];     /* its arguments; vectors are copies */
    void *copies[CALL_PARAMS_MAX];   /* those of them that are ours */
    void *arrays[CALL_PARAMS_MAX];   /* what the lower half may read */
    struct object **pins;            /* objects whose handles we keep */
    unsigned npins;
    struct comm self;                /* persistent: what the cut knows it by */
};

static struct buffers buffers_in(const struct request *r)
{
    const struct icoll *ic = r->coll;
    return (struct buffers){.info = &call_table[ic->call], .v = ic->v, .comm = r->comm};
}

/* -------------------------------------------------------------------------------------- keeping */

static void pin(struct icoll *ic, enum handle_kind kind, int64_t id)
{
    struct object *o = handle_object(kind, id);
    if (!o)
        return;
    handle_again(o, 0);
    ic->pins = stub_realloc(ic->pins, (ic->npins + 1) * sizeof *ic->pins);
    ic->pins[ic->npins++] = o;
}

static void copy_vector(struct icoll *ic, int param, int64_t n, size_t size)
{
    if (param < 0 || ic->copies[param] || !ic->v[param])
        return;
    ic->copies[param] = stub_memdup((const void *)ic->v[param], (size_t)n * size);
    ic->v[param] = (uint64_t)ic->copies[param];
}

/* The vectors of buffer i, which the application may free once the call has returned. */
static void keep_vectors(struct icoll *ic, const struct buffers *b, unsigned i)
{
    const struct param_info *p = &b->info->params[i];
    int64_t n = buffers_vector(b, i);
    if (!n || (!buffers_used(b, i, DIR_IN) && !buffers_used(b, i, DIR_OUT)))
        return;
    copy_vector(ic, p->count, n, b->info->params[p->count].size);
    if (p->displs >= 0)
        copy_vector(ic, p->displs, n, b->info->params[p->displs].size);
    if (p->span != SPAN_W)
        return;
    copy_vector(ic, p->type, n, sizeof(MPI_Datatype));
    for (int64_t k = 0; k < n; k++)
        pin(ic, HANDLE_DATATYPE, ((const MPI_Datatype *)ic->v[p->type])[k]);
}

static void keep_objects(struct icoll *ic, const struct call_info *info)
{
    for (unsigned i = 0; i < info->nparams; i++) {
        const struct param_info *p = &info->params[i];
        if (p->kind == PARAM_HANDLE && p->by_value &&
            (p->handle == HANDLE_DATATYPE || p->handle == HANDLE_OP || p->handle == HANDLE_INFO))
            pin(ic, p->handle, (int64_t)ic->v[i]);
    }
}

void icoll_attach(struct request *r, enum call call, const uint64_t *v, void *const *arrays)
{
    const struct call_info *info = &call_table[call];
    struct icoll *ic = stub_alloc(sizeof *ic);
    ic->call = call;
    for (unsigned i = 0; i < info->nparams; i++) {
        ic->v[i] = v[i];
        ic->arrays[i] = arrays ? arrays[i] : NULL;
    }
    r->coll = ic;
    keep_objects(ic, info);
    struct buffers b = {.info = info, .v = v, .comm = r->comm};
    for (unsigned i = 0; i < info->nparams; i++)
        keep_vectors(ic, &b, i);
    if (!r->persistent)
        return;
    ic->self.gid = comm_name(r->comm->gid, ++r->comm->persistent);
    ic->self.size = r->comm->size;
    ic->self.remote_size = r->comm->remote_size;
    ic->self.foreign = r->comm->foreign;
    coll_known(&ic->self, false);
}

void icoll_destroy(struct icoll *ic)
{
    if (!ic)
        return;
    if (ic->self.gid)
        coll_forget_later(&ic->self);
    for (unsigned i = 0; i < ic->npins; i++)
        handle_free(ic->pins[i]);
    for (unsigned i = 0; i < CALL_PARAMS_MAX; i++) {
        stub_free(ic->copies[i]);
        stub_free(ic->arrays[i]);
    }
    stub_free(ic->pins);
    stub_free(ic);
}

/* ----------------------------------------------------------------------------------- completion */

/* The buffer that the operation writes here; -1: none. No collective has two. */
static int output(const struct buffers *b)
{
    for (unsigned i = 0; i < b->info->nparams; i++)
        if (buffers_used(b, i, DIR_OUT))
            return (int)i;
    return -1;
}

uint64_t icoll_bytes(const struct request *r)
{
    struct buffers b = buffers_in(r);
    int i = output(&b);
    return i < 0 || r->status.error ? 0 : buffers_bytes(&b, (unsigned)i);
}

void icoll_pack(const struct request *r, void *to)
{
    struct buffers b = buffers_in(r);
    int i = output(&b);
    if (i >= 0)
        buffers_pack(&b, (unsigned)i, to);
}

void icoll_unpack(const struct request *r, const void *from, uint64_t bytes)
{
    struct buffers b = buffers_in(r);
    int i = output(&b);
    if (i >= 0)
        buffers_unpack(&b, (unsigned)i, from, bytes);
}

/* --------------------------------------------------------------------------------------- starts */

static int replay_start(enum call call, const struct buffers *b)
{
    const struct log_record *rec = replay_next(call);
    for (unsigned i = 0; i < b->info->nparams; i++)
        if (buffers_used(b, i, DIR_IN))
            replay_check_digest(rec, (uint8_t)i, buffers_digest(b, i), buffers_bytes(b, i));
    return replay_rc(rec);
}

static void record_start(enum call call, const struct buffers *b, int rc)
{
    record_begin(call, CALL_PARAMS_MAX * LOG_FIELD_ROOM(sizeof(struct log_digest)));
    for (unsigned i = 0; i < b->info->nparams; i++)
        if (buffers_used(b, i, DIR_IN))
            log_put_digest(&record_writer, (uint8_t)i, buffers_digest(b, i), buffers_bytes(b, i));
    record_end(rc);
}

int icoll_start(enum call call, struct request *r)
{
    struct icoll *ic = r->coll;
    struct buffers b = buffers_in(r);
    int rc;
    coll_begin((enum call)r->start, &ic->self); /* may end in a process that replays */
    /* Not before: an epoch in there would take what is not started yet for completed. */
    request_activate(r);
    if (replaying()) {
        rc = replay_start(call, &b);
    } else {
        int real = (int)r->head.real;
        rc = mpi_cross(CALL_MPI_Start, (uint64_t)&real);
        if (recording())
            record_start(call, &b, rc);
    }
    coll_end((enum call)r->start, &ic->self);
    return rc;
}

/* -------------------------------------------------------------------------------------- restart */

static int make_again(struct request *r)
{
    struct icoll *ic = r->coll;
    uint64_t real = 0;
    for (unsigned i = 0; i < CALL_PARAMS_MAX; i++) {
        stub_free(ic->arrays[i]);
        ic->arrays[i] = NULL;
    }
    int rc = call_make_request(ic->call, ic->v, p2p_real_comm(r->comm), &real, ic->arrays);
    r->head.real = r->slot->real = real;
    return rc;
}

struct list {
    struct request **some;
    int n;
};

static void note_persistent(struct request *r, void *arg)
{
    struct list *l = arg;
    if (!r->coll || !r->persistent)
        return;
    int i = l->n++;
    l->some = stub_realloc(l->some, (size_t)l->n * sizeof *l->some);
    for (; i > 0 && l->some[i - 1]->coll->self.gid > r->coll->self.gid; i--)
        l->some[i] = l->some[i - 1];
    l->some[i] = r;
}

/* In the same order on all ranks. One that a member has freed cannot be started any more. */
int icoll_rebuild(void)
{
    struct list l = {0};
    request_each(note_persistent, &l);
    uint64_t *keys = stub_alloc((size_t)l.n * sizeof *keys);
    for (int i = 0; i < l.n; i++)
        keys[i] = l.some[i]->coll->self.gid;
    struct census all;
    int rc = census_take(&all, keys, l.n);
    for (int i = 0; i < l.n && !rc; i++) {
        l.some[i]->head.real = l.some[i]->slot->real = 0;
        if (census_whole(&all, keys[i], l.some[i]->comm))
            rc = make_again(l.some[i]);
    }
    census_free(&all);
    stub_free(keys);
    stub_free(l.some);
    return rc;
}
