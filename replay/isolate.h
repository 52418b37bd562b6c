/*
 * isolate.h - one rank alone: replays it to its end, or opens GDB on it
 */
#ifndef DBG3_REPLAY_ISOLATE_H
#define DBG3_REPLAY_ISOLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct isolate_options {
    const char *session; /* absolute path of the session folder, or of an unpacked bundle */
    bool bundle;         /* it is a bundle: mapped files, symbols and sources are in it */
    const char *runtime; /* folder of dbg3-replay */
    unsigned rank;
    uint64_t at;       /* fine checkpoint by number; 0: the last one */
    const char *from;  /* image to start from instead (an epoch's), or NULL */
    bool check;        /* no GDB: replay to the end and say so */
    bool wait;         /* no GDB: for gdbbridge/isolated.h, which leaves the rank stopped */
    const char *listen; /* for gdbbridge/isolated.h: where a remote GDB is served, or NULL */
    char *const *gdb_args; /* what follows "under gdb", NULL-terminated; NULL: none */
    int expect_signal; /* the recorded failure of this rank, 0 if it did not fail by a signal */
    bool json;
    bool any_cpu;      /* of a bundle: no look at the processor */
    uint64_t recorded_from; /* epoch that the recording began at; 0: the start of the program */
};

/* What a check found. */
struct isolate_result {
    bool reached_end;  /* the whole log was replayed and every send was the recorded one */
    uint64_t checkpoint, events;
    int signal;        /* the rank died of it, as recorded */
    int status;        /* exit status of the replayed rank */
    char text[1024];   /* one line */
};

/* The image that the options mean. 0, or -1 with *err naming what to type. */
int isolate_image(const struct isolate_options *options, char *path, size_t cap, struct err *err);

/* Tells dbg3-replay, which this process will start, where the rank's files are. */
void isolate_prepare_replay(const struct isolate_options *options);

/*
 * With `check`: runs the rank to its end, returns 0 and fills *result; reached_end tells. Else
 * becomes GDB, which starts this program again as its stub (isolated_serve), and does not return.
 * -1 with *err when it could not be started.
 */
int isolate_run(const struct isolate_options *options, struct isolate_result *result,
                struct err *err);

#endif
