/*
 * mutexes: locks of every kind are held, threads come and go, are named, signalled and cancelled,
 * while the main thread does MPI. A checkpoint, or a restart in which all threads get other numbers
 * in the kernel, must change nothing of it.
 *
 * Usage: mutexes [ROUNDS [CASE]]. Any number of ranks.
 */
#define _GNU_SOURCE
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TALKS = 12, CROWD = 6, SIGNALS = 10 };

static void make(pthread_mutex_t *lock, int type, int robust)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, type);
    pthread_mutexattr_setrobust(&attr, robust);
    CHECK(pthread_mutex_init(lock, &attr) == 0);
}

/* ---- owners: the main thread holds them, others want them ---- */

static struct {
    pthread_mutex_t plain, recursive, checking, robust;
    pthread_rwlock_t both;
    atomic_int wanted, got;
} held = {.both = PTHREAD_RWLOCK_INITIALIZER};

static void *want_all(void *arg)
{
    CHECK(pthread_mutex_trylock(&held.recursive) == EBUSY);
    CHECK(pthread_mutex_unlock(&held.checking) == EPERM);
    CHECK(pthread_mutex_unlock(&held.robust) == EPERM);
    held.wanted = 1;
    CHECK(pthread_mutex_lock(&held.recursive) == 0 && pthread_mutex_unlock(&held.recursive) == 0);
    CHECK(pthread_mutex_lock(&held.checking) == 0 && pthread_mutex_unlock(&held.checking) == 0);
    CHECK(pthread_mutex_lock(&held.robust) == 0 && pthread_mutex_unlock(&held.robust) == 0);
    CHECK(pthread_mutex_lock(&held.plain) == 0 && pthread_mutex_unlock(&held.plain) == 0);
    CHECK(pthread_rwlock_rdlock(&held.both) == 0 && pthread_rwlock_unlock(&held.both) == 0);
    held.got = 1;
    return NULL;
}

static void owners(int round)
{
    pthread_t other;

    make(&held.plain, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
    make(&held.recursive, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED);
    make(&held.checking, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED);
    make(&held.robust, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST);
    held.wanted = held.got = 0;
    CHECK(pthread_mutex_lock(&held.plain) == 0 && pthread_mutex_lock(&held.robust) == 0);
    CHECK(pthread_mutex_lock(&held.recursive) == 0 && pthread_mutex_lock(&held.checking) == 0);
    CHECK(pthread_rwlock_wrlock(&held.both) == 0);
    check_talk(TALKS);
    CHECK(pthread_mutex_lock(&held.recursive) == 0);
    CHECK(pthread_mutex_lock(&held.checking) == EDEADLK);
    CHECK(pthread_rwlock_wrlock(&held.both) == EDEADLK);
    CHECK(pthread_create(&other, NULL, want_all, NULL) == 0);
    while (!held.wanted)
        usleep(100);
    check_talk(TALKS);
    CHECK(held.got == 0);
    CHECK(pthread_mutex_unlock(&held.recursive) == 0 && pthread_mutex_unlock(&held.recursive) == 0);
    CHECK(pthread_mutex_unlock(&held.recursive) == EPERM);
    CHECK(pthread_mutex_unlock(&held.checking) == 0 && pthread_mutex_unlock(&held.robust) == 0);
    CHECK(pthread_mutex_unlock(&held.plain) == 0 && pthread_rwlock_unlock(&held.both) == 0);
    CHECK(pthread_join(other, NULL) == 0 && held.got == 1);
}

/* ---- a thread that ends with a robust mutex ---- */

static pthread_mutex_t left;
static pthread_barrier_t meet;

static void *leave_locked(void *arg)
{
    CHECK(pthread_mutex_lock(&left) == 0);
    pthread_barrier_wait(&meet);
    pthread_barrier_wait(&meet);
    return NULL;
}

static void robust(int round)
{
    pthread_t thread;

    make(&left, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST);
    CHECK(pthread_barrier_init(&meet, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, leave_locked, NULL) == 0);
    pthread_barrier_wait(&meet);
    check_talk(TALKS);
    CHECK(pthread_mutex_trylock(&left) == EBUSY);
    pthread_barrier_wait(&meet);
    CHECK(pthread_mutex_lock(&left) == EOWNERDEAD && pthread_mutex_consistent(&left) == 0);
    CHECK(pthread_mutex_unlock(&left) == 0 && pthread_mutex_destroy(&left) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    pthread_barrier_destroy(&meet);
}

/* ---- signals, names, cancellation, numbers ---- */

static atomic_int signals_got, cleaned, sleeper;
static atomic_long signalled;
static _Thread_local int mine;

static void note_signal(int sig)
{
    signalled = (long)pthread_self();
    signals_got++; /* which others wait for */
}

static void clean(void *arg)
{
    CHECK(mine == *(int *)arg);
    cleaned++;
}

static void *sleep_on(void *arg)
{
    mine = *(int *)arg;
    sleeper = gettid();
    pthread_cleanup_push(clean, arg);
    for (;;)
        pause();
    pthread_cleanup_pop(0);
    return NULL;
}

/* What /proc has of the sleeper, by the numbers that the program knows. */
static FILE *open_comm(void)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", getpid(), sleeper);
    return fopen(path, "r");
}

static void check_comm(FILE *comm, const char *name)
{
    char text[32] = "";

    CHECK(comm);
    rewind(comm);
    CHECK(fgets(text, sizeof(text), comm));
    text[strcspn(text, "\n")] = '\0';
    CHECK(strcmp(text, name) == 0);
    fclose(comm);
}

static void reach(int round)
{
    struct sigaction act = {.sa_handler = note_signal}, old;
    pid_t process = getpid(), self = gettid();
    char name[16] = "", named[16];
    cpu_set_t before, after;
    pthread_attr_t attr;
    pthread_t thread;
    FILE *comm;
    void *result;

    CHECK(sigaction(SIGUSR2, &act, &old) == 0);
    snprintf(named, sizeof(named), "round %d", round);
    signals_got = cleaned = sleeper = 0;
    CHECK(pthread_create(&thread, NULL, sleep_on, &round) == 0);
    CHECK(pthread_setname_np(thread, named) == 0);
    while (!sleeper)
        usleep(100);
    comm = open_comm();
    check_talk(TALKS);
    check_comm(comm, named);
    check_comm(open_comm(), named);
    CHECK(getpid() == process && gettid() == self && syscall(SYS_gettid) == self);
    CHECK(pthread_getname_np(thread, name, sizeof(name)) == 0 && strcmp(name, named) == 0);
    CHECK(pthread_getaffinity_np(thread, sizeof(before), &before) == 0);
    CHECK(pthread_setaffinity_np(thread, sizeof(before), &before) == 0);
    CHECK(pthread_getattr_np(pthread_self(), &attr) == 0 && pthread_attr_destroy(&attr) == 0);
    CHECK(sched_getaffinity(self, sizeof(after), &after) == 0 && CPU_EQUAL(&before, &after));
    CHECK(pthread_kill(thread, SIGUSR2) == 0);
    while (signals_got < 1)
        usleep(100);
    CHECK((pthread_t)signalled == thread && raise(SIGUSR2) == 0 && signals_got == 2);
    CHECK(kill(process, 0) == 0 && tgkill(process, self, SIGUSR2) == 0 && signals_got == 3);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED && cleaned == 1);
    CHECK(sigaction(SIGUSR2, &old, NULL) == 0);
}

