/*
 * tally.h - how often each of some keys has been counted
 */
#ifndef DBG3_STUB_TALLY_H
#define DBG3_STUB_TALLY_H

#include <stdint.h>

/* All zeros is an empty one. The caller serialises. */
struct tally {
    struct tally_entry {
        uint64_t key, count;
    } *some;
    unsigned n, room;
};

/* How often the key was counted before; counts it. */
uint64_t tally_next(struct tally *t, uint64_t key);

#endif
