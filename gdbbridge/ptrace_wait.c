/*
 * ptrace_wait.c - wait statuses: what happened, stopping all threads, choosing the event to report
 *
 * Each status is handled as it comes. It either concerns only us and the thread goes on (a new
 * thread, a signal that GDB does not want, a step inside a range), or it becomes the thread's
 * event. poll() then stops all other threads, whose own statuses may become further events, reports
 * one event, and leaves the others for the next resume().
 *
 * Source: ptrace(2).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gdbbridge/dispatch.h"
#include "gdbbridge/journal.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/ptrace_private.h"
#include "gdbbridge/reverse.h"
#include "gdbbridge/reverse_wait.h"
#include "gdbbridge/signals.h"

#ifndef TRAP_PERF
#define TRAP_PERF 6
#endif

_Static_assert(sizeof((struct stop){0}.text) == sizeof((struct event){0}.console) &&
                   sizeof((struct stop){0}.text) == sizeof((struct process){0}.exit_text),
               "one text goes through all three");

pid_t wait_for(pid_t pid, int *status, int flags)
{
    pid_t got;
    do
        got = waitpid(pid, status, __WALL | flags);
    while (got < 0 && errno == EINTR);
    return got;
}

/* ------------------------------------------------------------------ events */

static struct event *set_event(struct thread *th, enum event_kind kind, int code)
{
    th->has_event = true;
    th->tripped = th->stopping = th->pass_due = false;
    th->event = (struct event){.kind = kind, .code = code};
    th->event.thread = thread_shown(th);
    return &th->event;
}

bool wait_is_stopping(const struct process *p)
{
    const struct ptrace_target *t = p->owner;
    return t->stopping && (!t->stopping_only || t->stopping_only == p);
}

void wait_go_on(struct thread *th, int signal)
{
    const struct process *p = th->process;
    if (p->owner->running && !wait_is_stopping(p) && th->resumed && !th->stopping && !p->hidden) {
        thread_start(th, signal);
        return;
    }
    if (signal)
        th->deliver = signal;
    if (th->stopping)
        set_event(th, EVENT_STOPPED, 0);
}

static void set_interrupted(struct thread *th)
{
    set_event(th, EVENT_STOPPED, SIGINT);
    th->faked = SIGINT;
    th->process->owner->interrupt = false;
    journal_rewind(th->tid);
    thread_forget_registers(th);
}

/* ------------------------------------------------------------------ births */

static bool take_early(struct ptrace_target *t, pid_t tid, int *status)
{
    for (struct early **at = &t->early; *at; at = &(*at)->next) {
        struct early *e = *at;
        if (e->tid != tid)
            continue;
        *status = e->status;
        *at = e->next;
        free(e);
        return true;
    }
    return false;
}

/* A status of a process we do not know: a newborn whose parent's event is still to come, what we
 * have let go in the meantime, or a child of the caller's. */
static void unknown(struct ptrace_target *t, pid_t tid, int status)
{
    if (WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP) {
        struct early *e = malloc(sizeof *e);
        if (!e)
            abort();
        *e = (struct early){t->early, tid, status};
        t->early = e;
    } else if (WIFSTOPPED(status) && status >> 16) {
        ptrace(PTRACE_DETACH, tid, NULL, 0);
    } else if (t->options.other_child) {
        t->options.other_child(t->options.other_child_arg, tid, status);
    }
}

static void on_clone(struct thread *th)
{
    struct ptrace_target *t = th->process->owner;
    unsigned long tid;
    int status;
    if (!ptrace(PTRACE_GETEVENTMSG, th->tid, NULL, &tid) && !thread_find(t, (pid_t)tid)) {
        struct thread *child = thread_add(th->process, (pid_t)tid, THREAD_RUNNING);
        child->newborn = child->resumed = true;
        if (take_early(t, child->tid, &status))
            wait_handle(t, child->tid, status);
    }
    wait_go_on(th, 0);
}

