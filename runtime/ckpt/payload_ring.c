/*
 * payload_ring.c - segment files of a rank's payload log that are written to again and again
 *
 * The file of a slot has two names: ring-N as long as it is one, and that of the segment that it
 * holds. The copy takes the latter away from it; so does the trimming of a log, and then there is
 * nothing to copy.
 */
#include "runtime/ckpt/payload_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/fault.h"
#include "runtime/half/own_fd.h"

#define SLOTS   12           /* segments that are not copied yet, and the one that is written to */
#define LARGEST (256ul << 20) /* bytes: of one that is worth it */
#define ALL     (512ul << 20) /* bytes: of all together */
#define SPARE   4             /* times as large as asked for: too good for it */
#define WAITING (32ul << 20)  /* bytes: full ones that may wait to be trimmed, but not more ... */
#define EARNED  16            /* ... than that part of all: new pages cost ten copies */

#define PAGE        4096
#define TMPFS_MAGIC 0x01021994 /* linux/magic.h: its files are memory; a copy would be more of it */

enum state {
    SLOT_NONE, /* no file */
    SLOT_FREE, /* of segment names it has none */
    SLOT_OPEN, /* written to */
    SLOT_FULL, /* to be copied */
    SLOT_BUSY, /* the thread has it */
};

struct slot {
    enum state state;
    uint32_t segment;
    struct log_map map;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct slot slot[SLOTS];
    bool started;
    bool useless;              /* no more files are taken */
    bool away;                 /* the mapping that the writer still has is the thread's */
    uint32_t trimmed;          /* segments before it are gone */
    uint64_t filled;           /* bytes of slots so far */
    clockid_t clock;           /* of the thread's processor time */
    struct log_file file;      /* as the writer's; the folder is borrowed for good */
    uint32_t rank;
    pthread_mutex_t names;     /* of segments do not change */
} ring = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .changed = PTHREAD_COND_INITIALIZER,
          .names = PTHREAD_MUTEX_INITIALIZER};

/* Enough for a path of log_file_path and an ending. */
struct name {
    char s[PATH_MAX + 16];
};

static struct name segment_name(uint32_t segment)
{
    struct name n;
    log_file_path(n.s, PATH_MAX, ring.file.dir, ring.rank, segment);
    return n;
}

static struct name slot_name(const struct slot *s)
{
    struct name n;
    log_file_ring_path(n.s, PATH_MAX, ring.file.dir, ring.rank, (unsigned)(s - ring.slot));
    return n;
}

/* ---- the thread: from full to free ---- */

/* Is the segment still there, or was it trimmed? */
static bool is_wanted(const struct slot *s)
{
    return access(segment_name(s->segment).s, F_OK) == 0;
}

/* Bytes up to the last record and the zeros behind it, in whole pages: what an earlier segment left
 * in the file need not be kept. */
static size_t used(struct log_map map)
{
    struct log_cursor c;
    if (log_cursor_init(&c, &map, 1) < 0)
        return map.size;
    while (log_cursor_skip(&c))
        ;
    uint64_t end = (c.at.offset + sizeof(struct log_record) + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    return end < map.size ? end : map.size;
}

/* All that is used, in one write past the page cache. */
static int write_direct(const char *path, struct log_map map)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
    if (fd < 0)
        return -1;
    size_t bytes = used(map);
    int rc = pwrite(fd, map.base, bytes, 0) == (ssize_t)bytes ? ftruncate(fd, (off_t)map.size) : -1;
    return close(fd) < 0 ? -1 : rc;
}

/* Gives the name to the copy. One that is gone does not come back. */
static int replace(const char *copy, const char *name)
{
    pthread_mutex_lock(&ring.names);
    int rc = access(name, F_OK) == 0 ? rename(copy, name) : unlink(copy);
    pthread_mutex_unlock(&ring.names);
    return rc;
}

