/*
 * own_fd.c - descriptors that are not the application's
 */
#include "runtime/half/own_fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define HIGH_FD   700
#define OURS_MAX  32
#define START_MAX 256

static struct {
    dev_t dev;
    ino_t ino;
    bool open;
} at_start[START_MAX];
static int ours[OURS_MAX]; /* 0: free */

void own_fd_start(void)
{
    struct stat st;
    for (int fd = 0; fd < START_MAX; fd++)
        if (fstat(fd, &st) == 0) {
            at_start[fd].dev = st.st_dev;
            at_start[fd].ino = st.st_ino;
            at_start[fd].open = true;
        }
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
    struct stat st;
    for (int i = 0; i < OURS_MAX; i++)
        if (fd > 0 && ours[i] == fd)
            return true;
    return fd >= 0 && fd < START_MAX && at_start[fd].open && fstat(fd, &st) == 0 &&
           st.st_dev == at_start[fd].dev && st.st_ino == at_start[fd].ino;
}
