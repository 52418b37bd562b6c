/*
 * reverse_run.c - running copies to an exact place: counting, stops
 *
 * Sources: ptrace(2), perf_event_open(2); include/uapi/asm-generic/siginfo.h for what a SIGTRAP of
 * perf carries, arch/x86/kernel/hw_breakpoint.c for the resume flag at an execution breakpoint.
 */
#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gdbbridge/dispatch.h"
#include "gdbbridge/journal.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_copy.h"
#include "gdbbridge/reverse_crowd.h"
#include "gdbbridge/reverse_wait.h"
#include "gdbbridge/script.h"

#define INT3        0xcc
#define RESUME_FLAG COPY_COUNTED_FLAG /* eflags.RF */

#ifndef TRAP_PERF
#define TRAP_PERF 6
#endif

#define SYSCALL_TRAP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */

#define REGISTERS 4 /* for debugging, of the processor */

/* perf's datum: the point's number, or the mark's; above it, which run it is of. A signal may come
 * late, where a handler that blocks it has ended. */
#define DATA_MARK   0xffffu
#define DATA_NUMBER 0xffffu
#define DATA_RUN    16

/* ---- counting ---- */

static bool without_perf;

bool copy_without_perf(void)
{
    return without_perf;
}

static int set_debug_register(pid_t pid, int number, uint64_t value)
{
    uint64_t at = offsetof(struct user, u_debugreg) + (uint64_t)number * sizeof(uint64_t);
    return ptrace(PTRACE_POKEUSER, pid, at, value) ? -1 : 0;
}

/* The bits of DR7 that switch a register on: local enable, condition, length (Intel SDM 3B, 18.2.4;
 * arch/x86/include/asm/debugreg.h). */
static uint64_t control_bits(int number, unsigned size, enum point kind)
{
    uint64_t condition = !size ? 0 : kind == POINT_WRITE ? 1 : 3;
    uint64_t length = size <= 1 ? 0 : size == 2 ? 1 : size == 4 ? 3 : 2;
    return 1ull << (2 * number) | (condition | length << 2) << (16 + 4 * number);
}

/* The same as counter() by a debug register; returns its number. */
static int register_counter(struct copy_lane *lane, uint64_t addr, unsigned size, enum point kind,
                            uint64_t period, uint64_t data)
{
    uint64_t at = offsetof(struct user, u_debugreg) + 7 * sizeof(uint64_t);
    int n = lane->nregs;
    if (n == REGISTERS)
        return -1;
    /* A copy shows the DR7 of the thread that it was made from, whose breakpoints it has not. */
    uint64_t control = n ? (uint64_t)ptrace(PTRACE_PEEKUSER, lane->tid, at, NULL) : 0;
    if (set_debug_register(lane->tid, n, addr) < 0 ||
        set_debug_register(lane->tid, 7, control | control_bits(n, size, kind)) < 0)
        return -1;
    lane->reg[n] = (struct copy_register){data, period, 0};
    return lane->nregs++;
}

/* Counts what the debug registers tell of this stop. Returns true with *data if one of them has
 * come to its period; the mark goes before a point. */
static bool registers_due(struct copy_lane *lane, uint64_t *data)
{
    uint64_t at = offsetof(struct user, u_debugreg) + 6 * sizeof(uint64_t);
    uint64_t status = (uint64_t)ptrace(PTRACE_PEEKUSER, lane->tid, at, NULL);
    bool due = false;
    set_debug_register(lane->tid, 6, 0);
    for (int i = 0; i < lane->nregs; i++) {
        struct copy_register *reg = &lane->reg[i];
        if (!(status >> i & 1) || !(++reg->hits, reg->period) || reg->hits % reg->period)
            continue;
        if (!due || reg->data == DATA_MARK)
            *data = reg->data;
        due = true;
    }
    return due;
}

static bool is_forbidden(int error)
{
    return error == EACCES || error == EPERM || error == ENOSYS || error == ENOENT;
}

