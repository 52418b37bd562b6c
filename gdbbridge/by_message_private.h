/*
 * by_message_private.h - shared by the files of by_message
 *
 *     by_message.c           where the rank is, running to messages, stops at them
 *     by_message_commands.c  goto-msg and the like, breakpoints on messages
 *     by_message_say.c       when, messages, who-sent
 *     by_message_comm.c      members of communicators
 *     by_message_keep.c      what-if and back, checkpoint and restart
 */
#ifndef DBG3_GDBBRIDGE_BY_MESSAGE_PRIVATE_H
#define DBG3_GDBBRIDGE_BY_MESSAGE_PRIVATE_H

#include <time.h>

#include "gdbbridge/by_message.h"
#include "gdbbridge/recording.h"

struct bytes;

#define BREAKS_MAX      32
#define CHECKPOINTS_MAX 32
#define COMING_MAX      4
#define NO_EVENT   UINT64_MAX

struct message_break {
    unsigned number; /* 0: free */
    struct message_filter filter;
};

/* A thread behind a wanted event, on the way to where its call returns, which a debug register
 * tells. */
struct coming {
    uint64_t handle; /* struct thread_info; 0: none */
    pid_t pid;
    uint64_t site;
    uint64_t event; /* that it must have taken last; NO_EVENT: it has */
};

/* A place to come back to: a copy of the process, stopped; or, where it cannot be copied, an
 * event. */
struct kept {
    unsigned number; /* of a checkpoint */
    struct kept_process *process; /* NULL: no copy, it is at event `here` */
    uint64_t here, next; /* as in by_message; the event that comes next */
    uint64_t pc;
};

struct by_message {
    struct by_message_options options;
    struct target *target;
    struct recording **recording; /* by rank; NULL: not read yet */
    unsigned nrecordings;
    struct monitor_command *commands;

    uint64_t goal; /* event that the next `continue` goes to, or NO_EVENT */
    bool anew;     /* wherever it lies, the rank is to begin anew on its way there */
    bool at_end;   /* of the recording, which copies find out slowly where threads wait */
    bool begun_again; /* it has: nothing but the goal stops it now */
    uint64_t hit_back; /* event that reverse-continue stops at, at the latest */
    struct message_break breaks[BREAKS_MAX];
    unsigned last_break;

    /* While the rank runs. */
    bool armed;         /* gate.replay_stop_at is set */
    uint64_t next_then; /* the event that was next when it began to run */
    bool running;
    struct coming coming[COMING_MAX];

    /* What-if: since GDB's first change. */
    struct kept home;     /* the process as it was before */
    char difference[448]; /* the first one that the replay found, or empty */

    struct kept checkpoint[CHECKPOINTS_MAX]; /* number 0: free */
    unsigned last_checkpoint;
    const struct kept *target_kept; /* the next `continue` goes there, or NULL */

    /* While it is stopped: it is at this event (by_message.h), or NO_EVENT: somewhere else, or
     * nobody has looked yet (by_message_here). */
    uint64_t here;
    bool looked;
};

/* The event that the rank takes next, with whichever thread. 0, or -1 with *err. */
int by_message_next_event(struct by_message *b, uint64_t *next, struct err *err);

/* Before `next`: the last event that is a call of the rank's own. */
uint64_t by_message_last_call(struct by_message *b, uint64_t next);

/* The event that the rank, stopped, is at, or NO_EVENT. */
uint64_t by_message_here(struct by_message *b);

/* The thread that commands are about: the process's first one. */
int by_message_thread(struct by_message *b, struct ptid *thread, struct err *err);

/* The recording of a rank of the job, or NULL with *err. */
struct recording *by_message_recording(struct by_message *b, unsigned rank, struct err *err);

/* The same of this rank. */
struct recording *by_message_own(struct by_message *b, struct err *err);

/* The message that fits, or (no filter) that a breakpoint wants, before where the rank is; that
 * fits, behind it. `next`: by_message_next_event. NO_EVENT: none. */
uint64_t by_message_previous(struct by_message *b, const struct recording *r, uint64_t next,
                             const struct message_filter *f);
uint64_t by_message_following(struct by_message *b, const struct recording *r, uint64_t next,
                              const struct message_filter *filter);

/* "event 2702: MPI_Recv from 3, tag 7" */
void by_message_describe(const struct recording *r, uint64_t event, struct bytes *out);
/* "received 4096 bytes from 3, tag 7, communicator 1" */
void by_message_describe_one(const struct message *m, struct bytes *out);

int by_message_when(void *arg, const char *args, struct bytes *out, struct err *err);
int by_message_list(void *arg, const char *args, struct bytes *out, struct err *err);
/* ---- by_message_keep.c */
/* Before GDB's first change. */
void by_message_diverts(struct by_message *b, struct ptid thread);
/* The process is a new one, or gone: nothing was changed. */
void by_message_not_diverted(struct by_message *b);
/* Carries out `back` or `restart`, if one of them has been asked for. */
bool by_message_to_kept(struct by_message *b, struct target *t, struct event *stop);
void by_message_drop_kept(struct by_message *b);
int by_message_what_if(void *arg, const char *args, struct bytes *out, struct err *err);
int by_message_back(void *arg, const char *args, struct bytes *out, struct err *err);
int by_message_checkpoint(void *arg, const char *args, struct bytes *out, struct err *err);
int by_message_checkpoints(void *arg, const char *args, struct bytes *out, struct err *err);
int by_message_restart(void *arg, const char *args, struct bytes *out, struct err *err);
int by_message_delete(void *arg, const char *args, struct bytes *out, struct err *err);

/* ---- by_message_commands.c */
int by_message_parse_number(const char *text, const char *what, uint64_t *number, struct err *err);

/* ---- by_message_comm.c */
struct peer {
    int rank; /* in the job; -1: it is of another MPI_COMM_WORLD */
    int self; /* what the peer calls this rank */
    int world_first, world_size; /* the ranks in the job of this rank's MPI_COMM_WORLD */
};

/* Who `peer` is in a communicator that exists now (in the remote group of an intercommunicator). 0,
 * or -1 with *err. */
int by_message_peer(struct by_message *b, uint32_t gid, int peer, struct peer *p, struct err *err);

/* ---- by_message.c */
/* "dbg3: WHY event N: ..." where the rank is, for GDB's console. */
void by_message_tell(struct by_message *b, const char *why, char *text, size_t size);
void by_message_write_gate(struct by_message *b, pid_t pid, size_t offset, uint64_t word);

int by_message_who_sent(void *arg, const char *args, struct bytes *out, struct err *err);

#endif