/* The child of a fork, once it has stopped; NULL if it was killed before. */
static struct process *adopt_child(struct thread *parent, bool vfork)
{
    struct process *p = parent->process, *child;
    struct ptrace_target *t = p->owner;
    unsigned long pid;
    int status;
    if (ptrace(PTRACE_GETEVENTMSG, parent->tid, NULL, &pid))
        return NULL;
    if (!take_early(t, (pid_t)pid, &status) &&
        (wait_for((pid_t)pid, &status, 0) < 0 || !WIFSTOPPED(status)))
        return NULL;
    child = process_add(t, (pid_t)pid, p->attached);
    thread_add(child, (pid_t)pid, THREAD_STOPPED);
    points_copy(child, p);
    child->vfork_parent = vfork ? p : NULL;
    child->hidden = true;
    child->hide_from = p->hide_from;
    if (p->exec_file && !(child->exec_file = strdup(p->exec_file)))
        abort();
    if (p->auxv) {
        child->auxv = malloc(p->auxv_size);
        if (!child->auxv)
            abort();
        child->auxv_size = p->auxv_size;
        memcpy(child->auxv, p->auxv, p->auxv_size);
    }
    return child;
}

static void on_fork(struct thread *th, bool vfork)
{
    struct process *p = th->process, *child = adopt_child(th, vfork);
    th->in_vfork = vfork;
    if (child && (vfork ? p->owner->wanted.vfork : p->owner->wanted.fork)) {
        struct event *e = set_event(th, vfork ? EVENT_VFORK : EVENT_FORK, 0);
        e->child = (struct ptid){child->pid, child->pid};
        return;
    }
    if (child && vfork)
        points_lift(p); /* the child uses our memory, untraced, until it has its own */
    if (child)
        process_let_go(child);
    wait_go_on(th, 0);
}

static void on_vfork_done(struct thread *th)
{
    struct process *p = th->process;
    th->in_vfork = false;
    if (p->points_suspended) {
        points_put_back(p);
        wait_go_on(th, 0);
    } else if (p->owner->wanted.vfork) {
        set_event(th, EVENT_VFORK_DONE, 0);
    } else {
        wait_go_on(th, 0);
    }
}

/* ------------------------------------------------------------------ ends */

/* Only the leader is left, whichever thread called exec, and all it had in memory is gone. */
static void on_exec(struct thread *th)
{
    struct process *p = th->process;
    unsigned long former;
    struct thread *caller = NULL;
    if (p->owner->options.record) {
        journal_end();
        past_forget(p->owner->past);
        journal_program(th->tid);
        th->in_call = false;
    }
    if (!ptrace(PTRACE_GETEVENTMSG, th->tid, NULL, &former))
        caller = thread_find(p->owner, (pid_t)former);
    if (caller && caller != th) {
        th->resumed = caller->resumed;
        th->stepping = caller->stepping;
        th->has_event = false;
    }
    for (struct thread *other = p->threads, *next; other; other = next) {
        next = other->next;
        if (other != th)
            thread_remove(other);
    }
    points_forget(p);
    if (p->memory >= 0)
        close(p->memory);
    p->memory = -1;
    p->vfork_parent = NULL;
    free(p->exec_file);
    free(p->auxv);
    p->exec_file = NULL;
    p->auxv = NULL;
    p->hide_from = 0;
    if (!p->owner->wanted.exec) {
        wait_go_on(th, 0);
        return;
    }
    struct event *e = set_event(th, EVENT_EXEC, 0);
    procfs_exe(p->pid, e->path, sizeof e->path);
}

static void on_end(struct thread *th, int status)
{
    struct process *p = th->process;
    if (th->tid != p->pid) {
        thread_remove(th);
        p->owner->gone_quietly = true;
        return;
    }
    journal_drop(p->pid);
    p->gone = true;
    p->status = status;
    while (p->threads)
        thread_remove(p->threads);
}

/* ------------------------------------------------------------------ stops */

/*
 * A process that handles its own system calls blocks all signals meanwhile, those of perf events,
 * too: going back finds no place in there. So an interrupt waits until it is behind the call: a
 * signal of ours, blocked like the others, stops it there. Another interrupt does not wait.
 * The same where the call's signal is yet to come: the thread is behind it, and has not made it.
 */
