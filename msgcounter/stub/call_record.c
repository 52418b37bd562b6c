/*
 * call_record.c - outputs of a call, to the payload log and back
 *
 * An event holds, in the order of parameters: digests of what was sent, packed output buffers,
 * other outputs as they are in memory, ids of new handles and the note of a new object.
 */
#include <string.h>

#include "msgcounter/stub/buffers.h"
#include "msgcounter/stub/call_param.h"
#include "msgcounter/stub/icoll.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/request.h"

/* ------------------------------------------------------------------------------------ inputs */

/* What the call itself has written when it returns: what it has started writes later. */
static bool written(const struct buffers *s, unsigned i)
{
    return !call_starts(s->info) && buffers_used(s, i, DIR_OUT);
}

/* What it has read: a persistent one reads when it is started. */
static bool read_now(const struct buffers *s, unsigned i)
{
    return !(s->info->flags & CALL_PERSISTENT) && buffers_used(s, i, DIR_IN);
}

void record_inputs(struct record_before *b, const struct call_info *info, const uint64_t *v)
{
    if (GATE->mode == GATE_LIVE)
        return;
    struct buffers s = buffers_of(info, v), others = s;
    struct buffers_own own = buffers_own(&s);
    if (own.bytes >= LOG_WRITE_MIN)
        others.omits = own.apart; /* what it is given by itself, the replay is given again */
    for (unsigned i = 0; i < info->nparams; i++) {
        const struct param_info *p = &info->params[i];
        if (p->kind == PARAM_BUFFER && p->span == SPAN_PACKED)
            b->position = *(int *)v[p->count];
        if (!read_now(&s, i))
            continue;
        b->bytes[i] = buffers_bytes(&s, i);
        b->digest[i] = buffers_digest(&others, i);
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

/* Leaves out of the log what the rank gave itself: the replay has it, too. But another thread may
 * have changed what was sent meanwhile. */
static void omit_own(struct buffers *s)
{
    struct buffers_own own = buffers_own(s);
    if (own.bytes >= LOG_WRITE_MIN &&
        (!stub_threads_made || !memcmp(own.to, own.from, own.bytes)))
        s->omits = 1u << own.param;
}

static uint64_t room(const struct buffers *s, const struct record_before *before,
                     const struct made *made)
{
    const struct call_info *info = s->info;
    const uint64_t *v = s->v;
    uint64_t n = LOG_FIELD_ROOM(made->note_bytes);
    for (unsigned i = 0; i < info->nparams; i++) {
        n += LOG_FIELD_ROOM(sizeof(struct log_digest));
        n += LOG_FIELD_ROOM(value_of(info, i, v, before).bytes);
        if (written(s, i))
            n += LOG_FIELD_ROOM(buffers_bytes(s, i));
    }
    return n;
}

void record_outputs(enum call call, const struct call_info *info, const uint64_t *v,
                    const struct record_before *b, const struct made *made, int rc)
{
    bool success = rc == 0 || info->flags & CALL_VALUE;
    struct buffers s = buffers_of(info, v);
    if (success)
        omit_own(&s);
    record_begin(call, success ? room(&s, b, made)
                               : info->nparams * LOG_FIELD_ROOM(sizeof(struct log_digest)));
    log_set_flags(&record_writer, s.omits ? RECORD_OWN : 0);
    for (unsigned i = 0; i < info->nparams; i++) {
        if (read_now(&s, i))
            log_put_digest(&record_writer, (uint8_t)i, b->digest[i], b->bytes[i]);
        if (!success && made->nulled & 1u << i)
            log_put(&record_writer, (uint8_t)i, LOG_ROLE_VALUE, (const void *)v[i],
                    handle_bytes(&info->params[i]));
        if (!success)
            continue;
        struct value out = value_of(info, i, v, b);
        if (out.bytes)
            log_put(&record_writer, (uint8_t)i, out.role, out.at, out.bytes);
        else if (written(&s, i) && info->params[i].span != SPAN_PACKED)
            buffers_pack(&s, i, log_reserve(&record_writer, (uint8_t)i, LOG_ROLE_DATA,
                                            buffers_bytes(&s, i)));
    }
    if (success && made->note_bytes)
        log_put(&record_writer, RECORD_PARAM_NOTE, LOG_ROLE_VALUE, made->note, made->note_bytes);
    record_end(rc);
}

/* ----------------------------------------------------------------------------- replay */

static void check_inputs(const struct log_record *rec, const struct call_info *info,
                         const uint64_t *v, const struct record_before *b)
{
    struct buffers s = buffers_of(info, v);
    for (unsigned i = 0; i < info->nparams; i++)
        if (read_now(&s, i))
            replay_check_digest(rec, (uint8_t)i, b->digest[i], b->bytes[i]);
}

static void replay_request(enum call call, const struct call_info *info, const uint64_t *v, int id)
{
    struct comm *c = info->comm < 0 ? NULL : comm_of((MPI_Comm)v[info->comm]);
    struct request *r = request_of_call(call, c, 0, id);
    if (call_starts(info))
        icoll_attach(r, call, v, NULL);
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
            replay_request(call, info, v, id);
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

static void take_own(struct buffers *s)
{
    struct buffers_own own = buffers_own(s);
    s->omits = 1u << own.param;
    memcpy(own.to, own.from, own.bytes);
}

int replay_outputs(enum call call, const struct call_info *info, const uint64_t *v)
{
    struct record_before before;
    record_inputs(&before, info, v);
    const struct log_record *rec = replay_next(call);
    check_inputs(rec, info, v, &before);
    struct buffers s = buffers_of(info, v);
    if (rec->flags & RECORD_OWN)
        take_own(&s);
    int rc = replay_rc(rec);
    for (unsigned i = 0; i < info->nparams; i++) {
        const struct log_field *f = field_of(rec, i);
        if (!f)
            continue;
        if (f->role == LOG_ROLE_HANDLE || f->role == LOG_ROLE_REQUEST)
            replay_handle(call, info, i, v, rec, f);
        else if (f->role == LOG_ROLE_DATA && info->params[i].span != SPAN_PACKED)
            buffers_unpack(&s, i, log_field_value(f), log_field_length(f));
        else if (f->role == LOG_ROLE_DATA)
            memcpy((unsigned char *)v[i] + before.position, log_field_value(f),
                   log_field_length(f));
        else
            memcpy((void *)v[i], log_field_value(f), log_field_length(f));
    }
    return rc;
}
