/*
 * condition.h - whether a stopped thread meets the conditions of a breakpoint
 */
#ifndef DBG3_GDBBRIDGE_CONDITION_H
#define DBG3_GDBBRIDGE_CONDITION_H

#include <sys/types.h>

#include "gdbbridge/agent.h"

/* NULL: there are none, it stops. [tracer] */
bool condition_stops(const struct agent_conditions *c, pid_t tid);

#endif