static bool defers(struct thread *th)
{
    pid_t pid = th->process->pid;
    if (!th->process->owner->past || th->deferral != DEFER_NONE || !dispatch_active(th->tid))
        return false;
    if ((!dispatch_inside(th->tid) && !procfs_task_pending(pid, th->tid, SIGSYS)) ||
        syscall(SYS_tgkill, pid, th->tid, SIGTRAP))
        return false;
    th->deferral = DEFER_INTERRUPT;
    th->process->owner->interrupt = false;
    return true;
}

/* Is this the signal that stops it there? */
static bool is_deferred(struct thread *th, int signal, const siginfo_t *info)
{
    if (th->deferral == DEFER_NONE || signal != SIGTRAP || info->si_code != SI_TKILL)
        return false;
    bool wanted = th->deferral == DEFER_INTERRUPT;
    th->deferral = DEFER_NONE;
    if (wanted)
        set_interrupted(th);
    else
        wait_go_on(th, 0);
    return true;
}

static bool met_int3(const struct thread *th)
{
    struct __ptrace_peeksiginfo_args at = {.nr = 1};
    siginfo_t info;
    while (ptrace(PTRACE_PEEKSIGINFO, th->tid, &at, &info) == 1) {
        if (info.si_signo == SIGTRAP && info.si_code == SI_KERNEL)
            return true;
        at.off++;
    }
    return false;
}

/*
 * The kernel reports a stop that we have asked for before a trap, which waits then, as a signal. A
 * thread that has made its step, or met a breakpoint, and seems to be behind that, goes on to the
 * trap: it executes no instruction.
 */
static bool goes_to_trap(struct thread *th)
{
    bool stepped = th->stepping && procfs_task_pending(th->process->pid, th->tid, SIGTRAP);
    if (!stepped && !met_int3(th))
        return false;
    thread_start(th, 0);
    return true;
}

/* The stop that PTRACE_INTERRUPT asks for, that a newborn begins with, or that of job control. */
static void on_event_stop(struct thread *th, int signal, bool interrupted)
{
    struct ptrace_target *t = th->process->owner;
    if (th->newborn) {
        th->newborn = false;
        if (t->wanted.threads)
            set_event(th, EVENT_THREAD_CREATED, 0);
        else
            wait_go_on(th, 0);
        return;
    }
    bool job = signal != SIGTRAP;
    th->job_stopped = job;
    if (!job && goes_to_trap(th))
        return;
    bool wanted = t->interrupt && t->running && interrupted && th->resumed &&
                  !wait_is_stopping(th->process);
    if (!wanted || defers(th)) {
        wait_go_on(th, 0);
        return;
    }
    if (th->deferral == DEFER_INTERRUPT)
        th->deferral = DEFER_STALE;
    set_interrupted(th);
}

static bool catches(const struct process *p, int number)
{
    if (!p->catching || !p->ncatch)
        return p->catching;
    for (size_t i = 0; i < p->ncatch; i++)
        if (p->catch[i] == number)
            return true;
    return false;
}

/* A call of a recorded program, or the step over one, has come to its entry or its return; `result`
 * is the journal's. */
static void follow_journal(struct thread *th, int result)
{
    thread_forget_registers(th);
    if (result < 0) /* it is not what it was: on from here, anew */
        journal_cut(th->tid);
    if (!journal_has(th->tid)) /* the call cannot be written down */
        past_forget(th->process->owner->past);
}

/* Once it has exited there is no way back: GDB sees it before. */
static void stop_before_end(struct thread *th)
{
    journal_put_off(th->tid);
    thread_forget_registers(th);
    th->process->told_end = true;
    past_ends_here(th->process->owner->past);
    struct event *e = set_event(th, EVENT_STOPPED, 0);
    e->history = HISTORY_END;
    strcpy(e->console, "dbg3: the program is about to exit; `continue' lets it\n");
}

static void on_syscall(struct thread *th)
{
    struct __ptrace_syscall_info info = {0};
    if (journal_has(th->tid))
        follow_journal(th, journal_syscall(th->tid, true));
    if (journal_ends(th->tid) && !th->process->told_end && !wait_is_stopping(th->process)) {
        stop_before_end(th);
        return;
    }
    if (journal_inside(th->tid) && th->stepping) {
        wait_go_on(th, 0);
        return;
    }
    const struct user_regs_struct *user = thread_user(th);
    if (!user || !catches(th->process, (int)user->orig_rax) ||
        ptrace(PTRACE_GET_SYSCALL_INFO, th->tid, sizeof info, &info) < 0) {
        wait_go_on(th, 0);
        return;
    }
    set_event(th, info.op == PTRACE_SYSCALL_INFO_ENTRY ? EVENT_SYSCALL_ENTRY : EVENT_SYSCALL_RETURN,
              (int)user->orig_rax);
}

