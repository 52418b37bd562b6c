/*
 * pid.c - numbers of the process and its threads that outlive it
 *
 * glibc keeps a thread's number in its struct pthread, whose address is both pthread_t and the FS
 * base. A restart leaves it as it was. It is a key of mutexes (recursive, error-checking, robust)
 * and of rwlocks, and must stay what it was while they are held. Functions that hand it to the
 * kernel are replaced here; so are getpid(), gettid() and what takes their results.
 *
 * Two things in which the kernel reads the number in a mutex itself: robust mutexes of a thread
 * that ends (its list is gone through here), and priority inheritance (not offered: such mutexes
 * become ordinary ones).
 */
#include "msgcounter/stub/pid.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "msgcounter/stub/no_park.h"
#include "msgcounter/stub/signal_place.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/thread.h"
#include "runtime/half/sys.h"

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

#define EXPORT     __attribute__((visibility("default")))
#define ROWS       2048
#define MADE_UP    0x10000000 /* above any kernel's pid_max (2^22), below FUTEX_TID_MASK */
#define ROBUST_MAX 4096

/* `then`: the kernel's number while recording, of which the log of a replay speaks */
static struct row {
    int was, is, then; /* 0: free */
} rows[ROWS];
static uint32_t nrows;  /* used at most */
static int process;     /* what getpid() says; 0: what the kernel says */
static long tid_offset; /* of the number in struct pthread */
static uint32_t made_up;

