/*
 * sys.h - system calls without libc
 *
 * For code that runs where FS may belong to either half (the crossing's services, signal handlers,
 * the restorer): no errno, no TLS. Each returns the kernel's value, a negative errno on failure.
 */
#ifndef DBG3_HALF_SYS_H
#define DBG3_HALF_SYS_H

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

#define sys_call(nr, a, b, c, d, e, f)                                                             \
    sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline void *sys_mmap(void *addr, uint64_t len, int prot, int flags, int fd, uint64_t off)
{
    return (void *)sys_call(SYS_mmap, addr, len, prot, flags, fd, off);
}

/* True if a value that a call returned as pointer or count is an error. */
static inline int sys_failed(long value)
{
    return (unsigned long)value >= (unsigned long)-4095L;
}

#define SYS_FUTEX_WAIT 0
#define SYS_FUTEX_WAKE 1

/* Sleeps while *word == value (or until an interruption; callers look again). Not FUTEX_PRIVATE:
 * the word may be seen by a thread with another view of nothing but the address. */
static inline void sys_futex_wait(volatile uint32_t *word, uint32_t value)
{
    sys_call(SYS_futex, word, SYS_FUTEX_WAIT, value, 0, 0, 0);
}

static inline void sys_futex_wake(volatile uint32_t *word, int n)
{
    sys_call(SYS_futex, word, SYS_FUTEX_WAKE, n, 0, 0, 0);
}

/* Processor time of the calling thread. */
static inline uint64_t sys_thread_cpu_ns(void)
{
    struct timespec t = {0, 0};
    sys_call(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &t, 0, 0, 0, 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t fs_base(void)
{
    uint64_t v;
    __asm__ volatile("rdfsbase %0" : "=r"(v));
    return v;
}

static inline void set_fs_base(uint64_t v)
{
    __asm__ volatile("wrfsbase %0" ::"r"(v) : "memory");
}

static inline uint64_t gs_base(void)
{
    uint64_t v;
    __asm__ volatile("rdgsbase %0" : "=r"(v));
    return v;
}

/* A queued signal to one thread of this process, with a value. */
struct sys_siginfo {
    int32_t signo, error, code, pad;
    int32_t pid, uid;
    uint64_t value;
    uint64_t rest[12];
};

static inline long sys_signal_thread(long tid, int sig, uint64_t value)
{
    struct sys_siginfo info = {.signo = sig, .code = -1 /* SI_QUEUE */, .value = value};
    long pid = sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    if (pid <= 1 || tid <= 1)
        return -1;
    info.pid = (int32_t)pid;
    return sys_call(SYS_rt_tgsigqueueinfo, pid, tid, sig, &info, 0, 0);
}

/* A signal to the calling thread. */
static inline long sys_raise(int sig)
{
    return sys_call(SYS_tgkill, sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0),
                    sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0), sig, 0, 0, 0);
}

#endif
