/*
 * call_record.c - outputs of a call, to the payload log and back
 *
 * An event holds, in the order of parameters: digests of what was sent, packed output buffers,
 * other outputs as they are in memory, ids of new handles and the note of a new object.
 */
#include <string.h>

#include "msgcounter/stub/call_param.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/request.h"

/* ----------------------------------------------------------------------------- message buffers */

/* A part of a buffer. */
struct block {
    unsigned char *at;
    int64_t count;
    MPI_Datatype type;
};

static int64_t element(const struct call_info *info, int param, const uint64_t *v, int64_t k)
{
    const void *a = (const void *)v[param];
    return info->params[param].size == 8 ? ((const int64_t *)a)[k] : ((const int *)a)[k];
}

static const struct comm *comm_in(const struct call_info *info, const uint64_t *v)
{
    return info->comm < 0 ? NULL : comm_of((MPI_Comm)v[info->comm]);
}

static int64_t extent_of(MPI_Datatype type)
{
    const struct datatype *t = datatype_of(type);
    return t ? t->extent : 0;
}

/* How many peers a vector buffer has blocks for. */
static int64_t peers(const struct call_info *info, const struct param_info *p, const struct comm *c)
{
    if (info->flags & CALL_NEIGHBORS)
        return p->dir == DIR_IN ? c->outdegree : c->indegree;
    return c->remote_size ? c->remote_size : c->size;
}

static int64_t blocks(const struct call_info *info, unsigned i, const uint64_t *v)
{
    const struct param_info *p = &info->params[i];
    const struct comm *c = comm_in(info, v);
    return c && (p->span == SPAN_V || p->span == SPAN_W) ? peers(info, p, c) : 1;
}

static struct block block(const struct call_info *info, unsigned i, const uint64_t *v, int64_t k)
{
    const struct param_info *p = &info->params[i];
    const struct comm *c = comm_in(info, v);
    struct block b = {(unsigned char *)v[i], 0, MPI_DATATYPE_NULL};
    if (p->span != SPAN_W && p->type >= 0)
        b.type = (MPI_Datatype)v[p->type];
    switch ((enum buffer_span)p->span) {
    case SPAN_ONE:
        b.count = (int64_t)v[p->count];
        break;
    case SPAN_SIZE:
        b.count = (int64_t)v[p->count] * c->size;
        break;
    case SPAN_IN_NEIGHBORS:
        b.count = (int64_t)v[p->count] * c->indegree;
        break;
    case SPAN_OUT_NEIGHBORS:
        b.count = (int64_t)v[p->count] * c->outdegree;
        break;
    case SPAN_SUM:
        for (int r = 0; r < c->size; r++)
            b.count += element(info, p->count, v, r);
        break;
    case SPAN_MINE:
        b.count = element(info, p->count, v, c->rank);
        break;
    case SPAN_V:
        b.count = element(info, p->count, v, k);
        b.at += element(info, p->displs, v, k) * extent_of(b.type);
        break;
    case SPAN_W:
        b.type = ((const MPI_Datatype *)v[p->type])[k];
        b.count = element(info, p->count, v, k);
        b.at += element(info, p->displs, v, k);
        break;
    case SPAN_PACKED:
    case SPAN_OPAQUE:
        break;
    }
    return b;
}

/* Whether this rank reads (DIR_IN) or writes (DIR_OUT) buffer i in this call. */
static bool buffer_used(const struct call_info *info, unsigned i, const uint64_t *v, int dir)
{
    const struct param_info *p = &info->params[i];
    if (p->kind != PARAM_BUFFER || p->span == SPAN_OPAQUE || v[i] == (uint64_t)MPI_IN_PLACE)
        return false;
    bool root = call_is_root(info, v);
    if (p->dir == DIR_INOUT) /* a broadcast's */
        return dir == (root ? DIR_IN : DIR_OUT);
    if (p->where != WHERE_ALL && root != (p->where == WHERE_ROOT))
        return false;
    return p->dir == dir;
}

static uint64_t buffer_bytes(const struct call_info *info, unsigned i, const uint64_t *v)
{
    uint64_t bytes = 0;
    for (int64_t k = 0, n = blocks(info, i, v); k < n; k++) {
        struct block b = block(info, i, v, k);
        int64_t size = b.count > 0 ? datatype_size(b.type) : 0;
        bytes += size > 0 ? (uint64_t)(b.count * size) : 0;
    }
    return bytes;
}

