/*
 * dispatch.c - programs that handle their own system calls (syscall user dispatch)
 *
 * Source: Documentation/admin-guide/syscall-user-dispatch.rst, ptrace(2).
 */
#include "gdbbridge/dispatch.h"

#include <errno.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_copy.h"
#include "gdbbridge/reverse_crowd.h"
#include "msgcounter/log/system_table.h"
#include "runtime/half/gate.h"

/* linux/ptrace.h, which may be older than the kernel */
#define SET_DISPATCH 0x4210 /* PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG */
#define GET_DISPATCH 0x4211

#ifndef SYS_USER_DISPATCH
#define SYS_USER_DISPATCH 2
#endif

struct dispatch {
    uint64_t mode, selector, offset, length;
};

static int get(pid_t tid, struct dispatch *d)
{
    return ptrace(GET_DISPATCH, tid, sizeof *d, d) ? -1 : 0;
}

bool dispatch_active(pid_t tid)
{
    struct dispatch d;
    return !get(tid, &d) && d.mode;
}

bool dispatch_inside(pid_t tid)
{
    uint64_t blocked = 0;
    return !ptrace(PTRACE_GETSIGMASK, tid, sizeof blocked, &blocked) &&
           blocked & 1ull << (SIGTRAP - 1);
}

/* ---- instructions that the rank answers (gate_stub.instructions) ---- */

static bool peek(pid_t pid, uint64_t addr, void *to, size_t size)
{
    return procfs_peek(pid, addr, to, size) == (ssize_t)size;
}

/* In the order of their addresses. */
struct replaced {
    pid_t pid;
    uint64_t at, n;
};

static struct replaced replaced_of(pid_t pid)
{
    struct replaced r = {.pid = pid};
    uint64_t stub, *to[] = {&r.at, &r.n};
    size_t from[] = {offsetof(struct gate_stub, instructions),
                     offsetof(struct gate_stub, ninstructions)};
    bool known = peek(pid, GATE_ADDR + offsetof(struct gate, stub), &stub, sizeof stub);
    for (int i = 0; i < 2; i++)
        known = known && peek(pid, stub + from[i], to[i], sizeof *to[i]);
    if (!known)
        r.n = 0;
    return r;
}

static bool replaced_get(const struct replaced *r, uint64_t i, struct gate_instruction *g)
{
    return i < r->n && peek(r->pid, r->at + i * sizeof *g, g, sizeof *g);
}

/* The first that ends behind an address. */
static uint64_t replaced_from(const struct replaced *r, uint64_t addr)
{
    struct gate_instruction g;
    uint64_t low = 0, high = r->n;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (replaced_get(r, mid, &g) && g.at + g.length <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Whether it is still there: the code may have been unmapped. A breakpoint may be on it. */
static bool is_replaced(const struct replaced *r, const struct gate_instruction *g)
{
    uint16_t code;
    return peek(r->pid, g->at, &code, sizeof code) &&
           (code == GATE_TRAP_CODE || code == (GATE_TRAP_CODE & 0xff00) + 0xcc);
}

void dispatch_show(pid_t pid, uint64_t addr, uint8_t *data, size_t size)
{
    struct replaced r = replaced_of(pid);
    struct gate_instruction g;
    for (uint64_t i = replaced_from(&r, addr);
         replaced_get(&r, i, &g) && g.at < addr + size; i++) {
        if (!is_replaced(&r, &g))
            continue;
        for (size_t k = 0; k < g.length && k < sizeof g.was; k++)
            if (g.at + k - addr < size)
                data[g.at + k - addr] = g.was[k];
    }
}

bool dispatch_is_look(int signal, const siginfo_t *info)
{
    return signal == SIGSYS && info->si_code == SI_QUEUE &&
           (uint64_t)info->si_value.sival_ptr == SYSTEM_SCHEDULE_SIGNAL;
}

uint64_t dispatch_behind(pid_t tid, int signal, const siginfo_t *info)
{
    uint64_t pc = (uint64_t)(uintptr_t)info->si_addr;
    struct gate_instruction g;
    if (signal == SIGSYS && info->si_code == SYS_USER_DISPATCH)
        return (uint64_t)(uintptr_t)info->si_call_addr;
    if (dispatch_is_look(signal, info))
        return (uint64_t)ptrace(PTRACE_PEEKUSER, tid, offsetof(struct user_regs_struct, rip), 0);
    if (signal != SIGILL || info->si_code <= 0 || !dispatch_active(tid))
        return 0;
    struct replaced r = replaced_of(tid);
    return replaced_get(&r, replaced_from(&r, pc), &g) && g.at == pc ? pc + g.length : 0;
}

int dispatch_copy(pid_t from, pid_t to)
{
    struct dispatch d;
    if (get(from, &d))
        return errno == EIO ? 0 : -1; /* a kernel that has none of it: nor has the process */
    return d.mode && ptrace(SET_DISPATCH, to, sizeof d, &d) ? -1 : 0;
}

uint64_t dispatch_of_stop(pid_t tid, int signal)
{
    siginfo_t info;
    return ptrace(PTRACE_GETSIGINFO, tid, NULL, &info) ? 0 : dispatch_behind(tid, signal, &info);
}

bool dispatch_is_look_of_stop(pid_t tid, int signal)
{
    siginfo_t info;
    return !ptrace(PTRACE_GETSIGINFO, tid, NULL, &info) && dispatch_is_look(signal, &info);
}

static void name_anew(unsigned long long *reg, struct dispatch_thread from,
                      struct dispatch_thread to)
{
    if (*reg == (unsigned long long)from.tid)
        *reg = (unsigned long long)to.tid;
    else if (*reg == (unsigned long long)from.pid)
        *reg = (unsigned long long)to.pid;
}

void dispatch_name_anew(struct user_regs_struct *regs, struct dispatch_thread from,
                        struct dispatch_thread to)
{
    uint64_t stub, code[2];
    if (!peek(from.pid, GATE_ADDR + offsetof(struct gate, stub), &stub, sizeof stub) ||
        !peek(from.pid, stub + offsetof(struct gate_stub, names_itself), code, sizeof code) ||
        regs->rip < code[0] || regs->rip >= code[1])
        return;
    name_anew(&regs->rdi, from, to);
    name_anew(&regs->rsi, from, to);
    if (copy_at_call(from.pid, regs->rip - 2))
        name_anew(&regs->rax, from, to);
}

void dispatch_renumber(const struct crowd *from, const struct crowd *to)
{
    uint64_t stub, at;
    long tid;
    const struct member *m = from->members, *copy = to->members;
    if (!peek(to->pid, GATE_ADDR + offsetof(struct gate, stub), &stub, sizeof stub) ||
        !peek(to->pid, stub + offsetof(struct gate_stub, turn_tid), &at, sizeof at) ||
        !peek(to->pid, at, &tid, sizeof tid))
        return;
    while (m && copy && m->tid != tid) {
        m = m->next;
        copy = copy->next;
    }
    if (m && copy)
        ptrace(PTRACE_POKEDATA, to->pid, at, (long)copy->tid);
}
