/*
 * log_file.c - segment files of a payload log, with a libc
 */
#include "msgcounter/log/log_file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX ".dlog"
#define DIGITS 8
#define PAGE   4096u
#define TRIES  10

static int rank_path(char *buf, size_t size, const char *dir, uint32_t rank)
{
    return snprintf(buf, size, "%s/rank-%u", dir, rank);
}

int log_file_path(char *buf, size_t size, const char *dir, uint32_t rank, uint32_t segment)
{
    return snprintf(buf, size, "%s/rank-%u/%0*u" SUFFIX, dir, rank, DIGITS, segment);
}

int log_file_ring_path(char *buf, size_t size, const char *dir, uint32_t rank, unsigned slot)
{
    return snprintf(buf, size, "%s/rank-%u/ring-%u", dir, rank, slot);
}

/* As log_file_path, or -ENAMETOOLONG. */
static int path_checked(char buf[PATH_MAX], const char *dir, uint32_t rank, uint32_t segment)
{
    return log_file_path(buf, PATH_MAX, dir, rank, segment) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int map_file(int fd, bool writable, struct log_map *map)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size == 0)
        return -EINVAL;
    void *p = mmap(NULL, (size_t)st.st_size, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                   MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    *map = (struct log_map){p, (uint64_t)st.st_size};
    return 0;
}

