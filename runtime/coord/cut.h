/*
 * cut.h - the coordinator's half of the coordinated cut, as a pure state machine
 *
 * The rules are those of DESIGN.md section 6, the messages those of proto.h. No socket, no clock,
 * no thread: messages and ticks go in, messages come out through a callback. docs/cut.pml models
 * the same rules; tests/unit/test_cut.c drives this very code, with cut_rank.h as the ranks.
 *
 *              cut_start
 *     IDLE ---------------> ACKING    INTENT sent, waiting for every ACK
 *                             |
 *                           ARMING    ARM sent, waiting for every ARMED
 *                             |
 *                          GATHERING  until E = T everywhere and nobody is inside
 *                             |       (a stall releases the oldest hold: T + 1)
 *                          STOPPING   STOP sent, waiting for every STOPPED
 *                             |
 *                          DRAINING   DRAIN sent, waiting for every DRAINED
 *                             |
 *                           WRITING   WRITE sent, waiting for every WRITTEN
 *                             |
 *                           WRITTEN   the caller commits and calls cut_resume()
 *
 * From any of them a rank that is lost, fails or is unable, a deadline, or cut_cancel() leads to
 * IDLE through CANCEL to all ranks and one line that says why (cut_reason()).
 *
 * Invariant of WRITING: between WRITE and the last WRITTEN no rank can have sent a message that
 * some image holds as received and its sender's image does not hold as sent, or the other way
 * round.
 */
#ifndef DBG3_COORD_CUT_H
#define DBG3_COORD_CUT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/coord/proto.h"

enum cut_phase {
    CUT_IDLE,
    CUT_ACKING,
    CUT_ARMING,
    CUT_GATHERING,
    CUT_STOPPING,
    CUT_DRAINING,
    CUT_WRITING,
    CUT_WRITTEN
};

struct cut_limits {
    uint64_t stall_ms;     /* nothing moved for so long: release */
    unsigned releases_max; /* then cancel */
    uint64_t gather_ms;    /* longest time from INTENT to STOP */
    uint64_t stop_ms;      /* longest for STOPPING and for DRAINING, each */
    uint64_t write_ms;     /* longest without any WRITTEN in WRITING */
};

extern const struct cut_limits cut_limits_default;

/* Must deliver in order; msg is borrowed during the call. May not call back into the cut. */
typedef void cut_send_fn(void *arg, unsigned rank, const struct proto_msg *msg);

struct cut;

struct cut *cut_create(unsigned size, const struct cut_limits *limits, cut_send_fn *send,
                       void *arg);
void cut_destroy(struct cut *cut);

/* Starts a cut among all ranks. `folder` (copied) is where WRITE sends the ranks. */
int cut_start(struct cut *cut, uint64_t epoch, const char *folder, uint64_t now_ms,
              struct err *err);

/*
 * A message of a rank. Those that are not of this cut (another epoch, or not about cuts) are
 * ignored. A message that breaks the protocol (an E that goes back, a STOPPED of another world
 * size) cancels the cut.
 */
void cut_receive(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms);

/* To be called every few tens of ms while a cut is under way. */
void cut_tick(struct cut *cut, uint64_t now_ms);

/* Cancels whatever is under way. */
void cut_cancel(struct cut *cut, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* In WRITTEN only: tells all ranks to go on, and whether the epoch is valid. */
void cut_resume(struct cut *cut, bool committed);

enum cut_phase cut_phase(const struct cut *cut);
const char *cut_phase_name(enum cut_phase phase);
uint64_t cut_epoch(const struct cut *cut);

/* Ranks that have answered in the present phase. */
unsigned cut_answers(const struct cut *cut);

/* Releases in this or the last cut. */
unsigned cut_releases(const struct cut *cut);

/* Why the last cut was cancelled, one line; "" if it was not. */
const char *cut_reason(const struct cut *cut);

/* One line on what the cut waits for ("waiting for rank 3 to reach its collective ..."). */
const char *cut_describe(const struct cut *cut, char *buf, size_t cap);

#endif
