/*
 * turn.c - the threads of a recorded rank take turns, and take the same ones in a replay
 *
 * The state is in the application's memory: an image says whose turn it was when it was saved.
 *
 * Recording: `taken` is a lock with the kernel's futex(2) behind it. Whoever gets it from another
 * thread writes the event. A thread that waits looks now and then whether the one whose turn it is
 * spins, and has it give way.
 *
 * Replay: events are taken in their order. A turn goes on when its event is next and it has been
 * given up as often as the event says. A thread that waits is on a list with what it waits for;
 * whoever moves `next` wakes the one whose thing has come. If all threads are on the list, nothing
 * can ever come.
 */
#include "msgcounter/stub/turn.h"

#include <linux/prctl.h>
#include <string.h>
#include <time.h>

#include "msgcounter/log/system_table.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/signal.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/thread.h"
#include "runtime/half/sys.h"

#define LOOK_NS    1000000 /* a thread that waits for a turn looks after the one that has it */
#define SHARE_NS   4000000 /* for which a thread may get its turn back before others */
#define WAY_NS     100000  /* for which it then leaves it to others */
#define LONG_LOOKS 100     /* after which also one that does not seem to spin gives way */
#define NEAR       64      /* bytes of code in which a loop that spins lies */
#define LATE_LOOKS 2000    /* replay: so many before another place will do */
#define SPIN_LOOKS 30      /* so many in one that spins: it does for something that never comes */
#define CODE_PAGE  4096ul

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

bool turn_on;

static struct {
    volatile uint32_t taken; /* futex: 1 while a thread runs the application's code */
    volatile uint32_t waiting;
    uint32_t holder; /* the thread whose turn it is or was last */
    long tid;        /* its number in the kernel */
    uint64_t given;
    uint64_t pc, sp;       /* where it was made to give up; 0: it did itself */
    uint64_t since;        /* when it got its turn from another thread */
    volatile int *leaving; /* the kernel clears this when a holder that ends is gone */
    uint32_t threads;      /* that there are beside the main thread */
    uint32_t looks;        /* at the holder since `looked` */
    uint64_t looked;       /* value of `given` */
} turn = {.holder = TURN_NOBODY};

