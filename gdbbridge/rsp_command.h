/*
 * rsp_command.h - typed commands: which packet it is and what its parameters are
 *
 * A command is a row of a table: the packet's name, a schema of its parameters, and a handler that
 * gets them parsed. A schema is read from left to right:
 *
 *     x  a hex number              t  a thread id
 *     w  text up to the next literal of the schema, or to the end
 *     b  all the rest, as it is
 *     |  the packet may also end here; parameters that follow are then not present
 *     any other character: that character
 *
 * so that "x,x:b" describes what follows the M of "M4000,4:00112233".
 */
#ifndef DBG3_GDBBRIDGE_RSP_COMMAND_H
#define DBG3_GDBBRIDGE_RSP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdbbridge/target.h"

#define RSP_PARAMS_MAX 6

struct session;

struct rsp_param {
    bool present;
    uint64_t number;    /* x */
    struct ptid thread; /* t */
    const char *text;   /* w, b: inside the packet, not NUL-terminated at size for w */
    size_t size;
};

struct rsp_command {
    const char *name;
    const char *schema;
    void (*run)(struct session *s, const struct rsp_param *p);
    /* NULL, or: does the target of this session offer it? A packet not offered is unknown. */
    bool (*offered)(const struct session *s);
};

enum rsp_parse { RSP_UNKNOWN, RSP_MALFORMED, RSP_PARSED };

/* Finds the row with the longest name that `packet` begins with (the name of a q, Q or v packet
 * must end where the row's ends) and parses the parameters into p[RSP_PARAMS_MAX]. */
enum rsp_parse rsp_command_parse(const struct rsp_command *table, size_t rows,
                                 const struct session *s, const char *packet, size_t size,
                                 const struct rsp_command **command, struct rsp_param *p);

/* Thread id at *text (up to end): [p]PID.TID, -1 for all, 0 for any; *text moves behind it. Without
 * a process part pid is 0. Returns 0 or -1. */
int rsp_parse_thread(const char **text, const char *end, struct ptid *thread);

/* Hex number at *text; *text moves behind it. Returns 0 or -1. */
int rsp_parse_number(const char **text, const char *end, uint64_t *number);

#endif
