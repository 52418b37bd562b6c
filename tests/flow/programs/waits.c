/*
 * waits: threads that sleep, poll and wait in every way while the main thread does MPI. None of
 * their calls may end with EINTR, early, or not at all, whatever happens to the process; a signal
 * of the program's own does end those that it should.
 *
 * Usage: waits [ROUNDS] (or a file, see check.h). Any number of ranks.
 */
#define _GNU_SOURCE /* ppoll, pthread_sigqueue */
#include "check.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MS = 1000000 };

static atomic_int stop_waiting;
static atomic_int tokens_read, tokens_sent; /* through the pipe */
static atomic_int posts_seen, posts_made;
static atomic_int signals_waited, signals_sent; /* for sigwait */
static atomic_int handled, interrupted;         /* by SIGUSR1 */
static int tokens[2];
static sem_t posts, nobody;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static struct timespec in_ms(clockid_t clock, long ms)
{
    struct timespec t;

    clock_gettime(clock, &t);
    t.tv_nsec += ms * MS;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

/* ---- one thread each: waits once ---- */

static void sleep_short(void)
{
    const struct timespec t = {0, 15 * MS};

    CHECK(nanosleep(&t, NULL) == 0);
}

static void sleep_rest(void)
{
    struct timespec t = {0, 15 * MS};

    CHECK(nanosleep(&t, &t) == 0);
}

static void sleep_micro(void)
{
    CHECK(usleep(15000) == 0);
}

static void sleep_until(void)
{
    struct timespec t = in_ms(CLOCK_REALTIME, 15);

    CHECK(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL) == 0);
}

static void poll_nothing(void)
{
    CHECK(poll(NULL, 0, 15) == 0);
}

static void select_nothing(void)
{
    struct timeval t = {0, 15000};

    CHECK(select(0, NULL, NULL, NULL, &t) == 0);
}

static void ppoll_nothing(void)
{
    const struct timespec t = {0, 15 * MS};

    CHECK(ppoll(NULL, 0, &t, NULL) == 0);
}

static void epoll_nothing(void)
{
    static int epoll = -1;
    struct epoll_event event;

    if (epoll < 0)
        epoll = epoll_create1(0);
    CHECK(epoll_wait(epoll, &event, 1, 15) == 0);
}

static void semaphore_until(void)
{
    struct timespec t = in_ms(CLOCK_REALTIME, 15);

    CHECK(sem_timedwait(&nobody, &t) < 0 && errno == ETIMEDOUT);
}

static void condition_until(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    struct timespec t = in_ms(CLOCK_REALTIME, 15);

    CHECK(pthread_mutex_lock(&lock) == 0);
    while (pthread_cond_timedwait(&never, &lock, &t) != ETIMEDOUT)
        ;
    CHECK(pthread_mutex_unlock(&lock) == 0);
}

static void signal_for_a_while(void)
{
    const struct timespec t = {0, 15 * MS};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMAX);
    CHECK(sigtimedwait(&set, NULL, &t) < 0 && errno == EAGAIN);
}

static void poll_by_number(void)
{
    CHECK(syscall(SYS_poll, NULL, 0, 15) == 0);
}

static void (*const timed[])(void) = {
    sleep_short,     sleep_rest,      sleep_micro,        sleep_until,
    poll_nothing,    select_nothing,  ppoll_nothing,      epoll_nothing,
    semaphore_until, condition_until, signal_for_a_while, poll_by_number,
};
enum { TIMED = sizeof(timed) / sizeof(timed[0]) };

static void *wait_again(void *arg)
{
    void (*const *wait)(void) = arg;

    while (!stop_waiting) {
        double before = now();
        (*wait)();
        CHECK(now() - before > 14.9);
    }
    return NULL;
}

/* ---- threads that wait for the main thread ---- */

static void *read_tokens(void *arg)
{
    int token;

    do {
        CHECK(read(tokens[0], &token, sizeof(token)) == sizeof(token));
        if (token >= 0)
            CHECK(token == tokens_read++);
    } while (token >= 0);
    return NULL;
}

static void *take_posts(void *arg)
{
    while (!stop_waiting) {
        CHECK(sem_wait(&posts) == 0);
        posts_seen++;
    }
    return NULL;
}

static void *wait_for_signals(void *arg)
{
    siginfo_t info;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    for (;;) {
        CHECK(sigwaitinfo(&set, &info) == SIGUSR2);
        if (info.si_value.sival_int < 0)
            return NULL;
        CHECK(info.si_value.sival_int == signals_waited);
        signals_waited++;
    }
}

static void count_signal(int sig)
{
    handled++;
}

/* Each SIGUSR1 ends one sigsuspend, and nothing else does. */
static void *be_interrupted(void *arg)
{
    sigset_t none;

    sigemptyset(&none);
    sigaddset(&none, SIGUSR2);
    while (!stop_waiting) {
        CHECK(sigsuspend(&none) < 0 && errno == EINTR);
        interrupted++;
        CHECK(handled == interrupted);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const char *rounds = argc > 1 ? argv[1] : "300";
    int level, sum;
    pthread_t waiters[TIMED], reader, taker, waiter, sleeper;
    struct sigaction count = {.sa_handler = count_signal};
    sigset_t blocked;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(pipe(tokens) == 0 && sem_init(&posts, 0, 0) == 0 && sem_init(&nobody, 0, 0) == 0);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGUSR2);
    CHECK(pthread_sigmask(SIG_BLOCK, &blocked, NULL) == 0);
    CHECK(sigaction(SIGUSR1, &count, NULL) == 0);
    for (int i = 0; i < TIMED; i++)
        CHECK(pthread_create(&waiters[i], NULL, wait_again, (void *)&timed[i]) == 0);
    CHECK(pthread_create(&reader, NULL, read_tokens, NULL) == 0);
    CHECK(pthread_create(&taker, NULL, take_posts, NULL) == 0);
    CHECK(pthread_create(&waiter, NULL, wait_for_signals, NULL) == 0);
    CHECK(pthread_create(&sleeper, NULL, be_interrupted, NULL) == 0);
    for (int round = 0; check_more(rounds, round); round++) {
        MPI_Allreduce(&round, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
        CHECK(sum == round * size);
        CHECK(write(tokens[1], &tokens_sent, sizeof(int)) == sizeof(int));
        tokens_sent++;
        posts_made++;
        CHECK(sem_post(&posts) == 0);
        CHECK(pthread_sigqueue(waiter, SIGUSR2, (union sigval){.sival_int = signals_sent}) == 0);
        signals_sent++;
        if (interrupted == handled && interrupted == round)
            CHECK(pthread_kill(sleeper, SIGUSR1) == 0);
        while (tokens_read < tokens_sent || posts_seen < posts_made ||
               signals_waited < signals_sent || interrupted <= round)
            usleep(1000);
    }
    stop_waiting = 1;
    CHECK(write(tokens[1], &(int){-1}, sizeof(int)) == sizeof(int) && sem_post(&posts) == 0);
    CHECK(pthread_sigqueue(waiter, SIGUSR2, (union sigval){.sival_int = -1}) == 0);
    CHECK(pthread_kill(sleeper, SIGUSR1) == 0);
    for (int i = 0; i < TIMED; i++)
        CHECK(pthread_join(waiters[i], NULL) == 0);
    CHECK(pthread_join(reader, NULL) == 0 && pthread_join(taker, NULL) == 0);
    CHECK(pthread_join(waiter, NULL) == 0 && pthread_join(sleeper, NULL) == 0);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        printf("OK waits\n");
    MPI_Finalize();
    return 0;
}
