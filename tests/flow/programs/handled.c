/*
 * handled: signals that the program causes itself and handles, again and again: sent in several
 * ways, of a broken pipe, of pages that it may not write to before, and in several threads.
 *
 * Usage: handled [ROUNDS [CASE]]. Any number of ranks.
 */
#define _GNU_SOURCE
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

enum { SIZE = 4096 };

static volatile sig_atomic_t got[65], in_all;
static char *page;

static void note(int sig)
{
    got[sig]++;
    in_all++;
}

/* Threads do so at the same time. */
static void note_one(int sig)
{
    __atomic_add_fetch(&in_all, 1, __ATOMIC_RELAXED);
}

static void open_page(int sig)
{
    note(sig);
    CHECK(mprotect(page, SIZE, PROT_READ | PROT_WRITE) == 0);
}

static void sent(int round)
{
    int before = got[SIGUSR1], queued = got[SIGRTMIN + 4];

    signal(SIGUSR1, note);
    signal(SIGRTMIN + 4, note);
    CHECK(raise(SIGUSR1) == 0 && got[SIGUSR1] == before + 1);
    check_talk(1);
    CHECK(kill(getpid(), SIGUSR1) == 0 && got[SIGUSR1] == before + 2);
    CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0 && got[SIGUSR1] == before + 3);
    CHECK(sigqueue(getpid(), SIGRTMIN + 4, (union sigval){.sival_int = round}) == 0);
    CHECK(got[SIGRTMIN + 4] == queued + 1);
}

static void pipes(int round)
{
    int ends[2], before = got[SIGPIPE];

    signal(SIGPIPE, note);
    CHECK(pipe(ends) == 0 && close(ends[0]) == 0);
    CHECK(write(ends[1], &round, sizeof(round)) < 0 && errno == EPIPE);
    CHECK(got[SIGPIPE] == before + 1);
    signal(SIGPIPE, SIG_IGN);
    CHECK(write(ends[1], &round, sizeof(round)) < 0 && errno == EPIPE);
    CHECK(got[SIGPIPE] == before + 1 && close(ends[1]) == 0);
}

static void pages(int round)
{
    int before = got[SIGSEGV];

    signal(SIGSEGV, open_page);
    page = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    for (int i = 0; i < 3; i++) {
        page[i] = (char)(round + i);
        check_talk(1);
        CHECK(got[SIGSEGV] == before + i + 1);
        CHECK(mprotect(page, SIZE, PROT_READ) == 0 && page[i] == (char)(round + i));
    }
    CHECK(munmap(page, SIZE) == 0);
    signal(SIGSEGV, SIG_DFL);
}

static void *sends_itself(void *mine)
{
    for (int i = 0; i < 5; i++) {
        *(int *)mine += i;
        CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0);
    }
    return NULL;
}

static void team(int round)
{
    pthread_t thread[2];
    int sum[2] = {round, round}, before = in_all;

    signal(SIGUSR1, note_one);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&thread[i], NULL, sends_itself, &sum[i]) == 0);
    check_talk(5);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(thread[i], NULL) == 0 && sum[i] == round + 10);
    CHECK(in_all == before + 10);
}

static const struct check_case cases[] = {
    {"sent", sent}, {"pipes", pipes}, {"pages", pages}, {"team", team}, {NULL, NULL}};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "handled", cases, 50);
}
