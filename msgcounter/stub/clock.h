/*
 * clock.h - time, recorded and replayed
 */
#ifndef DBG3_STUB_CLOCK_H
#define DBG3_STUB_CLOCK_H

#include "runtime/half/gate.h"

/* gate_stub.vdso: what the application's vdso functions are while recording or replaying. */
extern void *const clock_hooks[GATE_VDSO_COUNT];

#endif