/* A breakpoint that counts; with a period, SIGTRAP at each period-th hit, carrying `data`. */
static int counter(const struct copy_run *run, struct copy_lane *lane, const struct mark *what,
                   enum point kind, uint64_t period, uint64_t data)
{
    if (without_perf)
        return register_counter(lane, what->addr, what->size, kind, period, data);
    struct perf_event_attr a = {.type = PERF_TYPE_BREAKPOINT, .size = sizeof a};
    a.bp_addr = what->addr;
    a.bp_type = !what->size           ? HW_BREAKPOINT_X
                : kind == POINT_WRITE ? HW_BREAKPOINT_W
                                      : HW_BREAKPOINT_RW;
    a.bp_len = what->size ? what->size : sizeof(long);
    a.exclude_kernel = 1;
    a.exclude_hv = 1;
    if (period) {
        a.sample_period = period;
        a.sigtrap = 1;
        a.remove_on_exec = 1;
        a.sig_data = run->number << DATA_RUN | data;
    }
    int fd = (int)syscall(SYS_perf_event_open, &a, lane->tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd >= 0 || !is_forbidden(errno))
        return fd;
    without_perf = true; /* the first one of all: none is open */
    return register_counter(lane, what->addr, what->size, kind, period, data);
}

static bool is_executed(const struct copy_point *p)
{
    return p->kind == POINT_SW || p->kind == POINT_HW;
}

static int counter_of(const struct copy_run *run, struct copy_lane *lane, const struct mark *m,
                      uint64_t period)
{
    return counter(run, lane, m, m->written ? POINT_WRITE : POINT_ACCESS, period, DATA_MARK);
}

/* Which points are int3 in memory. */
static void choose_memory(struct copy_run *run)
{
    int left = REGISTERS - (run->mark.n != 0) - (run->count.addr != 0);
    for (size_t i = 0; run->points && i < run->points->n; i++)
        left -= run->points->point[i].kind != POINT_SW;
    for (size_t i = 0; run->points && i < run->points->n; i++)
        run->in_memory[i] =
            run->points->point[i].kind == POINT_SW && !(run->points->fast && left-- > 0);
}

/* Does this thread have the mark, and is that executions of this address? */
static bool is_marked(const struct copy_run *run, const struct copy_lane *lane, uint64_t addr)
{
    return run->mark.n && !run->mark.size && run->mark.addr == addr &&
           run->mark.thread == lane->thread;
}

static int put_points(struct copy_run *run, struct copy_lane *lane)
{
    for (size_t i = 0; run->points && i < run->points->n; i++) {
        const struct copy_point *p = &run->points->point[i];
        struct mark what = {.addr = p->addr, .size = is_executed(p) ? 0 : p->size};
        if (run->in_memory[i] || (is_executed(p) && is_marked(run, lane, p->addr)))
            continue; /* the mark stops at each hit */
        lane->point_fd[i] = counter(run, lane, &what, p->kind, 1, i);
        if (lane->point_fd[i] < 0)
            return -1;
    }
    return 0;
}

/* The breakpoint in a register at the mark's own address, or NULL: one event serves both. */
static const struct copy_point *at_mark(const struct copy_run *run, const struct copy_lane *lane)
{
    for (size_t i = 0; run->points && i < run->points->n; i++)
        if (!run->in_memory[i] && is_executed(&run->points->point[i]) &&
            is_marked(run, lane, run->points->point[i].addr))
            return &run->points->point[i];
    return NULL;
}

