/*
 * session_private.h - shared by the session's files: its state, its answers, its tables
 *
 *     session.c         connection, dispatch, stop replies
 *     session_run.c     starting, resuming, ending
 *     session_state.c   threads, registers, memory, breakpoints
 *     session_query.c   what GDB asks and sets: qSupported, Q..., monitor
 *     session_xfer.c    qXfer documents
 *     session_file.c    vFile
 *
 * A handler puts its answer into s->reply; an empty one tells GDB that the packet is unknown.
 */
#ifndef DBG3_GDBBRIDGE_SESSION_PRIVATE_H
#define DBG3_GDBBRIDGE_SESSION_PRIVATE_H

#include "gdbbridge/bytes.h"
#include "gdbbridge/registers.h"
#include "gdbbridge/rsp.h"
#include "gdbbridge/rsp_command.h"
#include "gdbbridge/session.h"
#include "gdbbridge/target.h"

#define SESSION_FILES_MAX 64

struct session {
    struct target *target;
    const struct target_ops *ops; /* target->ops */
    struct session_options options;
    struct rsp *rsp;
    struct bytes reply;
    bool no_reply; /* set by a handler that answers later, or never */
    bool done;

    bool extended, multiprocess, swbreak, hwbreak; /* what this GDB said */
    bool non_stop;
    bool notified;           /* `stop` was told in a notification that GDB has not answered */
    bool listing;            /* the stopped threads, one a vStopped: */
    struct ptid last_listed; /* the one told last */
    bool running;   /* the program; its stop has not been seen */
    bool waiting;   /* GDB, for a stop reply */
    bool has_stop;                                 /* `stop` is the target's present stop */
    struct event stop;
    struct ptid general, resumed; /* H: thread of g, m, ...; of c and s */
    struct wanted wanted;

    struct ptid *threads; /* as session_threads() last found them */
    size_t nthreads, threads_room;

    char xfer_name[128]; /* document in `xfer`: object and annex */
    struct bytes xfer;

    struct {
        int fd; /* -1: free */
    } files[SESSION_FILES_MAX];
    pid_t files_of; /* vFile:setfs: whose file system, 0: ours */

    char **env; /* of the next run */
    char *directory;
    bool randomize;
};

/* Packets of the tables below, one table a file. */
struct command_table {
    const struct rsp_command *rows;
    size_t count;
};
extern const struct command_table session_run_commands, session_state_commands,
    session_query_commands, session_xfer_commands, session_file_commands;

#define COMMAND_TABLE(name)                                                                        \
    const struct command_table name##_commands = {name##_rows,                                     \
                                                  sizeof name##_rows / sizeof name##_rows[0]}

void reply_ok(struct session *s);
void reply_error(struct session *s, int number);
void reply_error_text(struct session *s, const struct err *err);
void reply_thread(struct session *s, struct ptid thread);
void reply_stop(struct session *s, const struct event *event);

/* Prints on GDB's console. Only while GDB waits for a stop or for the end of a monitor command. */
void session_console(struct session *s, const char *text, size_t size);

/* The threads there are now, in s->threads. Returns their number. */
size_t session_threads(struct session *s);

/* The thread or process that a pattern means: wildcards become the thread that stopped, if it fits,
 * or the first one that does. Returns 0, or -1 if there is none. */
int session_resolve(struct session *s, struct ptid pattern, struct ptid *thread);

/* The thread of packets g and qXfer, and the process of m and Z. */
int session_general(struct session *s, struct ptid *thread);
int session_process(struct session *s, pid_t *pid);

/* In non-stop mode: tells of the next stop, if GDB has heard of the last one. As the answer to a
 * packet (`asked`), or by a notification. */
void session_tell_stop(struct session *s, bool asked);

/* Takes over a stop that is reported now. */
void session_set_stop(struct session *s, const struct event *event);

void session_env_reset(struct session *s);
void session_close_files(struct session *s);

#endif
