/*
 * complete.h - waiting for requests
 */
#ifndef DBG3_STUB_COMPLETE_H
#define DBG3_STUB_COMPLETE_H

#include <stdbool.h>

#include "msgcounter/stub/record.h"
#include "msgcounter/stub/request.h"

enum settle {
    SETTLE_DONE,   /* what was asked for is settled */
    SETTLE_NOT,    /* it is not (without GATE_COMPLETE_WAIT) */
    SETTLE_REPLAY, /* the wait went on in a process that replays: take the answer from the log */
};

/*
 * Makes progress on the pending ones of req[0..n) (NULL elements are skipped) until what `how`
 * (enum gate_complete) asks for is settled. Meets safe points.
 */
enum settle requests_settle(uint32_t how, int n, struct request *const *req);

/* A wait of the lower half has come back early: meets a safe point, or looks whether the job stands
 * still because this rank waits for what it had in batch (order.h). False: it has become free. */
bool wait_came_back(void);

/* The same for one request, waiting. */
static inline enum settle request_wait(struct request *r)
{
    return requests_settle(GATE_COMPLETE_ALL | GATE_COMPLETE_WAIT, 1, &r);
}

/*
 * Looks after requests that nobody waits for any more: freed while pending, and buffered sends. The
 * end of a freed one is an event of its own in the log, as its id is free again from then on: so
 * this is called where a replay expects such events, at completion calls and MPI_Request_free.
 */
void requests_sweep(void);

/* The same for buffered sends alone, which a replay knows nothing of. */
void requests_sweep_buffered(void);

/* Ends complete buffered sends until `bytes` more fit into a buffer of `size`. Returns false if
 * they do not, though this thread has looked at what is under way. */
bool requests_make_room(int64_t bytes, int64_t size);

/* Waits until all buffered sends have left. Meets safe points. */
void requests_flush_buffered(void);

/* What a completed receive is in the log: its STATUS and DATA fields. `room` is what they take. */
uint64_t received_room(const struct request *r);
void received_record(const struct request *r, uint8_t status_param, uint8_t data_param);

/* The reverse, in replay: from the STATUS field `f` to r->status and, if DATA follows, the
 * buffer. Returns the last field used. */
const struct log_field *received_apply(const struct log_record *rec, const struct log_field *f,
                                       struct request *r);

#endif
