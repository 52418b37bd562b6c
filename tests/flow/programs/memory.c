/*
 * memory: every kind of memory that a rank may have besides its heap: shared mappings of files and
 * of nothing, System V segments, huge pages, very many mappings, very large reservations, libraries
 * that come and go; and timers of timer_create and file locks. All is kept from round to round.
 *
 * Usage: memory [ROUNDS [CASE]]. Makes memory-RANK.dat in the current folder and leaves it there.
 */
#define _GNU_SOURCE
#include "check.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <time.h>

enum { PAGE = 4096, CELLS = 3 * PAGE / (int)sizeof(int) };

static void *map(size_t bytes, int prot, int flags, int fd)
{
    void *p = mmap(NULL, bytes, prot, flags, fd, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static int number(int round, int i)
{
    return rank * 1000003 + round * 101 + i;
}

/* What the round before has written is there; writes that of this one. */
static void turn(int *cells, int n, int round)
{
    for (int i = 0; i < n && round > 0; i++)
        CHECK(cells[i] == number(round - 1, i));
    for (int i = 0; i < n; i++)
        cells[i] = number(round, i);
}

static int *shared;
static int file;

static void case_shared_file(int round)
{
    int cell;
    if (round == 0) {
        char name[64];
        snprintf(name, sizeof(name), "memory-%d.dat", rank);
        file = open(name, O_RDWR | O_CREAT, 0600);
        CHECK(file >= 0 && ftruncate(file, CELLS * sizeof(int)) == 0);
        shared = map(CELLS * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED, file);
    }
    turn(shared, CELLS, round);
    /* It is the file's memory, not a copy of it. */
    CHECK(pread(file, &cell, sizeof(cell), 5 * sizeof(int)) == sizeof(cell));
    CHECK(cell == number(round, 5));
    cell = -round;
    CHECK(pwrite(file, &cell, sizeof(cell), 7 * sizeof(int)) == sizeof(cell));
    CHECK(shared[7] == -round);
    shared[7] = number(round, 7);
}

static void case_shared_nothing(int round)
{
    static int *cells;
    if (round == 0)
        cells = map(CELLS * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    turn(cells, CELLS, round);
}

/* A segment that is marked for removal as soon as it is attached, as is the custom. */
static void case_system_v(int round)
{
    static int *cells;
    if (round == 0) {
        int id = shmget(IPC_PRIVATE, CELLS * sizeof(int), IPC_CREAT | 0600);
        CHECK(id >= 0);
        cells = shmat(id, NULL, 0);
        CHECK(cells != (void *)-1);
        CHECK(shmctl(id, IPC_RMID, NULL) == 0);
    }
    turn(cells, CELLS, round);
}

static void case_huge(int round)
{
    enum { HUGE_BYTES = 2 << 20 };
    static int *cells, *many;
    if (round == 0) {
        cells = mmap(NULL, HUGE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
        if (cells == MAP_FAILED) /* the machine has none to spare */
            cells = map(HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        many = map(4 * HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        madvise(many, 4 * HUGE_BYTES, MADV_HUGEPAGE);
    }
    turn(cells, CELLS, round);
    turn(many, CELLS, round);
}

/* Ten thousand mappings: every other page cannot be written. */
static void case_many(int round)
{
    enum { PAGES = 10000 };
    static char *pages;
    if (round == 0) {
        pages = map((size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        for (int i = 0; i < PAGES; i += 100)
            pages[(size_t)i * PAGE] = (char)(i / 100 + 1);
        for (int i = 0; i < PAGES; i += 2)
            CHECK(mprotect(pages + (size_t)i * PAGE, PAGE, PROT_READ) == 0);
    }
    for (int i = 0; i < PAGES; i += 100)
        CHECK(pages[(size_t)i * PAGE] == (char)(i / 100 + 1));
    turn((int *)(pages + PAGE), 10, round);
}

/* 100 GiB of addresses that nobody may touch, and 100 GiB that may be, of which little is. */
static void case_sparse(int round)
{
    enum { GIB = 100 };
    static char *none, *some;
    const size_t gib = 1ul << 30;
    if (round == 0) {
        none = map(GIB * gib, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
        some = map(GIB * gib, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    }
    CHECK(mprotect(none + 50 * gib, PAGE, PROT_READ | PROT_WRITE) == 0);
    turn((int *)(none + 50 * gib), 10, round);
    CHECK(mprotect(none + 50 * gib, PAGE, PROT_READ) == 0);
    for (int i = 0; i < GIB; i += 10)
        turn((int *)(some + i * gib), 10, round);
}

/* A library that was loaded before, and one that comes and goes. */
static void case_library(int round)
{
    static double (*kept)(double);
    if (round == 0) {
        void *lib = dlopen("libm.so.6", RTLD_NOW);
        CHECK(lib);
        *(void **)&kept = dlsym(lib, "cbrt");
        CHECK(kept);
    }
    void *lib = dlopen("libutil.so.1", RTLD_NOW), *zlib = dlopen("libz.so.1", RTLD_NOW);
    CHECK(lib);
    CHECK(fabs(kept(27.0 * (round + 1)) - cbrt(27.0 * (round + 1))) < 1e-12);
    CHECK(dlclose(lib) == 0);
    if (zlib)
        dlclose(zlib);
}

static volatile sig_atomic_t ticks;

static void on_tick(int sig)
{
    ticks++;
}

static void case_timer(int round)
{
    static timer_t timer, once;
    struct itimerspec every = {{0, 2000000}, {0, 2000000}}, later = {{0, 0}, {3600, 0}}, left;
    struct sigevent by_signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    if (round == 0) {
        struct sigaction act = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
        sigaction(SIGUSR2, &act, NULL);
        CHECK(timer_create(CLOCK_MONOTONIC, &by_signal, &timer) == 0);
        CHECK(timer_settime(timer, 0, &every, NULL) == 0);
        by_signal.sigev_notify = SIGEV_NONE;
        CHECK(timer_create(CLOCK_REALTIME, &by_signal, &once) == 0);
        CHECK(timer_settime(once, 0, &later, NULL) == 0);
    }
    CHECK(timer_gettime(timer, &left) == 0 && left.it_interval.tv_nsec == 2000000);
    CHECK(timer_gettime(once, &left) == 0 && left.it_interval.tv_sec == 0);
    CHECK(left.it_value.tv_sec > 0 && left.it_value.tv_sec <= 3600);
    for (sig_atomic_t before = ticks; ticks == before;)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

/* A lock of the process on a range, and one of an open file. */
static void case_lock(int round)
{
    static int whole, ranges, other;
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20};
    if (round == 0) {
        char name[64];
        snprintf(name, sizeof(name), "memory-lock-%d.dat", rank);
        whole = open(name, O_RDWR | O_CREAT, 0600);
        CHECK(whole >= 0 && flock(whole, LOCK_EX | LOCK_NB) == 0);
        ranges = open(name, O_RDWR);
        other = open(name, O_RDWR);
        CHECK(ranges >= 0 && other >= 0 && fcntl(ranges, F_SETLK, &range) == 0);
    }
    CHECK(flock(other, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    range = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CHECK(fcntl(other, F_OFD_GETLK, &range) == 0);
    CHECK(range.l_type == F_WRLCK && range.l_start == 10 && range.l_len == 20);
}

static void talk(int round)
{
    int token = rank;
    MPI_Sendrecv_replace(&token, 1, MPI_INT, neighbour(1), 1, neighbour(-1), 1, MPI_COMM_WORLD,
                         MPI_STATUS_IGNORE);
    CHECK(token == neighbour(-1));
}

static const struct check_case cases[] = {
    {"shared_file", case_shared_file},
    {"shared_nothing", case_shared_nothing},
    {"system_v", case_system_v},
    {"huge", case_huge},
    {"many", case_many},
    {"sparse", case_sparse},
    {"library", case_library},
    {"timer", case_timer},
    {"lock", case_lock},
    {"talk", talk},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "memory", cases, 20);
}
