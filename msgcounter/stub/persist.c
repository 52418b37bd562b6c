/*
 * persist.c - buffered sends, Isendrecv and persistent requests: what the stub does in MPI's place
 *
 * A buffered send is packed into memory of the stub and sent from there. The application's buffer
 * only says how much may be on its way: MPI_Buffer_detach in the lower half could neither be parked
 * nor survive a restart.
 *
 * A persistent send or receive is a description, and each start an ordinary non-blocking call.
 */
#include "msgcounter/stub/p2p.h"

#include "call_hand.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/complete.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/icoll.h"
#include "msgcounter/stub/order.h"
#include "msgcounter/stub/part.h"

/* ------------------------------------------------------------------------------ buffered sends */

static struct {
    void *address;
    int64_t size;
} attached;

const struct gate_status p2p_buffered_status = {.source = MPI_ANY_SOURCE, .tag = MPI_ANY_TAG};

static int send_copy(const uint64_t *v, int64_t bytes, bool bounded)
{
    void *copy = stub_alloc((size_t)bytes);
    datatype_pack(P2P_DATATYPE(v), P2P_COUNT(v), P2P_BUF(v), copy, bytes);
    uint64_t packed[6] = {(uint64_t)copy, (uint64_t)bytes, MPI_PACKED, v[3], v[4], v[5]}, real = 0;
    int rc = p2p_start(CALL_MPI_Isend_c, packed, &real);
    if (rc)
        stub_free(copy);
    else
        request_own(p2p_sent_request(CALL_MPI_Isend_c, packed, real, 0), bounded);
    return rc;
}

static int check_amount(const uint64_t *v)
{
    return P2P_COUNT(v) < 0 ? MPI_ERR_COUNT : p2p_bytes(v) < 0 ? MPI_ERR_TYPE : MPI_SUCCESS;
}

int p2p_send_buffered(const uint64_t *v)
{
    int64_t bytes = p2p_bytes(v);
    requests_sweep_buffered();
    int rc = check_amount(v);
    if (rc)
        return rc;
    if (P2P_PEER(v) != MPI_PROC_NULL &&
        !requests_make_room(bytes + MPI_BSEND_OVERHEAD, attached.size))
        return MPI_ERR_BUFFER;
    return send_copy(v, bytes, true);
}

int p2p_send_copy(const uint64_t *v)
{
    requests_sweep_buffered();
    int rc = check_amount(v);
    return rc ? rc : send_copy(v, p2p_bytes(v), false);
}

int hand_bsend(enum call call, const uint64_t *v)
{
    if (replaying())
        return p2p_replay_send(call, v);
    int rc = p2p_send_buffered(v);
    if (rc)
        return p2p_refused(call, v, rc);
    struct request op = p2p_operation(REQUEST_SEND, v);
    if (recording())
        p2p_record_start(call, &op);
    return p2p_send_done(&op);
}

int hand_ibsend(enum call call, const uint64_t *v)
{
    if (replaying())
        return p2p_replay_start(call, v, REQUEST_SEND);
    int rc = p2p_send_buffered(v);
    if (rc)
        return p2p_refused(call, v, rc);
    struct request *r = p2p_request(REQUEST_SEND, call, v, 0, 0);
    request_settle(r, &p2p_buffered_status);
    if (recording())
        p2p_record_start(call, r);
    *(MPI_Request *)v[6] = r->head.id;
    return MPI_SUCCESS;
}

int hand_buffer_attach(enum call call, const uint64_t *v)
{
    if (attached.address || (int64_t)v[1] < 0)
        return error_return(call, v, attached.address ? MPI_ERR_BUFFER : MPI_ERR_ARG);
    attached.address = (void *)v[0];
    attached.size = (int64_t)v[1];
    return MPI_SUCCESS;
}

int hand_buffer_detach(enum call call, const uint64_t *v)
{
    requests_flush_buffered();
    *(void **)v[0] = attached.address;
    if (call_table[call].flags & CALL_LARGE)
        *(MPI_Count *)v[1] = attached.size;
    else
        *(int *)v[1] = (int)attached.size;
    attached.address = NULL;
    attached.size = 0;
    return MPI_SUCCESS;
}

