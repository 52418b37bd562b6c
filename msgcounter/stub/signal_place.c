/*
 * signal_place.c - signals from outside, recorded with the place at which their handlers run
 *
 * Handlers interrupt everything here, and hold signals themselves: `held` is a ring to which only
 * they add and from which only the code that they interrupt takes.
 */
#include "msgcounter/stub/signal_place.h"

#include <string.h>
#include <time.h>

#include "msgcounter/log/system_table.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/signal.h"
#include "msgcounter/stub/signal_forward.h"
#include "msgcounter/stub/system.h"
#include "msgcounter/stub/thread.h"
#include "runtime/half/sys.h"

#define HELD    128 /* a power of two; more run where no replay has them */
#define ASIDE   64
#define IN_STUB 20 /* periods of SIGNAL_LATE_NS */

/* What a thread has of them. */
struct signals {
    uint32_t generation; /* of the process that its rings are of */
    struct {
        siginfo_t info[HELD];
        volatile uint32_t first, end;
        uint64_t moment; /* record_moment() when the first of them came */
        uint64_t cpu_ns; /* of the thread, likewise */
    } held;
    /* How often a signal has been sent from here and not been met, by how its handler is to run. */
    volatile uint16_t due[SIGNAL_RUNS][_NSIG + 1];
    /* Signals whose handlers have run aside in the present MPI call. */
    siginfo_t aside[ASIDE];
    volatile uint32_t naside;
    /* Times in a row that it was late in code of dbg3's own, which is short, and from which a
     * handler must not jump away. */
    unsigned in_stub;
    /* The timer of the longest wait. */
    struct {
        int id;
        uint32_t generation; /* of the process that it is of; 0: none */
    } timer;
};
static struct signals of_main;
static __thread struct signals *mine; /* NULL: a thread that we have not seen begin */

static volatile uint32_t due_of_all[_NSIG + 1];

static const char held_frame; /* its address marks a frame, see signal_was_placed() */

bool signal_exact(void)
{
    return stub_thread.dispatched && (schedule_on || !stub_threads_made) && mine && stub_active &&
           GATE->mode != GATE_LIVE;
}

void signal_place_thread_begins(bool is_main)
{
    mine = is_main ? &of_main : stub_thread_alloc(sizeof *mine);
    if (is_main)
        signal_forward_begin();
}

void signal_place_thread_ends(void)
{
    struct signals *s = mine;
    mine = NULL;
    if (s && s->timer.generation == GATE->generation)
        sys_call(SYS_timer_delete, s->timer.id, 0, 0, 0, 0, 0);
    stub_thread_free(s);
}

/* What was held when an image was saved is in the log. */
static void begin_process(void)
{
    if (mine->generation == GATE->generation)
        return;
    mine->generation = GATE->generation;
    mine->held.first = mine->held.end = mine->naside = 0;
}

bool signal_was_placed(const ucontext_t *frame)
{
    return frame->uc_link != (const void *)&held_frame;
}

int signal_logged(int sig)
{
    return (schedule_on || !stub_threads_made) && !due_of_all[sig];
}

/* Its return is no call of the application. */
static enum signal_run unplaced(ucontext_t *uc, enum signal_run run)
{
    uc->uc_link = (void *)(uint64_t)&held_frame;
    return run;
}

/* ---- the longest wait ---- */

static void timer_set(long ns)
{
    struct itimerspec late = {.it_value = {0, ns}, .it_interval = {0, ns}};
    sys_call(SYS_timer_settime, mine->timer.id, 0, &late, NULL, 0, 0);
}

static void timer_start(void)
{
    if (mine->timer.generation != GATE->generation) {
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGSYS};
        event.sigev_value.sival_ptr = (void *)GATE_LATE_VALUE;
        event._sigev_un._tid = (int)sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
        if (sys_call(SYS_timer_create, CLOCK_MONOTONIC, &event, &mine->timer.id, 0, 0, 0) < 0)
            return;
        mine->timer.generation = GATE->generation;
    }
    timer_set(SIGNAL_LATE_NS);
}

static void timer_stop(void)
{
    if (mine->timer.generation == GATE->generation)
        timer_set(0);
}

/* ---- held signals ---- */

/* The kernel, too, keeps only one of each of the signals below 32. */
static bool is_held(int sig)
{
    for (uint32_t i = mine->held.first; i != mine->held.end && sig < SIGRTMIN; i++)
        if (mine->held.info[i % HELD].si_signo == sig)
            return true;
    return false;
}

/* Returns false if there is no room. */
static bool hold(int sig, const siginfo_t *info)
{
    if (is_held(sig))
        return true;
    if (mine->held.end - mine->held.first >= HELD - (sig != GATE_SIGNAL)) /* that has a place */
        return false;
    siginfo_t *to = &mine->held.info[mine->held.end++ % HELD];
    *to = *info;
    to->si_signo = sig;
    if (mine->held.end - mine->held.first == 1) {
        mine->held.moment = record_moment();
        mine->held.cpu_ns = sys_thread_cpu_ns();
        mine->in_stub = 0;
        timer_start();
    }
    if (!schedule_on) /* else each thread looks itself */
        __atomic_or_fetch(&GATE->word, GATE_WORD_SIGNAL, __ATOMIC_RELAXED);
    return true;
}

