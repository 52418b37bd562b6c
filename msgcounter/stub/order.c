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
#include <time.h>
#include <unistd.h>

#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/init.h"
#include "msgcounter/stub/p2p.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/stub.h"
#include "runtime/half/sys.h"

bool order_following;

static struct stub_lock lock, post_lock;
static uint64_t segment_epoch; /* of the segment that is written to */

/* What a thread keeps, where several may be in MPI; the main thread's is its own also alone. */
struct order_thread {
    /* keeping: its NO that may still grow, in the segment of this epoch; 0: none does */
    uint64_t no_place, no_epoch;
    /* following: the outcomes of this thread */
    bool attached, ended;
    struct order_cursor cursor;
    uint64_t no;               /* what is left of a NO */
    struct order_outcome next; /* valid if `known` */
    bool known;
};

static struct order_thread *self(void)
{
    if (!stub_thread.order)
        stub_thread.order = stub_alloc(sizeof *stub_thread.order);
    return stub_thread.order;
}

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
    if (!order_fits(s, bytes)) { /* another thread was faster */
        s->full = 1;
        stub_unlock(&lock);
        return NULL;
    }
    if (stub_threads_multiple) {
        order_put_thread(s, stub_thread_ordinal());
        self()->no_place = 0;
    }
    return s;
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

/* Threads that poll at the same time must not fill the log: each counts in a place of its own, once
 * it has been told so more often than a byte holds. */
static void no_of_thread(void)
{
    struct order_thread *t = self();
    struct order_segment *s = segment();
    if (s && t->no_place && t->no_epoch == s->epoch && order_count_no_at(s, t->no_place))
        return;
    s = open_segment(ORDER_ROOM_SMALL);
    if (!s)
        return;
    if (!s->no) {
        order_put_no(s);
    } else if (!order_count_no(s)) {
        t->no_place = order_put_no_wide(s);
        t->no_epoch = s->epoch;
    }
    close_segment();
}

void order_no_slowly(void)
{
    if (stub_threads_multiple) {
        no_of_thread();
        return;
    }
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
    struct order_cursor start; /* behind what the first segment carries */
    volatile uint64_t sources; /* so many SOURCEs have been looked for so far */
    volatile bool said;
} follow;

/* This thread's way through the log. */
static struct order_thread *own(void)
{
    struct order_thread *t = self();
    if (!t->attached) {
        t->attached = true;
        t->cursor = follow.start;
    }
    return t;
}

/* One line: why the rank is free from now on. */
static void __attribute__((format(printf, 1, 2))) say(const char *fmt, ...)
{
    char why[160], line[256];
    va_list ap;
    if (__atomic_exchange_n(&follow.said, true, __ATOMIC_SEQ_CST))
        return;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    int n = snprintf(line, sizeof line, "dbg3: rank %d: event %lu: %s; free from here on\n",
                     init_rank_in_job(), (unsigned long)record_event(), why);
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nobody listens */
}

static const char *call_name(void)
{
    return call_where.call < 0 ? "the epoch" : call_table[call_where.call].name;
}

/* Receives that wait for a recorded source get their own back; not where another thread may be
 * waiting for them in the lower half. */
static void release(void)
{
    order_following = false;
    if (!stub_threads_multiple)
        requests_repost();
}

/* Of this thread. What is posted is right; other threads may have some way to go. */
static void end_of_order(struct order_thread *t, enum order_next why)
{
    if (why == ORDER_NEXT_DAMAGED)
        say("%s: the order log is damaged at its outcome %lu", call_name(),
            (unsigned long)t->cursor.outcome);
    else
        say("%s: the order that batch has kept ends here", call_name());
    t->ended = true;
    if (!stub_threads_multiple)
        order_following = false;
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
        kinds[own()->next.kind], (unsigned long)own()->cursor.outcome - 1);
    release();
}

/* The thread's next outcome to t->next. False: there is none; it is free. */
static bool look(struct order_thread *t)
{
    enum order_next next = ORDER_NEXT_OUTCOME;
    while (!t->known && !t->ended) {
        next = order_cursor_next(&t->cursor, &t->next);
        if (next != ORDER_NEXT_OUTCOME)
            end_of_order(t, next);
        else
            t->known = !stub_threads_multiple || t->next.thread == stub_thread_ordinal();
    }
    return !t->ended;
}

/* Behind what is left of NOs: a program that asks less often than it did is still the same. */
static bool look_behind_no(struct order_thread *t)
{
    t->no = 0;
    while (look(t)) {
        if (t->next.kind != ORDER_KIND_NO)
            return true;
        t->known = false;
    }
    return false;
}

