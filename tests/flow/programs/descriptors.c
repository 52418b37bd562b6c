/*
 * descriptors: what a rank may have open beside plain files: a deleted file, pipes and socket pairs
 * with itself, eventfd, timerfd, signalfd, epoll, duplicates, folders, /proc and /dev. All hold
 * something while messages go round, and must hold it still afterwards, whatever happens to the
 * process in between.
 *
 * Usage: descriptors [ROUNDS [CASE]]. Any number of ranks.
 */
#define _GNU_SOURCE
#include "check.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { TALKS = 20 };

static void check_flags(int fd, int status, int descriptor)
{
    CHECK((fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK)) == status);
    CHECK(fcntl(fd, F_GETFD) == descriptor);
}

static void deleted_file(int round)
{
    char path[64], text[64], back[64] = "";
    struct stat st;

    snprintf(path, sizeof(path), "gone.%d", rank);
    snprintf(text, sizeof(text), "round %d of rank %d", round, rank);
    FILE *file = tmpfile();
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file && fd >= 0 && unlink(path) == 0);
    CHECK(write(fd, text, sizeof(text)) == sizeof(text));
    CHECK(fputs(text, file) >= 0 && fflush(file) == 0);
    CHECK(lseek(fd, 6, SEEK_SET) == 6);
    check_talk(TALKS);
    CHECK(fstat(fd, &st) == 0 && st.st_size == sizeof(text) && st.st_nlink == 0);
    CHECK(read(fd, back, sizeof(text) - 6) == sizeof(text) - 6 && strcmp(back, text + 6) == 0);
    rewind(file);
    CHECK(fgets(back, sizeof(back), file) && strcmp(back, text) == 0);
    fclose(file);
    close(fd);
}

static void memory_file(int round)
{
    int fd = memfd_create("thing", MFD_CLOEXEC), number = -1;

    CHECK(fd >= 0 && write(fd, &round, sizeof(round)) == sizeof(round));
    check_talk(TALKS);
    check_flags(fd, O_RDWR, FD_CLOEXEC);
    CHECK(pread(fd, &number, sizeof(number), 0) == sizeof(number) && number == round);
    close(fd);
}

static void pipe_to_itself(int round)
{
    int ends[2], copy, token = -1;

    CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    copy = dup(ends[1]);
    CHECK(write(ends[1], &round, sizeof(round)) == sizeof(round));
    CHECK(write(copy, &rank, sizeof(rank)) == sizeof(rank));
    check_talk(TALKS);
    check_flags(ends[0], O_RDONLY | O_NONBLOCK, FD_CLOEXEC);
    check_flags(copy, O_WRONLY | O_NONBLOCK, 0);
    CHECK(read(ends[0], &token, sizeof(token)) == sizeof(token) && token == round);
    CHECK(read(ends[0], &token, sizeof(token)) == sizeof(token) && token == rank);
    CHECK(read(ends[0], &token, sizeof(token)) < 0 && errno == EAGAIN);
    close(ends[1]);
    CHECK(read(ends[0], &token, sizeof(token)) < 0 && errno == EAGAIN);
    close(copy);
    CHECK(read(ends[0], &token, sizeof(token)) == 0);
    close(ends[0]);
}

static void socket_pair(int round)
{
    int ends[2], token = -1;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(write(ends[0], &round, sizeof(round)) == sizeof(round));
    CHECK(write(ends[1], &rank, sizeof(rank)) == sizeof(rank));
    check_talk(TALKS);
    CHECK(read(ends[1], &token, sizeof(token)) == sizeof(token) && token == round);
    CHECK(read(ends[0], &token, sizeof(token)) == sizeof(token) && token == rank);
    close(ends[0]);
    close(ends[1]);
}

static void events(int round)
{
    int fd = eventfd((unsigned)round, EFD_NONBLOCK);
    uint64_t add = 5, count = 0;

    CHECK(fd >= 0 && write(fd, &add, sizeof(add)) == sizeof(add));
    check_talk(TALKS);
    CHECK(read(fd, &count, sizeof(count)) == sizeof(count) && count == (uint64_t)round + 5);
    CHECK(read(fd, &count, sizeof(count)) < 0 && errno == EAGAIN);
    close(fd);
}

static void timer(int round)
{
    struct itimerspec once = {.it_value = {0, 20000000}}, far = {{50, 0}, {100, 0}}, left;
    int soon = timerfd_create(CLOCK_MONOTONIC, 0), late = timerfd_create(CLOCK_REALTIME, 0);
    uint64_t times = 0;

    CHECK(timerfd_settime(soon, 0, &once, NULL) == 0 && timerfd_settime(late, 0, &far, NULL) == 0);
    check_talk(TALKS);
    CHECK(read(soon, &times, sizeof(times)) == sizeof(times) && times == 1);
    CHECK(timerfd_gettime(late, &left) == 0 && left.it_interval.tv_sec == 50);
    CHECK(left.it_value.tv_sec > 30 && left.it_value.tv_sec <= 100);
    close(soon);
    close(late);
}

