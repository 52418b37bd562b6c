/*
 * actions.c - does what its first argument says, and exits with 42
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

volatile int counter;
volatile long long wide[2];
int taken;

static void on_usr1(int signo)
{
    taken++;
}

int factorial(int n)
{
    return n < 2 ? 1 : n * factorial(n - 1);
}

void count(int n)
{
    int i;
    for (i = 0; i < n; i++) {
        counter++;
        wide[1] = counter;
    }
}

int in_child(int n)
{
    return n + 1;
}

static void do_count(void)
{
    count(1000);
}

static void do_factorial(void)
{
    printf("factorial %d\n", factorial(5));
}

static void do_signals(void)
{
    signal(SIGUSR1, on_usr1);
    raise(SIGUSR1);
    raise(SIGUSR1);
    printf("taken %d\n", taken);
}

static void do_segv(void)
{
    volatile int *nowhere = (int *)0x123450;
    *nowhere = 1;
}

static void report_child(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status))
        printf("child exited %d\n", WEXITSTATUS(status));
    else
        printf("child died of signal %d\n", WTERMSIG(status));
}

static void do_fork(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_child(6));
    report_child(pid);
    count(1);
}

static void do_vfork(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execl("/bin/true", "true", NULL);
        _exit(9);
    }
    report_child(pid);
    count(1);
}

static void do_system(void)
{
    int status = system("echo from a shell");
    printf("shell %d\n", WEXITSTATUS(status));
    count(1);
}

static void do_exec(void)
{
    execl("/proc/self/exe", "actions", "factorial", NULL);
}

static void do_trap(void)
{
    for (int i = 0; i < 3; i++) {
        __asm__ volatile(".globl own_trap\nown_trap: int3");
        counter++;
    }
}

static void do_spin(void)
{
    for (;;)
        counter++;
}

static void do_sleep(void)
{
    for (;;) {
        sleep(1000);
        counter++;
    }
}

static void *sleep_in_thread(void *arg)
{
    do_sleep();
    return arg;
}

static void do_threads(void)
{
    pthread_t t;
    for (int i = 0; i < 100; i++)
        pthread_create(&t, NULL, sleep_in_thread, NULL);
    do_sleep();
}

static const struct {
    const char *name;
    void (*run)(void);
} actions[] = {
    {"count", do_count},   {"factorial", do_factorial}, {"signals", do_signals},
    {"segv", do_segv},     {"abort", abort},            {"fork", do_fork},
    {"vfork", do_vfork},   {"system", do_system},       {"exec", do_exec},
    {"spin", do_spin},     {"sleep", do_sleep},         {"trap", do_trap},
    {"threads", do_threads},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof actions / sizeof actions[0]; i++)
        if (!strcmp(actions[i].name, argv[1]))
            actions[i].run();
    fflush(stdout);
    return 42;
}
