/*
 * gdbserver.h - serves one target to GDB, until GDB or the target is done
 */
#ifndef DBG3_GDBBRIDGE_GDBSERVER_H
#define DBG3_GDBBRIDGE_GDBSERVER_H

#include <argp.h>

#include "gdbbridge/target.h"
#include "gdbbridge/transport.h"
#include "runtime/base/err.h"

struct gdbserver_options {
    bool once;  /* end with the first connection (always so for a pair of descriptors) */
    bool multi; /* go on without a process, for GDB's extended-remote */
};

/* To be called before the target is made: blocks the signals that gdbserver_serve() waits for,
 * and leaves the terminal's process group, so that its Ctrl-C reaches GDB only (own_group), as a
 * pipe of GDB's must. */
void gdbserver_prepare(bool own_group);

/* Serves the target over the transport. `stop`: the target's present stop, or NULL. At the end the
 * target's processes are gone: those that GDB has not detached from are killed, or let go if they
 * were there before. The target and the transport stay the caller's. Returns 0, 1 if SIGINT,
 * SIGTERM or SIGHUP has ended it, or -1. */
int gdbserver_serve(struct target *t, const struct event *stop, struct transport *tr,
                    const struct gdbserver_options *options, struct err *err);

/* `dbg3 gdbserver`. Returns the exit code. */
extern const struct argp gdbserver_argp;
int gdbserver_main(int argc, char **argv);

#endif
