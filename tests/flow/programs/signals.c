/*
 * signals: how far the program was when each signal came, mixed into a number that goes round.
 *
 * Usage: signals [ROUNDS [CASE]]: default 5. Signals of timers, of children, of itself; in loops,
 * in calls that wait, in MPI, with handlers that read clocks and files. The numbers differ from run
 * to run; a replay must send the recorded ones.
 */
#define _GNU_SOURCE
#include "chain.h"
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static volatile uint64_t steps, seen;
static volatile sig_atomic_t rings;

static void ring(int sig)
{
    seen = seen * 31 + steps;
    rings++;
}

static void begin(int sig, void (*handler)(int), int flags)
{
    struct sigaction act = {.sa_handler = handler, .sa_flags = flags};

    CHECK(sigaction(sig, &act, NULL) == 0);
    rings = 0;
    steps = 0;
}

static void end(void)
{
    mix(seen);
    mix((uint64_t)rings);
    exchange();
}

static void timer_in(long us, long every_us)
{
    const struct itimerval t = {.it_value = {0, us}, .it_interval = {0, every_us}};

    CHECK(setitimer(ITIMER_REAL, &t, NULL) == 0);
}

/* ---- in loops */

static void clock_loop(int round)
{
    struct timeval now;

    begin(SIGALRM, ring, SA_RESTART);
    timer_in(1500, 700);
    while (rings < 5) {
        gettimeofday(&now, NULL);
        steps++;
    }
    timer_in(0, 0);
    end();
}

static void call_loop(int round)
{
    char byte;
    int fd = open("/dev/zero", O_RDONLY);

    begin(SIGALRM, ring, SA_RESTART);
    timer_in(1500, 700);
    while (rings < 5) {
        CHECK(read(fd, &byte, 1) == 1);
        steps++;
    }
    timer_in(0, 0);
    CHECK(close(fd) == 0);
    end();
}

static void test_loop(int round)
{
    MPI_Request request;
    int flag, value;

    begin(SIGALRM, ring, SA_RESTART);
    MPI_Irecv(&value, 1, MPI_INT, rank, 5, MPI_COMM_WORLD, &request);
    timer_in(1500, 700);
    while (rings < 5) {
        MPI_Test(&request, &flag, MPI_STATUS_IGNORE);
        CHECK(!flag);
        steps++;
    }
    timer_in(0, 0);
    MPI_Send(&round, 1, MPI_INT, rank, 5, MPI_COMM_WORLD);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(value == round);
    end();
}

/* Without any call: what is counted here differs in a replay, so it does not count. */
static void plain_loop(int round)
{
    begin(SIGALRM, ring, SA_RESTART);
    timer_in(1500, 0);
    while (!rings)
        ;
    CHECK(rings == 1);
    end();
}

/* ---- in calls that wait */

static void waiting(int round)
{
    const struct timespec t = {0, 40000000};
    struct timespec rest = {0, 0};
    sigset_t alarm_only, none, before;
    siginfo_t info;
    int pipes[2];
    char byte;

    begin(SIGALRM, ring, 0);
    CHECK(pipe(pipes) == 0);
    timer_in(3000, 3000); /* again and again: one may come before the call */
    CHECK(nanosleep(&t, &rest) < 0 && errno == EINTR && rings >= 1);
    mix((uint64_t)rest.tv_nsec);
    CHECK(read(pipes[0], &byte, 1) < 0 && errno == EINTR && rings >= 2);
    timer_in(0, 0);
    rings = 0;
    sigemptyset(&none);
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &alarm_only, &before) == 0);
    timer_in(1000, 0);
    CHECK(sigsuspend(&none) < 0 && errno == EINTR && rings == 1);
    timer_in(1000, 0);
    CHECK(sigwaitinfo(&alarm_only, &info) == SIGALRM && rings == 1);
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0 && rings == 1);
    begin(SIGALRM, ring, SA_RESTART);
    timer_in(1000, 1000);
    CHECK(usleep(20000) < 0 && errno == EINTR && rings >= 1);
    timer_in(0, 0);
    CHECK(close(pipes[0]) == 0 && close(pipes[1]) == 0);
    end();
}

static sem_t rung;

static void post(int sig)
{
    sem_post(&rung);
}

