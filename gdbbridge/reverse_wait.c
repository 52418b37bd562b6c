/*
 * reverse_wait.c - waiting for copies of a process, as long as somebody cares
 */
#include "gdbbridge/reverse_wait.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/time.h>
#include <sys/wait.h>

#define TICK_US 100000

static volatile sig_atomic_t ticked;
static bool (*ask)(void *arg);
static void *ask_arg;
static bool given_up;

static void on_tick(int signal)
{
    (void)signal;
    ticked = 1;
}

static void tick_every(long us)
{
    struct itimerval every = {{0, us}, {0, us}};
    setitimer(ITIMER_REAL, &every, NULL);
}

void reverse_wait_begin(bool (*give_up)(void *arg), void *arg)
{
    struct sigaction act = {.sa_handler = on_tick}; /* no SA_RESTART: it ends waitpid(2) */
    ask = give_up;
    ask_arg = arg;
    given_up = false;
    sigaction(SIGALRM, &act, NULL);
    tick_every(TICK_US);
}

bool reverse_wait_end(void)
{
    tick_every(0);
    ask = NULL;
    bool r = given_up;
    given_up = false;
    return r;
}

static bool go_on_waiting(void)
{
    if (ticked) {
        ticked = 0;
        given_up |= ask && ask(ask_arg);
    }
    return !given_up;
}

/* A tick between the question and the call is answered at the next one. */
static int wait_stop(pid_t pid, bool soon)
{
    int status;
    pid_t got = -1;
    errno = EINTR;
    while (got < 0 && errno == EINTR && (soon || go_on_waiting()))
        got = waitpid(pid, &status, __WALL);
    return got == pid && WIFSTOPPED(status) ? status : -1;
}

int reverse_wait(pid_t pid)
{
    return wait_stop(pid, false);
}

int reverse_wait_soon(pid_t pid)
{
    return wait_stop(pid, true);
}
