/*
 * request.h - virtual requests
 *
 * The application's MPI_Request is an id of ours. Behind it stands a struct request in memory that
 * checkpoints save, with all that is needed to finish or to repeat the operation over another MPI
 * library:
 *
 *        start             lower half, drain or          delivered to the application
 *     ----------> PENDING -----------------> COMPLETE ------------------> gone, or INACTIVE if persistent
 *                 has a real request          has none
 *
 * A request is settled (PENDING to COMPLETE) when MPI or the queue of drained messages has finished it, which
 * may be before the application asks: during a drain, or beside another request that it waited for.
 *
 * Persistent sends and receives have no persistent twin in the lower half: each start makes an ordinary
 * real request, so that an inactive one needs nothing at restart.
 *
 * Requests live in an array beside the handle table's and never move. All pending ones are on a list in
 * the order in which they were started: the order in which a restart posts receives again.
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
    REQUEST_OTHER, /* whatever else MPI makes requests for: known by its real request only */
};

enum request_state { REQUEST_INACTIVE, REQUEST_PENDING, REQUEST_COMPLETE };

struct request {
    struct object head; /* real: 0 unless pending; an inactive REQUEST_OTHER keeps it */
    uint8_t kind;       /* enum request_kind */
    uint8_t state;      /* enum request_state */
    bool persistent;
    bool orphan;    /* the application has freed it while it was pending */
    uint16_t start; /* enum call that starts it: Isend, Irecv_c, ...; for OTHER the call that made it */
    bool owned;     /* of a buffered send: buf is ours and goes with the request; nobody waits for it */

    /* The operation, as the application gave it. */
    void *buf;
    int64_t count;
    MPI_Datatype datatype; /* id, which the application may free: then `type` counts */
    struct datatype *type; /* referenced; NULL if predefined */
    struct comm *comm;     /* referenced; NULL for REQUEST_OTHER */
    int peer, tag;
    int world;     /* world rank of peer; of a send, -1 if it is not counted */
    int64_t bytes; /* of a send */

    struct gate_status status; /* valid when COMPLETE */
    struct request *next, *prev; /* pending ones; `next` also chains free ones' */
};

/* All pending requests in starting order: a ring through this element. */
extern struct request request_pending;

/* Those that are orphans or owned and complete: to be ended by requests_sweep (complete.h). */
extern struct request request_left;

/* How many requests are orphans or owned: nobody will wait for them. */
extern unsigned request_nleft;

/* Room that owned requests take in the application's buffer for buffered sends (MPI 4.0 §3.6.1). */
extern int64_t request_buffered;

/* A new pending request with an id, on the list. In replay `want` is the recorded id; else 0. */
struct request *request_new(enum request_kind kind, enum call start, int want);

/* Notes the operation; takes references on what may be freed before it ends. */
void request_describe(struct request *r, const void *buf, int64_t count, MPI_Datatype datatype, int peer,
                      int tag, struct comm *comm);

/* `buf` (from stub_alloc, described already) is now the request's own. */
void request_own(struct request *r);

/* The application has freed a pending request. */
void request_abandon(struct request *r);

/* Ends a request: id, references and, if owned, the buffer. */
void request_delete(struct request *r);

/* A new request is persistent and starts its life inactive. */
void request_persist(struct request *r);

/* An inactive persistent request is pending again: to the end of the list. */
void request_activate(struct request *r);

/* PENDING to COMPLETE with this status. */
void request_settle(struct request *r, const struct gate_status *status);

/* The same for what the lower half has completed: counts what has arrived or will never leave. */
void request_settle_real(struct request *r, const struct gate_status *status);

/* What the application gets to see of it: the end of a request that is COMPLETE. Counts the message. */
void request_deliver(struct request *r);

static inline struct request *request_of(MPI_Request id)
{
    return (struct request *)handle_object(HANDLE_REQUEST, id);
}

/* For the interpreter: the id of a request that a call has made (MPI_REQUEST_NULL and the like pass).
 * `call` tells persistent ones from others. */
MPI_Request request_adopt(enum call call, struct comm *comm, MPI_Request real);

/* Layout of the request's datatype, for packing; borrowed. */
struct layout *request_layout(const struct request *r);

/* After a restart, when communicators and datatypes are there again: posts pending receives in the order in
 * which they were posted before. Returns 0 or -errno after printing one line. [crosses] */
int request_rebuild(void);

/* A pending or inactive request that cannot be restored, as one line for gate_stub.unable(); NULL: none. */
const char *request_unable(void);

/* --- statuses --- */

/* What a receive from MPI_PROC_NULL gets (MPI 4.0 §3.10; MPICH 4.0.2 forgets it for MPI_Irecv). */
extern const struct gate_status status_no_proc;

/* To the application's struct, which may be MPI_STATUS_IGNORE. MPI_ERROR is left alone, as MPI wants. */
void status_put(MPI_Status *out, const struct gate_status *in);
void status_put_empty(MPI_Status *out);

static inline int64_t status_bytes(const MPI_Status *s)
{
    return (int64_t)(uint32_t)s->count_lo | (int64_t)((uint32_t)s->count_hi_and_cancelled >> 1) << 32;
}

static inline void status_set_bytes(MPI_Status *s, int64_t bytes)
{
    s->count_lo = (int)(uint32_t)bytes;
    s->count_hi_and_cancelled = (int)((uint32_t)(bytes >> 32) << 1 | (s->count_hi_and_cancelled & 1));
}

#endif
