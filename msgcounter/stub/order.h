/*
 * order.h - what chance decides: kept while a job runs, enforced when refine runs it again
 *
 * The outcomes (msgcounter/log/order_format.h), of each thread in the order in which it made the
 * calls:
 *
 *  - SOURCE, of each receive that is posted for MPI_ANY_SOURCE, and of each probe for it that finds
 *    something. The tag follows from the source: messages of one sender keep their order.
 *  - YES or NO, how often MPI_Test, MPI_Testall, MPI_Iprobe and the like found nothing before
 *    they found something.
 *  - INDEX, SOME, which of a set of several MPI_Waitany and its kin have completed.
 *
 * Where several threads are in MPI, each follows its own outcomes; receives and probes for any
 * source are made in the order of the log, whoever makes them. The order of other calls of
 * different threads is left to the application.
 *
 * Calls that name their source, MPI_Wait, MPI_Waitall and waits for one request leave no outcome.
 *
 * Following: a receive for any source is posted for the recorded one; a call that said no says no
 * without asking; one that said yes, and one that chose of a set, waits for just that. A recorded
 * outcome that cannot come again (the program goes another way, by its clock for instance) shows as
 * an outcome of another kind, or as a wait in which the whole job stands still. Then the rank says
 * so, once, and is free: its pending receives are posted again as the application gave them.
 */
#ifndef DBG3_STUB_ORDER_H
#define DBG3_STUB_ORDER_H

#include <stdbool.h>

#include "msgcounter/log/order.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/call.h"
#include "msgcounter/stub/request.h"
#include "runtime/half/gate.h"

/* Outcomes are enforced: in refine, until the log ends. */
extern bool order_following;

/* In a new process, and after MPI_Init: follows what the lower half has found to follow. */
void order_attach(void);

/* A receive that was posted before this segment of the log, or before this process, and is pending;
 * to be called in the order of posting. */
void order_carry(struct request *r);

/* An epoch may have begun a new segment. */
void order_after_epoch(void);

/* A wait of a followed rank has taken a while. Returns false if the job stands still: from then on
 * the rank is free, and the real requests of receives are others. [crosses] */
bool order_patient(void);

/* ---- receives and probes ---- */

void order_posted_any(struct request *r);
void order_settled_slowly(struct request *r, const struct gate_status *st);
void order_matched_any(const struct comm *c, int source);

/* A receive has been posted, or found its message among the drained ones: keeps a place for its
 * source. */
static inline void order_posted(struct request *r)
{
    if (__builtin_expect(r->peer == MPI_ANY_SOURCE, 0))
        order_posted_any(r);
}

/* Around the posting of a receive for any source and order_posted(), where threads may be at it at
 * the same time: the log has them in the order in which MPI has. [may cross in between, briefly] */
void order_post_begin(void);
void order_post_end(void);

/* A pending receive has completed with this status. */
static inline void order_settled(struct request *r, const struct gate_status *st)
{
    if (__builtin_expect(r->outcome != 0, 0))
        order_settled_slowly(r, st);
}

/* A receive or probe for `asked` that was no request has found `source`. */
static inline void order_matched(const struct comm *c, int asked, int source)
{
    if (__builtin_expect(asked == MPI_ANY_SOURCE, 0))
        order_matched_any(c, source);
}

/* MPI_Cancel of a pending request: whether it came in time is an outcome too. False: it has not,
 * and the receive is to be left alone. */
bool order_cancels(struct request *r);

/* Posted so that nobody matches it: it will be cancelled. */
#define ORDER_FROM_NOBODY (-100)

/* Following: the source to look for in place of `asked`. */
int order_source(const struct comm *c, int asked);
/* It has been posted for, or found: another thread may look for the next one. Not to be forgotten
 * where `asked` was any source. */
void order_source_taken(void);
/* The call was refused: the next one has this source. */
void order_source_back(void);

/* ---- answers ---- */

void order_no_slowly(void);
void order_yes(void);
void order_index(int index);
/* n of `active` have completed. */
void order_some(int n, const int *indices, int active);

static inline void order_no(void)
{
    struct order_segment *s = GATE->order;
    if (__builtin_expect(s && !stub_threads_multiple && order_count_no(s), 1))
        return;
    order_no_slowly();
}

/* Following: the next answer, which must be NO or of `kind` (SOURCE: of a probe that does not
 * wait). False: the rank is free. A call that `waits` has no NO: what is left of them is
 * skipped. */
bool order_answer(enum order_kind kind, bool waits, struct order_outcome *o);

/* The source that a SOURCE says, MPI_ANY_SOURCE if it says none. */
int order_source_found(const struct comm *c, const struct order_outcome *o);

/* Following: the outcome does not fit the call. The rank is free from now on. */
void order_unfit(void);

#endif
