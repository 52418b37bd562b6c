/*
 * loads: a program that loads MPI as it runs, as interpreters do. It is linked with no MPI library,
 * and changes, before it loads one, what a process hands on when it executes another program.
 *
 * Usage: loads [ROUNDS 20 [LIBRARY libmpich.so.12]]. Any number of ranks.
 */
#include <dlfcn.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *library;

static void check(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "loads: not so: %s\n", what);
    exit(99);
}

static void *function(const char *name)
{
    void *f = dlsym(library, name);
    check(f != NULL, name);
    return f;
}

#define CALL(name) ((int (*)())function(name))

static void change_process(void)
{
    char directory[4096];
    struct sigaction now;
    sigset_t blocked;

    check(getcwd(directory, sizeof(directory)) && directory[1], "begins where it was started");
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    check(!sigismember(&blocked, SIGUSR1), "begins with SIGUSR1 free");
    sigaction(SIGUSR2, NULL, &now);
    check(now.sa_handler == SIG_DFL, "begins with SIGUSR2 as it is by default");
    check(strcmp(getenv("PATH"), "/nowhere"), "begins with the environment that it was given");

    check(chdir("/") == 0 && setenv("PATH", "/nowhere", 1) == 0, "goes to /");
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    signal(SIGUSR2, SIG_IGN);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 20;
    const char *path = argc > 2 ? argv[2] : "libmpich.so.12";
    int rank, size, sum = 0, provided;

    change_process();
    library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library)
        fprintf(stderr, "loads: %s\n", dlerror());
    check(library != NULL, path);
    CALL("MPI_Init_thread")(NULL, NULL, MPI_THREAD_SINGLE, &provided);
    CALL("MPI_Comm_rank")(MPI_COMM_WORLD, &rank);
    CALL("MPI_Comm_size")(MPI_COMM_WORLD, &size);
    for (int i = 0; i < rounds; i++) {
        int mine = rank + i, token = rank;

        CALL("MPI_Allreduce")(&mine, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
        check(sum == size * (size - 1) / 2 + size * i, "the sum of all ranks");
        CALL("PMPI_Sendrecv_replace")(&token, 1, MPI_INT, (rank + 1) % size, 1,
                                      (rank + size - 1) % size, 1, MPI_COMM_WORLD,
                                      MPI_STATUS_IGNORE);
        check(token == (rank + size - 1) % size, "a message of the neighbour");
    }
    CALL("MPI_Barrier")(MPI_COMM_WORLD);
    if (rank == 0)
        printf("OK loads\n");
    CALL("MPI_Finalize")();
    return 0;
}
