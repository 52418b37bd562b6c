/*
 * reverse_crowd.c - the threads of copies that have several
 *
 * Sources: ptrace(2), clone(2); kernel/signal.c for system calls that are made again when a stop
 * has interrupted them (ERESTARTSYS and its like, which only a debugger sees).
 */
#include "gdbbridge/reverse_crowd.h"

#include <elf.h>
#include <errno.h>
#include <linux/prctl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gdbbridge/dispatch.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_copy.h"
#include "gdbbridge/reverse_wait.h"

#define XSAVE_BYTES  16384
#define NAME_BYTES   16  /* TASK_COMM_LEN */
#define RED_ZONE     128 /* System V ABI for x86-64: below the stack pointer */
#define SOON_LOOKS   20  /* at a thread that makes a system call, until it is taken to wait */
#define LOOK_NS      50000
#define STEPS_ALONE  4096 /* about 20 ms */
#define MOMENT_NS    2000000

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

/* linux/ptrace.h (5.13) */
#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif
struct rseq_configuration {
    uint64_t address;
    uint32_t size, signature, flags, pad;
};

static struct crowd *crowds;

/* ---- who there is ---- */

struct crowd *crowd_of(pid_t pid)
{
    struct crowd *c = crowds;
    while (c && c->pid != pid)
        c = c->next;
    return c;
}

struct member *crowd_join(struct crowd *c, pid_t tid, uint64_t key)
{
    struct member *m = calloc(1, sizeof *m), **at = &c->members;
    if (!m)
        abort();
    m->tid = tid;
    m->key = key;
    while (*at)
        at = &(*at)->next;
    *at = m;
    return m;
}

void crowd_leave(struct crowd *c, pid_t tid)
{
    for (struct member **at = &c->members; *at; at = &(*at)->next) {
        struct member *m = *at;
        if (m->tid != tid)
            continue;
        *at = m->next;
        free(m);
        return;
    }
}

struct crowd *crowd_add(pid_t pid)
{
    struct crowd *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->pid = pid;
    c->next = crowds;
    crowds = c;
    crowd_join(c, pid, 0);
    return c;
}

void crowd_forget(struct crowd *c)
{
    struct crowd **at = &crowds;
    if (!c)
        return;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    while (c->members)
        crowd_leave(c, c->members->tid);
    free(c);
}

struct member *crowd_member(const struct crowd *c, pid_t tid)
{
    struct member *m = c->members;
    while (m && m->tid != tid)
        m = m->next;
    return m;
}

pid_t crowd_tid(pid_t pid, uint64_t key)
{
    const struct crowd *c = key ? crowd_of(pid) : NULL;
    const struct member *m = c ? c->members : NULL;
    while (m && m->key != key)
        m = m->next;
    return m ? m->tid : key ? 0 : pid;
}

uint64_t crowd_key(pid_t pid, pid_t tid)
{
    struct user_regs_struct regs;
    return tid == pid || ptrace(PTRACE_GETREGS, tid, NULL, &regs) ? 0 : regs.fs_base;
}

struct crowd *crowd_look(pid_t pid)
{
    ssize_t n = procfs_tasks(pid, NULL, 0);
    if (n <= 1)
        return NULL;
    pid_t *tids = calloc((size_t)n, sizeof *tids);
    if (!tids)
        abort();
    struct crowd *c = crowd_add(pid);
    ssize_t now = procfs_tasks(pid, tids, (size_t)n);
    for (ssize_t i = 0; i < now && i < n; i++)
        if (tids[i] != pid)
            crowd_join(c, tids[i], crowd_key(pid, tids[i]));
    free(tids);
    return c;
}

/* ---- the end ---- */

static void reap(pid_t tid)
{
    int status;
    ptrace(PTRACE_CONT, tid, NULL, 0); /* from the stop before its end: no signal ends that */
    while (!reverse_wait_kept(tid, &status) || WIFSTOPPED(status)) {
        pid_t got = waitpid(tid, &status, __WALL);
        if ((got < 0 && errno != EINTR) || (got == tid && !WIFSTOPPED(status)))
            return;
        if (got == tid) /* the stop before its end */
            ptrace(PTRACE_CONT, tid, NULL, 0);
    }
}

