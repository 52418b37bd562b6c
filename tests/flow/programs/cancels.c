/*
 * cancels: threads that are cancelled wherever they are: in calls that wait, on their way between
 * calls, in loops that spin, before they have begun, by themselves. How far they had come by then
 * is mixed into a number that goes round the ring, and differs from run to run; a replay must send
 * the recorded ones.
 *
 * Usage: cancels [ROUNDS [CASE]].
 */
#define _GNU_SOURCE
#include "chain.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

/* What a thread of one case has, and what becomes of it. */
struct worker {
    pthread_t thread;
    atomic_int ready;
    volatile uint64_t rounds, cleaned;
};

static pthread_key_t at_end;
static int ended; /* destructors that have run; the main thread looks when it has joined */

static void count_end(void *arg)
{
    ended++;
}

static void clean(void *arg)
{
    struct worker *w = arg;
    struct timeval now;

    CHECK(gettimeofday(&now, NULL) == 0); /* an event of the thread that ends */
    w->cleaned = w->rounds * 2 + 1;
}

static void start(struct worker *w, void *(*fn)(void *))
{
    *w = (struct worker){0};
    CHECK(pthread_create(&w->thread, NULL, fn, w) == 0);
}

static void wait_ready(const struct worker *w)
{
    while (!w->ready)
        usleep(100);
}

static void join(const struct worker *w)
{
    void *result;

    CHECK(pthread_join(w->thread, &result) == 0 && result == PTHREAD_CANCELED);
    CHECK(w->cleaned == w->rounds * 2 + 1);
    mix(w->rounds);
}

/* ---- in calls that wait */

static int pipes[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static void *wait_in_read(void *arg)
{
    struct worker *w = arg;
    char c;

    pthread_setspecific(at_end, w);
    pthread_cleanup_push(clean, w);
    w->ready = 1;
    while (read(pipes[0], &c, 1) == 1)
        w->rounds++;
    pthread_cleanup_pop(0);
    return NULL;
}

static void unlock(void *arg)
{
    CHECK(pthread_mutex_unlock(&lock) == 0);
}

static void *wait_for_condition(void *arg)
{
    struct worker *w = arg;

    pthread_setspecific(at_end, w);
    pthread_cleanup_push(clean, w);
    pthread_mutex_lock(&lock);
    pthread_cleanup_push(unlock, NULL);
    w->ready = 1;
    for (;;) {
        pthread_cond_wait(&never, &lock);
        w->rounds++;
    }
    pthread_cleanup_pop(1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *sleep_often(void *arg)
{
    struct worker *w = arg;

    pthread_setspecific(at_end, w);
    pthread_cleanup_push(clean, w);
    w->ready = 1;
    for (;;) {
        usleep(50);
        w->rounds++;
    }
    pthread_cleanup_pop(0);
    return NULL;
}

static void waits(int round)
{
    struct worker w[3];

    CHECK(pipe(pipes) == 0);
    ended = 0;
    start(&w[0], wait_in_read);
    start(&w[1], wait_for_condition);
    start(&w[2], sleep_often);
    for (int i = 0; i < 3; i++)
        wait_ready(&w[i]);
    for (int i = 0; i < 5; i++) {
        CHECK(write(pipes[1], "x", 1) == 1 && pthread_cond_signal(&never) == 0);
        exchange();
    }
    for (int i = 0; i < 3; i++)
        CHECK(pthread_cancel(w[i].thread) == 0);
    exchange();
    for (int i = 0; i < 3; i++)
        join(&w[i]);
    CHECK(pthread_mutex_trylock(&lock) == 0 && pthread_mutex_unlock(&lock) == 0);
    CHECK(ended == 3 && close(pipes[0]) == 0 && close(pipes[1]) == 0);
    exchange();
}

/* ---- between calls */

static void *work(void *arg)
{
    struct worker *w = arg;
    struct timespec now;

    pthread_cleanup_push(clean, w);
    w->ready = 1;
    for (;;) {
        w->rounds++;
        clock_gettime(CLOCK_MONOTONIC, &now);
        pthread_testcancel();
    }
    pthread_cleanup_pop(0);
    return NULL;
}

/* The same, which may end anywhere. */
static void *work_anywhere(void *arg)
{
    struct worker *w = arg;
    struct timespec now;

    pthread_cleanup_push(clean, w);
    CHECK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL) == 0);
    w->ready = 1;
    for (;;) {
        w->rounds++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    pthread_cleanup_pop(0);
    return NULL;
}

/* It must not before it says so. */
static void *work_in_peace(void *arg)
{
    struct worker *w = arg;

    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL) == 0);
    w->ready = 1;
    for (int i = 0; i < 20; i++) {
        usleep(20);
        w->rounds++;
    }
    pthread_cleanup_push(clean, w);
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL) == 0);
    for (;;)
        pthread_testcancel();
    pthread_cleanup_pop(0);
    return NULL;
}

static void works(int round)
{
    static void *(*const how[])(void *) = {work, work_anywhere, work_in_peace};
    struct worker w[3];

    for (int i = 0; i < 3; i++) {
        start(&w[i], how[i]);
        wait_ready(&w[i]);
    }
    exchange();
    usleep(300);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_cancel(w[i].thread) == 0);
    for (int i = 0; i < 3; i++)
        join(&w[i]);
    CHECK(w[2].rounds == 20);
    exchange();
}

/* ---- in loops that nothing else ends */

static void *spin(void *arg)
{
    struct worker *w = arg;

    pthread_cleanup_push(clean, w);
    CHECK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL) == 0);
    w->ready = 1;
    for (;;)
        __builtin_ia32_pause();
    pthread_cleanup_pop(0);
    return NULL;
}

static void *stand(void *arg)
{
    struct worker *w = arg;

    pthread_cleanup_push(clean, w);
    CHECK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL) == 0);
    w->ready = 1;
    for (;;)
        atomic_signal_fence(memory_order_seq_cst);
    pthread_cleanup_pop(0);
    return NULL;
}

static void spins(int round)
{
    struct worker w[2];

    start(&w[0], spin);
    start(&w[1], stand);
    wait_ready(&w[0]);
    wait_ready(&w[1]);
    exchange();
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_cancel(w[i].thread) == 0);
        join(&w[i]);
    }
    exchange();
}

/* ---- at the edges of its life */

static void *cancel_itself(void *arg)
{
    struct worker *w = arg;

    pthread_cleanup_push(clean, w);
    CHECK(pthread_cancel(pthread_self()) == 0);
    for (;;)
        pthread_testcancel();
    pthread_cleanup_pop(0);
    return NULL;
}

static void *be_brief(void *arg)
{
    struct worker *w = arg;

    w->rounds = 7;
    w->ready = 1;
    return w;
}

static void edges(int round)
{
    struct worker w[3];
    void *result;

    start(&w[0], work);
    CHECK(pthread_cancel(w[0].thread) == 0); /* it may not have begun */
    start(&w[1], cancel_itself);
    start(&w[2], be_brief);
    wait_ready(&w[2]);
    CHECK(pthread_cancel(w[2].thread) == 0); /* it may have ended */
    CHECK(pthread_join(w[2].thread, &result) == 0);
    mix(result == PTHREAD_CANCELED);
    join(&w[0]);
    join(&w[1]);
    exchange();
}

static const struct check_case cases[] = {
    {"waits", waits}, {"works", works}, {"spins", spins}, {"edges", edges}, {NULL, NULL},
};

int main(int argc, char **argv)
{
    CHECK(pthread_key_create(&at_end, count_end) == 0);
    return check_main(argc, argv, "cancels", cases, 10);
}
