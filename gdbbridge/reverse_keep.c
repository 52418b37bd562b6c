/*
 * reverse_keep.c - places that the caller keeps, and to which the process returns
 *
 * A copy does not have the signal of the log that a thread is about to get, so that the past cannot
 * begin with it. A place at such a signal keeps the leg, too, that ends there.
 */
#include <stdlib.h>

#include "gdbbridge/reverse_private.h"
#include "gdbbridge/reverse_wait.h"

struct kept_process {
    pid_t pid;
    uint64_t thread;  /* that had stopped */
    siginfo_t signal; /* that it is about to get, si_signo 0: none */
    uint64_t signals; /* thread.signals */
    struct leg *leg;  /* that ends at the signal, or NULL */
};

/* A leg of its own from the same anchor to the same end. NULL: there is none. */
static struct leg *same_leg(const struct leg *l)
{
    pid_t anchor = copy_make(l->anchor);
    if (anchor <= 0)
        return NULL;
    struct leg *same = leg_create(anchor);
    same->diverted = l->diverted;
    leg_set_end(same, &l->end);
    return same;
}

struct kept_process *ptrace_target_keep(struct target *base, struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct past *h = t->past;
    if (!t->processes || !h) {
        err_set(err, "there is no process that runs again as it ran");
        return NULL;
    }
    if (!past_can_follow(h, t->processes->threads)) {
        err_set(err, "%s", h->why);
        return NULL;
    }
    struct thread *th = thread_find(t, ptrace_target_thread(base).tid);
    struct leg *l = past_last(h);
    pid_t pid = past_copy_present(th);
    struct kept_process *k = pid > 0 ? calloc(1, sizeof *k) : NULL;
    if (!k) {
        copy_kill(pid);
        err_set(err, "the process cannot be copied");
        return NULL;
    }
    k->pid = pid;
    k->thread = past_key(th);
    if (!th->at_signal || !copy_logged())
        return k;
    k->signal = th->info;
    k->signals = th->signals;
    past_search_begin(h, "keeping this place");
    if (l && leg_measure(h, l) == 0)
        k->leg = same_leg(l);
    reverse_wait_end();
    return k;
}

int ptrace_target_return(struct target *base, const struct kept_process *k, struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct past *h = t->past;
    pid_t pid = t->processes && h ? copy_make(k->pid) : -1;
    struct leg *l = pid > 0 && k->leg ? same_leg(k->leg) : NULL;
    if (pid <= 0)
        return err_set(err, "%s", t->processes ? "the process cannot be copied"
                                               : "the program has ended; type: run");
    past_begin(h);
    past_become(h, pid, k->thread);
    if (k->signal.si_signo) {
        struct thread *th = past_thread(t->processes, k->thread);
        th->info = k->signal;
        th->at_signal = th->keeps_signal = true;
        th->signals = k->signals;
    }
    if (l)
        past_put_first(h, l);
    t->moved = true;
    return 0;
}

uint64_t kept_process_pc(const struct kept_process *k)
{
    struct user_regs_struct regs;
    return k && !copy_registers(k->pid, &regs) ? regs.rip : 0;
}

void kept_process_free(struct kept_process *k)
{
    if (!k)
        return;
    copy_kill(k->pid);
    if (k->leg)
        leg_free(k->leg);
    free(k);
}