/* ---- many signals, each of which counts, to a thread that may have been stopped ---- */

static atomic_int counted;

static void count_signal(int sig)
{
    counted++;
}

static void crowd_of_signals(int round)
{
    struct sigaction act = {.sa_handler = count_signal}, old;
    cpu_set_t cpus;
    pthread_t thread;
    int sent = 0;

    CHECK(sigaction(SIGRTMIN + 1, &act, &old) == 0);
    counted = cleaned = 0;
    CHECK(pthread_create(&thread, NULL, sleep_on, &round) == 0);
    for (int i = 0; i < TALKS; i++) {
        for (int j = 0; j < SIGNALS; j++, sent++) {
            CHECK(pthread_getaffinity_np(thread, sizeof(cpus), &cpus) == 0);
            CHECK(pthread_sigqueue(thread, SIGRTMIN + 1, (union sigval){.sival_int = j}) == 0);
        }
        check_talk(1);
    }
    for (int i = 0; i < 50000 && counted < sent; i++)
        usleep(100);
    CHECK(counted == sent);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0 && cleaned == 1);
    CHECK(sigaction(SIGRTMIN + 1, &old, NULL) == 0);
}

/* ---- a thread that never does anything but signal itself, in every way there is ---- */

static atomic_int enough;

static void *signal_self(void *arg)
{
    union sigval value;
    siginfo_t info;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    for (int i = 0; !enough; i++) {
        value.sival_int = i;
        switch (i % 4) {
        case 0:
            CHECK(pthread_kill(pthread_self(), SIGUSR2) == 0);
            break;
        case 1:
            CHECK(pthread_sigqueue(pthread_self(), SIGUSR2, value) == 0);
            break;
        case 2:
            CHECK(raise(SIGUSR2) == 0);
            break;
        case 3:
            CHECK(tgkill(getpid(), gettid(), SIGUSR2) == 0);
            break;
        }
        CHECK(sigwaitinfo(&set, &info) == SIGUSR2);
        CHECK(info.si_code != SI_QUEUE || info.si_value.sival_int == i);
        CHECK(kill(getpid(), 0) == 0 && sigqueue(getpid(), 0, value) == 0);
    }
    return NULL;
}

static void self(int round)
{
    pthread_t thread;

    enough = 0;
    CHECK(pthread_create(&thread, NULL, signal_self, NULL) == 0);
    check_talk(TALKS);
    enough = 1;
    CHECK(pthread_join(thread, NULL) == 0);
}

/* ---- threads come and go ---- */

static atomic_int lived;

static void *live(void *arg)
{
    pthread_mutex_t *lock = arg;

    CHECK(pthread_mutex_lock(lock) == 0 && pthread_mutex_lock(lock) == 0);
    lived++;
    CHECK(pthread_mutex_unlock(lock) == 0 && pthread_mutex_unlock(lock) == 0);
    return NULL;
}

static void *make_threads(void *arg)
{
    pthread_t thread[CROWD];

    for (int i = 0; i < CROWD; i++)
        CHECK(pthread_create(&thread[i], NULL, live, arg) == 0);
    for (int i = 0; i < CROWD; i++)
        CHECK(i % 2 ? pthread_detach(thread[i]) == 0 : pthread_join(thread[i], NULL) == 0);
    return NULL;
}

static void crowd(int round)
{
    static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    pthread_t maker;

    lived = 0;
    CHECK(pthread_create(&maker, NULL, make_threads, &lock) == 0);
    check_talk(TALKS);
    CHECK(pthread_join(maker, NULL) == 0);
    while (lived < CROWD)
        usleep(100);
}

static const struct check_case cases[] = {
    {"owners", owners}, {"robust", robust}, {"reach", reach}, {"signals", crowd_of_signals},
    {"self", self},     {"crowd", crowd},   {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "mutexes", cases, 50);
}