/* What a SIGTRAP comes from. An int3 leaves the program counter behind it: that is corrected. */
static enum trap why_trap(struct thread *th, const siginfo_t *info, uint64_t *addr)
{
    enum trap trap;
    switch (info->si_code) {
    case SI_KERNEL: { /* x86 Linux: int3 */
        const struct user_regs_struct *user = thread_user(th);
        if (!user)
            return TRAP_OTHER;
        struct user_regs_struct back = *user;
        back.rip--;
        thread_set_user(th, &back);
        *addr = back.rip;
        return TRAP_SW_BREAK;
    }
    case TRAP_TRACE: /* a step, which may also have met a watchpoint */
        trap = debug_why(th, addr);
        return trap == TRAP_OTHER ? TRAP_STEP : trap;
    case TRAP_HWBKPT:
        return debug_why(th, addr);
    case TRAP_BRKPT: /* a step over a system call */
    case SIGTRAP:    /* a step into a signal handler */
        return th->stepping ? TRAP_STEP : TRAP_OTHER;
    default: /* sent by somebody */
        return TRAP_OTHER;
    }
}

/* Does what the caller's hook wants done about a stop. Returns true if that was all, false if it
 * is to be treated as any other. */
static bool ask_hook(struct thread *th, int signal, const siginfo_t *info)
{
    struct process *p = th->process;
    struct ptrace_target *t = p->owner;
    struct event *e;
    if (!t->options.hook.look)
        return false;
    struct stop stop = {.target = &t->base,
                        .thread = {p->pid, th->tid},
                        .info = *info,
                        .pc = thread_pc(th),
                        .signal = signal};
    enum stop_verdict verdict = t->options.hook.look(t->options.hook.arg, &stop);
    thread_forget_registers(th); /* the hook may have set them by ptrace itself */
    th->call_site = stop.call_site;
    switch (verdict) {
    case STOP_RESUME:
        wait_go_on(th, 0);
        return true;
    case STOP_EXIT:
        p->exit_code = stop.code & 0xff;
        memcpy(p->exit_text, stop.text, sizeof p->exit_text - 1);
        process_kill(p);
        return true;
    case STOP_REPORT:
        e = set_event(th, EVENT_STOPPED, stop.signal);
        e->history = stop.history;
        memcpy(e->console, stop.text, sizeof e->console - 1);
        return true;
    case STOP_DEFAULT:
        break;
    }
    return false;
}

/* A step over such a call is one step: begins it, or goes on with it. Returns true if it is not
 * over. */
static bool steps_over_call(struct thread *th, int signal, const siginfo_t *info)
{
    const struct user_regs_struct *user = thread_user(th);
    if (!user || !th->stepping)
        return false;
    uint64_t behind = dispatch_behind(th->tid, signal, info);
    bool look = dispatch_is_look(signal, info);
    th->looked_at |= look;
    if (look && th->call_pc)
        return true;
    if (behind) {
        th->call_pc = behind;
        th->call_sp = user->rsp;
        th->call_looks = look;
        return true;
    }
    if (!th->call_pc || signal != SIGTRAP)
        return false;
    if (user->rip != th->call_pc || user->rsp != th->call_sp)
        return true;
    th->call_pc = 0;
    return th->call_looks;
}