/* Puts a thread's counters in place; they go on from what is in its bases. */
static int lane_open(struct copy_run *run, struct copy_lane *lane, pid_t tid, uint64_t thread)
{
    lane->tid = tid;
    lane->thread = thread;
    lane->mark_fd = lane->count_fd = -1;
    lane->nregs = 0;
    for (size_t i = 0; run->points && i < run->points->n; i++)
        lane->point_fd[i] = -1;
    if (run->mark.n && (run->mark.thread == thread || run->mark.until)) {
        bool each = at_mark(run, lane) || (run->mark.until && run->mark.n == 1);
        uint64_t period = each ? 1 : run->mark.n - lane->mark_base;
        lane->mark_fd = counter_of(run, lane, &run->mark, period);
        if (lane->mark_fd < 0)
            return -1;
    }
    if (run->count.addr && run->count.thread == thread) {
        lane->count_fd = counter_of(run, lane, &run->count, 0);
        if (lane->count_fd < 0)
            return -1;
    }
    return put_points(run, lane);
}

static void close_fd(int *fd)
{
    if (*fd >= 0 && !without_perf)
        close(*fd);
    *fd = -1;
}

static void lane_close(const struct copy_run *run, struct copy_lane *lane)
{
    if (lane->nregs)
        set_debug_register(lane->tid, 7, 0);
    close_fd(&lane->mark_fd);
    close_fd(&lane->count_fd);
    for (size_t i = 0; run->points && i < run->points->n; i++)
        close_fd(&lane->point_fd[i]);
}

static void lane_clear(const struct copy_run *run, struct copy_lane *lane)
{
    size_t n = run->points ? run->points->n : 0;
    lane->mark_base = lane->count_base = lane->signals = 0;
    memset(lane->traps, 0, n * sizeof lane->traps[0]);
    memset(lane->point_base, 0, n * sizeof lane->point_base[0]);
}

/* From here on each write to the word that it looks at stops the run. */
static void look_at_each(struct copy_run *run)
{
    struct copy_lane *lane = &run->lane;
    run->mark.n = 1;
    if (without_perf) {
        lane->reg[lane->mark_fd].period = 1;
        return;
    }
    close_fd(&lane->mark_fd);
    lane->mark_fd = counter_of(run, lane, &run->mark, 1);
    run->failed |= lane->mark_fd < 0;
}

/* A thread whose key has been that of another, which has ended, goes on counting. */
static void lane_add(struct copy_run *run, const struct member *m)
{
    struct copy_lane *lane = run->lane.next;
    if (run->mark.until && run->mark.n > 1)
        look_at_each(run);
    while (lane && (lane->tid || lane->thread != m->key))
        lane = lane->next;
    if (!lane) {
        if (!(lane = malloc(sizeof *lane)))
            abort();
        lane_clear(run, lane);
        lane->next = run->lane.next;
        run->lane.next = lane;
    }
    run->failed |= lane_open(run, lane, m->tid, m->key) < 0;
}

