/*
 * locks.h - locks on files, saved and restored: flock(2), fcntl(2) of the process and of open files
 */
#ifndef DBG3_CKPT_LOCKS_H
#define DBG3_CKPT_LOCKS_H

#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/image/image.h"

#define LOCKS_BLOB "dbg3.locks"

/* The blob: one after the other, each by a descriptor of the open file that it is held by. */
struct lock_record {
    int32_t fd;
    uint16_t kind; /* enum lock_kind */
    int16_t type;  /* F_RDLCK or F_WRLCK */
    uint64_t start, len; /* len 0: to the end; of LOCK_RANGE and LOCK_OPEN_FILE */
};

enum lock_kind { LOCK_WHOLE, LOCK_RANGE, LOCK_OPEN_FILE };

struct locks {
    struct lock_record *some; /* malloc'ed */
    size_t n;
};

/* Adds what /proc/self/fdinfo (its text) says of a descriptor. 0, or -1: no memory. */
int locks_add(struct locks *locks, int fd, const char *info);

/* Takes those of the process again that it may have lost by closing a file. */
void locks_again(const struct locks *locks);

/* When the descriptors are there again. */
int locks_restore(const struct image_state *state, struct err *err);

#endif
