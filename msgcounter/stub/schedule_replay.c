/*
 * schedule_replay.c - threads take the turns that were recorded
 *
 * Events are taken in their order. A turn goes on when its event is next and it has been given up
 * as often as the event says. A thread that waits is on a list with what it waits for; whoever
 * moves `next` wakes the one whose thing has come. If all threads are on the list, or the process
 * does nothing for long, nothing can come, and one says so: if there is, one that has come to the
 * end of the recording in a call, which it can name.
 */
#include "msgcounter/log/system_table.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/schedule_private.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/thread.h"
#include "msgcounter/stub/turn.h"
#include "runtime/half/sys.h"

#define NO_CHANGE   UINT64_MAX
#define HOLDER_LOOKS 16   /* of a thread that waits; then it looks after the holder, too */
#define STUCK_LOOKS  5000 /* in which the process did nothing: a debugger may let it run in bits */
#define END_LOOKS    300  /* the same, for a thread that has nothing to come */

enum wait_for { WAIT_TURN, WAIT_EVENT, WAIT_LAST, WAIT_FREE };

struct waiter {
    struct waiter *next;
    enum wait_for what;
    bool listed;
    uint32_t thread;
    uint64_t event;
    volatile uint32_t come; /* futex */
};

/* Not on the stack: a thread that is cancelled leaves it. */
static __thread struct waiter own;

static struct {
    struct stub_lock lock;
    struct log_position next;      /* all events before it have been taken */
    struct schedule_change change; /* the next one at or behind `next` */
    uint64_t change_event;         /* its number; NO_CHANGE: there is none */
    struct log_position change_next;
    struct waiter *waiters;
    uint32_t nwaiters;
    struct waiter *volatile says; /* that nothing can come, for all wait; NULL: not so */
} past;

const volatile uint64_t *schedule_event(void)
{
    return &past.next.event;
}

static void lock(void)
{
    stub_thread.inside++;
    stub_lock_slow(&past.lock);
}

static void unlock(void)
{
    stub_unlock_slow(&past.lock);
    stub_thread.inside--;
}

static void find_change(void)
{
    past.change_next = past.next;
    if (!replay_find_schedule(&past.change_next, &past.change_event, &past.change))
        past.change_event = NO_CHANGE;
}

/* The holder has given up as often as it must for the next change. */
static bool change_due(void)
{
    return past.change_event != NO_CHANGE && past.change.given == schedule_given();
}

const struct schedule_change *schedule_forced(void)
{
    bool forced = past.change_event == past.next.event && past.change.pc &&
                  schedule_taken_by_any() && past.change.given == schedule_given() + 1;
    return forced ? &past.change : NULL;
}

static bool may_go_on(const struct waiter *w)
{
    if (!schedule_on)
        return true;
    switch (w->what) {
    case WAIT_TURN:
        return schedule.holder == w->thread && !schedule_taken_by_any() && !change_due();
    case WAIT_EVENT:
        return w->event <= past.next.event;
    default:
        return false;
    }
}

static void take_change(void)
{
    uint64_t event = past.change_event;
    if (past.change.what == SCHEDULE_END) {
        schedule.word = schedule.word / SCHEDULE_GIVEN * SCHEDULE_GIVEN + SCHEDULE_ENDED;
        schedule_stop();
    } else if (schedule.holder != past.change.from) {
        stub_stop(3, "diverged at event %lu: thread %u gives its turn up where thread %u did",
                  (unsigned long)event, schedule.holder, past.change.from);
    } else {
        schedule.holder = past.change.to;
    }
    past.next = past.change_next;
    turn_taken(event);
    stub_gate.taken(event);
    find_change();
}

static void wake(struct waiter *w)
{
    past.says = NULL;
    w->listed = false;
    __atomic_store_n(&w->come, 1, __ATOMIC_SEQ_CST);
    sys_futex_wake(&w->come, 1);
}

/* Hands turns on as far as it goes, and wakes whose thing has come. [locked] */
static void go_on(void)
{
    while (past.change_event == past.next.event && change_due() &&
           (past.change.what == SCHEDULE_END || !schedule_taken_by_any()))
        take_change();
    bool forced = schedule_forced();
    for (struct waiter **at = &past.waiters; *at;) {
        struct waiter *w = *at;
        if (!may_go_on(w)) {
            if (forced && w->thread == past.change.to)
                sys_futex_wake(&w->come, 1); /* it looks after the holder from now on */
            at = &w->next;
            continue;
        }
        *at = w->next;
        past.nwaiters--;
        wake(w);
    }
}

/* Nothing can come. Returns if that is the end of the recording, and the caller may say so. */
static void stuck(void)
{
    const struct log_record *rec = replay_at(past.next);
    if (rec && past.change_event == rec->event)
        stub_stop(3, "diverged at event %lu: the turn of thread %u does not end as it did",
                  (unsigned long)rec->event, past.change.from);
    if (rec)
        stub_stop(3, "diverged at event %lu: thread %u does not come to %s",
                  (unsigned long)rec->event, rec->thread, record_name(rec->call));
    if (own.what != WAIT_LAST)
        stub_stop(0, "end of recording: event %lu", (unsigned long)past.next.event);
}

