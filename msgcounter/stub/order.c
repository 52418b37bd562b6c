/*
 * order.c - what chance decides: kept while a job runs, enforced when refine runs it again
 *
 * The segment that is written to is mapped by the lower half and belongs to this process: an image
 * needs nothing of it, because each epoch begins a new one. A pending request knows the place of
 * its source in the segment; a new segment begins with places for all that are pending.
 */
#include "msgcounter/stub/order.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/p2p.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/stub.h"

bool order_following;

static struct stub_lock lock;
static uint64_t segment_epoch; /* of the segment that is written to */

/* ------------------------------------------------------------------------------------- keeping */

static struct order_segment *segment(void)
{
    return GATE->order;
}

/* The segment, locked, if it is kept and has room; else NULL. */
static struct order_segment *open_segment(uint64_t bytes)
{
    struct order_segment *s = segment();
    if (!s || s->full)
        return NULL;
    if (!order_fits(s, bytes) && (int)cross(GATE->order_grow, bytes) < 0) {
        s->full = 1;
        return NULL;
    }
    stub_lock(&lock);
    if (order_fits(s, bytes))
        return s;
    s->full = 1;
    stub_unlock(&lock);
    return NULL;
}

static void close_segment(void)
{
    stub_unlock(&lock);
}

/* Ranks that a receive on c may name. */
static uint32_t members(const struct comm *c)
{
    return (uint32_t)(c->remote_size ? c->remote_size : c->size);
}

static uint32_t source_of(const struct gate_status *st)
{
    return st->cancelled || st->source < 0 ? ORDER_NOBODY : (uint32_t)st->source;
}

/* A place for a source; 0: none is kept. */
static uint32_t keep_source(const struct comm *c)
{
    struct order_segment *s = open_segment(ORDER_ROOM_SMALL);
    if (!s)
        return 0;
    uint32_t place = order_put_source(s, members(c));
    close_segment();
    return place;
}

void order_settled_slowly(struct request *r, const struct gate_status *st)
{
    if (segment())
        order_fill_source(segment(), r->outcome, source_of(st));
    r->outcome = 0;
}

void order_matched_any(const struct comm *c, int source)
{
    uint32_t place = keep_source(c);
    if (place)
        order_fill_source(segment(), place, source < 0 ? ORDER_NOBODY : (uint32_t)source);
}

void order_no_slowly(void)
{
    struct order_segment *s = open_segment(ORDER_ROOM_SMALL);
    if (!s)
        return;
    order_put_no(s);
    close_segment();
}

void order_yes(void)
{
    struct order_segment *s = open_segment(ORDER_ROOM_SMALL);
    if (!s)
        return;
    order_put_yes(s);
    close_segment();
}

void order_index(int index)
{
    struct order_segment *s = open_segment(ORDER_ROOM_SMALL);
    if (!s)
        return;
    order_put_index(s, (uint32_t)index);
    close_segment();
}

void order_some(int n, const int *indices, int active)
{
    struct order_segment *s = open_segment(ORDER_ROOM_SOME(n));
    if (!s)
        return;
    if (n == active)
        order_put_some_all(s);
    else
        order_put_some(s, (uint32_t)n, indices);
    close_segment();
}

/* ----------------------------------------------------------------------------------- following */

static struct {
    struct order_cursor cursor;
    uint64_t no;               /* what is left of a NO */
    struct order_outcome next; /* valid if `known` */
    bool known;
    bool carrying; /* receives are about to be posted in any case */
} follow;

