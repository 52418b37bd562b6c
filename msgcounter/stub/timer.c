/*
 * timer.c - timers that run a function in a thread of its own (SIGEV_THREAD)
 *
 * libc has a thread wait for such timers with all signals blocked: it would never come to a safe
 * point. So there is one of ours instead, whose timers send it a signal that all block; the thread
 * that it makes for each expiry is the application's like any other. The timer itself is an
 * ordinary one of the kernel's, which images hold, so that timer_settime(2) and the like take it.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "msgcounter/stub/pid.h"
#include "msgcounter/stub/stub.h"

#define EXPORT __attribute__((visibility("default")))

/* Sent to our thread only, by timers only: to others it may mean what they like. */
#define EXPIRED 64 /* SIGRTMAX */

/* From sigevent(7); glibc names the field only where it is asked to. */
#define SIGEV_TID(e) ((e)->_sigev_un._tid)

struct timer {
    struct timer *next;
    timer_t id;
    void (*fn)(union sigval);
    union sigval value;
    pthread_attr_t attr;
};

/* What an expiry needs: the timer may be deleted meanwhile. */
struct expiry {
    void (*fn)(union sigval);
    union sigval value;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct timer *timers;
static pthread_t helper;
static pid_t helper_tid; /* 0: there is none yet */
static pthread_cond_t helper_there = PTHREAD_COND_INITIALIZER;

static void *expire(void *arg)
{
    struct expiry e = *(struct expiry *)arg;
    free(arg);
    e.fn(e.value);
    return NULL;
}

/* A timer that cannot have its thread has expired in vain, as with libc. */
static void start_expiry(const struct timer *t)
{
    pthread_t thread;
    struct expiry *e = malloc(sizeof *e);
    if (!e)
        return;
    *e = (struct expiry){t->fn, t->value};
    if (pthread_create(&thread, &t->attr, expire, e) != 0)
        free(e);
}

static void *help(void *arg)
{
    sigset_t expired;
    siginfo_t info;
    sigemptyset(&expired);
    sigaddset(&expired, EXPIRED);
    pthread_mutex_lock(&lock);
    helper_tid = gettid();
    pthread_cond_broadcast(&helper_there);
    pthread_mutex_unlock(&lock);
    for (;;) {
        if (sigwaitinfo(&expired, &info) < 0 || info.si_code != SI_TIMER)
            continue;
        pthread_mutex_lock(&lock);
        struct timer *t = timers;
        while (t && t != info.si_value.sival_ptr)
            t = t->next;
        if (t)
            start_expiry(t);
        pthread_mutex_unlock(&lock);
    }
    return arg;
}

/* A child has no timers, and no such thread. */
static void forget(void)
{
    pthread_mutex_init(&lock, NULL);
    timers = NULL;
    helper_tid = 0;
}

/* With the lock. Returns 0 or what pthread_create(3) does. */
static int need_helper(void)
{
    sigset_t all, before;
    if (helper_tid)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&helper, NULL, help, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return rc;
    pthread_detach(helper);
    pthread_atfork(NULL, NULL, forget);
    while (!helper_tid)
        pthread_cond_wait(&helper_there, &lock);
    return 0;
}

/* What can be told of the attributes; expiries are never joined. */
static void copy_attributes(pthread_attr_t *to, const pthread_attr_t *from)
{
    struct sched_param param;
    size_t size;
    int value;
    pthread_attr_init(to);
    if (from) {
        if (pthread_attr_getstacksize(from, &size) == 0)
            pthread_attr_setstacksize(to, size);
        if (pthread_attr_getguardsize(from, &size) == 0)
            pthread_attr_setguardsize(to, size);
        if (pthread_attr_getschedpolicy(from, &value) == 0)
            pthread_attr_setschedpolicy(to, value);
        if (pthread_attr_getschedparam(from, &param) == 0)
            pthread_attr_setschedparam(to, &param);
        if (pthread_attr_getinheritsched(from, &value) == 0)
            pthread_attr_setinheritsched(to, value);
    }
    pthread_attr_setdetachstate(to, PTHREAD_CREATE_DETACHED);
}

static int next_create(clockid_t clock, struct sigevent *event, timer_t *id)
{
    static void *known;
    int (*next)(clockid_t, struct sigevent *, timer_t *) = stub_next("timer_create", &known);
    return next(clock, event, id);
}

static int create_with_thread(clockid_t clock, const struct sigevent *event, timer_t *id)
{
    struct timer *t = calloc(1, sizeof *t);
    if (!t)
        return -1;
    t->fn = event->sigev_notify_function;
    t->value = event->sigev_value;
    copy_attributes(&t->attr, event->sigev_notify_attributes);
    pthread_mutex_lock(&lock);
    int rc = need_helper();
    if (rc == 0) {
        struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = EXPIRED,
                             .sigev_value.sival_ptr = t};
        SIGEV_TID(&e) = pid_then(helper_tid);
        rc = next_create(clock, &e, &t->id) == 0 ? 0 : errno;
    }
    if (rc == 0) {
        *id = t->id;
        t->next = timers;
        timers = t;
    }
    pthread_mutex_unlock(&lock);
    if (rc == 0)
        return 0;
    pthread_attr_destroy(&t->attr);
    free(t);
    errno = rc;
    return -1;
}

EXPORT int timer_create(clockid_t clock, struct sigevent *event, timer_t *id)
{
    if (!stub_active || !event)
        return next_create(clock, event, id);
    if (event->sigev_notify == SIGEV_THREAD)
        return create_with_thread(clock, event, id);
    struct sigevent e = *event;
    if (e.sigev_notify & SIGEV_THREAD_ID)
        SIGEV_TID(&e) = pid_then(SIGEV_TID(event));
    return next_create(clock, &e, id);
}

EXPORT int timer_delete(timer_t id)
{
    static void *known;
    struct timer *gone = NULL;
    int (*next)(timer_t) = stub_next("timer_delete", &known);
    pthread_mutex_lock(&lock);
    int rc = next(id);
    struct timer **p = &timers;
    while (*p && (*p)->id != id)
        p = &(*p)->next;
    if (rc == 0 && *p) {
        gone = *p;
        *p = gone->next;
    }
    pthread_mutex_unlock(&lock);
    if (gone)
        pthread_attr_destroy(&gone->attr);
    free(gone);
    return rc;
}
