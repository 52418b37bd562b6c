/*
 * lower_fd.c - descriptors that the lower half's libraries open
 *
 * MPI and what is below it open sockets, shared memory, epolls and files at any time. They are
 * rebuilt at every start and belong in no image. These functions take the place of libc's for
 * everything in the lower half, and note what they make (own_fd_note). libc's own calls (fopen,
 * getaddrinfo) do not come here; what they open does not stay.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "runtime/half/own_fd.h"

static int noted(long fd)
{
    own_fd_note((int)fd);
    return (int)fd;
}

static int noted_pair(long result, const int pair[2])
{
    if (result == 0) {
        own_fd_note(pair[0]);
        own_fd_note(pair[1]);
    }
    return (int)result;
}

int openat(int dir, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return noted(syscall(SYS_openat, dir, path, flags, mode));
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return openat(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));

int shm_open(const char *name, int flags, mode_t mode)
{
    static int (*next)(const char *, int, mode_t);
    if (!next)
        next = (int (*)(const char *, int, mode_t))dlsym(RTLD_NEXT, "shm_open");
    return noted(next(name, flags, mode));
}

int memfd_create(const char *name, unsigned flags)
{
    return noted(syscall(SYS_memfd_create, name, flags));
}

int socket(int domain, int type, int protocol)
{
    return noted(syscall(SYS_socket, domain, type, protocol));
}

int socketpair(int domain, int type, int protocol, int pair[2])
{
    return noted_pair(syscall(SYS_socketpair, domain, type, protocol, pair), pair);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    return noted(syscall(SYS_accept4, fd, address, length, flags));
}

int accept(int fd, struct sockaddr *address, socklen_t *length)
{
    return accept4(fd, address, length, 0);
}

int pipe2(int pair[2], int flags)
{
    return noted_pair(syscall(SYS_pipe2, pair, flags), pair);
}

int pipe(int pair[2])
{
    return pipe2(pair, 0);
}

int dup(int fd)
{
    return noted(syscall(SYS_dup, fd));
}

int close(int fd)
{
    own_fd_forget(fd);
    return (int)syscall(SYS_close, fd);
}

int epoll_create1(int flags)
{
    return noted(syscall(SYS_epoll_create1, flags));
}

int epoll_create(int size)
{
    return epoll_create1(0);
}

int eventfd(unsigned count, int flags)
{
    return noted(syscall(SYS_eventfd2, count, flags));
}

int timerfd_create(int clock, int flags)
{
    return noted(syscall(SYS_timerfd_create, clock, flags));
}

int inotify_init1(int flags)
{
    return noted(syscall(SYS_inotify_init1, flags));
}
