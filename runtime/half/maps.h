/*
 * maps.h - /proc/PID/maps as an array
 */
#ifndef DBG3_HALF_MAPS_H
#define DBG3_HALF_MAPS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct maps_entry {
    uint64_t start, end, offset, inode;
    uint32_t dev_major, dev_minor;
    int prot;         /* PROT_* */
    int shared;       /* MAP_SHARED */
    const char *path; /* "" if anonymous; belongs to the struct maps */
};

struct maps {
    struct maps_entry *entry; /* ascending */
    size_t n;
    char *text;
};

/* Reads the maps of this process. Ordinary libc context. Returns 0, -1 with *err. */
int maps_read(struct maps *maps, struct err *err);

/* Parses a text in the format of proc(5); takes ownership of `text` (malloc'ed) on success. */
int maps_parse(struct maps *maps, char *text, struct err *err);

void maps_free(struct maps *maps);

#endif
