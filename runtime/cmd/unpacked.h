/*
 * unpacked.h - a bundle as a folder, for as long as a command needs it
 */
#ifndef DBG3_CMD_UNPACKED_H
#define DBG3_CMD_UNPACKED_H

#include <limits.h>
#include <stdint.h>

#include "runtime/base/err.h"

/*
 * Makes `dir` the folder of a bundle: `path` itself if that is one; else the file is unpacked to
 * `keep`, which must not exist, or to a temporary folder. In the latter case this returns in a
 * child process: its parent waits for it, removes the folder, and ends as it did. 0, or -1 with
 * *err.
 */
int unpacked_open(const char *path, const char *keep, char dir[PATH_MAX], struct err *err);

/* Shows how far packing or unpacking has come, as struct bundle_progress wants it; `arg` is a word
 * such as "packing". */
void unpacked_progress(void *arg, uint64_t done, uint64_t all);

#endif
