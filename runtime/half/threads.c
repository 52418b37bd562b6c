/*
 * threads.c - threads of the lower half
 */
#include "runtime/half/threads.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/half/gate.h"
#include "runtime/half/own_fd.h"
#include "runtime/half/sys.h"

#define DONOR_STACK (128ul << 10)
#define ALL_SIGNALS 0xfffffffffffffffful

__thread uint64_t threads_upper_fs __attribute__((tls_model("initial-exec")));

static pid_t lower_tids[THREADS_MAX]; /* 0: free */
static volatile char lower_tids_lock;

/* A donor's TLS: free, or lent to an application thread. */
static struct donor {
    uint64_t fs;
    uint32_t lent;
} donors[THREADS_MAX];
static uint32_t ndonors;
static volatile uint32_t donors_made; /* futex: grows when the agent has made one */
static volatile uint32_t donors_wanted;
static uint64_t main_fs;
static int wake_fd = -1;

/* ---- the list of lower threads ---- */

static void list_set(pid_t from, pid_t to)
{
    while (__atomic_test_and_set(&lower_tids_lock, __ATOMIC_ACQUIRE))
        sys_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
    for (int i = 0; i < THREADS_MAX; i++)
        if (lower_tids[i] == from) {
            __atomic_store_n(&lower_tids[i], to, __ATOMIC_RELEASE);
            break;
        }
    __atomic_clear(&lower_tids_lock, __ATOMIC_RELEASE);
}

bool threads_is_lower(pid_t tid)
{
    for (int i = 0; i < THREADS_MAX; i++)
        if (__atomic_load_n(&lower_tids[i], __ATOMIC_ACQUIRE) == tid)
            return true;
    return false;
}

int threads_lower_count(void)
{
    int n = 0;
    for (int i = 0; i < THREADS_MAX; i++)
        n += __atomic_load_n(&lower_tids[i], __ATOMIC_ACQUIRE) != 0;
    return n;
}

struct start {
    void *(*fn)(void *);
    void *arg;
    volatile uint32_t listed; /* the creator goes on only when the thread is in the list */
};

static void unlist(void *arg)
{
    list_set(gettid(), 0);
}

static void *run_listed(void *arg)
{
    struct start *start = arg;
    void *(*fn)(void *) = start->fn;
    void *fn_arg = start->arg, *result;
    list_set(0, gettid());
    __atomic_store_n(&start->listed, 1, __ATOMIC_RELEASE);
    sys_futex_wake(&start->listed, 1);
    pthread_cleanup_push(unlist, NULL);
    result = fn(fn_arg);
    pthread_cleanup_pop(1);
    return result;
}

/*
 * Takes the place of libc's for everything in the lower half (UCX has a thread of its own). The raw
 * mask also blocks the two signals that glibc would leave open.
 */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real)
        real = (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(
            RTLD_NEXT, "pthread_create");
    uint64_t all = ALL_SIGNALS, old;
    struct start start = {fn, arg, 0};
    sys_call(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &old, 8, 0, 0);
    int rc = real(thread, attr, run_listed, &start);
    while (rc == 0 && !__atomic_load_n(&start.listed, __ATOMIC_ACQUIRE))
        sys_futex_wait(&start.listed, 0);
    sys_call(SYS_rt_sigprocmask, 2, &old, NULL, 8, 0, 0);
    return rc;
}

/* ---- donors ---- */

static void *donor_sleep(void *arg)
{
    struct donor *d = arg;
    volatile uint32_t never = 0;
    __atomic_store_n(&d->fs, fs_base(), __ATOMIC_RELEASE);
    __atomic_add_fetch(&donors_made, 1, __ATOMIC_ACQ_REL);
    sys_futex_wake(&donors_made, INT32_MAX);
    for (;;)
        sys_futex_wait(&never, 0);
    return NULL;
}

void threads_serve(void)
{
    while (donors_wanted > 0 && ndonors < THREADS_MAX) {
        pthread_attr_t attr;
        pthread_t thread;
        __atomic_sub_fetch(&donors_wanted, 1, __ATOMIC_ACQ_REL);
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, DONOR_STACK);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        if (pthread_create(&thread, &attr, donor_sleep, &donors[ndonors]) == 0)
            ndonors++;
        pthread_attr_destroy(&attr);
    }
}

/* A donor nobody uses, or 0. */
static uint64_t borrow(void)
{
    for (int i = 0; i < THREADS_MAX; i++) {
        struct donor *d = &donors[i];
        uint64_t fs = __atomic_load_n(&d->fs, __ATOMIC_ACQUIRE);
        if (fs && !__atomic_exchange_n(&d->lent, 1, __ATOMIC_ACQ_REL))
            return fs;
    }
    return 0;
}

uint64_t threads_attach(void)
{
    if ((uint64_t)sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0) == GATE->main_tid)
        return main_fs;
    for (;;) {
        uint32_t made = __atomic_load_n(&donors_made, __ATOMIC_ACQUIRE);
        uint64_t fs = borrow();
        if (fs)
            return fs;
        __atomic_add_fetch(&donors_wanted, 1, __ATOMIC_ACQ_REL);
        threads_wake_agent();
        sys_futex_wait(&donors_made, made);
    }
}

void threads_detach(uint64_t lower_fs)
{
    for (int i = 0; i < THREADS_MAX; i++)
        if (donors[i].fs == lower_fs)
            __atomic_store_n(&donors[i].lent, 0, __ATOMIC_RELEASE);
}

void threads_wake_agent(void)
{
    uint64_t one = 1;
    sys_call(SYS_write, wake_fd, &one, sizeof one, 0, 0, 0);
}

int threads_wake_fd(void)
{
    return wake_fd;
}

static void *agent_run(void *arg)
{
    ((void (*)(void))arg)();
    return NULL;
}

int threads_start(void (*agent)(void), struct err *err)
{
    pthread_t thread;
    main_fs = fs_base();
    wake_fd = own_fd_take(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (wake_fd < 0)
        return err_sys(err, "eventfd");
    int rc = pthread_create(&thread, NULL, agent_run, (void *)agent);
    if (rc != 0) {
        errno = rc;
        return err_sys(err, "cannot start the agent thread");
    }
    return 0;
}
