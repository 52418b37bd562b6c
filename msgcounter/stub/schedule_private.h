/*
 * schedule_private.h - what the files of schedule share
 */
#ifndef DBG3_STUB_SCHEDULE_PRIVATE_H
#define DBG3_STUB_SCHEDULE_PRIVATE_H

#include "msgcounter/stub/schedule.h"
#include "runtime/half/gate.h"

#define LOOK_NS 1000000 /* a thread that waits for a turn looks after the one that has it */

/* Bits 0 and 1 of schedule.word: what the turn is. From SCHEDULE_GIVEN on: how often it was given
 * up. */
enum { SCHEDULE_FREE, SCHEDULE_TAKEN, SCHEDULE_ENDED, SCHEDULE_STATE };
#define SCHEDULE_GIVEN 4u

/* In the application's memory: an image says whose turn it was when it was saved. */
struct schedule {
    volatile uint64_t word; /* its lower half is a futex */
    volatile uint32_t waiting;
    uint32_t holder; /* the thread whose turn it is or was last */
    long tid;        /* its number in the kernel; 0: not known */
    uint64_t pc, sp; /* where it was made to give up; 0: it did itself */
    uint64_t since;  /* when it got its turn from another thread */
    uint64_t mask;   /* stub_thread.mask of it */
    volatile int *leaving; /* the kernel clears this when a holder that ends is gone */
    uint32_t threads;      /* that there are beside the main thread */
};
extern struct schedule schedule;

static inline uint64_t schedule_given(void)
{
    return schedule.word / SCHEDULE_GIVEN;
}

static inline bool schedule_taken_by_any(void)
{
    return schedule.word % SCHEDULE_GIVEN == SCHEDULE_TAKEN;
}

/* System calls of the calling thread are its own affair until `dispatch` is what it was. */
uint8_t schedule_calls_pass(void);

void schedule_futex_wait(volatile uint32_t *word, uint32_t value, uint64_t ns);

/* The CPU time that the holder has used. */
uint64_t schedule_holder_ns(void);

/* The last holder has left the address space to others. */
void schedule_wait_until_gone(void);

/* Turns have ended: threads that wait for one go on. */
void schedule_stop(void);

_Static_assert(SCHEDULE_TAKEN == GATE_TURN_TAKEN && SCHEDULE_GIVEN == 4, "debuggers look at it");

/* schedule_replay.c */
/* Where the number of the event stands that is taken next. */
const volatile uint64_t *schedule_event(void);
void schedule_attach_replay(void);
bool schedule_begin_replay(void);
void schedule_give_replay(void);
void schedule_give_way_replay(void);
void schedule_get_replay(void);
void schedule_end_replay(void);
/* The holder is to be made to give up, where this says. */
const struct schedule_change *schedule_forced(void);

/* schedule_spin.c: has the thread whose turn it is looked at. */
void schedule_look(void);
/* What it looks like, in a handler that has interrupted it: whether it waits in a loop that ends
 * only by what another thread does, for some looks already. */
bool schedule_spins(const ucontext_t *uc);
/* The same, for a replay: it does so where it was made to give up. Stops the rank if it does where
 * nothing of the kind was recorded. */
bool schedule_spins_as(const ucontext_t *uc, const struct schedule_change *was);

#endif
