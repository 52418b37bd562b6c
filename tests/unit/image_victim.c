/*
 * image_victim.c - a small threaded program that ends in a segmentation fault, for test_image_gdb
 *
 * Two threads wait in functions with names of their own; then the main thread writes through a
 * pointer that it took from a global.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct cell {
    int index;
    double *field;
};

static pthread_barrier_t ready;
_Thread_local int local_number = 1;
int global_number = 4711;
int *target;

void wait_for_left(int number);
void wait_for_right(int number);
int store_far(struct cell *cell, int value);

__attribute__((noinline)) void wait_for_left(int number)
{
    local_number = number;
    pthread_barrier_wait(&ready);
    pause();
}

__attribute__((noinline)) void wait_for_right(int number)
{
    local_number = number;
    pthread_barrier_wait(&ready);
    pause();
}

static void *left(void *arg)
{
    wait_for_left(100);
    return arg;
}

static void *right(void *arg)
{
    wait_for_right(200);
    return arg;
}

__attribute__((noinline)) int store_far(struct cell *cell, int value)
{
    cell->field[0] = 2.5;
    if (__builtin_cpu_supports("avx512f"))
        __asm__ volatile("vpbroadcastq %0, %%zmm5; vpbroadcastq %0, %%zmm17" ::"r"(0x1234567890l)
                         : "xmm5"); /* zmm17 is nobody's here */
    else if (__builtin_cpu_supports("avx2"))
        __asm__ volatile("vmovq %0, %%xmm5; vpbroadcastq %%xmm5, %%ymm5" ::"r"(0x1234567890l)
                         : "xmm5");
    *target = value;
    return cell->index;
}

int main(void)
{
    pthread_t threads[2];
    struct cell cell = {17, calloc(1000, sizeof(double))};
    pthread_barrier_init(&ready, NULL, 3);
    pthread_create(&threads[0], NULL, left, NULL);
    pthread_create(&threads[1], NULL, right, NULL);
    pthread_barrier_wait(&ready);
    usleep(50000); /* the threads reach pause() */
    global_number++;
    return store_far(&cell, 42);
}