/* One line: why the rank is free from now on. */
static void __attribute__((format(printf, 1, 2))) say(const char *fmt, ...)
{
    char why[160], line[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    int n = snprintf(line, sizeof line, "dbg3: rank %d: event %lu: %s; free from here on\n",
                     comm_world.rank, (unsigned long)record_event(), why);
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nobody listens */
}

static const char *call_name(void)
{
    return call_where.call < 0 ? "the epoch" : call_table[call_where.call].name;
}

/* Receives that wait for a recorded source get their own back. */
static void release(void)
{
    order_following = false;
    if (!follow.carrying)
        requests_repost();
}

static void end_of_order(enum order_next why)
{
    if (why == ORDER_NEXT_DAMAGED)
        say("%s: the order log is damaged at its outcome %lu", call_name(),
            (unsigned long)follow.cursor.outcome);
    else
        say("%s: the order that batch has kept ends here", call_name());
    release();
}

void order_unfit(void)
{
    static const char *const kinds[ORDER_NKINDS] = {
        [ORDER_KIND_YES] = "a test that succeeded",
        [ORDER_KIND_INDEX] = "one of a set of requests",
        [ORDER_KIND_SOME] = "some of a set of requests",
        [ORDER_KIND_NO] = "a test without success",
        [ORDER_KIND_SOURCE] = "a receive from any source",
    };
    say("%s is called where batch had %s (outcome %lu since the epoch)", call_name(),
        kinds[follow.next.kind], (unsigned long)follow.cursor.outcome - 1);
    release();
}

/* The next outcome to follow.next. False: there is none; the rank is free. */
static bool look(void)
{
    if (follow.known)
        return true;
    enum order_next next = order_cursor_next(&follow.cursor, &follow.next);
    if (next != ORDER_NEXT_OUTCOME) {
        end_of_order(next);
        return false;
    }
    follow.known = true;
    return true;
}

/* Behind what is left of NOs: a program that asks less often than it did is still the same. */
static bool look_behind_no(void)
{
    follow.no = 0;
    while (look()) {
        if (follow.next.kind != ORDER_KIND_NO)
            return true;
        follow.known = false;
    }
    return false;
}

bool order_answer(enum order_kind kind, bool waits, struct order_outcome *o)
{
    if (follow.no && !waits) {
        follow.no--;
        o->kind = ORDER_KIND_NO;
        return true;
    }
    if (waits ? !look_behind_no() : !look())
        return false;
    if (follow.next.kind != kind && follow.next.kind != ORDER_KIND_NO) {
        order_unfit();
        return false;
    }
    follow.known = false;
    *o = follow.next;
    if (o->kind == ORDER_KIND_NO)
        follow.no = o->value - 1;
    return true;
}

int order_source_found(const struct comm *c, const struct order_outcome *o)
{
    if (o->value == ORDER_UNMATCHED) /* it was pending when the log ended */
        return MPI_ANY_SOURCE;
    if (o->value == ORDER_NOBODY)
        return ORDER_FROM_NOBODY;
    if (o->value <= members(c))
        return (int)o->value - 1;
    order_unfit();
    return MPI_ANY_SOURCE;
}

int order_source(const struct comm *c, int asked)
{
    struct order_outcome o;
    if (asked != MPI_ANY_SOURCE || !order_answer(ORDER_KIND_SOURCE, true, &o))
        return asked;
    return order_source_found(c, &o);
}

void order_source_back(void)
{
    follow.known = order_following;
}

void order_posted_any(struct request *r)
{
    if (r->kind != REQUEST_RECV)
        return;
    r->outcome = keep_source(r->comm);
    if (r->state == REQUEST_COMPLETE)
        order_settled(r, &r->status);
}

bool order_cancels(struct request *r)
{
    if (r->kind != REQUEST_RECV)
        return true;
    if (order_following) {
        bool any = r->peer == MPI_ANY_SOURCE;
        return (any ? r->from : order_source(r->comm, MPI_ANY_SOURCE)) < 0;
    }
    if (r->peer != MPI_ANY_SOURCE)
        order_posted_any(r);
    return true;
}

bool order_patient(void)
{
    if (!(int)cross(GATE->order_stuck, 0))
        return true;
    say("%s: what batch had there does not come (outcome %lu since the epoch)", call_name(),
        (unsigned long)follow.cursor.outcome);
    release();
    return false;
}

/* ---------------------------------------------------------------------- segments and processes */

void order_carry(struct request *r)
{
    struct order_segment *s = segment();
    r->from = r->peer;
    r->outcome = 0;
    if (r->kind != REQUEST_RECV || r->peer != MPI_ANY_SOURCE)
        return;
    follow.carrying = true;
    if (order_following)
        r->from = order_source(r->comm, r->peer);
    follow.carrying = false;
    if (!s)
        return;
    order_posted_any(r);
    s->carried += r->outcome != 0;
}

static void carry(struct request *r, void *arg)
{
    order_carry(r);
}

void order_after_epoch(void)
{
    if (!segment() || segment()->epoch == segment_epoch)
        return;
    segment_epoch = segment()->epoch;
    requests_each_pending(carry, NULL);
}

void order_attach(void)
{
    order_following = GATE->order_nmaps && !replaying();
    follow.no = 0;
    follow.known = false;
    order_cursor_init(&follow.cursor, GATE->order_maps, (uint32_t)GATE->order_nmaps);
    segment_epoch = segment() ? segment()->epoch : 0;
}