/* What cancels the thread, for which an MPI call is no place. */
static bool cancels_next(void)
{
    return mine->held.first != mine->held.end &&
           mine->held.info[mine->held.first % HELD].si_signo == GATE_SIGNAL;
}

static bool unhold(siginfo_t *first)
{
    if (mine->held.first == mine->held.end)
        return false;
    *first = mine->held.info[mine->held.first % HELD];
    mine->held.first++;
    if (mine->held.first == mine->held.end)
        timer_stop();
    return true;
}

static void add_due(enum signal_run how, int sig, int more)
{
    mine->due[how][sig] = (uint16_t)(mine->due[how][sig] + more);
    __atomic_add_fetch(&due_of_all[sig], (uint32_t)more, __ATOMIC_RELAXED);
}

/* Sends the thread a signal, for its handler to run as soon as the kernel delivers it. */
static void send(const siginfo_t *info, enum signal_run how)
{
    int sig = info->si_signo;
    if (!stub_signal_handled(sig)) /* any more: it must not end the process now */
        return;
    add_due(how, sig, 1);
    if (signal_self(sig, info) < 0)
        add_due(how, sig, -1);
}

static void record(enum signal_where where, const siginfo_t *info)
{
    stub_thread.inside++;
    record_signal(where, stub_thread.calls, info);
    stub_thread.inside--;
}

/* ---- a signal has come ---- */

/* In a replay it is none of the recorded execution, but for what a debugger makes of it. */
static enum signal_run met_replaying(ucontext_t *uc)
{
    return unplaced(uc, GATE->replay_diverted ? SIGNAL_RUN_ASIDE : SIGNAL_RUN_NOT);
}

/* The handler is application's code: the thread has the turn for it, and the caller gives it up
 * again. */
static enum signal_run met_in_call(const siginfo_t *info)
{
    schedule_get(NULL);
    if (!signal_exact()) /* turns have ended */
        return SIGNAL_RUN_ASIDE;
    if (replaying()) /* it was saved before its turn came */
        replay_signal_in_call();
    else
        record(SIGNAL_IN, info);
    return SIGNAL_RUN;
}

bool signal_elsewhere(int sig, const siginfo_t *info, ucontext_t *uc)
{
    struct stub_thread *t = &stub_thread;
    if (!schedule_on || replaying() || !stub_active || sig == SIGPROF || (mine && !t->outside))
        return false;
    uint8_t before = t->dispatch;
    t->dispatch = 0;
    bool gone = signal_forward(sig, info);
    t->dispatch = before;
    if (gone)
        unplaced(uc, SIGNAL_RUN_NOT);
    return gone;
}

enum signal_run signal_met(int sig, const siginfo_t *info, ucontext_t *uc, bool outside)
{
    struct stub_thread *t = &stub_thread;
    outside |= t->outside;
    begin_process();
    for (enum signal_run how = SIGNAL_RUN; how < SIGNAL_RUNS; how++)
        if (mine->due[how][sig]) {
            add_due(how, sig, -1);
            return how == SIGNAL_RUN_ASIDE ? unplaced(uc, how) : how;
        }
    if (replaying())
        return met_replaying(uc);
    if (sig == SIGPROF)
        return unplaced(uc, SIGNAL_RUN_ASIDE);
    uint64_t pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    bool behind_call = !outside && t->inside == 0 && pc == t->behind;
    uint8_t before = t->dispatch;
    t->dispatch = 0;
    enum signal_run run = SIGNAL_RUN;
    if (t->in_call)
        run = met_in_call(info);
    else if (behind_call)
        record(SIGNAL_AFTER, info);
    else
        run = hold(sig, info) ? SIGNAL_RUN_NOT : SIGNAL_RUN_ASIDE;
    t->dispatch = before;
    return run == SIGNAL_RUN ? run : unplaced(uc, run);
}

/* ---- places ---- */

void signal_place_before_save(void)
{
    for (uint32_t i = 0; mine && i < mine->naside; i++)
        record(SIGNAL_OWN, &mine->aside[i]);
    if (mine)
        mine->naside = 0;
}

void signal_again(const void *info)
{
    send(info, SIGNAL_RUN_ASIDE);
}

/* How the next signal is to run here; SIGNAL_RUN_NOT: there is none. Its handler must have the same
 * stack in a replay: so one function sends it, from one place. */
__attribute__((noinline)) static enum signal_run next_recording(siginfo_t *info)
{
    signal_place_before_save();
    if (!unhold(info))
        return SIGNAL_RUN_NOT;
    record(SIGNAL_AFTER, info);
    return SIGNAL_RUN;
}

__attribute__((noinline)) static enum signal_run next_replaying(siginfo_t *info)
{
    static const uint8_t runs[] = {[SIGNAL_AFTER] = SIGNAL_RUN,
                                   [SIGNAL_LATE] = SIGNAL_RUN_LATE,
                                   [SIGNAL_OWN] = SIGNAL_RUN_ASIDE};
    enum signal_where where;
    const siginfo_t *was = replay_signal(stub_thread.calls, &where);
    if (!was)
        return SIGNAL_RUN_NOT;
    *info = *was;
    return runs[where];
}

