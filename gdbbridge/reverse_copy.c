/*
 * reverse_copy.c - copies of a stopped process, and running them to an exact place
 *
 * Sources: ptrace(2), perf_event_open(2); include/uapi/asm-generic/siginfo.h for what a SIGTRAP of
 * perf carries, arch/x86/kernel/hw_breakpoint.c for the resume flag at an execution breakpoint.
 */
#include "gdbbridge/reverse_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gdbbridge/script.h"
#include "gdbbridge/dispatch.h"
#include "gdbbridge/journal.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_wait.h"

#define INT3        0xcc
#define RESUME_FLAG COPY_COUNTED_FLAG /* eflags.RF */

#ifndef TRAP_PERF
#define TRAP_PERF 6
#endif

#define SYSCALL_TRAP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */

#define REGISTERS 4 /* for debugging, of the processor */
#define DATA_MARK UINT64_MAX /* perf's datum of the mark; else the point's number */

/* ---- memory and registers ---- */

int copy_poke(pid_t pid, uint64_t addr, uint8_t byte)
{
    int fd = procfs_memory(pid);
    ssize_t n = fd < 0 ? -1 : pwrite(fd, &byte, 1, (off_t)addr);
    if (fd >= 0)
        close(fd);
    return n == 1 ? 0 : -1;
}

int copy_registers(pid_t pid, struct user_regs_struct *regs)
{
    return ptrace(PTRACE_GETREGS, pid, NULL, regs) ? -1 : 0;
}

/* ---- waiting ---- */

void copy_kill(pid_t pid)
{
    int status;
    if (pid <= 1)
        return;
    journal_drop(pid);
    kill(pid, SIGKILL);
    for (;;) {
        pid_t got = waitpid(pid, &status, __WALL);
        if ((got < 0 && errno != EINTR) || (got == pid && !WIFSTOPPED(status)))
            return;
        if (got == pid) /* the stop before its end */
            ptrace(PTRACE_CONT, pid, NULL, 0);
    }
}

/* ---- making one ---- */

/* A `syscall` instruction in the process: first in what lies highest, which no program unmaps. */
static uint64_t find_syscall(pid_t pid)
{
    char path[64], line[512];
    uint64_t found = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *f = fopen(path, "re");
    int memory = procfs_memory(pid);
    while (f && memory >= 0 && fgets(line, sizeof line, f)) {
        unsigned long low, high;
        char flags[8];
        if (sscanf(line, "%lx-%lx %7s", &low, &high, flags) != 3 || flags[2] != 'x' ||
            strstr(line, "[vsyscall]"))
            continue;
        size_t size = high - low < 1 << 20 ? high - low : 1 << 20;
        uint8_t *text = malloc(size);
        ssize_t n = text ? pread(memory, text, size, (off_t)low) : -1;
        const uint8_t *at = n > 1 ? memmem(text, (size_t)n, "\x0f\x05", 2) : NULL;
        if (at)
            found = low + (uint64_t)(at - text);
        free(text);
    }
    if (f)
        fclose(f);
    if (memory >= 0)
        close(memory);
    return found;
}

static bool is_syscall(pid_t pid, uint64_t addr)
{
    errno = 0;
    long word = addr ? ptrace(PTRACE_PEEKTEXT, pid, addr, NULL) : 0;
    return !errno && (word & 0xffff) == 0x050f;
}

/* Lets the process execute clone(2). Returns the child's pid, with both of them stopped. */
static pid_t inject_clone(pid_t pid)
{
    unsigned long child = 0;
    for (int stops = 0; stops < 4; stops++) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, 0))
            return -1;
        int status = reverse_wait_soon(pid);
        if (status < 0)
            return -1;
        if (status >> 16 == PTRACE_EVENT_CLONE || status >> 16 == PTRACE_EVENT_FORK)
            ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child);
        else if (WSTOPSIG(status) == SIGTRAP)
            break;
    }
    return child && reverse_wait_soon((pid_t)child) >= 0 ? (pid_t)child : -1;
}

