/*
 * written.h - written pages of a few ranges, for two who ask at different times
 *
 * The kernel keeps one bit a page, which the one who asks clears. Fine checkpoints ask about all of
 * memory, windows about their own: what either learns of a window is kept here for the other. Pages
 * are IMAGE_PAGE bytes. Not for several threads at once.
 */
#ifndef DBG3_CKPT_WRITTEN_H
#define DBG3_CKPT_WRITTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/image/image.h"

enum written_for { WRITTEN_FOR_WINDOW, WRITTEN_FOR_FINE };

struct written_range;

/* The range, which is made if it is new: all of it is kept for the window then, which knows nothing
 * of it. Page-aligned. NULL: no memory, or too many. */
struct written_range *written_range(uint64_t start, uint64_t end);

/* Whether it cannot be watched, so that asking is in vain. */
bool written_hopeless(const struct written_range *r);
void written_give_up(struct written_range *r);

/* Nobody asks about it for a window any more; it goes when what is kept of it has been taken. */
void written_forget(uint64_t start, uint64_t end);

/* Pages from start to end were written: kept for `whom` as far as they lie in ranges. */
void written_add(uint64_t start, uint64_t end, enum written_for whom);

/* The next run of pages kept for `whom`, from *from on, which it moves behind that; they are no
 * longer kept. False: there is none. */
bool written_take(struct written_range *r, enum written_for whom, uint64_t *from,
                  struct image_range *out);

/* The first range (NULL), or the one behind `r`. Ranges may overlap; in no order. Frees `r` if it
 * has been forgotten. */
struct written_range *written_next(struct written_range *r);

#endif
