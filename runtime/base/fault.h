/*
 * fault.h - named points at which a test may strike a process
 *
 *     DBG3_FAULT=POINT[:RANK[:NTH[:stop]]]
 *
 * The NTH time (default: the first) that the process passes POINT it sends itself SIGKILL, or with
 * "stop" SIGSTOP, so that a test can kill another process of the job at this moment and then let it
 * go on. RANK (default: 0) is whose; it means nothing at the coordinator's points.
 *
 * Points lie on the paths of checkpoints and restarts only, never on that of an MPI call. One that
 * is not armed costs a load and a comparison.
 */
#ifndef DBG3_BASE_FAULT_H
#define DBG3_BASE_FAULT_H

#include "runtime/base/err.h"

#define FAULT_ENV "DBG3_FAULT"

/* X(symbol, name, whose, what is so at this moment): in the order of an epoch, then the rest. */
#define FAULT_POINTS(X)                                                                            \
    X(EPOCH_BEGUN, "epoch-begun", COORDINATOR, "the epoch's folder is made; no rank knows of it")  \
    X(EPOCH_ASKING, "epoch-asking", COORDINATOR, "every rank has been asked")                      \
    X(ASKED, "asked", RANK, "the rank has been asked and has not answered")                        \
    X(ANSWERED, "answered", RANK, "the rank has told where it is")                                 \
    X(EPOCH_ARMING, "epoch-arming", COORDINATOR, "every rank has told where it is")                \
    X(ARMED, "armed", RANK, "the rank knows how far it must go, and has said so")                  \
    X(EPOCH_STOPPING, "epoch-stopping", COORDINATOR, "the cut is found; the ranks are to stop")    \
    X(PARKED, "parked", RANK, "every thread is parked; nobody has been told")                      \
    X(EPOCH_DRAINING, "epoch-draining", COORDINATOR, "every rank is parked")                       \
    X(DRAINED, "drained", RANK, "no message is in flight to the rank; nobody has been told")       \
    X(EPOCH_WRITING, "epoch-writing", COORDINATOR, "every rank is drained, and is to write")       \
    X(IMAGE_BEGUN, "image-begun", RANK, "an image is an empty .part file")                         \
    X(IMAGE_POURED, "image-poured", RANK, "an image has its memory, and no first sector")          \
    X(IMAGE_SEALED, "image-sealed", RANK, "an image is whole, and still called .part")             \
    X(IMAGE_RENAMED, "image-renamed", RANK, "an image is whole and has its name")                  \
    X(WRITTEN, "written", RANK, "the rank has told that its image is written")                     \
    X(EPOCH_WRITTEN, "epoch-written", COORDINATOR, "all images are written; no row says so")       \
    X(EPOCH_ROWS, "epoch-rows", COORDINATOR, "the epoch's rows are written, not committed")        \
    X(EPOCH_COMMITTED, "epoch-committed", COORDINATOR, "the epoch is true; the ranks are parked")  \
    X(RESUMING, "resuming", RANK, "the rank may go on; its threads are parked")                    \
    X(EPOCH_TRIMMED, "epoch-trimmed", COORDINATOR, "--keep-epochs: rows are gone, images not yet") \
    X(FINE_POURED, "fine-poured", RANK, "refine: an increment has its memory, no first sector") \
    X(FINE_WRITTEN, "fine-written", RANK, "refine: a fine checkpoint is there")                    \
    X(FINE_MERGED, "fine-merged", RANK, "refine: old increments are merged, and still there")      \
    X(LOG_ROTATED, "log-rotated", RANK, "refine: the log has a new, empty segment")                \
    X(LOG_COPIED, "log-copied", RANK, "refine: a full log segment is copied, not yet replaced") \
    X(RESTARTED, "restarted", RANK, "a restarted rank is under control; it has not gone on")

#define X(symbol, name, whose, what) FAULT_##symbol,
enum fault_point { FAULT_NONE, FAULT_POINTS(X) };
#undef X

struct fault_row {
    const char *name, *whose, *what; /* whose: "rank" or "coordinator" */
};

/* The points, by enum fault_point; row 0 and the one behind the last have a NULL name. */
extern const struct fault_row fault_rows[];

/* Arms what the environment names, if it is this process's: rank, or -1 for the coordinator. A
 * value that cannot be understood arms nothing. */
void fault_arm(int rank);

/* Why this value of DBG3_FAULT means nothing, for a person: 0 if it does. */
int fault_check(const char *value, struct err *err);

extern enum fault_point fault_armed;
void fault_strike(void);

static inline void fault_point(enum fault_point point)
{
    if (__builtin_expect(fault_armed == point && point != FAULT_NONE, 0))
        fault_strike();
}

#endif
