/*
 * schedule.h - the threads of a recorded rank take turns, and take the same ones in a replay
 *
 * While system calls are recorded, one thread of a rank runs the application's code at a time, from
 * the making of its first other thread on. A thread gives its turn up where it enters MPI, reads a
 * clock or makes a system call that may wait, and has it again before it goes on in the
 * application. So what threads do to each other in memory follows from who had which turn, and only
 * that is recorded: when a turn goes to another thread, as an event that says after how many times
 * of giving up it did. Locks, atomic operations and races of the application need no record.
 *
 *     main     --run--|MPI_Recv . . . . . . |event|  wait   |--run--
 *     thread 1              |--run--|futex . . . . . . . . .
 *     log             [turn: main>1]        [event] [turn: 1>main]
 *
 * A thread that spins for another one is made to give its turn up where it is (schedule_spin.c).
 * What cannot be had in turns ends them for good, in the recording and at the same event of its
 * replay: threads then run freely, and replay in the order of turn.h. So no recording can hang.
 *
 * Not the application's code, and free to run beside others: what MPI calls back, and handlers of
 * signals.
 */
#ifndef DBG3_STUB_SCHEDULE_H
#define DBG3_STUB_SCHEDULE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "msgcounter/log/log_format.h"

/* What an event of the schedule says. */
struct schedule_change {
    uint32_t from, to; /* ordinals of threads; SCHEDULE_NOBODY before the first turn */
    uint64_t given;    /* how often turns had been given up */
    uint64_t pc, sp;   /* where `from` was made to give up; 0: it did itself */
    uint64_t what;     /* enum schedule_what */
};
#define SCHEDULE_NOBODY UINT32_MAX

enum schedule_what {
    SCHEDULE_CHANGE, /* the turn goes to another thread */
    SCHEDULE_BEGIN,  /* from here on there are turns; the first is that of `to` */
    SCHEDULE_END,    /* from here on there are none */
};

/* Whether threads take turns. False in batch. */
extern bool schedule_on;

/* Tells debuggers of turns, through the gate. */
void schedule_show(void);

/* A replay begins at this place of the log, of which nothing has been taken. */
void schedule_begins_at(struct log_position start);

/* Recording or replay begins here for threads that there are already. In a replay behind what comes
 * before turns do: which instructions are replaced. */
void schedule_attach(void);

/* The calling thread makes the first other one. */
void schedule_begin(void);

/* Around all that is not the application's code. `mask`: the signal mask to wait with; NULL: as it
 * is. */
void schedule_give(void);
void schedule_get(const uint64_t *mask);

/* Where code of the application goes on: signals may have waited for that. */
void schedule_get_in_application(void);

/* Gives way to others, if there are any that wait. [turn given] */
void schedule_yield(void);

/* Recording: turns end, because of `reason`. The calling thread has the turn, and comes here in a
 * replay, too. */
void schedule_end(const char *reason);

/* Tells the user that threads run freely from here on, and why. */
void schedule_say_free(const char *reason);

/* There will be one thread more, or there is one less. */
void schedule_threads(int more);

/* The calling thread is about to end, and then counts no more. */
void schedule_thread_ends(void);

/* The calling thread, with this upper FS base, is about to go on from an image, in code of the
 * application or not. [any FS] */
void schedule_thread_resumes(uint64_t upper_fs, bool in_application);

/* Whether a SIGSYS is of this file, which then has handled it. Called on any FS. */
bool schedule_signal(const siginfo_t *info, ucontext_t *uc);

/* Replay: returns when all events before this one have been taken, or when turns end. */
void schedule_wait(uint64_t event);

/* Replay: whether the turn that the calling thread has ends before this event. */
bool schedule_changes_before(uint64_t event);

/* Replay: an event has been taken by its thread; `next` is the place behind it. */
void schedule_taken(struct log_position next);

/* Replay: the calling thread has no event left. Returns if nothing else can happen in the process,
 * or when turns end. Whether all threads wait: else one may be about to do something still. */
bool schedule_wait_for_end(void);

#endif
