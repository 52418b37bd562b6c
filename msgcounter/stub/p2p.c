/*
 * p2p.c - sends and receives
 *
 * A blocking call is one crossing to a loop in the lower half that starts the operation and tests
 * it (runtime/half/p2p_loops.c). If the loop comes back early the operation becomes a request of
 * the table, as if the application had started it without blocking, and is waited for like one: the
 * call may then be continued in another process, and even in another mode.
 *
 * Receives look at the drained messages first: they arrived before what the lower half has.
 */
#include "msgcounter/stub/p2p.h"

#include "call_hand.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/attr.h"
#include "msgcounter/stub/complete.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/order.h"
#include "msgcounter/stub/post.h"

static const uint16_t twins[CALL_COUNT] = {
    [CALL_MPI_Send] = CALL_MPI_Isend,           [CALL_MPI_Send_c] = CALL_MPI_Isend_c,
    [CALL_MPI_Ssend] = CALL_MPI_Issend,         [CALL_MPI_Ssend_c] = CALL_MPI_Issend_c,
    [CALL_MPI_Rsend] = CALL_MPI_Irsend,         [CALL_MPI_Rsend_c] = CALL_MPI_Irsend_c,
    [CALL_MPI_Recv] = CALL_MPI_Irecv,           [CALL_MPI_Recv_c] = CALL_MPI_Irecv_c,
    [CALL_MPI_Send_init] = CALL_MPI_Isend,      [CALL_MPI_Send_init_c] = CALL_MPI_Isend_c,
    [CALL_MPI_Ssend_init] = CALL_MPI_Issend,    [CALL_MPI_Ssend_init_c] = CALL_MPI_Issend_c,
    [CALL_MPI_Rsend_init] = CALL_MPI_Irsend,    [CALL_MPI_Rsend_init_c] = CALL_MPI_Irsend_c,
    [CALL_MPI_Bsend_init] = CALL_MPI_Ibsend,    [CALL_MPI_Bsend_init_c] = CALL_MPI_Ibsend_c,
    [CALL_MPI_Recv_init] = CALL_MPI_Irecv,      [CALL_MPI_Recv_init_c] = CALL_MPI_Irecv_c,
    [CALL_MPI_Mrecv] = CALL_MPI_Imrecv,         [CALL_MPI_Mrecv_c] = CALL_MPI_Imrecv_c,
};

enum call p2p_twin(enum call call)
{
    return (enum call)twins[call];
}

int p2p_refused(enum call call, const uint64_t *v, int rc)
{
    if (recording()) {
        record_begin(call, 0);
        record_end(rc);
    }
    return error_return(call, v, rc);
}

/* ---------------------------------------------------------------------------------- operations */

struct request p2p_operation(enum request_kind kind, const uint64_t *v)
{
    struct request r = {.kind = (uint8_t)kind,
                        .buf = P2P_BUF(v),
                        .count = P2P_COUNT(v),
                        .datatype = P2P_DATATYPE(v),
                        .comm = comm_of(P2P_COMM(v)),
                        .peer = P2P_PEER(v),
                        .tag = P2P_TAG(v),
                        .bytes = p2p_bytes(v)};
    r.world = r.comm ? comm_world_rank(r.comm, r.peer) : -1;
    return r;
}

struct request *p2p_request(enum request_kind kind, enum call start, const uint64_t *v,
                            uint64_t real, int want)
{
    struct request *r = request_new(kind, start, want);
    r->head.real = real;
    r->bytes = p2p_bytes(v);
    request_describe(r, P2P_BUF(v), P2P_COUNT(v), P2P_DATATYPE(v), P2P_PEER(v), P2P_TAG(v),
                     comm_of(P2P_COMM(v)));
    return r;
}

struct request *p2p_sent_request(enum call start, const uint64_t *v, uint64_t real, int want)
{
    struct request *r = p2p_request(REQUEST_SEND, start, v, real, want);
    count_started(r->world, 1);
    return r;
}

uint64_t p2p_real_comm(const struct comm *c)
{
    if (c == &comm_world)
        return MPI_COMM_WORLD;
    return c == &comm_self ? MPI_COMM_SELF : c->head.real;
}

uint64_t p2p_real_datatype(const struct request *r)
{
    return (uint64_t)(r->type ? datatype_make_real(r->type) : r->datatype);
}

