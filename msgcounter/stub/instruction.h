/*
 * instruction.h - rdtsc, rdtscp, rdrand, rdseed and cpuid, recorded and replayed
 *
 * What these give the application is the processor's, and the kernel does not see them (it could
 * make rdtsc fault, but in the lower half, too). So while recording each has GATE_TRAP_CODE in its
 * place, whose SIGILL is answered here: by the instruction itself, recorded, or from the log. The
 * code is part of the rank's memory: images that were taken since have it, too. A debugger shows
 * the instructions as they were (gate_stub.instructions).
 */
#ifndef DBG3_STUB_INSTRUCTION_H
#define DBG3_STUB_INSTRUCTION_H

#include <stdint.h>
#include <ucontext.h>

#include "runtime/half/gate.h"

/* SIGILL in a kernel's signal mask. */
#define INSTRUCTION_SIGNAL_BIT (1ul << 3)

/* Recording: replaces what is in code mapped in [from, to). An event says so to a replay, where the
 * other function does the same if that event is next. */
void instruction_record(uint64_t from, uint64_t to);
void instruction_replay(void);

/* The kernel's handler of SIGILL where `handler` would be it; NULL: nothing is replaced. */
void *instruction_handler(void *handler);

/* What the kernel's handler stands for: the other way round. */
void *instruction_handler_for(void *handler);

#endif
