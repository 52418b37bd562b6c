/*
 * reverse_trace.h - the program counters of a row of single steps
 *
 * Pure. Counts as the processor's breakpoints do: an instruction with a repeat prefix, which a
 * single step leaves where it was, is executed once.
 */
#ifndef DBG3_GDBBRIDGE_REVERSE_TRACE_H
#define DBG3_GDBBRIDGE_REVERSE_TRACE_H

#include <stddef.h>
#include <stdint.h>

struct trace *trace_create(uint64_t start);
void trace_destroy(struct trace *t);
void trace_add(struct trace *t, uint64_t pc);

/* Steps made so far, where they led, and how often that instruction has been reached (from 1). */
size_t trace_steps(const struct trace *t);
uint64_t trace_pc(const struct trace *t);
uint64_t trace_count(const struct trace *t);

/* After which step pc was reached for the n-th time. Returns 0 or -1. */
int trace_find(const struct trace *t, uint64_t pc, uint64_t n, size_t *step);

/* Forgets what came after `steps` steps. */
void trace_cut(struct trace *t, size_t steps);

#endif
