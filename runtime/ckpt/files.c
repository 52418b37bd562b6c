/*
 * files.c - the application's open descriptors, saved
 */
#include "runtime/ckpt/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/ckpt/files_format.h"
#include "runtime/half/own_fd.h"

#define FILES_MAX   4096
#define NAME_BYTES  4096
#define INFO_BYTES  65536
#define CONTENT_MAX (64u << 20) /* bytes of files whose content is kept, in all */
#define WRITTEN_MAX (1u << 20)  /* bytes of one that has a name */

/* One descriptor on its way into the blob. */
struct found {
    int fd;
    struct stat st;
    char name[NAME_BYTES];
    struct file_record r;
    void *content; /* malloc'ed, or NULL */
    const char *why; /* FILE_LOST */
};

/* ---- what /proc/self/fdinfo says ---- */

/* malloc'ed text; "" if there is none. */
static char *read_info(int fd)
{
    char path[64], *text = calloc(1, INFO_BYTES);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    int info = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    ssize_t r;
    while (text && info >= 0 && (r = read(info, text + n, INFO_BYTES - 1 - n)) > 0)
        n += (size_t)r;
    close(info);
    return text;
}

/* The number behind `key`; 0 if it is not there. */
static uint64_t info_number(const char *text, const char *key, int base)
{
    const char *at = strstr(text, key);
    return at ? strtoull(at + strlen(key), NULL, base) : 0;
}

static void info_time(const char *text, const char *key, uint64_t out[2])
{
    const char *at = strstr(text, key);
    unsigned long s = 0, ns = 0;
    if (at)
        sscanf(at + strlen(key), " (%lu, %lu)", &s, &ns);
    out[0] = s;
    out[1] = ns;
}

/* ---- kinds ---- */

static void lost(struct found *f, const char *why)
{
    f->r.kind = FILE_LOST;
    f->why = why;
}

static void describe_event(struct found *f)
{
    char *text = read_info(f->fd);
    f->r.kind = FILE_EVENT;
    f->r.value[0] = text ? info_number(text, "eventfd-count:", 16) : 0;
    f->r.value[1] = text ? info_number(text, "eventfd-semaphore:", 10) : 0;
    free(text);
}

static void describe_timer(struct found *f)
{
    char *text = read_info(f->fd);
    f->r.kind = FILE_TIMER;
    if (text) {
        info_time(text, "it_interval:", &f->r.value[0]);
        info_time(text, "it_value:", &f->r.value[2]);
        f->r.value[4] = info_number(text, "clockid:", 10);
        f->r.value[5] = info_number(text, "ticks:", 10);
    }
    free(text);
}

static void describe_signal(struct found *f)
{
    char *text = read_info(f->fd);
    f->r.kind = FILE_SIGNAL;
    f->r.value[0] = text ? info_number(text, "sigmask:", 16) : 0;
    free(text);
}

static void describe_poll(struct found *f)
{
    char *text = read_info(f->fd);
    size_t n = 0;
    for (const char *p = text; p && (p = strstr(p, "tfd:")); p++)
        n++;
    struct file_watch *w = calloc(n + 1, sizeof *w);
    f->r.kind = FILE_POLL;
    n = 0;
    for (const char *p = text; w && p && (p = strstr(p, "tfd:")); p++)
        if (sscanf(p, "tfd: %d events: %x data: %lx", &w[n].fd, &w[n].events, &w[n].data) == 3)
            n++;
    free(text);
    f->content = w;
    f->r.content_bytes = (uint32_t)(n * sizeof *w);
}

/* Takes the whole content of a regular file. Returns 0, or -1 if it cannot be read. */
static int keep_content(struct found *f, size_t *left)
{
    char path[64];
    size_t size = (size_t)f->st.st_size, n = 0;
    ssize_t r;
    snprintf(path, sizeof path, "/proc/self/fd/%d", f->fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC); /* ours may be open for writing only */
    f->content = malloc(size + 1);
    while (f->content && n < size &&
           (r = pread(fd, (char *)f->content + n, size - n, (off_t)n)) > 0)
        n += (size_t)r;
    if (fd >= 0)
        close(fd);
    if (fd < 0 || n < size)
        return -1;
    *left -= size;
    f->r.content_bytes = (uint32_t)size;
    return 0;
}

/* A file that has no name any more. */
static void describe_content(struct found *f, size_t *left)
{
    f->r.kind = FILE_CONTENT;
    if ((size_t)f->st.st_size > *left)
        lost(f, "a deleted file, too large for an image");
    else if (keep_content(f, left) < 0)
        lost(f, "a deleted file that cannot be read");
}