static void semaphore(int round)
{
    CHECK(sem_init(&rung, 0, 0) == 0);
    begin(SIGALRM, post, SA_RESTART);
    timer_in(2000, 0);
    while (sem_wait(&rung) < 0)
        CHECK(errno == EINTR);
    CHECK(sem_destroy(&rung) == 0);
    end();
}

/* ---- of itself */

static void one_shot(int sig)
{
    rings++;
}

static void own(int round)
{
    sigset_t usr1, before, pending;

    begin(SIGUSR1, ring, 0);
    CHECK(raise(SIGUSR1) == 0 && rings == 1);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    while (rings < 2)
        clock_gettime(CLOCK_MONOTONIC, &(struct timespec){0, 0});
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &usr1, &before) == 0);
    CHECK(raise(SIGUSR1) == 0 && rings == 2);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0 && rings == 3);
    begin(SIGUSR2, one_shot, (int)SA_RESETHAND);
    CHECK(raise(SIGUSR2) == 0 && rings == 1);
    struct sigaction now;
    CHECK(sigaction(SIGUSR2, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    begin(SIGRTMIN + 3, ring, 0);
    for (int i = 0; i < 3; i++)
        CHECK(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i}) == 0);
    while (rings < 3)
        clock_gettime(CLOCK_MONOTONIC, &(struct timespec){0, 0});
    end();
}

/* ---- of children */

static void reap(int sig)
{
    int saved = errno, status;

    while (waitpid(-1, &status, WNOHANG) > 0) {
        seen = seen * 31 + steps + (uint64_t)WEXITSTATUS(status);
        rings++;
    }
    errno = saved;
}

static void children(int round)
{
    begin(SIGCHLD, reap, SA_RESTART);
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0)
            _exit(i + 1);
    }
    while (rings < 3) {
        clock_gettime(CLOCK_MONOTONIC, &(struct timespec){0, 0});
        steps++;
    }
    begin(SIGCHLD, SIG_DFL, 0);
    end();
}

/* ---- handlers that do something */

static void busy(int sig)
{
    struct timespec now;
    uint64_t random;

    clock_gettime(CLOCK_REALTIME, &now);
    if (getrandom(&random, sizeof(random), 0) == sizeof(random))
        seen = seen * 31 + random + (uint64_t)now.tv_nsec;
    rings++;
}

static void handlers(int round)
{
    struct timeval now;

    begin(SIGALRM, busy, SA_RESTART);
    timer_in(1500, 900);
    while (rings < 4) {
        gettimeofday(&now, NULL);
        steps++;
    }
    timer_in(0, 0);
    mix(steps);
    end();
}

static sigjmp_buf out;

static void jump(int sig)
{
    siglongjmp(out, 1);
}

static void jumps(int round)
{
    begin(SIGALRM, jump, 0);
    if (sigsetjmp(out, 1) == 0) {
        timer_in(1500, 0);
        for (;;) {
            clock_gettime(CLOCK_MONOTONIC, &(struct timespec){0, 0});
            steps++;
        }
    }
    mix(steps);
    if (sigsetjmp(out, 1) == 0) {
        timer_in(1500, 0);
        for (;;)
            pause();
    }
    end();
}

/* ---- in MPI: for longer than a signal waits */

static void in_mpi(int round)
{
    int value = 0;

    begin(SIGALRM, ring, SA_RESTART);
    timer_in(1500, 0);
    if (rank == 0) {
        while (!rings)
            usleep(1000);
        for (int r = 1; r < size; r++)
            MPI_Send(&round, 1, MPI_INT, r, 6, MPI_COMM_WORLD);
    } else {
        MPI_Recv(&value, 1, MPI_INT, 0, 6, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        while (!rings)
            usleep(1000);
    }
    begin(SIGALRM, ring, SA_RESTART);
    timer_in(1500, 0);
    if (rank == 0)
        while (usleep(30000) < 0)
            ;
    MPI_Barrier(MPI_COMM_WORLD);
    while (!rings)
        usleep(1000);
    end();
}

static const struct check_case cases[] = {
    {"clock_loop", clock_loop}, {"call_loop", call_loop}, {"test_loop", test_loop},
    {"plain_loop", plain_loop}, {"waiting", waiting},     {"semaphore", semaphore},
    {"own", own},               {"children", children},   {"handlers", handlers},
    {"jumps", jumps},           {"in_mpi", in_mpi},       {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "signals", cases, 5);
}
