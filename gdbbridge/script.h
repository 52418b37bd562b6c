/*
 * script.h - what a breakpoint does by itself (agent.h), of a stopped thread
 */
#ifndef DBG3_GDBBRIDGE_SCRIPT_H
#define DBG3_GDBBRIDGE_SCRIPT_H

#include <stdbool.h>
#include <sys/types.h>

#include "gdbbridge/agent.h"

struct bytes;

/* Does a breakpoint with this script, or NULL: with none, stop the thread? [tracer] */
bool script_stops(const struct agent_script *s, pid_t tid);

/* Executes its commands, if there are any and its conditions are met. What they print is appended,
 * and where they cannot be executed that is said there. [tracer] */
void script_execute(const struct agent_script *s, pid_t tid, struct bytes *printed);

#endif