/* A file that the rank writes may be shorter, other or gone when the epoch is restarted. */
static void describe_written(struct found *f, size_t *left)
{
    size_t size = (size_t)f->st.st_size;
    bool written = (f->r.flags & O_ACCMODE) != O_RDONLY && !(f->r.flags & O_PATH);
    if (!written || size > WRITTEN_MAX || size > *left || strncmp(f->name, "/proc/", 6) == 0 ||
        strncmp(f->name, "/sys/", 5) == 0 || keep_content(f, left) < 0)
        return;
    f->r.value[0] = 1;
    f->r.value[1] = f->st.st_mode & 07777;
}

/* What is in a pipe, without taking it out: tee(2) copies it into another one. */
static void peek_pipe(struct found *f)
{
    int copy[2], waiting = 0;
    if (ioctl(f->fd, FIONREAD, &waiting) < 0 || waiting <= 0)
        return;
    int room = fcntl(f->fd, F_GETPIPE_SZ);
    if (pipe2(copy, O_CLOEXEC | O_NONBLOCK) < 0)
        return;
    fcntl(copy[1], F_SETPIPE_SZ, room);
    ssize_t n = syscall(SYS_tee, f->fd, copy[1], (size_t)waiting, 2 /* SPLICE_F_NONBLOCK */);
    f->content = malloc((size_t)waiting);
    n = n > 0 && f->content ? read(copy[0], f->content, (size_t)n) : 0;
    f->r.content_bytes = n > 0 ? (uint32_t)n : 0;
    close(copy[0]);
    close(copy[1]);
    if (n != waiting)
        lost(f, "a pipe whose content cannot be read");
}

static void describe_pipe(struct found *f)
{
    f->r.kind = FILE_PIPE;
    f->r.mate = -1; /* match_ends() */
    f->r.value[0] = (uint64_t)fcntl(f->fd, F_GETPIPE_SZ);
    if (f->name[0] == '/')
        lost(f, "a named pipe");
    else if ((f->r.flags & O_ACCMODE) == O_RDONLY)
        peek_pipe(f);
}

/* The inode of the socket at the other end of a UNIX socket, as sock_diag(7) tells; 0: none. */
static uint32_t unix_peer(ino_t ino)
{
    struct {
        struct nlmsghdr head;
        struct unix_diag_req req;
    } ask = {{sizeof ask, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0},
             {.sdiag_family = AF_UNIX, .udiag_states = UINT32_MAX, .udiag_ino = (uint32_t)ino,
              .udiag_show = UDIAG_SHOW_PEER, .udiag_cookie = {UINT32_MAX, UINT32_MAX}}};
    char answer[4096];
    uint32_t peer = 0;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    ssize_t n = fd >= 0 && send(fd, &ask, sizeof ask, 0) > 0
                    ? recv(fd, answer, sizeof answer, 0)
                    : 0;
    close(fd);
    const struct nlmsghdr *h = (const struct nlmsghdr *)answer;
    size_t head = NLMSG_LENGTH(sizeof(struct unix_diag_msg));
    if (n < (ssize_t)head || h->nlmsg_type != SOCK_DIAG_BY_FAMILY)
        return 0;
    for (size_t at = NLMSG_ALIGN(head); at + sizeof(struct nlattr) <= (size_t)n;) {
        const struct nlattr *a = (const struct nlattr *)(answer + at);
        if (a->nla_type == UNIX_DIAG_PEER && at + sizeof *a + sizeof peer <= (size_t)n)
            memcpy(&peer, a + 1, sizeof peer);
        at += a->nla_len ? NLA_ALIGN(a->nla_len) : (size_t)n;
    }
    return peer;
}

static int socket_option(int fd, int name)
{
    int value = 0;
    socklen_t size = sizeof value;
    getsockopt(fd, SOL_SOCKET, name, &value, &size);
    return value;
}

static void describe_pair(struct found *f)
{
    int waiting = 0;
    f->r.kind = FILE_PAIR;
    f->r.mate = -1;
    ioctl(f->fd, FIONREAD, &waiting);
    if (waiting <= 0)
        return;
    if (f->r.value[1] != SOCK_STREAM) {
        lost(f, "a socket pair with datagrams in it");
        return;
    }
    f->content = malloc((size_t)waiting);
    ssize_t n = f->content
                    ? recv(f->fd, f->content, (size_t)waiting, MSG_PEEK | MSG_DONTWAIT)
                    : 0;
    f->r.content_bytes = n > 0 ? (uint32_t)n : 0;
    if (n != waiting)
        lost(f, "a socket pair whose content cannot be read");
}