static void on_signal(struct thread *th, int signal, int injecting)
{
    struct ptrace_target *t = th->process->owner;
    enum trap trap = TRAP_OTHER;
    uint64_t addr = 0;
    siginfo_t info;
    if (ptrace(PTRACE_GETSIGINFO, th->tid, NULL, &info))
        return; /* killed while it stopped */
    th->can_inject = !(signal == SIGTRAP && info.si_code == SIGTRAP);
    if (signal == injecting && info.si_code == SI_TKILL) {
        if (th->info.si_signo == signal)
            ptrace(PTRACE_SETSIGINFO, th->tid, NULL, &th->info);
        th->injected = true;
        wait_go_on(th, signal);
        return;
    }
    if (signal == SIGTRAP && journal_inside(th->tid))
        follow_journal(th, journal_stepped(th->tid));
    if (journal_signal_next(th->tid, signal))
        ptrace(PTRACE_GETSIGINFO, th->tid, NULL, &info);
    th->info = info;
    if (signal != SIGTRAP)
        journal_signal(th->tid, &info);
    if (is_deferred(th, signal, &info))
        return;
    if (signal == SIGTRAP && info.si_code == TRAP_PERF) { /* of the copy that it was */
        wait_go_on(th, 0);
        return;
    }
    if (dispatch_behind(th->tid, signal, &info)) {
        /* One look in a step at most: on a busy machine the next one is there when it is over. */
        bool again = th->stepping && th->looked_at && dispatch_is_look(signal, &info);
        if (!again)
            steps_over_call(th, signal, &info);
        wait_go_on(th, again ? 0 : signal);
        return;
    }
    if (signal == SIGTRAP)
        trap = why_trap(th, &info, &addr);
    /* Of a watchpoint that GDB has removed since: the kernel tells of an interrupt first. */
    if (signal == SIGTRAP && trap == TRAP_OTHER && info.si_code == TRAP_HWBKPT) {
        wait_go_on(th, 0);
        return;
    }
    if (pass_wanted(th, trap, addr)) {
        if (th->stopping) /* GDB's stop comes first: it meets the breakpoint once more */
            wait_go_on(th, 0);
        else
            pass(th, trap);
        return;
    }
    bool passed = trap == TRAP_STEP && th->passing;
    th->passing = false;
    if (passed) {
        wait_go_on(th, 0);
        return;
    }
    if (trap == TRAP_STEP && steps_over_call(th, signal, &info)) {
        wait_go_on(th, 0);
        return;
    }
    th->stop_pc = thread_pc(th);
    th->looked_at = false;
    if (trap == TRAP_STEP && t->past)
        past_stepped(t->past, th, th->stop_pc);
    if (trap == TRAP_STEP) {
        uint64_t pc = thread_pc(th);
        if (pc >= th->step_low && pc < th->step_high) {
            wait_go_on(th, 0);
            return;
        }
    } else if (ask_hook(th, signal, &info)) {
        return;
    }
    if (th->process->quiet && trap >= TRAP_HW_BREAK) { /* no instruction that it is in the way of */
        wait_go_on(th, 0);
        return;
    }
    th->at_signal = trap == TRAP_OTHER;
    th->signals += th->at_signal;
    /* Not so at a breakpoint where no instruction may run: GDB calls functions from there. */
    bool unwanted = signal_is_of_libc(signal) || sigismember(&t->wanted.pass, signal) == 1;
    if (trap == TRAP_OTHER && !th->stepping && unwanted &&
        !point_inserted(th->process, th->stop_pc)) {
        wait_go_on(th, signal);
        return;
    }
    struct event *e = set_event(th, EVENT_STOPPED, signal);
    e->trap = trap;
    e->addr = addr;
    th->tripped = trap == TRAP_SW_BREAK && point_inserted(th->process, addr);
}

/* From here on it cannot be stopped; a leader may stay a zombie for long. */
static void let_exit(struct thread *th)
{
    th->state = THREAD_EXITING;
    th->has_event = false;
    ptrace(PTRACE_CONT, th->tid, NULL, 0);
}

static void on_leave(struct thread *th)
{
    struct process *p = th->process;
    unsigned long status = 0;
    if (th->tid == p->pid || !p->owner->wanted.threads || wait_is_stopping(p)) {
        let_exit(th);
        return;
    }
    ptrace(PTRACE_GETEVENTMSG, th->tid, NULL, &status);
    set_event(th, EVENT_THREAD_EXITED, (int)(status >> 8 & 0xff)); /* it exits when reported */
}