/* The first thread is there until all others are gone. */
void crowd_kill(struct crowd *c)
{
    pid_t tids[64], pid = c->pid;
    if (pid <= 1)
        return;
    kill(pid, SIGKILL);
    for (ssize_t n = 2; n > 1;) {
        n = procfs_tasks(pid, tids, sizeof tids / sizeof *tids);
        for (ssize_t i = 0; i < n && i < 64; i++)
            if (tids[i] != pid)
                reap(tids[i]);
    }
    reap(pid);
    crowd_forget(c);
}

/* ---- copying ---- */

/* What the kernel keeps for a thread. */
struct kept {
    struct user_regs_struct regs;
    uint8_t xsave[XSAVE_BYTES];
    size_t xsave_size;
    uint64_t mask;
    uint64_t robust_list, robust_size;
    uint64_t tid_address;
    stack_t stack; /* for signals */
    struct rseq_configuration rseq;
    char name[NAME_BYTES];
};

/* Memory of a thread that it does not use: below its stack. */
struct scratch {
    int memory;
    uint64_t at;
    struct {
        stack_t stack;
        uint64_t tid_address;
        char name[NAME_BYTES];
    } now, was;
};

static int scratch_begin(struct scratch *s, pid_t pid, uint64_t sp)
{
    s->at = (sp - RED_ZONE - sizeof s->was) & ~63ull;
    s->memory = procfs_memory(pid);
    if (s->memory < 0)
        return -1;
    if (pread(s->memory, &s->was, sizeof s->was, (off_t)s->at) == sizeof s->was)
        return 0;
    close(s->memory);
    return -1;
}

static bool scratch_put(const struct scratch *s)
{
    return pwrite(s->memory, &s->now, sizeof s->now, (off_t)s->at) == sizeof s->now;
}

static bool scratch_get(struct scratch *s)
{
    return pread(s->memory, &s->now, sizeof s->now, (off_t)s->at) == sizeof s->now;
}

static bool scratch_end(const struct scratch *s)
{
    bool ok = pwrite(s->memory, &s->was, sizeof s->was, (off_t)s->at) == sizeof s->was;
    close(s->memory);
    return ok;
}

/* What only the thread itself can ask for. */
static int ask(pid_t pid, pid_t tid, uint64_t at, struct kept *k)
{
    struct scratch s;
    if (scratch_begin(&s, pid, k->regs.rsp) < 0)
        return -1;
    uint64_t stack = s.at + offsetof(struct scratch, now.stack) - offsetof(struct scratch, now);
    uint64_t address =
        s.at + offsetof(struct scratch, now.tid_address) - offsetof(struct scratch, now);
    bool ok = copy_call(tid, at, &k->regs, SYS_sigaltstack, (uint64_t[6]){0, stack}, NULL) == 0 &&
              copy_call(tid, at, &k->regs, SYS_prctl, (uint64_t[6]){PR_GET_TID_ADDRESS, address},
                        NULL) == 0 &&
              scratch_get(&s);
    k->stack = s.now.stack;
    k->stack.ss_flags &= ~SS_ONSTACK;
    k->tid_address = s.now.tid_address;
    return scratch_end(&s) && ok ? 0 : -1;
}

