/*
 * agent.h - GDB's agent expressions: the conditions of breakpoints, evaluated where the program is
 *
 * Byte code for a stack machine of 64-bit words, which GDB compiles a condition to.
 * Source: GDB manual, appendix F, The GDB Agent Expression Mechanism.
 */
#ifndef DBG3_GDBBRIDGE_AGENT_H
#define DBG3_GDBBRIDGE_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where an expression finds what it asks for. Return 0 or -1. */
struct agent_world {
    int (*memory)(void *arg, uint64_t addr, void *to, size_t size);
    int (*reg)(void *arg, unsigned number, uint64_t *value); /* number: that of target.xml */
    void *arg;
};

/*
 * Evaluates the code. Returns 0 and the value on top of the stack, or -1: it divides by zero, asks
 * for what is not there, uses what is not known here (floating point, tracing), is malformed, or
 * does not end.
 */
int agent_evaluate(const uint8_t *code, size_t size, const struct agent_world *world,
                   uint64_t *value);

/* Conditions of a breakpoint: it stops where one of them is not 0, or cannot be evaluated. */
struct agent_conditions;

/*
 * The conditions as they stand in a Z packet, "X LEN,HEX X LEN,HEX ..." without blanks. The same
 * text gives the same conditions, which live as long as *all, where they are kept; NULL: malformed.
 */
const struct agent_conditions *agent_conditions(struct agent_conditions **all, const char *text,
                                                size_t size);
void agent_conditions_free(struct agent_conditions **all);

bool agent_stops(const struct agent_conditions *c, const struct agent_world *world);

#endif
