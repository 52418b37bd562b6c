/*
 * signal.h - the application's signal handlers
 */
#ifndef DBG3_STUB_SIGNAL_H
#define DBG3_STUB_SIGNAL_H

/* Takes over dispositions that the kernel holds at the start. Called by the constructor. */
void stub_signal_init(void);

#endif
