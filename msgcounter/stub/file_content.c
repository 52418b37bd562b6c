/*
 * file_content.c - what is in files that are open when an epoch is made
 */
#include "msgcounter/stub/file_content.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "msgcounter/stub/alloc.h"
#include "runtime/half/sys.h"

#define CONTENT_MAX (1u << 20)

/* Without the type of file system that ROMIO takes before a colon. */
static const char *path_of(const char *name)
{
    const char *colon = strchr(name, ':');
    return colon ? colon + 1 : name;
}

static long open_path(const char *name, int flags, uint32_t mode)
{
    return sys_call(SYS_open, path_of(name), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, mode, 0, 0,
                    0);
}

/* Reads or writes (`call`) all of it. Returns how much that was. */
static uint64_t transfer(long call, long fd, unsigned char *data, uint64_t bytes)
{
    uint64_t done = 0;
    while (done < bytes) {
        long n = sys_call(call, fd, data + done, bytes - done, done, 0, 0);
        if (n <= 0)
            break;
        done += (uint64_t)n;
    }
    return done;
}

void file_content_drop(struct file_content *c)
{
    stub_free(c->data);
    *c = (struct file_content){0};
}

static void keep_open_file(struct file_content *c, long fd)
{
    struct stat st;
    if (sys_call(SYS_fstat, fd, &st, 0, 0, 0, 0) || !S_ISREG(st.st_mode) ||
        st.st_size > CONTENT_MAX)
        return;
    *c = (struct file_content){true, st.st_mode & 07777, (uint64_t)st.st_size,
                               stub_alloc((size_t)st.st_size)};
    if (transfer(SYS_pread64, fd, c->data, c->bytes) < c->bytes)
        file_content_drop(c);
}

void file_content_keep(struct file_content *c, const char *name)
{
    long fd = open_path(name, O_RDONLY, 0);
    file_content_drop(c);
    if (fd < 0)
        return;
    keep_open_file(c, fd);
    sys_call(SYS_close, fd, 0, 0, 0, 0, 0);
}

void file_content_restore(const struct file_content *c, const char *name, bool written)
{
    if (!c->kept)
        return;
    long fd = open_path(name, O_WRONLY | O_CREAT | (written ? 0 : O_EXCL), c->mode);
    if (fd < 0)
        return;
    transfer(SYS_pwrite64, fd, c->data, c->bytes);
    sys_call(SYS_close, fd, 0, 0, 0, 0, 0);
}
