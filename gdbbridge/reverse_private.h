/*
 * reverse_private.h - what the files of the past share
 *
 *     reverse.c         its life, running forward, the process that GDB sees, GDB's commands
 *     reverse_leg.c     legs: made, measured, split, thinned out
 *     reverse_step.c    one instruction back
 *     reverse_search.c  back to the last stop
 *     reverse_goto.c    to a recorded event; what was before the first leg
 *     reverse_find.c    to a recorded event, where threads take turns
 *     reverse_keep.c    places that the caller keeps
 */
#ifndef DBG3_GDBBRIDGE_REVERSE_PRIVATE_H
#define DBG3_GDBBRIDGE_REVERSE_PRIVATE_H

#include "gdbbridge/journal.h"
#include "gdbbridge/reverse.h"
#include "gdbbridge/reverse_copy.h"
#include "gdbbridge/reverse_crowd.h"
#include "gdbbridge/reverse_event.h"
#include "gdbbridge/reverse_trace.h"

#define LEGS_MAX     64 /* a bound for the memory that anchors take */
#define STATIONS_MAX 32

/* Why there is no going back. */
#define SEVERAL_THREADS "the program has several threads, which do not take turns"
#define LOST            "the program does not run as it ran before"
#define NOT_THERE       "the recording, or the program, ends before that event"

struct station {
    size_t step;
    pid_t pid;
};

struct leg {
    pid_t anchor;
    uint64_t start; /* program counter of the anchor's first thread */
    struct copy_points points; /* in place when it ran forward */
    struct mark end;
    bool measured; /* `end` is known; until then its address only */
    bool diverted; /* GDB has changed something at its anchor */
    bool by_place; /* its end is known as `place`, and by no stop; else only its event may be */
    struct place place;
    bool near;           /* its end is likely to be few instructions behind its anchor */
    size_t bound;        /* its end is where this signal of the journal comes; or JOURNAL_NONE */
    /* Where a replay sends them: its end is this signal of the end's thread, 0: none; and it went
     * on from a signal with these points, which stopped nothing before. */
    uint64_t signal;
    struct copy_nth points_from;
    struct trace *trace; /* of a traced leg, else NULL */
    struct station station[STATIONS_MAX];
    size_t nstations;
};

/* How far a search is, for whoever waits for it. */
struct progress {
    const char *what; /* "going back" */
    uint64_t began;   /* now_ms() */
    uint64_t said;    /* seconds since then, when it was said last */
    uint64_t event;   /* the search is in what follows it */
    uint64_t stops;   /* that it has seen */
};

#define PLACES_MAX 16 /* boundaries of events that are remembered */

struct past {
    struct ptrace_target *target;
    struct place places[PLACES_MAX]; /* event 0: none */
    size_t nplaces; /* ever */
    struct progress progress;
    struct leg *leg[LEGS_MAX];
    size_t n;
    uint64_t limit; /* event before whose boundary no stop is looked for; 0: none */
    bool touched;
    bool diverted;    /* the present does not follow from the recording */
    bool by_event;    /* the stop to come is one that only the recording tells */
    bool into_handler; /* the stop to come is behind a step with a signal of the log */
    uint64_t thread;  /* that has stopped, after going back */
    size_t thinned;   /* how often, ever */
    uint64_t loop_pc; /* at which the last trace went once around a loop (reverse_step.c), or 0 */
    size_t loop_steps;
    bool told;        /* that it is slower here */
    bool rooted;      /* leg 0 begins where the caller started the process */
    char why[256];    /* why there is no past, or empty */
    struct err begin; /* why the past does not go on before its first leg */
};

const struct recorded *past_recorded(const struct past *h);

/* ---- searches: what is told of them ---- */

void past_search_begin(struct past *h, const char *what);

/* It is in what follows this anchor. */
void past_search_in(struct past *h, pid_t anchor);

/* ---- the present ---- */

/* A copy of the process as it stands, with no breakpoint in its memory. */
pid_t past_copy_present(struct thread *th);

/* Is there one process, and can it be copied as it stands? Else h->why. */
bool past_can_follow(struct past *h, const struct thread *th);

/* Where the process has not run yet: a leg of no length, so that what is before can be reached. */
void past_begin_here(struct past *h, struct thread *th);

/* A copy becomes the process that GDB sees, with this thread as the one that has stopped. */
void past_become(struct past *h, pid_t pid, uint64_t thread);

