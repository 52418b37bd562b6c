/*
 * timers: timers of timer_create(2) that tell of their expiry in every way, across checkpoints.
 *
 * Usage: timers [ROUNDS [CASE]]. Ranks: any.
 */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>

#define MS    1000000l
#define STACK (64ul << 20) /* more than libc gives by itself */

struct ticks {
    sem_t come;
    int value;
    size_t stack;
};

static void arm(timer_t timer, long first_ms, long every_ms)
{
    const struct itimerspec t = {{0, every_ms * MS}, {0, first_ms * MS}};
    CHECK(timer_settime(timer, 0, &t, NULL) == 0);
}

static void tick(union sigval v)
{
    struct ticks *t = v.sival_ptr;
    pthread_attr_t attr;
    CHECK(pthread_getattr_np(pthread_self(), &attr) == 0);
    CHECK(pthread_attr_getstacksize(&attr, &t->stack) == 0);
    pthread_attr_destroy(&attr);
    sem_post(&t->come);
}

static void take(struct ticks *t, int n)
{
    for (int i = 0; i < n; i++) {
        while (sem_wait(&t->come) != 0)
            ;
        MPI_Barrier(MPI_COMM_WORLD);
    }
}

/* libc knows a timer by its address, and takes a last expiry for one of the next timer there. */
static void end(timer_t timer)
{
    arm(timer, 0, 0);
    usleep(5000);
    CHECK(timer_delete(timer) == 0);
}

/* Two at once, with a function each; one is deleted while the other goes on, and is made again. */
static void threads(int round)
{
    static struct ticks one, other; /* a last expiry may come after the end */
    struct sigevent e = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = tick};
    pthread_attr_t attr;
    timer_t a, b;
    CHECK(sem_init(&one.come, 0, 0) == 0 && sem_init(&other.come, 0, 0) == 0);
    e.sigev_value.sival_ptr = &one;
    CHECK(timer_create(CLOCK_MONOTONIC, &e, &a) == 0);
    pthread_attr_init(&attr);
    CHECK(pthread_attr_setstacksize(&attr, STACK) == 0);
    e.sigev_notify_attributes = &attr;
    e.sigev_value.sival_ptr = &other;
    CHECK(timer_create(CLOCK_REALTIME, &e, &b) == 0);
    pthread_attr_destroy(&attr);
    arm(a, 3, 3);
    arm(b, 2, 5);
    take(&one, 5);
    take(&other, 5);
    CHECK(other.stack >= STACK);
    end(a);
    take(&other, 2);
    end(b);
}

/* Once, after a time that an epoch may fall into. */
static void once(int round)
{
    static struct ticks t;
    struct itimerspec left;
    struct sigevent e = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = tick,
                         .sigev_value.sival_ptr = &t};
    timer_t timer;
    CHECK(sem_init(&t.come, 0, 0) == 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &e, &timer) == 0);
    arm(timer, 30, 0);
    for (int i = 0; i < 5; i++)
        MPI_Barrier(MPI_COMM_WORLD);
    take(&t, 1);
    CHECK(timer_gettime(timer, &left) == 0);
    CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
    CHECK(timer_delete(timer) == 0);
}

/* To this thread, by the number that it knows itself by; and to nobody. */
static void to_thread(int round)
{
    struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2,
                         .sigev_value.sival_int = round, ._sigev_un._tid = gettid()};
    struct sigevent nobody = {.sigev_notify = SIGEV_NONE};
    siginfo_t info;
    sigset_t set, before;
    timer_t timer, silent;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, &before) == 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &e, &timer) == 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &nobody, &silent) == 0);
    arm(timer, 2, 2);
    arm(silent, 1, 0);
    for (int i = 0; i < 5; i++) {
        while (sigwaitinfo(&set, &info) != SIGUSR2)
            ;
        CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == round);
        MPI_Barrier(MPI_COMM_WORLD);
    }
    CHECK(timer_delete(timer) == 0 && timer_delete(silent) == 0);
    const struct timespec none = {0, 0};
    while (sigtimedwait(&set, &info, &none) == SIGUSR2)
        ;
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
}

static const struct check_case cases[] = {
    {"threads", threads},
    {"once", once},
    {"to_thread", to_thread},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "timers", cases, 5);
}