static int copy_out(const struct slot *s)
{
    struct name name = segment_name(s->segment), copy;
    snprintf(copy.s, sizeof copy.s, "%.*s" LOG_FILE_NEW, PATH_MAX, name.s);
    int rc = write_direct(copy.s, s->map);
    fault_point(FAULT_LOG_COPIED);
    if (rc == 0)
        rc = replace(copy.s, name.s);
    if (rc < 0)
        unlink(copy.s);
    return rc;
}

/* Readers hold a lock on what they have mapped. They take it by the segment's name, and look again
 * whether it is that (log_file_map): from now on nobody can come. */
static bool is_unread(const struct slot *s)
{
    int fd = open(slot_name(s).s, O_RDONLY | O_CLOEXEC);
    bool unread = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (fd >= 0)
        close(fd);
    return unread;
}

/* The file belongs to its segment, and to its readers. */
static void give_up(struct slot *s)
{
    unlink(slot_name(s).s);
    munmap(s->map.base, s->map.size);
    *s = (struct slot){.state = SLOT_NONE};
}

/* The oldest full one, if it is trimmed already or its place is needed: the log of what no fine
 * checkpoint wants any more need not be copied. */
static struct slot *next_to_clear(void)
{
    struct slot *oldest = NULL;
    uint64_t full = 0, may_wait = ring.filled / EARNED < WAITING ? ring.filled / EARNED : WAITING;
    for (struct slot *s = ring.slot; s < ring.slot + SLOTS; s++) {
        if (s->state != SLOT_FULL)
            continue;
        full += s->map.size;
        if (!oldest || s->segment < oldest->segment)
            oldest = s;
    }
    return oldest && (full > may_wait || oldest->segment < ring.trimmed) ? oldest : NULL;
}

static void *run(void *arg)
{
    pthread_setname_np(pthread_self(), "dbg3-log");
    own_fd_unshare();
    pthread_mutex_lock(&ring.lock);
    for (;;) {
        struct slot *s;
        while (!(s = next_to_clear()))
            pthread_cond_wait(&ring.changed, &ring.lock);
        s->state = SLOT_BUSY;
        pthread_mutex_unlock(&ring.lock);
        bool copied = !is_wanted(s) || copy_out(s) == 0;
        bool kept = copied && is_unread(s);
        pthread_mutex_lock(&ring.lock);
        if (kept)
            s->state = SLOT_FREE;
        else
            give_up(s);
        if (!copied)
            ring.useless = true;
    }
    return arg;
}

void payload_ring_start(void)
{
    pthread_t thread;
    if (ring.started || pthread_create(&thread, NULL, run, NULL))
        return;
    pthread_getcpuclockid(thread, &ring.clock);
    pthread_detach(thread);
    ring.started = true;
}

/* ---- the rank: from free or none to open, and full ---- */

static struct slot *find(enum state state)
{
    for (struct slot *s = ring.slot; s < ring.slot + SLOTS; s++)
        if (s->state == state)
            return s;
    return NULL;
}

/* What the writer expects of a new segment, which is not there before it is named. */
static bool reuse(struct slot *s)
{
    struct name name = segment_name(s->segment);
    memset(s->map.base, 0, LOG_FIRST_OFFSET + sizeof(struct log_record));
    unlink(name.s);
    return link(slot_name(s).s, name.s) == 0;
}

/* Makes the file of a new segment a slot's. */
static void adopt(struct slot *s, uint32_t segment, struct log_map map)
{
    struct statfs fs;
    struct name name = segment_name(segment), slot = slot_name(s);
    unlink(slot.s);
    if (statfs(name.s, &fs) < 0 || fs.f_type == TMPFS_MAGIC || link(name.s, slot.s) < 0)
        ring.useless = true;
    else
        *s = (struct slot){SLOT_OPEN, segment, map};
}

