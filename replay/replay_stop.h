/*
 * replay_stop.h - how a replayed rank tells its tracer why it stopped
 *
 * The lower program is linked at a fixed address, so the tracer finds both symbols in its file:
 * after a SIGTRAP at replay_stop_here + 1, replay_stop_word says where the text is.
 */
#ifndef DBG3_REPLAY_STOP_H
#define DBG3_REPLAY_STOP_H

#include <stdint.h>

/* Set in the environment of a rank that is traced. */
#define REPLAY_TRACED "DBG3_REPLAY_TRACED"

/* Without a tracer: number of a descriptor on which the code, the length and the text are written.
 * */
#define REPLAY_REASON_FD "DBG3_REPLAY_REASON_FD"

struct replay_stop {
    uint32_t traced;
    uint32_t code; /* 0: end of recording; else divergence */
    uint64_t text, length; /* in the rank's memory */
};

extern struct replay_stop replay_stop_word;

#endif
