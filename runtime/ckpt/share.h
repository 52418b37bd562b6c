/*
 * share.h - shared mappings of files, restored as such
 *
 * An image holds what the rank saw in them. A restart maps the file again where it still has one of
 * sufficient length, and puts into it what differs: what the rank, or another one in the same
 * epoch, had written there. Where the file is gone, or was deleted before, the memory is private.
 */
#ifndef DBG3_CKPT_SHARE_H
#define DBG3_CKPT_SHARE_H

#include "runtime/base/err.h"
#include "runtime/image/image.h"

/* When memory and descriptors are there again. */
int share_restore(const struct image_state *state, struct err *err);

#endif
