/*
 * interrupt.h - the park signal ends no system call of the application
 *
 * signal(7) lists calls that end with EINTR after any signal handler, SA_RESTART or not: sleeps,
 * polls, timed waits, sigwait. The application has not asked for our signal, so the frame is
 * changed to make such a call again, with what is left of its timeout, when the thread goes on, in
 * this process or in a restarted one.
 *
 * The kernel keeps no number of the call in a signal frame. It is read from the code before the
 * `syscall` instruction (mov $nr, %eax), which all of libc's waits have; the stub's syscall(3)
 * leaves it on the stack. A call whose number cannot be found ends with EINTR.
 */
#ifndef DBG3_CKPT_INTERRUPT_H
#define DBG3_CKPT_INTERRUPT_H

#include <stdint.h>
#include <ucontext.h>

/* [any FS] `upper_fs`: the interrupted thread's FS base, 0 in the lower half, whose timed waits are
 * left alone. Time in which the thread is parked does not count towards a timeout: see
 * interrupt_resume(). */
void interrupt_undo(ucontext_t *frame, uint64_t upper_fs);

/* [any FS] The thread goes on now: its timeouts run again. */
void interrupt_resume(uint64_t upper_fs);

/* [any FS] `signals` (bit signo - 1) are delivered to the thread as soon as it goes on. If they end
 * the call that `frame` would make again, it ends with EINTR, as if we had not been here. */
void interrupt_redo(ucontext_t *frame, uint64_t signals);

#endif
