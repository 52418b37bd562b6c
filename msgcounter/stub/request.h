/*
 * request.h - virtual requests
 *
 * The application's MPI_Request is an id of ours. Behind it stands a struct request in memory that
 * checkpoints save, with all that is needed to finish or to repeat the operation over another MPI
 * library:
 *
 *        start             lower half, drain or          delivered to the application
 *     ----------> PENDING -----------------> COMPLETE ------------------> gone, or INACTIVE if
 *     persistent
 *                 has a real request          has none
 *
 * A request is settled (PENDING to COMPLETE) when MPI or the queue of drained messages has finished
 * it, which may be before the application asks: during a drain, or beside another request that it
 * waited for.
 *
 * Persistent sends and receives have no persistent twin in the lower half: each start makes an
 * ordinary real request, so that an inactive one needs nothing at restart.
 *
 * Requests live in an array beside the handle table's and never move; free ones are chained. Each
 * knows when it was started: a restart posts pending receives again in that order.
 *
 * What every send and receive goes through is inline here. A copy of a whole gate_status right
 * after the lower half has written its fields would wait for the store buffer: fields are read one
 * by one.
 */
#ifndef DBG3_STUB_REQUEST_H
#define DBG3_STUB_REQUEST_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/handle.h"
#include "runtime/half/gate.h"

enum request_kind {
    REQUEST_SEND,
    REQUEST_RECV,
    REQUEST_GENERAL, /* generalized: the application's own (grequest.h) */
    REQUEST_OTHER, /* whatever else MPI makes requests for: known by its real request only */
};

enum request_state { REQUEST_INACTIVE, REQUEST_PENDING, REQUEST_COMPLETE };

struct request {
    /* real: 0 unless pending; an inactive REQUEST_OTHER keeps it. id: the slot's for good */
    struct object head;
    uint8_t kind;       /* enum request_kind */
    uint8_t state;      /* enum request_state */
    bool persistent;
    bool orphan;    /* the application has freed it while it was pending */
    /* of a buffered send: buf is ours and goes with the request; nobody waits for it */
    bool owned;
    bool bounded; /* owned, and counts in request_buffered */
    /* enum call that starts it: Isend, Irecv_c, ...; for OTHER the call that made it */
    uint16_t start;

    /* The operation, as the application gave it. */
    void *buf;
    int64_t count;
    struct comm *comm;     /* referenced; NULL for some REQUEST_OTHER */
    struct datatype *type; /* referenced; NULL if predefined */
    MPI_Datatype datatype; /* id, which the application may free: then `type` counts */
    int peer, tag;
    int from;       /* of a receive: what the lower half gets for peer (order.h) */
    int world;      /* world rank of peer, -1 if it has none */
    uint32_t outcome; /* place of its source in the order log, 0: none */
    int64_t bytes;  /* of a send */
    uint64_t order; /* of the start among all of this rank */

    struct icoll *coll;        /* of a collective: what it keeps (icoll.h) */
    struct part *part;         /* of a partitioned operation: what it keeps (part.h) */
    struct gate_status status; /* valid when COMPLETE */
    struct handle_slot *slot;
    struct request *next; /* free ones */
};

/* How many requests are orphans or owned: nobody will wait for them. */
extern unsigned request_nleft;

/* How many of these are owned. */
extern unsigned request_nowned;

/* Room that owned requests take in the application's buffer for buffered sends (MPI 4.0 §3.6.1). */
extern int64_t request_buffered;

/* How many receives are pending; not kept up while several threads are in MPI at once. */
extern unsigned request_nreceiving;

extern struct request *request_free_list;
extern uint64_t request_order;

static inline void request_set_state(struct request *r, enum request_state state)
{
    if (r->kind == REQUEST_RECV)
        request_nreceiving += (state == REQUEST_PENDING) - (r->state == REQUEST_PENDING);
    r->state = (uint8_t)state;
}

/* With the table's lock, with more slots, or with a given id. */
struct request *request_take_slowly(int want);
void request_put_back_slowly(struct request *r);
/* Drops references and, if owned, the buffer. */
void request_release(struct request *r);

/* A new pending request with an id. In replay `want` is the recorded id; else 0. */
static inline struct request *request_new(enum request_kind kind, enum call start, int want)
{
    struct request *r = request_free_list;
    if (__builtin_expect(!r || want || stub_threads_multiple, 0)) {
        r = request_take_slowly(want);
    } else {
        request_free_list = r->next;
        r->slot->object = &r->head;
    }
    r->head.real = 0;
    r->kind = (uint8_t)kind;
    request_set_state(r, REQUEST_PENDING);
    r->persistent = r->orphan = r->owned = false;
    r->start = (uint16_t)start;
    r->comm = NULL;
    r->type = NULL;
    r->coll = NULL;
    r->part = NULL;
    r->order = ++request_order;
    return r;
}

/* Ends a request: id, references and, if owned, the buffer. */
static inline void request_delete(struct request *r)
{
    if (r->type || r->orphan || r->owned || r->coll || r->part ||
        (r->comm && !r->comm->head.predefined))
        request_release(r);
    request_set_state(r, REQUEST_INACTIVE);
    if (__builtin_expect(stub_threads_multiple, 0)) {
        request_put_back_slowly(r);
        return;
    }
    r->slot->object = NULL;
    r->next = request_free_list;
    request_free_list = r;
}