/* ----------------------------------------------------------------------------------- isendrecv */

/* One request stands for both: it is the receive's, and the message is sent from a copy, as a
 * standard send may be. */
struct both {
    uint64_t send[6], recv[6];
    enum call irecv;
    unsigned request; /* parameter */
};

static int replay_both(enum call call, const uint64_t *v, const struct both *b)
{
    const struct log_record *rec = replay_next(call);
    int rc = replay_rc(rec);
    if (rc)
        return error_return(call, v, rc);
    struct request send = p2p_operation(REQUEST_SEND, b->send);
    p2p_check_operation(rec, &send);
    int id = (int)log_field_int(replay_field(rec, (uint8_t)b->request, LOG_ROLE_REQUEST));
    p2p_request(REQUEST_RECV, b->irecv, b->recv, 0, id);
    count_started(send.world, 1);
    *(MPI_Request *)v[b->request] = id;
    return p2p_send_done(&send);
}

static int start_both(enum call call, const uint64_t *v, const struct both *b)
{
    int rc;
    if (replaying())
        return replay_both(call, v, b);
    struct request *recv = p2p_irecv(b->irecv, b->recv, &rc);
    if (!recv)
        return p2p_refused(call, v, rc);
    rc = p2p_send_copy(b->send);
    if (rc) {
        p2p_take_back(recv);
        return p2p_refused(call, v, rc);
    }
    struct request send = p2p_operation(REQUEST_SEND, b->send);
    if (recording()) {
        record_begin(call, 2 * P2P_OPERATION_ROOM + LOG_FIELD_ROOM(4));
        p2p_put_operation(&send);
        p2p_put_operation(recv);
        log_put_i32(&record_writer, (uint8_t)b->request, LOG_ROLE_REQUEST, recv->head.id);
        record_end(MPI_SUCCESS);
    }
    *(MPI_Request *)v[b->request] = recv->head.id;
    return p2p_send_done(&send);
}

int hand_isendrecv(enum call call, const uint64_t *v)
{
    struct both b = {.send = {v[0], v[1], v[2], v[3], v[4], v[10]},
                     .recv = {v[5], v[6], v[7], v[8], v[9], v[10]},
                     .irecv = call_table[call].flags & CALL_LARGE ? CALL_MPI_Irecv_c
                                                                  : CALL_MPI_Irecv,
                     .request = 11};
    return start_both(call, v, &b);
}

/* The receive must not come before the message has been copied. */
int hand_isendrecv_replace(enum call call, const uint64_t *v)
{
    int64_t bytes = p2p_bytes(v);
    void *copy = stub_alloc(bytes > 0 ? (size_t)bytes : 0);
    if (bytes > 0)
        datatype_pack(P2P_DATATYPE(v), P2P_COUNT(v), P2P_BUF(v), copy, bytes);
    struct both b = {.send = {(uint64_t)copy, (uint64_t)bytes, MPI_PACKED, v[3], v[4], v[7]},
                     .recv = {v[0], v[1], v[2], v[5], v[6], v[7]},
                     .irecv = call_table[call].flags & CALL_LARGE ? CALL_MPI_Irecv_c
                                                                  : CALL_MPI_Irecv,
                     .request = 8};
    int rc = start_both(call, v, &b);
    stub_free(copy);
    return rc;
}

/* ---------------------------------------------------------------------------------- persistent */

/* Lets MPI look at the arguments of a persistent request, which it then makes for nothing. */
static int check_init(enum call call, const uint64_t *v)
{
    uint64_t real = 0;
    int rc = p2p_start(call, v, &real);
    if (rc == MPI_SUCCESS)
        (void)mpi_cross(CALL_MPI_Request_free, (uint64_t)&real);
    return rc;
}

