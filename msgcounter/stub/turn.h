/*
 * turn.h - the threads of a recorded rank take turns, and take the same ones in a replay
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
 * A thread that spins for another one is made to give its turn up where it is; such an event says
 * which place that was. A replay that cannot make a turn come stops with a line.
 */
#ifndef DBG3_STUB_TURN_H
#define DBG3_STUB_TURN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "msgcounter/log/log_format.h"

/* What an event of a turn says. */
struct turn_change {
    uint32_t from, to; /* ordinals of threads; TURN_NOBODY at first; the same: turns begin here */
    uint64_t given;    /* how often turns had been given up */
    uint64_t pc, sp;   /* where `from` was made to give up; 0: it did itself */
};
#define TURN_NOBODY UINT32_MAX

/* Whether threads take turns. Zero in batch. */
extern bool turn_on;

/* Recording or replay begins here for threads that there are already. */
void turn_attach(void);

/* The calling thread makes the first other one. */
void turn_begin(void);

/* Around all that is not the application's code. `wake`: it may take long. `mask`: the signal mask
 * to wait with, NULL: as it is. */
void turn_give(bool wake);
void turn_get(const uint64_t *mask);

/* Gives way to others, if there are any that wait. [turn given] */
void turn_yield(void);

/* There will be one thread more, or there is one less. */
void turn_threads(int more);

/* The calling thread, which counts no more, is about to end. */
void turn_thread_ends(void);

/* Makes the calling thread get a turn when it is back in the application: it is about to go on
 * there from an image. [any FS] */
void turn_resume(void);

/* Whether a SIGSYS is of this file, which then has handled it. Called on any FS. */
bool turn_signal(const siginfo_t *info, ucontext_t *uc);

/* Replay: returns when all events before this one have been taken. */
void turn_wait(uint64_t event);

/* An event has been taken by its thread; `next` is the place behind it. */
void turn_taken(struct log_position next);

/* The calling thread has no event left. Returns if nothing else can happen in the process. */
void turn_end(void);

#endif
