/*
 * agent.h - GDB's agent expressions: conditions and commands of breakpoints, evaluated where the
 * program is
 *
 * Byte code for a stack machine of 64-bit words, which GDB compiles a condition to, or a dprintf
 * whose style is `agent'. Source: GDB manual, appendix F, The GDB Agent Expression Mechanism.
 */
#ifndef DBG3_GDBBRIDGE_AGENT_H
#define DBG3_GDBBRIDGE_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes;

/* Where an expression finds what it asks for, and prints. Return 0 or -1. */
struct agent_world {
    int (*memory)(void *arg, uint64_t addr, void *to, size_t size);
    int (*reg)(void *arg, unsigned number, uint64_t *value); /* number: that of target.xml */
    void *arg;
    struct bytes *printed; /* NULL: it cannot print */
};

/*
 * Evaluates the code. Returns 0 and the value on top of the stack (0 if it is empty, and the code
 * has printed), or -1: it divides by zero, asks for what is not there, uses what is not known here
 * (floating point, tracing), is malformed, or does not end.
 */
int agent_evaluate(const uint8_t *code, size_t size, const struct agent_world *world,
                   uint64_t *value);

/*
 * What a breakpoint does by itself. It stops where one of its conditions is not 0, or cannot be
 * evaluated. Commands take the place of the stop.
 */
struct agent_script;

/*
 * The script as it stands in a Z packet: "X LEN,HEX X LEN,HEX ...;cmds:PERSIST,X LEN,HEX ..."
 * without blanks, either part may be missing. The same text gives the same script, which lives as
 * long as *all, where they are kept; NULL: malformed.
 */
const struct agent_script *agent_script(struct agent_script **all, const char *text, size_t size);
void agent_scripts_free(struct agent_script **all);

/* Is one of the conditions met? True if there are none. */
bool agent_meets(const struct agent_script *s, const struct agent_world *world);

bool agent_has_commands(const struct agent_script *s);

/* Executes the commands. Returns 0, or -1: one could not be; those after it are left out. */
int agent_execute(const struct agent_script *s, const struct agent_world *world);

#endif
