/*
 * fine_merge.h - the thread that keeps a rank's folder of fine checkpoints small
 */
#ifndef DBG3_CKPT_FINE_MERGE_H
#define DBG3_CKPT_FINE_MERGE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* Segments that nobody needs any more, "spare-0" and so on, to be renamed and written again: what
 * is in the page cache already costs a third of new pages. */
#define FINE_SPARE  "spare-%u"
#define FINE_SPARES 4

/* Both folders are borrowed for good. */
int fine_merge_start(const char *folder, const char *logs, uint32_t rank, struct err *err);

/*
 * Asks for two things: all checkpoints up to `upto`, which is the last of a segment, become one
 * image (0: none); log before segment `log_from` is removed. `bytes`: size of the segments that are
 * merged. If the thread still works on what was asked before, waits for it, or without `wait`
 * returns 1 and has asked nothing. Else 0; -1 with *err when the thread has failed.
 */
int fine_merge_ask(uint64_t upto, uint64_t bytes, uint32_t log_from, bool wait, struct err *err);

/* Microseconds of processor time that the thread has taken so far. */
uint64_t fine_merge_spent_us(void);

#endif