static void on_stop(struct thread *th, int status)
{
    bool interrupted = th->interrupting;
    int injecting = th->injecting, signal = WSTOPSIG(status);
    th->state = THREAD_STOPPED;
    th->in_call = status >> 16 && status >> 16 != PTRACE_EVENT_STOP;
    th->stop_pc = 0;
    thread_forget_registers(th);
    /* A stop of another kind takes the interrupt with it, or the interrupt comes later and is then
     * seen as a stop without a reason. */
    th->interrupting = th->can_inject = th->at_signal = false;
    th->faked = 0;
    if (status >> 16 != PTRACE_EVENT_STOP)
        th->injecting = 0;
    switch (status >> 16) {
    case 0:
        if (signal == SYSCALL_TRAP)
            on_syscall(th);
        else
            on_signal(th, signal, injecting);
        break;
    case PTRACE_EVENT_STOP:
        on_event_stop(th, signal, interrupted);
        break;
    case PTRACE_EVENT_CLONE:
        on_clone(th);
        break;
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
        on_fork(th, status >> 16 == PTRACE_EVENT_VFORK);
        break;
    case PTRACE_EVENT_VFORK_DONE:
        on_vfork_done(th);
        break;
    case PTRACE_EVENT_EXEC:
        on_exec(th);
        break;
    case PTRACE_EVENT_EXIT:
        on_leave(th);
        break;
    default:
        wait_go_on(th, 0);
        break;
    }
}

void wait_handle(struct ptrace_target *t, pid_t tid, int status)
{
    struct thread *th = thread_find(t, tid);
    if (!th)
        unknown(t, tid, status);
    else if (WIFSTOPPED(status))
        on_stop(th, status);
    else if (WIFEXITED(status) || WIFSIGNALED(status))
        on_end(th, status);
}

static void reap(struct ptrace_target *t)
{
    int status;
    pid_t tid;
    while ((tid = reverse_wait_kept_any(&status)) > 0 ||
           (tid = wait_for(-1, &status, WNOHANG)) > 0)
        wait_handle(t, tid, status);
}

void wait_reap(struct ptrace_target *t)
{
    reap(t);
    pass_all_due(t);
}

/* ------------------------------------------------------------------ stopping all */

/* A vfork parent cannot be stopped and does nothing until its child is done. */
static bool can_stop(const struct thread *th)
{
    return th->state == THREAD_RUNNING && !th->in_vfork;
}

static bool any_running(const struct ptrace_target *t)
{
    for (const struct process *p = t->processes; p; p = p->next)
        for (const struct thread *th = p->threads; th; th = th->next)
            if (wait_is_stopping(p) && can_stop(th))
                return true;
    return false;
}

/* It stops; a newborn does so without. */
static void ask_to_stop(struct thread *th)
{
    if (can_stop(th) && !th->newborn && !th->interrupting)
        th->interrupting = !ptrace(PTRACE_INTERRUPT, th->tid, NULL, 0);
}

void wait_stop_all(struct ptrace_target *t, const struct process *only)
{
    int status;
    pid_t tid;
    t->stopping = true;
    t->stopping_only = only;
    reap(t);
    for (struct process *p = t->processes; p; p = p->next)
        for (struct thread *th = p->threads; th; th = th->next)
            if (wait_is_stopping(p))
                ask_to_stop(th);
    while (any_running(t) && (tid = wait_for(-1, &status, 0)) > 0)
        wait_handle(t, tid, status);
    t->stopping = false;
}

void wait_pend_stop(struct thread *th)
{
    th->resumed = true;
    if (!th->has_event)
        set_event(th, EVENT_STOPPED, 0);
}

static void take_signal(struct thread *th, int signal)
{
    struct process *p = th->process;
    pid_t tid = th->tid;
    int status;
    if (th->state != THREAD_STOPPED || th->has_event || th->job_stopped ||
        !procfs_task_pending(p->pid, tid, signal))
        return;
    thread_start(th, 0);
    if (wait_for(tid, &status, 0) == tid)
        wait_handle(p->owner, tid, status);
}

void wait_take_signals(struct process *p, int signal)
{
    struct ptrace_target *t = p->owner;
    t->stopping = true; /* nothing is to be started */
    t->stopping_only = p;
    for (struct thread *th = p->threads, *next; !p->gone && th; th = next) {
        next = th->next;
        take_signal(th, signal);
    }
    t->stopping = false;
}

void wait_refresh(struct process *p)
{
    for (struct thread *th = p->threads; th; th = th->next)
        ask_to_stop(th);
}

