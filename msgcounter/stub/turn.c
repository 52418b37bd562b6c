/*
 * turn.c - order among the threads of a replayed rank
 */
#include "msgcounter/stub/turn.h"

#include <time.h>

#include "msgcounter/stub/thread.h"
#include "runtime/half/sys.h"

#define LOOK_NS      1000000   /* between two looks, at first sooner */
#define FIRST_NS     20000
#define IDLE_LOOKS   30        /* so many in which the process did nothing: it waits for us */
#define AWAIT_LOOKS  1000      /* the same: a debugger may let it run in bits */
#define LONGEST_NS   2000000000ull
#define END_NS       20000000000ull /* threads that spin for work may never be idle */
#define GIVE_UP      16 /* so many turns that did not come: the program orders its threads itself */

static uint64_t next;        /* all events before it have been taken */
static unsigned ngone;       /* turns that did not come */

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    sys_call(SYS_clock_gettime, id, &t, 0, 0, 0, 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Looks whether other threads run. */
struct watch {
    uint64_t since, pause;
    uint64_t cpu; /* of the process at the last look */
    unsigned idle;
};

static struct watch watch_begin(void)
{
    return (struct watch){.since = clock_ns(CLOCK_MONOTONIC),
                          .pause = FIRST_NS,
                          .cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID)};
}

/* Sleeps a little. The process has done something if it used a tenth of that time. */
static void watch_look(struct watch *w)
{
    struct timespec t = {.tv_nsec = (long)w->pause};
    sys_call(SYS_nanosleep, &t, 0, 0, 0, 0, 0);
    if (w->pause < LOOK_NS) {
        w->pause *= 2;
        return;
    }
    uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    w->idle = cpu - w->cpu > w->pause / 10 ? 0 : w->idle + 1;
    w->cpu = cpu;
}

void turn_start(uint64_t event)
{
    __atomic_store_n(&next, event, __ATOMIC_RELEASE);
}

static bool come(uint64_t event)
{
    return event <= __atomic_load_n(&next, __ATOMIC_ACQUIRE);
}

void turn_wait(uint64_t event)
{
    if (come(event) || !stub_threads_made || ngone >= GIVE_UP)
        return;
    struct watch w = watch_begin();
    while (!come(event)) {
        watch_look(&w);
        if (w.idle < IDLE_LOOKS && clock_ns(CLOCK_MONOTONIC) - w.since < LONGEST_NS)
            continue;
        __atomic_add_fetch(&ngone, 1, __ATOMIC_RELAXED);
        return;
    }
}

void turn_taken(uint64_t event)
{
    uint64_t now = __atomic_load_n(&next, __ATOMIC_RELAXED);
    while (now <= event && !__atomic_compare_exchange_n(&next, &now, event + 1, true,
                                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
}

bool turn_await(bool (*come_now)(void *arg), void *arg)
{
    struct watch w = watch_begin();
    while (!come_now(arg)) {
        if (w.idle == AWAIT_LOOKS)
            return false;
        watch_look(&w);
    }
    return true;
}

void turn_end(void)
{
    struct watch w = watch_begin();
    while (stub_threads_made && w.idle < 10 * IDLE_LOOKS &&
           clock_ns(CLOCK_MONOTONIC) - w.since < END_NS)
        watch_look(&w);
}
