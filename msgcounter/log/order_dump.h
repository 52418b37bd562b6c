/*
 * order_dump.h - print an order log: a table for people, JSON lines for programs
 */
#ifndef DBG3_MSGCOUNTER_ORDER_DUMP_H
#define DBG3_MSGCOUNTER_ORDER_DUMP_H

#include <stdio.h>

#include "msgcounter/log/order.h"
#include "runtime/base/err.h"

struct order_dump_opts {
    bool json;         /* one object a line */
    uint64_t from, to; /* outcomes from <= number < to; to 0: no upper bound */
};

/* Prints the outcomes of a chain of segments. Returns 0, or -1 at damage, after printing all before
 * it. */
int order_dump(const struct order_map *maps, uint32_t nmaps, FILE *out,
               const struct order_dump_opts *opts, struct err *err);

#endif
