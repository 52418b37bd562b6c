/*
 * reverse_event.h - running a copy to where it has taken a number of recorded events
 *
 * The boundary of event N is the first instruction of the program behind the call that took event
 * N - 1. A call that the program did not make itself (a clock that its C library reads, say) may
 * not be seen to return: then the boundary is where that event has just been taken.
 *
 * Every function waits. [tracer]
 */
#ifndef DBG3_GDBBRIDGE_REVERSE_EVENT_H
#define DBG3_GDBBRIDGE_REVERSE_EVENT_H

#include <stdint.h>
#include <sys/types.h>

#include "gdbbridge/ptrace_target.h"
#include "gdbbridge/reverse_copy.h"

#define PLACE_STACK 2048 /* bytes from the red zone up, for the variables of a loop */

/* A place in a process's future by what can be known of it without having been there. */
struct place {
    uint64_t event; /* the one that is next; 0 where no recording tells */
    uint64_t thread; /* whose place it is (reverse_crowd.h) */
    bool several;    /* there are others */
    bool own;        /* and it has itself taken the event before */
    uint64_t pc, sp;
    bool exact; /* the following hold, too: one of several turns of a loop is meant */
    struct user_regs_struct regs;
    uint8_t stack[PLACE_STACK];
    size_t nstack;
};

/* The place where a thread of a stopped process is. Not exact where it came there over a stop that
 * code in the process takes part in, and its copies do not make: what calls leave in registers
 * differs. */
int event_place(const struct recorded *r, pid_t pid, uint64_t thread, bool exact,
                struct place *place);

/* Is this process there? Flags of the processor are left out. */
bool event_at_place(pid_t pid, const struct place *place);

/* Runs the copy on until `event` is its next one, which it is not yet. 0, or -1: it does not get
 * there, or is gone. Adds to *counted, if not NULL, how often `count` happened meanwhile. */
int event_reach(const struct recorded *r, pid_t pid, uint64_t event, const struct mark *count,
                uint64_t *counted);

/*
 * The copy has just taken the event before `event`: goes on to the boundary. Returns the pid of the
 * process there, which may be another copy (the one that was given is then gone), or -1: both are.
 */
pid_t event_boundary(const struct recorded *r, pid_t pid, uint64_t event);

/*
 * The boundary of an event where threads take turns: the copy, which has not taken the one before,
 * runs to where the thread that takes it comes back to the program. The place holds for all copies
 * in which that thread has not been there yet. 0, or -1: it does not come there, or is gone.
 */
int event_return(const struct recorded *r, pid_t pid, uint64_t event, struct place *place);

/*
 * Runs the copy to the place, and makes of it a mark that is counted from where the copy is now. 0,
 * or -1: it does not come there.
 */
int event_mark(const struct recorded *r, pid_t pid, const struct place *place, struct mark *mark);

#endif