/* Fills in the operation as the lower half gets it. In place, field by field: a copy right after
 * would wait for the store buffer. */
static inline void down(struct gate_operation *op, enum call start, const uint64_t *v,
                        uint64_t *real)
{
    op->buf = P2P_BUF(v);
    op->count = P2P_COUNT(v);
    op->datatype = datatype_real(P2P_DATATYPE(v));
    op->peer = P2P_PEER(v);
    op->tag = P2P_TAG(v);
    op->comm = comm_real(P2P_COMM(v));
    op->start = start;
    op->real_request = real;
}

int p2p_start(enum call start, const uint64_t *v, uint64_t *real)
{
    return mpi_cross(start, v[0], v[1], (uint64_t)datatype_real(P2P_DATATYPE(v)), v[3], v[4],
                     (uint64_t)comm_real(P2P_COMM(v)), (uint64_t)real);
}

/* A receive that was cancelled in batch, and so shall be matched by nobody meanwhile. */
static int start_for_nobody(struct request *r)
{
    return mpi_cross(r->start, (uint64_t)r->buf, (uint64_t)r->count, p2p_real_datatype(r), 0,
                     (uint64_t)attr_predefined.value[0], MPI_COMM_SELF, (uint64_t)&r->head.real);
}

int p2p_start_real(struct request *r)
{
    if (r->kind == REQUEST_RECV && r->from == ORDER_FROM_NOBODY)
        return start_for_nobody(r);
    return mpi_cross(r->start, (uint64_t)r->buf, (uint64_t)r->count, p2p_real_datatype(r),
                     (uint64_t)(r->kind == REQUEST_RECV ? r->from : r->peer), (uint64_t)r->tag,
                     p2p_real_comm(r->comm),
                     (uint64_t)&r->head.real);
}

/* ----------------------------------------------------------------------- operations in the log */

static uint32_t gid_of(const struct request *r)
{
    return r->comm ? (uint32_t)r->comm->gid : 0;
}

static uint64_t digest_of(const struct request *r)
{
    return layout_digest(request_layout(r), r->count, r->buf);
}

void p2p_put_operation(const struct request *r)
{
    log_put_envelope(&record_writer, r->peer, r->tag, gid_of(r));
    if (r->kind == REQUEST_SEND)
        log_put_digest(&record_writer, 0, digest_of(r), (uint64_t)r->bytes);
}

void p2p_check_operation(const struct log_record *rec, const struct request *r)
{
    replay_check_envelope(rec, r->peer, r->tag, gid_of(r));
    if (r->kind == REQUEST_SEND)
        replay_check_digest(rec, 0, digest_of(r), (uint64_t)r->bytes);
}

void p2p_record_start(enum call call, const struct request *r)
{
    record_begin(call, P2P_OPERATION_ROOM + LOG_FIELD_ROOM(4));
    p2p_put_operation(r);
    if (r->head.id)
        log_put_i32(&record_writer, 6, LOG_ROLE_REQUEST, r->head.id);
    record_end(MPI_SUCCESS);
}

int p2p_replay_start(enum call call, const uint64_t *v, enum request_kind kind)
{
    const struct log_record *rec = replay_next(call);
    int rc = replay_rc(rec);
    if (rc)
        return error_return(call, v, rc);
    struct request op = p2p_operation(kind, v);
    p2p_check_operation(rec, &op);
    int id = (int)log_field_int(replay_field(rec, 6, LOG_ROLE_REQUEST));
    if (kind == REQUEST_SEND)
        p2p_sent_request(call, v, 0, id);
    else
        p2p_request(kind, call, v, 0, id);
    *(MPI_Request *)v[6] = id;
    return MPI_SUCCESS;
}

/* ---------------------------------------------------------------------------- drained messages */

struct match_queue p2p_drained = {.alloc = stub_alloc, .free = stub_free};

static struct stub_lock drained_lock;

static struct match_message *drained(const struct comm *c, int source, int tag, bool take)
{
    if (__builtin_expect(p2p_drained.count == 0, 1) || !c)
        return NULL;
    stub_lock(&drained_lock);
    struct match_message *m = take ? match_take(&p2p_drained, c->gid, source, tag)
                                   : match_find(&p2p_drained, c->gid, source, tag);
    stub_unlock(&drained_lock);
    return m;
}

struct match_message *p2p_take_drained(const struct comm *c, int source, int tag)
{
    return drained(c, source, tag, true);
}

