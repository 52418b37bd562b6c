/*
 * probe.c - probes and the receives of matched messages
 *
 * What a matching probe finds is an object of ours: a drain takes its data out of the lower half
 * and the application receives it from there, whatever MPI library it then runs on.
 */
#include "msgcounter/stub/p2p.h"

#include <sched.h>

#include "call_hand.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/complete.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/order.h"

/* -------------------------------------------------------------------------------------- probes */

/* Where a probe's parameters stand behind source, tag and comm; 0: it has none. */
struct probe {
    uint8_t flag, message, status;
};

static const struct probe probes[CALL_COUNT] = {
    [CALL_MPI_Probe] = {.status = 3},
    [CALL_MPI_Iprobe] = {.flag = 3, .status = 4},
    [CALL_MPI_Mprobe] = {.message = 3, .status = 4},
    [CALL_MPI_Improbe] = {.flag = 3, .message = 4, .status = 5},
};

/* Gives the application a message; MPI_MESSAGE_NO_PROC is none of ours. */
static MPI_Message message_new(struct comm *c, const struct gate_status *st, int real,
                               struct match_message *drained, int want)
{
    if (st->source == MPI_PROC_NULL)
        return MPI_MESSAGE_NO_PROC;
    struct message *m = stub_alloc(sizeof *m);
    m->head = (struct object){.kind = HANDLE_MESSAGE, .made = CALL_MPI_Mprobe};
    if (!drained) /* else `real` may be a null message that an earlier look has left */
        m->head.real = (uint64_t)(uint32_t)real;
    m->comm = c;
    if (!c->head.predefined)
        object_get(&c->head);
    m->drained = drained;
    m->source = st->source;
    m->tag = st->tag;
    m->bytes = st->bytes;
    return handle_new(&m->head, want);
}

/* Answers a probe from the drained messages. */
static bool probe_drained(int source, int tag, const struct comm *c, bool take,
                          struct gate_status *st, struct match_message **found)
{
    struct match_message *m =
        take ? p2p_take_drained(c, source, tag) : p2p_find_drained(c, source, tag);
    if (!m)
        return false;
    *st = (struct gate_status){.source = m->source, .tag = m->tag, .bytes = m->bytes};
    *found = take ? m : NULL;
    return true;
}

struct probed {
    int flag, real;
    struct match_message *drained;
    struct gate_status status;
};

/* Looks for a message of `source`, or waits. Returns MPI's code, or GATE_EAGAIN: the process
 * replays now, the rank has become free (with BRIEF), or it follows batch from the epoch that came
 * between (without). */
static int probe_live(const struct probe *p, uint32_t how, int source, const uint64_t *v,
                      struct probed *out)
{
    for (;;) {
        struct comm *c = comm_of((MPI_Comm)v[2]);
        out->flag = probe_drained(source, (int)v[1], c, p->message, &out->status, &out->drained);
        if (out->flag)
            return MPI_SUCCESS;
        if (how)
            count_waiting(c ? comm_world_rank(c, source) : -1);
        int rc = (int)cross(GATE->probe, how, (uint64_t)source, v[1],
                            (uint64_t)comm_real((MPI_Comm)v[2]),
                            p->message ? (uint64_t)&out->real : 0, (uint64_t)&out->flag,
                            (uint64_t)&out->status);
        if (how)
            count_waited();
        if (rc != GATE_EAGAIN)
            return rc;
        bool comes = wait_came_back();
        bool brief = how & GATE_COMPLETE_BRIEF;
        if (replaying() || (!comes && brief) || (c && order_following && !brief))
            return rc;
    }
}

