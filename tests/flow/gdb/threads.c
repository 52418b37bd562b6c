/*
 * threads.c - threads with thread-local variables, in the program, in a library it links and in one
 * it opens; all meet before they end
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared.h"

#define THREADS 4

__thread int tls_number = -1;
static pthread_barrier_t barrier;
static int (*opened_number)(int);
volatile int met;

static void meet(int number)
{
    met = number;
    pthread_barrier_wait(&barrier);
}

static void *work(void *arg)
{
    int number = (int)(long)arg;
    char name[16];
    snprintf(name, sizeof name, "worker-%d", number);
    pthread_setname_np(pthread_self(), name);
    tls_number = 100 + number;
    shared_set(200 + number);
    if (opened_number)
        opened_number(300 + number);
    pthread_barrier_wait(&barrier);
    if (number == 0)
        meet(number);
    else
        pthread_barrier_wait(&barrier);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t t[THREADS];
    if (argc > 1) {
        void *library = dlopen(argv[1], RTLD_NOW);
        if (!library) {
            fprintf(stderr, "%s\n", dlerror());
            return 2;
        }
        opened_number = (int (*)(int))dlsym(library, "opened_set");
    }
    pthread_barrier_init(&barrier, NULL, THREADS);
    tls_number = 99;
    for (long i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    printf("all joined\n");
    return 0;
}
