/*
 * session_file.c - vFile: GDB reads and writes files where the program runs
 *
 * GDB warns, once, either that file transfers are slow or, without vFile, that it tries local
 * files; with `set sysroot /` it reads programs and libraries itself and is silent. `info proc`
 * needs vFile.
 * Source of numbers: GDB manual, E.14 File-I/O Remote Protocol Extension.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gdbbridge/session_private.h"

static bool has_files(const struct session *s)
{
    return s->ops->files;
}

/* ------------------------------------------------------------------ numbers of the protocol */

static int error_to_gdb(int error)
{
    static const struct {
        int host, gdb;
    } map[] = {
        {EPERM, 1},   {ENOENT, 2},  {EINTR, 4},   {EBADF, 9},   {EACCES, 13},  {EFAULT, 14},
        {EBUSY, 16},  {EEXIST, 17}, {ENODEV, 19}, {ENOTDIR, 20}, {EISDIR, 21}, {EINVAL, 22},
        {ENFILE, 23}, {EMFILE, 24}, {EFBIG, 27},  {ENOSPC, 28}, {ESPIPE, 29},  {EROFS, 30},
        {ENOSYS, 88}, {ENAMETOOLONG, 91},
    };
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        if (map[i].host == error)
            return map[i].gdb;
    return 9999;
}

static int flags_from_gdb(uint64_t flags)
{
    static const struct {
        uint64_t gdb;
        int host;
    } map[] = {{1, O_WRONLY}, {2, O_RDWR}, {8, O_APPEND}, {0x200, O_CREAT}, {0x400, O_TRUNC},
               {0x800, O_EXCL}};
    int host = O_CLOEXEC | O_NOCTTY;
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        if (flags & map[i].gdb)
            host |= map[i].host;
    return host;
}

