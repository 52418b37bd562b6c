/*
 * inputs.c - its result depends on all that enters a program: time, random bytes, its pid, a file
 * that it reads and maps, standard input, signals; prints a line for each round. With another
 * argument it has shared memory.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define ROUNDS 12

volatile long result;
volatile int taken;

static void on_usr1(int signo)
{
    taken += signo;
}

static long random_byte(void)
{
    unsigned char byte = 0;
    int fd = open("/dev/urandom", O_RDONLY);
    if (fd < 0 || read(fd, &byte, 1) != 1)
        exit(1);
    close(fd);
    return byte;
}

static long mapped_byte(const char *file, int at)
{
    int fd = open(file, O_RDONLY);
    const unsigned char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        exit(1);
    close(fd);
    long byte = p[at];
    munmap((void *)p, 4096);
    return byte;
}

static void add(long x)
{
    result = result * 31 + x;
}

static void take_round(const char *file, int n)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    add(now.tv_usec);
    add(random_byte());
    add(getpid());
    add(mapped_byte(file, n));
    add(getchar());
    char *large = malloc((size_t)(n + 1) * 200000); /* mmap and munmap */
    large[n] = (char)result;
    add(large[n]);
    free(large);
    if (n % 4 == 3)
        raise(SIGUSR1);
    printf("round %d: %ld, signals %d\n", n, result, taken);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct sigaction act = {.sa_handler = on_usr1};
    sigaction(SIGUSR1, &act, NULL);
    if (argc > 2)
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int n = 0; n < ROUNDS; n++)
        take_round(argv[1], n);
    return 0;
}
