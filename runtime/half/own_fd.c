/*
 * own_fd.c - descriptors that are not the application's
 */
#include "runtime/half/own_fd.h"

#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HIGH_FD   700
#define OURS_MAX  32
#define START_MAX 256
#define NOTED_MAX 4096

/* A number may be given to something else later: what it stood for is told by device and inode. */
struct known {
    dev_t dev;
    ino_t ino;
    bool open;
};
static struct known at_start[START_MAX];
static struct known noted[NOTED_MAX];
static int ours[OURS_MAX]; /* 0: free */
static uint8_t reserved[OWN_FD_HIGH];

static void know(struct known *k, int fd)
{
    struct stat st;
    k->open = fstat(fd, &st) == 0;
    if (k->open) {
        k->dev = st.st_dev;
        k->ino = st.st_ino;
    }
}

static bool still(const struct known *k, int fd)
{
    struct stat st;
    return k->open && fstat(fd, &st) == 0 && st.st_dev == k->dev && st.st_ino == k->ino;
}

void own_fd_start(void)
{
    for (int fd = 0; fd < START_MAX; fd++)
        know(&at_start[fd], fd);
}

void own_fd_note(int fd)
{
    if (fd >= 0 && fd < NOTED_MAX)
        know(&noted[fd], fd);
}

void own_fd_forget(int fd)
{
    if (fd >= 0 && fd < NOTED_MAX)
        noted[fd].open = false;
}

void own_fd_reserve(void)
{
    for (;;) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fd >= OWN_FD_HIGH) {
            if (fd >= 0)
                syscall(SYS_close, fd);
            return;
        }
        reserved[fd] = 1;
    }
}

void own_fd_unreserve(void)
{
    for (int fd = 0; fd < OWN_FD_HIGH; fd++)
        if (reserved[fd]) {
            close(fd);
            reserved[fd] = 0;
        }
}

int own_fd_stream(int fd)
{
    for (int i = 0; i <= STDERR_FILENO; i++)
        if (i != fd && still(&at_start[i], i) && still(&at_start[i], fd))
            return i;
    return -1;
}

int own_fd_take(int fd)
{
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    if (high >= 0) {
        close(fd);
        fd = high;
    }
    for (int i = 0; fd >= 0 && i < OURS_MAX; i++)
        if (ours[i] == 0) {
            ours[i] = fd;
            break;
        }
    return fd;
}

void own_fd_close(int fd)
{
    for (int i = 0; fd > 0 && i < OURS_MAX; i++)
        if (ours[i] == fd)
            ours[i] = 0;
    close(fd);
}

bool own_fd_is(int fd)
{
    for (int i = 0; i < OURS_MAX; i++)
        if (fd > 0 && ours[i] == fd)
            return true;
    return (fd >= 0 && fd < START_MAX && still(&at_start[fd], fd)) ||
           (fd >= 0 && fd < NOTED_MAX && still(&noted[fd], fd));
}

void own_fd_unshare(void)
{
    if (unshare(CLONE_FILES) < 0)
        return;
    close_range(0, STDERR_FILENO - 1, 0);
    close_range(STDERR_FILENO + 1, ~0u, 0);
}
