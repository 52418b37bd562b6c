/*
 * signal.h - the application's signal handlers
 */
#ifndef DBG3_STUB_SIGNAL_H
#define DBG3_STUB_SIGNAL_H

/* Takes over dispositions that the kernel holds at the start. Called by the constructor. */
void stub_signal_init(void);

/* In a new thread: gives it an alternate stack for failures. */
void stub_signal_thread_started(void);

/* At its end. */
void stub_signal_thread_ended(void);

#endif
