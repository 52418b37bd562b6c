/*
 * p2p.h - starting sends and receives; messages that came before they were asked for
 */
#ifndef DBG3_STUB_P2P_H
#define DBG3_STUB_P2P_H

#include "msgcounter/stub/match.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/request.h"

/* What a drain has received for the application and it has not asked for yet; communicators by
 * gid. */
extern struct match_queue p2p_drained;

/* The earliest drained message that a receive takes, out of the queue (find: left in it); NULL:
 * none. */
struct match_message *p2p_take_drained(const struct comm *c, int source, int tag);
struct match_message *p2p_find_drained(const struct comm *c, int source, int tag);

/* Gives a message that was drained to the receive `r`, which is settled by it. */
void p2p_receive_drained(struct request *r, struct match_message *m);

/* What a matching probe has found; the application's MPI_Message is its id. */
struct message {
    struct object head;            /* real: 0 once it has been drained or received */
    struct comm *comm;             /* referenced */
    struct match_message *drained; /* its data then */
    int source, tag;
    int64_t bytes;
};

/* --- operations: arguments 0 to 5 of all sends and receives --- */

#define P2P_BUF(v)      ((void *)(v)[0])
#define P2P_COUNT(v)    ((int64_t)(v)[1])
#define P2P_DATATYPE(v) ((MPI_Datatype)(v)[2])
#define P2P_PEER(v)     ((int)(v)[3])
#define P2P_TAG(v)      ((int)(v)[4])
#define P2P_COMM(v)     ((MPI_Comm)(v)[5])

/* Packed bytes of the message; negative if the datatype is none. */
static inline int64_t p2p_bytes(const uint64_t *v)
{
    return P2P_COUNT(v) * datatype_size(P2P_DATATYPE(v));
}

/* The operation of a blocking call, for what it has in common with requests. Takes no
 * references. */
struct request p2p_operation(enum request_kind kind, const uint64_t *v);

/* A new request for what has been started in the lower half (want as in request_new). */
struct request *p2p_request(enum request_kind kind, enum call start, const uint64_t *v,
                            uint64_t real, int want);
/* The same for a send, which is counted as started. */
struct request *p2p_sent_request(enum call start, const uint64_t *v, uint64_t real, int want);

/* The real handle of a communicator. */
uint64_t p2p_real_comm(const struct comm *c);
/* The real handle of the datatype of a request, which the application may have freed. [may
 * cross] */
uint64_t p2p_real_datatype(const struct request *r);

/* Makes the real call `start` with a call's arguments; or that of a described request. Returns
 * MPI's code; *real or r->head.real is the real request. [crosses] */
int p2p_start(enum call start, const uint64_t *v, uint64_t *real);
int p2p_start_real(struct request *r);

/* Starts a described receive, from the drained messages or in the lower half. */
int p2p_start_recv(struct request *r);

/* The request of a receive with a call's arguments, started from the drained messages or in the
 * lower half; NULL and MPI's code if MPI refuses it. */
struct request *p2p_irecv(enum call start, const uint64_t *v, int *rc);
/* What the receive was for is refused after all. */
void p2p_take_back(struct request *recv);

/* Sends a packed copy that nobody waits for (buffered sends). Returns MPI's code. */
int p2p_send_buffered(const uint64_t *v);
/* The same without regard to the application's buffer, for sends that MPI finishes by itself. */
int p2p_send_copy(const uint64_t *v);
/* What the application's request of a buffered send shows: complete from the start. */
extern const struct gate_status p2p_buffered_status;

/* A call that MPI has refused: nothing has been started. Records it and calls the error handler. */
int p2p_refused(enum call call, const uint64_t *v, int rc);

/* --- operations in the log --- */

#define P2P_ENVELOPE_ROOM  LOG_FIELD_ROOM(sizeof(struct log_envelope))
#define P2P_OPERATION_ROOM (P2P_ENVELOPE_ROOM + LOG_FIELD_ROOM(sizeof(struct log_digest)))

/* The fields that tell what is sent, or asked for; and their comparison in replay. */
void p2p_put_operation(const struct request *r);
void p2p_check_operation(const struct log_record *rec, const struct request *r);

/* The event of an operation that was started; a blocking send has no request (id 0). */
void p2p_record_start(enum call call, const struct request *r);

/* A non-blocking or blocking call in replay: the request gets the recorded id. */
int p2p_replay_start(enum call call, const uint64_t *v, enum request_kind kind);
int p2p_replay_send(enum call call, const uint64_t *v);

/* A blocking send that is done, now or in the recording: counts it. Returns MPI_SUCCESS. */
int p2p_send_done(const struct request *op);

/* The non-blocking twin that a call is made of. */
enum call p2p_twin(enum call call);

#endif
