/*
 * system_data.h - what a system call has written to memory, or is given to send
 */
#ifndef DBG3_MSGCOUNTER_SYSTEM_DATA_H
#define DBG3_MSGCOUNTER_SYSTEM_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "msgcounter/log/system_table.h"

/* Where the caller's arguments point to. NULL in its place stands for this process. */
struct system_memory {
    bool (*read)(void *arg, uint64_t at, void *to, uint64_t bytes); /* false: it is not there */
    void *arg;
};

/* Called before the call is made: what system_data_find() has to know of that time. */
uint64_t system_data_before(const struct system_memory *m, const struct system_row *row,
                            const long args[6]);

/*
 * Lists what a call with this result has written (of SYSTEM_OUTPUT: has sent). Calls `each` for
 * every chunk that is not empty, with its address there. Returns false if that cannot be known.
 */
bool system_data_find(const struct system_memory *m, const struct system_row *row,
                      const long args[6], long result, uint64_t before,
                      void (*each)(void *arg, void *at, uint64_t bytes), void *arg);

#endif
