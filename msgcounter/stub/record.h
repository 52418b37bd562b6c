/*
 * record.h - recording and replaying of calls: the stub's end of the payload log
 *
 * Every recorded call is one event. A by-hand call in record mode:
 *
 *     make the call;
 *     record_begin(call, LOG_FIELD_ROOM(sizeof(struct log_status)) + ...);
 *     log_put_status(&record_writer, 1, &status); ...
 *     record_end(rc);
 *
 * and in replay:
 *
 *     const struct log_record *rec = replay_next(call);
 *     ... log_field_find(rec, NULL, 1, LOG_ROLE_STATUS) ...
 *     return replay_rc(rec);
 *
 * Callbacks that MPI made meanwhile (user ops) are events before the call's; replay_next runs them
 * again with the recorded arguments. Each thread replays its own events.
 */
#ifndef DBG3_STUB_RECORD_H
#define DBG3_STUB_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "msgcounter/layout/layout.h"
#include "msgcounter/log/log.h"
#include "msgcounter/stub/call.h"
#include "msgcounter/stub/schedule.h"
#include "msgcounter/stub/signal_place.h"

/* Flags of a record. */
enum record_flag {
    RECORD_IDLE = 1,     /* `VALUE` times in a row the call said that nothing has happened */
    RECORD_CALLBACK = 2, /* of a function of the application that MPI called */
    RECORD_MEMORY = 4,   /* what other ranks had written to memory of this one (win_watch.h) */
    RECORD_UNKNOWN = 8,  /* of a system call whose outputs are not known: no replay gets past it */
    RECORD_LEFT = 16,    /* of Request_free: the end of a request freed earlier */
    RECORD_OWN = 32,     /* of a collective: without what the rank gave itself (buffers_own) */
};

/* The field of an event that holds the note of the object that the call made (call.h). */
#define RECORD_PARAM_NOTE 0xfe

extern struct log_writer record_writer;

static inline bool recording(void)
{
    return GATE->mode == GATE_RECORD;
}

static inline bool replaying(void)
{
    return GATE->mode == GATE_REPLAY;
}

/* Opens the event of `call` with room for max_bytes of fields besides the return code. Takes the
 * log's lock until record_end. Stops the rank if the disk is full. */
void record_begin(enum call call, uint64_t max_bytes);

/* The same for a callback that the lower half made during a call: replay_next runs it again. */
void record_callback_begin(enum call call, uint64_t max_bytes);

/* The same for what came to pass in a call that need not be an event itself: RECORD_MEMORY or
 * RECORD_LEFT. Says in which call of the thread. */
void record_beside_begin(enum call call, enum record_flag flag, uint64_t max_bytes);

/* The same for a system call of the application, which record_system_end closes. */
void record_system_begin(unsigned number, uint16_t flags, uint64_t max_bytes);
void record_system_end(long result);

/* A handler of the application runs: where (enum signal_where), behind how many system calls, and
 * its siginfo_t. */
void record_signal(unsigned where, uint64_t calls, const void *info);

/* Packs the first `bytes` packed bytes of elements at buf into the open event, to where
 * log_reserve() has made room. */
void record_pack(const struct layout *l, const void *buf, void *to, uint64_t bytes);

/* A turn goes to another thread (schedule.h). */
void record_schedule(const struct schedule_change *change);

/* What an event's call is called. */
const char *record_name(uint16_t call);

/* Another number than before if there has been an event, or an answer of record_idle(), since. */
uint64_t record_moment(void);

/* Adds the return code and closes the event. Returns its number. */
uint64_t record_end(int rc);

/* An answer that says nothing has happened (Test, Iprobe without success) on `object` (a virtual
 * request, or a communicator): consecutive identical ones become one event with a counter. */
void record_idle(enum call call, int object);

/* Writes a counter that record_idle still holds. Called before every event and save, and by the
 * handler of fatal signals. */
void record_flush(void);

/* The next event of this thread, which must be of this call: if it is another, the rank has
 * diverged and stops with a line; at the end of the log it stops with "end of recording".
 * Borrowed for good. */
const struct log_record *replay_next(enum call call);

/* The same for a system call. */
const struct log_record *replay_system(unsigned number);

/* Whether the next event is an idle one of this call and object; takes one from its counter. */
bool replay_idle(enum call call, int object);

/* The next event of this thread without taking it; NULL at the end of the recording. */
const struct log_record *replay_peek(void);

/* The next event of this thread if it is one of record_beside_begin() in this call; else NULL. */
const struct log_record *replay_beside(enum record_flag flag);

/* Takes the next event of this thread if it is a handler that ran behind a call, not behind more
 * system calls than these, and in the present turn; or one that ran while a call waited. Returns
 * its siginfo_t or NULL. */
const void *replay_signal(uint64_t calls, enum signal_where *where);
const void *replay_signal_in_call(void);

/* Whether there is one of the latter. */
bool replay_signal_is_in_call(void);

/* The event at a place; NULL at the end of the recording. */
const struct log_record *replay_at(struct log_position at);

/* The first event of the schedule at or behind *at, which is then the place behind it. Returns
 * whether there is one. */
bool replay_find_schedule(struct log_position *at, uint64_t *event, struct schedule_change *change);

int replay_rc(const struct log_record *rec);

/* The field, or a stop with a line that names it: the log is of another build. */
const struct log_field *replay_field(const struct log_record *rec, uint8_t param,
                                     enum log_role role);

/* Compare what the application does now with what it did. Stop the rank and name the difference
 * if it is another: "diverged at event 48213: MPI_Send to 12 tag 7 has other data than
 * recorded". */
void replay_check_envelope(const struct log_record *rec, int peer, int tag, uint32_t comm);
void replay_check_digest(const struct log_record *rec, uint8_t param, uint64_t digest,
                         uint64_t bytes);

/* Number of the event that is next on this thread (or was last begun): for reports. */
uint64_t record_event(void);

/* gate_stub.taken. */
void record_taken(uint64_t event);

/* In a new process: attaches the writer to a new log, or puts the cursor where this image was
 * recording when it was saved (else at the log's start). */
void record_attach(void);

#endif
