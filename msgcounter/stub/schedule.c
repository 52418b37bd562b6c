/*
 * schedule.c - threads take turns while they are recorded
 *
 * schedule.word is a lock with the kernel's futex(2) behind it. Whoever gets it from another thread
 * writes the event. A thread that waits looks now and then after the one whose turn it is: whether
 * it spins, or neither gives up nor gets on, so that turns must end.
 *
 * While a thread takes the turn it is inside the stub, where it does not park for a checkpoint: an
 * image never shows the moment between a change and its event.
 */
#include "msgcounter/stub/schedule.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "msgcounter/log/system_table.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/init.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/schedule_private.h"
#include "msgcounter/stub/signal_place.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/system.h"
#include "msgcounter/stub/thread.h"
#include "runtime/half/sys.h"

#define SHARE_NS     4000000 /* for which a thread may get its turn back before others */
#define WAY_NS       100000  /* for which it then leaves it to others */
#define SOON_LOOKS   20      /* after which looks are rarer */
#define RARE_NS      10000000
#define LONGEST_NS   10000000000ull /* of CPU time that a turn may take while others wait */
#define STILL_NS     100000         /* of it in a look: less is none */
#define SLEEP_LOOKS  5              /* so many without any: it sleeps, and spins not */
#define STILL_LOOKS  500            /* so many without any: the thread waits, and nothing told us */

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

bool schedule_on;
struct schedule schedule = {.holder = SCHEDULE_NOBODY};

static volatile uint32_t *word_futex(void)
{
    return (volatile uint32_t *)&schedule.word; /* little endian */
}

uint8_t schedule_calls_pass(void)
{
    uint8_t before = stub_thread.dispatch;
    stub_thread.dispatch = 0;
    return before;
}

void schedule_futex_wait(volatile uint32_t *word, uint32_t value, uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    sys_call(SYS_futex, word, SYS_FUTEX_WAIT, value, &t, 0, 0);
}

void schedule_wait_until_gone(void)
{
    volatile int *word = schedule.leaving;
    if (!word)
        return;
    for (int tid; (tid = *word);) {
        struct timespec t = {0, LOOK_NS};
        /* not the private kind: the kernel's wake at the end of a thread is not (mm_release()) */
        sys_call(SYS_futex, word, FUTEX_WAIT, tid, &t, 0, 0);
    }
    schedule.leaving = NULL;
    sys_call(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0); /* it wakes one: perhaps it was not for us */
}

