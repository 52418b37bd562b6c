/*
 * files_restore.c - the application's open descriptors, made again
 */
#include "runtime/ckpt/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "runtime/ckpt/files_format.h"

#define SET_TICKS _IOW('T', 0, uint64_t) /* TFD_IOC_SET_TICKS */

/* The flags that fcntl(2) can set on an open file. */
#define STATUS_FLAGS (O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK)

static const struct file_record *next_record(const struct file_record *r, const uint8_t *end)
{
    const uint8_t *p = (const uint8_t *)r + r->bytes;
    return p + sizeof *r <= end ? (const struct file_record *)p : NULL;
}

/* The first record, NULL if there is none. *end is behind the last. */
static const struct file_record *first_record(const struct image_state *state, const uint8_t **end)
{
    size_t size;
    const uint8_t *blob = image_blob_find(state, FILES_BLOB, &size);
    *end = blob + size;
    return blob && size >= sizeof(struct file_record) ? (const struct file_record *)blob : NULL;
}

/* Gives an open file the record's number. Consumes `fd`. */
static int place(int fd, const struct file_record *r, struct err *err)
{
    if (fd != r->fd) {
        int rc = dup3(fd, r->fd, r->cloexec ? O_CLOEXEC : 0);
        int saved = errno;
        close(fd);
        errno = saved;
        if (rc < 0)
            return err_sys(err, "cannot restore descriptor %d (%s)", r->fd, file_path(r));
    }
    if (r->kind != FILE_PATH && r->kind != FILE_SAME)
        fcntl(r->fd, F_SETFL, (int)(r->flags & STATUS_FLAGS));
    return 0;
}

/* ---- files ---- */

/* A replayed rank must not write into the user's files. Consumes `from`. */
static int private_copy(int from, const struct file_record *r)
{
    struct stat st;
    if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode))
        return from;
    int copy = memfd_create(file_path(r), r->cloexec ? MFD_CLOEXEC : 0);
    off_t at = 0, size = (off_t)r->size;
    while (copy >= 0 && at < size && sendfile(copy, from, &at, (size_t)(size - at)) > 0)
        ;
    close(from);
    if (copy >= 0)
        fcntl(copy, F_SETFL, (int)(r->flags & STATUS_FLAGS));
    return copy;
}

/* The file must hold what it held, and not what the rank is going to write again. */
static int fit_length(int fd, const struct file_record *r, bool cut, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    if ((uint64_t)st.st_size < r->size)
        return err_set(err,
                       "file %s has %lu bytes now and had %lu at the checkpoint; put the longer "
                       "one back and restart",
                       file_path(r), (uint64_t)st.st_size, r->size);
    if (cut && (uint64_t)st.st_size > r->size && ftruncate(fd, (off_t)r->size) < 0)
        return err_sys(err, "cannot cut %s back to %lu bytes", file_path(r), r->size);
    return 0;
}

/* In isolation, for a file that is gone since, or on another machine: what the rank reads is in its
 * log. */
static int restore_empty(const struct file_record *r, struct err *err)
{
    int fd = memfd_create("gone", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)r->size) < 0 || lseek(fd, (off_t)r->offset, SEEK_SET) < 0)
        return err_sys(err, "cannot replace %s", file_path(r));
    return place(fd, r, err);
}

static int write_all(int fd, const struct file_record *r)
{
    const char *data = file_content(r);
    for (size_t n = 0; n < r->content_bytes;) {
        ssize_t w = pwrite(fd, data + n, r->content_bytes - n, (off_t)n);
        if (w <= 0)
            return -1;
        n += (size_t)w;
    }
    return 0;
}

/* The content of a file as it was; the file again, if it is gone. Ranks that share a file write the
 * same. */
static int restore_written(const struct file_record *r, struct err *err)
{
    int fd = open(file_path(r), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, (mode_t)r->value[1]);
    int rc = fd >= 0 ? write_all(fd, r) : -1;
    if (rc < 0)
        err_sys(err, "cannot restore the content of %s", file_path(r));
    if (fd >= 0)
        close(fd);
    return rc;
}

