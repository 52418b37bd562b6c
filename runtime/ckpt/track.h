/*
 * track.h - which pages of the upper half were written since the last look
 *
 * TRACK_PROTECT: userfaultfd write protection in asynchronous mode (Linux 6.7+), read and armed
 * again by PAGEMAP_SCAN: about a millisecond for a clean GiB, two microseconds a dirty page, for
 * any user.
 *
 * TRACK_SOFT_DIRTY: the soft-dirty bits of /proc/PID/pagemap (Linux 3.11+ where it is configured,
 * as in Debian 12's 6.1). Each look reads eight bytes a page and walks all of memory to clear the
 * bits. Not mprotect: read(2) into a page that is protected fails with EFAULT.
 *
 * In both, writes by the kernel (read(2) into a buffer) are seen. Where the kernel has neither,
 * every page counts as changed.
 */
#ifndef DBG3_CKPT_TRACK_H
#define DBG3_CKPT_TRACK_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/ckpt/save.h"

enum track_way { TRACK_NOTHING, TRACK_SOFT_DIRTY, TRACK_PROTECT };

/* Opens the best that the kernel has; DBG3_TRACK=protect, soft-dirty or nothing asks for one. */
enum track_way track_start(void);

/*
 * Application threads parked, lower FS. Fills *changed with the sorted ranges written since the
 * last call (all of memory at the first), valid until the next call, and starts anew. Mappings that
 * appeared since count as changed.
 */
int track_collect(const struct save_regions *regions, const struct image_range **changed, size_t *n,
                  struct err *err);

/*
 * [crossing] The same for a range alone, whenever its owner asks; fine checkpoints hear of it all
 * the same. Page-aligned; *from is start at first. Fills out[room] with what was written since the
 * last such question, moves *from behind that, and returns how many there are: fewer than room, and
 * it was all. -errno: it cannot be told, and never will. With room 0 the owner asks no more.
 */
int track_range(uint64_t start, uint64_t end, uint64_t *from, struct image_range *out, size_t room);

/* Microseconds that the watch took from the application between the last two calls of
 * track_collect(): its first write to a page was a fault, priced as measured at track_start(). */
uint64_t track_cost_us(void);

#endif