__attribute__((noinline)) static void send_all(void)
{
    siginfo_t info;
    enum signal_run how;
    while ((how = replaying() ? next_replaying(&info) : next_recording(&info)) != SIGNAL_RUN_NOT)
        send(&info, how);
}

void signal_place(uint64_t pc)
{
    stub_thread.calls++;
    if (pc)
        stub_thread.behind = pc;
    if (signal_exact()) {
        begin_process();
        send_all();
    }
}

void signal_place_left(void)
{
    if (!signal_exact()) {
        __atomic_and_fetch(&GATE->word, ~(uint32_t)GATE_WORD_SIGNAL, __ATOMIC_SEQ_CST);
        return;
    }
    begin_process();
    if (replaying() || mine->naside || record_moment() != mine->held.moment)
        send_all();
    if (replaying() || schedule_on)
        return;
    /* In this order: another may come meanwhile. */
    __atomic_and_fetch(&GATE->word, ~(uint32_t)GATE_WORD_SIGNAL, __ATOMIC_SEQ_CST);
    if (mine->held.first != mine->held.end || mine->naside)
        __atomic_or_fetch(&GATE->word, GATE_WORD_SIGNAL, __ATOMIC_SEQ_CST);
}

void signal_place_again(void)
{
    if (signal_exact()) {
        begin_process();
        send_all();
    }
}

void signal_before_wait(void)
{
    siginfo_t first;
    begin_process();
    while (!replaying() && unhold(&first)) {
        if (schedule_on) { /* it is recorded when it has come and the thread has the turn */
            signal_self(first.si_signo, &first);
            continue;
        }
        record(SIGNAL_IN, &first);
        send(&first, SIGNAL_RUN);
    }
}

void signal_in_call(uint64_t mask, uint64_t behind)
{
    uint64_t all = ~0ul;
    begin_process();
    while (replay_signal_is_in_call()) {
        schedule_get(NULL);
        const siginfo_t *info = replay_signal_in_call();
        uint64_t open = mask & ~(1ul << (info->si_signo - 1)) & ~SYSTEM_SIGNAL_BITS;
        send(info, SIGNAL_RUN_LATE); /* on the stack of the handler of SIGSYS */
        stub_thread.call_behind = behind; /* a handler has made others */
        sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &open, NULL, 8, 0, 0);
        sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8, 0, 0);
        schedule_give();
    }
    stub_thread.call_behind = 0;
}

/* ---- what has waited for long ---- */

/* In its own code the thread has had that time only if it ran. If it has made another thread
 * meanwhile, handlers just run. */
static void run_late(bool outside)
{
    siginfo_t first;
    mine->in_stub = 0;
    bool exact = signal_exact();
    if (exact && !outside && sys_thread_cpu_ns() - mine->held.cpu_ns < SIGNAL_LATE_NS)
        return;
    while ((!outside || (mine->naside < ASIDE && !cancels_next())) && unhold(&first)) {
        if (exact && outside)
            mine->aside[mine->naside++] = first;
        else if (exact)
            record(SIGNAL_LATE, &first);
        send(&first, outside ? SIGNAL_RUN_ASIDE : SIGNAL_RUN);
    }
}

/* Of a thread outside of turns: another one may be in the application by now. */
static void forward_held(void)
{
    siginfo_t done;
    while (mine && mine->held.first != mine->held.end) {
        const siginfo_t *first = &mine->held.info[mine->held.first % HELD];
        if (!signal_forward(first->si_signo, first))
            return;
        unhold(&done);
    }
}

void signal_late(ucontext_t *uc)
{
    uint64_t fs = fs_base(), pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    bool lower = fs >= GATE_ADDR;
    uint64_t upper = lower ? *(const uint64_t *)(fs + (uint64_t)GATE->tls_upper_fs) : fs;
    /* In the lower half, but in no call: a checkpoint. The timer goes on. */
    if (upper == 0 || (!lower && pc >= GATE_ADDR))
        return;
    set_fs_base(upper);
    uint8_t before = stub_thread.dispatch;
    stub_thread.dispatch = 0;
    const struct stub_thread *t = &stub_thread;
    bool on_its_way = !lower && t->inside == 0 && !t->outside && system_is_stub(pc);
    bool in_stub = t->writing || t->outside || (!lower && t->inside);
    if (t->outside && signal_exact() && !replaying())
        forward_held();
    bool soon = in_stub && mine && ++mine->in_stub < IN_STUB;
    if (!on_its_way && !soon && !replaying() && mine)
        run_late(lower || t->inside || t->outside);
    stub_thread.dispatch = before;
    if (lower)
        set_fs_base(fs);
}

void signal_place_attach(void)
{
    if (replaying() && !stub_threads_made)
        __atomic_or_fetch(&GATE->word, GATE_WORD_SIGNAL, __ATOMIC_RELAXED);
}