static uint64_t hits_of(const struct copy_lane *lane, int fd)
{
    uint64_t n = 0;
    if (without_perf)
        return fd < 0 ? 0 : lane->reg[fd].hits;
    return fd >= 0 && read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

static struct copy_lane *lane_of(struct copy_run *run, pid_t tid)
{
    struct copy_lane *lane = &run->lane;
    while (lane && lane->tid != tid)
        lane = lane->next;
    return lane;
}

/* Its thread has ended. */
static void lane_end(struct copy_run *run, pid_t tid)
{
    struct copy_lane *lane = lane_of(run, tid);
    if (!lane)
        return;
    lane->mark_base += hits_of(lane, lane->mark_fd);
    lane->count_base += hits_of(lane, lane->count_fd);
    for (size_t i = 0; run->points && i < run->points->n; i++)
        lane->point_base[i] += hits_of(lane, lane->point_fd[i]);
    lane_close(run, lane);
    lane->tid = 0;
}

/* Has it an int3 in memory? */
static bool in_memory(const struct copy_run *run)
{
    for (size_t i = 0; run->points && i < run->points->n; i++)
        if (run->in_memory[i])
            return true;
    return false;
}

int copy_run_begin(struct copy_run *run, pid_t pid, const struct mark *mark,
                   const struct copy_points *points, const struct mark *count)
{
    static uint64_t runs;
    const struct crowd *c = crowd_of(pid);
    run->pid = pid;
    run->number = ++runs;
    run->mark = mark ? *mark : (struct mark){0};
    run->count = count ? *count : (struct mark){0};
    run->points = points;
    run->hits = 0;
    run->silent = !c && !dispatch_active(pid);
    run->passed = NULL;
    run->signal = run->points_from = (struct copy_nth){0};
    run->lane.next = NULL;
    choose_memory(run);
    lane_clear(run, &run->lane);
    run->failed = lane_open(run, &run->lane, pid, 0) < 0;
    for (const struct member *m = c ? c->members->next : NULL; m && !run->failed; m = m->next)
        lane_add(run, m);
    for (size_t i = 0; points && i < points->n; i++)
        if (run->in_memory[i])
            copy_poke(pid, points->point[i].addr, INT3);
    if (!run->failed)
        return 0;
    copy_run_end(run);
    return -1;
}

uint64_t copy_run_count(const struct copy_run *run)
{
    uint64_t n = 0;
    for (const struct copy_lane *lane = &run->lane; lane; lane = lane->next)
        n += lane->count_base + hits_of(lane, lane->count_fd);
    return n;
}

uint64_t copy_run_hits(const struct copy_run *run, const struct copy_stop *stop)
{
    ptrdiff_t i = stop->point - run->points->point;
    const struct copy_lane *lane = stop->lane;
    return run->in_memory[i]        ? lane->traps[i]
           : lane->point_fd[i] >= 0 ? lane->point_base[i] + hits_of(lane, lane->point_fd[i])
                                    : lane->mark_base + hits_of(lane, lane->mark_fd);
}

/* ---- running ---- */

static const struct copy_point *software_point(const struct copy_run *run, uint64_t addr)
{
    for (size_t i = 0; run->points && i < run->points->n; i++)
        if (run->in_memory[i] && run->points->point[i].addr == addr)
            return &run->points->point[i];
    return NULL;
}

/* Executes the instruction under a software breakpoint where a thread stands, so that it can go on.
 * Returns false if the process is gone. */
static bool step_off(const struct copy_run *run, const struct copy_lane *lane)
{
    struct user_regs_struct regs;
    const struct copy_point *p;
    if (ptrace(PTRACE_GETREGS, lane->tid, NULL, &regs))
        return false;
    p = software_point(run, regs.rip);
    if (!p || !(regs.eflags & RESUME_FLAG))
        return true;
    copy_poke(run->pid, p->addr, p->original);
    bool there = copy_step(run->pid, lane->thread) != 0;
    copy_poke(run->pid, p->addr, INT3);
    return there;
}

/* siginfo's si_perf_data, which the C library may not know: behind si_addr. */
static uint64_t perf_data(const siginfo_t *info)
{
    uint64_t data;
    memcpy(&data, (const char *)info + 24, sizeof data);
    return data;
}

/* Marks the process as stopped at a software breakpoint whose instruction is to run next. */
static void rewind_int3(pid_t pid, struct user_regs_struct *regs)
{
    regs->rip--;
    regs->eflags |= RESUME_FLAG;
    ptrace(PTRACE_SETREGS, pid, NULL, regs);
}

/* Returns true when the stop is one to tell of. */
static bool on_trap(struct copy_run *run, struct copy_lane *lane, struct copy_stop *stop,
                    struct user_regs_struct *regs)
{
    siginfo_t info;
    if (ptrace(PTRACE_GETSIGINFO, lane->tid, NULL, &info))
        return false;
    if (info.si_code == TRAP_PERF || info.si_code == TRAP_HWBKPT) {
        uint64_t data = without_perf ? lane->due : perf_data(&info) & DATA_NUMBER;
        const struct copy_point *shared = at_mark(run, lane);
        /* The processor may tell of an access and of the next instruction at once, and of two
         * SIGTRAPs one is lost. */
        uint64_t n = 0;
        if (data == DATA_MARK && run->mark.until) {
            stop->end = COPY_MARK;
            return true;
        }
        bool counts = lane->mark_fd >= 0 && !without_perf && !shared && !run->mark.until;
        if (data != DATA_MARK && counts && read(lane->mark_fd, &n, sizeof n) == sizeof n &&
            n + lane->mark_base == run->mark.n)
            data = DATA_MARK;
        if (data == DATA_MARK && (!shared || ++run->hits == run->mark.n)) {
            stop->end = COPY_MARK;
            return true;
        }
        stop->end = COPY_POINT;
        stop->point = data == DATA_MARK ? shared : &run->points->point[data];
        stop->counted = regs->eflags & RESUME_FLAG;
        return true;
    }
    if (info.si_code == SI_KERNEL) {
        rewind_int3(lane->tid, regs);
        stop->pc = regs->rip;
        stop->point = software_point(run, regs->rip);
        stop->end = stop->point ? COPY_POINT : COPY_SIGNAL;
        if (stop->point)
            lane->traps[stop->point - run->points->point]++;
        stop->counted = true;
        return true;
    }
    stop->end = COPY_SIGNAL;
    return true;
}

/* At the entry of a system call, and at its return: output is not made, nor what the journal knows.
 * Returns 0, or -1: it has come to the journal's end. */
static int on_syscall(pid_t pid, bool *skipping)
{
    struct user_regs_struct regs;
    if (journal_has(pid))
        return journal_syscall(pid, false);
    if (copy_registers(pid, &regs))
        return 0;
    if (*skipping) {
        regs.rax = regs.rdx;
        *skipping = false;
    } else if (copy_is_output(regs.orig_rax) && (long long)regs.rax == -ENOSYS) {
        regs.orig_rax = (unsigned long long)-1;
        *skipping = true;
    } else {
        return 0;
    }
    ptrace(PTRACE_SETREGS, pid, NULL, &regs);
    return 0;
}

/* Is the word of the mark not yet what it is to become? */
static bool is_early(struct copy_run *run)
{
    uint64_t word = 0;
    bool early = run->mark.until &&
                 procfs_peek(run->pid, run->mark.addr, &word, sizeof word) == sizeof word &&
                 word < run->mark.until;
    if (early && run->mark.n > 1)
        look_at_each(run);
    return early;
}

/* Is this SIGTRAP only one that is counted, or of an earlier run? */
static bool is_counted_only(struct copy_run *run, struct copy_lane *lane)
{
    siginfo_t info;
    if (ptrace(PTRACE_GETSIGINFO, lane->tid, NULL, &info))
        return false;
    if (info.si_code == TRAP_PERF) {
        uint64_t data = perf_data(&info);
        return data >> DATA_RUN != run->number ||
               ((data & DATA_NUMBER) == DATA_MARK && is_early(run));
    }
    if (!lane->nregs || info.si_code != TRAP_HWBKPT)
        return false;
    return !registers_due(lane, &lane->due) || (lane->due == DATA_MARK && is_early(run));
}

/* By kill(2) or its like: it comes before the next instruction, which a fault is of. */
static bool is_sent(pid_t tid)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    siginfo_t info;
    bool fault = false;
    if (ptrace(PTRACE_GETSIGINFO, tid, NULL, &info))
        return false;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        fault |= info.si_signo == faults[i];
    return !fault || info.si_code <= 0;
}

