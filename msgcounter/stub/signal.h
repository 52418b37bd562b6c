/*
 * signal.h - the application's signal handlers
 */
#ifndef DBG3_STUB_SIGNAL_H
#define DBG3_STUB_SIGNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Takes over dispositions that the kernel holds at the start. Called by the constructor. */
void stub_signal_init(void);

/* In a new thread: gives it an alternate stack for failures. */
void stub_signal_thread_started(void);

/* At its end. */
void stub_signal_thread_ended(void);

/* From now on SIGSYS goes to this function (system_entry.S); no handler runs with it blocked. */
void stub_signal_system(void (*handler)(void));

/* A signal whose handler was set past us (libc's cancellation) has come. [any FS] */
void stub_signal_foreign(int sig, void *info, void *uc, uint64_t handler);

/* libc has set that handler; or NULL: may have, before this process. */
void stub_signal_libc(const void *handler);

/* The thread is at a place that a replay finds again, with its turn: handlers of signals that are
 * held run, now or when the caller unblocks them. */
void stub_signal_place(void);

/* Whether some are. */
bool stub_signal_holds(void);

/* Replay: runs the handlers that ran while a call waited with this mask. [handler of SIGSYS] */
void stub_signal_replay_in_call(uint64_t mask);

/* Holds what is pending and not in `mask`: it would be delivered before the call returns.
 * [all signals blocked] */
void stub_signal_collect(uint64_t mask);

/* Whether the application leaves a signal to its default, which is the end. */
bool stub_signal_fatal(int sig);

/* Runs the application's handler, if it has one. [handler of that signal] */
void stub_signal_forward(int sig, siginfo_t *info, void *uc);

#endif
