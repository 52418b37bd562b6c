/*
 * by_message_private.h - shared by the files of by_message
 *
 *     by_message.c       where the rank is, goals, breakpoints on messages
 *     by_message_say.c   when, messages, who-sent
 */
#ifndef DBG3_GDBBRIDGE_BY_MESSAGE_PRIVATE_H
#define DBG3_GDBBRIDGE_BY_MESSAGE_PRIVATE_H

#include "gdbbridge/by_message.h"
#include "gdbbridge/recording.h"

struct bytes;

#define BREAKS_MAX 32
#define NO_EVENT   UINT64_MAX

struct message_break {
    unsigned number; /* 0: free */
    struct message_filter filter;
};

struct by_message {
    struct by_message_options options;
    struct target *target;
    struct recording **recording; /* by rank; NULL: not read yet */
    unsigned nrecordings;
    struct monitor_command *commands;

    uint64_t goal; /* event that the next `continue` goes to, or NO_EVENT */
    bool back;     /* it lies behind */
    struct message_break breaks[BREAKS_MAX];
    unsigned last_break;

    /* While the rank runs. */
    bool armed;         /* gate.replay_stop_at is set */
    uint64_t next_then; /* the event that was next when it began to run */
    /* Behind the wanted event, on the way to where its call returns. */
    bool returning;
    struct ptid thread;
    uint64_t site;

    /* While it is stopped: it is at this event (by_message.h), or NO_EVENT: somewhere else. */
    uint64_t here;
};

/* Where a thread is in the log. Returns 0, or -1 with *err. */
int by_message_next_event(struct by_message *b, struct ptid thread, uint64_t *next,
                          struct err *err);

/* The thread that commands are about: the process's first one. */
int by_message_thread(struct by_message *b, struct ptid *thread, struct err *err);

/* The recording of a rank of the job, or NULL with *err. */
struct recording *by_message_recording(struct by_message *b, unsigned rank, struct err *err);

/* "event 2702: MPI_Recv from 3, tag 7" */
void by_message_describe(const struct recording *r, uint64_t event, struct bytes *out);
/* "received 4096 bytes from 3, tag 7, communicator 1" */
void by_message_describe_one(const struct message *m, struct bytes *out);

int by_message_when(void *arg, const char *args, struct bytes *out, struct err *err);
int by_message_list(void *arg, const char *args, struct bytes *out, struct err *err);
int by_message_who_sent(void *arg, const char *args, struct bytes *out, struct err *err);

#endif