/* Following: the answer that batch had. Returns as probe_live does. */
static int probe_again(const struct probe *p, const uint64_t *v, struct probed *out)
{
    const struct comm *c = comm_of((MPI_Comm)v[2]);
    bool any = (int)v[0] == MPI_ANY_SOURCE;
    int source = (int)v[0];
    if (any && !p->flag) {
        source = order_source(c, source);
    } else if (p->flag) {
        struct order_outcome o;
        if (!order_answer(any ? ORDER_KIND_SOURCE : ORDER_KIND_YES, false, &o))
            return GATE_EAGAIN;
        if (o.kind == ORDER_KIND_NO)
            return MPI_SUCCESS;
        if (any)
            source = order_source_found(c, &o);
    }
    if (source == ORDER_FROM_NOBODY)
        order_unfit();
    if (!order_following)
        return GATE_EAGAIN;
    int rc = probe_live(p, GATE_COMPLETE_WAIT | GATE_COMPLETE_BRIEF, source, v, out);
    if (any)
        order_source_taken();
    return rc;
}

/* An answer is an outcome: whether there was a message, and whose if any would do. */
static void keep_answer(const struct probe *p, const uint64_t *v, const struct probed *out)
{
    if (!out->flag)
        order_no();
    else if ((int)v[0] == MPI_ANY_SOURCE)
        order_matched(comm_of((MPI_Comm)v[2]), MPI_ANY_SOURCE, out->status.source);
    else if (p->flag)
        order_yes();
}

/* A probe for any source of one of several threads: what it finds is taken, or could be, before
 * another's receive that is posted later. So it never waits in the lower half. */
static int probe_threads(const struct probe *p, const uint64_t *v, struct probed *out)
{
    for (;;) {
        order_post_begin();
        int rc = probe_live(p, 0, MPI_ANY_SOURCE, v, out);
        if (rc == MPI_SUCCESS && (out->flag || p->flag))
            keep_answer(p, v, out);
        order_post_end();
        if (rc || out->flag || p->flag)
            return rc;
        if (GATE->word & (GATE_WORD_PARK | GATE_WORD_FINE))
            stub_safe_point();
        if (replaying())
            return GATE_EAGAIN;
        sched_yield();
    }
}

/* Looks or waits, as the call does. Returns MPI's code or, if the process replays now,
 * GATE_EAGAIN. */
static int probe_run(const struct probe *p, const uint64_t *v, struct probed *out)
{
    int rc = GATE_EAGAIN;
    if (stub_threads_multiple && GATE->order && (int)v[0] == MPI_ANY_SOURCE)
        return probe_threads(p, v, out);
    bool following;
    do {
        following = order_following;
        if (following && comm_of((MPI_Comm)v[2]))
            rc = probe_again(p, v, out);
        if (rc == GATE_EAGAIN && !replaying())
            rc = probe_live(p, p->flag ? 0 : GATE_COMPLETE_WAIT, (int)v[0], v, out);
        /* it may have waited at an epoch, and go on in a refine that follows batch from there */
    } while (rc == GATE_EAGAIN && !replaying() && order_following && !following);
    if (rc == MPI_SUCCESS)
        keep_answer(p, v, out);
    return rc;
}

static int probe_done(const struct probe *p, const uint64_t *v, const struct gate_status *st,
                      MPI_Message m)
{
    if (p->flag)
        *(int *)v[p->flag] = 1;
    if (p->message)
        *(MPI_Message *)v[p->message] = m;
    status_put((MPI_Status *)v[p->status], st);
    return MPI_SUCCESS;
}

static int probe_replay(enum call call, const struct probe *p, const uint64_t *v)
{
    struct comm *c = comm_of((MPI_Comm)v[2]);
    MPI_Message m = MPI_MESSAGE_NULL;
    if (p->flag && replay_idle(call, (int)v[2])) {
        *(int *)v[p->flag] = 0;
        return MPI_SUCCESS;
    }
    const struct log_record *rec = replay_next(call);
    const struct log_field *f = log_field_find(rec, NULL, p->status, LOG_ROLE_STATUS);
    if (!f)
        return error_return(call, v, replay_rc(rec));
    replay_check_envelope(rec, (int)v[0], (int)v[1], (uint32_t)c->gid);
    struct request r = {.kind = REQUEST_OTHER};
    received_apply(rec, f, &r);
    if (p->message)
        m = message_new(c, &r.status, 0, NULL,
                        (int)log_field_int(replay_field(rec, p->message, LOG_ROLE_HANDLE)));
    return probe_done(p, v, &r.status, m);
}

