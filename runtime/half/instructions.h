/*
 * instructions.h - where the application asks the processor for something no one else knows
 *
 * rdtsc, rdtscp, rdrand, rdseed and cpuid give what no replay can find out. The kernel does not
 * see them, so the stub replaces them (msgcounter/stub/instruction.h): here is where they are.
 * Bytes that look like one may be part of another instruction: only what a decoder comes to from
 * the beginning of the function (.eh_frame), which it reads to its very end, counts as one.
 */
#ifndef DBG3_HALF_INSTRUCTIONS_H
#define DBG3_HALF_INSTRUCTIONS_H

#include <stdint.h>

#include "runtime/half/gate.h"

/*
 * Those in what is mapped executable from files in [from, to), ascending, at most `max`. Left out
 * is the C library, which looks at the clock only to decide how long it spins. Returns how many, or
 * -errno after printing one line. Ordinary libc context. [crossing]
 */
int instructions_find(uint64_t from, uint64_t to, struct gate_instruction *out, int max);

#endif
