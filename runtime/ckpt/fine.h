/*
 * fine.h - fine checkpoints: local to one rank, at a call boundary, only what changed
 *
 * In refine, every N messages the stub sets GATE_WORD_FINE; the rank's main thread comes to its
 * safe point and appends an increment to a segment in <session>/fine/rank-R (see
 * runtime/image/image.h). No coordination and no drain: a rank whose inputs are all recorded needs
 * no peers. The last `keep` are kept: a thread of the lower half merges older ones, and drops the
 * log before the oldest.
 */
#ifndef DBG3_CKPT_FINE_H
#define DBG3_CKPT_FINE_H

#include <stdint.h>

#include "runtime/base/err.h"

/* Rank and size are known. Makes the folder, arranges the first (whole) checkpoint at the next safe
 * point. */
int fine_start(struct err *err);

/* keep: how many fine checkpoints stay. overhead: percent of the time that they may take (then some
 * are left out); 0: any. Before fine_start(). */
void fine_init(uint64_t keep, uint64_t overhead);

#endif
