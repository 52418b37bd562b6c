/*
 * ptrace_resume.c - letting threads run
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gdbbridge/journal.h"
#include "gdbbridge/ptrace_private.h"
#include "gdbbridge/reverse.h"

static long request_for(const struct thread *th, int signal)
{
    bool recorded = journal_has(th->tid);
    if (th->stepping) {
        bool call = recorded && !signal && !journal_inside(th->tid) && !journal_sent(th->tid) &&
                    journal_at_call(th->tid);
        return call ? PTRACE_SYSCALL : PTRACE_SINGLESTEP;
    }
    if (th->job_stopped && !signal)
        return PTRACE_LISTEN;
    return th->process->catching || recorded ? PTRACE_SYSCALL : PTRACE_CONT;
}

void thread_start(struct thread *th, int signal)
{
    long request = request_for(th, signal);
    debug_apply(th);
    thread_forget_registers(th);
    if (!th->injected && journal_has(th->tid))
        past_hand(th->process->owner->past, th, signal);
    th->injected = false;
    if (signal && !th->can_inject) {
        /* Only at the stop for a signal does the kernel take one. Elsewhere it is sent, and handed
         * over when it stops the thread. */
        if (!syscall(SYS_tgkill, th->process->pid, th->tid, signal))
            th->injecting = signal;
        signal = 0;
    }
    th->state = THREAD_RUNNING;
    th->pass_due = false;
    th->faked = th->reported = th->deliver = 0;
    if (ptrace(request, th->tid, NULL, signal) && request == PTRACE_LISTEN)
        ptrace(PTRACE_CONT, th->tid, NULL, 0);
    /* ESRCH: it has been killed, and its exit status will tell */
}

static const struct resume *action_for(const struct thread *th, const struct resume *a, size_t n)
{
    struct ptid id = thread_shown(th);
    for (size_t i = 0; i < n; i++)
        if ((a[i].thread.pid == -1 || a[i].thread.pid == id.pid) &&
            (a[i].thread.tid == -1 || a[i].thread.tid == id.tid))
            return &a[i];
    return NULL;
}

/* An event that GDB has not seen may be void by now: it removed the breakpoint or moved the
 * thread, or it asks for a step of a thread that has just made one. */
static void drop_void_event(struct thread *th)
{
    if (!th->has_event || th->event.kind != EVENT_STOPPED)
        return;
    uint64_t pc = thread_pc(th);
    if (th->event.trap == TRAP_STEP)
        th->has_event = false;
    else if (th->tripped && (pc != th->event.addr || !point_inserted(th->process, pc)))
        th->has_event = false;
}

static void apply(struct thread *th, const struct resume *a, size_t n)
{
    th->resumed = a && a->how != RESUME_NOT;
    th->stepping = th->resumed && a->how == RESUME_STEP;
    th->call_pc = th->call_site = 0;
    th->looked_at = false;
    th->pass_due = false;
    th->ends = th->stepping && a->high <= a->low && !pass_at_call(th);
    th->walks = th->stepping && (n > 1 || a->high > a->low);
    th->step_low = th->stepping ? a->low : 0;
    th->step_high = th->stepping ? a->high : 0;
    if (th->resumed && a->signal && !th->process->owner->moved && !th->went_back)
        th->deliver = a->signal;
    else if (th->resumed && th->keeps_signal)
        th->deliver = th->info.si_signo;
    th->keeps_signal = false;
    drop_void_event(th);
}

/* Does the caller move the process, instead of running it? Then its stop is pending. */
static bool moved_instead(struct ptrace_target *t, const struct resume *actions, size_t n)
{
    const struct run_hook *hook = &t->options.run_hook;
    for (size_t i = 0; i < n; i++)
        if (actions[i].how != RESUME_CONT)
            return false;
    t->has_pending = hook->move && hook->move(hook->arg, &t->base, &t->pending);
    return t->has_pending;
}

/* Each thread alone: what runs, or has something to tell first, is left as it is. */
static int resume_non_stop(struct ptrace_target *t, const struct resume *actions, size_t n)
{
    t->running = true;
    for (struct process *p = t->processes; p; p = p->next)
        for (struct thread *th = p->threads; th; th = th->next) {
            const struct resume *a = p->hidden ? NULL : action_for(th, actions, n);
            if (a && a->how == RESUME_NOT)
                wait_stop_one(th);
            if (!a || a->how == RESUME_NOT || th->state != THREAD_STOPPED ||
                (th->has_event && th->resumed))
                continue;
            apply(th, a, n);
            if (!th->has_event)
                thread_start(th, th->deliver);
        }
    return t->processes ? 0 : -1;
}

/* The thread that steps, or the first one that runs. */
static struct thread *first_resumed(const struct ptrace_target *t)
{
    struct thread *first = NULL;
    for (struct process *p = t->processes; p; p = p->next)
        for (struct thread *th = p->threads; th; th = th->next)
            if (th->resumed && th->state == THREAD_STOPPED && (!first || th->stepping))
                first = th;
    return first;
}

int target_resume(struct target *base, const struct resume *actions, size_t n)
{
    struct ptrace_target *t = ptrace_target_of(base);
    bool waiting = false, any = false;
    wait_reap(t);
    if (t->non_stop)
        return resume_non_stop(t, actions, n);
    if (t->processes && moved_instead(t, actions, n))
        return 0;
    for (struct process *p = t->processes; p; p = p->next) {
        waiting |= p->gone;
        any = true;
        for (struct thread *th = p->threads; th; th = th->next) {
            apply(th, p->hidden ? NULL : action_for(th, actions, n), n);
            waiting |= th->resumed && th->has_event;
        }
    }
    if (!any)
        return -1;
    t->running = true;
    t->moved = false;
    if (t->interrupt && !waiting) { /* Ctrl-C came too late for the last stop */
        target_interrupt(base);
        waiting = !t->interrupt;
    }
    if (waiting) /* poll() reports it at once: nothing needs to run */
        return 0;
    struct thread *leads = t->past ? first_resumed(t) : NULL;
    if (leads)
        past_resume(t->past, leads);
    for (struct process *p = t->processes; p; p = p->next)
        for (struct thread *th = p->threads; th; th = th->next)
            if (th->resumed && th->state == THREAD_STOPPED) {
                if (t->options.run_hook.start)
                    t->options.run_hook.start(t->options.run_hook.arg, base, thread_shown(th),
                                              th->stepping);
                thread_start(th, th->deliver);
            }
    return 0;
}