/* It is in another stop then, in which it takes the signal of the one before. */
static int keep(const struct crowd *c, const struct member *m, uint64_t at, struct kept *k)
{
    struct iovec xsave = {k->xsave, sizeof k->xsave};
    if (ptrace(PTRACE_GETREGS, m->tid, NULL, &k->regs) ||
        ptrace(PTRACE_GETREGSET, m->tid, (void *)NT_X86_XSTATE, &xsave) ||
        copy_mask(m->tid, &k->mask) < 0 ||
        syscall(SYS_get_robust_list, m->tid, &k->robust_list, &k->robust_size))
        return -1;
    k->xsave_size = xsave.iov_len;
    if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, m->tid, sizeof k->rseq, &k->rseq) !=
        (long)sizeof k->rseq)
        k->rseq.address = 0;
    procfs_task_name(c->pid, m->tid, k->name, sizeof k->name);
    int r = ask(c->pid, m->tid, at, k);
    ptrace(PTRACE_SETREGS, m->tid, NULL, &k->regs);
    ptrace(PTRACE_SETSIGMASK, m->tid, sizeof k->mask, &k->mask);
    if (m->signal)
        ptrace(PTRACE_SETSIGINFO, m->tid, NULL, &m->info);
    return r;
}

/* What it can only ask for itself. */
static int restore(pid_t pid, pid_t tid, uint64_t at, const struct kept *k)
{
    struct scratch s;
    bool ok;
    if (scratch_begin(&s, pid, k->regs.rsp) < 0)
        return -1;
    s.now.stack = k->stack;
    memcpy(s.now.name, k->name, sizeof s.now.name);
    uint64_t stack = s.at + offsetof(struct scratch, now.stack) - offsetof(struct scratch, now);
    uint64_t name = s.at + offsetof(struct scratch, now.name) - offsetof(struct scratch, now);
    ok = scratch_put(&s) &&
         copy_call(tid, at, &k->regs, SYS_prctl, (uint64_t[6]){PR_SET_NAME, name}, NULL) == 0 &&
         copy_call(tid, at, &k->regs, SYS_set_robust_list,
                   (uint64_t[6]){k->robust_list, k->robust_size}, NULL) == 0;
    if (ok && !(k->stack.ss_flags & SS_DISABLE)) { /* not while it is on that stack */
        struct user_regs_struct off = k->regs;
        off.rsp = 0;
        ok = copy_call(tid, at, &off, SYS_sigaltstack, (uint64_t[6]){stack}, NULL) == 0;
    }
    if (ok && k->rseq.address)
        ok = copy_call(tid, at, &k->regs, SYS_rseq,
                       (uint64_t[6]){k->rseq.address, k->rseq.size, 0, k->rseq.signature},
                       NULL) == 0;
    return scratch_end(&s) && ok ? 0 : -1;
}

/*
 * Signals that wait for a thread are not copied with it. Those that somebody has sent are sent to
 * the copy, too. One that an instruction has caused, a system call that the process handles itself
 * (dispatch.h), is what the copy is in the stop of.
 */
static int copy_pending(const struct member *m, pid_t pid, struct member *copy)
{
    siginfo_t waiting[8];
    struct __ptrace_peeksiginfo_args from = {.nr = 8};
    copy->signal = m->signal;
    copy->info = m->info;
    long n = ptrace(PTRACE_PEEKSIGINFO, m->tid, &from, waiting);
    for (long i = 0; i < n; i++)
        if (waiting[i].si_code <= 0) {
            syscall(SYS_rt_tgsigqueueinfo, pid, copy->tid, waiting[i].si_signo, &waiting[i]);
        } else if (!copy->signal && waiting[i].si_signo != SIGTRAP) {
            copy->signal = waiting[i].si_signo;
            copy->info = waiting[i];
        }
    return copy->signal && ptrace(PTRACE_SETSIGINFO, copy->tid, NULL, &copy->info) ? -1 : 0;
}

