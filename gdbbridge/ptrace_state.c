/*
 * ptrace_state.c - registers and memory of stopped threads
 *
 * Registers are read once a stop and written through. Memory goes through /proc/PID/mem, which also
 * writes where the process itself may not (text), page by page as far as it is mapped.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gdbbridge/procfs.h"
#include "gdbbridge/dispatch.h"
#include "gdbbridge/ptrace_private.h"
#include "gdbbridge/reverse.h"

/* ------------------------------------------------------------------ registers */

void thread_forget_registers(struct thread *th)
{
    th->has_user = th->has_xsave = false;
}

const struct user_regs_struct *thread_user(struct thread *th)
{
    if (!th->has_user && ptrace(PTRACE_GETREGS, th->tid, NULL, &th->user))
        return NULL;
    th->has_user = true;
    return &th->user;
}

int thread_set_user(struct thread *th, const struct user_regs_struct *user)
{
    if (ptrace(PTRACE_SETREGS, th->tid, NULL, user))
        return -1;
    th->user = *user;
    th->has_user = true;
    return 0;
}

uint64_t thread_pc(struct thread *th)
{
    const struct user_regs_struct *user = thread_user(th);
    return user ? user->rip : 0;
}

static int read_xsave(struct thread *th)
{
    if (th->has_xsave)
        return 0;
    if (!th->xsave && !(th->xsave = malloc(XSAVE_MAX)))
        abort();
    struct iovec area = {th->xsave, XSAVE_MAX};
    if (ptrace(PTRACE_GETREGSET, th->tid, (void *)NT_X86_XSTATE, &area))
        return -1;
    th->xsave_size = area.iov_len;
    th->has_xsave = true;
    return 0;
}

const struct registers *target_registers(struct target *base)
{
    struct ptrace_target *t = ptrace_target_of(base);
    for (struct process *p = t->processes; p && !t->registers; p = p->next)
        for (struct thread *th = p->threads; th && !t->registers; th = th->next)
            if (th->state == THREAD_STOPPED && !read_xsave(th))
                t->registers = registers_create(registers_xcr0(th->xsave));
    if (!t->registers && !(t->registers = registers_create(0)))
        abort();
    return t->registers;
}

int target_read_registers(struct target *base, struct ptid id, uint8_t *block)
{
    struct thread *th = thread_stopped(ptrace_target_of(base), id);
    if (!th || !thread_user(th) || read_xsave(th))
        return -1;
    registers_collect(target_registers(base), &th->user, th->xsave, block);
    return 0;
}

int target_write_registers(struct target *base, struct ptid id, const uint8_t *block)
{
    struct thread *th = thread_stopped(ptrace_target_of(base), id);
    if (!th || !thread_user(th) || read_xsave(th))
        return -1;
    struct user_regs_struct user = th->user;
    uint8_t *xsave = malloc(th->xsave_size);
    if (!xsave)
        abort();
    memcpy(xsave, th->xsave, th->xsave_size);
    registers_supply(target_registers(base), block, &user, xsave);
    int r = 0;
    bool general = memcmp(&user, &th->user, sizeof user);
    bool vector = memcmp(xsave, th->xsave, th->xsave_size);
    if ((general || vector) && th->process->owner->past)
        past_touched(th->process->owner->past);
    if (general)
        r = thread_set_user(th, &user);
    if (!r && vector) {
        struct iovec area = {xsave, th->xsave_size};
        r = ptrace(PTRACE_SETREGSET, th->tid, (void *)NT_X86_XSTATE, &area) ? -1 : 0;
    }
    thread_forget_registers(th); /* the kernel may have corrected a value */
    free(xsave);
    return r;
}

/* ------------------------------------------------------------------ memory */

/* Opens /proc/PID/mem anew if need be: it shows the memory that the process had when it was
 * opened. */
static int memory_fd(struct process *p)
{
    if (p->memory < 0)
        p->memory = procfs_memory(p->pid);
    return p->memory;
}

ssize_t process_peek(struct process *p, uint64_t addr, void *to, size_t size)
{
    size_t done = 0;
    int fd = memory_fd(p);
    if (fd < 0)
        return -1;
    while (done < size) {
        ssize_t n = pread(fd, (char *)to + done, size - done, (off_t)(addr + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done || !size ? (ssize_t)done : -1;
}

int process_poke(struct process *p, uint64_t addr, const void *from, size_t size)
{
    int fd = memory_fd(p);
    for (size_t done = 0; done < size;) {
        ssize_t n = fd < 0 ? -1 : pwrite(fd, (const char *)from + done, size - done,
                                         (off_t)(addr + done));
        if (n < 0 && fd >= 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

ssize_t target_read_memory(struct target *t, pid_t pid, uint64_t addr, void *to, size_t size)
{
    struct process *p = process_find(ptrace_target_of(t), pid);
    ssize_t n = p ? process_peek(p, addr, to, size) : -1;
    if (n > 0)
        points_hide(p, addr, to, (size_t)n);
    if (n > 0 && p->hide_from)
        dispatch_show(pid, addr, to, (size_t)n);
    return n;
}

int target_write_memory(struct target *t, pid_t pid, uint64_t addr, const void *from, size_t size)
{
    struct process *p = process_find(ptrace_target_of(t), pid);
    uint8_t probe;
    if (!p || process_peek(p, addr + size - 1, &probe, 1) < 0)
        return -1;
    uint8_t *data = malloc(size);
    if (!data)
        abort();
    bool ours = p->hide_from && addr >= p->hide_from; /* the program never sees it */
    bool same = target_read_memory(t, pid, addr, data, size) == (ssize_t)size &&
                !memcmp(data, from, size);
    if (p->owner->past && !ours && !same)
        past_touched(p->owner->past);
    memcpy(data, from, size);
    points_write(p, addr, data, size);
    int r = process_poke(p, addr, data, size);
    free(data);
    return r;
}