static void describe_socket(struct found *f)
{
    struct sockaddr_storage address = {0}, none = {0};
    socklen_t size = sizeof address;
    f->r.value[0] = (uint64_t)socket_option(f->fd, SO_DOMAIN);
    f->r.value[1] = (uint64_t)socket_option(f->fd, SO_TYPE);
    f->r.value[2] = (uint64_t)socket_option(f->fd, SO_PROTOCOL);
    uint32_t peer = f->r.value[0] == AF_UNIX ? unix_peer(f->st.st_ino) : 0;
    if (peer) {
        f->r.value[3] = peer;
        describe_pair(f);
        return;
    }
    getsockname(f->fd, (struct sockaddr *)&address, &size);
    none.ss_family = address.ss_family;
    if (getpeername(f->fd, (struct sockaddr *)&none, &(socklen_t){sizeof none}) == 0)
        lost(f, "a connection to another process");
    else if (socket_option(f->fd, SO_ACCEPTCONN))
        lost(f, "a socket that listens");
    else if (memcmp(&address, &none, sizeof address) != 0 || f->r.value[0] == AF_NETLINK)
        lost(f, "a socket that is bound to an address");
    else
        f->r.kind = FILE_SOCKET;
}

static void describe_named(struct found *f, bool all, size_t *left)
{
    size_t n = strlen(f->name);
    bool deleted = f->st.st_nlink == 0 || (n > 10 && strcmp(f->name + n - 10, " (deleted)") == 0);
    char own[64];
    f->r.kind = FILE_PATH;
    snprintf(own, sizeof own, "/proc/%d/", (int)getpid());
    if (S_ISREG(f->st.st_mode) && deleted && strncmp(f->name, "/proc/", 6) != 0)
        describe_content(f, left);
    else if (deleted && S_ISDIR(f->st.st_mode))
        lost(f, "a deleted folder");
    else if (strncmp(f->name, own, strlen(own)) == 0) {
        char rest[NAME_BYTES];
        snprintf(rest, sizeof rest, "/proc/self/%s", f->name + strlen(own));
        strcpy(f->name, rest);
    } else if (S_ISREG(f->st.st_mode) && all) {
        describe_written(f, left);
    }
}

static void describe_kind(struct found *f, bool all, size_t *left)
{
    static const struct {
        const char *name;
        void (*describe)(struct found *);
    } kinds[] = {{"anon_inode:[eventfd]", describe_event},
                 {"anon_inode:[timerfd]", describe_timer},
                 {"anon_inode:[signalfd]", describe_signal},
                 {"anon_inode:[eventpoll]", describe_poll},
                 {"socket:", describe_socket}};
    if (S_ISFIFO(f->st.st_mode)) {
        describe_pipe(f);
        return;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strncmp(f->name, kinds[i].name, strlen(kinds[i].name)) == 0) {
            kinds[i].describe(f);
            return;
        }
    if (f->name[0] == '/')
        describe_named(f, all, left);
    else
        lost(f, "of a kind that is not restored");
}

/* ---- the list ---- */

static bool same_open_file(int a, int b)
{
    pid_t pid = getpid();
    return syscall(SYS_kcmp, pid, pid, KCMP_FILE, a, b) == 0;
}

static bool describe_one(struct found *f, int fd)
{
    char link[64];
    memset(&f->r, 0, sizeof f->r);
    f->content = NULL;
    f->why = NULL;
    f->fd = f->r.fd = fd;
    if (fstat(fd, &f->st) < 0)
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, f->name, sizeof f->name - 1);
    f->name[n > 0 ? n : 0] = '\0';
    off_t at = lseek(fd, 0, SEEK_CUR);
    f->r.mate = -1;
    f->r.flags = (uint32_t)fcntl(fd, F_GETFL);
    f->r.cloexec = fcntl(fd, F_GETFD) & FD_CLOEXEC;
    f->r.offset = at > 0 ? (uint64_t)at : 0;
    f->r.size = S_ISREG(f->st.st_mode) ? (uint64_t)f->st.st_size : 0;
    return true;
}

/* The numbers of all descriptors of the application, sorted. */
static size_t list(int *numbers)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    for (struct dirent *e; d && (e = readdir(d)) && n < FILES_MAX;) {
        int fd = (int)strtol(e->d_name, NULL, 10);
        if (e->d_name[0] != '.' && fd != dirfd(d) && !own_fd_is(fd))
            numbers[n++] = fd;
    }
    if (d)
        closedir(d);
    return n;
}

