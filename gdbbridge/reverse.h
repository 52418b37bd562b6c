/*
 * reverse.h - the past of a process, and going there
 *
 * The past is a list of legs, in order, the last one ending where the process stands:
 *
 *     leg 0                    leg 1                         leg 2 (traced)
 *     |------------------------|-----------------------------|--.--.--.--.--.--|
 *     anchor                   anchor                        anchor          present
 *
 * A leg begins with an anchor, a copy of the process as it stood there, kept stopped; its end is a
 * mark counted from the anchor (reverse_copy.h). A traced leg is short and knows the program
 * counter after each of its instructions; copies stand along it, too. Going back makes a copy of an
 * anchor and lets it run to a place short of the end: that copy then is the process, and what
 * followed is forgotten. It will come again, as nothing but recorded inputs decides it.
 *
 * Several threads have a past where they take turns (struct recorded, in_turn): one of them runs,
 * and a replay repeats who. A copy has them all, and a mark counts what one of them does. The end
 * of a leg is a stop of one thread; the others are where that leaves them.
 *
 * Used by the ptrace target's files only; `t->past` is NULL where there is nothing to go back to.
 */
#ifndef DBG3_GDBBRIDGE_REVERSE_H
#define DBG3_GDBBRIDGE_REVERSE_H

#include "gdbbridge/ptrace_private.h"

struct past *past_create(struct ptrace_target *t);
void past_destroy(struct past *h);

/* Nothing is known of what was before. */
void past_forget(struct past *h);

/* The process is gone; another one that the caller starts may follow. */
void past_begin(struct past *h);

/* GDB is about to change registers or memory: what follows does not follow from what was. */
void past_touched(struct past *h);

/* The process is about to be resumed: this thread as its fields say, the one that steps if any
 * does. */
void past_resume(struct past *h, struct thread *th);

/* It, recorded, is about to go on with a signal, or (0) without. */
void past_hand(struct past *h, struct thread *th, int signal);

/* It has made a step, and is now at pc. */
void past_stepped(struct past *h, struct thread *th, uint64_t pc);

/* It has stopped: pc is where the processor stopped it, whatever GDB is going to see. */
void past_stopped(struct past *h, struct thread *th, uint64_t pc);

/* It is about to be reported as stopped where no breakpoint would stop it again. */
void past_ends_here(struct past *h);

/* The thread of several whose turn it is, or NULL. */
struct thread *past_in_turn(const struct past *h, const struct process *p);

/* bs and bc: leave their event in t->pending. */
int target_reverse_step(struct target *t, struct ptid thread);
int target_reverse_continue(struct target *t);
void target_attend(struct target *t, const struct attendant *a);

#endif