/* Of the instruction there its debug register says nothing then. */
static bool is_at_mark(const struct copy_run *run, const struct copy_lane *lane, uint64_t pc)
{
    const struct mark *m = &run->mark;
    return m->sent && m->addr == pc && m->thread == lane->thread &&
           lane->mark_base + hits_of(lane, lane->mark_fd) + 1 == m->n;
}

/* Is that the signal of the thread? */
static bool is_nth(const struct copy_nth *nth, const struct copy_lane *lane)
{
    return nth->n == lane->signals && nth->thread == lane->thread;
}

/* Of a process that a replay sends its signals: is the run to stop at this one? */
static bool stops_at_logged(struct copy_run *run, struct copy_lane *lane, bool sent,
                            struct copy_stop *stop)
{
    lane->signals++;
    if (is_nth(&run->points_from, lane))
        run->points_from.n = 0;
    stop->end = sent && is_at_mark(run, lane, stop->pc) ? COPY_MARK : COPY_SIGNAL;
    return stop->end == COPY_MARK || is_nth(&run->signal, lane);
}

/* A thread has stopped. Returns true if it goes on, with *signal, and false with *stop. */
static bool goes_on(struct copy_run *run, struct copy_lane *lane, int status, int *signal,
                    struct copy_stop *stop)
{
    struct user_regs_struct regs;
    *signal = 0;
    if (WSTOPSIG(status) == SYSCALL_TRAP)
        return on_syscall(lane->tid, &lane->skipping) == 0;
    if (status >> 16)
        return status >> 16 != PTRACE_EVENT_EXIT;
    if (ptrace(PTRACE_GETREGS, lane->tid, NULL, &regs))
        return false;
    *stop = (struct copy_stop){.end = COPY_GONE,
                               .signal = WSTOPSIG(status),
                               .pc = regs.rip,
                               .thread = lane->thread,
                               .tid = lane->tid,
                               .lane = lane};
    if (dispatch_of_stop(lane->tid, stop->signal)) {
        *signal = stop->signal;
        return true;
    }
    if (stop->signal == SIGTRAP && is_counted_only(run, lane))
        return true;
    *signal = stop->signal;
    bool sent = is_sent(lane->tid), trap = stop->signal == SIGTRAP && !sent;
    if (copy_logged() && !trap) {
        stop->counted = !sent || regs.eflags & RESUME_FLAG;
        return !stops_at_logged(run, lane, sent, stop);
    }
    if (journal_signal_past(lane->tid, signal) ||
        (!journal_has(lane->tid) && copy_passes(*signal)))
        return true;
    if (trap) {
        if (!on_trap(run, lane, stop, &regs))
            stop->end = COPY_GONE;
        return false;
    }
    bool recorded = journal_has(lane->tid);
    /* so far, and no further, a copy of a recorded process was to go */
    bool there = recorded ? run->mark.n && journal_signal_next(lane->tid, stop->signal)
                          : sent && is_at_mark(run, lane, regs.rip);
    stop->end = there ? COPY_MARK : COPY_SIGNAL;
    stop->counted = !(recorded || sent) || regs.eflags & RESUME_FLAG;
    return false;
}

