/*
 * recording.h - a rank's payload log as events and messages
 *
 * An event is a recorded call. A message belongs to the event at which it was over for this rank:
 * the call that started a send, the one that completed a receive, a collective. One event may have
 * many (MPI_Waitall), or none (MPI_Irecv).
 */
#ifndef DBG3_GDBBRIDGE_RECORDING_H
#define DBG3_GDBBRIDGE_RECORDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

enum message_kind { MESSAGE_SENT = 1, MESSAGE_RECEIVED = 2, MESSAGE_COLLECTIVE = 4 };

struct message {
    enum message_kind kind;
    uint64_t event;
    uint64_t posted;  /* event of the call that began it: another one for MPI_Irecv */
    int peer, tag;    /* the peer's rank in the communicator; of what was matched, not asked for */
    uint32_t comm;    /* global id; 0: not known (a receive that was begun before the recording) */
    uint64_t bytes;
    uint64_t digest;  /* of a sent one */
    const void *data; /* of a received one; inside the recording */
};

struct recorded_event {
    const char *call; /* "MPI_Recv" */
    uint32_t thread;
    /* a clock that was read; what others wrote in a window, noted with the call before; a function
     * of the application that MPI called */
    bool no_call;
    size_t message, nmessages; /* recording_messages()[message ...] */
};

/* Which messages are meant; all that is set must fit. */
struct message_filter {
    unsigned kinds; /* enum message_kind, or 0: any */
    bool has_peer, has_tag, has_comm;
    int peer, tag;
    uint32_t comm;
};

struct recording;

/* Reads the log of a rank in `dir` up to its last whole record. NULL with *err. */
struct recording *recording_open(const char *dir, uint32_t rank, struct err *err);
void recording_close(struct recording *r);

/* Numbers of the first event, and of the one behind the last. */
uint64_t recording_first(const struct recording *r);
uint64_t recording_end(const struct recording *r);

/* The event, or NULL if the recording does not have it; all until recording_close(). */
const struct recorded_event *recording_event(const struct recording *r, uint64_t number);
const struct message *recording_messages(const struct recording *r, size_t *n);

/* xxh3-64 of the message's packed bytes, as its sender's record has it; a collective's is 0. */
uint64_t message_digest(const struct message *m);

/* Has the event a message that fits? */
bool recording_fits(const struct recording *r, uint64_t number, const struct message_filter *f);

/* The next event at or after `from`, or the last one before `before`, with a message that fits.
 * Returns its number, or UINT64_MAX. */
uint64_t recording_next(const struct recording *r, uint64_t from, const struct message_filter *f);
uint64_t recording_previous(const struct recording *r, uint64_t before,
                            const struct message_filter *f);

bool message_fits(const struct message *m, const struct message_filter *f);

/*
 * Parses "--recv --from 3 --tag 7": --send, --recv, --coll, --from P (a receive), --to P (a send),
 * --tag T, --comm C. Stops at the first word that is none of these and sets *rest to it (to the
 * end, if there is none). 0, or -1 with *err.
 */
int message_filter_parse(const char *text, struct message_filter *f, const char **rest,
                         struct err *err);

/*
 * The message that `sender` sent and `receiver`, which its sender calls `to`, received as m, one of
 * its messages: messages with the same communicator and tag do not overtake each other (MPI 4.0
 * §3.5), so that the kth received is the kth sent. Where one recording begins later than the other
 * (messages under way at an epoch) the contents tell how much later. `comm` is the sender's name of
 * m's communicator: the same, unless they are of different MPI_COMM_WORLDs.
 * Returns 0 or -1 with *err.
 */
int recording_find_sender(const struct recording *receiver, int to, const struct message *m,
                          const struct recording *sender, uint32_t comm,
                          const struct message **sent, struct err *err);

#endif
