/*
 * pending.c - signals that have been sent to the application and not been delivered
 *
 * The list is filled by parked threads, each for itself: a record is claimed by counting, and its
 * signal's number is written last; 0 is one that has been put back. When all have been, the list is
 * empty again.
 */
#include "runtime/ckpt/pending.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "runtime/ckpt/park.h"
#include "runtime/half/gate.h"
#include "runtime/half/sys.h"

#define SIGNALS     64 /* numbers that there are */
#define SIGNALS_MAX 4096
#define BIT(sig)    (1ul << ((sig) - 1))
#define NEVER       (BIT(SIGKILL) | BIT(SIGSTOP))

/* libc's own: it cancels a thread, or has all threads change their user, with a tgkill(2) whose
 * sender must be this process. The first is also what parks threads. */
#define OF_LIBC (BIT(GATE_SIGNAL) | BIT(GATE_SIGNAL + 1))

static struct pending_signal list[SIGNALS_MAX];
static bool logged[SIGNALS + 1];
static volatile uint32_t count; /* may exceed SIGNALS_MAX: then the last ones are left where they
                                   are */

static uint64_t pending_set(void)
{
    uint64_t set = 0;
    sys_call(SYS_rt_sigpending, &set, 8, 0, 0, 0, 0);
    return set & ~NEVER;
}

uint64_t pending_now(void)
{
    return pending_set() & ~OF_LIBC;
}

static uint64_t hex(const char *p)
{
    uint64_t n = 0;
    for (; (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'f'); p++)
        n = n << 4 | (uint64_t)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
    return n;
}

/* A line "NAME:\t%016lx" of /proc/thread-self/status. */
static uint64_t status_set(const char *name)
{
    char text[4096];
    long fd = sys_call(SYS_open, "/proc/thread-self/status", O_RDONLY | O_CLOEXEC, 0, 0, 0, 0);
    if (fd < 0)
        return 0;
    long n = sys_call(SYS_read, fd, text, sizeof text - 1, 0, 0, 0);
    sys_call(SYS_close, fd, 0, 0, 0, 0, 0);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, name);
    return at ? hex(at + strlen(name) + 1) : 0;
}

/* One more request to park, for a thread that has. */
static bool is_park(long sig, const uint8_t *info)
{
    siginfo_t i;
    memcpy(&i, info, sizeof i);
    return sig == GATE_SIGNAL && park_is_request(&i);
}

static void take(uint64_t set, pid_t tid)
{
    const struct timespec at_once = {0, 0};
    while (set && count < SIGNALS_MAX) {
        uint8_t info[sizeof list[0].info] = {0};
        long sig = sys_call(SYS_rt_sigtimedwait, &set, info, &at_once, 8, 0, 0);
        if (sig <= 0)
            break;
        if (is_park(sig, info))
            continue;
        uint32_t i = __atomic_fetch_add(&count, 1, __ATOMIC_ACQ_REL);
        if (i >= SIGNALS_MAX) {
            sys_call(SYS_rt_tgsigqueueinfo, sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0),
                     sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0), sig, info, 0, 0);
            break;
        }
        memcpy(list[i].info, info, sizeof info);
        list[i].tid = tid;
        __atomic_store_n(&list[i].signo, (int32_t)sig, __ATOMIC_RELEASE);
    }
}

/* The kernel gives a thread's own signals before the process's: only numbers that are pending for
 * the thread are asked for. Of a number that waits for both, the process's are taken as well. */
void pending_take(pid_t tid)
{
    if (pending_set())
        take(status_set("\nSigPnd:") & ~NEVER, tid);
}

const struct pending_signal *pending_take_process(size_t *n)
{
    uint64_t all = ~NEVER;
    if (status_set("\nShdPnd:") & ~NEVER)
        take(all, PENDING_PROCESS);
    *n = count < SIGNALS_MAX ? count : SIGNALS_MAX;
    return list;
}

void pending_ask(void)
{
    for (int sig = 0; sig <= SIGNALS; sig++)
        logged[sig] = GATE->mode == GATE_REPLAY && GATE->stub->signal_logged(sig);
}

bool pending_logged(int sig)
{
    return sig >= 0 && sig <= SIGNALS && logged[sig];
}

/* This process is the sender now. */
static void adopt(struct pending_signal *s, long pid)
{
    siginfo_t i;
    memcpy(&i, s->info, sizeof i);
    if (OF_LIBC & BIT(s->signo) && i.si_code == SI_TKILL)
        i.si_pid = (pid_t)pid;
    memcpy(s->info, &i, sizeof i);
}

void pending_put(pid_t tid, pid_t to)
{
    long pid = sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    uint32_t n = count < SIGNALS_MAX ? count : SIGNALS_MAX, left = 0;
    if (n == 0)
        return;
    for (uint32_t i = 0; i < n; i++) {
        struct pending_signal *s = &list[i];
        int32_t sig = __atomic_load_n(&s->signo, __ATOMIC_ACQUIRE);
        left += sig && s->tid != tid;
        if (!sig || s->tid != tid)
            continue;
        adopt(s, pid);
        if (pending_logged(sig))
            ; /* its replay comes from the log, and nobody would take this one */
        else if (tid == PENDING_PROCESS)
            sys_call(SYS_rt_sigqueueinfo, pid, sig, s->info, 0, 0, 0);
        else
            sys_call(SYS_rt_tgsigqueueinfo, pid, to, sig, s->info, 0, 0);
        __atomic_store_n(&s->signo, 0, __ATOMIC_RELEASE);
    }
    if (left == 0)
        __atomic_compare_exchange_n(&count, &n, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

void pending_load(const void *blob, size_t size)
{
    size_t n = size / sizeof list[0];
    count = (uint32_t)(n < SIGNALS_MAX ? n : SIGNALS_MAX);
    memcpy(list, blob, count * sizeof list[0]);
}