static uint64_t buffer_digest(const struct call_info *info, unsigned i, const uint64_t *v)
{
    uint64_t digest = 0;
    for (int64_t k = 0, n = blocks(info, i, v); k < n; k++) {
        struct block b = block(info, i, v, k);
        if (b.count > 0)
            digest = digest * 0x9e3779b97f4a7c15u + datatype_digest(b.type, b.count, b.at);
    }
    return digest;
}

void record_inputs(struct record_before *b, const struct call_info *info, const uint64_t *v)
{
    if (GATE->mode == GATE_LIVE)
        return;
    for (unsigned i = 0; i < info->nparams; i++) {
        const struct param_info *p = &info->params[i];
        if (p->kind == PARAM_BUFFER && p->span == SPAN_PACKED)
            b->position = *(int *)v[p->count];
        if (!buffer_used(info, i, v, DIR_IN))
            continue;
        b->bytes[i] = buffer_bytes(info, i, v);
        b->digest[i] = buffer_digest(info, i, v);
    }
}

/* ----------------------------------------------------------------------------- fields */

/* What an output parameter takes in the log, and where it is in memory. */
struct value {
    enum log_role role;
    void *at;
    uint64_t bytes; /* 0: nothing to record */
};

static int64_t position(const struct call_info *info, const struct param_info *p, const uint64_t *v)
{
    return info->params[p->count].size == 8 ? *(int64_t *)v[p->count] : *(int *)v[p->count];
}

static struct value value_of(const struct call_info *info, unsigned i, const uint64_t *v,
                             const struct record_before *before)
{
    const struct param_info *p = &info->params[i];
    struct value out = {LOG_ROLE_VALUE, (void *)v[i], 0};
    if (!(p->dir & DIR_OUT) || p->by_value || !param_written(info, i, v))
        return out;
    switch ((enum param_kind)p->kind) {
    case PARAM_OUT:
    case PARAM_STATUS:
        if (v[i] != (uint64_t)MPI_STATUS_IGNORE)
            out.bytes = (uint64_t)param_length(info, i, v) * p->size;
        break;
    case PARAM_WEIGHTS:
        if (v[i] != (uint64_t)MPI_UNWEIGHTED && v[i] != (uint64_t)MPI_WEIGHTS_EMPTY)
            out.bytes = (uint64_t)param_length(info, i, v) * p->size;
        break;
    case PARAM_TEXT:
        out.role = LOG_ROLE_TEXT;
        out.bytes = strlen(out.at) + 1;
        break;
    case PARAM_HANDLE:
        out.role = p->handle == HANDLE_REQUEST ? LOG_ROLE_REQUEST : LOG_ROLE_HANDLE;
        if ((p->dir == DIR_OUT && !p->array) || (i == 0 && info->flags & CALL_FREE))
            out.bytes = handle_bytes(p);
        break;
    case PARAM_BUFFER:
        out.role = LOG_ROLE_DATA;
        if (p->span == SPAN_PACKED) {
            out.at = (unsigned char *)v[i] + before->position;
            out.bytes = (uint64_t)(position(info, p, v) - before->position);
        }
        break;
    default:
        break;
    }
    return out;
}

static void put_buffer(const struct call_info *info, unsigned i, const uint64_t *v)
{
    uint64_t bytes = buffer_bytes(info, i, v);
    unsigned char *to = log_reserve(&record_writer, (uint8_t)i, LOG_ROLE_DATA, bytes);
    for (int64_t k = 0, n = blocks(info, i, v); k < n; k++) {
        struct block b = block(info, i, v, k);
        if (b.count > 0)
            to += datatype_pack(b.type, b.count, b.at, to, INT64_MAX);
    }
}

static void get_buffer(const struct call_info *info, unsigned i, const uint64_t *v,
                       const struct log_field *f)
{
    const unsigned char *from = log_field_value(f);
    uint64_t left = log_field_length(f);
    for (int64_t k = 0, n = blocks(info, i, v); k < n; k++) {
        struct block b = block(info, i, v, k);
        int64_t bytes = b.count > 0 ? b.count * datatype_size(b.type) : 0;
        if ((uint64_t)bytes > left)
            bytes = (int64_t)left;
        if (bytes)
            datatype_unpack(b.type, b.count, b.at, from, bytes);
        from += bytes;
        left -= (uint64_t)bytes;
    }
}