/* Ends of pipes and pairs find each other. A side of which every end is elsewhere is lost. */
static void match_ends(struct found *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct found *f = &all[i];
        if (f->r.kind != FILE_PIPE && f->r.kind != FILE_PAIR)
            continue;
        for (size_t j = 0; j < n && f->r.mate < 0; j++) {
            const struct found *g = &all[j];
            bool other = f->r.kind == FILE_PIPE
                             ? g->st.st_ino == f->st.st_ino && g->st.st_dev == f->st.st_dev &&
                                   ((g->r.flags ^ f->r.flags) & O_ACCMODE)
                             : g->st.st_ino == f->r.value[3];
            if (i != j && g->r.kind == f->r.kind && other)
                f->r.mate = g->fd;
        }
        if (f->r.mate < 0)
            lost(f, f->r.kind == FILE_PIPE ? "a pipe to another process, or with one end closed"
                                           : "a connection to another process");
    }
}

static int append(struct files *files, const struct found *f)
{
    struct file_record r = f->r;
    r.path_bytes = (uint32_t)strlen(f->name) + 1;
    size_t bytes = (sizeof r + r.path_bytes + r.content_bytes + 7) & ~(size_t)7;
    r.bytes = (uint32_t)bytes;
    char *p = realloc(files->records, files->bytes + bytes);
    if (!p)
        return -1;
    files->records = p;
    p += files->bytes;
    memset(p, 0, bytes);
    memcpy(p, &r, sizeof r);
    memcpy(p + sizeof r, f->name, r.path_bytes);
    if (r.content_bytes)
        memcpy(p + sizeof r + r.path_bytes, f->content, r.content_bytes);
    files->bytes += bytes;
    return 0;
}

static enum image_file_kind image_kind(const struct found *f)
{
    return S_ISFIFO(f->st.st_mode)   ? IMAGE_FILE_PIPE
           : S_ISSOCK(f->st.st_mode) ? IMAGE_FILE_SOCKET
           : f->name[0] != '/'       ? IMAGE_FILE_OTHER
           : isatty(f->fd)           ? IMAGE_FILE_TTY
                                     : IMAGE_FILE_PATH;
}

static int keep(struct files *files, struct found *f, bool all, struct err *err)
{
    if (f->r.kind == FILE_LOST && all)
        return err_set(err, "descriptor %d (%s) is %s: it could not be restored", f->fd, f->name,
                       f->why);
    struct image_file *out = &files->file[files->n];
    *out = (struct image_file){.fd = f->fd, .kind = image_kind(f), .flags = f->r.flags,
                               .cloexec = f->r.cloexec, .offset = f->r.offset,
                               .size = (uint64_t)f->st.st_size, .dev = f->st.st_dev,
                               .ino = f->st.st_ino, .path = strdup(f->name)};
    if (!out->path || append(files, f) < 0)
        return err_sys(err, "no memory");
    files->n++;
    return 0;
}

/* Before any file is read: who closes it again gives up the locks of the process (fcntl(2));
 * locks_again() takes those back. */
static int note_locks(struct locks *locks, const int *numbers, size_t n)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        char *text = read_info(numbers[i]);
        rc = text ? locks_add(locks, numbers[i], text) : -1;
        free(text);
    }
    return rc;
}

int files_describe(struct files *files, bool all, struct err *err)
{
    int numbers[FILES_MAX];
    size_t n = list(numbers), left = CONTENT_MAX, found = 0;
    int result = 0;
    memset(files, 0, sizeof *files);
    struct found *f = calloc(n + 1, sizeof *f);
    files->file = calloc(n + 1, sizeof *files->file);
    if (!f || !files->file || (all && note_locks(&files->locks, numbers, n) < 0))
        result = err_sys(err, "no memory");
    for (size_t i = 0; i < n && result == 0; i++) {
        struct found *me = &f[found];
        if (!describe_one(me, numbers[i]))
            continue;
        for (size_t j = 0; j < found && me->r.mate < 0; j++)
            if (f[j].st.st_ino == me->st.st_ino && f[j].st.st_dev == me->st.st_dev &&
                f[j].r.kind != FILE_SAME && same_open_file(f[j].fd, me->fd))
                me->r.mate = f[j].fd;
        if (me->r.mate < 0)
            me->r.mate = own_fd_stream(me->fd);
        if (me->r.mate >= 0)
            me->r.kind = FILE_SAME;
        else
            describe_kind(me, all, &left);
        found++;
    }
    if (result == 0)
        match_ends(f, found);
    for (size_t i = 0; i < found && result == 0; i++)
        result = keep(files, &f[i], all, err);
    for (size_t i = 0; i < found; i++)
        free(f[i].content);
    free(f);
    locks_again(&files->locks);
    return result;
}

void files_free(struct files *files)
{
    for (size_t i = 0; i < files->n; i++)
        free((char *)files->file[i].path);
    free(files->file);
    free(files->records);
    free(files->locks.some);
    memset(files, 0, sizeof *files);
}
