/*
 * replay_stop.h - how dbg3-replay is told where to say why it stopped
 *
 * An end that is ours to explain (divergence, end of recording) is a call of GATE->stop(code,
 * text); REPLAY_STOP_END is the end of the recording, GATE_STOP_EVENT the event that a debugger
 * asked for.
 * Three ways to hear of it: a tracer finds an int3 at that address, with the text in the second
 * argument; a descriptor gets code, length and text; else it goes to standard error.
 */
#ifndef DBG3_REPLAY_STOP_H
#define DBG3_REPLAY_STOP_H

#include <stdint.h>

#define REPLAY_STOP_END 0

/* Environment: set for a rank that is traced. REPLAY_WAITS: until it is in the application. Then
 * it is let go, to be attached to, and says on standard error why it stops. */
#define REPLAY_TRACED "DBG3_REPLAY_TRACED"
#define REPLAY_WAITS  "waits"

/* Environment: the descriptor on which uint32_t code, uint32_t length and the text are written. */
#define REPLAY_REASON_FD "DBG3_REPLAY_REASON_FD"

/*
 * Environment: descriptor of the memory that is shared by all processes that replay one rank for a
 * debugger, so that what the rank prints shows once. It holds the first event whose output shows,
 * then a bit for each event from there on (gate.h, replay_shown).
 */
#define REPLAY_SHOWN_FD "DBG3_REPLAY_SHOWN_FD"

struct replay_shown {
    uint64_t from, events;
    uint8_t bit[];
};

/* Environment: set to the folder below which mapped files are, for a rank of another machine. */
#define REPLAY_ROOT "DBG3_REPLAY_ROOT"

#endif