static uint64_t now_ns(void)
{
    struct timespec t = {0, 0};
    ((int (*)(clockid_t, struct timespec *))GATE->kernel_vdso[GATE_VDSO_CLOCK_GETTIME])(
        CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void futex_wait_for(volatile uint32_t *word, uint32_t value, uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    sys_call(SYS_futex, word, SYS_FUTEX_WAIT, value, &t, 0, 0);
}

static void wait_until_gone(void)
{
    while (turn.leaving && *turn.leaving) {
        struct timespec t = {0, LOOK_NS};
        /* not the private kind: the kernel's wake at the end of a thread is not (mm_release()) */
        sys_call(SYS_futex, turn.leaving, 0, *turn.leaving, &t, 0, 0);
    }
    turn.leaving = NULL;
}

/* Its own calls in here have no place in the recording. */
static uint8_t calls_pass(void)
{
    uint8_t before = stub_thread.dispatch;
    stub_thread.dispatch = 0;
    return before;
}

/* ---- recording ---- */

static bool take(void)
{
    uint32_t none = 0;
    return __atomic_compare_exchange_n(&turn.taken, &none, 1, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

static void look_after_holder(void)
{
    long tid = turn.tid;
    if (turn.taken && tid > 1)
        sys_signal_thread(tid, SIGSYS, SYSTEM_TURN_SIGNAL);
}

static void note_change(void)
{
    uint32_t self = stub_thread_ordinal();
    if (turn.holder == self) {
        if (turn.pc) /* was made to give up, and nobody came */
            turn.given--;
    } else {
        struct turn_change c = {turn.holder, self, turn.given, turn.pc, turn.sp};
        record_turn(&c);
        turn.holder = self;
        turn.tid = sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
        turn.since = now_ns();
    }
    turn.pc = 0;
}

static void share(void)
{
    if (turn.waiting && turn.holder == stub_thread_ordinal() && now_ns() - turn.since > SHARE_NS) {
        sys_futex_wake(&turn.taken, 1);
        struct timespec t = {0, WAY_NS};
        sys_call(SYS_nanosleep, &t, 0, 0, 0, 0, 0);
    }
}

/* While it takes the turn the thread is inside the stub, where it does not park for a checkpoint:
 * that is never seen between a change and its event. */
static bool get_recording(void)
{
    struct stub_thread *t = &stub_thread;
    share();
    for (;;) {
        t->inside++;
        if (recording() && take()) {
            wait_until_gone();
            note_change();
            t->inside--;
            return true;
        }
        t->inside--;
        if (!recording())
            return false;
        __atomic_add_fetch(&turn.waiting, 1, __ATOMIC_SEQ_CST);
        futex_wait_for(&turn.taken, 1, LOOK_NS);
        __atomic_sub_fetch(&turn.waiting, 1, __ATOMIC_SEQ_CST);
        if (recording())
            look_after_holder();
    }
}

static void give_recording(bool wake)
{
    __atomic_store_n(&turn.taken, 0, __ATOMIC_SEQ_CST);
    if (wake && turn.waiting) {
        uint8_t before = calls_pass();
        sys_futex_wake(&turn.taken, 1);
        stub_thread.dispatch = before;
    }
}

/* ---- replay ---- */

enum wait_for { WAIT_TURN, WAIT_EVENT, WAIT_END };

struct waiter {
    struct waiter *next;
    enum wait_for what;
    uint32_t thread;
    uint64_t event;
    volatile uint32_t come; /* futex */
};

static struct {
    struct stub_lock lock;
    struct log_position next;  /* all events before it have been taken */
    struct turn_change change; /* the next one at or behind `next` */
    uint64_t change_event;     /* its number; UINT64_MAX: there is none */
    struct log_position change_next;
    struct waiter *waiters;
    uint32_t nwaiters;
} past;

static void lock(void)
{
    stub_thread.inside++;
    stub_lock_slow(&past.lock);
}

static void unlock(void)
{
    __atomic_clear(&past.lock.held, __ATOMIC_RELEASE);
    stub_thread.inside--;
}

static void find_change(void)
{
    past.change_next = past.next;
    past.change_event = replay_find_turn(&past.change_next, &past.change);
}

/* Whether the holder has given up as often as it must for the next change. */
static bool change_due(void)
{
    return past.change_event != UINT64_MAX && past.change.given == turn.given;
}

/* The holder is to be made to give up. */
static bool change_forced(void)
{
    return past.change_event == past.next.event && past.change.pc && turn.taken &&
           past.change.given == turn.given + 1;
}

static bool may_go_on(const struct waiter *w)
{
    switch (w->what) {
    case WAIT_TURN:
        return turn.holder == w->thread && !turn.taken && !change_due();
    case WAIT_EVENT:
        return w->event <= past.next.event;
    default:
        return false;
    }
}

static void wake(struct waiter *w)
{
    __atomic_store_n(&w->come, 1, __ATOMIC_SEQ_CST);
    sys_futex_wake(&w->come, 1);
}

/* Hands turns on as far as it goes, and wakes whose thing has come. [locked] */
static void go_on(void)
{
    while (past.change_event == past.next.event && !turn.taken && change_due()) {
        if (turn.holder != past.change.from && past.change.from != past.change.to)
            stub_stop(3, "diverged at event %lu: thread %u gives its turn up where thread %u did",
                      (unsigned long)past.change_event, turn.holder, past.change.from);
        turn.holder = past.change.to;
        past.next = past.change_next;
        stub_gate.taken(past.change_event);
        find_change();
    }
    bool forced = change_forced();
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

/* All threads wait. Returns if that is the end of the recording, and the caller may say so. */
static void stuck(const struct waiter *w)
{
    const struct log_record *rec = replay_at(past.next);
    unlock();
    if (rec && past.change_event == rec->event)
        stub_stop(3, "diverged at event %lu: the turn of thread %u does not end as it did",
                  (unsigned long)rec->event, past.change.from);
    if (rec)
        stub_stop(3, "diverged at event %lu: thread %u does not come to %s",
                  (unsigned long)rec->event, rec->thread, record_name(rec->call));
    if (w->what != WAIT_END)
        stub_stop(0, "end of recording: event %lu", (unsigned long)past.next.event);
}

static void wait_until_come(struct waiter *w)
{
    for (uint32_t looks = 0; !w->come;) {
        bool forced = change_forced() && w->thread == past.change.to;
        if (forced && looks++)
            look_after_holder();
        futex_wait_for(&w->come, 0, forced ? LOOK_NS / 4 : 1000ul * LOOK_NS);
        if (!forced && past.nwaiters)
            look_after_holder();
    }
}

static void wait_for(struct waiter *w)
{
    uint8_t before = calls_pass();
    w->thread = stub_thread_ordinal();
    lock();
    go_on();
    if (!may_go_on(w)) {
        w->next = past.waiters;
        past.waiters = w;
        if (++past.nwaiters > turn.threads) {
            stuck(w); /* unlocks */
            stub_thread.dispatch = before;
            return;
        }
        unlock();
        wait_until_come(w);
    } else {
        unlock();
    }
    stub_thread.dispatch = before;
}

static void get_replaying(void)
{
    struct waiter w = {.what = WAIT_TURN};
    wait_for(&w);
    wait_until_gone();
    turn.tid = sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    turn.taken = 1;
}

static void give_replaying(void)
{
    uint8_t before = calls_pass();
    lock();
    turn.given++;
    turn.taken = 0;
    go_on();
    unlock();
    stub_thread.dispatch = before;
}

void turn_wait(uint64_t event)
{
    struct waiter w = {.what = WAIT_EVENT, .event = event};
    if (turn_on && event > past.next.event)
        wait_for(&w);
}

void turn_taken(struct log_position next)
{
    if (!turn_on) {
        past.next = next;
        return;
    }
    uint8_t before = calls_pass();
    lock();
    past.next = next;
    go_on();
    unlock();
    stub_thread.dispatch = before;
}

void turn_end(void)
{
    struct waiter w = {.what = WAIT_END};
    if (turn_on)
        wait_for(&w);
}

/* ---- both ---- */

void turn_give(bool wake_others)
{
    struct stub_thread *t = &stub_thread;
    if (!turn_on || !t->has_turn)
        return;
    if (replaying() && change_forced()) { /* it has come by the place */
        give_replaying();
        get_replaying();
    }
    t->has_turn = 0;
    if (replaying()) {
        give_replaying();
        return;
    }
    turn.given++;
    give_recording(wake_others);
}

void turn_get(const uint64_t *mask)
{
    struct stub_thread *t = &stub_thread;
    uint64_t all = ~0ul;
    if (!turn_on || t->has_turn)
        return;
    uint8_t before = calls_pass();
    if (mask && recording() && !replaying())
        sys_call(SYS_rt_sigprocmask, SIG_SETMASK, mask, NULL, 8, 0, 0);
    if (replaying() || !get_recording())
        get_replaying();
    t->has_turn = 1;
    if (mask)
        sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8, 0, 0);
    t->dispatch = before;
}

void turn_yield(void)
{
    if (!turn_on || replaying() || !turn.waiting)
        return;
    uint8_t before = calls_pass();
    struct timespec t = {0, WAY_NS};
    sys_call(SYS_nanosleep, &t, 0, 0, 0, 0, 0);
    stub_thread.dispatch = before;
}

void turn_threads(int more)
{
    __atomic_add_fetch(&turn.threads, (uint32_t)more, __ATOMIC_RELAXED);
}

void turn_thread_ends(void)
{
    int *address = NULL;
    turn_threads(-1);
    if (!turn_on || !stub_thread.has_turn)
        return;
    sys_call(SYS_prctl, PR_GET_TID_ADDRESS, &address, 0, 0, 0, 0);
    turn.leaving = address;
    turn_give(true);
}

void turn_begin(void)
{
    if (turn_on)
        return;
    if (replaying()) {
        find_change();
        if (past.change_event != past.next.event || past.change.from != past.change.to)
            return; /* recorded without */
        turn_on = true;
        get_replaying();
    } else {
        turn.holder = stub_thread_ordinal();
        record_turn(&(struct turn_change){turn.holder, turn.holder, turn.given, 0, 0});
        turn_on = true;
        turn.taken = 1;
        turn.tid = sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    }
    stub_thread.has_turn = 1;
}

void turn_attach(void)
{
    past.waiters = NULL;
    past.nwaiters = 0;
    past.lock.held = 0;
    if (replaying()) {
        past.next = replay_begin();
        find_change();
        if (turn_on || past.change_event != past.next.event || past.change.from != TURN_NOBODY)
            return;
        turn_on = true;
        lock();
        go_on();
        unlock();
    } else if (recording() && stub_threads_made) {
        turn_on = true;
    }
}

/* ---- a thread that spins ---- */

/* Whether there is the instruction that loops contain which wait for another thread (`pause`),
 * close before or behind, in the same page. */
static bool spins(uint64_t pc)
{
    static const uint8_t pause[] = {0xf3, 0x90};
    uint64_t from = pc - NEAR, page = pc & ~(CODE_PAGE - 1);
    from = from < page ? page : from;
    for (uint64_t at = from; at < pc + NEAR && at < page + CODE_PAGE - 1; at++)
        if (memcmp((const void *)at, pause, sizeof pause) == 0)
            return true;
    return false;
}

static void look_recording(const ucontext_t *uc, uint64_t pc, uint64_t sp)
{
    uint64_t mask;
    if (turn.looked != turn.given) {
        turn.looked = turn.given;
        turn.looks = 0;
    }
    if (!spins(pc) && ++turn.looks < LONG_LOOKS)
        return;
    memcpy(&mask, &uc->uc_sigmask, sizeof mask);
    turn.pc = pc;
    turn.sp = sp;
    turn_give(true);
    turn_yield();
    turn_get(&mask);
}

static void look_replaying(uint64_t pc, uint64_t sp)
{
    if (turn.looked != turn.given) {
        turn.looked = turn.given;
        turn.looks = 0;
    }
    turn.looks++;
    if (change_forced()) {
        bool there = sp == past.change.sp && pc - past.change.pc + NEAR <= 2 * NEAR;
        if (!there && turn.looks < LATE_LOOKS)
            return;
        give_replaying();
        get_replaying();
    } else if (past.change_event != past.next.event && spins(pc) && turn.looks > SPIN_LOOKS) {
        stub_stop(3, "diverged at event %lu: thread %u waits for what another thread does not do",
                  (unsigned long)past.next.event, turn.holder);
    }
}

bool turn_signal(const siginfo_t *info, ucontext_t *uc)
{
    struct stub_thread *t = &stub_thread;
    uint64_t value = (uint64_t)info->si_value.sival_ptr;
    bool late = info->si_code == SI_TIMER; /* signal.c */
    if ((info->si_code != SI_QUEUE && !late) || value != SYSTEM_TURN_SIGNAL)
        return false;
    bool upper = fs_base() < GATE_ADDR;
    if (late && upper)
        sys_call(SYS_timer_delete, info->si_timerid, 0, 0, 0, 0, 0);
    if (!upper || (!turn_on && !late) || t->inside || (t->dispatched && !t->dispatch)) {
        if (GATE->call_again)
            GATE->call_again(uc, upper ? fs_base() : 0);
        return true;
    }
    if (turn_on && !t->has_turn) {
        uint64_t mask;
        memcpy(&mask, &uc->uc_sigmask, sizeof mask);
        turn_get(&mask);
        return true;
    }
    uint8_t before = calls_pass();
    if (late) {
        stub_signal_place();
        t->dispatch = before;
        return true;
    }
    uint64_t pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    uint64_t sp = (uint64_t)uc->uc_mcontext.gregs[REG_RSP];
    if (replaying())
        look_replaying(pc, sp);
    else
        look_recording(uc, pc, sp);
    t->dispatch = before;
    return true;
}

void turn_resume(void)
{
    if (turn_on)
        sys_signal_thread(sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0), SIGSYS, SYSTEM_TURN_SIGNAL);
}