/* The file gets its name when it has its size: a reader must not meet an empty one. */
static int segment_create(const char *path, uint64_t size, struct log_map *map)
{
    struct log_map made = {0};
    char new[PATH_MAX + sizeof LOG_FILE_NEW];
    snprintf(new, sizeof new, "%s" LOG_FILE_NEW, path);
    int fd = open(new, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = -posix_fallocate(fd, 0, (off_t)size);
    if (rc == 0)
        rc = map_file(fd, true, &made);
    if (rc == 0 && rename(new, path) < 0)
        rc = -errno;
    close(fd);
    if (rc == 0) {
        *map = made;
        return 0;
    }
    if (made.base)
        munmap(made.base, made.size);
    unlink(new);
    return rc;
}

int log_file_rotate(struct log_writer *w, uint32_t segment, uint64_t min_size, struct log_map *map)
{
    const struct log_file *file = w->arg;
    uint64_t size = file->segment_size ? file->segment_size : LOG_SEGMENT_SIZE;
    if (size < min_size) /* and room for small ones that come behind */
        size = min_size + size / 16;
    size = (size + PAGE - 1) & ~(uint64_t)(PAGE - 1);

    char path[PATH_MAX];
    int rc = path_checked(path, file->dir, w->owner.rank, segment);
    if (rc < 0)
        return rc;
    char folder[PATH_MAX];
    rank_path(folder, sizeof folder, file->dir, w->owner.rank);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return -errno;

    struct log_map old = *map;
    rc = segment_create(path, size, map);
    if (rc == 0 && old.base)
        munmap(old.base, old.size);
    return rc;
}

/* Opens a segment and says that it is read: the lock stays as long as the mapping. Where files have
 * no locks, none is used for another segment. */
static int open_locked(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    flock(fd, LOCK_SH);
    return fd;
}

/* Is it still the file of this name? Its writer may have taken it for another segment before it was
 * locked. */
static bool is_at(int fd, const char *path)
{
    struct stat have, there;
    return fstat(fd, &have) == 0 && stat(path, &there) == 0 && have.st_ino == there.st_ino;
}

int log_file_map(const char *dir, uint32_t rank, uint32_t segment, bool writable,
                 struct log_map *map)
{
    char path[PATH_MAX];
    int fd = path_checked(path, dir, rank, segment);
    if (fd < 0)
        return fd;
    fd = open_locked(path, writable ? O_RDWR : O_RDONLY);
    for (int i = 0; fd >= 0 && !is_at(fd, path) && i < TRIES; i++) {
        close(fd);
        fd = open_locked(path, writable ? O_RDWR : O_RDONLY);
    }
    if (fd < 0)
        return fd;
    int rc = map_file(fd, writable, map);
    close(fd);
    return rc;
}

/* Whether the name is that of a segment. */
static bool segment_number(const char *name, uint32_t *number)
{
    if (strlen(name) < DIGITS || strcmp(name + DIGITS, SUFFIX))
        return false;
    uint32_t n = 0;
    for (int i = 0; i < DIGITS; i++) {
        if (!isdigit((unsigned char)name[i]))
            return false;
        n = n * 10 + (uint32_t)(name[i] - '0');
    }
    *number = n;
    return true;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The numbers of the segments in a folder, sorted; it may not exist. 0 or -1. */
static int read_numbers(const char *path, uint32_t **numbers, size_t *n, struct err *err)
{
    uint32_t *list = NULL;
    size_t count = 0, cap = 0;
    DIR *d = opendir(path);
    if (!d && errno != ENOENT)
        return err_sys(err, "%s", path);
    for (struct dirent *e; d && (e = readdir(d));) {
        uint32_t number;
        if (!segment_number(e->d_name, &number))
            continue;
        if (count == cap) {
            cap = cap ? 2 * cap : 64;
            uint32_t *more = realloc(list, cap * sizeof *list);
            if (!more) {
                free(list);
                closedir(d);
                return err_sys(err, "%s", path);
            }
            list = more;
        }
        list[count++] = number;
    }
    if (d)
        closedir(d);
    if (count)
        qsort(list, count, sizeof *list, by_number);
    *numbers = list;
    *n = count;
    return 0;
}

/* Is a segment there that is not in the list? A folder is not read at one moment: a name that gets
 * another file meanwhile, as a segment's does whose copy takes its place, may be passed over. */
static bool is_incomplete(const char *dir, uint32_t rank, const uint32_t *numbers, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        char path[PATH_MAX];
        if (numbers[i] == numbers[i - 1] + 1)
            continue;
        log_file_path(path, sizeof path, dir, rank, numbers[i - 1] + 1);
        if (access(path, F_OK) == 0)
            return true;
    }
    return false;
}

int log_file_list(const char *dir, uint32_t rank, uint32_t **numbers, size_t *n, struct err *err)
{
    char path[PATH_MAX];
    if (rank_path(path, sizeof path, dir, rank) >= (int)sizeof path)
        return err_set(err, "%s: name too long", dir);
    int rc = read_numbers(path, numbers, n, err);
    for (int i = 0; rc == 0 && is_incomplete(dir, rank, *numbers, *n) && i < TRIES; i++) {
        free(*numbers);
        rc = read_numbers(path, numbers, n, err);
    }
    return rc;
}

/* Removes the segments from..to. */
static int remove_range(const char *dir, uint32_t rank, uint32_t from, uint32_t to, struct err *err)
{
    uint32_t *numbers;
    size_t n;
    if (log_file_list(dir, rank, &numbers, &n, err) < 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        char path[PATH_MAX];
        if (numbers[i] < from || numbers[i] > to)
            continue;
        log_file_path(path, sizeof path, dir, rank, numbers[i]);
        if (unlink(path) < 0 && errno != ENOENT)
            rc = err_sys(err, "%s: cannot remove", path);
    }
    free(numbers);
    return rc;
}

int log_trim(const char *dir, uint32_t rank, uint32_t keep_from, struct err *err)
{
    return keep_from ? remove_range(dir, rank, 0, keep_from - 1, err) : 0;
}

int log_remove_from(const char *dir, uint32_t rank, uint32_t from, struct err *err)
{
    return remove_range(dir, rank, from, UINT32_MAX, err);
}

/* Removes what is no segment from one folder. */
static void tidy_folder(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        uint32_t number;
        if (e->d_name[0] != '.' && !segment_number(e->d_name, &number))
            unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d)
        closedir(d);
}

void log_tidy(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[PATH_MAX];
        unsigned rank;
        if (sscanf(e->d_name, "rank-%u", &rank) == 1 &&
            rank_path(path, sizeof path, dir, rank) < (int)sizeof path)
            tidy_folder(path);
    }
    if (d)
        closedir(d);
}