static int kernel_pid(void)
{
    return (int)sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

static int kernel_tid(void)
{
    return (int)sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

static int *tid_of(pthread_t thread)
{
    return (int *)((uint64_t)thread + (uint64_t)tid_offset);
}

static struct row *row_find(int was)
{
    uint32_t n = __atomic_load_n(&nrows, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < n; i++)
        if (__atomic_load_n(&rows[i].was, __ATOMIC_ACQUIRE) == was)
            return &rows[i];
    return NULL;
}

/* A replay hands the kernel what it was handed before: such calls are answered, not made. */
int pid_then(int number)
{
    const struct row *row = number > 0 && nrows ? row_find(number) : NULL;
    return row ? row->then : number;
}

int pid_now(int then)
{
    if (then == pid_then(gettid())) /* a debugger's copy of a replay has yet another number */
        return kernel_tid();
    uint32_t n = __atomic_load_n(&nrows, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < n; i++)
        if (__atomic_load_n(&rows[i].was, __ATOMIC_ACQUIRE) && rows[i].then == then)
            return rows[i].is;
    return then;
}

void pid_renumber(int was, int is)
{
    struct row *row = row_find(was);
    int then = GATE->mode != GATE_REPLAY ? is : row ? row->then : was;
    for (uint32_t i = 0; !row && i < ROWS; i++) {
        int none = 0;
        if (!__atomic_compare_exchange_n(&rows[i].is, &none, is, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        row = &rows[i];
        if (i >= nrows)
            __atomic_store_n(&nrows, i + 1, __ATOMIC_RELEASE);
    }
    if (!row)
        return;
    row->is = is;
    row->then = then;
    __atomic_store_n(&row->was, was, __ATOMIC_RELEASE);
}

static void row_free(struct row *row)
{
    __atomic_store_n(&row->was, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&row->is, 0, __ATOMIC_RELEASE);
}

/* ---- getpid, gettid ---- */

EXPORT pid_t getpid(void)
{
    return process ? process : kernel_pid();
}

EXPORT pid_t __getpid(void);

pid_t __getpid(void)
{
    return getpid();
}

EXPORT pid_t gettid(void)
{
    return tid_offset ? *tid_of(pthread_self()) : kernel_tid();
}

/* A child of the application is a process of its own, and its end is not the rank's. */
static void in_child(void)
{
    stub_active = false;
    process = 0;
    nrows = 0;
    memset(rows, 0, sizeof rows);
}

void pid_init(void)
{
    int *address = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) == 0 && address && *address == kernel_tid())
        tid_offset = (int64_t)((uint64_t)address - fs_base());
    process = kernel_pid();
    pthread_atfork(NULL, NULL, in_child);
}

/* ---- threads ---- */

/* Marks a mutex as left behind by its owner, as the kernel does at the end of a thread
 * (Documentation/locking/robust-futex-ABI.rst). */
static void abandon(uint32_t *word, uint32_t owner)
{
    uint32_t seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    do {
        if ((seen & FUTEX_TID_MASK) != owner)
            return;
    } while (!__atomic_compare_exchange_n(word, &seen, (seen & FUTEX_WAITERS) | FUTEX_OWNER_DIED,
                                          false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    if (seen & FUTEX_WAITERS)
        sys_futex_wake(word, 1);
}

/* The kernel compares owners with its own number: what this thread still holds is ours to tell. */
static void abandon_robust(uint32_t owner)
{
    struct robust_list_head *head = NULL;
    size_t len;
    if (sys_call(SYS_get_robust_list, 0, &head, &len, 0, 0, 0) < 0 || !head)
        return;
    struct robust_list *e = head->list.next;
    for (int i = 0; e != &head->list && i < ROBUST_MAX; i++) {
        e = (struct robust_list *)((uint64_t)e & ~1ul); /* bit 0: priority inheritance */
        if (e == &head->list)
            break;
        uint32_t *word = (uint32_t *)((uint64_t)e + (uint64_t)head->futex_offset);
        e = e->next;
        abandon(word, owner);
    }
}

void pid_thread_ended(void)
{
    struct row *row = tid_offset && nrows ? row_find(*tid_of(pthread_self())) : NULL;
    if (!row || row->is != kernel_tid())
        return;
    abandon_robust((uint32_t)row->was);
    row_free(row);
}

int pid_of_new_thread(int is)
{
    struct row *row = tid_offset && nrows ? row_find(is) : NULL;
    if (!row)
        return is;
    if (sys_call(SYS_tgkill, kernel_pid(), row->is, 0, 0, 0, 0) == -ESRCH) {
        row_free(row);
        return is;
    }
    return MADE_UP + (int)__atomic_add_fetch(&made_up, 1, __ATOMIC_RELAXED);
}

void pid_thread_started(void)
{
    stub_thread.inside++; /* an image would go on with a number of this process */
    int is = kernel_tid();
    bool named = !tid_offset || *tid_of(pthread_self()) != is; /* by its maker */
    int number = named ? is : pid_of_new_thread(is);
    if (number != is) {
        *tid_of(pthread_self()) = number;
        pid_renumber(number, is);
    }
    stub_thread.inside--;
}

/* The kernel's number of a thread that has another one in the application; 0: they are the same,
 * and libc does it right. */
static int renumbered(pthread_t thread)
{
    int number = tid_offset ? *tid_of(thread) : 0;
    int then = pid_then(number);
    return then != number ? then : 0;
}

/* The same; but where system calls are counted, a recording goes the way of its replay. */
static int moved(pthread_t thread)
{
    return signal_exact() && tid_offset ? pid_then(*tid_of(thread)) : renumbered(thread);
}

/* ---- signals ---- */

/* A process, and one of its threads or (0) none, as the application knows them. */
struct target {
    pid_t process, thread;
};

/* False: the numbers are those of a process before the last restart. A handler of the signal may
 * leave this with longjmp(3). */
NO_PARK static bool call_within(uint32_t generation, long number, const long args[4], long *result)
{
    if (__atomic_load_n(&GATE->generation, __ATOMIC_ACQUIRE) != generation)
        return false;
    *result = sys_call(number, args[0], args[1], args[2], args[3], 0, 0);
    return true;
}

/* No restart falls between the kernel's numbers and the call. NULL: to the calling thread, which in
 * a child of vfork(2) only the kernel knows. As the kernel returns. */
static long signal_live(long number, const struct target *to, int sig, siginfo_t *info)
{
    uint32_t generation;
    long result, args[4] = {0};
    do {
        int n = 0;
        generation = __atomic_load_n(&GATE->generation, __ATOMIC_ACQUIRE);
        args[n++] = to ? pid_then(to->process) : kernel_pid();
        if (!to || to->thread)
            args[n++] = to ? pid_then(to->thread) : kernel_tid();
        args[n++] = sig;
        args[n] = (long)info;
        if (info)
            info->si_pid = kernel_pid();
    } while (!call_within(generation, number, args, &result));
    return result;
}

static bool is_of_libc(int sig)
{
    return sig == GATE_SIGNAL || sig == GATE_SIGNAL + 1;
}

/* But for the sender's number. */
static siginfo_t queued(int sig, const union sigval value)
{
    siginfo_t info = {.si_signo = sig, .si_code = SI_QUEUE};
    info.si_uid = getuid();
    info.si_value = value;
    return info;
}

/* As the application makes it: recorded, and answered in a replay. Returns an error number; none
 * for a thread that has ended, as libc. */
static int signal_thread(long number, int tid, int sig, const siginfo_t *info)
{
    return syscall(number, kernel_pid(), tid, sig, info) < 0 && errno != ESRCH ? errno : 0;
}

static int error_of(int r)
{
    return r < 0 ? errno : 0;
}

static int result_of(long r)
{
    if (!sys_failed(r))
        return (int)r;
    errno = (int)-r;
    return -1;
}

static int send(pthread_t thread, int sig)
{
    static void *fn;
    int tid = moved(thread);
    if (!tid)
        return ((int (*)(pthread_t, int))stub_next("pthread_kill", &fn))(thread, sig);
    if (is_of_libc(sig))
        return EINVAL;
    return signal_thread(SYS_tgkill, tid, sig, NULL);
}

/* libc's marks the thread, and sends the signal to nobody, but where system.c names it right. */
static int cancel(pthread_t thread)
{
    static void *fn;
    int tid = renumbered(thread);
    int r = ((int (*)(pthread_t))stub_next("pthread_cancel", &fn))(thread);
    if (!tid || stub_thread.dispatched)
        return r;
    return signal_thread(SYS_tgkill, tid, GATE_SIGNAL, NULL);
}

static int queue(pthread_t thread, int sig, const union sigval value)
{
    static void *fn;
    int tid = moved(thread);
    if (!tid)
        return ((int (*)(pthread_t, int, const union sigval))stub_next("pthread_sigqueue", &fn))(
            thread, sig, value);
    if (is_of_libc(sig))
        return EINVAL;
    siginfo_t info = queued(sig, value);
    info.si_pid = kernel_pid();
    return signal_thread(SYS_rt_tgsigqueueinfo, tid, sig, &info);
}

static int set_affinity(pthread_t thread, size_t size, const cpu_set_t *set)
{
    static void *fn;
    int tid = moved(thread);
    if (!tid)
        return ((int (*)(pthread_t, size_t, const cpu_set_t *))stub_next("pthread_setaffinity_np",
                                                                         &fn))(thread, size, set);
    return error_of(sched_setaffinity(tid, size, set));
}

static int get_affinity(pthread_t thread, size_t size, cpu_set_t *set)
{
    static void *fn;
    int tid = moved(thread);
    if (!tid)
        return ((int (*)(pthread_t, size_t, cpu_set_t *))stub_next("pthread_getaffinity_np", &fn))(
            thread, size, set);
    return error_of(sched_getaffinity(tid, size, set));
}

/* libc's asks the kernel about the number in struct pthread. Only the thread itself can lend it
 * another one meanwhile: it holds no lock by it then. */
static int get_attributes(pthread_t thread, pthread_attr_t *attr)
{
    static void *fn;
    int (*next)(pthread_t, pthread_attr_t *) = stub_next("pthread_getattr_np", &fn);
    int tid = moved(thread);
    if (!tid || thread != pthread_self())
        return next(thread, attr);
    int was = *tid_of(thread);
    *tid_of(thread) = tid;
    int r = next(thread, attr);
    *tid_of(thread) = was;
    return r;
}

static int set_scheduling(pthread_t thread, int policy, const struct sched_param *param)
{
    static void *fn;
    int tid = moved(thread);
    if (!tid)
        return ((int (*)(pthread_t, int, const struct sched_param *))stub_next(
            "pthread_setschedparam", &fn))(thread, policy, param);
    return error_of(sched_setscheduler(tid, policy, param));
}

static int get_scheduling(pthread_t thread, int *policy, struct sched_param *param)
{
    static void *fn;
    int tid = moved(thread);
    if (!tid)
        return ((int (*)(pthread_t, int *, struct sched_param *))stub_next(
            "pthread_getschedparam", &fn))(thread, policy, param);
    *policy = sched_getscheduler(tid);
    return *policy < 0 ? errno : error_of(sched_getparam(tid, param));
}

EXPORT int pthread_getcpuclockid(pthread_t thread, clockid_t *clock)
{
    static void *fn;
    int tid = moved(thread);
    if (!tid)
        return ((int (*)(pthread_t, clockid_t *))stub_next("pthread_getcpuclockid", &fn))(thread,
                                                                                          clock);
    *clock = (clockid_t)(~(unsigned)tid << 3 | 6); /* CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED */
    return 0;
}

static int set_name(pthread_t thread, const char *name)
{
    static void *fn;
    char path[64];
    int tid = moved(thread);
    if (!tid || strlen(name) > 15)
        return ((int (*)(pthread_t, const char *))stub_next("pthread_setname_np", &fn))(thread,
                                                                                        name);
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", *tid_of(thread)); /* proc.c */
    FILE *f = fopen(path, "we");
    if (!f)
        return errno;
    fputs(name, f);
    return fclose(f) == 0 ? 0 : errno;
}

static int get_name(pthread_t thread, char *name, size_t size)
{
    static void *fn;
    char path[64];
    int tid = moved(thread);
    if (!tid || size < 16)
        return ((int (*)(pthread_t, char *, size_t))stub_next("pthread_getname_np", &fn))(
            thread, name, size);
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", *tid_of(thread)); /* proc.c */
    FILE *f = fopen(path, "re");
    if (!f || !fgets(name, (int)size, f))
        return f ? fclose(f), EIO : errno;
    fclose(f);
    name[strcspn(name, "\n")] = '\0';
    return 0;
}

/* libc's, too, ask the kernel about a number that they have read before: no epoch falls between. A
 * thread that cancels itself does not come back, and is let go. */
#define HELD(call)                                                                                 \
    ({                                                                                             \
        bool live_ = !stub_thread.dispatched;                                                      \
        stub_thread.inside += live_;                                                               \
        int r_ = call;                                                                             \
        stub_thread.inside -= live_;                                                               \
        r_;                                                                                        \
    })

static bool is_self_live(pthread_t thread)
{
    return thread == pthread_self() && !stub_thread.dispatched;
}

EXPORT int pthread_kill(pthread_t thread, int sig)
{
    if (is_self_live(thread))
        return is_of_libc(sig) ? EINVAL : (int)-signal_live(SYS_tgkill, NULL, sig, NULL);
    return HELD(send(thread, sig));
}

EXPORT int raise(int sig)
{
    static void *fn;
    if (stub_thread.dispatched)
        return ((int (*)(int))stub_next("raise", &fn))(sig);
    int error = pthread_kill(pthread_self(), sig);
    if (error)
        errno = error;
    return error ? -1 : 0;
}

EXPORT int pthread_cancel(pthread_t thread)
{
    return thread == pthread_self() ? cancel(thread) : HELD(cancel(thread));
}

EXPORT int pthread_sigqueue(pthread_t thread, int sig, const union sigval value)
{
    if (is_self_live(thread)) {
        siginfo_t info = queued(sig, value);
        return is_of_libc(sig) ? EINVAL
                               : (int)-signal_live(SYS_rt_tgsigqueueinfo, NULL, sig, &info);
    }
    return HELD(queue(thread, sig, value));
}

EXPORT int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
{
    return HELD(set_affinity(thread, size, set));
}

EXPORT int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *set)
{
    return HELD(get_affinity(thread, size, set));
}

EXPORT int pthread_getattr_np(pthread_t thread, pthread_attr_t *attr)
{
    return HELD(get_attributes(thread, attr));
}

EXPORT int pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *param)
{
    return HELD(set_scheduling(thread, policy, param));
}

EXPORT int pthread_getschedparam(pthread_t thread, int *policy, struct sched_param *param)
{
    return HELD(get_scheduling(thread, policy, param));
}

EXPORT int pthread_setname_np(pthread_t thread, const char *name)
{
    return HELD(set_name(thread, name));
}

EXPORT int pthread_getname_np(pthread_t thread, char *name, size_t size)
{
    return HELD(get_name(thread, name, size));
}

/* The kernel takes the owner's number from such a mutex, and would find another thread or none. An
 * ordinary one excludes as well; only the boost of its owner is missing. */
EXPORT int pthread_mutexattr_setprotocol(pthread_mutexattr_t *attr, int protocol)
{
    static void *fn;
    if (stub_active && protocol == PTHREAD_PRIO_INHERIT)
        protocol = PTHREAD_PRIO_NONE;
    return ((int (*)(pthread_mutexattr_t *, int))stub_next("pthread_mutexattr_setprotocol", &fn))(
        attr, protocol);
}

/* ---- numbers that the application hands to the kernel ---- */

EXPORT int kill(pid_t pid, int sig)
{
    static void *fn;
    if (!stub_thread.dispatched)
        return result_of(signal_live(SYS_kill, &(struct target){pid, 0}, sig, NULL));
    return ((int (*)(pid_t, int))stub_next("kill", &fn))(pid_then(pid), sig);
}

EXPORT int tgkill(pid_t pid, pid_t tid, int sig)
{
    static void *fn;
    if (!stub_thread.dispatched && tid > 0)
        return result_of(signal_live(SYS_tgkill, &(struct target){pid, tid}, sig, NULL));
    return ((int (*)(pid_t, pid_t, int))stub_next("tgkill", &fn))(pid_then(pid), pid_then(tid),
                                                                  sig);
}

EXPORT int sigqueue(pid_t pid, int sig, const union sigval value)
{
    static void *fn;
    if (!stub_thread.dispatched) {
        siginfo_t info = queued(sig, value);
        return result_of(signal_live(SYS_rt_sigqueueinfo, &(struct target){pid, 0}, sig, &info));
    }
    return ((int (*)(pid_t, int, const union sigval))stub_next("sigqueue", &fn))(pid_then(pid), sig,
                                                                                 value);
}

EXPORT int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
    static void *fn;
    return HELD(((int (*)(pid_t, size_t, const cpu_set_t *))stub_next("sched_setaffinity", &fn))(
        pid_then(pid), size, set));
}

EXPORT int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    static void *fn;
    return HELD(((int (*)(pid_t, size_t, cpu_set_t *))stub_next("sched_getaffinity", &fn))(
        pid_then(pid), size, set));
}

