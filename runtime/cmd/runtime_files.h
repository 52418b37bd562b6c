/*
 * runtime_files.h - where the files are that a phase needs beside the dbg3 command
 *
 *     build tree:  build/dbg3, build/dbg3-lower, build/libdbg3-launch.so, build/lib/libmpich.so.12
 *     installed:   PREFIX/bin/dbg3, PREFIX/lib/dbg3/{dbg3-lower,libdbg3-launch.so,lib/...}
 */
#ifndef DBG3_CMD_RUNTIME_FILES_H
#define DBG3_CMD_RUNTIME_FILES_H

#include <limits.h>
#include <stdbool.h>

#include "runtime/base/err.h"

struct runtime_files {
    char dir[PATH_MAX];     /* with dbg3-lower and lib/libmpich.so.12: DBG3_RUNTIME */
    char preload[PATH_MAX]; /* libdbg3-launch.so */
};

/* Found from /proc/self/exe. Fails, naming the first file that is missing: of those for a launch,
 * or for an isolation, which needs no MPI. `preload` is for launches only. */
int runtime_files_find(struct runtime_files *files, bool launch, struct err *err);

#endif