static uint64_t room(const struct call_info *info, const uint64_t *v,
                     const struct record_before *before, const struct made *made)
{
    uint64_t n = LOG_FIELD_ROOM(made->note_bytes);
    for (unsigned i = 0; i < info->nparams; i++) {
        n += LOG_FIELD_ROOM(sizeof(struct log_digest));
        n += LOG_FIELD_ROOM(value_of(info, i, v, before).bytes);
        if (buffer_used(info, i, v, DIR_OUT))
            n += LOG_FIELD_ROOM(buffer_bytes(info, i, v));
    }
    return n;
}

void record_outputs(enum call call, const struct call_info *info, const uint64_t *v,
                    const struct record_before *b, const struct made *made, int rc)
{
    bool success = rc == 0 || info->flags & CALL_VALUE;
    record_begin(call, success ? room(info, v, b, made)
                               : info->nparams * LOG_FIELD_ROOM(sizeof(struct log_digest)));
    for (unsigned i = 0; i < info->nparams; i++) {
        if (buffer_used(info, i, v, DIR_IN))
            log_put_digest(&record_writer, (uint8_t)i, b->digest[i], b->bytes[i]);
        if (!success)
            continue;
        struct value out = value_of(info, i, v, b);
        if (out.bytes)
            log_put(&record_writer, (uint8_t)i, out.role, out.at, out.bytes);
        else if (buffer_used(info, i, v, DIR_OUT) && info->params[i].span != SPAN_PACKED)
            put_buffer(info, i, v);
    }
    if (success && made->note_bytes)
        log_put(&record_writer, RECORD_PARAM_NOTE, LOG_ROLE_VALUE, made->note, made->note_bytes);
    record_end(rc);
}

/* ----------------------------------------------------------------------------- replay */

static void check_inputs(const struct log_record *rec, const struct call_info *info,
                         const uint64_t *v, const struct record_before *b)
{
    for (unsigned i = 0; i < info->nparams; i++)
        if (buffer_used(info, i, v, DIR_IN))
            replay_check_digest(rec, (uint8_t)i, b->digest[i], b->bytes[i]);
}

static void replay_handle(enum call call, const struct call_info *info, unsigned i,
                          const uint64_t *v, const struct log_record *rec,
                          const struct log_field *f)
{
    const struct param_info *p = &info->params[i];
    int id = (int)log_field_int(f);
    if (i == 0 && info->flags & CALL_FREE) {
        struct object *o = handle_object(p->handle, handle_load(p, (void *)v[0]));
        if (o)
            handle_free(o);
    } else if (p->handle == HANDLE_REQUEST) {
        if (handle_is_ours(HANDLE_REQUEST, id))
            request_new(REQUEST_OTHER, call, id);
    } else if (handle_is_ours(p->handle, id)) {
        const struct log_field *note = log_field_find(rec, NULL, RECORD_PARAM_NOTE, LOG_ROLE_VALUE);
        struct made m = {.call = call, .v = v, .replay = true};
        if (note) {
            m.note = (void *)log_field_value(note);
            m.note_bytes = log_field_length(note);
        }
        call_adopt(p->handle, &m, id);
    }
    memcpy((void *)v[i], log_field_value(f), log_field_length(f));
}

static const struct log_field *field_of(const struct log_record *rec, unsigned i)
{
    const struct log_field *f = NULL;
    while ((f = log_field_next(rec, f)))
        if (f->param == i && f->role != LOG_ROLE_DIGEST)
            return f;
    return NULL;
}

int replay_outputs(enum call call, const struct call_info *info, const uint64_t *v)
{
    struct record_before before;
    record_inputs(&before, info, v);
    const struct log_record *rec = replay_next(call);
    check_inputs(rec, info, v, &before);
    int rc = replay_rc(rec);
    for (unsigned i = 0; i < info->nparams; i++) {
        const struct log_field *f = field_of(rec, i);
        if (!f)
            continue;
        if (f->role == LOG_ROLE_HANDLE || f->role == LOG_ROLE_REQUEST)
            replay_handle(call, info, i, v, rec, f);
        else if (f->role == LOG_ROLE_DATA && info->params[i].span != SPAN_PACKED)
            get_buffer(info, i, v, f);
        else if (f->role == LOG_ROLE_DATA)
            memcpy((unsigned char *)v[i] + before.position, log_field_value(f),
                   log_field_length(f));
        else
            memcpy((void *)v[i], log_field_value(f), log_field_length(f));
    }
    return rc;
}
