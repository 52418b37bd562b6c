/*
 * reverse_wait.c - waiting for copies of a process, as long as somebody cares
 */
#include "gdbbridge/reverse_wait.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
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

pid_t reverse_wait_any(int *status)
{
    pid_t got = -1;
    errno = EINTR;
    while (got < 0 && errno == EINTR && go_on_waiting())
        got = waitpid(-1, status, __WALL);
    return got;
}

/* ---- statuses of others ---- */

static struct kept {
    struct kept *next;
    pid_t pid;
    int status;
} *kept;

void reverse_wait_keep(pid_t pid, int status)
{
    struct kept *k = malloc(sizeof *k), **end = &kept;
    if (!k)
        abort();
    *k = (struct kept){NULL, pid, status};
    while (*end)
        end = &(*end)->next;
    *end = k;
}

static pid_t take(struct kept **at, int *status)
{
    struct kept *k = *at;
    if (!k)
        return 0;
    pid_t pid = k->pid;
    *status = k->status;
    *at = k->next;
    free(k);
    return pid;
}

bool reverse_wait_kept(pid_t pid, int *status)
{
    struct kept **at = &kept;
    while (*at && (*at)->pid != pid)
        at = &(*at)->next;
    return take(at, status) != 0;
}

pid_t reverse_wait_kept_any(int *status)
{
    return take(&kept, status);
}