static int request_of(const struct copy_run *run)
{
    return run->silent && !crowd_of(run->pid) ? PTRACE_SYSCALL : PTRACE_CONT;
}

/* ---- of several threads */

static void on_born(void *arg, struct member *m)
{
    lane_add(arg, m);
}

static void on_gone(void *arg, struct member *m)
{
    lane_end(arg, m->tid);
}

static struct crowd_watch watch_of(struct copy_run *run)
{
    return (struct crowd_watch){on_born, on_gone, run, request_of(run)};
}

/*
 * All of them run. Where one stops at data the others need not stop, too: it is for them to wait
 * for its turn. They do at all else, which is where copies of the process may be made, or its code
 * be changed.
 */
static void crowd_to_stop(struct copy_run *run, struct crowd *c, struct copy_stop *stop)
{
    const struct crowd_watch watch = watch_of(run);
    struct member *m;
    int status, signal;
    crowd_start_all(c, watch.request);
    while (!run->failed && (m = crowd_wait(c, &status))) {
        struct copy_lane *lane = lane_of(run, m->tid);
        if (crowd_status(c, m, status, &watch))
            continue;
        if (!lane)
            break;
        if (!goes_on(run, lane, status, &signal, stop)) {
            if (stop->end != COPY_POINT || is_executed(stop->point) || in_memory(run))
                crowd_stop(c, &watch);
            return;
        }
        m->signal = signal;
        crowd_start(m, watch.request);
    }
    stop->end = COPY_GONE;
}

