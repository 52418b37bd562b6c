/*
 * track.h - which pages of the upper half were written since the last look
 *
 * userfaultfd write protection in asynchronous mode (Linux 6.7+), read and re-armed by
 * PAGEMAP_SCAN: about a millisecond for a clean GiB, two microseconds a dirty page, for any user.
 * Writes by the kernel (read(2) into a buffer) are seen. Where the kernel lacks it, every page
 * counts as changed.
 */
#ifndef DBG3_CKPT_TRACK_H
#define DBG3_CKPT_TRACK_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/ckpt/save.h"

/* Opens the kernel's facility. Returns 0 also where there is none; track_precise() tells. */
int track_start(struct err *err);
bool track_precise(void);

/*
 * Application threads parked, lower FS. Fills *changed with the sorted ranges written since the
 * last call (all of memory at the first), valid until the next call, and starts anew. Mappings that
 * appeared since count as changed.
 */
int track_collect(const struct save_regions *regions, const struct image_range **changed, size_t *n,
                  struct err *err);

#endif