static int copy_member(const struct crowd *c, const struct member *m, struct crowd *to,
                       uint64_t at)
{
    const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                           CLONE_SYSVSEM | CLONE_SETTLS;
    struct kept k;
    struct user_regs_struct maker;
    pid_t tid = 0;
    if (keep(c, m, at, &k) < 0 || ptrace(PTRACE_GETREGS, to->pid, NULL, &maker))
        return -1;
    uint64_t clear = k.tid_address ? CLONE_CHILD_CLEARTID : 0;
    if (copy_call(to->pid, at, &maker, SYS_clone,
                  (uint64_t[6]){flags | clear, k.regs.rsp, 0, k.tid_address, k.regs.fs_base},
                  &tid) < 0 ||
        !tid)
        return -1;
    struct member *copy = crowd_join(to, tid, m->key);
    struct iovec xsave = {k.xsave, k.xsave_size};
    struct user_regs_struct regs = k.regs;
    copy_restart_call(&regs);
    dispatch_name_anew(&regs, (struct dispatch_thread){c->pid, m->tid},
                       (struct dispatch_thread){to->pid, tid});
    regs.eflags &= ~COPY_COUNTED_FLAG;
    if (copy_mask(tid, &(uint64_t){0}) < 0 || restore(to->pid, tid, at, &k) < 0 ||
        ptrace(PTRACE_SETREGS, tid, NULL, &regs) ||
        ptrace(PTRACE_SETREGSET, tid, (void *)NT_X86_XSTATE, &xsave) ||
        ptrace(PTRACE_SETSIGMASK, tid, sizeof k.mask, &k.mask) || dispatch_copy(m->tid, tid) < 0)
        return -1;
    return copy_pending(m, to->pid, copy);
}

int crowd_copy(const struct crowd *c, pid_t pid, uint64_t at)
{
    struct crowd *to = crowd_add(pid);
    const struct member *m = c->members;
    struct user_regs_struct regs;
    uint64_t mask;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) || copy_mask(pid, &mask) < 0)
        return -1;
    for (m = m->next; m; m = m->next)
        if (copy_member(c, m, to, at) < 0)
            return -1;
    if (ptrace(PTRACE_SETREGS, pid, NULL, &regs) ||
        ptrace(PTRACE_SETSIGMASK, pid, sizeof mask, &mask) ||
        copy_pending(c->members, pid, to->members) < 0)
        return -1;
    dispatch_renumber(c, to);
    return 0;
}

/* ---- running ---- */

void crowd_start(struct member *m, int request)
{
    int signal = m->signal;
    m->signal = 0;
    m->state = MEMBER_RUNNING;
    ptrace(request, m->tid, NULL, signal);
}

void crowd_start_all(struct crowd *c, int request)
{
    for (struct member *m = c->members; m; m = m->next)
        if (m->state == MEMBER_STOPPED && !m->met)
            crowd_start(m, request);
}

struct member *crowd_birth(pid_t pid, pid_t maker)
{
    unsigned long tid = 0;
    char path[64];
    int status;
    if (ptrace(PTRACE_GETEVENTMSG, maker, NULL, &tid) || !tid)
        return NULL;
    snprintf(path, sizeof path, "/proc/%d/task/%lu", (int)pid, tid);
    if (access(path, F_OK) ||
        (!reverse_wait_kept((pid_t)tid, &status) && reverse_wait_soon((pid_t)tid) < 0))
        return NULL;
    struct crowd *c = crowd_of(pid);
    return crowd_join(c ? c : crowd_add(pid), (pid_t)tid, crowd_key(pid, (pid_t)tid));
}

static bool is_end(const struct crowd *c, const struct member *m, int status)
{
    return m->tid == c->pid && (!WIFSTOPPED(status) || status >> 16 == PTRACE_EVENT_EXIT);
}

bool crowd_status(struct crowd *c, struct member *m, int status, const struct crowd_watch *w)
{
    struct member *born;
    if (!WIFSTOPPED(status)) {
        crowd_leave(c, m->tid);
        return true;
    }
    switch (status >> 16) {
    case PTRACE_EVENT_CLONE:
        born = crowd_birth(c->pid, m->tid);
        if (born && w->born)
            w->born(w->arg, born);
        if (born)
            crowd_start(born, w->request);
        break;
    case PTRACE_EVENT_EXIT:
        if (w->gone)
            w->gone(w->arg, m);
        break;
    case 0:
        return false;
    default:
        break;
    }
    crowd_start(m, w->request);
    return true;
}