static void probe_record(enum call call, const struct probe *p, const uint64_t *v,
                         const struct comm *c, const struct gate_status *st, MPI_Message m)
{
    struct request r = {.kind = REQUEST_OTHER, .status = *st};
    record_begin(call, P2P_ENVELOPE_ROOM + received_room(&r) + LOG_FIELD_ROOM(4));
    log_put_envelope(&record_writer, (int)v[0], (int)v[1], (uint32_t)c->gid);
    received_record(&r, p->status, 0);
    if (p->message)
        log_put_i32(&record_writer, p->message, LOG_ROLE_HANDLE, m);
    record_end(MPI_SUCCESS);
}

int hand_probe(enum call call, const uint64_t *v)
{
    const struct probe *p = &probes[call];
    struct probed out = {0};
    int rc = replaying() ? GATE_EAGAIN : probe_run(p, v, &out);
    if (rc == GATE_EAGAIN)
        return probe_replay(call, p, v);
    if (rc)
        return p2p_refused(call, v, rc);
    if (!out.flag) {
        *(int *)v[p->flag] = 0;
        if (recording())
            record_idle(call, (int)v[2]);
        return MPI_SUCCESS;
    }
    struct comm *c = comm_of((MPI_Comm)v[2]);
    MPI_Message m =
        p->message ? message_new(c, &out.status, out.real, out.drained, 0) : MPI_MESSAGE_NULL;
    if (recording())
        probe_record(call, p, v, c, &out.status, m);
    return probe_done(p, v, &out.status, m);
}

/* ---------------------------------------------------------------------------- matched receives */

/* Arguments of a receive of the message, from those of Mrecv and Imrecv (buf, count, datatype,
 * message). */
static void matched_arguments(const uint64_t *v, const struct message *m, uint64_t *out)
{
    const uint64_t args[] = {
        v[0], v[1], v[2], (uint64_t)m->source, (uint64_t)m->tag, (uint64_t)m->comm->head.id};
    for (int i = 0; i < 6; i++)
        out[i] = args[i];
}

/* Makes the receive of a matched message a request. Returns MPI's code, and then no request if
 * it is an error. From here on the message is empty. */
static int matched_start(enum call imrecv, const uint64_t *v, struct message *m, struct request *r)
{
    int real = (int)m->head.real, rc = MPI_SUCCESS;
    if (m->drained)
        p2p_receive_drained(r, m->drained);
    else
        rc = mpi_cross(imrecv, v[0], v[1], p2p_real_datatype(r), (uint64_t)&real,
                       (uint64_t)&r->head.real);
    if (rc) {
        request_delete(r);
        return rc;
    }
    m->drained = NULL;
    m->head.real = 0;
    return rc;
}

static struct message *message_of(const MPI_Message *id)
{
    return (struct message *)handle_object(HANDLE_MESSAGE, *id);
}

/* The application's message is gone. */
static void message_end(MPI_Message *id)
{
    struct message *m = message_of(id);
    *id = MPI_MESSAGE_NULL;
    if (!m)
        return;
    match_free(&p2p_drained, m->drained);
    if (!m->comm->head.predefined)
        object_put(&m->comm->head);
    handle_free(&m->head);
}

static int mrecv_done(enum call call, const uint64_t *v, const struct request *op)
{
    const struct gate_status *st = &op->status;
    if (recording()) {
        record_begin(call, P2P_ENVELOPE_ROOM + received_room(op));
        p2p_put_operation(op);
        received_record(op, 4, 0);
        record_end(st->error);
    }
    count_recv(comm_world_rank(op->comm, st->source), st->bytes);
    status_put((MPI_Status *)v[4], st);
    message_end((MPI_Message *)v[3]);
    return st->error ? error_return(call, v, st->error) : MPI_SUCCESS;
}

