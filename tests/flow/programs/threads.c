/*
 * threads: pthreads compute while the main thread does MPI (MPI_THREAD_FUNNELED); mutexes,
 * condition variables, thread-local and robust state must survive whatever happens to the process.
 *
 * Usage: threads [ROUNDS]. Ranks: 2 or more. ROUNDS may be a file (see check.h); then the state,
 * which depends on their number, is not printed.
 */
#include "check.h"
#include <pthread.h>
#include <time.h>

enum { THREADS = 3, WORK = 200000 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t start, done;
    int round; /* what the threads work on; -1: leave */
    int busy;
    unsigned long seed;
    unsigned long result[THREADS];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .start = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static _Thread_local unsigned long rounds_done;

static unsigned long churn(unsigned long x, int n)
{
    for (int i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

static void *work(void *arg)
{
    int me = *(int *)arg, seen = 0;
    struct timespec now;

    for (;;) {
        pthread_mutex_lock(&pool.lock);
        while (pool.round == seen)
            pthread_cond_wait(&pool.start, &pool.lock);
        seen = pool.round;
        unsigned long seed = pool.seed + (unsigned long)me + 1;
        pthread_mutex_unlock(&pool.lock);
        if (seen < 0)
            break;
        rounds_done++;
        unsigned long result = churn(seed, WORK) + rounds_done;
        clock_gettime(CLOCK_MONOTONIC, &now); /* all at once, and beside the main thread's MPI */
        pthread_mutex_lock(&pool.lock);
        pool.result[me] = result;
        if (--pool.busy == 0)
            pthread_cond_signal(&pool.done);
        pthread_mutex_unlock(&pool.lock);
    }
    return (void *)rounds_done;
}

static void start_round(int round, unsigned long seed)
{
    pthread_mutex_lock(&pool.lock);
    pool.round = round;
    pool.seed = seed;
    pool.busy = THREADS;
    pthread_cond_broadcast(&pool.start);
    pthread_mutex_unlock(&pool.lock);
}

static unsigned long finish_round(void)
{
    unsigned long sum = 0;

    pthread_mutex_lock(&pool.lock);
    while (pool.busy > 0)
        pthread_cond_wait(&pool.done, &pool.lock);
    for (int i = 0; i < THREADS; i++)
        sum += pool.result[i];
    pthread_mutex_unlock(&pool.lock);
    return sum;
}

/* Messages go round while the threads compute. */
static void talk(unsigned long token)
{
    unsigned long coming;

    for (int i = 0; i < size; i++) {
        MPI_Sendrecv(&token, 1, MPI_UNSIGNED_LONG, neighbour(1), 1, &coming, 1, MPI_UNSIGNED_LONG,
                     neighbour(-1), 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        token = coming;
    }
    CHECK(token % 1000 == (unsigned long)rank);
}

int main(int argc, char **argv)
{
    const char *rounds = argc > 1 ? argv[1] : "200";
    int level, ids[THREADS], round;
    unsigned long seed = 88172645463325252ul, sum = 0;
    pthread_t threads[THREADS];

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(level >= MPI_THREAD_FUNNELED);
    for (int i = 0; i < THREADS; i++) {
        ids[i] = i;
        CHECK(pthread_create(&threads[i], NULL, work, &ids[i]) == 0);
    }
    for (round = 1; check_more(rounds, round - 1); round++) {
        unsigned long expected = 0;

        start_round(round, seed + (unsigned long)rank);
        talk((unsigned long)round * 1000 + (unsigned long)rank);
        sum = finish_round();
        if (round % 50 == 1) {
            for (int i = 0; i < THREADS; i++)
                expected +=
                    churn(seed + (unsigned long)(rank + i + 1), WORK) + (unsigned long)round;
            CHECK(sum == expected);
        }
        MPI_Allreduce(&sum, &seed, 1, MPI_UNSIGNED_LONG, MPI_BXOR, MPI_COMM_WORLD);
    }
    start_round(-1, 0);
    for (int i = 0; i < THREADS; i++) {
        void *done;

        CHECK(pthread_join(threads[i], &done) == 0);
        CHECK((unsigned long)done == (unsigned long)round - 1);
    }
    if (rank == 0 && check_counted(rounds))
        printf("state %lu\n", seed);
    if (rank == 0)
        printf("OK threads\n");
    MPI_Finalize();
    return 0;
}
