/*
 * clock.h - time, recorded and replayed
 */
#ifndef DBG3_STUB_CLOCK_H
#define DBG3_STUB_CLOCK_H

#include <signal.h>
#include <stdbool.h>
#include <ucontext.h>

#include "runtime/half/gate.h"

/* gate_stub.vdso: what the application's vdso functions are while recording or replaying. */
extern void *const clock_hooks[GATE_VDSO_COUNT];

/* gate_stub.vdso_live: the same in batch. */
extern void *const clock_live_hooks[GATE_VDSO_COUNT];

/* A signal has come: if it is while the kernel's code reads a clock for the program, in batch, it
 * comes again right behind that, and the caller returns. [handler] */
bool clock_signal_later(const siginfo_t *info, ucontext_t *uc);

#endif