static int restore_content(const struct file_record *r, bool alone, struct err *err)
{
    const char *slash = strrchr(file_path(r), '/');
    int fd = memfd_create(slash ? slash + 1 : "file", MFD_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot restore %s", file_path(r));
    if (write_all(fd, r) < 0)
        return close(fd), err_sys(err, "cannot restore the content of %s", file_path(r));
    lseek(fd, (off_t)r->offset, SEEK_SET);
    fcntl(fd, F_SETFL, (int)(r->flags & STATUS_FLAGS));
    return place(fd, r, err);
}

/* Where the path of a thread's file in /proc has its number, or NULL. */
static const char *thread_number(const struct file_record *r)
{
    static const char folder[] = "/proc/self/task/";
    bool of_thread = r->kind == FILE_PATH && strncmp(file_path(r), folder, sizeof folder - 1) == 0;
    return of_thread ? file_path(r) + sizeof folder - 1 : NULL;
}

/* Of one that has ended nothing could be read. */
static int restore_of_thread(const struct file_record *r, pid_t (*tid_now)(pid_t), struct err *err)
{
    char path[PATH_MAX], *rest;
    const char *number = thread_number(r);
    pid_t tid = tid_now((pid_t)strtol(number, &rest, 10));
    if (!tid)
        return place(open("/dev/null", O_RDWR | O_CLOEXEC), r, err);
    snprintf(path, sizeof path, "%.*s%d%s", (int)(number - file_path(r)), file_path(r), tid, rest);
    int fd = open(path, (int)r->flags | (r->cloexec ? O_CLOEXEC : 0));
    if (fd < 0 || (r->offset && lseek(fd, (off_t)r->offset, SEEK_SET) < 0))
        return err_sys(err, "cannot restore descriptor %d (%s)", r->fd, path);
    return place(fd, r, err);
}

static int restore_path(const struct file_record *r, bool alone, struct err *err)
{
    if (!alone && thread_number(r))
        return 0; /* its number is kept until there are threads: files_restore_threads() */
    int flags = (int)r->flags & ~(O_CREAT | O_EXCL | O_TRUNC);
    bool written = (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH);
    if (alone && r->value[0])
        return restore_content(r, alone, err);
    if (alone && written)
        flags = (flags & ~(O_ACCMODE | O_APPEND)) | O_RDONLY;
    int fd = open(file_path(r), flags | O_NOCTTY | (r->cloexec ? O_CLOEXEC : 0));
    if (alone && (fd < 0 || fit_length(fd, r, false, err) < 0)) {
        close(fd);
        return restore_empty(r, err);
    }
    if (fd < 0)
        return err_sys(err,
                       "file %s, which was open as descriptor %d, cannot be opened again; put it "
                       "back and restart",
                       file_path(r), r->fd);
    if (fit_length(fd, r, written && !alone, err) < 0) {
        close(fd);
        return -1;
    }
    if (alone && written)
        fd = private_copy(fd, r);
    if (r->offset && lseek(fd, (off_t)r->offset, SEEK_SET) < 0) {
        close(fd);
        return err_sys(err, "cannot seek in %s", file_path(r));
    }
    return place(fd, r, err);
}

/* ---- what has no file ---- */

static int restore_same(const struct file_record *r, bool alone, struct err *err)
{
    if (dup3(r->mate, r->fd, r->cloexec ? O_CLOEXEC : 0) < 0)
        return err_sys(err, "cannot restore descriptor %d (%s)", r->fd, file_path(r));
    return 0;
}

static int restore_event(const struct file_record *r, bool alone, struct err *err)
{
    int fd = eventfd(0, (r->cloexec ? EFD_CLOEXEC : 0) | (r->value[1] ? EFD_SEMAPHORE : 0));
    if (fd >= 0 && r->value[0] && write(fd, &r->value[0], sizeof r->value[0]) < 0)
        return close(fd), err_sys(err, "cannot restore descriptor %d (eventfd)", r->fd);
    return place(fd, r, err);
}

static int restore_timer(const struct file_record *r, bool alone, struct err *err)
{
    struct itimerspec t = {{(time_t)r->value[0], (long)r->value[1]},
                           {(time_t)r->value[2], (long)r->value[3]}};
    int fd = timerfd_create((int)r->value[4], r->cloexec ? TFD_CLOEXEC : 0);
    if (fd < 0 || timerfd_settime(fd, 0, &t, NULL) < 0)
        return err_sys(err, "cannot restore descriptor %d (timerfd)", r->fd);
    if (r->value[5])
        ioctl(fd, SET_TICKS, &r->value[5]);
    return place(fd, r, err);
}

static int restore_signal(const struct file_record *r, bool alone, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    memcpy(&set, &r->value[0], sizeof r->value[0]);
    return place(signalfd(-1, &set, r->cloexec ? SFD_CLOEXEC : 0), r, err);
}

static int restore_socket(const struct file_record *r, bool alone, struct err *err)
{
    return place(socket((int)r->value[0],
                        (int)r->value[1] | (r->cloexec ? SOCK_CLOEXEC : 0), (int)r->value[2]),
                 r, err);
}

static int restore_poll(const struct file_record *r, bool alone, struct err *err)
{
    const struct file_watch *w = file_content(r);
    int fd = epoll_create1(r->cloexec ? EPOLL_CLOEXEC : 0);
    for (size_t i = 0; i < r->content_bytes / sizeof *w; i++) {
        struct file_watch watch;
        memcpy(&watch, &w[i], sizeof watch);
        struct epoll_event e = {.events = watch.events, .data.u64 = watch.data};
        epoll_ctl(fd, EPOLL_CTL_ADD, watch.fd, &e);
    }
    return place(fd, r, err);
}

/* The end that comes first makes both; the other one is `mate`'s record and does nothing. */
static int restore_ends(const struct file_record *r, const struct file_record *mate,
                        struct err *err)
{
    int ends[2];
    bool pipes = r->kind == FILE_PIPE;
    const struct file_record *reader = pipes && (r->flags & O_ACCMODE) != O_RDONLY ? mate : r;
    const struct file_record *writer = reader == r ? mate : r;
    int rc = pipes ? pipe2(ends, O_CLOEXEC)
                   : socketpair((int)r->value[0], (int)r->value[1] | SOCK_CLOEXEC,
                                (int)r->value[2], ends);
    if (rc < 0)
        return err_sys(err, "cannot restore descriptor %d (%s)", r->fd, file_path(r));
    if (pipes)
        fcntl(ends[1], F_SETPIPE_SZ, (int)r->value[0]);
    rc = 0;
    if (reader->content_bytes &&
        write(ends[1], file_content(reader), reader->content_bytes) != reader->content_bytes)
        rc = -1;
    if (!pipes && writer->content_bytes &&
        write(ends[0], file_content(writer), writer->content_bytes) != writer->content_bytes)
        rc = -1;
    if (rc < 0)
        return err_sys(err, "cannot restore the content of descriptor %d (%s)", reader->fd,
                       file_path(reader));
    return place(ends[0], reader, err) < 0 || place(ends[1], writer, err) < 0 ? -1 : 0;
}

static int restore_lost(const struct file_record *r, bool alone, struct err *err)
{
    if (!alone)
        return err_set(err, "descriptor %d (%s) cannot be restored", r->fd, file_path(r));
    return place(open("/dev/null", O_RDWR), r, err);
}

/* ---- all ---- */

static const struct file_record *find(const struct file_record *r, const uint8_t *end, int fd)
{
    while (r && r->fd != fd)
        r = next_record(r, end);
    return r;
}

void files_occupy(const struct image_state *state)
{
    const uint8_t *end;
    for (const struct file_record *r = first_record(state, &end); r; r = next_record(r, end)) {
        int fd = fcntl(r->fd, F_GETFD) < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
        if (fd >= 0 && fd != r->fd) {
            dup3(fd, r->fd, O_CLOEXEC);
            close(fd);
        }
    }
}

static int restore_one(const struct file_record *r, const struct file_record *first,
                       const uint8_t *end, bool alone, struct err *err)
{
    static int (*const restore[FILE_KINDS])(const struct file_record *, bool, struct err *) = {
        [FILE_PATH] = restore_path,     [FILE_CONTENT] = restore_content,
        [FILE_EVENT] = restore_event,   [FILE_TIMER] = restore_timer,
        [FILE_SIGNAL] = restore_signal, [FILE_SOCKET] = restore_socket,
        [FILE_POLL] = restore_poll,     [FILE_SAME] = restore_same,
        [FILE_LOST] = restore_lost,
    };
    if (r->kind < FILE_KINDS && restore[r->kind])
        return restore[r->kind](r, alone, err);
    const struct file_record *mate = find(first, end, r->mate);
    if ((r->kind != FILE_PIPE && r->kind != FILE_PAIR) || !mate)
        return err_set(err, "descriptor %d (%s): unknown kind %u", r->fd, file_path(r), r->kind);
    return r->fd < mate->fd ? restore_ends(r, mate, err) : 0;
}

/* Duplicates need their originals, epolls what they watch; both may be duplicates themselves. */
static int turn_of(const struct file_record *r)
{
    return r->kind == FILE_POLL ? 2 : r->kind == FILE_SAME ? 1 : 0;
}

int files_restore(const struct image_state *state, bool alone, struct err *err)
{
    const uint8_t *end;
    const struct file_record *first = first_record(state, &end);
    files_occupy(state);
    for (const struct file_record *r = alone ? NULL : first; r; r = next_record(r, end))
        if (r->kind == FILE_PATH && r->value[0] && restore_written(r, err) < 0)
            return -1;
    for (int turn = 0; turn < 4; turn++)
        for (const struct file_record *r = first; r; r = next_record(r, end)) {
            const struct file_record *of = r->kind == FILE_SAME ? find(first, end, r->mate) : NULL;
            int mine = of && of->kind == FILE_POLL ? 3 : turn_of(r);
            if (mine == turn && restore_one(r, first, end, alone, err) < 0)
                return -1;
        }
    return alone ? 0 : locks_restore(state, err);
}

int files_restore_threads(const struct image_state *state, pid_t (*tid_now)(pid_t), struct err *err)
{
    const uint8_t *end;
    const struct file_record *first = first_record(state, &end);
    for (const struct file_record *r = first; r; r = next_record(r, end))
        if (thread_number(r) && restore_of_thread(r, tid_now, err) < 0)
            return -1;
    for (const struct file_record *r = first; r; r = next_record(r, end)) {
        const struct file_record *of = r->kind == FILE_SAME ? find(first, end, r->mate) : NULL;
        if (of && thread_number(of) && restore_same(r, false, err) < 0)
            return -1;
    }
    return 0;
}
