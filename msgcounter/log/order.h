/*
 * order.h - order log of a rank: writing and reading it inside the rank
 *
 * While a job runs, each outcome that chance has decided is appended to the mapped segment; refine
 * reads the outcomes back and enforces them. Neither uses libc, TLS or a system call. Mapping files
 * is the business of order_file.h.
 *
 * A writer makes sure of room first; what it then puts is whole for readers with the last store:
 *
 *     if (order_fits(s, ORDER_ROOM_SMALL)) order_put_index(s, i);
 *
 * One thread writes at a time.
 */
#ifndef DBG3_MSGCOUNTER_ORDER_H
#define DBG3_MSGCOUNTER_ORDER_H

#include <stdbool.h>
#include <stddef.h>

#include "msgcounter/log/order_format.h"

/* Bytes that any outcome but a SOME takes at most, and a SOME of n. */
#define ORDER_ROOM_SMALL 16u
#define ORDER_ROOM_SOME(n) (16u + 5u * (uint64_t)(n))

/* The header of a new segment in zeroed memory of `room` bytes. */
void order_init(struct order_segment *s, uint32_t rank, uint32_t world_size, uint64_t epoch,
                uint64_t room);

static inline bool order_fits(const struct order_segment *s, uint64_t bytes)
{
    return s->room - s->at >= bytes;
}

void order_put_yes(struct order_segment *s);
void order_put_index(struct order_segment *s, uint32_t index);

/* What comes next is of this thread (stub_thread_ordinal), if that is another than before. */
void order_put_thread(struct order_segment *s, uint32_t thread);

/* A NO of one of several threads. Returns its place, for order_count_no_at (false: it is full). */
uint64_t order_put_no_wide(struct order_segment *s);
bool order_count_no_at(struct order_segment *s, uint64_t place);

/* n > 0 indices, ascending. */
void order_put_some(struct order_segment *s, uint32_t n, const int *indices);
void order_put_some_all(struct order_segment *s);

/* Nothing has happened, once more. */
void order_put_no(struct order_segment *s);

/* The same where a first digit has room, which it mostly has; false: nothing was done. */
static inline bool order_count_no(struct order_segment *s)
{
    unsigned char *p = (unsigned char *)s + s->no;
    if (!s->no || *p == (ORDER_NO | ((1 << ORDER_DIGIT_BITS) - 1)))
        return false;
    ++*p;
    return true;
}

/* Appends an unmatched SOURCE on a communicator of `members`. Returns its place, for
 * order_fill_source. */
uint32_t order_put_source(struct order_segment *s, uint32_t members);

/* Says who matched it; ORDER_NOBODY: it will not be matched. */
void order_fill_source(struct order_segment *s, uint32_t place, uint32_t source);

/* ------------------------------------------------------------------------------------ reading */

/* A mapped segment. */
struct order_map {
    const struct order_segment *segment;
    uint64_t size; /* bytes */
};

enum order_kind { ORDER_KIND_YES, ORDER_KIND_INDEX, ORDER_KIND_SOME, ORDER_KIND_NO,
                  ORDER_KIND_SOURCE, ORDER_NKINDS };

struct order_outcome {
    enum order_kind kind;
    /* INDEX: the index; SOME: how many, 0 all active; NO: how many times; SOURCE: ORDER_UNMATCHED,
     * ORDER_NOBODY or source + 1 */
    uint64_t value;
    const unsigned char *differences; /* of SOME */
    unsigned bytes; /* that it takes in the log */
    uint32_t thread;
    uint64_t source; /* of a SOURCE: its number among them */
};

/* A place in a chain of segments, which the owner keeps mapped. */
struct order_cursor {
    const struct order_map *maps;
    uint32_t nmaps;
    uint32_t map;  /* that `at` is in */
    uint64_t at;
    uint64_t outcome; /* number of the next one, from 0 at the first segment's start */
    uint64_t source;  /* the same among SOURCEs */
    uint32_t thread;
};

enum order_next { ORDER_NEXT_END, ORDER_NEXT_OUTCOME, ORDER_NEXT_DAMAGED };

/* NULL if `map` is a segment of this version, else what is wrong with it (static). */
const char *order_fault(struct order_map map);

/* Starts at the first outcome of maps[0], carried ones too. */
void order_cursor_init(struct order_cursor *c, const struct order_map *maps, uint32_t nmaps);

/*
 * The next outcome in *o. Goes from segment to segment; SOURCEs that a later segment carries are
 * skipped there, and filled in from there where they were posted. A NO is given as a whole.
 */
enum order_next order_cursor_next(struct order_cursor *c, struct order_outcome *o);

/* The indices of a SOME that is not "all": o->value of them, at most max are stored. */
void order_some_indices(const struct order_outcome *o, int *indices, uint64_t max);

#endif