struct match_message *p2p_find_drained(const struct comm *c, int source, int tag)
{
    return drained(c, source, tag, false);
}

void p2p_receive_drained(struct request *r, struct match_message *m)
{
    struct layout *l = request_layout(r);
    int64_t room = layout_packed_size(l, r->count);
    int64_t bytes = m->bytes < room ? m->bytes : room;
    struct gate_status st = {.source = m->source, .tag = m->tag, .bytes = bytes};
    if (m->bytes > room)
        st.error = MPI_ERR_TRUNCATE;
    layout_unpack(l, r->count, r->buf, m->data, (size_t)bytes);
    request_settle(r, &st);
    match_free(&p2p_drained, m);
}

int p2p_start_recv(struct request *r)
{
    bool follows = order_following && r->peer == MPI_ANY_SOURCE;
    if (follows)
        r->from = order_source(r->comm, r->peer);
    struct match_message *m = p2p_take_drained(r->comm, r->from, r->tag);
    int rc = MPI_SUCCESS;
    if (m)
        p2p_receive_drained(r, m);
    else
        rc = p2p_start_real(r);
    if (follows)
        order_source_taken();
    return rc;
}

/* -------------------------------------------------------------------------------- non-blocking */

/* Whether a send was to this rank itself and has met its receive in the upper half. */
static inline bool delivered(const uint64_t *v)
{
    if (__builtin_expect(stub_posts.n == 0, 1))
        return false;
    const struct comm *c = comm_of(P2P_COMM(v));
    return c && post_deliver(c, v);
}

int hand_isend(enum call call, const uint64_t *v)
{
    if (__builtin_expect(replaying(), 0))
        return p2p_replay_start(call, v, REQUEST_SEND);
    uint64_t real = 0;
    int rc = GATE_COMPLETED;
    if (!delivered(v)) {
        struct gate_operation op;
        down(&op, call, v, &real);
        rc = (int)cross(GATE->isend, (uint64_t)&op);
    }
    if (rc != MPI_SUCCESS && rc != GATE_COMPLETED)
        return p2p_refused(call, v, rc);
    struct request *r = p2p_sent_request(call, v, real, 0);
    if (rc == GATE_COMPLETED)
        request_settle(r, &status_sent);
    if (__builtin_expect(recording(), 0))
        p2p_record_start(call, r);
    *(MPI_Request *)v[6] = r->head.id;
    return MPI_SUCCESS;
}

/* A receive from any source that shall have the source that it had in batch. NULL if MPI refuses
 * it. */
static struct request *ordered_request(enum call start, const uint64_t *v)
{
    const struct comm *c = comm_of(P2P_COMM(v));
    int source = order_source(c, P2P_PEER(v));
    bool nobody = source == ORDER_FROM_NOBODY;
    uint64_t real = 0, w[] = {v[0], v[1], v[2], (uint64_t)source, v[4], v[5]};
    struct match_message *m = p2p_take_drained(c, source, P2P_TAG(v));
    if (!m && !nobody && p2p_start(start, w, &real)) {
        order_source_back();
        return NULL;
    }
    struct request *r = p2p_request(REQUEST_RECV, start, v, real, 0);
    r->from = source;
    if (m)
        p2p_receive_drained(r, m);
    else if (nobody)
        start_for_nobody(r);
    order_source_taken();
    return r;
}

/* A receive from any source of one of several threads. NULL if MPI refuses it. */
static struct request *kept_request(enum call start, const uint64_t *v)
{
    uint64_t real = 0;
    struct request *r = NULL;
    order_post_begin();
    struct match_message *m = p2p_take_drained(comm_of(P2P_COMM(v)), P2P_PEER(v), P2P_TAG(v));
    if (m || !p2p_start(start, v, &real)) {
        r = p2p_request(REQUEST_RECV, start, v, real, 0);
        if (m)
            p2p_receive_drained(r, m);
        order_posted(r);
    }
    order_post_end();
    return r;
}

/* A receive that does not go the usual way: one that a drained message settles, or one that follows
 * the order of batch. Else NULL. */
