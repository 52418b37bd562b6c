/*
 * counters_view.h - reading the ranks' counters files
 *
 * Maps rank-R.cnt read-only, checks it, and hands out the mapping; nothing here disturbs the rank.
 */
#ifndef DBG3_COORD_COUNTERS_VIEW_H
#define DBG3_COORD_COUNTERS_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/coord/counters.h"

/* Maps one rank's file. NULL with err set if it is missing, short, or of another version. */
const struct counters_file *counters_map(const char *session_dir, unsigned rank, struct err *err);
void counters_unmap(const struct counters_file *file);

/* "waiting", ... */
const char *counters_state_name(uint64_t state);

/* The MPI call that the rank is in; "" outside. */
const char *counters_call(const struct counters_file *file);

/*
 * The hang watch: has any rank of the job got on? Feed it now and then; it says for how long
 * nothing moved. Files that cannot be mapped yet count as a job that moves.
 */
struct hang_watch {
    const struct counters_file **file; /* by rank, mapped when they appear */
    unsigned size;
    uint64_t sum;       /* of what counts as progress, over all ranks */
    uint64_t since_ms;  /* when it last changed */
};

int hang_watch_init(struct hang_watch *w, unsigned size);
void hang_watch_clear(struct hang_watch *w);
/* Milliseconds since any counter of any rank advanced. */
uint64_t hang_watch_idle(struct hang_watch *w, const char *session_dir, uint64_t now_ms);
/* Something else moved (an epoch was written): start counting anew. */
void hang_watch_touch(struct hang_watch *w, uint64_t now_ms);

#endif
