/*
 * reverse_copy.c - copies of a stopped process, and single steps of them
 *
 * Source: ptrace(2).
 */
#include "gdbbridge/reverse_copy.h"

#include <errno.h>
#include <fcntl.h>
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

#include "gdbbridge/dispatch.h"
#include "gdbbridge/journal.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_crowd.h"
#include "gdbbridge/reverse_wait.h"
#include "gdbbridge/signals.h"

#define RESUME_FLAG COPY_COUNTED_FLAG /* eflags.RF */

#define SYSCALL_TRAP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */

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

/* ---- signals ---- */

static sigset_t passed;
static bool logged;

void copy_pass(const sigset_t *signals)
{
    passed = *signals;
}

void copy_pass_logged(void)
{
    logged = true;
}

bool copy_logged(void)
{
    return logged;
}

bool copy_passes(int signal)
{
    bool wanted = logged || sigismember(&passed, signal) == 1;
    return signal_is_of_libc(signal) || (signal && signal != SIGTRAP && wanted);
}

/* ---- waiting ---- */

void copy_kill(pid_t pid)
{
    int status;
    struct crowd *c = crowd_of(pid);
    if (pid <= 1)
        return;
    if (c) {
        crowd_kill(c);
        return;
    }
    journal_drop(pid);
    kill(pid, SIGKILL);
    ptrace(PTRACE_CONT, pid, NULL, 0); /* from the stop before its end: no signal ends that */
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

bool copy_at_call(pid_t pid, uint64_t addr)
{
    errno = 0;
    long word = addr ? ptrace(PTRACE_PEEKTEXT, pid, addr, NULL) : 0;
    return !errno && (word & 0xffff) == 0x050f;
}

int copy_call(pid_t tid, uint64_t at, const struct user_regs_struct *base, long number,
              const uint64_t args[6], pid_t *born)
{
    struct user_regs_struct regs = *base;
    unsigned long child = 0;
    regs.rip = at;
    regs.rax = (unsigned long long)number;
    regs.orig_rax = (unsigned long long)-1;
    regs.rdi = args[0];
    regs.rsi = args[1];
    regs.rdx = args[2];
    regs.r10 = args[3];
    regs.r8 = args[4];
    regs.r9 = args[5];
    if (ptrace(PTRACE_SETREGS, tid, NULL, &regs))
        return -1;
    for (int stops = 0; stops < 4; stops++) {
        if (ptrace(PTRACE_SINGLESTEP, tid, NULL, 0))
            return -1;
        int status = reverse_wait_soon(tid);
        if (status < 0)
            return -1;
        if (status >> 16 == PTRACE_EVENT_CLONE || status >> 16 == PTRACE_EVENT_FORK)
            ptrace(PTRACE_GETEVENTMSG, tid, NULL, &child);
        else if (WSTOPSIG(status) == SIGTRAP && !(status >> 16))
            break;
    }
    if (born) {
        *born = (pid_t)child;
        return child && reverse_wait_soon((pid_t)child) >= 0 ? 0 : -1;
    }
    return ptrace(PTRACE_GETREGS, tid, NULL, &regs) || (long long)regs.rax < 0 ? -1 : 0;
}

int copy_mask(pid_t tid, uint64_t *was)
{
    uint64_t all = ~(1ull << (SIGTRAP - 1));
    return ptrace(PTRACE_GETSIGMASK, tid, sizeof *was, was) ||
                   ptrace(PTRACE_SETSIGMASK, tid, sizeof all, &all)
               ? -1
               : 0;
}

void copy_restart_call(struct user_regs_struct *regs)
{
    long long r = (long long)regs->rax;
    if ((long long)regs->orig_rax < 0 || (r != -512 && r != -513 && r != -514 && r != -516))
        return;
    regs->rax = regs->orig_rax;
    regs->rip -= 2;
    regs->orig_rax = (unsigned long long)-1;
}

/* The first thread's copy, stopped where that is, or -1. */
static pid_t fork_first(pid_t pid, uint64_t at, bool shares, const struct user_regs_struct *before)
{
    struct user_regs_struct there = *before;
    pid_t child = -1;
    /* Exit signal 0: the program's own wait() does not see it. Our child, not the original's: it is
     * wholly gone when we have reaped it. */
    uint64_t flags = CLONE_PARENT | (shares ? CLONE_FILES | CLONE_FS : 0);
    if (copy_call(pid, at, before, SYS_clone, (uint64_t[6]){flags}, &child) < 0)
        child = -1;
    ptrace(PTRACE_SETREGS, pid, NULL, before);
    there.eflags &= ~(unsigned long long)RESUME_FLAG;
    copy_restart_call(&there);
    dispatch_name_anew(&there, (struct dispatch_thread){pid, pid},
                       (struct dispatch_thread){child, child});
    if (child > 0 &&
        (ptrace(PTRACE_SETREGS, child, NULL, &there) || dispatch_copy(pid, child) < 0)) {
        copy_kill(child);
        return -1;
    }
    return child;
}

/* The same with all threads. */
static pid_t fork_crowd(const struct crowd *c, uint64_t at, const struct user_regs_struct *before)
{
    const struct member *first = c->members;
    uint64_t mask;
    if (copy_mask(c->pid, &mask) < 0)
        return -1;
    pid_t child = fork_first(c->pid, at, false, before);
    ptrace(PTRACE_SETSIGMASK, c->pid, sizeof mask, &mask);
    if (first->signal)
        ptrace(PTRACE_SETSIGINFO, c->pid, NULL, &first->info);
    if (child > 0 && (ptrace(PTRACE_SETSIGMASK, child, sizeof mask, &mask) ||
                      crowd_copy(c, child, at) < 0)) {
        copy_kill(child);
        return -1;
    }
    return child;
}

pid_t copy_make(pid_t pid)
{
    static uint64_t syscall_at; /* kept: the same in all copies, another where it is made anew */
    const struct crowd *c = crowd_of(pid);
    struct user_regs_struct before;
    if (copy_registers(pid, &before))
        return -1;
    if (!copy_at_call(pid, syscall_at) && !(syscall_at = find_syscall(pid)))
        return -1;
    if (c)
        return fork_crowd(c, syscall_at, &before);
    pid_t child = fork_first(pid, syscall_at, journal_has(pid), &before);
    if (child > 0)
        journal_copy(pid, child);
    return child;
}

/* ---- stepping ---- */

bool copy_is_output(unsigned long long number)
{
    return number == SYS_write || number == SYS_pwrite64 || number == SYS_sendto;
}

/* Steps over an output system call without making it. Returns false if there is none. */
static bool step_over_output(pid_t pid, struct user_regs_struct *regs)
{
    if (!copy_at_call(pid, regs->rip) || !copy_is_output(regs->rax) || dispatch_active(pid))
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

/* The end of a step. Where there are several threads, others may have to run first. */
static int wait_step(pid_t pid, pid_t tid, bool call)
{
    struct crowd *c = call ? crowd_of(pid) : NULL;
    int status = c ? crowd_wait_call(c, crowd_member(c, tid)) : reverse_wait(tid);
    if (status >= 0 && status >> 16 == PTRACE_EVENT_CLONE)
        crowd_birth(pid, tid);
    return status >= 0 && status >> 16 == PTRACE_EVENT_EXIT ? -1 : status;
}

/* One instruction. *signal is handed over before; afterwards it is what the thread has met instead
 * of the step's end, or 0. Returns false if it is gone. */
static bool step_once(pid_t pid, pid_t tid, struct user_regs_struct *regs, int *signal)
{
    bool recorded = journal_has(tid);
    if (!recorded && !*signal && step_over_output(tid, regs))
        return true;
    journal_send(tid);
    if (recorded && !*signal && !journal_sent(tid) && journal_at_call(tid) && !enter_call(tid))
        return false;
    struct crowd *c = crowd_of(pid);
    bool call = c && copy_at_call(tid, regs->rip);
    if (c)
        crowd_breathe(c, crowd_member(c, tid));
    for (int stops = 0; stops < 4; stops++) {
        if (ptrace(PTRACE_SINGLESTEP, tid, NULL, *signal))
            return false;
        int status = wait_step(pid, tid, call);
        if (status < 0)
            return false;
        *signal = status >> 16 || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        bool passes = !recorded && copy_passes(*signal) && !dispatch_of_stop(tid, *signal);
        if (status >> 16 || passes || (*signal && journal_signal_past(tid, signal)))
            continue;
        return journal_stepped(tid) >= 0 && !copy_registers(tid, regs);
    }
    return false;
}

/* The signal that the thread is in the stop of, which comes before its next instruction. Not one
 * that would come again. */
static int take_signal(pid_t pid, pid_t tid)
{
    const struct crowd *c = crowd_of(pid);
    struct member *m = c ? crowd_member(c, tid) : NULL;
    int signal = m ? m->signal : 0;
    if (m)
        m->signal = 0;
    return m && dispatch_is_look(signal, &m->info) ? 0 : signal;
}

/* Through a handler, which the thread is about to enter, to where it returns to. */
static bool step_over_handler(pid_t pid, pid_t tid, struct user_regs_struct *regs, int signal,
                              uint64_t behind)
{
    uint64_t sp = regs->rsp;
    do
        if (!step_once(pid, tid, regs, &signal) ||
            (signal && !dispatch_is_look_of_stop(tid, signal)))
            return false;
    while (regs->rip != behind || regs->rsp != sp);
    return true;
}

uint64_t copy_step(pid_t pid, uint64_t thread)
{
    struct user_regs_struct regs;
    pid_t tid = crowd_tid(pid, thread);
    int signal = tid > 0 ? take_signal(pid, tid) : 0;
    if (tid <= 0 || copy_registers(tid, &regs))
        return 0;
    uint64_t behind = signal ? dispatch_of_stop(tid, signal) : 0;
    while (!behind) {
        if (!step_once(pid, tid, &regs, &signal))
            return 0;
        if (!signal)
            return regs.rip;
        behind = dispatch_of_stop(tid, signal);
        bool look = dispatch_is_look_of_stop(tid, signal);
        if (!behind || (look && !step_over_handler(pid, tid, &regs, signal, behind)))
            return 0;
        if (!look)
            break;
        signal = 0; /* the instruction is still to come */
        behind = 0;
    }
    return step_over_handler(pid, tid, &regs, signal, behind) ? behind : 0;
}

uint64_t copy_step_alone(pid_t pid, uint64_t thread, uint64_t *behind)
{
    struct user_regs_struct regs;
    pid_t tid = crowd_tid(pid, thread);
    int signal = tid > 0 ? take_signal(pid, tid) : 0;
    *behind = signal ? dispatch_of_stop(tid, signal) : 0;
    if (tid <= 0 || signal || copy_registers(tid, &regs))
        return 0;
    if (copy_at_call(tid, regs.rip)) {
        *behind = regs.rip + 2;
        return 0;
    }
    for (int stops = 0; stops < 4; stops++) {
        int status = ptrace(PTRACE_SINGLESTEP, tid, NULL, 0) ? -1 : reverse_wait(tid);
        if (status < 0 || status >> 16 == PTRACE_EVENT_EXIT)
            return 0;
        signal = status >> 16 ? 0 : WSTOPSIG(status);
        if (signal == SIGTRAP)
            return copy_registers(tid, &regs) ? 0 : regs.rip;
        if (!signal || dispatch_is_look_of_stop(tid, signal))
            continue;
        *behind = dispatch_of_stop(tid, signal);
        return 0;
    }
    return 0;
}
