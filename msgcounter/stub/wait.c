/*
 * wait.c - when waits with a timeout began
 *
 * A checkpoint interrupts a thread that sleeps or polls, and lets it go on with what is left of its
 * timeout. The kernel does not tell how long a thread has been waiting, so these functions, which
 * take the place of libc's, note when they began. (Those that are not here either note the rest
 * themselves, as select and ppoll, or wait until a fixed time, as pthread_cond_timedwait.)
 */
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/sem.h>
#include <time.h>
#include <unistd.h>

#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/thread.h"
#include "runtime/half/gate.h"

#define EXPORT __attribute__((visibility("default")))
#define NS     1000000000ul

/* Not part of the recorded execution: the kernel's clock, not ours. */
static uint64_t now_ns(void)
{
    struct timespec ts = {0, 0};
    ((int (*)(clockid_t, struct timespec *))GATE->kernel_vdso[GATE_VDSO_CLOCK_GETTIME])(
        CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

/* Returns what wait_end() needs: a signal handler may wait inside a wait. */
static uint64_t wait_begin(void)
{
    uint64_t outer = stub_thread.wait_since;
    if (stub_active)
        stub_thread.wait_since = now_ns();
    return outer;
}

static void wait_end(uint64_t outer)
{
    stub_thread.wait_since = outer;
}

EXPORT int nanosleep(const struct timespec *time, struct timespec *rest)
{
    static void *fn;
    int (*real)(const struct timespec *, struct timespec *) = stub_next("nanosleep", &fn);
    uint64_t outer = wait_begin();
    int r = real(time, rest);
    wait_end(outer);
    return r;
}

EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                           struct timespec *rest)
{
    static void *fn;
    int (*real)(clockid_t, int, const struct timespec *, struct timespec *) =
        stub_next("clock_nanosleep", &fn);
    uint64_t outer = wait_begin();
    int r = real(clock, flags, time, rest);
    wait_end(outer);
    return r;
}

EXPORT int usleep(useconds_t us)
{
    struct timespec time = {us / 1000000, (long)(us % 1000000) * 1000};
    return nanosleep(&time, NULL);
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int ms)
{
    static void *fn;
    int (*real)(struct pollfd *, nfds_t, int) = stub_next("poll", &fn);
    if (ms <= 0)
        return real(fds, n, ms);
    uint64_t outer = wait_begin();
    int r = real(fds, n, ms);
    wait_end(outer);
    return r;
}

EXPORT int epoll_pwait(int epoll, struct epoll_event *events, int max, int ms, const sigset_t *mask)
{
    static void *fn;
    int (*real)(int, struct epoll_event *, int, int, const sigset_t *) =
        stub_next("epoll_pwait", &fn);
    if (ms <= 0)
        return real(epoll, events, max, ms, mask);
    uint64_t outer = wait_begin();
    int r = real(epoll, events, max, ms, mask);
    wait_end(outer);
    return r;
}

EXPORT int epoll_wait(int epoll, struct epoll_event *events, int max, int ms)
{
    return epoll_pwait(epoll, events, max, ms, NULL);
}

EXPORT int epoll_pwait2(int epoll, struct epoll_event *events, int max, const struct timespec *time,
                        const sigset_t *mask)
{
    static void *fn;
    int (*real)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *) =
        stub_next("epoll_pwait2", &fn);
    uint64_t outer = wait_begin();
    int r = real(epoll, events, max, time, mask);
    wait_end(outer);
    return r;
}

EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *time)
{
    static void *fn;
    int (*real)(const sigset_t *, siginfo_t *, const struct timespec *) =
        stub_next("sigtimedwait", &fn);
    uint64_t outer = wait_begin();
    int r = real(set, info, time);
    wait_end(outer);
    return r;
}

EXPORT int semtimedop(int set, struct sembuf *ops, size_t n, const struct timespec *time)
{
    static void *fn;
    int (*real)(int, struct sembuf *, size_t, const struct timespec *) =
        stub_next("semtimedop", &fn);
    uint64_t outer = wait_begin();
    int r = real(set, ops, n, time);
    wait_end(outer);
    return r;
}