/* struct stat of the protocol: big-endian, packed. */
static void add_stat(struct bytes *out, const struct stat *st)
{
    const struct {
        unsigned size;
        uint64_t value;
    } fields[] = {
        {4, st->st_dev},
        {4, st->st_ino},
        {4, st->st_mode},
        {4, st->st_nlink},
        {4, st->st_uid},
        {4, st->st_gid},
        {4, st->st_rdev},
        {8, (uint64_t)st->st_size},
        {8, (uint64_t)st->st_blksize},
        {8, (uint64_t)st->st_blocks},
        {4, (uint64_t)st->st_atime},
        {4, (uint64_t)st->st_mtime},
        {4, (uint64_t)st->st_ctime},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        for (unsigned b = fields[i].size; b-- > 0;) {
            uint8_t byte = (uint8_t)(fields[i].value >> 8 * b);
            bytes_add(out, &byte, 1);
        }
}

/* ------------------------------------------------------------------ answers */

static void reply_number(struct session *s, uint64_t number)
{
    bytes_printf(&s->reply, "F%llx", (unsigned long long)number);
}

static void reply_errno(struct session *s)
{
    bytes_printf(&s->reply, "F-1,%x", (unsigned)error_to_gdb(errno));
}

static void reply_data(struct session *s, const void *data, size_t size)
{
    struct bytes coded = {0};
    size_t taken = bytes_binary(&coded, data, size, RSP_PACKET_MAX - 32);
    bytes_printf(&s->reply, "F%zx;", taken);
    bytes_add(&s->reply, coded.data ? coded.data : "", coded.size);
    bytes_free(&coded);
}

/* ------------------------------------------------------------------ files */

/* The path in the parameter, in the file system chosen by setfs. Returns 0, or -1 with errno. */
static int path_param(struct session *s, const struct rsp_param *p, char *path, size_t size)
{
    int root = 0;
    if (s->files_of)
        root = snprintf(path, size, "/proc/%d/root", (int)s->files_of);
    long n = hex_decode(path + root, size - (size_t)root - 1, p->text, p->size);
    if (n < 0) {
        errno = p->size / 2 >= size - (size_t)root ? ENAMETOOLONG : EINVAL;
        return -1;
    }
    path[root + n] = '\0';
    return 0;
}

static int file_slot(struct session *s)
{
    for (int i = 0; i < SESSION_FILES_MAX; i++)
        if (s->files[i].fd < 0)
            return i;
    errno = EMFILE;
    return -1;
}

/* The descriptor behind GDB's number, or -1 with errno set. */
static int file_fd(struct session *s, const struct rsp_param *p)
{
    if (p->number < SESSION_FILES_MAX && s->files[p->number].fd >= 0)
        return s->files[p->number].fd;
    errno = EBADF;
    return -1;
}

static void run_open(struct session *s, const struct rsp_param *p)
{
    char path[PATH_MAX];
    int slot, fd = -1, flags = flags_from_gdb(p[1].number);
    if (path_param(s, &p[0], path, sizeof path) || (slot = file_slot(s)) < 0) {
        reply_errno(s);
        return;
    }
    if (s->ops->open_view && (flags & O_ACCMODE) == O_RDONLY)
        fd = s->ops->open_view(s->target, path);
    if (fd < 0)
        fd = open(path, flags, (mode_t)(p[2].number & 0777));
    if (fd < 0) {
        reply_errno(s);
        return;
    }
    s->files[slot].fd = fd;
    reply_number(s, (uint64_t)slot);
}

static void run_close(struct session *s, const struct rsp_param *p)
{
    int fd = file_fd(s, &p[0]);
    if (fd < 0 || close(fd)) {
        reply_errno(s);
        return;
    }
    s->files[p[0].number].fd = -1;
    reply_number(s, 0);
}

static void run_pread(struct session *s, const struct rsp_param *p)
{
    static uint8_t data[RSP_PACKET_MAX];
    int fd = file_fd(s, &p[0]);
    size_t want = p[1].number < sizeof data ? (size_t)p[1].number : sizeof data;
    ssize_t n = fd < 0 ? -1 : pread(fd, data, want, (off_t)p[2].number);
    if (n < 0)
        reply_errno(s);
    else
        reply_data(s, data, (size_t)n);
}

static void run_pwrite(struct session *s, const struct rsp_param *p)
{
    int fd = file_fd(s, &p[0]);
    ssize_t n = fd < 0 ? -1 : pwrite(fd, p[2].text, p[2].size, (off_t)p[1].number);
    if (n < 0)
        reply_errno(s);
    else
        reply_number(s, (uint64_t)n);
}

static void run_fstat(struct session *s, const struct rsp_param *p)
{
    struct stat st;
    struct bytes out = {0};
    int fd = file_fd(s, &p[0]);
    if (fd < 0 || fstat(fd, &st)) {
        reply_errno(s);
        return;
    }
    add_stat(&out, &st);
    reply_data(s, out.data, out.size);
    bytes_free(&out);
}

static void run_unlink(struct session *s, const struct rsp_param *p)
{
    char path[PATH_MAX];
    if (path_param(s, &p[0], path, sizeof path) || unlink(path))
        reply_errno(s);
    else
        reply_number(s, 0);
}

static void run_readlink(struct session *s, const struct rsp_param *p)
{
    char path[PATH_MAX], link[PATH_MAX];
    ssize_t n = -1;
    if (!path_param(s, &p[0], path, sizeof path))
        n = readlink(path, link, sizeof link);
    if (n < 0)
        reply_errno(s);
    else
        reply_data(s, link, (size_t)n);
}

/* Whose files: those of a process in another mount namespace are found through its root. */
static void run_setfs(struct session *s, const struct rsp_param *p)
{
    char path[64];
    struct stat ours, theirs;
    pid_t pid = (pid_t)p[0].number;
    s->files_of = 0;
    if (pid > 0) {
        snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)pid);
        if (stat("/proc/self/ns/mnt", &ours) || stat(path, &theirs)) {
            reply_errno(s);
            return;
        }
        if (ours.st_ino != theirs.st_ino)
            s->files_of = pid;
    }
    reply_number(s, 0);
}

void session_close_files(struct session *s)
{
    for (int i = 0; i < SESSION_FILES_MAX; i++) {
        if (s->files[i].fd >= 0)
            close(s->files[i].fd);
        s->files[i].fd = -1;
    }
    s->files_of = 0;
}

static const struct rsp_command session_file_rows[] = {
    {"vFile:open:", "w,x,x", run_open, has_files},
    {"vFile:close:", "x", run_close, has_files},
    {"vFile:pread:", "x,x,x", run_pread, has_files},
    {"vFile:pwrite:", "x,x,b", run_pwrite, has_files},
    {"vFile:fstat:", "x", run_fstat, has_files},
    {"vFile:unlink:", "b", run_unlink, has_files},
    {"vFile:readlink:", "b", run_readlink, has_files},
    {"vFile:setfs:", "x", run_setfs, has_files},
};
COMMAND_TABLE(session_file);