/* A stop of a member that nobody will look at any more. What an instruction has caused it causes
 * again. */
static void forget_stop(struct member *m)
{
    struct user_regs_struct regs;
    siginfo_t info;
    m->met = false;
    if (ptrace(PTRACE_GETSIGINFO, m->tid, NULL, &info))
        return;
    if (info.si_signo == SIGTRAP && info.si_code == SI_KERNEL &&
        !ptrace(PTRACE_GETREGS, m->tid, NULL, &regs)) {
        regs.rip--;
        ptrace(PTRACE_SETREGS, m->tid, NULL, &regs);
    } else if (info.si_code <= 0 || dispatch_behind(m->tid, info.si_signo, &info)) {
        m->signal = info.si_signo;
        m->info = info;
    }
}

static void crowd_settle(struct copy_run *run, struct crowd *c)
{
    const struct crowd_watch watch = watch_of(run);
    crowd_stop(c, &watch);
    for (struct member *m = c->members; m; m = m->next)
        if (m->met)
            forget_stop(m);
}

void copy_run_end(struct copy_run *run)
{
    struct crowd *c = crowd_of(run->pid);
    if (c)
        crowd_settle(run, c);
    lane_close(run, &run->lane);
    for (struct copy_lane *lane; (lane = run->lane.next);) {
        run->lane.next = lane->next;
        lane_close(run, lane);
        free(lane);
    }
    for (size_t i = 0; run->points && i < run->points->n; i++)
        if (run->in_memory[i])
            copy_poke(run->pid, run->points->point[i].addr, run->points->point[i].original);
}

/* ---- of one thread */

/* Returns false if that has made another one, which is stopped like itself. */
static bool alone_to_stop(struct copy_run *run, struct copy_stop *stop)
{
    int signal = 0, status;
    for (;;) {
        if (ptrace(request_of(run), run->pid, NULL, signal) ||
            (status = reverse_wait(run->pid)) < 0)
            return true;
        if (status >> 16 == PTRACE_EVENT_CLONE) {
            struct member *m = crowd_birth(run->pid, run->pid);
            if (m)
                lane_add(run, m);
            if (m)
                return false;
        }
        if (!goes_on(run, &run->lane, status, &signal, stop))
            return true;
    }
}

static void run_to_stop(struct copy_run *run, struct copy_stop *stop)
{
    *stop = (struct copy_stop){.end = COPY_GONE};
    run->lane.skipping = false;
    bool int3 = in_memory(run);
    for (const struct copy_lane *lane = &run->lane; lane && int3; lane = lane->next)
        if (lane->tid && !step_off(run, lane))
            return;
    journal_send(run->pid);
    if (crowd_of(run->pid) || !alone_to_stop(run, stop))
        crowd_to_stop(run, crowd_of(run->pid), stop);
}

/* A debug register that stops too late, where a handler that blocks signals has ended. */
static bool is_late(const struct copy_run *run, const struct copy_stop *stop)
{
    const struct copy_point *p = stop->point;
    return p->kind == POINT_SW && !run->in_memory[p - run->points->point] && stop->pc != p->addr;
}

void copy_run_on(struct copy_run *run, struct copy_stop *stop)
{
    do {
        run_to_stop(run, stop);
        if (run->passed)
            ++*run->passed;
    } while (stop->end == COPY_POINT && (run->points_from.n || is_late(run, stop) ||
                                         !script_stops(stop->point->script, stop->tid)));
}

int copy_run_to(pid_t pid, const struct mark *mark, const struct mark *count, uint64_t *counted)
{
    struct copy_run run;
    struct copy_stop stop;
    if (copy_run_begin(&run, pid, mark, NULL, count) < 0)
        return -1;
    copy_run_on(&run, &stop);
    if (counted)
        *counted = copy_run_count(&run);
    copy_run_end(&run);
    return stop.end == COPY_MARK ? 0 : -1;
}
