/*
 * schedule: what threads of a rank do to each other, mixed into a number that goes round the ring.
 *
 * Usage: schedule [ROUNDS [CASE]]: default 10. OpenMP reductions, a pool that takes tasks in the
 * order in which its threads come, atomic operations, threads that spin, signals. The numbers
 * differ from run to run; a replay must send the recorded ones. CASE may be "freely", too: what is
 * not recorded in turns.
 */
#define _GNU_SOURCE
#include "chain.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <unistd.h>

enum { THREADS = 3, TASKS = 40, TERMS = 20000 };

/* The last bits of the sum depend on the order in which threads add theirs. */
static void reductions(int round)
{
    double sum = 0;
    uint64_t bits;

#pragma omp parallel for reduction(+ : sum) num_threads(THREADS) schedule(static)
    for (int i = 1; i < TERMS; i++)
        sum += 1.0 / (double)(i + round);
    memcpy(&bits, &sum, sizeof(bits));
    mix(bits);
#pragma omp parallel for num_threads(THREADS) schedule(dynamic, 500)
    for (int i = 0; i < TERMS / 4; i++)
        if (i % 1000 == 0)
#pragma omp critical
            mix((uint64_t)i);
    exchange();
}

/* ---- a pool: who takes which task is a matter of chance */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t more;
    int next, last;
    uint64_t taken; /* by whom, in order */
    _Atomic uint64_t mixed;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static void *take_tasks(void *arg)
{
    uint64_t self = (uint64_t)(uintptr_t)arg;

    for (;;) {
        pthread_mutex_lock(&pool.lock);
        while (pool.next == pool.last && pool.last < TASKS)
            pthread_cond_wait(&pool.more, &pool.lock);
        if (pool.next == TASKS)
            break;
        int task = pool.next++;
        pool.taken = (pool.taken ^ self) * 31 + (uint64_t)task;
        pthread_mutex_unlock(&pool.lock);
        for (int i = 0; i < 200; i++) {
            uint64_t old = pool.mixed;
            while (!atomic_compare_exchange_weak(&pool.mixed, &old, old * 33 + self))
                ;
        }
        if (task % 8 == 0)
            usleep(100);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

static void tasks(int round)
{
    pthread_t thread[THREADS];

    pool.next = pool.last = 0;
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread[i], NULL, take_tasks, (void *)(i + 1)) == 0);
    for (int i = 0; i < TASKS; i++) {
        pthread_mutex_lock(&pool.lock);
        pool.last++;
        pthread_cond_signal(&pool.more);
        pthread_mutex_unlock(&pool.lock);
        if (i % 10 == 0)
            exchange();
    }
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.more);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    mix(pool.taken);
    mix(pool.mixed);
    exchange();
}

/* ---- a thread that spins for another */

static atomic_int ball;

static void *play(void *arg)
{
    for (int i = 0; i < 20; i++) {
        while (ball != 2 * i + 1)
            __builtin_ia32_pause();
        ball++;
    }
    return NULL;
}

static void spins(int round)
{
    pthread_t other;

    ball = 0;
    CHECK(pthread_create(&other, NULL, play, NULL) == 0);
    for (int i = 0; i < 20; i++) {
        ball++;
        while (ball != 2 * i + 2)
            __builtin_ia32_pause();
    }
    CHECK(pthread_join(other, NULL) == 0);
    mix((uint64_t)ball);
    exchange();
}

/* ---- threads that spin for each other with a mutex, which may be held where one is interrupted */

static struct {
    pthread_mutex_t lock;
    int left[8];
} meeting = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void meet(int *left)
{
    bool last = false;

    for (int once = 1; !last; once = 0) {
        pthread_mutex_lock(&meeting.lock);
        *left -= once;
        last = *left == 0;
        pthread_mutex_unlock(&meeting.lock);
    }
}

static void *come(void *arg)
{
    for (int i = 0; i < 8; i++)
        meet(&meeting.left[i]);
    return NULL;
}

static void meetings(int round)
{
    pthread_t thread[THREADS];

    for (int i = 0; i < 8; i++)
        meeting.left[i] = THREADS;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread[i], NULL, come, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    exchange();
}

/* ---- signals: how far the program had come when they came */

static volatile uint64_t steps, seen;
static volatile sig_atomic_t rings;

static void ring(int sig)
{
    seen = seen * 31 + steps;
    rings++;
}

static void signals(int round)
{
    const struct timeval wait = {0, 2000};
    struct itimerval soon = {.it_value = wait}, again = {wait, wait}, none = {{0, 0}, {0, 0}};
    struct timeval now;

    CHECK(signal(SIGALRM, ring) != SIG_ERR);
    rings = 0;
    steps = 0;
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    while (!rings) {
        gettimeofday(&now, NULL);
        steps++;
    }
    CHECK(raise(SIGALRM) == 0 && rings == 2);
    CHECK(setitimer(ITIMER_REAL, &again, NULL) == 0);
    while (rings < 3) /* one may come before */
        pause();
    CHECK(setitimer(ITIMER_REAL, &none, NULL) == 0);
    mix(seen);
    exchange();
}

/* ---- signals to threads that have just been made */

static __thread volatile sig_atomic_t greeted;

static void greet(int sig)
{
    greeted = 1;
}

static void *await_greeting(void *arg)
{
    uint64_t *waited = arg;
    struct timeval now;

    for (; !greeted; ++*waited)
        gettimeofday(&now, NULL);
    return NULL;
}

static void greetings(int round)
{
    pthread_t thread;

    CHECK(signal(SIGUSR2, greet) != SIG_ERR);
    for (int i = 0; i < 10; i++) {
        uint64_t waited = 0;
        CHECK(pthread_create(&thread, NULL, await_greeting, &waited) == 0);
        CHECK(pthread_kill(thread, SIGUSR2) == 0 && pthread_join(thread, NULL) == 0);
        mix(waited);
    }
    exchange();
}

/* ---- threads of a library that gets its tasks by ways of its own */

static void freely(int round)
{
    static int done[TASKS];

#pragma omp parallel num_threads(THREADS)
#pragma omp single
#pragma omp taskloop
    for (int i = 0; i < TASKS; i++)
        done[i] = i + round;
    for (int i = 0; i < TASKS; i++)
        CHECK(done[i] == i + round);
    exchange();
}

static const struct check_case free_cases[] = {{"freely", freely}, {NULL, NULL}};

static const struct check_case cases[] = {
    {"reductions", reductions}, {"tasks", tasks},     {"spins", spins},
    {"meetings", meetings},     {"signals", signals}, {"greetings", greetings},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    bool in_turns = argc < 3 || strcmp(argv[2], free_cases[0].name) != 0;

    return check_main(argc, argv, "schedule", in_turns ? cases : free_cases, 10);
}
