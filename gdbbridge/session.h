/*
 * session.h - GDB remote serial protocol, above packets: the conversation with one GDB
 *
 * Knows neither sockets nor ptrace: bytes from GDB come in by session_input(), bytes for GDB leave
 * through the output function, what is debugged is behind struct target. The owner calls
 * session_poll() whenever the target may have an event.
 *
 * A session outlives a connection: session_connect() starts the next one.
 */
#ifndef DBG3_GDBBRIDGE_SESSION_H
#define DBG3_GDBBRIDGE_SESSION_H

#include <stdbool.h>
#include <stddef.h>

#include "gdbbridge/target.h"

struct session;

struct session_options {
    void (*output)(void *arg, const void *data, size_t size);
    void *arg;
    const struct event *stop; /* the target's present stop, or NULL if there is no process yet */
};

/* The target stays the caller's and must live longer. */
struct session *rsp_session_create(struct target *t, const struct session_options *options);
void rsp_session_destroy(struct session *s);

/* A GDB has connected; whatever the last one had set up is forgotten, but for its breakpoints,
 * which it had to remove. If the program runs it is interrupted. Needed before any input. */
void session_connect(struct session *s);

void session_input(struct session *s, const void *data, size_t size);

/* Takes the target's event, if there is one, and tells GDB if it waits for it. */
void session_poll(struct session *s);

/* Prints on GDB's console, while GDB waits for an answer or a stop. */
void session_say(struct session *s, const char *text);

/* The conversation is over: GDB killed or let go what was debugged, or asked us to exit. */
bool session_done(const struct session *s);

/* GDB uses extended-remote: it stays when the program has ended, and may run it again. */
bool session_extended(const struct session *s);

/* Does the target still have a process? */
bool session_has_process(struct session *s);

/* Ends all processes of the target as the end of a debugger does: those that were attached to are
 * let go, the others are killed. */
void session_end_processes(struct session *s);

#endif