static struct request *special_request(enum call start, const uint64_t *v)
{
    if (__builtin_expect(p2p_drained.count == 0 && !order_following && !stub_threads_multiple, 1))
        return NULL;
    if (P2P_PEER(v) == MPI_ANY_SOURCE && comm_of(P2P_COMM(v))) {
        if (order_following)
            return ordered_request(start, v);
        if (stub_threads_multiple)
            return kept_request(start, v);
    }
    struct match_message *m = p2p_take_drained(comm_of(P2P_COMM(v)), P2P_PEER(v), P2P_TAG(v));
    if (!m)
        return NULL;
    struct request *r = p2p_request(REQUEST_RECV, start, v, 0, 0);
    p2p_receive_drained(r, m);
    order_posted(r);
    return r;
}

int hand_irecv(enum call call, const uint64_t *v)
{
    if (__builtin_expect(replaying(), 0))
        return p2p_replay_start(call, v, REQUEST_RECV);
    struct request *r = special_request(call, v);
    if (!r && post_allowed(v)) {
        r = p2p_request(REQUEST_RECV, call, v, 0, 0);
        down(post_later(), call, v, &r->head.real);
        order_posted(r);
    } else if (!r) {
        uint64_t real = 0;
        int rc = p2p_start(call, v, &real);
        if (rc)
            return p2p_refused(call, v, rc);
        r = p2p_request(REQUEST_RECV, call, v, real, 0);
        order_posted(r);
    }
    if (__builtin_expect(recording(), 0))
        p2p_record_start(call, r);
    *(MPI_Request *)v[6] = r->head.id;
    return MPI_SUCCESS;
}

/* ------------------------------------------------------------------------------------ blocking */

int p2p_send_done(const struct request *op)
{
    if (__builtin_expect(op->peer != MPI_PROC_NULL, 1))
        count_send(op->world, op->bytes);
    return MPI_SUCCESS;
}

int p2p_replay_send(enum call call, const uint64_t *v)
{
    const struct log_record *rec = replay_next(call);
    int rc = replay_rc(rec);
    if (rc)
        return error_return(call, v, rc);
    struct request op = p2p_operation(REQUEST_SEND, v);
    p2p_check_operation(rec, &op);
    count_started(op.world, 1);
    return p2p_send_done(&op);
}

/* A blocking send that was started and not finished by the loop in the lower half. */
static int send_slowly(enum call call, const uint64_t *v, uint64_t real)
{
    struct request op = p2p_operation(REQUEST_SEND, v);
    struct request *r = p2p_sent_request(p2p_twin(call), v, real, 0);
    if (request_wait(r) == SETTLE_REPLAY) {
        count_started(r->world, -1);
        request_delete(r);
        return p2p_replay_send(call, v);
    }
    int rc = r->status.error;
    request_delete(r);
    if (rc)
        return p2p_refused(call, v, rc);
    if (recording())
        p2p_record_start(call, &op);
    return p2p_send_done(&op);
}

int hand_send(enum call call, const uint64_t *v)
{
    if (__builtin_expect(replaying(), 0))
        return p2p_replay_send(call, v);
    const struct comm *c = comm_of(P2P_COMM(v));
    int world = c ? comm_world_rank(c, P2P_PEER(v)) : -1;
    uint64_t real = 0;
    count_waiting(world);
    int rc = MPI_SUCCESS;
    if (!delivered(v)) {
        struct gate_operation op;
        down(&op, p2p_twin(call), v, &real);
        rc = (int)cross(GATE->send, (uint64_t)&op);
    }
    if (rc == GATE_EAGAIN) {
        rc = send_slowly(call, v, real);
    } else if (rc) {
        rc = p2p_refused(call, v, rc);
    } else {
        count_started(world, 1);
        if (__builtin_expect(P2P_PEER(v) != MPI_PROC_NULL, 1))
            count_send(world, p2p_bytes(v));
        if (__builtin_expect(recording(), 0)) {
            struct request op = p2p_operation(REQUEST_SEND, v);
            p2p_record_start(call, &op);
        }
    }
    count_waited();
    return rc;
}

/* The end of a receive whose message has been counted as taken: op->status says what came. */
static int recv_done(enum call call, const uint64_t *v, const struct request *op)
{
    const struct gate_status *st = &op->status;
    if (__builtin_expect(recording(), 0)) {
        record_begin(call, P2P_ENVELOPE_ROOM + received_room(op));
        p2p_put_operation(op);
        received_record(op, 6, 0);
        record_end(st->error);
    }
    if (__builtin_expect(op->peer != MPI_PROC_NULL, 1))
        count_recv(comm_world_rank(op->comm, st->source), st->bytes);
    status_put((MPI_Status *)v[6], st);
    return st->error ? error_return(call, v, st->error) : MPI_SUCCESS;
}

