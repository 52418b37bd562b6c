/*
 * crowd.c - threads that come and go, meet one function, and send themselves signals, all counted
 *
 * With an argument the first thread leaves before the others.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#define THREADS 6
#define ROUNDS  50

volatile long hits;
static long signals;
__thread int mine;

static void on_usr1(int signo)
{
    __atomic_fetch_add(&signals, 1, __ATOMIC_RELAXED);
}

__attribute__((noinline)) void hot(int i)
{
    mine += i;
    __atomic_fetch_add(&hits, 1, __ATOMIC_RELAXED);
}

static void *short_lived(void *arg)
{
    hot(1);
    return NULL;
}

static void *work(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        hot(i);
        if (i % 10 == 0) {
            pthread_t t;
            pthread_create(&t, NULL, short_lived, NULL);
            pthread_join(t, NULL);
        }
        if (i % 16 == 0)
            pthread_kill(pthread_self(), SIGUSR1);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t t[THREADS];
    signal(SIGUSR1, on_usr1);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, work, NULL);
    if (argc > 1)
        pthread_exit(NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    printf("hits %ld signals %ld\n", hits, signals);
    return 3;
}