struct member *crowd_wait(struct crowd *c, int *status)
{
    struct member *m = c->members;
    while (m && !m->met)
        m = m->next;
    if (m) {
        m->met = false;
        *status = m->status;
        return is_end(c, m, *status) ? NULL : m;
    }
    for (;;) {
        pid_t tid = reverse_wait_any(status);
        if (tid <= 0)
            return NULL;
        if (!(m = crowd_member(c, tid))) {
            reverse_wait_keep(tid, *status);
            continue;
        }
        m->state = MEMBER_STOPPED;
        m->asked = false;
        return is_end(c, m, *status) ? NULL : m;
    }
}

static void ask_to_stop(struct member *m)
{
    if (m->state == MEMBER_RUNNING && !m->asked)
        m->asked = !ptrace(PTRACE_INTERRUPT, m->tid, NULL, 0);
}

/* Waits for the stop that was asked for; what comes before it is seen to. */
static void stop_one(struct crowd *c, struct member *m, const struct crowd_watch *w)
{
    pid_t tid = m->tid, got;
    int status;
    while ((m = crowd_member(c, tid)) && m->state == MEMBER_RUNNING) {
        ask_to_stop(m);
        do
            got = waitpid(tid, &status, __WALL);
        while (got < 0 && errno == EINTR);
        m->state = MEMBER_STOPPED;
        m->asked = false;
        bool asked_for = got == tid && WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP;
        if (got < 0)
            crowd_leave(c, tid);
        else if (is_end(c, m, status) || (!asked_for && !crowd_status(c, m, status, w))) {
            m->met = true;
            m->status = status;
        }
    }
}

void crowd_stop(struct crowd *c, const struct crowd_watch *w)
{
    struct member *m;
    for (m = c->members; m; m = m->next)
        ask_to_stop(m);
    do {
        m = c->members;
        while (m && m->state != MEMBER_RUNNING)
            m = m->next;
        if (m)
            stop_one(c, m, w);
    } while (m);
}

/* A signal that is not for the program is handed over; others wait for somebody to look. Returns
 * whether the member may go on. */
static bool on_signal_of_other(struct member *m, int status)
{
    siginfo_t info;
    int signal = WSTOPSIG(status);
    if (ptrace(PTRACE_GETSIGINFO, m->tid, NULL, &info))
        return false;
    if (dispatch_behind(m->tid, signal, &info)) {
        m->signal = signal;
        m->info = info;
        return true;
    }
    return signal == SIGTRAP;
}

int crowd_wait_call(struct crowd *c, struct member *m)
{
    const struct crowd_watch watch = {.request = PTRACE_CONT};
    const struct timespec soon = {0, LOOK_NS};
    int status;
    for (int looks = 0; looks < SOON_LOOKS; looks++) {
        if (waitpid(m->tid, &status, __WALL | WNOHANG) == m->tid)
            return WIFSTOPPED(status) ? status : -1;
        nanosleep(&soon, NULL);
    }
    m->state = MEMBER_RUNNING;
    crowd_start_all(c, watch.request);
    struct member *who;
    while ((who = crowd_wait(c, &status)) && who != m)
        if (!crowd_status(c, who, status, &watch) && on_signal_of_other(who, status))
            crowd_start(who, watch.request);
    crowd_stop(c, &watch);
    return who && WIFSTOPPED(status) ? status : -1;
}

void crowd_breathe(struct crowd *c, const struct member *m)
{
    const struct crowd_watch watch = {.request = PTRACE_CONT};
    const struct timespec moment = {0, MOMENT_NS};
    if (++c->steps % STEPS_ALONE)
        return;
    for (struct member *other = c->members; other; other = other->next)
        if (other != m && other->state == MEMBER_STOPPED && !other->met)
            crowd_start(other, watch.request);
    nanosleep(&moment, NULL);
    crowd_stop(c, &watch);
    for (struct member *other = c->members; other; other = other->next)
        if (other != m && other->met && !is_end(c, other, other->status)) {
            other->met = false;
            on_signal_of_other(other, other->status);
        }
}