/* Sources are looked for in the order of the log, whatever thread does it. */
static bool wait_turn(uint64_t number)
{
    unsigned turns = 0;
    while (follow.sources < number && order_following) {
        if (GATE->word & (GATE_WORD_PARK | GATE_WORD_FINE))
            stub_safe_point();
        else if (++turns % 10000 == 0)
            order_patient();
        else
            sys_call(SYS_nanosleep, &(struct timespec){.tv_nsec = 1000}, 0, 0, 0, 0, 0);
    }
    return order_following;
}

bool order_answer(enum order_kind kind, bool waits, struct order_outcome *o)
{
    struct order_thread *t = own();
    if (t->no && !waits) {
        t->no--;
        o->kind = ORDER_KIND_NO;
        return true;
    }
    if (waits ? !look_behind_no(t) : !look(t))
        return false;
    if (t->next.kind != kind && t->next.kind != ORDER_KIND_NO) {
        order_unfit();
        return false;
    }
    if (kind == ORDER_KIND_SOURCE && t->next.kind == kind && stub_threads_multiple &&
        !wait_turn(t->next.source))
        return false;
    t->known = false;
    *o = t->next;
    if (o->kind == ORDER_KIND_NO)
        t->no = o->value - 1;
    return true;
}

void order_source_taken(void)
{
    if (!stub_threads_multiple)
        return;
    struct order_thread *t = own();
    uint64_t next = t->next.source + 1;
    if (!t->known && follow.sources < next)
        follow.sources = next;
}

static bool source_fits(const struct comm *c, const struct order_outcome *o)
{
    return o->value <= members(c) || o->value == ORDER_NOBODY;
}

static int source_said(const struct order_outcome *o)
{
    if (o->value == ORDER_UNMATCHED) /* it was pending when the log ended */
        return MPI_ANY_SOURCE;
    return o->value == ORDER_NOBODY ? ORDER_FROM_NOBODY : (int)o->value - 1;
}

int order_source_found(const struct comm *c, const struct order_outcome *o)
{
    if (source_fits(c, o))
        return source_said(o);
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
    own()->known = order_following;
}

void order_posted_any(struct request *r)
{
    if (r->kind != REQUEST_RECV)
        return;
    r->outcome = keep_source(r->comm);
    if (r->state == REQUEST_COMPLETE)
        order_settled(r, &r->status);
}

void order_post_begin(void)
{
    stub_lock(&post_lock);
}

void order_post_end(void)
{
    stub_unlock(&post_lock);
}

bool order_cancels(struct request *r)
{
    if (r->kind != REQUEST_RECV)
        return true;
    if (order_following) {
        if (r->peer == MPI_ANY_SOURCE)
            return r->from < 0;
        int source = order_source(r->comm, MPI_ANY_SOURCE);
        order_source_taken();
        return source < 0;
    }
    if (r->peer != MPI_ANY_SOURCE)
        order_posted_any(r);
    return true;
}

bool order_patient(void)
{
    static volatile bool looking; /* some thread does */
    if (__atomic_exchange_n(&looking, true, __ATOMIC_ACQUIRE))
        return true;
    bool stuck = (int)cross(GATE->order_stuck, 0);
    __atomic_store_n(&looking, false, __ATOMIC_RELEASE);
    if (!stuck)
        return true;
    say("%s: what batch had there does not come (outcome %lu since the epoch)", call_name(),
        (unsigned long)own()->cursor.outcome);
    release();
    return false;
}

/* ---------------------------------------------------------------------- segments and processes */

/* The next source that the first segment carries, whatever thread posted the receive. */
static int carried_source(const struct comm *c)
{
    struct order_outcome o;
    if (order_cursor_next(&follow.start, &o) == ORDER_NEXT_OUTCOME && o.kind == ORDER_KIND_SOURCE) {
        follow.sources = o.source + 1;
        if (source_fits(c, &o))
            return source_said(&o);
    }
    say("the receives that were pending at the epoch do not fit the order log");
    order_following = false;
    return MPI_ANY_SOURCE;
}

void order_carry(struct request *r)
{
    struct order_segment *s = segment();
    r->from = r->peer;
    r->outcome = 0;
    if (r->kind != REQUEST_RECV || r->peer != MPI_ANY_SOURCE)
        return;
    if (order_following)
        r->from = carried_source(r->comm);
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
    order_cursor_init(&follow.start, GATE->order_maps, (uint32_t)GATE->order_nmaps);
    segment_epoch = segment() ? segment()->epoch : 0;
}
