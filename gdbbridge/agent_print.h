/*
 * agent_print.h - printf for the byte code's values
 */
#ifndef DBG3_GDBBRIDGE_AGENT_PRINT_H
#define DBG3_GDBBRIDGE_AGENT_PRINT_H

#include <stddef.h>
#include <stdint.h>

struct agent_world;

/*
 * Appends to world->printed what printf makes of values and a format as it was typed, C's escapes
 * included; `%s' takes an address. Knows characters, integers, pointers and strings of bytes.
 * Returns 0, or -1: it knows no such format, there are not as many values as it takes, or a string
 * is not there. What comes before that has been appended then.
 */
int agent_print(const struct agent_world *world, const char *format, size_t size,
                const uint64_t *values, size_t n);

#endif