static int persistent_init(enum call call, const uint64_t *v, enum request_kind kind)
{
    int rc, id = 0;
    if (replaying()) {
        const struct log_record *rec = replay_next(call);
        rc = replay_rc(rec);
        if (!rc)
            id = (int)log_field_int(replay_field(rec, 6, LOG_ROLE_REQUEST));
    } else {
        rc = check_init(call, v);
    }
    if (rc)
        return replaying() ? error_return(call, v, rc) : p2p_refused(call, v, rc);
    struct request *r = p2p_request(kind, p2p_twin(call), v, 0, id);
    request_persist(r);
    if (recording()) {
        record_begin(call, LOG_FIELD_ROOM(4));
        log_put_i32(&record_writer, 6, LOG_ROLE_REQUEST, r->head.id);
        record_end(MPI_SUCCESS);
    }
    *(MPI_Request *)v[6] = r->head.id;
    return MPI_SUCCESS;
}

int hand_send_init(enum call call, const uint64_t *v)
{
    return persistent_init(call, v, REQUEST_SEND);
}

int hand_recv_init(enum call call, const uint64_t *v)
{
    return persistent_init(call, v, REQUEST_RECV);
}

/* A started persistent request as the arguments that started it. */
static void arguments_of(const struct request *r, uint64_t *v)
{
    const uint64_t args[] = {(uint64_t)r->buf,  (uint64_t)r->count, (uint64_t)r->datatype,
                             (uint64_t)r->peer, (uint64_t)r->tag,   (uint64_t)r->comm->head.id};
    for (int i = 0; i < 6; i++)
        v[i] = args[i];
}

static int start_recv(struct request *r)
{
    if (order_following)
        return p2p_start_recv(r);
    order_post_begin();
    int rc = p2p_start_recv(r);
    if (!rc)
        order_posted(r);
    order_post_end();
    return rc;
}

static int start_send(struct request *r)
{
    uint64_t v[6];
    int rc;
    if (call_table[r->start].base == CALL_MPI_Ibsend) {
        arguments_of(r, v);
        rc = p2p_send_buffered(v);
        if (!rc)
            request_settle(r, &p2p_buffered_status);
        return rc;
    }
    rc = p2p_start_real(r);
    if (!rc)
        count_started(r->world, 1);
    return rc;
}

/* In the log a start is an event like that of the non-blocking call, under the name of Start. */
static int start_persistent(enum call call, MPI_Request id)
{
    struct request *r = request_of(id);
    const struct log_record *rec = NULL;
    int rc;
    if (!r || !r->persistent || r->state != REQUEST_INACTIVE)
        return error_return_comm(call, NULL, MPI_ERR_REQUEST);
    if (r->coll) {
        rc = icoll_start(call, r);
        if (rc)
            request_persist(r);
        return rc ? error_return_comm(call, r->comm, rc) : MPI_SUCCESS;
    }
    if (r->kind == REQUEST_OTHER) {
        rc = part_start(call, r);
        return rc ? error_return_comm(call, r->comm, rc) : MPI_SUCCESS;
    }
    request_activate(r);
    if (replaying()) {
        rec = replay_next(call);
        rc = replay_rc(rec);
        if (!rc)
            p2p_check_operation(rec, r);
    } else {
        rc = r->kind == REQUEST_SEND ? start_send(r) : start_recv(r);
        if (recording() && !rc)
            p2p_record_start(call, r);
    }
    if (rc)
        request_persist(r);
    if (rc && recording()) {
        record_begin(call, 0);
        record_end(rc);
    }
    return rc ? error_return_comm(call, NULL, rc) : MPI_SUCCESS;
}

int hand_start(enum call call, const uint64_t *v)
{
    return start_persistent(call, *(MPI_Request *)v[0]);
}

int hand_startall(enum call call, const uint64_t *v)
{
    for (int i = 0; i < (int)v[0]; i++) {
        int rc = start_persistent(call, ((MPI_Request *)v[1])[i]);
        if (rc)
            return rc;
    }
    return MPI_SUCCESS;
}
