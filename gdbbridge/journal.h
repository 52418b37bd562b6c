/*
 * journal.h - what enters a program that is recorded: system calls and signals
 *
 * A process of the program stands at a place of the journal, which it is known by its pid for:
 *
 *     call    call    signal  call    call    call
 *     read    brk     SIGUSR1 write   mmap    read      end
 *     |               |                       |         |
 *     an anchor       a copy: what it asks    ...       the process that leads: makes its calls,
 *                     for is answered                   and they are written down
 *
 * Calls that concern the process itself (memory, masks and handlers of signals) are made behind the
 * end, too; others are answered. Files that a copy maps are anonymous memory with the content of
 * then. Descriptors are shared by all of them (reverse_copy.c), so that whichever leads on finds
 * them as they were left.
 *
 * There is one journal, of one process with one thread. A process that it does not know is none of
 * its business. Each function wants the process in a ptrace stop. [tracer]
 */
#ifndef DBG3_GDBBRIDGE_JOURNAL_H
#define DBG3_GDBBRIDGE_JOURNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The journal begins, empty, with this process; whatever there was is forgotten. */
void journal_begin(pid_t pid);
void journal_end(void);

bool journal_has(pid_t pid);

/* Does the program write to memory that it shares? Then its copies cannot run apart from it. */
bool journal_shares(void);
void journal_copy(pid_t from, pid_t to);
void journal_drop(pid_t pid);

/* What follows its place is forgotten: it is going to do something else. */
void journal_cut(pid_t pid);

/* ---- calls */

/* Is its next instruction a system call? Then it is stepped over by letting it run to the call's
 * entry, and stepping from there. */
bool journal_at_call(pid_t pid);

/* Is it in a call, whose entry has been seen and whose return has not? */
bool journal_inside(pid_t pid);

/*
 * At the stop at a call's entry or return. `leads`: behind the end it may make its own. Returns 0,
 * or -1: it has come to the end, or does something else
 * than was written down.
 */
int journal_syscall(pid_t pid, bool leads);

/* The same for the SIGTRAP that ends a step from a call's entry. */
int journal_stepped(pid_t pid);

/* Is it at the entry of the call that ends it? That may be put off: it then stands before it. */
bool journal_ends(pid_t pid);
void journal_put_off(pid_t pid);

/* ---- signals */

/* A call that an interrupt has ended, and that is to be made again, is yet to be made. */
void journal_rewind(pid_t pid);

/*
 * A signal stops the process that leads. It is written down if it can come here again: an
 * instruction causes it, or a call returns. The process stands before it until journal_resume().
 */
void journal_signal(pid_t pid, const siginfo_t *info);

/* Does it stand before such a signal? Its number in the journal, or JOURNAL_NONE. */
#define JOURNAL_NONE SIZE_MAX
size_t journal_met(pid_t pid);

/* It goes on, with that signal or without. False: it does not stand before one. */
bool journal_resume(pid_t pid, bool handed);

/* Sends it the signal that came where it stands, if nothing that it does brings that about. It is
 * sent once; has it been, and has not stopped it yet? */
void journal_send(pid_t pid);
bool journal_sent(pid_t pid);

/* A signal has stopped it: is it the one that came here? That then has the origin it had. */
bool journal_signal_next(pid_t pid, int signal);

/* In a copy: if so, and if it is not the signal that the copy goes to at most, goes past it, and
 * says in *signal whether it was handed over. */
bool journal_signal_past(pid_t pid, int *signal);
void journal_bound(pid_t pid, size_t signal);

/* ---- at its start */

/* It is at the event of execve(2), and shall be recorded: goes on to that call's return, where it
 * can be copied, and makes the program ask for the time by system calls. */
void journal_program(pid_t pid);

#endif
