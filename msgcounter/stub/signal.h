/*
 * signal.h - the application's signal handlers
 */
#ifndef DBG3_STUB_SIGNAL_H
#define DBG3_STUB_SIGNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* As rt_sigaction(2) takes it. */
struct kernel_action {
    void *handler;
    uint64_t flags;
    void *restorer;
    uint64_t mask;
};

/* Takes over dispositions that the kernel holds at the start. Called by the constructor. */
void stub_signal_init(void);

/* In a new thread: gives it an alternate stack for failures. */
void stub_signal_thread_started(void);

/* At its end. */
void stub_signal_thread_ended(void);

/* From now on SIGSYS goes to this function (system_entry.S); no handler runs with it blocked. */
void stub_signal_system(void (*handler)(void));

/* libc installs its handler of GATE_SIGNAL, which cancels the thread: that is placed as signals of
 * the application are (signal_place.h). */
void stub_signal_cancels(const struct kernel_action *libc);

/* SIGSYS that is no system call: runs the application's handler, if it has one, or what has waited
 * for it (signal_place.h). Called on any FS. [handler of that signal] */
void stub_signal_forward(int sig, siginfo_t *info, void *uc);

/* One that has come to the calling thread, to it again with all that it says (siginfo_t). 0 or
 * -errno. (signal_self.S) */
long signal_self(int sig, const void *info);
extern const char signal_self_named[], signal_self_sent[];

/* Whether a handler of the application runs for this signal; whether the process ends of it. */
bool stub_signal_handled(int sig);
bool stub_signal_fatal(int sig);

#endif
