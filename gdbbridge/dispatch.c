/*
 * dispatch.c - programs that handle their own system calls (syscall user dispatch)
 *
 * Source: Documentation/admin-guide/syscall-user-dispatch.rst, ptrace(2).
 */
#include "gdbbridge/dispatch.h"

#include <errno.h>
#include <sys/ptrace.h>

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

bool dispatch_is_call(int signal, const siginfo_t *info)
{
    return signal == SIGSYS && info->si_code == SYS_USER_DISPATCH;
}

bool dispatch_active(pid_t tid)
{
    struct dispatch d;
    return !get(tid, &d) && d.mode;
}

int dispatch_copy(pid_t from, pid_t to)
{
    struct dispatch d;
    if (get(from, &d))
        return errno == EIO ? 0 : -1; /* a kernel that has none of it: nor has the process */
    return d.mode && ptrace(SET_DISPATCH, to, sizeof d, &d) ? -1 : 0;
}
