/*
 * tally.c - how often each of some keys has been counted
 */
#include "msgcounter/stub/tally.h"

#include "msgcounter/stub/alloc.h"

uint64_t tally_next(struct tally *t, uint64_t key)
{
    for (unsigned i = 0; i < t->n; i++)
        if (t->some[i].key == key)
            return t->some[i].count++;
    if (t->n == t->room) {
        t->room = t->room ? 2 * t->room : 64;
        t->some = stub_realloc(t->some, t->room * sizeof *t->some);
    }
    t->some[t->n++] = (struct tally_entry){key, 1};
    return 0;
}