pid_t copy_make(pid_t pid)
{
    static uint64_t syscall_at; /* kept: the same in all copies, another where it is made anew */
    struct user_regs_struct before, regs;
    if (copy_registers(pid, &before))
        return -1;
    if (!is_syscall(pid, syscall_at) && !(syscall_at = find_syscall(pid)))
        return -1;
    regs = before;
    regs.rip = syscall_at;
    regs.rax = SYS_clone;
    regs.orig_rax = (unsigned long long)-1;
    /* Exit signal 0: the program's own wait() does not see it. Our child, not the original's: it is
     * wholly gone when we have reaped it. */
    regs.rdi = CLONE_PARENT | (journal_has(pid) ? CLONE_FILES | CLONE_FS : 0);
    regs.rsi = regs.rdx = regs.r10 = regs.r8 = 0;
    if (ptrace(PTRACE_SETREGS, pid, NULL, &regs))
        return -1;
    pid_t child = inject_clone(pid);
    ptrace(PTRACE_SETREGS, pid, NULL, &before);
    before.eflags &= ~(unsigned long long)RESUME_FLAG;
    if (child > 0 &&
        (ptrace(PTRACE_SETREGS, child, NULL, &before) || dispatch_copy(pid, child) < 0)) {
        copy_kill(child);
        return -1;
    }
    if (child > 0)
        journal_copy(pid, child);
    return child;
}

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
static int register_counter(struct copy_run *run, uint64_t addr, unsigned size, enum point kind,
                            uint64_t period, uint64_t data)
{
    uint64_t at = offsetof(struct user, u_debugreg) + 7 * sizeof(uint64_t);
    int n = run->nregs;
    if (n == 4)
        return -1;
    uint64_t control = (uint64_t)ptrace(PTRACE_PEEKUSER, run->pid, at, NULL);
    if (set_debug_register(run->pid, n, addr) < 0 ||
        set_debug_register(run->pid, 7, control | control_bits(n, size, kind)) < 0)
        return -1;
    run->reg[n] = (struct copy_register){data, period, 0};
    return run->nregs++;
}

/* Counts what the debug registers tell of this stop. Returns true with *data if one of them has
 * come to its period; the mark goes before a point. */
