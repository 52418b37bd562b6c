/*
 * locks.c - locks on files, saved and restored
 *
 *     lock:   1: POSIX  ADVISORY  WRITE 4711 fd:01:1835 10 29        proc(5), /proc/locks
 */
#include "runtime/ckpt/locks.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

static const char *const kinds[] = {
    [LOCK_WHOLE] = "FLOCK", [LOCK_RANGE] = "POSIX", [LOCK_OPEN_FILE] = "OFDLCK"};

static int parse(struct lock_record *l, const char *line)
{
    char kind[16], type[16], end[32];
    unsigned long start;
    if (sscanf(line, "lock: %*d: %15s %*s %15s %*d %*s %lu %31s", kind, type, &start, end) != 4)
        return -1;
    l->type = type[0] == 'W' ? F_WRLCK : F_RDLCK;
    l->start = start;
    l->len = strcmp(end, "EOF") ? strtoul(end, NULL, 10) - start + 1 : 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i], kind)) {
            l->kind = (uint16_t)i;
            return 0;
        }
    return -1; /* a lease or the like */
}

int locks_add(struct locks *locks, int fd, const char *info)
{
    for (const char *p = info; (p = strstr(p, "lock:")); p++) {
        struct lock_record l = {.fd = fd};
        if (parse(&l, p) < 0)
            continue;
        struct lock_record *some = realloc(locks->some, (locks->n + 1) * sizeof *some);
        if (!some)
            return -1;
        locks->some = some;
        some[locks->n++] = l;
    }
    return 0;
}

static int take(const struct lock_record *l)
{
    struct flock range = {.l_type = l->type, .l_whence = SEEK_SET, .l_start = (off_t)l->start,
                          .l_len = (off_t)l->len};
    if (l->kind == LOCK_WHOLE)
        return flock(l->fd, (l->type == F_WRLCK ? LOCK_EX : LOCK_SH) | LOCK_NB);
    return fcntl(l->fd, l->kind == LOCK_RANGE ? F_SETLK : F_OFD_SETLK, &range);
}

void locks_again(const struct locks *locks)
{
    for (size_t i = 0; i < locks->n; i++)
        if (locks->some[i].kind == LOCK_RANGE)
            (void)take(&locks->some[i]); /* nobody has had the time to take it */
}

int locks_restore(const struct image_state *state, struct err *err)
{
    size_t size;
    const struct lock_record *l = image_blob_find(state, LOCKS_BLOB, &size);
    for (size_t i = 0; l && i < size / sizeof *l; i++)
        if (take(&l[i]) < 0)
            return err_sys(err, "cannot lock descriptor %d again", l[i].fd);
    return 0;
}
