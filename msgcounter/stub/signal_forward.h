/*
 * signal_forward.h - signals of the process that come to a thread which has no place for them
 *
 * The kernel gives such a signal to any thread that does not block it, also to one that waits
 * outside of turns (openmp.c), or has not begun, where a handler would run beside the threads that
 * have them. From there it is sent on to a thread that is in the application's code, or will be:
 * the kernel then interrupts that one's call, or keeps the signal until it is no longer blocked.
 *
 *     kernel --SIGALRM--> thread 3, outside --SIGALRM, own value--> main: place, handler
 *
 * Only its own thread may be sent a signal that says it comes from the kernel (sigqueue(3)): so it
 * goes with a value of ours, and what it came with is kept here.
 */
#ifndef DBG3_STUB_SIGNAL_FORWARD_H
#define DBG3_STUB_SIGNAL_FORWARD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* The calling thread is the main one; ends, whichever it is. */
void signal_forward_begin(void);
void signal_forward_end(void);

/* The calling thread goes on in the application with this signal mask. */
void signal_forward_mask(uint64_t mask);

/* The calling thread, which is none of those, has got a signal. Returns whether another one gets it
 * now. [handler] */
bool signal_forward(int sig, const siginfo_t *info);

/* A signal has come: if it was sent on, *info becomes what it came with first. [handler] */
void signal_forwarded(siginfo_t *info);

#endif