static int mrecv_replay(enum call call, const uint64_t *v, struct request *op)
{
    const struct log_record *rec = replay_next(call);
    const struct log_field *f = log_field_find(rec, NULL, 4, LOG_ROLE_STATUS);
    if (!f)
        return error_return(call, v, replay_rc(rec));
    p2p_check_operation(rec, op);
    received_apply(rec, f, op);
    count_taken(comm_world_rank(op->comm, op->status.source));
    return mrecv_done(call, v, op);
}

int hand_mrecv(enum call call, const uint64_t *v)
{
    MPI_Message *id = (MPI_Message *)v[3];
    struct message *m = message_of(id);
    uint64_t args[6];
    if (*id == MPI_MESSAGE_NO_PROC) {
        message_end(id);
        status_put((MPI_Status *)v[4], &status_no_proc);
        return MPI_SUCCESS;
    }
    if (!m)
        return error_return(call, v, MPI_ERR_REQUEST);
    matched_arguments(v, m, args);
    struct request op = p2p_operation(REQUEST_RECV, args);
    if (replaying())
        return mrecv_replay(call, v, &op);
    struct request *r = p2p_request(REQUEST_RECV, p2p_twin(call), args, 0, 0);
    int rc = matched_start(p2p_twin(call), v, m, r);
    if (rc)
        return p2p_refused(call, v, rc);
    enum settle s = request_wait(r);
    op.status = r->status;
    request_delete(r);
    return s == SETTLE_REPLAY ? mrecv_replay(call, v, &op) : mrecv_done(call, v, &op);
}

/* A request that is complete from the start, for MPI_MESSAGE_NO_PROC. */
static int imrecv_no_proc(enum call call, const uint64_t *v, int want)
{
    uint64_t args[] = {v[0],          v[1], v[2], (uint64_t)MPI_PROC_NULL, (uint64_t)MPI_ANY_TAG,
                       MPI_COMM_WORLD};
    struct request *r = p2p_request(REQUEST_RECV, call, args, 0, want);
    request_settle(r, &status_no_proc);
    return r->head.id;
}

static int imrecv_replay(enum call call, const uint64_t *v, const uint64_t *args)
{
    const struct log_record *rec = replay_next(call);
    int rc = replay_rc(rec), id;
    if (rc)
        return error_return(call, v, rc);
    id = (int)log_field_int(replay_field(rec, 4, LOG_ROLE_REQUEST));
    if (*(MPI_Message *)v[3] == MPI_MESSAGE_NO_PROC)
        imrecv_no_proc(call, v, id);
    else
        p2p_request(REQUEST_RECV, call, args, 0, id);
    *(MPI_Request *)v[4] = id;
    message_end((MPI_Message *)v[3]);
    return MPI_SUCCESS;
}

int hand_imrecv(enum call call, const uint64_t *v)
{
    MPI_Message *id = (MPI_Message *)v[3];
    struct message *m = message_of(id);
    uint64_t args[6] = {0};
    int request, rc;
    if (!m && *id != MPI_MESSAGE_NO_PROC)
        return error_return(call, v, MPI_ERR_REQUEST);
    if (m)
        matched_arguments(v, m, args);
    if (replaying())
        return imrecv_replay(call, v, args);
    if (m) {
        struct request *r = p2p_request(REQUEST_RECV, call, args, 0, 0);
        request = r->head.id;
        rc = matched_start(call, v, m, r);
        if (rc)
            return p2p_refused(call, v, rc);
    } else {
        request = imrecv_no_proc(call, v, 0);
    }
    if (recording()) {
        record_begin(call, LOG_FIELD_ROOM(4));
        log_put_i32(&record_writer, 4, LOG_ROLE_REQUEST, request);
        record_end(MPI_SUCCESS);
    }
    *(MPI_Request *)v[4] = request;
    message_end(id);
    return MPI_SUCCESS;
}