/* The smallest free one that is large enough, if it is not far too large, or NULL. */
static struct slot *find_fitting(uint64_t min_size)
{
    uint64_t size = ring.file.segment_size ? ring.file.segment_size : LOG_SEGMENT_SIZE;
    uint64_t largest = SPARE * (min_size > size ? min_size : size);
    struct slot *best = NULL;
    for (struct slot *s = ring.slot; s < ring.slot + SLOTS; s++)
        if (s->state == SLOT_FREE && s->map.size >= min_size && s->map.size <= largest &&
            (!best || s->map.size < best->map.size))
            best = s;
    return best;
}

/* One that fits, under the segment's name. */
static struct slot *reuse_one(uint32_t segment, uint64_t min_size)
{
    struct slot *s;
    while ((s = find_fitting(min_size))) {
        s->segment = segment;
        if (reuse(s)) {
            s->state = SLOT_OPEN;
            return s;
        }
        give_up(s);
    }
    return NULL;
}

static bool has_room(uint64_t size)
{
    for (const struct slot *s = ring.slot; s < ring.slot + SLOTS; s++)
        size += s->map.size;
    return size <= ALL && find(SLOT_NONE);
}

/* A slot for a file of that size, or NULL. Free ones, which did not fit, make way for it. */
static struct slot *make_room(uint64_t size)
{
    struct slot *s;
    while (!has_room(size) && (s = find(SLOT_FREE)))
        give_up(s);
    return has_room(size) ? find(SLOT_NONE) : NULL;
}

static int next(struct log_writer *w, uint32_t segment, uint64_t min_size, struct log_map *map,
                bool *warm)
{
    struct slot *s = min_size <= LARGEST ? reuse_one(segment, min_size) : NULL;
    *warm = s != NULL;
    if (s) {
        *map = s->map;
        return 0;
    }
    *map = (struct log_map){0};
    int rc = log_file_rotate(w, segment, min_size, map);
    if (rc < 0 || map->size > LARGEST || !ring.started || ring.useless)
        return rc;
    s = make_room(map->size);
    if (s)
        adopt(s, segment, *map);
    return 0;
}

/* Whether this is the mapping of a slot, which is full from now on. */
static bool put_away(struct log_map map)
{
    for (struct slot *s = ring.slot; s < ring.slot + SLOTS; s++)
        if (s->state == SLOT_OPEN && s->map.base == map.base) {
            s->state = SLOT_FULL;
            ring.filled += s->map.size;
            pthread_cond_signal(&ring.changed);
            return true;
        }
    return false;
}

void payload_ring_full(struct log_map map)
{
    pthread_mutex_lock(&ring.lock);
    ring.away = put_away(map);
    pthread_mutex_unlock(&ring.lock);
}

int payload_ring_rotate(struct log_writer *w, uint32_t segment, uint64_t min_size,
                        struct log_map *map, bool *warm)
{
    struct log_map fresh;
    pthread_mutex_lock(&ring.lock);
    if (!ring.file.dir)
        ring.file = *(const struct log_file *)w->arg;
    ring.rank = w->owner.rank;
    int rc = next(w, segment, min_size, &fresh, warm);
    if (rc == 0) {
        if (!ring.away && !put_away(*map) && map->base)
            munmap(map->base, map->size);
        ring.away = false;
        *map = fresh;
    }
    pthread_mutex_unlock(&ring.lock);
    return rc;
}

int payload_ring_trim(const char *dir, uint32_t rank, uint32_t keep_from, struct err *err)
{
    pthread_mutex_lock(&ring.names);
    int rc = log_trim(dir, rank, keep_from, err);
    pthread_mutex_unlock(&ring.names);
    pthread_mutex_lock(&ring.lock);
    ring.trimmed = keep_from;
    pthread_cond_signal(&ring.changed);
    pthread_mutex_unlock(&ring.lock);
    return rc;
}

uint64_t payload_ring_spent_ns(void)
{
    struct timespec ts = {0};
    if (ring.started)
        clock_gettime(ring.clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}
