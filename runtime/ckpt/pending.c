/*
 * pending.c - signals that have been sent to the application and not been delivered
 *
 * The list is filled by parked threads, each for itself, while others may be putting back what they
 * took before: a record is free, claimed, or has a signal, whose number is written last.
 */
#include "runtime/ckpt/pending.h"

#include <errno.h>
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

/* As a record's number. */
#define FREE    0
#define CLAIMED (-1)

static struct pending_signal list[SIGNALS_MAX];
static volatile uint32_t top; /* records from there on have always been free */
static bool logged[SIGNALS + 1];

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

/* The first free record at or behind `from`. NULL: there is none. */
static struct pending_signal *claim(uint32_t from)
{
    for (uint32_t i = from; i < SIGNALS_MAX; i++) {
        int32_t none = FREE;
        if (!__atomic_compare_exchange_n(&list[i].signo, &none, CLAIMED, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        uint32_t n = top;
        while (n <= i && !__atomic_compare_exchange_n(&top, &n, i + 1, false, __ATOMIC_ACQ_REL,
                                                      __ATOMIC_RELAXED))
            ;
        return &list[i];
    }
    return NULL;
}

/* What the list has no room for stays where it is. */
static void take(uint64_t set, pid_t tid)
{
    const struct timespec at_once = {0, 0};
    struct pending_signal *s = claim(0);
    while (s) {
        long sig = sys_call(SYS_rt_sigtimedwait, &set, s->info, &at_once, 8, 0, 0);
        if (sig <= 0)
            break;
        if (is_park(sig, s->info))
            continue;
        s->tid = tid;
        __atomic_store_n(&s->signo, (int32_t)sig, __ATOMIC_RELEASE);
        s = claim((uint32_t)(s - list) + 1);
    }
    if (s)
        __atomic_store_n(&s->signo, FREE, __ATOMIC_RELEASE);
}

/* The kernel gives a thread's own signals before the process's: only numbers that are pending for
 * the thread are asked for. Of a number that waits for both, the process's are taken as well. */
void pending_take(pid_t tid)
{
    uint64_t set = pending_set() ? status_set("\nSigPnd:") & ~NEVER : 0;
    if (set)
        take(set, tid);
}

const struct pending_signal *pending_take_process(size_t *n)
{
    uint64_t all = ~NEVER;
    if (status_set("\nShdPnd:") & ~NEVER)
        take(all, PENDING_PROCESS);
    for (*n = top; *n && list[*n - 1].signo <= 0;)
        --*n;
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

/* Only the process's first thread may say that the kernel has sent it, or kill(2). For any other
 * one the signal comes as sigqueue(3) would send it. */
static void send_to_process(long pid, int sig, struct pending_signal *s)
{
    siginfo_t i;
    if (sys_call(SYS_rt_sigqueueinfo, pid, sig, s->info, 0, 0, 0) != -EPERM)
        return;
    memcpy(&i, s->info, sizeof i);
    i.si_code = SI_QUEUE;
    memcpy(s->info, &i, sizeof i);
    sys_call(SYS_rt_sigqueueinfo, pid, sig, s->info, 0, 0, 0);
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
    uint32_t n = top;
    long pid = n ? sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0) : 0;
    for (uint32_t i = 0; i < n; i++) {
        struct pending_signal *s = &list[i];
        int32_t sig = __atomic_load_n(&s->signo, __ATOMIC_ACQUIRE);
        if (sig <= 0 || s->tid != tid)
            continue;
        adopt(s, pid);
        if (pending_logged(sig))
            ; /* its replay comes from the log, and nobody would take this one */
        else if (tid == PENDING_PROCESS)
            send_to_process(pid, sig, s);
        else
            sys_call(SYS_rt_tgsigqueueinfo, pid, to, sig, s->info, 0, 0);
        __atomic_store_n(&s->signo, FREE, __ATOMIC_RELEASE);
    }
}

void pending_load(const void *blob, size_t size)
{
    size_t n = size / sizeof list[0];
    top = (uint32_t)(n < SIGNALS_MAX ? n : SIGNALS_MAX);
    memcpy(list, blob, top * sizeof list[0]);
}
