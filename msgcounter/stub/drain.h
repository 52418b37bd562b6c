/*
 * drain.h - bringing into the upper half what is on its way
 */
#ifndef DBG3_STUB_DRAIN_H
#define DBG3_STUB_DRAIN_H

#include <stdint.h>

/* gate_stub.drain_step. With `expected` NULL (tests) it takes what has arrived by now, and the
 * rank may go on whatever its peers do. */
int drain_step(const uint64_t *expected, int nranks);

#endif
