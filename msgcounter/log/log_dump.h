/*
 * log_dump.h - print a payload log: a table for people, JSON lines for programs
 */
#ifndef DBG3_MSGCOUNTER_LOG_DUMP_H
#define DBG3_MSGCOUNTER_LOG_DUMP_H

#include <stdio.h>

#include "msgcounter/log/log_read.h"

struct log_dump_opts {
    bool json;                                        /* one object a line */
    const char *(*name_of)(void *arg, uint16_t call); /* name of a call; NULL: "call-<id>" */
    void *arg;
    uint64_t from, to; /* events from <= number < to; to 0: no upper bound */
};

/*
 * Prints the records from the reader's place on. The table is at most 80 columns wide; `bytes` and
 * the last column are of the record's data: the digest of what was sent ("=" and xxh3-64), or the
 * first bytes of what was received, in hex. Returns 0, or -1 at damage, after printing all before
 * it.
 */
int log_dump(struct log_reader *r, FILE *out, const struct log_dump_opts *opts, struct err *err);

/* Name of a role, "?" if there is no such role. */
const char *log_role_name(unsigned role);

#endif