static int replay_recv(enum call call, const uint64_t *v)
{
    const struct log_record *rec = replay_next(call);
    const struct log_field *f = log_field_find(rec, NULL, 6, LOG_ROLE_STATUS);
    if (!f)
        return error_return(call, v, replay_rc(rec));
    struct request op = p2p_operation(REQUEST_RECV, v);
    p2p_check_operation(rec, &op);
    received_apply(rec, f, &op);
    count_taken(comm_world_rank(op.comm, op.status.source));
    return recv_done(call, v, &op);
}

/* A blocking receive as a request: one that the loop in the lower half has not finished, or a
 * special one. */
static int recv_slowly(enum call call, const uint64_t *v, struct request *r)
{
    if (request_wait(r) == SETTLE_REPLAY) {
        request_delete(r);
        return replay_recv(call, v);
    }
    struct request op = p2p_operation(REQUEST_RECV, v);
    op.status = r->status;
    request_delete(r);
    return recv_done(call, v, &op);
}

/* The end of a receive that the loop in the lower half has finished. */
static inline int recv_now(enum call call, const uint64_t *v, const struct comm *c,
                           const struct gate_status *st)
{
    int world = comm_world_rank(c, st->source);
    order_matched(c, P2P_PEER(v), st->source);
    bool plain = GATE->mode == GATE_LIVE && !st->error && P2P_PEER(v) != MPI_PROC_NULL;
    if (__builtin_expect(plain, 1)) {
        count_taken(world);
        count_recv(world, st->bytes);
        status_put((MPI_Status *)v[6], st);
        return MPI_SUCCESS;
    }
    struct request op = p2p_operation(REQUEST_RECV, v);
    bool nobody = P2P_PEER(v) == MPI_PROC_NULL;
    op.status = nobody ? status_no_proc : *st;
    if (!nobody)
        count_taken(world);
    return recv_done(call, v, &op);
}

int hand_recv(enum call call, const uint64_t *v)
{
    if (__builtin_expect(replaying(), 0))
        return replay_recv(call, v);
    struct request *r = special_request(p2p_twin(call), v);
    if (__builtin_expect(r != NULL, 0))
        return recv_slowly(call, v, r);
    const struct comm *c = comm_of(P2P_COMM(v));
    struct gate_status st = {.error = GATE_PENDING};
    uint64_t real = 0;
    count_waiting(c ? comm_world_rank(c, P2P_PEER(v)) : -1);
    struct gate_operation op;
    down(&op, p2p_twin(call), v, &real);
    int rc = (int)cross(GATE->recv, (uint64_t)&op, (uint64_t)&st);
    if (rc == GATE_EAGAIN) {
        r = p2p_request(REQUEST_RECV, p2p_twin(call), v, real, 0);
        order_posted(r);
        rc = recv_slowly(call, v, r);
    } else if (st.error == GATE_PENDING) {
        rc = p2p_refused(call, v, rc);
    } else {
        rc = recv_now(call, v, c, &st);
    }
    count_waited();
    return rc;
}

/* ------------------------------------------------------------------------------------ sendrecv */

/* The two halves of a Sendrecv as arguments of a send and of a receive. */
struct exchange {
    enum call isend, irecv;
    uint64_t send[6], recv[6];
    MPI_Status *status;
    uint8_t data_param, status_param;
};

static int exchange_done(enum call call, const uint64_t *v, const struct exchange *x,
                         const struct request *send, const struct request *recv)
{
    const struct gate_status *st = &recv->status;
    if (recording()) {
        record_begin(call, P2P_OPERATION_ROOM + P2P_ENVELOPE_ROOM + received_room(recv));
        p2p_put_operation(send);
        p2p_put_operation(recv);
        received_record(recv, x->status_param, x->data_param);
        record_end(st->error);
    }
    p2p_send_done(send);
    if (recv->peer != MPI_PROC_NULL)
        count_recv(comm_world_rank(recv->comm, st->source), st->bytes);
    status_put(x->status, st);
    return st->error ? error_return(call, v, st->error) : MPI_SUCCESS;
}