EXPORT int sched_setscheduler(pid_t pid, int policy, const struct sched_param *param)
{
    static void *fn;
    return HELD(((int (*)(pid_t, int, const struct sched_param *))stub_next(
        "sched_setscheduler", &fn))(pid_then(pid), policy, param));
}

EXPORT int sched_getscheduler(pid_t pid)
{
    static void *fn;
    return HELD(((int (*)(pid_t))stub_next("sched_getscheduler", &fn))(pid_then(pid)));
}

EXPORT int sched_setparam(pid_t pid, const struct sched_param *param)
{
    static void *fn;
    return HELD(((int (*)(pid_t, const struct sched_param *))stub_next("sched_setparam", &fn))(
        pid_then(pid), param));
}

EXPORT int sched_getparam(pid_t pid, struct sched_param *param)
{
    static void *fn;
    return HELD(((int (*)(pid_t, struct sched_param *))stub_next("sched_getparam", &fn))(
        pid_then(pid), param));
}

EXPORT int setpriority(__priority_which_t which, id_t who, int value)
{
    static void *fn;
    return HELD(((int (*)(__priority_which_t, id_t, int))stub_next("setpriority", &fn))(
        which, which == PRIO_PROCESS ? (id_t)pid_then((int)who) : who, value));
}

EXPORT int getpriority(__priority_which_t which, id_t who)
{
    static void *fn;
    return HELD(((int (*)(__priority_which_t, id_t))stub_next("getpriority", &fn))(
        which, which == PRIO_PROCESS ? (id_t)pid_then((int)who) : who));
}

EXPORT int prlimit(pid_t pid, enum __rlimit_resource which, const struct rlimit *limit,
                   struct rlimit *old)
{
    static void *fn;
    return HELD(((int (*)(pid_t, enum __rlimit_resource, const struct rlimit *, struct rlimit *))
                     stub_next("prlimit", &fn))(pid_then(pid), which, limit, old));
}

EXPORT int prlimit64(pid_t pid, enum __rlimit_resource which, const struct rlimit64 *limit,
                     struct rlimit64 *old)
{
    return prlimit(pid, which, (const struct rlimit *)limit, (struct rlimit *)old);
}

EXPORT pid_t getpgid(pid_t pid)
{
    static void *fn;
    return HELD(((pid_t(*)(pid_t))stub_next("getpgid", &fn))(pid_then(pid)));
}

EXPORT pid_t getsid(pid_t pid)
{
    static void *fn;
    return HELD(((pid_t(*)(pid_t))stub_next("getsid", &fn))(pid_then(pid)));
}

EXPORT int setpgid(pid_t pid, pid_t group)
{
    static void *fn;
    return HELD(((int (*)(pid_t, pid_t))stub_next("setpgid", &fn))(pid_then(pid), pid_then(group)));
}
