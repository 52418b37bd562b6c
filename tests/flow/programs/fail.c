/*
 * fail: rank 1 fails in the way that is asked for, after some messages, in a function fail_NAME().
 *
 * Usage: fail mpi|stack|overrun|thread_stack|assertion|division|mapping|broken_pipe|trap|
 *             breakpoint|abort|alone|idle
 */
#define _GNU_SOURCE
#include "check.h"
#include <assert.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static volatile int depth, zero;

/* A buffer that is not there: MPI falls over. */
static void fail_mpi(void)
{
    int sum = 0;

    MPI_Reduce_local((void *)16, &sum, 1, MPI_INT, MPI_SUM);
}

static int fall(int n)
{
    volatile char big[4096];

    big[0] = (char)n;
    depth++;
    return n < 0 ? 0 : fall(n + 1) + big[0];
}

static void fail_stack(void)
{
    zero = fall(0);
}

static int go_down(long frames)
{
    volatile char big[4096];

    big[0] = 0;
    return frames > 0 ? go_down(frames - 1) + big[0] : 0;
}

/* No further than 256 KiB below the stack, where another mapping may lie. */
static void fail_overrun(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_STACK, &limit);
    zero = go_down((long)(limit.rlim_cur + (256 << 10)) / 4096);
}

static void *fall_in_thread(void *arg)
{
    fail_stack();
    return NULL;
}

static void fail_thread_stack(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, fall_in_thread, NULL);
    pthread_join(thread, NULL);
}

static void fail_assertion(void)
{
    assert(zero == 1);
}

static void fail_division(void)
{
    feenableexcept(FE_DIVBYZERO);
    volatile double x = 1.0 / zero;
    (void)x;
}

/* The file is shorter than its mapping. */
static void fail_mapping(void)
{
    FILE *file = tmpfile();
    volatile char *p = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fileno(file), 0);

    zero = p[4096];
}

static void fail_broken_pipe(void)
{
    int ends[2];

    if (pipe(ends) == 0 && close(ends[0]) == 0 && write(ends[1], "x", 1) < 0)
        abort();
}

static void fail_trap(void)
{
    raise(SIGTRAP);
}

static void fail_breakpoint(void)
{
    __asm__ volatile("int3");
}

/* While rank 0 waits for what never comes. */
static void fail_awaited(void)
{
    usleep(200000);
    abort();
}

static void wait_for_byte(void)
{
    char byte;
    int ends[2];

    CHECK(pipe(ends) == 0 && read(ends[0], &byte, 1) == 1);
}

static void fail_abort(void)
{
    MPI_Abort(MPI_COMM_WORLD, 9);
}

/* Long after its last MPI call. */
static void fail_alone(void)
{
    raise(SIGSEGV);
}

/* Its peers have threads that do nothing. */
static void *wait_for_ever(void *arg)
{
    for (;;)
        pause();
    return arg;
}

static void fail_idle(void)
{
    raise(SIGSEGV);
}

static const struct {
    const char *name;
    void (*fail)(void);
} ways[] = {{"mpi", fail_mpi},
            {"stack", fail_stack},
            {"overrun", fail_overrun},
            {"thread_stack", fail_thread_stack},
            {"assertion", fail_assertion},
            {"division", fail_division},
            {"mapping", fail_mapping},
            {"broken_pipe", fail_broken_pipe},
            {"trap", fail_trap},
            {"breakpoint", fail_breakpoint},
            {"awaited", fail_awaited},
            {"abort", fail_abort},
            {"alone", fail_alone},
            {"idle", fail_idle}};

int main(int argc, char **argv)
{
    pthread_t thread;
    int sum;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (argc > 1 && strcmp(argv[1], "idle") == 0)
        CHECK(pthread_create(&thread, NULL, wait_for_ever, NULL) == 0);
    for (int i = 0; i < 20; i++)
        MPI_Allreduce(&i, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    while (argc > 1 && strcmp(argv[1], "alone") == 0 && access("go", F_OK) != 0)
        usleep(1000);
    if (argc > 1 && rank == 0 && strcmp(argv[1], "awaited") == 0)
        wait_for_byte();
    for (size_t i = 0; argc > 1 && rank == 1 && i < sizeof(ways) / sizeof(ways[0]); i++)
        if (strcmp(ways[i].name, argv[1]) == 0)
            ways[i].fail();
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}
