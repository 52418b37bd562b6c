/*
 * replayed.c - stands for an isolated rank: announces events by int3 with rax = ANNOUNCE,
 * rdi = kind, rsi = text
 */
#include <stdio.h>
#include <unistd.h>

#include "announce.h"

volatile int step_number;
static __thread int tls_number = 5;

__attribute__((noinline)) static void announce(long kind, const char *text)
{
    long what = ANNOUNCE;
    __asm__ volatile("int3; xor %%eax, %%eax" : "+a"(what) : "D"(kind), "S"(text) : "memory");
}

static void work(int n)
{
    step_number = n;
    tls_number += n;
}

int main(void)
{
    work(1);
    announce(ANNOUNCE_NOTHING, "never seen");
    work(2);
    announce(ANNOUNCE_TEXT, "diverged at event 48213: MPI_Send has other data than recorded\n");
    work(3);
    announce(ANNOUNCE_END, "end of recording: event 50000\n");
    return 1; /* never reached */
}
