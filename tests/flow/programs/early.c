/*
 * early: threads that were made before MPI_Init, as those of a library's constructor are: two that
 * wait for tasks, one that waits in a system call, one that counts. What they did by the time that
 * the main thread looks is mixed into a number that goes round the ring, and differs from run to
 * run; a replay must send the recorded ones.
 *
 * Usage: early [ROUNDS [CASE]]: default 10.
 */
#define _GNU_SOURCE
#include "chain.h"
#include <pthread.h>
#include <time.h>
#include <unistd.h>

enum { TASKS = 30 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int tasks, done;
    uint64_t taken; /* by whom, in order */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static uint64_t count;
static int request[2], answer[2]; /* pipes */

static void *take_tasks(void *arg)
{
    uint64_t self = (uint64_t)(uintptr_t)arg;

    for (;;) {
        pthread_mutex_lock(&pool.lock);
        while (pool.tasks == 0)
            pthread_cond_wait(&pool.changed, &pool.lock);
        pool.tasks--;
        pool.taken = (pool.taken ^ self) * 31 + (uint64_t)pool.tasks;
        if (++pool.done == TASKS)
            pthread_cond_broadcast(&pool.changed);
        pthread_mutex_unlock(&pool.lock);
    }
    return NULL;
}

static void *give_answers(void *arg)
{
    struct {
        uint64_t number, when;
    } a;
    struct timespec now;

    while (read(request[0], &a.number, sizeof(a.number)) == sizeof(a.number)) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        a.when = (uint64_t)now.tv_nsec;
        a.number += count;
        if (write(answer[1], &a, sizeof(a)) != sizeof(a))
            break;
    }
    return NULL;
}

static void *count_on(void *arg)
{
    const struct timespec nap = {0, 20000};

    for (;;) {
        pthread_mutex_lock(&counting);
        for (int i = 0; i < 1000; i++)
            count++;
        pthread_mutex_unlock(&counting);
        nanosleep(&nap, NULL);
    }
    return NULL;
}

/* Before main, and so before MPI_Init. */
__attribute__((constructor)) static void start_threads(void)
{
    void *(*const fn[])(void *) = {take_tasks, take_tasks, give_answers, count_on};
    pthread_t thread;

    CHECK(pipe(request) == 0 && pipe(answer) == 0);
    for (uintptr_t i = 0; i < sizeof(fn) / sizeof(fn[0]); i++)
        CHECK(pthread_create(&thread, NULL, fn[i], (void *)(i + 1)) == 0 &&
              pthread_detach(thread) == 0);
}

static void tasks(int round)
{
    pthread_mutex_lock(&pool.lock);
    pool.done = 0;
    pool.tasks = TASKS;
    pthread_cond_broadcast(&pool.changed);
    while (pool.done < TASKS)
        pthread_cond_wait(&pool.changed, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    mix(pool.taken);
    exchange();
}

static void answers(int round)
{
    uint64_t number = (uint64_t)round, a[2];

    for (int i = 0; i < 5; i++) {
        CHECK(write(request[1], &number, sizeof(number)) == sizeof(number));
        CHECK(read(answer[0], a, sizeof(a)) == sizeof(a) && a[0] >= number);
        mix(a[0]);
        mix(a[1]);
    }
    exchange();
}

static void *look(void *arg)
{
    pthread_mutex_lock(&counting);
    mix(count);
    pthread_mutex_unlock(&counting);
    return NULL;
}

/* And one that is made now. */
static void counts(int round)
{
    pthread_t thread;

    look(NULL);
    exchange();
    CHECK(pthread_create(&thread, NULL, look, NULL) == 0 && pthread_join(thread, NULL) == 0);
    exchange();
}

static const struct check_case cases[] = {
    {"tasks", tasks}, {"answers", answers}, {"counts", counts}, {NULL, NULL}};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "early", cases, 10);
}