/* The key of one of its threads; the thread with a key, or its first one. */
uint64_t past_key(struct thread *th);
struct thread *past_thread(struct process *p, uint64_t key);

/* ---- legs (reverse_leg.c) ---- */

struct leg *past_last(const struct past *h);
void past_drop_last(struct past *h);
void past_keep_legs(struct past *h, size_t n);

/* A leg that begins with `anchor`, which it owns. */
struct leg *leg_create(pid_t anchor);
void leg_free(struct leg *l);

/* A copy of its anchor, to go no further than its end. */
pid_t leg_copy(const struct leg *l);

/* A new last leg, which begins with `anchor`. */
struct leg *past_add(struct past *h, pid_t anchor);

/* Gives up an anchor between two legs. Returns false if none can be given up. */
bool past_thin(struct past *h);

/* Drops the copies along a traced leg that stand beyond a step. */
void leg_drop_stations(struct leg *l, size_t beyond);

/* Finds the leg's end as a mark. Returns 0 or -1. */
int leg_measure(struct past *h, struct leg *l);
void leg_set_end(struct leg *l, const struct mark *end);
bool leg_is_empty(const struct leg *l);
/* Program counter of one of the anchor's threads, 0: it has no such thread. */
uint64_t leg_start(const struct leg *l, uint64_t thread);

/* Ends the past with a leg that takes one event, where the end's event is known. */
void past_split_at_event(struct past *h);

/* Splits the last, measured leg at the last time before its end that `what` happened in the thread
 * whose end that is. Returns 1 if it did, 0 if it never happened, or only at its start, -1 if that
 * cannot be reached. */
int past_split_at_last(struct past *h, struct mark what);

/* The same at a mark. */
int past_split_at(struct past *h, struct mark at);

/* ---- back ---- */

/* Goes back to before the last instruction of a thread. Returns 1, 0 at the beginning, or -1. */
int past_step_back(struct past *h, uint64_t thread);

/* Goes back to the call that returns to `back`, which the thread stands in. Returns 1, 0 at the
 * beginning, or -1. */
int past_call_back(struct past *h, uint64_t thread, uint64_t back);

/* Goes back to the last of the points' stops. Returns 1 with *point, 0 at the beginning, or -1. */
int past_continue_back(struct past *h, const struct copy_points *points,
                       const struct copy_point **point);

/* Does h->limit lie behind this anchor, or where the process is now? */
bool past_behind_limit(const struct past *h, pid_t pid);

/* ---- before the first leg (reverse_goto.c) ---- */

/* A leg that ends where the past begins: from a checkpoint at least `events` events before, or from
 * the oldest that there is. It is not part of the past yet. NULL: nothing is known of what was
 * before. */
struct leg *past_leg_before(struct past *h, uint64_t events);

/* The past begins with this leg, too. Returns 0, or -1: the leg stays the caller's. */
int past_put_first(struct past *h, struct leg *l);

/* The process, made anew: as it was at an event, or as few before as can be had; or at least
 * `events` before, or as many as can be had. Returns its pid, or -1: with *err, or h->begin. */
pid_t past_start_at(struct past *h, uint64_t event, struct err *err);
pid_t past_start_before(struct past *h, uint64_t event, uint64_t events);

/* To the boundary of an event. Returns 0, or -1 with *err. */
int past_go(struct past *h, uint64_t event, struct err *err);

/* How many legs begin before the event. */
size_t past_legs_before(const struct past *h, uint64_t event);

/* ---- recorded events where threads take turns (reverse_find.c) ---- */

/* Do they, or has the process several? It is for the functions below, then. */
bool past_takes_turns(const struct past *h);

/*
 * To the boundary of an event. Where the process has `found` a stop, going back, it stays there if
 * the boundary does not lie behind. Returns 1: it is at the boundary; 0: it stays so, or, with
 * *err, because the process cannot be begun as early as that; -1 with *err.
 */
int past_go_to_event(struct past *h, uint64_t event, bool found, struct err *err);

/* Has the process come by this boundary, and gone on? The event before has been taken. */
bool past_is_behind(struct past *h, uint64_t event);

/* Of two boundaries that are behind: has it come by this one later than by the other? */
bool past_is_later(struct past *h, uint64_t event, uint64_t other);

/* The event at whose boundary the process is; 0: at none. */
uint64_t past_boundary(struct past *h);

#endif
