/*
 * isolated.h - an isolated rank behind GDB's remote protocol
 */
#ifndef DBG3_GDBBRIDGE_ISOLATED_H
#define DBG3_GDBBRIDGE_ISOLATED_H

#include "replay/isolate.h"
#include "runtime/base/err.h"

/*
 * Runs dbg3-replay under ptrace from the checkpoint that the options mean, and serves it at
 * options->listen ("-": standard input and output, for GDB's `target extended-remote | ...`). The
 * rank stands at its first instruction of the application's half when GDB connects; GDB's `run`
 * starts it anew from there. Returns when GDB has gone: 0, 1 if a signal has ended it before, or -1
 * with *err.
 */
int isolated_serve(const struct isolate_options *options, struct err *err);

/*
 * Makes the same process and lets it go: it is stopped (SIGSTOP) where GDB would see it first, and
 * traced by nobody, so that any debugger may attach to it. Prints how. Returns when it has ended,
 * 0 or -1 with *err; it ends with this process.
 */
int isolated_wait(const struct isolate_options *options, struct err *err);

#endif
