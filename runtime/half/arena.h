/*
 * arena.h - free ranges of the lower half's arena
 *
 * A sorted array of free intervals, first fit. Pure: knows only numbers, so that it can be tested
 * in an ordinary process. No libc, no allocation; the caller locks.
 */
#ifndef DBG3_HALF_ARENA_H
#define DBG3_HALF_ARENA_H

#include <stdint.h>

#define ARENA_MAX 8192

struct arena {
    uint32_t n;
    struct arena_free {
        uint64_t start, end; /* page-aligned, disjoint, ascending, never adjacent */
    } free[ARENA_MAX];
};

void arena_init(struct arena *a, uint64_t start, uint64_t end);

/* Takes `size` bytes (page multiple) aligned to `align` (a power of two). Returns 0 if there is no
 * room. */
uint64_t arena_take(struct arena *a, uint64_t size, uint64_t align);

/* Gives a range back. A range whose neighbours do not fit the table is lost (address space
 * only). */
void arena_give(struct arena *a, uint64_t start, uint64_t size);

#endif
