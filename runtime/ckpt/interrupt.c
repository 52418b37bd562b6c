/*
 * interrupt.c - the park signal ends no system call of the application
 *
 * Runs in signal handlers, on either FS: raw system calls only.
 */
#include "runtime/ckpt/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "msgcounter/stub/thread.h"
#include "runtime/half/gate.h"
#include "runtime/half/sys.h"

#define SYSCALL_BYTES 2
#define LOOK_BACK     32 /* bytes of code before a `syscall` that may set its number */
#define NUMBER_MAX    1024
#define FUTEX_COMMAND 127 /* without FUTEX_PRIVATE and FUTEX_CLOCK_REALTIME */
#define NS            1000000000

/* How a call says when it shall give up. */
enum timeout {
    TIMEOUT_NONE,     /* not at all, at a fixed time, or the kernel notes what is left itself */
    TIMEOUT_MS,       /* milliseconds in a register */
    TIMEOUT_TIMESPEC, /* const struct timespec * in a register */
    TIMEOUT_SLEEP,    /* the same; the next register may point to where the rest is noted */
};

static const struct call {
    uint16_t nr;
    bool restarts; /* the kernel makes it again after a handler with SA_RESTART */
    enum timeout timeout;
    uint8_t arg; /* the register: 0 .. 5 */
} calls[] = {
    {SYS_poll, false, TIMEOUT_MS, 2},
    {SYS_ppoll, false, TIMEOUT_NONE, 0},
    {SYS_select, false, TIMEOUT_NONE, 0},
    {SYS_pselect6, false, TIMEOUT_NONE, 0},
    {SYS_epoll_wait, false, TIMEOUT_MS, 3},
    {SYS_epoll_pwait, false, TIMEOUT_MS, 3},
    {441 /* epoll_pwait2 */, false, TIMEOUT_TIMESPEC, 3},
    {SYS_nanosleep, false, TIMEOUT_SLEEP, 0},
    {SYS_clock_nanosleep, false, TIMEOUT_SLEEP, 2},
    {SYS_pause, false, TIMEOUT_NONE, 0},
    {SYS_rt_sigsuspend, false, TIMEOUT_NONE, 0},
    {SYS_rt_sigtimedwait, false, TIMEOUT_TIMESPEC, 2},
    {SYS_semop, false, TIMEOUT_NONE, 0},
    {SYS_semtimedop, false, TIMEOUT_TIMESPEC, 3},
    {SYS_msgsnd, false, TIMEOUT_NONE, 0},
    {SYS_msgrcv, false, TIMEOUT_NONE, 0},
    {SYS_io_getevents, false, TIMEOUT_TIMESPEC, 4},
    {SYS_recvmmsg, false, TIMEOUT_TIMESPEC, 4},
    {SYS_futex, true, TIMEOUT_TIMESPEC, 3},
    /* With SO_RCVTIMEO or SO_SNDTIMEO these end with EINTR too; what is left of those timeouts
     * nobody can tell. */
    {SYS_accept, true, TIMEOUT_NONE, 0},
    {SYS_accept4, true, TIMEOUT_NONE, 0},
    {SYS_connect, true, TIMEOUT_NONE, 0},
    {SYS_recvfrom, true, TIMEOUT_NONE, 0},
    {SYS_recvmsg, true, TIMEOUT_NONE, 0},
    {SYS_sendto, true, TIMEOUT_NONE, 0},
    {SYS_sendmsg, true, TIMEOUT_NONE, 0},
    {SYS_read, true, TIMEOUT_NONE, 0},
    {SYS_readv, true, TIMEOUT_NONE, 0},
    {SYS_write, true, TIMEOUT_NONE, 0},
    {SYS_writev, true, TIMEOUT_NONE, 0},
    {SYS_wait4, true, TIMEOUT_NONE, 0},
    {SYS_waitid, true, TIMEOUT_NONE, 0},
    {SYS_flock, true, TIMEOUT_NONE, 0},
    {SYS_fcntl, true, TIMEOUT_NONE, 0},
    {SYS_mq_timedsend, true, TIMEOUT_NONE, 0},
    {SYS_mq_timedreceive, true, TIMEOUT_NONE, 0},
};

static const struct call *call_find(long nr)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (calls[i].nr == nr)
            return &calls[i];
    return NULL;
}