struct watch {
    uint64_t event, word, cpu_ns;
    unsigned idle; /* looks in a row at which nothing had happened */
};

static void watch_note(struct watch *w)
{
    bool taken = schedule_taken_by_any() && !stub_thread.has_turn; /* by another one */
    uint64_t cpu_ns = taken ? schedule_holder_ns() : 0;
    bool same = w->event == past.next.event && w->word == schedule.word &&
                (!taken || cpu_ns - w->cpu_ns < LOOK_NS / 10);
    *w = (struct watch){past.next.event, schedule.word, cpu_ns, same ? w->idle + 1 : 0};
}

/* Returns false if nothing has come for so long that nothing will. */
static bool wait_until_come(void)
{
    unsigned limit = own.what == WAIT_LAST ? END_LOOKS : STUCK_LOOKS;
    struct watch watch = {0};
    for (unsigned looks = 1; !own.come && past.says != &own && watch.idle < limit; looks++) {
        const struct schedule_change *forced = schedule_forced();
        bool mine = forced && forced->to == own.thread;
        if (mine || looks % HOLDER_LOOKS == 0)
            schedule_look();
        schedule_futex_wait(&own.come, 0, mine ? LOOK_NS / 4 : LOOK_NS);
        watch_note(&watch);
    }
    return own.come;
}

/* All wait. Of several that have come to their last event it is the first thread. [locked] */
static void choose_who_says(void)
{
    past.says = &own;
    for (struct waiter *w = past.waiters; w; w = w->next)
        if (w->what == WAIT_LAST &&
            (past.says->what != WAIT_LAST || w->thread < past.says->thread))
            past.says = w;
    sys_futex_wake(&past.says->come, 1);
}

static void enlist(void)
{
    if (!own.listed) {
        own.next = past.waiters;
        past.waiters = &own;
        past.nwaiters++;
    }
    own.listed = true;
    own.come = 0;
}

static void wait_for(enum wait_for what, uint64_t event)
{
    uint8_t before = schedule_calls_pass();
    lock();
    own.what = what;
    own.event = event;
    own.thread = stub_thread_ordinal();
    go_on();
    if (!may_go_on(&own)) {
        enlist();
        if (past.nwaiters > schedule.threads)
            choose_who_says();
        unlock();
        if (!wait_until_come())
            stuck();
    } else {
        unlock();
    }
    stub_thread.dispatch = before;
}

void schedule_get_replay(void)
{
    wait_for(WAIT_TURN, 0);
    if (!schedule_on)
        return;
    schedule_wait_until_gone();
    schedule.tid = sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    schedule.word += SCHEDULE_TAKEN;
}

/* Turns end here: when the events before that have been taken. */
static bool ends_here(void)
{
    return past.change_event != NO_CHANGE && past.change.what == SCHEDULE_END && change_due();
}

void schedule_end_replay(void)
{
    if (ends_here())
        wait_for(WAIT_FREE, 0);
}

static void give(void)
{
    lock();
    if (schedule_on) {
        schedule.word += SCHEDULE_GIVEN - SCHEDULE_TAKEN;
        go_on();
    }
    unlock();
}

void schedule_give_way_replay(void)
{
    give();
    schedule_get_replay();
}

void schedule_give_replay(void)
{
    schedule_end_replay();
    if (schedule_on && schedule_forced()) /* it has come by the place */
        schedule_give_way_replay();
    give();
}

void schedule_wait(uint64_t event)
{
    if (schedule_on && event > past.next.event)
        wait_for(WAIT_EVENT, event);
}

bool schedule_changes_before(uint64_t event)
{
    return schedule_on && past.change_event < event;
}

void schedule_taken(struct log_position next)
{
    if (!schedule_on) {
        past.next = next;
        return;
    }
    uint8_t before = schedule_calls_pass();
    lock();
    past.next = next;
    go_on();
    unlock();
    stub_thread.dispatch = before;
}

bool schedule_wait_for_end(void)
{
    if (schedule_on)
        wait_for(WAIT_LAST, 0);
    return schedule_on && past.says == &own;
}

bool schedule_begin_replay(void)
{
    find_change();
    if (past.change_event != past.next.event || past.change.what != SCHEDULE_BEGIN)
        return false;
    past.next = past.change_next;
    schedule.holder = past.change.to;
    turn_taken(past.change_event);
    stub_gate.taken(past.change_event);
    find_change();
    return true;
}

void schedule_begins_at(struct log_position start)
{
    past.waiters = NULL;
    past.nwaiters = 0;
    past.says = NULL;
    past.lock.held = 0;
    past.next = start;
}

void schedule_attach_replay(void)
{
    find_change();
    if (!schedule_on && stub_threads_made)
        schedule_on = schedule_begin_replay();
}