static long kernel_tid(void)
{
    return sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

static uint64_t now_ns(void)
{
    struct timespec t = {0, 0};
    ((int (*)(clockid_t, struct timespec *))GATE->kernel_vdso[GATE_VDSO_CLOCK_GETTIME])(
        CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void schedule_show(void)
{
    stub_gate.turns = (const uint8_t *)&schedule_on;
    stub_gate.turn = &schedule.word;
    stub_gate.turn_tid = &schedule.tid;
    stub_gate.event = schedule_event();
}

/* ---- the end of turns ---- */

void schedule_stop(void)
{
    schedule_on = false;
    sys_futex_wake(word_futex(), INT_MAX);
}

static bool change_state(uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(&schedule.word, &from, to, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

void schedule_say_free(const char *reason)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "dbg3: rank %d: from event %lu on its threads run freely, because %s: "
                     "a replay may go another way\n",
                     init_rank_in_job(), (unsigned long)record_event(), reason);
    sys_call(SYS_write, STDERR_FILENO, text, n, 0, 0, 0);
}

/* Whoever makes the word say so writes the event; the others wait for that. */
static void end(const char *reason)
{
    stub_thread.inside++;
    uint64_t word = schedule.word;
    if (word % SCHEDULE_GIVEN == SCHEDULE_TAKEN &&
        change_state(word, word - SCHEDULE_TAKEN + SCHEDULE_ENDED)) {
        struct schedule_change c = {schedule.holder, stub_thread_ordinal(), word / SCHEDULE_GIVEN,
                                    0, 0, SCHEDULE_END};
        record_schedule(&c);
        schedule_stop();
        schedule_say_free(reason);
    }
    stub_thread.inside--;
}

static void wait_until_ended(void)
{
    while (schedule_on)
        schedule_futex_wait(word_futex(), *word_futex(), LOOK_NS);
}

void schedule_end(const char *reason)
{
    if (!schedule_on || !stub_thread.has_turn)
        return;
    uint8_t before = schedule_calls_pass();
    if (replaying())
        schedule_end_replay();
    else
        end(reason);
    stub_thread.dispatch = before;
}

/* ---- a thread waits for the turn ---- */

struct patience {
    uint64_t word, cpu_ns, last_ns;
    unsigned looks, still;
};

uint64_t schedule_holder_ns(void)
{
    struct timespec t = {0, 0};
    clockid_t clock = (clockid_t)(~(unsigned)schedule.tid << 3 | 6); /* linux/posix-timers.h */
    sys_call(SYS_clock_gettime, clock, &t, 0, 0, 0, 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Why turns must end; NULL: it may yet give up. */
static const char *lose_patience(struct patience *p)
{
    uint64_t word = schedule.word, ns = schedule_holder_ns();
    if (p->word != word || ns < p->last_ns) /* it is another thread's time, or that has ended */
        *p = (struct patience){.word = word, .cpu_ns = ns, .last_ns = ns};
    p->still = ns - p->last_ns < STILL_NS ? p->still + 1 : 0;
    p->last_ns = ns;
    p->looks++;
    if (ns - p->cpu_ns > LONGEST_NS)
        return "one of them ran for ten seconds without a call while others waited";
    if (p->still > STILL_LOOKS)
        return "one of them waits in a way that is not known";
    return NULL;
}

static void wait_recording(struct patience *p)
{
    uint32_t seen = *word_futex();
    if (seen % SCHEDULE_GIVEN != SCHEDULE_TAKEN)
        return;
    __atomic_add_fetch(&schedule.waiting, 1, __ATOMIC_SEQ_CST);
    schedule_futex_wait(word_futex(), seen, p->looks < SOON_LOOKS ? LOOK_NS : RARE_NS);
    __atomic_sub_fetch(&schedule.waiting, 1, __ATOMIC_SEQ_CST);
    if (!recording() || *word_futex() != seen)
        return;
    const char *reason = lose_patience(p);
    if (reason)
        end(reason);
    else if (p->still < SLEEP_LOOKS)
        schedule_look();
}

/* ---- recording ---- */

static bool take(void)
{
    uint64_t word = schedule.word;
    return word % SCHEDULE_GIVEN == SCHEDULE_FREE && change_state(word, word + SCHEDULE_TAKEN);
}

static void note_change(void)
{
    uint32_t self = stub_thread_ordinal();
    if (schedule.holder == self) {
        if (schedule.pc) /* was made to give up, and nobody came */
            schedule.word -= SCHEDULE_GIVEN;
    } else {
        struct schedule_change c = {schedule.holder, self, schedule_given(), schedule.pc,
                                    schedule.sp, SCHEDULE_CHANGE};
        record_schedule(&c);
        schedule.holder = self;
        schedule.tid = kernel_tid();
        schedule.since = now_ns();
    }
    schedule.pc = 0;
}

/* A thread that gives its turn up often would get it back each time before others awake. */
static void share(void)
{
    if (schedule.waiting && schedule.holder == stub_thread_ordinal() &&
        now_ns() - schedule.since > SHARE_NS) {
        sys_futex_wake(word_futex(), 1);
        schedule_yield();
    }
}

/* Returns in a replay if this is where an image was saved. */
static void get_recording(void)
{
    struct stub_thread *t = &stub_thread;
    struct patience patience = {.word = UINT64_MAX};
    share();
    while (schedule_on && recording()) {
        t->inside++;
        bool taken = recording() && take();
        if (taken) {
            schedule_wait_until_gone();
            note_change();
            t->has_turn = 1;
        }
        t->inside--;
        if (taken)
            return;
        wait_recording(&patience);
    }
}

static void give_recording(void)
{
    for (;;) {
        uint64_t word = schedule.word;
        if (word % SCHEDULE_GIVEN != SCHEDULE_TAKEN) {
            wait_until_ended();
            return;
        }
        if (change_state(word, word - SCHEDULE_TAKEN + SCHEDULE_GIVEN))
            break;
    }
    if (schedule.waiting)
        sys_futex_wake(word_futex(), 1);
}

/* ---- both ---- */

void schedule_give(void)
{
    struct stub_thread *t = &stub_thread;
    if (!schedule_on || !t->has_turn)
        return;
    uint8_t before = schedule_calls_pass();
    if (replaying())
        schedule_give_replay();
    else
        give_recording();
    t->has_turn = 0;
    t->dispatch = before;
}

void schedule_get(const uint64_t *mask)
{
    struct stub_thread *t = &stub_thread;
    uint64_t all = ~0ul;
    if (!schedule_on || t->has_turn)
        return;
    uint8_t before = schedule_calls_pass();
    if (mask)
        sys_call(SYS_rt_sigprocmask, SIG_SETMASK, mask, NULL, 8, 0, 0);
    if (recording())
        get_recording();
    if (schedule_on && replaying() && !t->has_turn)
        schedule_get_replay();
    t->has_turn = 1;
    schedule.mask = t->mask;
    if (mask)
        sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8, 0, 0);
    t->dispatch = before;
}

void schedule_get_in_application(void)
{
    if (schedule_on && stub_thread.inside == 0)
        stub_leave_in_turn();
}

void schedule_yield(void)
{
    if (!schedule_on || replaying() || !schedule.waiting)
        return;
    uint8_t before = schedule_calls_pass();
    struct timespec t = {0, WAY_NS};
    sys_call(SYS_nanosleep, &t, 0, 0, 0, 0, 0);
    stub_thread.dispatch = before;
}

void schedule_threads(int more)
{
    __atomic_add_fetch(&schedule.threads, (uint32_t)more, __ATOMIC_RELAXED);
}

void schedule_thread_ends(void)
{
    int *address = NULL;
    if (schedule_on && stub_thread.has_turn) {
        sys_call(SYS_prctl, PR_GET_TID_ADDRESS, &address, 0, 0, 0, 0);
        schedule.leaving = address;
        schedule_give();
    }
    schedule_threads(-1); /* not before: while it has the turn, not all that there are wait */
}

static void begin_recording(uint32_t first)
{
    struct schedule_change c = {SCHEDULE_NOBODY, first, schedule_given(), 0, 0, SCHEDULE_BEGIN};
    record_schedule(&c);
    schedule.holder = first;
}

void schedule_begin(void)
{
    uint64_t word = schedule.word;
    if (schedule_on || word % SCHEDULE_GIVEN != SCHEDULE_FREE || GATE->mode == GATE_LIVE)
        return;
    uint8_t before = schedule_calls_pass();
    stub_thread.inside++;
    if (replaying() && !schedule_begin_replay()) {
        schedule.word = SCHEDULE_ENDED; /* recorded without */
    } else {
        if (recording())
            begin_recording(stub_thread_ordinal());
        schedule.holder = stub_thread_ordinal();
        schedule.tid = kernel_tid();
        schedule.since = now_ns();
        schedule.word = word + SCHEDULE_TAKEN;
        stub_thread.has_turn = 1;
        schedule.mask = stub_thread.mask;
        schedule_on = true;
    }
    stub_thread.inside--;
    stub_thread.dispatch = before;
}

void schedule_attach(void)
{
    schedule.waiting = 0;
    schedule.tid = 0;
    schedule.leaving = NULL;
    if (replaying()) {
        schedule_attach_replay();
    } else if (stub_threads_made && !schedule_on && system_recorded() &&
               schedule.word % SCHEDULE_GIVEN == SCHEDULE_FREE) {
        begin_recording(SCHEDULE_NOBODY);
        schedule_on = true;
    }
}

void schedule_thread_resumes(uint64_t upper_fs, bool in_application)
{
    const struct stub_thread *t =
        (const struct stub_thread *)(upper_fs + (uint64_t)stub_gate.tls_thread);
    if (!schedule_on)
        return;
    if (t->has_turn)
        schedule.tid = kernel_tid();
    else if (in_application)
        sys_signal_thread(kernel_tid(), SIGSYS, SYSTEM_SCHEDULE_SIGNAL);
}

/* ---- a thread is looked at ---- */

/* It is made to give up at this place. Returns whether that is an event: another thread came. */
static bool give_way(const ucontext_t *uc)
{
    uint64_t mask, given = schedule_given();
    memcpy(&mask, &uc->uc_sigmask, sizeof mask);
    schedule.pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    schedule.sp = (uint64_t)uc->uc_mcontext.gregs[REG_RSP];
    schedule_give();
    schedule_yield();
    schedule_get(&mask);
    return schedule_given() != given;
}

static void looked_at(const ucontext_t *uc)
{
    const struct schedule_change *was = replaying() ? schedule_forced() : NULL;
    if (replaying() && schedule_spins_as(uc, was))
        schedule_give_way_replay();
    else if (replaying() || !schedule_spins(uc) || !schedule.waiting || !give_way(uc))
        return;
    signal_place_again();
}

/* Neither in the application nor in a library that it has called. A look may have been sent when
 * the thread still was: it must not get a turn here, nor be made to give one up. */
static bool in_stub(const ucontext_t *uc)
{
    const struct stub_thread *t = &stub_thread;
    const greg_t *g = uc->uc_mcontext.gregs;
    return t->inside || t->parking || t->outside || (t->dispatched && !t->dispatch) ||
           system_is_stub((uint64_t)g[REG_RIP]) || system_in_handler((uint64_t)g[REG_RSP]);
}

bool schedule_signal(const siginfo_t *info, ucontext_t *uc)
{
    struct stub_thread *t = &stub_thread;
    if (info->si_code != SI_QUEUE || (uint64_t)info->si_value.sival_ptr != SYSTEM_SCHEDULE_SIGNAL)
        return false;
    bool upper = fs_base() < GATE_ADDR;
    if (!upper || !schedule_on || in_stub(uc)) {
        if (GATE->call_again)
            GATE->call_again(uc, upper ? fs_base() : 0);
        return true;
    }
    uint8_t before = schedule_calls_pass();
    if (t->has_turn) {
        looked_at(uc);
    } else {
        uint64_t mask;
        memcpy(&mask, &uc->uc_sigmask, sizeof mask);
        schedule_get(&mask);
    }
    t->dispatch = before;
    return true;
}