/* Notes the operation; takes references on what may be freed before it ends. */
static inline void request_describe(struct request *r, const void *buf, int64_t n,
                                    MPI_Datatype datatype, int peer, int tag, struct comm *comm)
{
    r->buf = (void *)buf;
    r->count = n;
    r->datatype = datatype;
    r->peer = r->from = peer;
    r->tag = tag;
    r->outcome = 0;
    r->comm = comm;
    r->world = comm_world_rank(comm, peer);
    if (!comm->head.predefined)
        object_get(&comm->head);
    if (handle_is_ours(HANDLE_DATATYPE, datatype)) {
        r->type = (struct datatype *)handle_object(HANDLE_DATATYPE, datatype);
        object_get(&r->type->head);
    }
}

/* Calls fn for each request that is not free, in order of ids; fn may end the one it is given. */
void request_each(void (*fn)(struct request *r, void *arg), void *arg);

/* `buf` (from stub_alloc, described already) is now the request's own; bounded: it takes room in
 * the application's buffer. */
void request_own(struct request *r, bool bounded);

/* At the start of a replay: no message is sent from those that the image has, and the recording may
 * have given their ids away. */
void requests_drop_owned(void);

/* The application has freed a pending request. */
void request_abandon(struct request *r);

/* A new request is persistent and starts its life inactive. */
void request_persist(struct request *r);

/* An inactive persistent request is pending again. */
void request_activate(struct request *r);

/* PENDING to COMPLETE with this status. */
void request_settle(struct request *r, const struct gate_status *status);

/* The same for what the lower half has completed: counts what has arrived or will never leave. */
void request_settle_real(struct request *r, const struct gate_status *status);

/* What the application gets to see of it: the end of a request that is COMPLETE. Counts the
 * message. */
void request_deliver(struct request *r);

static inline struct request *request_of(MPI_Request id)
{
    return (struct request *)handle_object(HANDLE_REQUEST, id);
}

/* A new request of kind OTHER: `want` as in request_new, real 0 in replay. */
struct request *request_of_call(enum call call, struct comm *comm, uint64_t real, int want);

/* For the interpreter: the id of a request that a call has made (MPI_REQUEST_NULL and the like
 * pass). `call` tells persistent ones from others. */
MPI_Request request_adopt(enum call call, struct comm *comm, MPI_Request real);

/* Layout of the request's datatype, for packing; borrowed. */
struct layout *request_layout(const struct request *r);

/* After a restart, when communicators and datatypes are there again: posts pending receives in
 * the order in which they were posted before. Returns 0 or -errno after printing one line.
 * [crosses] */
int request_rebuild(void);

/* Calls fn for each pending request, in the order in which they were started. */
void requests_each_pending(void (*fn)(struct request *r, void *arg), void *arg);

/* Cancels the pending receives and posts them again, for what they were posted for may have
 * changed. Those that have been matched meanwhile are settled. [crosses] */
void requests_repost(void);

/* A pending or inactive request that cannot be restored, as one line for gate_stub.unable(); NULL:
 * none. [agent] */
const char *request_unable(void);

/* --- statuses --- */

/* What a send gets that was complete when it returned. */
extern const struct gate_status status_sent;

/* What a receive from MPI_PROC_NULL gets (MPI 4.0 §3.10; MPICH 4.0.2 forgets it for MPI_Irecv). */
extern const struct gate_status status_no_proc;

static inline int64_t status_bytes(const MPI_Status *s)
{
    return (int64_t)(uint32_t)s->count_lo | (int64_t)((uint32_t)s->count_hi_and_cancelled >> 1)
                                                << 32;
}

static inline void status_set_bytes(MPI_Status *s, int64_t bytes)
{
    s->count_lo = (int)(uint32_t)bytes;
    s->count_hi_and_cancelled =
        (int)((uint32_t)(bytes >> 32) << 1 | (s->count_hi_and_cancelled & 1));
}

/* To the application's struct, which may be MPI_STATUS_IGNORE. MPI_ERROR is left alone, as MPI
 * wants. */
static inline void status_put(MPI_Status *out, const struct gate_status *in)
{
    if (out == MPI_STATUS_IGNORE)
        return;
    out->MPI_SOURCE = in->source;
    out->MPI_TAG = in->tag;
    out->count_hi_and_cancelled = in->cancelled != 0;
    status_set_bytes(out, in->bytes);
}

static inline void status_put_empty(MPI_Status *out)
{
    status_put(out, &(struct gate_status){.source = MPI_ANY_SOURCE, .tag = MPI_ANY_TAG});
    if (out != MPI_STATUS_IGNORE)
        out->MPI_ERROR = MPI_SUCCESS; /* MPI 4.0 §3.7.3: part of an empty status */
}

/* Of a completed operation, by MPICH's rules: that of a send is left alone but for the cancelled
 * bit. */
static inline void status_deliver(const struct request *r, const struct gate_status *in,
                                  MPI_Status *out)
{
    if (out == MPI_STATUS_IGNORE)
        return;
    if (r->kind == REQUEST_SEND)
        out->count_hi_and_cancelled = (out->count_hi_and_cancelled & ~1) | (in->cancelled != 0);
    else
        status_put(out, in);
}

#endif