static int replay_exchange(enum call call, const uint64_t *v, const struct exchange *x)
{
    const struct log_record *rec = replay_next(call);
    const struct log_field *f = log_field_find(rec, NULL, x->status_param, LOG_ROLE_STATUS);
    if (!f)
        return error_return(call, v, replay_rc(rec));
    struct request send = p2p_operation(REQUEST_SEND, x->send),
                   recv = p2p_operation(REQUEST_RECV, x->recv);
    p2p_check_operation(rec, &send);
    received_apply(rec, f, &recv);
    count_started(send.world, 1);
    if (recv.peer != MPI_PROC_NULL)
        count_taken(comm_world_rank(recv.comm, recv.status.source));
    return exchange_done(call, v, x, &send, &recv);
}

void p2p_take_back(struct request *recv)
{
    if (recv->state == REQUEST_PENDING) {
        int real = (int)request_real(recv);
        (void)mpi_cross(CALL_MPI_Cancel, (uint64_t)&real);
        request_abandon(recv);
    } else {
        request_delete(recv);
    }
}

struct request *p2p_irecv(enum call start, const uint64_t *v, int *rc)
{
    struct request *recv = special_request(start, v);
    uint64_t real = 0;
    *rc = recv ? MPI_SUCCESS : p2p_start(start, v, &real);
    if (recv || *rc)
        return recv;
    recv = p2p_request(REQUEST_RECV, start, v, real, 0);
    order_posted(recv);
    return recv;
}

static int exchange(enum call call, const uint64_t *v, const struct exchange *x)
{
    uint64_t real = 0;
    int rc;
    if (replaying())
        return replay_exchange(call, v, x);
    struct request *recv = p2p_irecv(x->irecv, x->recv, &rc);
    if (!recv)
        return p2p_refused(call, v, rc);
    rc = p2p_start(x->isend, x->send, &real);
    if (rc) {
        p2p_take_back(recv);
        return p2p_refused(call, v, rc);
    }
    struct request *send = p2p_sent_request(x->isend, x->send, real, 0);
    struct request *both[] = {recv, send};
    struct request send_op = p2p_operation(REQUEST_SEND, x->send),
                   recv_op = p2p_operation(REQUEST_RECV, x->recv);
    enum settle s = requests_settle(GATE_COMPLETE_ALL | GATE_COMPLETE_WAIT, 2, both);
    recv_op.status = recv_op.peer == MPI_PROC_NULL ? status_no_proc : recv->status;
    request_delete(send);
    request_delete(recv);
    if (s != SETTLE_REPLAY)
        return exchange_done(call, v, x, &send_op, &recv_op);
    count_started(send_op.world, -1);
    return replay_exchange(call, v, x);
}

int hand_sendrecv(enum call call, const uint64_t *v)
{
    bool large = call_table[call].flags & CALL_LARGE;
    struct exchange x = {
        .isend = large ? CALL_MPI_Isend_c : CALL_MPI_Isend,
        .irecv = large ? CALL_MPI_Irecv_c : CALL_MPI_Irecv,
        .send = {v[0], v[1], v[2], v[3], v[4], v[10]},
        .recv = {v[5], v[6], v[7], v[8], v[9], v[10]},
        .status = (MPI_Status *)v[11],
        .data_param = 5,
        .status_param = 11,
    };
    return exchange(call, v, &x);
}

/* The message is sent from a packed copy, as MPICH does. */
int hand_sendrecv_replace(enum call call, const uint64_t *v)
{
    bool large = call_table[call].flags & CALL_LARGE;
    int64_t bytes = p2p_bytes(v);
    void *copy = stub_alloc(bytes > 0 ? (size_t)bytes : 0);
    if (bytes > 0)
        datatype_pack(P2P_DATATYPE(v), P2P_COUNT(v), P2P_BUF(v), copy, bytes);
    struct exchange x = {
        .isend = CALL_MPI_Isend_c,
        .irecv = large ? CALL_MPI_Irecv_c : CALL_MPI_Irecv,
        .send = {(uint64_t)copy, (uint64_t)bytes, MPI_PACKED, v[3], v[4], v[7]},
        .recv = {v[0], v[1], v[2], v[5], v[6], v[7]},
        .status = (MPI_Status *)v[8],
        .data_param = 0,
        .status_param = 8,
    };
    int rc = exchange(call, v, &x);
    stub_free(copy);
    return rc;
}
