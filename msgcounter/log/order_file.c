/*
 * order_file.c - segment files of an order log, with a libc
 */
#include "msgcounter/log/order_file.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEW        ".new"
#define STEP_FIRST (64u << 10)
#define STEP       (1u << 20)

int order_folder(char *buf, size_t size, const char *session, uint64_t epoch)
{
    return epoch ? snprintf(buf, size, "%s/epochs/%04" PRIu64, session, epoch)
                 : snprintf(buf, size, "%s/start", session);
}

static int path_of(char buf[PATH_MAX], const char *session, uint64_t epoch, uint32_t rank)
{
    char folder[PATH_MAX];
    order_folder(folder, sizeof folder, session, epoch);
    return snprintf(buf, PATH_MAX, "%s/rank-%u.order", folder, rank) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Maps all that the segment may become; behind its present end nothing may be touched. */
static struct order_segment *create(const char *path, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_sys(err, "cannot make %s", path);
        return NULL;
    }
    int rc = posix_fallocate(fd, 0, STEP_FIRST);
    void *p = rc ? MAP_FAILED
                 : mmap(NULL, ORDER_SEGMENT_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED)
        return p;
    errno = rc ? rc : errno;
    err_sys(err, "cannot map %s", path);
    return NULL;
}

struct order_segment *order_file_create(const char *session, uint64_t epoch, uint32_t rank,
                                        uint32_t world_size, struct err *err)
{
    char path[PATH_MAX], new[PATH_MAX + sizeof NEW], folder[PATH_MAX];
    if (path_of(path, session, epoch, rank) < 0) {
        err_set(err, "%s: name too long", session);
        return NULL;
    }
    order_folder(folder, sizeof folder, session, epoch);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST) {
        err_sys(err, "cannot make %s", folder);
        return NULL;
    }
    snprintf(new, sizeof new, "%s" NEW, path);
    struct order_segment *s = create(new, err);
    if (!s)
        return NULL;
    order_init(s, rank, world_size, epoch, STEP_FIRST);
    if (rename(new, path) == 0)
        return s;
    err_sys(err, "cannot rename %s", new);
    munmap(s, ORDER_SEGMENT_MAX);
    return NULL;
}

int order_file_grow(const char *session, struct order_segment *s, uint64_t bytes)
{
    char path[PATH_MAX];
    uint64_t room = s->room + (bytes + STEP - 1) / STEP * STEP;
    int fd, rc = path_of(path, session, s->epoch, s->rank);
    if (rc < 0)
        return rc;
    if (room > ORDER_SEGMENT_MAX)
        return -EFBIG;
    if ((fd = open(path, O_RDWR | O_CLOEXEC)) < 0)
        return -errno;
    rc = -posix_fallocate(fd, 0, (off_t)room);
    close(fd);
    if (rc == 0)
        s->room = room;
    return rc;
}

void order_file_finish(struct order_segment *s, uint64_t next)
{
    if (!s)
        return;
    s->next = next;
    munmap(s, ORDER_SEGMENT_MAX);
}

/* ------------------------------------------------------------------------------------ reading */

static uint64_t size_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* What is wrong with it, or NULL and *map is set. */
static const char *map_fd(struct order_map *map, int fd)
{
    uint64_t size = size_of(fd);
    void *p = MAP_FAILED;
    if (size >= sizeof(struct order_segment))
        p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return "it cannot be mapped or is too short";
    *map = (struct order_map){p, size};
    const char *fault = order_fault(*map);
    if (!fault)
        return NULL;
    munmap(p, size);
    if (size_of(fd) != size) /* its writer is at work, and is further than what is mapped */
        return map_fd(map, fd);
    return fault;
}

/* Returns 1, 0 if there is no such file, -1 with err set. */
static int map_file(struct order_map *map, const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(err, "%s", path);
    const char *fault = map_fd(map, fd);
    close(fd);
    return fault ? err_set(err, "%s: %s", path, fault) : 1;
}

/* As map_file(). */
static int map_segment(struct order_map *map, const char *session, uint64_t epoch, uint32_t rank,
                       struct err *err)
{
    char path[PATH_MAX];
    if (path_of(path, session, epoch, rank) < 0)
        return err_set(err, "%s: name too long", session);
    int found = map_file(map, path, err);
    if (found <= 0 || (map->segment->rank == rank && map->segment->epoch == epoch))
        return found;
    munmap((void *)map->segment, map->size);
    return err_set(err, "%s: it is of another rank or epoch", path);
}

int order_chain_open(struct order_chain *chain, const char *session, uint64_t epoch, uint32_t rank,
                     struct err *err)
{
    int found;
    *chain = (struct order_chain){0};
    for (;;) {
        struct order_map map;
        if ((found = map_segment(&map, session, epoch, rank, err)) <= 0)
            break;
        struct order_map *maps = realloc(chain->maps, (chain->n + 1) * sizeof *maps);
        if (!maps) {
            munmap((void *)map.segment, map.size);
            found = err_sys(err, "no memory for the order log");
            break;
        }
        chain->maps = maps;
        maps[chain->n++] = map;
        /* Epochs are numbered upwards: a chain has an end. */
        if (map.segment->next <= epoch)
            break;
        epoch = map.segment->next;
    }
    if (found >= 0)
        return 0;
    order_chain_close(chain);
    return -1;
}

void order_chain_close(struct order_chain *chain)
{
    for (uint32_t i = 0; i < chain->n; i++)
        munmap((void *)chain->maps[i].segment, chain->maps[i].size);
    free(chain->maps);
    *chain = (struct order_chain){0};
}

static void add_segment(struct order_size *size, const char *path)
{
    struct order_map map;
    struct order_cursor c;
    struct order_outcome o;
    if (map_file(&map, path, NULL) <= 0)
        return;
    size->bytes += map.segment->at - sizeof *map.segment;
    order_cursor_init(&c, &map, 1);
    /* What is carried was posted, and is counted, in the segment before. */
    while (order_cursor_next(&c, &o) == ORDER_NEXT_OUTCOME)
        size->outcomes += o.kind != ORDER_KIND_SOURCE || o.source >= map.segment->carried;
    munmap((void *)map.segment, map.size);
}

struct order_size order_size_of(const char *session, uint64_t epoch)
{
    char folder[PATH_MAX], pattern[PATH_MAX + 16];
    struct order_size size = {0};
    glob_t g;
    order_folder(folder, sizeof folder, session, epoch);
    snprintf(pattern, sizeof pattern, "%s/rank-*.order", folder);
    if (glob(pattern, 0, NULL, &g) != 0)
        return size;
    for (size_t i = 0; i < g.gl_pathc; i++)
        add_segment(&size, g.gl_pathv[i]);
    globfree(&g);
    return size;
}