/* The register with argument `arg`. */
static greg_t *argument(ucontext_t *frame, unsigned arg)
{
    static const int registers[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    return &frame->uc_mcontext.gregs[registers[arg]];
}

static bool is_syscall(uint64_t pc)
{
    const uint8_t *code = (const uint8_t *)pc;
    return code[0] == 0x0f && code[1] == 0x05;
}

/* The number of the call that `pc`, a syscall instruction, has made; -1: unknown. */
static long number_of(uint64_t pc, uint64_t sp)
{
    static const uint8_t from_stack[] = {0x8b, 0x04, 0x24}; /* mov (%rsp), %eax */
    static const uint8_t zero[] = {0x31, 0xc0}; /* xor %eax, %eax: read(2) */
    const uint8_t *code = (const uint8_t *)pc;
    uint32_t nr;
    if (memcmp(code - sizeof from_stack, from_stack, sizeof from_stack) == 0) {
        memcpy(&nr, (const void *)sp, sizeof nr);
        return nr;
    }
    if (memcmp(code - sizeof zero, zero, sizeof zero) == 0)
        return 0;
    for (const uint8_t *p = code - 5; p > code - LOOK_BACK; p--) {
        memcpy(&nr, p + 1, sizeof nr);
        bool eax = p[0] == 0xb8 && p[-1] != 0x41 && p[-1] != 0x49; /* no prefix: not r8 */
        if (eax && nr < NUMBER_MAX)
            return nr;
    }
    return -1;
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    sys_call(SYS_clock_gettime, CLOCK_MONOTONIC, &ts, 0, 0, 0, 0);
    return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

/* What is left of `whole` ns for a thread that began to wait at t->wait_since. */
static uint64_t rest_of(uint64_t whole, const struct stub_thread *t)
{
    uint64_t passed = t->wait_since ? now_ns() - t->wait_since : 0;
    return passed < whole ? whole - passed : 0;
}

static void shorten_ms(greg_t *reg, const struct stub_thread *t)
{
    int ms = (int)*reg;
    if (ms > 0)
        *reg = (greg_t)((rest_of((uint64_t)ms * 1000000, t) + 999999) / 1000000);
}

static void shorten_timespec(greg_t *reg, struct stub_thread *t)
{
    const struct timespec *ts = (const struct timespec *)*reg;
    if (!ts || !t->wait_since)
        return;
    uint64_t rest = rest_of((uint64_t)ts->tv_sec * NS + (uint64_t)ts->tv_nsec, t);
    t->wait_rest = (struct timespec){(time_t)(rest / NS), (long)(rest % NS)};
    *reg = (greg_t)&t->wait_rest;
}

/* The kernel has noted the rest itself if the application gave it a place. */
static void shorten_sleep(greg_t *reg, greg_t rest, struct stub_thread *t)
{
    if (rest)
        *reg = rest;
    else
        shorten_timespec(reg, t);
}

static bool is_timed(ucontext_t *frame, const struct call *call)
{
    greg_t value = *argument(frame, call->arg);
    if (call->nr == SYS_clock_nanosleep && (*argument(frame, 1) & TIMER_ABSTIME))
        return false;
    if (call->nr == SYS_futex && (*argument(frame, 1) & FUTEX_COMMAND) != SYS_FUTEX_WAIT)
        return false; /* all others take a fixed time */
    return call->timeout == TIMEOUT_MS ? (int)value > 0 : call->timeout != TIMEOUT_NONE && value;
}

static struct stub_thread *thread_of(uint64_t upper_fs)
{
    return upper_fs && GATE->stub
               ? (struct stub_thread *)(upper_fs + (uint64_t)GATE->stub->tls_thread)
               : NULL;
}

void interrupt_resume(uint64_t upper_fs)
{
    struct stub_thread *t = thread_of(upper_fs);
    if (t && t->wait_since)
        t->wait_since = now_ns();
}

void interrupt_undo(ucontext_t *frame, uint64_t upper_fs)
{
    struct stub_thread *t = thread_of(upper_fs);
    greg_t *regs = frame->uc_mcontext.gregs;
    uint64_t pc = (uint64_t)regs[REG_RIP] - SYSCALL_BYTES;
    /* A system call leaves the address behind it in rcx. */
    if (regs[REG_RAX] != -EINTR || regs[REG_RCX] != regs[REG_RIP] || !is_syscall(pc))
        return;
    long nr = number_of(pc, (uint64_t)regs[REG_RSP]);
    const struct call *call = call_find(nr);
    if (!call)
        return;
    if (is_timed(frame, call)) {
        greg_t *timeout = argument(frame, call->arg);
        if (!t)
            return;
        if (call->timeout == TIMEOUT_MS)
            shorten_ms(timeout, t);
        else if (call->timeout == TIMEOUT_SLEEP)
            shorten_sleep(timeout, *argument(frame, call->arg + 1u), t);
        else
            shorten_timespec(timeout, t);
        interrupt_resume(upper_fs);
    }
    regs[REG_RIP] = (greg_t)pc;
    regs[REG_RAX] = nr;
}

/* ---- signals of the application that come while its threads are parked ---- */

struct action {
    uint64_t handler, flags, restorer, mask;
};

/* Whether a handler of the application will run for a signal, and ends calls for it. */
static bool ends_call(int sig, const struct call *call)
{
    struct action a = {0};
    sys_call(SYS_rt_sigaction, sig, NULL, &a, 8, 0, 0);
    return a.handler > 1 && !(call->restarts && (a.flags & SA_RESTART));
}

void interrupt_redo(ucontext_t *frame, uint64_t signals)
{
    greg_t *regs = frame->uc_mcontext.gregs;
    uint64_t pc = (uint64_t)regs[REG_RIP], mask;
    if (regs[REG_RCX] != regs[REG_RIP] + SYSCALL_BYTES || !is_syscall(pc))
        return;
    const struct call *call = call_find(regs[REG_RAX]);
    memcpy(&mask, &frame->uc_sigmask, sizeof mask);
    for (int sig = 1; call && sig <= 64; sig++)
        if ((signals & ~mask) >> (sig - 1) & 1 && ends_call(sig, call)) {
            regs[REG_RIP] += SYSCALL_BYTES;
            regs[REG_RAX] = -EINTR;
            return;
        }
}