void wait_stop_one(struct thread *th)
{
    if (th->pass_due)
        set_event(th, EVENT_STOPPED, 0);
    if (th->state != THREAD_RUNNING || th->has_event)
        return;
    th->stopping = true;
    ask_to_stop(th);
}

void process_kill(struct process *p)
{
    struct ptrace_target *t = p->owner;
    bool stopping = t->stopping;
    const struct process *only = t->stopping_only;
    int status;
    pid_t tid;
    if (p->pid <= 1)
        return;
    if (!p->gone)
        kill(p->pid, SIGKILL);
    for (struct thread *th = p->threads; th; th = th->next)
        if (th->has_event && th->event.kind == EVENT_THREAD_EXITED)
            let_exit(th);
    t->stopping = true; /* nothing is to be started meanwhile */
    t->stopping_only = p;
    while (!p->gone && (tid = wait_for(-1, &status, 0)) > 0)
        wait_handle(t, tid, status);
    t->stopping = stopping;
    t->stopping_only = only;
}

/* ------------------------------------------------------------------ reporting */

/* Of which of two threads does GDB hear first? Of one that steps, so that GDB's stepping gets on;
 * else of the one that it has not heard of for longer. */
static bool goes_first(const struct thread *th, const struct thread *other)
{
    if (th->stepping != other->stepping)
        return th->stepping;
    if (th->reported_at != other->reported_at)
        return th->reported_at < other->reported_at;
    return other->tid == th->process->owner->last;
}

/* The thread whose event is reported. */
static struct thread *choose(const struct ptrace_target *t)
{
    struct thread *best = NULL;
    for (struct process *p = t->processes; p; p = p->next)
        for (struct thread *th = p->threads; th; th = th->next) {
            if (th->has_event && th->resumed && (!best || goes_first(th, best)))
                best = th;
        }
    return best;
}

static struct process *choose_gone(const struct ptrace_target *t)
{
    for (struct process *p = t->processes; p; p = p->next)
        if (p->gone)
            return p;
    return NULL;
}

bool wait_has_news(const struct ptrace_target *t)
{
    return choose(t) || choose_gone(t);
}

static void report_end(struct process *p, struct event *e)
{
    *e = (struct event){.kind = EVENT_EXITED, .thread = {p->shown, p->shown}};
    if (p->exit_code >= 0) {
        e->code = p->exit_code;
    } else if (WIFEXITED(p->status)) {
        e->code = WEXITSTATUS(p->status);
    } else {
        e->kind = EVENT_KILLED;
        e->code = WTERMSIG(p->status);
    }
    memcpy(e->console, p->exit_text, sizeof e->console);
    process_remove(p);
}

static void report(struct ptrace_target *t, struct thread *th, struct event *e)
{
    *e = th->event;
    th->has_event = th->went_back = false;
    if (e->trap == TRAP_STEP || e->trap == TRAP_SW_BREAK || e->trap == TRAP_HW_BREAK)
        pass_arrived(th); /* GDB steps over it from here */
    th->walked = th->walks && e->kind == EVENT_STOPPED && e->trap == TRAP_STEP;
    th->reported = e->kind == EVENT_STOPPED && e->trap == TRAP_OTHER && !th->faked ? e->code : 0;
    t->last = th->tid;
    th->reported_at = ++t->reports;
    if (e->kind == EVENT_FORK || e->kind == EVENT_VFORK) {
        struct process *child = process_find(t, e->child.pid);
        if (child)
            child->hidden = false;
    }
    if (e->kind == EVENT_THREAD_EXITED)
        let_exit(th);
}

bool wait_report(struct thread *th, struct event *event)
{
    if (!th->has_event)
        return false;
    report(th->process->owner, th, event);
    return true;
}

/* Can a thread still cause an event? A process whose threads all exit will end. */
static bool may_happen(const struct ptrace_target *t)
{
    for (const struct process *p = t->processes; p; p = p->next) {
        bool alive = false;
        for (const struct thread *th = p->threads; th; th = th->next) {
            if (th->resumed && (th->state == THREAD_RUNNING || th->pass_due))
                return true;
            alive |= th->state != THREAD_EXITING;
        }
        if (!alive)
            return true;
    }
    return false;
}