static bool registers_due(struct copy_run *run, uint64_t *data)
{
    uint64_t at = offsetof(struct user, u_debugreg) + 6 * sizeof(uint64_t);
    uint64_t status = (uint64_t)ptrace(PTRACE_PEEKUSER, run->pid, at, NULL);
    bool due = false;
    set_debug_register(run->pid, 6, 0);
    for (int i = 0; i < run->nregs; i++) {
        struct copy_register *reg = &run->reg[i];
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
static int counter(struct copy_run *run, uint64_t addr, unsigned size, enum point kind,
                   uint64_t period, uint64_t data)
{
    if (without_perf)
        return register_counter(run, addr, size, kind, period, data);
    struct perf_event_attr a = {.type = PERF_TYPE_BREAKPOINT, .size = sizeof a};
    a.bp_addr = addr;
    a.bp_type = !size ? HW_BREAKPOINT_X : kind == POINT_WRITE ? HW_BREAKPOINT_W : HW_BREAKPOINT_RW;
    a.bp_len = size ? size : sizeof(long);
    a.exclude_kernel = 1;
    a.exclude_hv = 1;
    if (period) {
        a.sample_period = period;
        a.sigtrap = 1;
        a.remove_on_exec = 1;
        a.sig_data = data;
    }
    int fd = (int)syscall(SYS_perf_event_open, &a, run->pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd >= 0 || !is_forbidden(errno))
        return fd;
    without_perf = true; /* the first one of all: none is open */
    return register_counter(run, addr, size, kind, period, data);
}

static bool is_executed(const struct copy_point *p)
{
    return p->kind == POINT_SW || p->kind == POINT_HW;
}

static int counter_of(struct copy_run *run, const struct mark *m, uint64_t period)
{
    return counter(run, m->addr, m->size, m->written ? POINT_WRITE : POINT_ACCESS, period,
                   DATA_MARK);
}

/* Which points are int3 in memory. */
static void choose_memory(struct copy_run *run, bool counts)
{
    int left = REGISTERS - (run->mark.n != 0) - counts;
    for (size_t i = 0; run->points && i < run->points->n; i++)
        left -= run->points->point[i].kind != POINT_SW;
    for (size_t i = 0; run->points && i < run->points->n; i++)
        run->in_memory[i] =
            run->points->point[i].kind == POINT_SW && !(run->points->fast && left-- > 0);
}

static int put_points(struct copy_run *run)
{
    for (size_t i = 0; run->points && i < run->points->n; i++) {
        const struct copy_point *p = &run->points->point[i];
        if (run->in_memory[i]) {
            copy_poke(run->pid, p->addr, INT3);
        } else if (is_executed(p) && !run->mark.size && run->mark.addr == p->addr) {
            continue; /* the mark stops at each hit */
        } else {
            run->point_fd[i] = counter(run, p->addr, is_executed(p) ? 0 : p->size, p->kind, 1, i);
            if (run->point_fd[i] < 0)
                return -1;
        }
    }
    return 0;
}

/* The breakpoint in a register at the mark's own address, or NULL: one event serves both. */
static const struct copy_point *at_mark(const struct copy_run *run)
{
    for (size_t i = 0; run->mark.n && !run->mark.size && run->points && i < run->points->n; i++)
        if (!run->in_memory[i] && is_executed(&run->points->point[i]) &&
            run->points->point[i].addr == run->mark.addr)
            return &run->points->point[i];
    return NULL;
}

int copy_run_begin(struct copy_run *run, pid_t pid, const struct mark *mark,
                   const struct copy_points *points, const struct mark *count)
{
    run->pid = pid;
    run->mark = mark ? *mark : (struct mark){0};
    run->points = points;
    run->mark_fd = run->count_fd = -1;
    run->hits = 0;
    run->nregs = 0;
    run->silent = !dispatch_active(pid);
    for (size_t i = 0; points && i < points->n; i++)
        run->point_fd[i] = -1;
    run->passed = NULL;
    memset(run->traps, 0, sizeof run->traps);
    choose_memory(run, count);
    bool ok = true;
    if (run->mark.n) {
        run->mark_fd = counter_of(run, &run->mark, at_mark(run) ? 1 : run->mark.n);
        ok = run->mark_fd >= 0;
    }
    if (ok && count) {
        run->count_fd = counter_of(run, count, 0);
        ok = run->count_fd >= 0;
    }
    if (ok && put_points(run) == 0)
        return 0;
    copy_run_end(run);
    return -1;
}

static void close_fd(int *fd)
{
    if (*fd >= 0 && !without_perf)
        close(*fd);
    *fd = -1;
}

void copy_run_end(struct copy_run *run)
{
    if (run->nregs)
        set_debug_register(run->pid, 7, 0);
    close_fd(&run->mark_fd);
    close_fd(&run->count_fd);
    for (size_t i = 0; run->points && i < run->points->n; i++) {
        const struct copy_point *p = &run->points->point[i];
        close_fd(&run->point_fd[i]);
        if (run->in_memory[i])
            copy_poke(run->pid, p->addr, p->original);
    }
}

static uint64_t hits_of(const struct copy_run *run, int fd)
{
    uint64_t n = 0;
    if (without_perf)
        return fd < 0 ? 0 : run->reg[fd].hits;
    return fd >= 0 && read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

uint64_t copy_run_count(const struct copy_run *run)
{
    return hits_of(run, run->count_fd);
}

uint64_t copy_run_hits(const struct copy_run *run, const struct copy_point *point)
{
    ptrdiff_t i = point - run->points->point;
    return run->in_memory[i]       ? run->traps[i]
           : run->point_fd[i] >= 0 ? hits_of(run, run->point_fd[i])
                                   : hits_of(run, run->mark_fd); /* at the mark */
}

/* ---- running ---- */

static const struct copy_point *software_point(const struct copy_run *run, uint64_t addr)
{
    for (size_t i = 0; run->points && i < run->points->n; i++)
        if (run->in_memory[i] && run->points->point[i].addr == addr)
            return &run->points->point[i];
    return NULL;
}

/* Executes the instruction under a software breakpoint where the process stands, so that it can go
 * on. Returns false if the process is gone. */
static bool step_off(struct copy_run *run)
{
    struct user_regs_struct regs;
    const struct copy_point *p;
    if (copy_registers(run->pid, &regs))
        return false;
    p = software_point(run, regs.rip);
    if (!p || !(regs.eflags & RESUME_FLAG))
        return true;
    copy_poke(run->pid, p->addr, p->original);
    bool there = copy_step(run->pid) != 0;
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
static bool on_trap(struct copy_run *run, struct copy_stop *stop, struct user_regs_struct *regs)
{
    siginfo_t info;
    if (ptrace(PTRACE_GETSIGINFO, run->pid, NULL, &info))
        return false;
    if (info.si_code == TRAP_PERF || info.si_code == TRAP_HWBKPT) {
        uint64_t data = without_perf ? run->due : perf_data(&info);
        const struct copy_point *shared = at_mark(run);
        /* The processor may tell of an access and of the next instruction at once, and of two
         * SIGTRAPs one is lost. */
        uint64_t n = 0;
        if (data != DATA_MARK && !shared && run->mark_fd >= 0 && !without_perf &&
            read(run->mark_fd, &n, sizeof n) == sizeof n && n == run->mark.n)
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
        rewind_int3(run->pid, regs);
        stop->pc = regs->rip;
        stop->point = software_point(run, regs->rip);
        stop->end = stop->point ? COPY_POINT : COPY_SIGNAL;
        if (stop->point)
            run->traps[stop->point - run->points->point]++;
        stop->counted = true;
        return true;
    }
    stop->end = COPY_SIGNAL;
    return true;
}

/* Does this system call send out as many bytes as its third argument says? */
static bool is_output(unsigned long long number)
{
    return number == SYS_write || number == SYS_pwrite64 || number == SYS_sendto;
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
    } else if (is_output(regs.orig_rax) && (long long)regs.rax == -ENOSYS) {
        regs.orig_rax = (unsigned long long)-1;
        *skipping = true;
    } else {
        return 0;
    }
    ptrace(PTRACE_SETREGS, pid, NULL, &regs);
    return 0;
}

/* If the stop is for a system call or instruction that the process handles itself: where it goes on
 * behind it. */
static uint64_t behind_call(pid_t pid, int signal)
{
    siginfo_t info;
    return ptrace(PTRACE_GETSIGINFO, pid, NULL, &info) ? 0 : dispatch_behind(pid, signal, &info);
}

/* Is this SIGTRAP only one that a debug register counts? */
static bool is_counted_only(struct copy_run *run)
{
    siginfo_t info;
    return run->nregs && !ptrace(PTRACE_GETSIGINFO, run->pid, NULL, &info) &&
           info.si_code == TRAP_HWBKPT && !registers_due(run, &run->due);
}

static void run_to_stop(struct copy_run *run, struct copy_stop *stop)
{
    struct user_regs_struct regs;
    bool skipping = false;
    int signal = 0;
    *stop = (struct copy_stop){.end = COPY_GONE};
    if (!step_off(run))
        return;
    journal_send(run->pid);
    for (;;) {
        if (ptrace(run->silent ? PTRACE_SYSCALL : PTRACE_CONT, run->pid, NULL, signal))
            return;
        int status = reverse_wait(run->pid);
        if (status < 0)
            return;
        signal = 0;
        if (WSTOPSIG(status) == SYSCALL_TRAP) {
            if (on_syscall(run->pid, &skipping) < 0)
                return;
            continue;
        }
        if (status >> 16 == PTRACE_EVENT_EXIT)
            return;
        if (status >> 16)
            continue;
        if (copy_registers(run->pid, &regs))
            return;
        stop->pc = regs.rip;
        stop->signal = WSTOPSIG(status);
        if (behind_call(run->pid, stop->signal)) {
            signal = stop->signal;
            continue;
        }
        if (stop->signal == SIGTRAP && is_counted_only(run))
            continue;
        signal = stop->signal;
        if (journal_signal_past(run->pid, &signal))
            continue;
        if (stop->signal == SIGTRAP && !on_trap(run, stop, &regs))
            return;
        if (stop->signal != SIGTRAP) {
            bool recorded = journal_has(run->pid);
            /* so far, and no further, a copy of a recorded process was to go */
            stop->end = recorded && run->mark.n && journal_signal_next(run->pid, stop->signal)
                            ? COPY_MARK
                            : COPY_SIGNAL;
            stop->counted = !recorded || regs.eflags & RESUME_FLAG;
        }
        return;
    }
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
    } while (stop->end == COPY_POINT && (is_late(run, stop) ||
                                         !script_stops(stop->point->script, run->pid)));
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

/* Steps over an output system call without making it. Returns false if there is none. */
static bool step_over_output(pid_t pid, struct user_regs_struct *regs)
{
    if (!is_syscall(pid, regs->rip) || !is_output(regs->rax) || dispatch_active(pid))
        return false;
    regs->rip += 2;
    regs->rax = regs->rdx;
    regs->rcx = regs->rip; /* as the instruction does */
    regs->r11 = regs->eflags;
    return !ptrace(PTRACE_SETREGS, pid, NULL, regs);
}

/* To the entry of the system call that is the next instruction. */
static bool enter_call(pid_t pid)
{
    if (ptrace(PTRACE_SYSCALL, pid, NULL, 0))
        return false;
    int status = reverse_wait(pid);
    return status >= 0 && WSTOPSIG(status) == SYSCALL_TRAP && journal_syscall(pid, false) >= 0;
}

/* One instruction. *signal is handed over before; afterwards it is what the process has met instead
 * of the step's end, or 0. Returns false if it is gone. */
static bool step_once(pid_t pid, struct user_regs_struct *regs, int *signal)
{
    bool recorded = journal_has(pid);
    if (!recorded && !*signal && step_over_output(pid, regs))
        return true;
    journal_send(pid);
    if (recorded && !*signal && !journal_sent(pid) && journal_at_call(pid) &&
        !enter_call(pid))
        return false;
    for (int stops = 0; stops < 4; stops++) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, *signal))
            return false;
        int status = reverse_wait(pid);
        if (status < 0)
            return false;
        *signal = status >> 16 || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        if (status >> 16 || (*signal && journal_signal_past(pid, signal)))
            continue;
        return journal_stepped(pid) >= 0 && !copy_registers(pid, regs);
    }
    return false;
}

uint64_t copy_step(pid_t pid)
{
    struct user_regs_struct regs;
    int signal = 0;
    if (copy_registers(pid, &regs) || !step_once(pid, &regs, &signal))
        return 0;
    if (!signal)
        return regs.rip;
    uint64_t behind = behind_call(pid, signal), sp = regs.rsp; /* there the handler returns to */
    if (!behind)
        return 0;
    do
        if (!step_once(pid, &regs, &signal) || signal)
            return 0;
    while (regs.rip != behind || regs.rsp != sp);
    return behind;
}
