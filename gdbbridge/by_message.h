/*
 * by_message.h - an isolated rank's way through its messages: where it is, and going to another
 *
 * Events have the numbers of `dbg3 messages`. A rank is "at event N" where the call of event N has
 * just returned to the application: what it received is there, nothing has been done with it.
 *
 *     monitor goto-msg 2702           says "continue goes to event 2702 ..." and sets the goal
 *     continue                        runs there: GDB sees a stop like any other
 *
 * so that the way works in every front end; the commands of dbg3-gdb.py do both at once. On the way
 * forward the rank itself calls GATE->stop behind the event (gate.h, replay_stop_at), and runs on
 * from there to where the call returns, which a debug register tells.
 */
#ifndef DBG3_GDBBRIDGE_BY_MESSAGE_H
#define DBG3_GDBBRIDGE_BY_MESSAGE_H

#include "gdbbridge/ptrace_target.h"
#include "runtime/base/err.h"

struct by_message_options {
    const char *session; /* folder of the session */
    unsigned rank;
    uint64_t first_event; /* that comes first after the image that the rank begins with */
    uint64_t epoch;       /* that the recording began at; 0: the start of the program */
    bool bundle;          /* the folder is an unpacked bundle: no other rank is in it */
};

struct by_message;

/* Strings in options must live as long. The log is read when it is asked for first. */
struct by_message *by_message_create(const struct by_message_options *options);
void by_message_destroy(struct by_message *b);

/* The commands, for help: they cannot be run. */
const struct monitor_command *by_message_help(void);

/* For ptrace_options: commands, what happens when threads run and have stopped. */
const struct monitor_command *by_message_commands(struct by_message *b);
struct run_hook by_message_run_hook(struct by_message *b);

/* The target that it was given to, before anything else is asked of it. */
void by_message_serve(struct by_message *b, struct target *t);

/* The process is a new one, at the return of an MPI call. */
void by_message_restarted(struct by_message *b);

/* The replay has found a difference and stopped. */
void by_message_diverged(struct by_message *b, const char *text);

/* For the stop hook, which asks it first: STOP_DEFAULT if the stop is none of its own. */
enum stop_verdict by_message_look(struct by_message *b, struct stop *s);

#endif