/* Returns true if a thread of this process has been, or is being, interrupted, or stops at once by
 * itself: GDB steps it over a breakpoint, say. A thread that can be interrupted is *found, if there
 * was none. */
static bool is_interrupted(struct process *p, struct thread **found)
{
    for (struct thread *th = p->threads; th && !p->hidden; th = th->next) {
        if (!th->resumed || th->state == THREAD_EXITING)
            continue;
        if (th->ends && !th->has_event && p->shown != p->owner->newest)
            return true; /* also if it is only about to be started */
        if (th->state == THREAD_STOPPED && !th->has_event)
            set_interrupted(th);
        if (th->interrupting || th->faked)
            return true;
        if (!*found && can_stop(th) && !th->newborn)
            *found = th;
    }
    return false;
}

/* First the process that GDB has started or attached to last. */
static void send_interrupt(struct ptrace_target *t)
{
    struct thread *found = NULL;
    for (struct process *p = t->processes; p; p = p->next)
        if (p->shown == t->newest && is_interrupted(p, &found))
            return;
    for (struct process *p = t->processes; !found && p; p = p->next)
        if (p->shown != t->newest && is_interrupted(p, &found))
            return;
    struct thread *runs = found && t->past ? past_in_turn(t->past, found->process) : NULL;
    if (runs && runs->resumed && can_stop(runs) && !runs->newborn)
        found = runs;
    if (found)
        found->interrupting = !ptrace(PTRACE_INTERRUPT, found->tid, NULL, 0);
}

/* The interrupt is no signal, so that it also works where the program blocks SIGINT; GDB sees one.
 * But a program that GDB lets have its SIGINTs shall get it. */
void target_interrupt(struct target *base)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct process *p = t->processes;
    if (t->running && p && p->pid > 1 && sigismember(&t->wanted.pass, SIGINT) == 1) {
        kill(p->pid, SIGINT);
        t->interrupt = false;
        return;
    }
    t->interrupt = true;
    if (t->running)
        send_interrupt(t);
}

/* The next event of a thread that runs alone. */
static int poll_non_stop(struct ptrace_target *t, struct event *event)
{
    if (!choose(t) && t->interrupt && t->running)
        send_interrupt(t);
    struct thread *th = choose(t);
    struct process *gone = choose_gone(t);
    bool quietly = t->gone_quietly;
    t->gone_quietly = false;
    if (th) {
        report(t, th, event);
        th->resumed = false;
    } else if (gone) {
        report_end(gone, event);
    } else if (quietly && t->processes && !may_happen(t)) {
        *event = (struct event){.kind = EVENT_NONE_LEFT};
    } else {
        return 0;
    }
    return 1;
}

int target_poll(struct target *base, struct event *event)
{
    struct ptrace_target *t = ptrace_target_of(base);
    wait_reap(t);
    if (t->has_pending) {
        *event = t->pending;
        t->has_pending = false;
        if (t->processes)
            process_be_loud(t->processes);
        return 1;
    }
    if (t->non_stop)
        return poll_non_stop(t, event);
    if (!t->running)
        return 0;
    if (!wait_has_news(t)) {
        if (may_happen(t)) {
            if (t->interrupt)
                send_interrupt(t);
            if (!choose(t))
                return 0;
        } else {
            *event = (struct event){.kind = EVENT_NONE_LEFT};
            t->running = false;
            return 1;
        }
    }
    wait_stop_all(t, NULL);
    struct thread *th = choose(t);
    if (th) {
        process_be_loud(th->process);
        report(t, th, event);
        if (t->options.run_hook.stopped)
            t->options.run_hook.stopped(t->options.run_hook.arg, base, event);
        if (t->past)
            past_stopped(t->past, th, th->stop_pc ? th->stop_pc : thread_pc(th));
    } else {
        report_end(choose_gone(t), event);
    }
    t->running = false;
    return 1;
}

/* Threads that were about to end when GDB left their process are still ours, and until they are
 * reaped its parent cannot see that it has ended. */
void target_reap(struct target *base)
{
    struct ptrace_target *t = ptrace_target_of(base);
    if (!t->processes)
        wait_reap(t);
}