static void signals(int round)
{
    struct signalfd_siginfo info;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    CHECK(fd >= 0 && pthread_sigqueue(pthread_self(), SIGUSR1,
                                     (union sigval){.sival_int = round}) == 0);
    check_talk(TALKS);
    CHECK(read(fd, &info, sizeof(info)) == sizeof(info));
    CHECK(info.ssi_signo == SIGUSR1 && info.ssi_int == round);
    CHECK(read(fd, &info, sizeof(info)) < 0 && errno == EAGAIN);
    CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
    close(fd);
}

static void polling(int round)
{
    int poll_fd = epoll_create1(0), event = eventfd(0, 0), ends[2];
    struct epoll_event in = {.events = EPOLLIN, .data.u64 = 0x123456789abcdefull}, out;
    uint64_t one = 1;

    CHECK(pipe(ends) == 0);
    CHECK(epoll_ctl(poll_fd, EPOLL_CTL_ADD, event, &in) == 0);
    in.data.fd = ends[0];
    CHECK(epoll_ctl(poll_fd, EPOLL_CTL_ADD, ends[0], &in) == 0);
    check_talk(TALKS);
    CHECK(epoll_wait(poll_fd, &out, 1, 0) == 0);
    CHECK(write(event, &one, sizeof(one)) == sizeof(one));
    CHECK(epoll_wait(poll_fd, &out, 1, -1) == 1 && out.data.u64 == 0x123456789abcdefull);
    CHECK(epoll_ctl(poll_fd, EPOLL_CTL_DEL, event, NULL) == 0);
    CHECK(write(ends[1], &one, sizeof(one)) == sizeof(one));
    CHECK(epoll_wait(poll_fd, &out, 1, -1) == 1 && out.data.fd == ends[0]);
    close(poll_fd);
    close(event);
    close(ends[0]);
    close(ends[1]);
}

static void shared_offset(int round)
{
    char path[64], text[8] = "";

    snprintf(path, sizeof(path), "offset.%d", rank);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600), twin = dup(fd);
    int other = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && twin >= 0 && other >= 0 && write(fd, "0123456789", 10) == 10);
    CHECK(lseek(fd, 4, SEEK_SET) == 4 && lseek(other, 1, SEEK_SET) == 1);
    check_talk(TALKS);
    CHECK(read(twin, text, 2) == 2 && memcmp(text, "45", 2) == 0);
    CHECK(read(fd, text, 2) == 2 && memcmp(text, "67", 2) == 0);
    CHECK(read(other, text, 2) == 2 && memcmp(text, "12", 2) == 0);
    check_flags(other, O_RDONLY, FD_CLOEXEC);
    close(fd);
    close(twin);
    close(other);
    CHECK(unlink(path) == 0);
}

/* A small file that is written anew all the time: longer, shorter, other. */
static void rewritten(int round)
{
    char path[64], text[128], now[128];
    int size = 1 + round % 100;

    snprintf(path, sizeof(path), "state.%d", rank);
    memset(text, 'a' + round % 26, sizeof(text));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640), in = open(path, O_RDONLY);
    struct stat st;
    CHECK(fd >= 0 && in >= 0 && write(fd, text, (size_t)size) == size);
    check_talk(TALKS);
    CHECK(write(fd, "end", 3) == 3 && close(fd) == 0);
    CHECK(read(in, now, sizeof(now)) == size + 3 && memcmp(now, text, (size_t)size) == 0);
    CHECK(fstat(in, &st) == 0 && (st.st_mode & 0777) == 0640);
    CHECK(memcmp(now + size, "end", 3) == 0 && close(in) == 0);
    if (round % 3 == 0)
        CHECK(unlink(path) == 0);
}

static void places(int round)
{
    char text[256] = "";
    DIR *here = opendir(".");
    int status = open("/proc/self/status", O_RDONLY), null = open("/dev/null", O_WRONLY);
    int random = open("/dev/urandom", O_RDONLY), out = dup(STDERR_FILENO);

    CHECK(here && readdir(here) && status >= 0 && null >= 0 && random >= 0 && out >= 0);
    CHECK(read(status, text, 5) == 5 && memcmp(text, "Name:", 5) == 0);
    check_talk(TALKS);
    CHECK(read(status, text, 1) == 1 && text[0] == '\t');
    CHECK(write(null, text, 10) == 10 && read(random, text, 10) == 10);
    CHECK(readdir(here) && fcntl(out, F_GETFL) == fcntl(STDERR_FILENO, F_GETFL));
    closedir(here);
    close(status);
    close(null);
    close(random);
    close(out);
}

static const struct check_case cases[] = {
    {"deleted_file", deleted_file},   {"memory_file", memory_file}, {"pipe", pipe_to_itself},
    {"socket_pair", socket_pair},     {"events", events},           {"timer", timer},
    {"signals", signals},             {"polling", polling},
    {"shared_offset", shared_offset}, {"rewritten", rewritten},     {"places", places},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "descriptors", cases, 50);
}
