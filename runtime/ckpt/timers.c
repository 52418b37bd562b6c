/*
 * timers.c - timers of timer_create(2) and setitimer(2), saved and restored
 */
#include "runtime/ckpt/timers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "runtime/half/gate.h"

/* From sigevent(7); glibc names the field only where it is asked to. */
#define SIGEV_TID(e) ((e)->_sigev_un._tid)

/* An entry of /proc/self/timers, see proc(5): ID, signal, notify, ClockID. */
static bool parse(struct timer_record *t, FILE *f)
{
    char how[16], whom[8];
    void *value;
    memset(t, 0, sizeof *t);
    if (fscanf(f, " ID: %d signal: %d/%p notify: %15[^/]/%7[^.].%d ClockID: %d", &t->id, &t->signal,
               &value, how, whom, &t->tid, &t->clock) != 7)
        return false;
    t->value = (uint64_t)value;
    t->notify = !strcmp(how, "none") ? SIGEV_NONE : SIGEV_SIGNAL;
    if (!strcmp(whom, "tid"))
        t->notify |= SIGEV_THREAD_ID;
    return true;
}

static int by_number(const void *a, const void *b)
{
    const struct timer_record *x = a, *y = b;
    return x->id - y->id;
}

struct timer_record *timers_describe(size_t *n)
{
    struct timer_record *list = NULL, t;
    FILE *f = fopen("/proc/self/timers", "re");
    *n = 0;
    while (f && parse(&t, f)) {
        if (t.signal == SIGSYS && t.value == GATE_LATE_VALUE)
            continue;
        struct timer_record *more = realloc(list, (*n + 1) * sizeof *more);
        if (!more)
            break;
        list = more;
        syscall(SYS_timer_gettime, t.id, &t.left);
        list[(*n)++] = t;
    }
    if (f)
        fclose(f);
    qsort(list, *n, sizeof *list, by_number);
    return list;
}

static uint64_t nanoseconds(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

/* It has expired once. If it does so again and again, the end of its present turn tells when. */
static void expired(struct itimerspec *left)
{
    uint64_t every = nanoseconds(&left->it_interval), ns = nanoseconds(&left->it_value);
    if (every && ns > every / 2)
        return; /* before it was described */
    ns = every ? ns + every : 0;
    left->it_value = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
}

void timers_settle(struct timer_record *timers, size_t ntimers,
                   const struct pending_signal *pending, size_t npending)
{
    for (size_t i = 0; i < npending; i++) {
        siginfo_t info;
        memcpy(&info, pending[i].info, sizeof info);
        bool tick = pending[i].signo > 0 && info.si_code == SI_TIMER;
        for (size_t k = 0; k < ntimers && tick; k++)
            if (timers[k].id == info.si_timerid)
                expired(&timers[k].left);
    }
}

static int create(const struct timer_record *t, pid_t (*tid_of)(pid_t was))
{
    struct sigevent e = {.sigev_notify = t->notify, .sigev_signo = t->signal};
    int id = -1;
    memcpy(&e.sigev_value, &t->value, sizeof t->value);
    if (t->notify & SIGEV_THREAD_ID)
        SIGEV_TID(&e) = tid_of(t->tid);
    while (id != t->id) {
        if (syscall(SYS_timer_create, t->clock, &e, &id) < 0)
            return -1;
        if (id == t->id)
            break;
        syscall(SYS_timer_delete, id);
        if (id > t->id)
            return errno = EEXIST, -1;
    }
    return (int)syscall(SYS_timer_settime, id, 0, &t->left, NULL);
}

int timers_restore(const struct image_state *state, pid_t (*tid_of)(pid_t was), struct err *err)
{
    size_t size;
    const struct timer_record *t = image_blob_find(state, TIMERS_BLOB, &size);
    for (size_t i = 0; t && i < size / sizeof *t; i++)
        if (create(&t[i], tid_of) < 0)
            return err_sys(err, "cannot restore timer %d", t[i].id);
    return 0;
}

/* ---- of setitimer(2) ---- */

static uint64_t microseconds(const struct timeval *t)
{
    return (uint64_t)t->tv_sec * 1000000u + (uint64_t)t->tv_usec;
}

static struct timeval timeval(uint64_t us)
{
    return (struct timeval){(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};
}

static void describe(int which, struct image_itimer *left)
{
    struct itimerval t;
    if (getitimer(which, &t) == 0)
        *left = (struct image_itimer){.interval_us = microseconds(&t.it_interval),
                                      .value_us = microseconds(&t.it_value)};
}

void itimers_describe(struct image_itimer left[IMAGE_NITIMERS])
{
    memset(left, 0, IMAGE_NITIMERS * sizeof *left);
    for (int which = 0; which < IMAGE_NITIMERS; which++)
        describe(which, &left[which]);
}

/* One that has expired again meanwhile has no second signal. */
void itimers_settle(struct image_itimer left[IMAGE_NITIMERS], const struct pending_signal *pending,
                    size_t npending)
{
    static const int signals[IMAGE_NITIMERS] = {SIGALRM, SIGVTALRM, SIGPROF};
    for (int which = 0; which < IMAGE_NITIMERS; which++)
        for (size_t i = 0; i < npending; i++)
            if (pending[i].signo == signals[which])
                describe(which, &left[which]);
}

void itimers_restore(const struct image_itimer left[IMAGE_NITIMERS])
{
    for (int which = 0; which < IMAGE_NITIMERS; which++) {
        const struct itimerval t = {timeval(left[which].interval_us),
                                    timeval(left[which].value_us)};
        if (left[which].value_us)
            setitimer(which, &t, NULL);
    }
}
